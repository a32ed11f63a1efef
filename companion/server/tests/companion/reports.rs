//! What browsers report: stored once, without what is secret, within bounds, whatever a stranger sends.

use serde_json::{Value, json};

use crate::support::{Answer, Running, Store, eventually, on_each_store, record, send};

const CSP_REPORT: &str = "application/csp-report";
const REPORTS_JSON: &str = "application/reports+json";

impl Running {
    async fn report(&self, tenant: &str, content_type: &str, body: &[u8]) -> Answer {
        let mut request = format!(
            "POST /reports/{tenant} HTTP/1.1\r\nHost: t\r\nUser-Agent: Browser/1.0\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        send(self.companion.api_address.unwrap(), &request).await
    }

    /// How many reports came to what.
    async fn reported(&self, result: &str) -> u64 {
        let metrics = self.get("/metrics", Some(&self.admin())).await.body;
        let name = format!("portcullis_browser_reports_total{{result=\"{result}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
        value.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }
}

impl Running {
    /// Waits until so many stand in the trail: they are written down after the answer.
    async fn stored(&self, count: u64) {
        eventually(async || self.reported("stored").await >= count).await;
    }
}

/// As Chromium sends it to `report-uri`.
fn violation(line: u32) -> Value {
    json!({"csp-report": {
        "document-uri": "https://app.test/account?token=secret#part", "referrer": "",
        "violated-directive": "script-src-elem", "effective-directive": "script-src-elem",
        "original-policy": "script-src 'nonce-abc'; report-uri /uri", "disposition": "enforce",
        "blocked-uri": "https://evil.test/x.js?victim=alice", "line-number": line,
        "source-file": "https://app.test/account?token=secret", "status-code": 200, "script-sample": ""
    }})
}

/// The same as the Reporting API sends it, with others beside it.
fn batch(line: u32) -> Value {
    json!([
        {"age": 2, "type": "csp-violation", "url": "https://app.test/account?token=secret", "user_agent": "Browser/1.0", "body": {
            "documentURL": "https://app.test/account?token=secret", "blockedURL": "https://evil.test/x.js?victim=alice",
            "effectiveDirective": "script-src-elem", "disposition": "report", "lineNumber": line, "statusCode": 200}},
        {"age": 1, "type": "deprecation", "url": "https://app.test/account", "body": {"id": "UnloadHandler", "message": "Unload is going."}},
        {"age": 0, "type": "network-error", "url": "https://app.test/a?b", "body": {"phase": "connection", "type": "tcp.refused"}}
    ])
}

async fn with_tenant(store: Store) -> Running {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    running
}

async fn a_report_becomes_an_event_without_what_is_secret(store: Store) {
    let running = with_tenant(store).await;
    assert_eq!(running.report("acme", CSP_REPORT, violation(3).to_string().as_bytes()).await.status, 204);
    running.stored(1).await;
    let events = running.events("acme", "?event_type=CSP_REPORT").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!((&event["severity"], &event["user_id"]), (&json!("WARNING"), &Value::Null));
    let details = &event["details"];
    for (name, value) in [
        ("report", json!("csp-violation")),
        ("source", json!("browser")),
        ("document_url", json!("https://app.test/account")),
        ("blocked_url", json!("https://evil.test/x.js")),
        ("source_file", json!("https://app.test/account")),
        ("directive", json!("script-src-elem")),
        ("disposition", json!("enforce")),
        ("line", json!(3)),
    ] {
        assert_eq!(details[name], value, "{name}");
    }
    for secret in ["secret", "alice", "original-policy"] {
        assert!(!event.to_string().contains(secret), "{secret} in {event}");
    }

    assert_eq!(running.report("acme", REPORTS_JSON, batch(3).to_string().as_bytes()).await.status, 204);
    running.stored(4).await;
    let events = running.events("acme", "?event_type=CSP_REPORT").await;
    assert_eq!(events.len(), 2, "what is only tried is another report");
    assert_eq!(events.iter().filter(|event| event["severity"] == "INFO").count(), 1);
    let others = running.events("acme", "?event_type=BROWSER_REPORT").await;
    let mut kinds: Vec<&str> =
        others.iter().filter_map(|event| event["details"]["report"].as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["deprecation", "network-error"]);
    assert_eq!(running.reported("stored").await, 4);
}

/// Browsers ask first when they report to another origin.
async fn a_page_of_another_origin_may_report(store: Store) {
    let running = with_tenant(store).await;
    let ask = async |path: &str| {
        let request = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: t\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n"
        );
        send(running.companion.api_address.unwrap(), request.as_bytes()).await
    };
    // The same whether the tenant exists.
    for tenant in ["acme", "nobody"] {
        let answer = ask(&format!("/reports/{tenant}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{tenant}");
        for (name, value) in [("origin", "*"), ("methods", "POST"), ("headers", "content-type")] {
            let line = format!("access-control-allow-{name}: {value}");
            assert!(
                answer.head.to_ascii_lowercase().lines().any(|l| l == line.to_ascii_lowercase()),
                "{line}"
            );
        }
    }
    let reported = running.report("acme", CSP_REPORT, violation(1).to_string().as_bytes()).await;
    assert!(reported.head.contains("access-control-allow-origin: *"), "{}", reported.head);
    // Nothing else is another origin's.
    for path in ["/api/tenants", "/monitoring/liveness", "/reports/Not%20Allowed"] {
        let answer = ask(path).await;
        assert!(answer.status >= 400 && !answer.head.contains("access-control-"), "{path}: {}", answer.head);
    }
}

async fn a_report_is_told_once_and_a_tenant_has_its_share(store: Store) {
    let running = with_tenant(store).await;
    running.add_tenant("globex").await;
    for _ in 0..5 {
        assert_eq!(running.report("acme", CSP_REPORT, violation(1).to_string().as_bytes()).await.status, 204);
    }
    running.stored(1).await;
    assert_eq!(running.events("acme", "").await.len(), 1);
    assert_eq!(running.reported("repeated").await, 4);
    // The same of another tenant is another report.
    assert_eq!(running.report("globex", CSP_REPORT, violation(1).to_string().as_bytes()).await.status, 204);
    running.stored(2).await;
    assert_eq!(running.events("globex", "").await.len(), 1);

    // 100 in one body: 32 are looked at. 60 new ones a minute: what is beyond is counted, and answered alike.
    let many = |from: u32| {
        let one = |line: u32| json!({"type": "csp-violation", "url": "https://app.test/", "body": {"lineNumber": line}});
        Value::Array((from..from + 100).map(one).collect()).to_string()
    };
    for from in [1000, 2000, 3000] {
        assert_eq!(running.report("acme", REPORTS_JSON, many(from).as_bytes()).await.status, 204);
    }
    running.stored(61).await;
    assert_eq!(running.events("acme", "?limit=1000").await.len(), 60);
    assert_eq!((running.reported("stored").await, running.reported("excess").await), (61, 37));
    assert_eq!(running.report("globex", CSP_REPORT, violation(2).to_string().as_bytes()).await.status, 204);
    running.stored(62).await;
    assert_eq!(running.events("globex", "").await.len(), 2, "another tenant's share is its own");
}

async fn nobody_learns_which_tenants_there_are(store: Store) {
    let running = with_tenant(store).await;
    let known = running.report("acme", CSP_REPORT, violation(1).to_string().as_bytes()).await;
    let unknown = running.report("nobody", CSP_REPORT, violation(1).to_string().as_bytes()).await;
    assert_eq!((known.status, known.body.as_str()), (unknown.status, unknown.body.as_str()));
    let names = |answer: &Answer| -> Vec<String> {
        let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        answer.head.lines().skip(1).map(name).collect()
    };
    assert_eq!(names(&known), names(&unknown));
    assert_eq!(running.get("/api/security/events/nobody", Some(&running.admin())).await.status, 404);
    running.stored(1).await;
    assert_eq!((running.reported("stored").await, running.reported("refused").await), (1, 1));
}

async fn nobody_learns_it_from_a_trail_that_is_full_either(store: Store) {
    let running = Running::started_with(store, |settings| settings.trail.max_bytes = 20_000).await;
    running.add_tenant("acme").await;
    let mut number = 0;
    while running.ingest(&[record("acme", number, "REQUEST", "INFO")]).await.status == 200 {
        number += 1;
    }
    for tenant in ["acme", "nobody"] {
        let body = batch(1).to_string();
        assert_eq!(running.report(tenant, REPORTS_JSON, body.as_bytes()).await.status, 204, "{tenant}");
    }
    eventually(async || running.reported("failed").await == 3).await;
}

async fn hostile_bodies_are_refused_or_bounded(store: Store) {
    let running = with_tenant(store).await;
    let wrap = |inner: &str| format!("{{\"csp-report\": {{\"script-sample\": {inner}}}}}").into_bytes();
    let padded = |size: usize| {
        let mut body = b"{\"csp-report\": {\"line-number\": 1}}".to_vec();
        body.resize(size, b' ');
        body
    };
    let refused: [(&str, Vec<u8>, u16); 15] = [
        (CSP_REPORT, Vec::new(), 400),
        (CSP_REPORT, b"null".to_vec(), 400),
        (CSP_REPORT, b"{\"csp-report\": []}".to_vec(), 400),
        (CSP_REPORT, b"{\"csp-report\": {".to_vec(), 400),
        (CSP_REPORT, b"\xff\xfe{\"csp-report\": {}}".to_vec(), 400),
        (CSP_REPORT, wrap("\"\\ud800\""), 400),
        (CSP_REPORT, wrap("1e999"), 400),
        (CSP_REPORT, wrap(&"[".repeat(60_000)), 400),
        (CSP_REPORT, wrap(&format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000))), 400),
        (CSP_REPORT, padded(64 * 1024 + 1), 413),
        (REPORTS_JSON, b"[]".to_vec(), 400),
        (
            REPORTS_JSON,
            b"[[], 1, null, {\"type\": 1, \"body\": {}}, {\"type\": \"x\", \"body\": 1}]".to_vec(),
            400,
        ),
        ("text/plain", padded(64), 415),
        ("application/json\0", padded(64), 400),
        ("", padded(64), 415),
    ];
    for (content_type, body, status) in refused {
        let answer = running.report("acme", content_type, &body).await;
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status, status, "{content_type} {start}: {}", answer.body);
    }
    for tenant in ["Not%20Allowed", "%0d%0a", "%00", &"a".repeat(51)] {
        let answer = running.report(tenant, CSP_REPORT, violation(1).to_string().as_bytes()).await;
        assert!(matches!(answer.status, 400 | 404 | 422), "{tenant}: {}", answer.status);
    }
    assert_eq!(running.get("/reports/acme", None).await.status, 405);
    assert_eq!(running.reported("stored").await, 0);

    // What no column takes, what would break a line of a log, what is too long, what has another type.
    let odd = json!({"csp-report": {
        "document-uri": format!("https://app.test/{}?secret", "p".repeat(5000)), "blocked-uri": "a\u{0}b\r\nc",
        "effective-directive": {"$ne": 1}, "script-sample": "\u{202e}'); DROP TABLE security_events; --\u{0}".repeat(100),
        "line-number": -1e300, "disposition": ["report"], "unknown": "x".repeat(20_000)
    }});
    let answer =
        running.report("acme", "Application/CSP-Report; charset=utf-8", odd.to_string().as_bytes()).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(running.report("acme", CSP_REPORT, &padded(64 * 1024)).await.status, 204, "as much as may be");
    running.stored(2).await;
    let events = running.events("acme", "").await;
    assert_eq!(events.len(), 2);
    for event in &events {
        let text = event.to_string();
        assert!(text.len() < 2000 && !text.contains("\\u0000") && !text.contains("secret"), "{text}");
    }
    assert_eq!(running.rows("SELECT id FROM security_events").await.len(), 2, "the table is there");
}

on_each_store![
    a_report_becomes_an_event_without_what_is_secret,
    a_page_of_another_origin_may_report,
    a_report_is_told_once_and_a_tenant_has_its_share,
    nobody_learns_which_tenants_there_are,
    nobody_learns_it_from_a_trail_that_is_full_either,
    hostile_bodies_are_refused_or_bounded,
];
