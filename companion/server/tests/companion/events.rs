//! Events page by page, live, and those that an application reports.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Running, Store, on_each_store, record, start_time};

const PATH: &str = "/api/security/events/acme";

async fn with_events(store: Store, count: u64) -> Running {
    let running = Running::start(store, true).await;
    let severity = |n: u64| if n.is_multiple_of(3) { "WARNING" } else { "INFO" };
    // Three an instant, so that a page ends within one.
    let batch: Vec<_> = (0..count)
        .map(|n| {
            let mut record = record("acme", n, "REQUEST", severity(n));
            record["time"] =
                json!(start_time().as_millisecond() - 3_600_000 + i64::try_from(n / 3 * 1000).unwrap());
            record
        })
        .collect();
    assert_eq!(running.ingest(&batch).await.json()["stored"], count);
    running
}

async fn pages_miss_and_double_nothing_while_more_arrives(store: Store) {
    let running = with_events(store, 50).await;
    let token = running.of_tenant("acme");
    let (mut seen, mut query) = (Vec::new(), "?limit=7".to_owned());
    loop {
        let page = running.get(&format!("{PATH}{query}"), Some(&token)).await.json();
        seen.extend(page["events"].as_array().unwrap().iter().map(|event| event["details"]["uid"].clone()));
        running.ingest(&[record("acme", 1000 + seen.len() as u64, "REQUEST", "INFO")]).await;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=7&cursor={cursor}");
    }
    let expected: Vec<Value> = (0..50).rev().map(|n| json!(format!("9f2c00000000abcd-{n}"))).collect();
    assert_eq!(seen, expected);
    let page = running
        .get(&format!("{PATH}?severity=WARNING&limit=17&until=2026-03-01T12:00:00Z"), Some(&token))
        .await;
    assert_eq!((&page.json()["count"], page.json()["next_cursor"].is_string()), (&json!(17), true));
    let none = "?since=2026-03-01T11:00:30Z&until=2026-03-01T11:00:31Z";
    assert_eq!(running.events("acme", none).await.len(), 3, "until is not included");
}

async fn a_cursor_is_good_for_what_it_was_made_for(store: Store) {
    let running = with_events(store, 20).await;
    let token = running.admin();
    let page = running.get(&format!("{PATH}?limit=5&severity=INFO"), Some(&token)).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let page = page.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        running.get(&format!("{PATH}?limit=9&severity=INFO&cursor={cursor}"), Some(&token)).await.status,
        200
    );
    running.ingest(&[record("globex", 900, "REQUEST", "INFO")]).await;
    let mut altered = cursor.to_owned().into_bytes();
    altered[3] = if altered[3] == b'A' { b'B' } else { b'A' };
    for path in [
        format!("{PATH}?cursor={cursor}"),
        format!("{PATH}?severity=WARNING&cursor={cursor}"),
        format!("/api/security/events/globex?severity=INFO&cursor={cursor}"),
        format!("{PATH}?severity=INFO&cursor={}", String::from_utf8(altered).unwrap()),
        format!("{PATH}?severity=INFO&cursor=1%20OR%201=1"),
        format!("{PATH}?severity=INFO&cursor="),
    ] {
        let answer = running.get(&path, Some(&token)).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains("cursor: is not one of ours"), "{}", answer.body);
    }
}

