//! The public API: who may read what, in which shape, and what is refused.

use std::time::Duration;

use crate::support::{Running, Store, on_each_store, record, start_time};
use portcullis_server::clock::{Timestamp, at_millis};
use portcullis_server::token::Scope;
use serde_json::{Value, json};

async fn with_events(store: Store) -> Running {
    let running = Running::start(store, true).await;
    let batch = [
        record("acme", 1, "REQUEST", "INFO"),
        record("acme", 2, "ATTACK_BLOCKED", "WARNING"),
        record("acme", 3, "RATE_LIMIT_EXCEEDED", "WARNING"),
        record("acme", 4, "UNAUTHORIZED_ACCESS", "WARNING"),
        record("acme", 5, "REQUEST", "ERROR"),
        record("globex", 6, "REQUEST", "INFO"),
    ];
    assert_eq!(running.ingest(&batch).await.json()["stored"], 6);
    running
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<Timestamp>().is_ok())
}

async fn answers_have_the_required_shape(store: Store) {
    let running = with_events(store).await;
    let token = running.admin();
    let status = running.get("/api/security/status", Some(&token)).await.json();
    assert_eq!(
        status,
        json!({"security_enabled": true, "encryption_available": true, "rate_limiting_enabled": true,
            "audit_logging_enabled": true, "database_optimization_enabled": true, "timestamp": "2026-03-01T12:00:30.000Z"})
    );

    let answer = running.get("/api/security/events/acme", Some(&token)).await.json();
    assert_eq!(keys(&answer), ["count", "events", "next_cursor", "tenant_id", "timestamp"]);
    assert_eq!((&answer["tenant_id"], &answer["count"]), (&json!("acme"), &json!(5)));
    let newest = &answer["events"][0];
    assert_eq!(keys(newest), ["details", "event_type", "ip_address", "severity", "timestamp", "user_id"]);
    assert_eq!(newest["timestamp"], "2026-03-01T12:00:29.005Z");
    assert_eq!((&newest["user_id"], &newest["ip_address"]), (&json!("alice"), &json!("10.0.0.1")));
    assert_eq!(newest["details"]["correlation_id"], "corr-0005");

    let answer = running.get("/api/security/metrics/acme", Some(&token)).await.json();
    assert_eq!(keys(&answer), ["metrics", "tenant_id", "timestamp"]);
    assert!(is_time(&answer["timestamp"]));
    assert_eq!(
        answer["metrics"],
        json!({"total_events_24h": 5, "warning_events": 3, "error_events": 1, "rate_limit_violations": 1,
            "unauthorized_access": 1, "last_security_event": "2026-03-01T12:00:29.005Z"})
    );
}

async fn a_day_of_figures_is_exact_to_the_event(store: Store) {
    let running = Running::start(store, true).await;
    let now = start_time().as_millisecond();
    let day = 24 * 60 * 60 * 1000;
    // Around the border of the day, within the minute it cuts and beside it, and today.
    let ages = [
        0,
        1,
        31_000,
        day - 60_000,
        day - 30_000,
        day - 1,
        day,
        day + 1,
        day + 29_000,
        day + 90_000,
        9 * day,
    ];
    let inside = ages.iter().filter(|age| **age <= day).count();
    let batch: Vec<_> = ages
        .iter()
        .zip(1..)
        .map(|(age, sequence)| {
            let mut record = record("acme", sequence, "REQUEST", "ERROR");
            record["time"] = json!(now - age);
            record
        })
        .collect();
    running.ingest(&batch).await;
    let metrics =
        running.get("/api/security/metrics/acme", Some(&running.admin())).await.json()["metrics"].clone();
    assert_eq!(metrics["total_events_24h"], inside);
    assert_eq!(metrics["error_events"], inside);

    running.clock.advance(Duration::from_secs(30 * 24 * 3600));
    let metrics =
        running.get("/api/security/metrics/acme", Some(&running.admin())).await.json()["metrics"].clone();
    assert_eq!(metrics["total_events_24h"], 0);
    assert_eq!(metrics["last_security_event"], "2026-03-01T12:00:30.000Z");
}

