//! A real browser: a script with the placeholder runs, an injected one does not, and the report of that reaches the companion.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use xtask::browser::Browser;

use crate::{
    stages::demonstration,
    support::{
        api::Api,
        application::Answer,
        client::Request,
        fresh_id,
        listeners::Listener,
        stage::{folder, layout},
        tls::certificate,
    },
};

/// What the application's pages and the configuration have in common.
const PLACEHOLDER: &str = "e2e-placeholder-of-pages";

/// A listener with TLS, as a browser meets it. The headless shell sends reports to `report-uri` alone: it asks nobody for the
/// permission that the Reporting API needs, so what `reporting` configures would never leave it.
pub fn listener() -> Listener {
    let config = json!({
        "tenant": {"from": [{"fixed": "browser"}]},
        "headers": {
            "profile": "strict", "nonce": PLACEHOLDER,
            "csp": {"report-uri": ["/.well-known/portcullis/reports/browser"]}
        },
        "rate_limit": {"mode": "off"}
    });
    Listener { tls: Some(certificate()), ..Listener::new("browser", config) }
}

/// A browser that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn browser(profile: &Path) -> Command {
    Browser::installed(&layout()).unwrap().command(profile).unwrap()
}

#[test]
fn a_marked_script_runs_an_injected_one_does_not_and_the_companion_is_told() {
    let shared = demonstration();
    let page = format!(
        "<!doctype html><p id=own>still</p><p id=injected>still</p>\
         <script nonce=\"{PLACEHOLDER}\">document.getElementById('own').textContent = 'ran'</script>\
         <script>document.getElementById('injected').textContent = 'ran'</script>\
         <script nonce=\"AAAAAAAAAAAAAAAAAAAAAA==\">document.getElementById('injected').textContent = 'ran'</script>"
    );
    shared.application.on("/marked", Answer::new(200, page).header("content-type", "text/html"));
    let url = format!("https://localhost:{}/marked?secret=1", shared.browser.port);

    let seen = browser(&folder("browser-once")).args(["--dump-dom", &url]).output().unwrap();
    let (dom, errors) = (String::from_utf8_lossy(&seen.stdout), String::from_utf8_lossy(&seen.stderr));
    assert!(dom.contains("<p id=\"own\">ran</p>"), "{dom}\n{errors}");
    assert!(dom.contains("<p id=\"injected\">still</p>"), "{dom}\n{errors}");
    assert!(!dom.contains(PLACEHOLDER), "the placeholder reached a browser: {dom}");

    // Traffic makes the tenant known: its record is there before the browser comes again.
    let api = Api::admin(&shared.stage.stack);
    assert!(!api.wait_for("browser", 1, Duration::from_secs(20), |_| true).is_empty());
    let staying = browser(&folder("browser-staying"))
        // Stays until it is killed.
        .args(["--remote-debugging-port=0", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let staying = Running(staying);
    let is_report = |event: &Value| event["event_type"] == "CSP_REPORT";
    let reports = api.wait_for("browser", 1, Duration::from_secs(90), is_report);
    drop(staying);
    let report = reports.first().expect("a report of the injected script");
    assert_eq!(report["severity"], "WARNING");
    assert_eq!(report["details"]["directive"], "script-src-elem");
    assert_eq!(report["details"]["blocked_url"], "inline");
    let document = report["details"]["document_url"].as_str().unwrap();
    assert!(document.ends_with("/marked"), "{document}");
}

/// The same way without a browser: the proxy passes reports on, and the companion keeps them.
#[test]
fn a_report_reaches_the_companion_through_the_proxy() {
    let shared = demonstration();
    let tenant = "reports";
    assert_eq!(shared.stage.send(&Request::get("/").of(tenant, &fresh_id("known"))).status, 200);
    let api = Api::admin(&shared.stage.stack);
    assert!(!api.wait_for(tenant, 1, Duration::from_secs(20), |_| true).is_empty());
    // What a report tells of is an attack: it must not be refused as one.
    let body = json!({"csp-report": {"document-uri": "https://app.test/page?token=1", "blocked-uri": "http://127.0.0.1/x.js",
        "script-sample": "<script>alert(1)</script>' UNION SELECT password FROM users--",
        "effective-directive": "script-src-elem", "disposition": "report"}});
    let path = format!("/.well-known/portcullis/reports/{tenant}");
    for _ in 0..2 {
        let request = Request::post(&path, "application/csp-report", body.to_string());
        assert_eq!(shared.stage.send(&request.of(tenant, &fresh_id("report"))).status, 204);
    }
    let is_report = |event: &Value| event["event_type"] == "CSP_REPORT";
    let reports = api.wait_for(tenant, 1, Duration::from_secs(20), is_report);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(
        (&reports[0]["severity"], &reports[0]["details"]["document_url"]),
        (&json!("INFO"), &json!("https://app.test/page"))
    );
    // The path is no way into the rest of the companion's API: what is no report is the application's affair, inspected as ever.
    for rest in
        ["../api/tenants", "%2e%2e/api/tenants", "a/../../api/tenants", "reports/more", "..%2fapi%2ftenants"]
    {
        let id = fresh_id("around");
        for method in ["GET", "POST"] {
            let request = Request::new(method, format!("/.well-known/portcullis/reports/{rest}"));
            let answer = shared.stage.send(&request.of(tenant, &id));
            let refused = answer.status == 403 && answer.reason().is_some();
            assert!(refused || shared.application.seen(&id).is_some(), "{method} {rest}: {answer:?}");
        }
    }
    let attack =
        Request::post("/.well-known/portcullis/reports/x/y", "application/csp-report", body.to_string());
    assert_eq!(shared.stage.send(&attack.of(tenant, &fresh_id("around"))).status, 403);
}