async fn an_application_reports_its_own_events(store: Store) {
    let running = with_events(store, 1).await;
    let token = running.of_tenant("acme");
    let event = json!({"event_type": "payment_failed", "severity": "WARNING", "user_id": "alice", "ip_address": "2001:DB8::1",
        "details": {"amount": 12.5, "note": "'); DROP TABLE security_events; --\u{0}"}});
    let answer = running.post(PATH, &event, &token).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let stored = running.events("acme", "?event_type=PAYMENT_FAILED").await;
    let stored = &stored[0];
    assert_eq!(stored["details"]["uid"], answer.json()["id"]);
    assert_eq!((&stored["user_id"], &stored["ip_address"]), (&json!("alice"), &json!("2001:db8::1")));
    assert_eq!((&stored["severity"], &stored["timestamp"]), (&json!("WARNING"), &answer.json()["timestamp"]));
    assert_eq!(stored["details"]["amount"], 12.5);
    assert_eq!(stored["details"]["note"], "'); DROP TABLE security_events; --\u{FFFD}");
    let metrics = running.get("/api/security/metrics/acme", Some(&token)).await.json();
    assert_eq!(metrics["metrics"]["warning_events"], 2, "it, and the one of the proxy");

    let long = |field: &str, length| json!({"event_type": "X", field: "a".repeat(length)});
    for (body, status, named) in [
        (json!({}), 422, "event_type"),
        (json!({"event_type": "1X"}), 422, "event_type: must be a letter"),
        (json!({"event_type": "A".repeat(101)}), 422, "event_type: must be a letter"),
        (json!({"event_type": "AUDIT_GAP"}), 422, "AUDIT_GAP"),
        (json!({"event_type": "X", "severity": "info"}), 422, "severity"),
        (json!({"event_type": "X", "details": []}), 422, "details"),
        (json!({"event_type": "X", "tenant_id": "globex"}), 422, "tenant_id"),
        (json!({"event_type": "X", "ip_address": "somewhere"}), 422, "ip_address"),
        (long("user_id", 51), 422, "user_id: must have 1 to 50"),
        (long("user_agent", 501), 422, "user_agent: must have 1 to 500"),
        (json!({"event_type": "X", "details": {"a": "b".repeat(17_000)}}), 413, "16384"),
    ] {
        let answer = running.post(PATH, &body, &token).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{body}: {}", answer.body);
    }
    let deep =
        format!("{{\"event_type\": \"X\", \"details\": {{\"a\": {}1{}}}}}", "[".repeat(200), "]".repeat(200));
    assert_eq!(running.send_json("POST", PATH, &token, &deep).await.status, 400);
    assert_eq!(running.post(PATH, &event, &running.of_tenant("globex")).await.status, 403);
    assert_eq!(running.events("acme", "").await.len(), 2);
}

/// A stream as a client reads it.
struct Stream(tokio::io::Lines<BufReader<TcpStream>>);

impl Stream {
    async fn open(running: &Running, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(running.companion.api_address.unwrap()).await.unwrap();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let token = running.of_tenant("acme");
        let request = format!(
            "GET {PATH}/stream{query} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self(BufReader::new(stream).lines());
        while stream.line().await != ": connected" {}
        stream
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(10), self.0.next_line()).await;
        line.expect("nothing came").unwrap().expect("the stream has ended")
    }

    /// The next event: its id, its data.
    async fn event(&mut self) -> (String, Value) {
        let mut id = String::new();
        loop {
            let line = self.line().await;
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return (id, serde_json::from_str(data).unwrap_or_else(|_| json!(data)));
            }
        }
    }
}

async fn a_stream_tells_what_is_stored_and_goes_on_where_it_broke_off(store: Store) {
    let running = with_events(store, 5).await;
    let mut stream = Stream::open(&running, "?severity=WARNING", None).await;
    let post = async |n: u64, tenant: &str, severity: &str| {
        running.ingest(&[record(tenant, n, "REQUEST", severity)]).await;
    };
    post(100, "acme", "INFO").await;
    post(101, "globex", "WARNING").await;
    post(102, "acme", "WARNING").await;
    let (id, event) = stream.event().await;
    assert_eq!(
        event["details"]["uid"], "9f2c00000000abcd-102",
        "neither what was before nor what does not fit"
    );
    drop(stream);
    post(103, "acme", "WARNING").await;
    post(104, "acme", "WARNING").await;
    let mut again = Stream::open(&running, "?severity=WARNING", Some(&id)).await;
    for n in [103, 104] {
        assert_eq!(again.event().await.1["details"]["uid"], format!("9f2c00000000abcd-{n}"));
    }
    // Its token ends, and so does it.
    running.clock.advance(Duration::from_secs(3601));
    assert_eq!(again.event().await.1, "the token has expired");
}

async fn a_stream_takes_no_foreign_place(store: Store) {
    let running = with_events(store, 5).await;
    let request = |head: &str| {
        format!(
            "GET {PATH}/stream HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {}\r\n{head}Connection: close\r\n\r\n",
            running.admin()
        )
    };
    let page = running.get(&format!("{PATH}?limit=2"), Some(&running.admin())).await.json();
    for id in ["1", "x'--", page["next_cursor"].as_str().unwrap()] {
        let answer = running.raw_api(&request(&format!("Last-Event-ID: {id}\r\n"))).await;
        assert_eq!(answer.status, 400, "{id}");
    }
    let token = running.admin();
    assert_eq!(
        running.get(&format!("{PATH}/stream?token={token}"), None).await.status,
        401,
        "no token in a URL"
    );
    assert_eq!(
        running.get("/api/security/events/globex/stream", Some(&running.of_tenant("acme"))).await.status,
        403
    );
}

on_each_store![
    pages_miss_and_double_nothing_while_more_arrives,
    a_cursor_is_good_for_what_it_was_made_for,
    an_application_reports_its_own_events,
    a_stream_tells_what_is_stored_and_goes_on_where_it_broke_off,
    a_stream_takes_no_foreign_place,
];