async fn filters_narrow(store: Store) {
    let running = with_events(store).await;
    let types = async |query: &str| -> Vec<String> {
        running
            .events("acme", query)
            .await
            .iter()
            .map(|event| event["event_type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(types("?event_type=ATTACK_BLOCKED").await, ["ATTACK_BLOCKED"]);
    assert_eq!(types("?severity=INFO").await, ["REQUEST"]);
    assert_eq!(
        types("?severity=WARNING").await,
        ["UNAUTHORIZED_ACCESS", "RATE_LIMIT_EXCEEDED", "ATTACK_BLOCKED"]
    );
    assert_eq!(types("?severity=WARNING&limit=1").await, ["UNAUTHORIZED_ACCESS"]);
    assert_eq!(types("?since=2026-03-01T12:00:29.004Z").await, ["REQUEST", "UNAUTHORIZED_ACCESS"]);
    assert_eq!(
        types("?since=2026-03-01T12:00:29.004Z&severity=ERROR&event_type=REQUEST&limit=1000").await,
        ["REQUEST"]
    );
    assert!(types("?event_type=NEVER_SEEN").await.is_empty());
}

async fn tokens_are_asked_for_everywhere_but_at_the_probes(store: Store) {
    let running = with_events(store).await;
    for path in ["/monitoring/liveness", "/monitoring/readiness"] {
        let answer = running.get(path, None).await;
        assert_eq!(answer.status, 200);
        assert_eq!(keys(&answer.json()), ["status"]);
    }
    let expired =
        running.tokens.issue(&Scope::Admin, at_millis(0).unwrap(), Duration::from_secs(60)).unwrap();
    let forged = running.admin().replace('.', "x");
    for path in [
        "/api/security/status",
        "/api/security/events/acme",
        "/api/security/metrics/acme",
        "/monitoring/version",
        "/health/detailed",
        "/metrics",
        "/openapi.json",
        "//",
        "/no/such/path",
        "/monitoring/liveness/",
    ] {
        for token in [None, Some(""), Some("wrong"), Some(expired.as_str()), Some(forged.as_str())] {
            let answer = running.get(path, token).await;
            assert_eq!(answer.status, 401, "{path} {token:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"portcullis\""));
            assert_eq!(answer.json()["reason"], "unauthorized");
        }
    }
    assert_eq!(running.get("/no/such/path", Some(&running.admin())).await.status, 404);
}

async fn a_tenant_reads_its_own_data_and_learns_nothing_of_others(store: Store) {
    let running = with_events(store).await;
    let acme = running.of_tenant("acme");
    for path in ["/api/security/events/", "/api/security/metrics/", "/api/security/policies/"] {
        assert_eq!(running.get(&format!("{path}acme"), Some(&acme)).await.status, 200);
        let there = running.get(&format!("{path}globex"), Some(&acme)).await;
        let not_there = running.get(&format!("{path}nobody"), Some(&acme)).await;
        assert_eq!((there.status, not_there.status), (403, 403));
        assert_eq!(there.json()["detail"], not_there.json()["detail"]);
        assert_eq!(running.get(&format!("{path}nobody"), Some(&running.admin())).await.status, 404);
        assert_eq!(
            running.get(&format!("{path}nobody"), Some(&running.of_tenant("nobody"))).await.status,
            404
        );
    }
    assert_eq!(running.get("/api/security/status", Some(&acme)).await.status, 200);
    for path in ["/metrics", "/health/detailed"] {
        assert_eq!(running.get(path, Some(&acme)).await.status, 403);
        assert_eq!(running.get(path, Some(&running.admin())).await.status, 200);
    }
}

async fn what_is_malformed_is_refused_and_what_is_hostile_is_only_text(store: Store) {
    let running = with_events(store).await;
    let token = running.admin();
    let base = "/api/security/events";
    let long = "a".repeat(51);
    for (path, status) in [
        (format!("{base}/acme?limit=0"), 400),
        (format!("{base}/acme?limit=1001"), 400),
        (format!("{base}/acme?limit=1%20OR%201=1"), 400),
        (format!("{base}/acme?since=1%27%3B--"), 400),
        (format!("{base}/acme?severity=INFO%27%20OR%20%271%27=%271"), 400),
        (format!("{base}/acme?event_type=%27%3B%20DROP%20TABLE%20tenants%3B--"), 400),
        (format!("{base}/acme?unknown=1"), 400),
        (format!("{base}/{long}"), 400),
        (format!("{base}/%00"), 400),
        (format!("{base}/%ff%fe"), 400),
        (format!("{base}/acme%20"), 400),
        (format!("{base}/'%20OR%20'1'='1"), 400),
        (format!("{base}/'OR'1'='1"), 404),
        (format!("{base}/acme';DROP/**/TABLE/**/tenants;--"), 404),
        (format!("{base}/acme%27%3BDROP%2F%2A%2A%2FTABLE--"), 404),
        (format!("{base}/%25"), 404),
        (format!("{base}/_cme"), 404),
        ("/api/security/metrics/acme'--".to_owned(), 404),
        (format!("{base}/{}", "a".repeat(9000)), 414),
    ] {
        let answer = running.get(&path, Some(&token)).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    assert_eq!(running.events("acme", "").await.len(), 5, "the tables are still there");

    let mut hostile = record("acme", 70, "REQUEST", "INFO");
    hostile["actor"]["user"]["uid"] = json!("'); DROP TABLE security_events; --");
    hostile["http_request"]["url"]["path"] = json!("/' OR 1=1 --");
    running.ingest(&[hostile]).await;
    let newest = running.events("acme", "?limit=1").await[0].clone();
    assert_eq!(newest["user_id"], "'); DROP TABLE security_events; --");
    assert_eq!(newest["details"]["path"], "/' OR 1=1 --");
}

async fn every_answer_has_an_id_and_the_security_headers(store: Store) {
    let running = with_events(store).await;
    let token = running.admin();
    for (path, token) in [
        ("/monitoring/liveness", None),
        ("/api/security/status", None),
        ("/api/security/status", Some(token.as_str())),
        ("/nothing", Some(token.as_str())),
        ("/metrics", Some(token.as_str())),
    ] {
        let answer = running.get(path, token).await;
        assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    }
    let with_id = async |lines: &str| {
        running.raw_api(&format!("GET /x HTTP/1.1\r\nHost: t\r\n{lines}Connection: close\r\n\r\n")).await
    };
    let answer = with_id("x-request-id: my-request-1\r\n").await;
    assert_eq!(answer.header("x-request-id"), Some("my-request-1"));
    assert_eq!(answer.json()["correlation_id"], "my-request-1");
    for bad in ["short", "has space in it", "<script>alert(1)", &"a".repeat(65), "\u{1b}[31mred-----"] {
        let answer = with_id(&format!("x-request-id: {bad}\r\n")).await;
        assert!(answer.status == 400 || answer.header("x-request-id").unwrap().len() == 36, "{bad}");
    }
    let answer = with_id("x-request-id: my-request-1\r\nx-request-id: my-request-2\r\n").await;
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
}

async fn methods_and_sizes_are_bounded(store: Store) {
    let running = with_events(store).await;
    let token = running.admin();
    let request = |method: &str, path: &str, extra: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n{extra}Connection: close\r\n\r\n"
        )
    };
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = running.raw_api(&request(method, "/api/security/status", "Content-Length: 0\r\n")).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.json()["reason"], "method-not-allowed");
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")));
    }
    let head = running.raw_api(&request("HEAD", "/api/security/status", "")).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let large =
        running.raw_api(&request("POST", "/api/security/status", "Content-Length: 1000000\r\n")).await;
    assert_eq!(large.status, 413);
    let wide = request("GET", "/api/security/status", &format!("x-wide: {}\r\n", "a".repeat(200_000)));
    assert_eq!(running.raw_api(&wide).await.status, 431);
    let many = request("GET", "/api/security/status", &"x-many: 1\r\n".repeat(1000));
    assert_eq!(running.raw_api(&many).await.status, 431);
}

