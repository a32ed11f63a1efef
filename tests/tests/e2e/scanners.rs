//! The public scanners, on the demonstration application behind a real Envoy with TLS, and on the example worker in workerd:
//! Mozilla's HTTP Observatory (its own test functions), Google's CSP Evaluator, and what OWASP's validator expects
//! (`tests/scanners`).

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use xtask::stack::Piece;

use crate::support::{
    listeners::{self, Listener},
    stage::{Stage, layout},
    tls::certificate,
};

/// The placeholder that the demonstration application writes.
const PLACEHOLDER: &str = "portcullis-demonstration";

/// A configuration over HTTPS, and over HTTP as a redirect.
struct Site {
    name: &'static str,
    http: Listener,
    https: Listener,
}

impl Site {
    fn new(name: &'static str, headers: Value, tls: &Path) -> Self {
        let config = json!({
            "headers": headers, "rate_limit": {"mode": "off"},
            "routes": [{"name": "logout", "match": {"path": "/logout"},
                "headers": {"clear_site_data": ["cache", "cookies", "storage"]}}]
        });
        let mut https = Listener::new(&format!("scan-{name}"), config.clone());
        https.tls = Some(tls.to_owned());
        let mut http = Listener::new(&format!("scan-{name}-redirect"), config);
        http.virtual_hosts = Some(json!([{
            "name": "redirect", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "redirect": {"https_redirect": true, "port_redirect": https.port}}]
        }]));
        Self { name, http, https }
    }

    /// What the scanners say.
    fn scan(&self, tls: &Path) -> Said {
        let output = Command::new(xtask::commands::install::node(&layout()).unwrap())
            .arg(layout().root().join("tests/scanners/scan.mjs"))
            .arg(layout().scanners())
            .arg(format!("https://localhost:{}/", self.https.port))
            .arg(format!("http://localhost:{}/", self.http.port))
            .env("NODE_EXTRA_CA_CERTS", tls.join("cert.pem"))
            .output()
            .expect("node is installed by `make test`");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", self.name);
        let all: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
        Said::of(self.name, all)
    }
}

/// What `scan.mjs` printed.
struct Said(Value);

impl Said {
    /// Prints the grades, too.
    fn of(name: &str, all: Value) -> Self {
        let said = Self(all);
        println!(
            "{name:<8} Observatory {:>3} {:<2}  CSP Evaluator {}  OWASP {} of 17",
            said.score(),
            said.0["observatory"]["grade"].as_str().unwrap_or_default(),
            said.worst(),
            17 - said.unmet().len()
        );
        said
    }

    fn score(&self) -> i64 {
        self.0["observatory"]["score"].as_i64().expect("a score")
    }

    fn severities(&self) -> Vec<&str> {
        let findings = self.0["csp"].as_array().expect("findings");
        findings.iter().map(|finding| finding["severity"].as_str().expect("a severity")).collect()
    }

    /// The findings of the CSP Evaluator, in a word.
    fn worst(&self) -> String {
        if self.severities().is_empty() { "none".to_owned() } else { self.severities().join("+") }
    }

    fn unmet(&self) -> Vec<&str> {
        assert_eq!(self.0["owasp"]["expectations"], 17);
        let unmet = self.0["owasp"]["unmet"].as_array().expect("a list");
        unmet.iter().map(|name| name.as_str().expect("a name")).collect()
    }
}

#[test]
fn the_scanners_give_the_highest_grades() {
    let tls = certificate();
    let site = |name, headers| Site::new(name, headers, &tls);
    let sites = [
        site("none", json!({"mode": "off"})),
        site("required", json!({"profile": "required"})),
        site("web", json!({"profile": "web"})),
        site("web-own", json!({"profile": "web", "nonce": PLACEHOLDER})),
        site("strict", json!({"profile": "strict", "nonce": PLACEHOLDER})),
        site("api", json!({"profile": "api"})),
    ];
    let added: Vec<Listener> =
        sites.iter().flat_map(|site| [site.http.clone(), site.https.clone()]).collect();
    let _stage = Stage::start("scanners", |options| {
        options.pieces = vec![Piece::Upstream, Piece::Envoy];
        options.edits.push(listeners::add(added));
    });
    let [none, required, web, web_own, strict, api] = sites.each_ref().map(|site| site.scan(&tls));

    // The scanners see a difference, and plugins/headers/README.md tells it.
    let scores =
        [&none, &required, &web, &web_own, &strict, &api].map(|said| (said.score(), 17 - said.unmet().len()));
    assert_eq!(scores, [(10, 4), (75, 10), (135, 12), (135, 12), (140, 17), (140, 16)]);
    assert!(required.severities().contains(&"HIGH"), "'unsafe-inline': {:#}", required.0["csp"]);

    for said in [&web, &web_own] {
        assert_eq!(said.0["observatory"]["grade"], "A+", "{:#}", said.0);
        let grave = ["HIGH", "SYNTAX", "MEDIUM", "HIGH_MAYBE"];
        assert!(!said.severities().iter().any(|severity| grave.contains(severity)), "{:#}", said.0["csp"]);
        // What `web` leaves, because it breaks usual pages: plugins/headers/README.md says so.
        let left = [
            "referrer-policy",
            "cross-origin-embedder-policy",
            "permissions-policy",
            "cache-control",
            "x-dns-prefetch-control",
        ];
        assert_eq!(said.unmet(), left);
    }
    for said in [&strict, &api] {
        assert_eq!(said.0["csp"], json!([]), "{:#}", said.0["headers"]);
    }
    assert_eq!(strict.unmet(), Vec::<&str>::new());
    // What answers programs embeds nothing.
    assert_eq!(api.unmet(), ["cross-origin-embedder-policy"]);
}

/// An edge gets what a proxy gets.
#[test]
fn the_scanners_give_the_example_worker_the_same_grades() {
    let layout = layout();
    let scripts = xtask::commands::edge::stage(&layout).unwrap();
    let output = Command::new(xtask::commands::install::node(&layout).unwrap())
        .arg(scripts.join("scan.mjs"))
        .arg(layout.root().join("plugins/edge/example/worker.js"))
        .arg(layout.root().join("tests/scanners/scan.mjs"))
        .arg(layout.scanners())
        .arg(certificate())
        .args(["web", "strict"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let all: [Value; 2] =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let [web, strict] = all;
    let (web, strict) = (Said::of("workerd, web", web), Said::of("workerd, strict", strict));
    let scores = [&web, &strict].map(|said| (said.score(), 17 - said.unmet().len()));
    assert_eq!(scores, [(135, 12), (140, 17)], "{:#}\n{:#}", web.0, strict.0);
    assert_eq!(strict.0["csp"], json!([]), "{:#}", strict.0["headers"]);
}
