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
        devtools::Devtools,
        fresh_id,
        listeners::Listener,
        stage::{folder, layout},
        tls::certificate,
    },
};

/// What the application's pages and the configuration have in common.
const PLACEHOLDER: &str = "e2e-placeholder-of-pages";

/// Listeners with TLS, as a browser meets them: one tells it to send reports to `report-uri` alone, the other also by the
/// Reporting API, which browsers that know it prefer.
pub fn listeners() -> [Listener; 2] {
    let listener = |name: &str, more: Value| {
        let mut headers = json!({"profile": "strict", "nonce": PLACEHOLDER});
        headers.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({
            "tenant": {"from": [{"fixed": name}]}, "headers": headers, "rate_limit": {"mode": "off"}
        });
        Listener { tls: Some(certificate()), ..Listener::new(name, config) }
    };
    let path = |tenant: &str| format!("/.well-known/portcullis/reports/{tenant}");
    [
        listener("browser", json!({"csp": {"report-uri": [path("browser")]}})),
        listener(
            "reporting",
            json!({"reporting": {"endpoints": {"main": path("reporting")}, "csp": "main"}}),
        ),
    ]
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

/// The Reporting API: the endpoint that `reporting` names hears of the injected script, in the API's own form. A headless browser
/// sends nothing by it before it is permitted what a window would permit unasked.
#[test]
fn the_reporting_api_reaches_the_companion() {
    let shared = demonstration();
    let page = "<!doctype html><script>document.title = 'injected'</script>";
    shared.application.on("/reporting", Answer::new(200, page).header("content-type", "text/html"));
    let origin = format!("https://localhost:{}", shared.reporting.port);
    let mut browser = Devtools::start(&folder("browser-reporting"));
    browser.call("Browser.grantPermissions", &json!({"permissions": ["backgroundSync"], "origin": origin}));
    let visit = |browser: &mut Devtools, path: &str| {
        browser.call("Target.createTarget", &json!({"url": format!("{origin}{path}")}))
    };

    // Traffic makes the tenant known: its record is there before there is something to report.
    let api = Api::admin(&shared.stage.stack);
    visit(&mut browser, "/");
    assert!(!api.wait_for("reporting", 1, Duration::from_secs(60), |_| true).is_empty());
    visit(&mut browser, "/reporting?secret=1");
    let is_report = |event: &Value| event["event_type"] == "CSP_REPORT";
    let reports = api.wait_for("reporting", 1, Duration::from_secs(90), is_report);
    let details = &reports.first().expect("a report of the injected script")["details"];
    assert_eq!(
        (&details["report"], &details["directive"], &details["blocked_url"], &details["disposition"]),
        (&json!("csp-violation"), &json!("script-src-elem"), &json!("inline"), &json!("enforce"))
    );
    assert_eq!(details["document_url"], json!(format!("{origin}/reporting")));
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