async fn the_description_lists_what_exists(store: Store) {
    let running = with_events(store).await;
    let token = running.admin();
    let job = running.send_json("POST", "/api/database/optimize-all", &token, "").await.json();
    let metric = json!({"unit": "visits", "statement": "SELECT 1"}).to_string();
    let put = running.send_json("PUT", "/api/tenants/acme/business-metrics/visits", &token, &metric).await;
    assert_eq!(put.status, 201, "{}", put.body);
    let document = running.get("/openapi.json", Some(&token)).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, operations) in paths {
        let Some(get) = operations.get("get") else { continue };
        if get["responses"]["200"]["content"].get("text/event-stream").is_some() {
            continue;
        }
        let mut path = path
            .replace("{tenant_id}", "acme")
            .replace("{job_id}", job["job_id"].as_str().unwrap())
            .replace("{name}", "visits");
        if get["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "user_id")) {
            path.push_str("?user_id=alice");
        }
        let answer = running.get(&path, Some(&token)).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for schema in ["Status", "Events", "TenantMetrics", "ProblemBody"] {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
    }
}

async fn readiness_is_the_stores_and_liveness_is_not(store: Store) {
    let running = with_events(store).await;
    assert_eq!(running.get("/monitoring/readiness", None).await.status, 200);
    running.execute("ALTER TABLE store_probe RENAME TO store_probe_away").await;
    // An answer is told for two seconds at most.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let answer = running.get("/monitoring/readiness", None).await;
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "unavailable"})));
    assert_eq!(running.get("/monitoring/liveness", None).await.status, 200);
    let detailed = running.get("/health/detailed", Some(&running.admin())).await.json();
    assert_eq!(detailed["checks"]["storage"]["status"], "unhealthy");
    running.execute("ALTER TABLE store_probe_away RENAME TO store_probe").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(running.get("/monitoring/readiness", None).await.status, 200);
}

on_each_store![
    answers_have_the_required_shape,
    a_day_of_figures_is_exact_to_the_event,
    filters_narrow,
    tokens_are_asked_for_everywhere_but_at_the_probes,
    a_tenant_reads_its_own_data_and_learns_nothing_of_others,
    what_is_malformed_is_refused_and_what_is_hostile_is_only_text,
    every_answer_has_an_id_and_the_security_headers,
    methods_and_sizes_are_bounded,
    the_description_lists_what_exists,
    readiness_is_the_stores_and_liveness_is_not,
];
