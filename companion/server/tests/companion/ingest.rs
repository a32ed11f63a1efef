//! Delivery: what a module sends is stored once, counted whole, and refused where it must be.

use crate::support::{
    EPOCH, INGEST_TOKEN, Running, Store, eventually, gap, on_each_store, record, send, start_time,
};
use portcullis_server::clock::Clock;
use serde_json::json;

async fn a_batch_delivered_twice_is_stored_once(store: Store) {
    let running = Running::start(store, true).await;
    let batch: Vec<_> = (1..=50).map(|n| record("acme", n, "REQUEST", "INFO")).collect();
    assert_eq!(
        running.ingest(&batch).await.json(),
        json!({"stored": 50, "duplicates": 0, "rejected": 0, "errors": []})
    );
    assert_eq!(
        running.ingest(&batch).await.json(),
        json!({"stored": 0, "duplicates": 50, "rejected": 0, "errors": []})
    );
    // The same sequence of another life is another record.
    let mut other = record("acme", 1, "REQUEST", "INFO");
    other["unmapped"]["portcullis"]["epoch"] = json!("0000000000000001");
    assert_eq!(running.ingest(&[other.clone(), other]).await.json()["duplicates"], 1);
    assert_eq!(running.events("acme", "?limit=1000").await.len(), 51);
}

async fn concurrent_deliveries_of_the_same_batches_lose_and_double_nothing(store: Store) {
    let running = std::sync::Arc::new(Running::start(store, true).await);
    let tasks: Vec<_> = (0..40_u64)
        .map(|task| {
            let running = running.clone();
            // Every batch is sent by two tasks.
            let first = (task / 2) * 20;
            tokio::spawn(async move {
                let batch: Vec<_> =
                    (first..first + 20).map(|n| record("acme", n, "REQUEST", "INFO")).collect();
                let answer = running.ingest(&batch).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
                (answer.json()["stored"].as_u64().unwrap(), answer.json()["duplicates"].as_u64().unwrap())
            })
        })
        .collect();
    let (mut stored, mut duplicates) = (0, 0);
    for task in tasks {
        let counts = task.await.unwrap();
        stored += counts.0;
        duplicates += counts.1;
    }
    // Two that are under way at once are both appended; one of them is shown.
    assert_eq!(stored + duplicates, 800);
    assert!(stored >= 400, "{stored}");
    assert_eq!(running.events("acme", "?limit=1000").await.len(), 400);
}

async fn bad_lines_are_named_and_the_rest_is_stored(store: Store) {
    let running = Running::start(store, true).await;
    let mut bad = record("acme", 2, "REQUEST", "INFO");
    bad["class_uid"] = json!(1);
    let long = format!("{{\"x\":\"{}\"}}", "a".repeat(17_000));
    let body = format!(
        "{}\nnot json\n\u{0}\u{1}\n{bad}\n\n{long}\n{}\n",
        record("acme", 1, "REQUEST", "INFO"),
        record("acme", 3, "REQUEST", "INFO")
    );
    let answer = running.ingest_bytes(body.as_bytes(), INGEST_TOKEN).await;
    let receipt = answer.json();
    assert_eq!((receipt["stored"].as_u64(), receipt["rejected"].as_u64()), (Some(2), Some(4)));
    let lines: Vec<_> =
        receipt["errors"].as_array().unwrap().iter().map(|e| e["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 3, 4, 6]);
    assert!(
        answer.body.contains("class_uid: must be 4002") && answer.body.contains("longer than 16384 bytes")
    );
    assert_eq!(running.events("acme", "").await.len(), 2);

    // Bytes that are no UTF-8, alone and beside a good line.
    let mut bytes = b"\xff\xfe{\n".to_vec();
    bytes.extend_from_slice(record("acme", 4, "REQUEST", "INFO").to_string().as_bytes());
    let receipt = running.ingest_bytes(&bytes, INGEST_TOKEN).await.json();
    assert_eq!((receipt["stored"].as_u64(), receipt["rejected"].as_u64()), (Some(1), Some(1)));
}

async fn only_the_token_opens_and_only_this_path(store: Store) {
    let running = Running::start(store, true).await;
    let body = record("acme", 1, "REQUEST", "INFO").to_string();
    for token in ["", "wrong", &format!("{INGEST_TOKEN}x"), &running.admin()] {
        let answer = running.ingest_bytes(body.as_bytes(), token).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let ingest = running.companion.ingest_address.unwrap();
    let post = |path: &str, extra: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: t\r\n{extra}Content-Length: 0\r\nConnection: close\r\n\r\n")
    };
    assert_eq!(send(ingest, post("/v1/ingest", "").as_bytes()).await.status, 401);
    let authorized = format!("Authorization: Bearer {INGEST_TOKEN}\r\n");
    assert_eq!(send(ingest, post("/v1/ingest", &authorized).as_bytes()).await.status, 415);
    assert_eq!(send(ingest, post("/api/security/status", &authorized).as_bytes()).await.status, 404);
    let get = format!("GET /v1/ingest HTTP/1.1\r\nHost: t\r\n{authorized}Connection: close\r\n\r\n");
    assert_eq!(send(ingest, get.as_bytes()).await.status, 405);
    let twice = format!("{authorized}{authorized}Content-Type: application/x-ndjson\r\n");
    assert_eq!(send(ingest, post("/v1/ingest", &twice).as_bytes()).await.status, 401);
    // The public port takes no records, whoever asks.
    let api = running.companion.api_address.unwrap();
    let admin =
        format!("Authorization: Bearer {}\r\nContent-Type: application/x-ndjson\r\n", running.admin());
    assert_eq!(send(api, post("/v1/ingest", &admin).as_bytes()).await.status, 404);
}

async fn a_body_has_a_maximum_whether_it_says_its_length_or_not(store: Store) {
    let running = Running::start(store, true).await;
    let line = record("acme", 1, "REQUEST", "INFO").to_string();
    let mut full = line.clone().into_bytes();
    full.resize(1024 * 1024, b'\n');
    assert_eq!(running.ingest_bytes(&full, INGEST_TOKEN).await.status, 200);
    full.push(b'\n');
    assert_eq!(running.ingest_bytes(&full, INGEST_TOKEN).await.status, 413);

    let mut chunked = format!(
        "POST /v1/ingest HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {INGEST_TOKEN}\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..1025 {
        chunked.extend_from_slice(format!("400\r\n{}\r\n", "\n".repeat(1024)).as_bytes());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(send(running.companion.ingest_address.unwrap(), &chunked).await.status, 413);
}

async fn a_gap_is_measured_against_what_arrived(store: Store) {
    let running = Running::start(store, true).await;
    let arrived: Vec<_> = [10, 12, 13, 20].map(|n| record("acme", n, "REQUEST", "INFO")).into();
    running.ingest(&arrived).await;
    let mut died = gap(
        1,
        json!({"cause": "vm-died", "lost_epoch": EPOCH.to_uppercase(), "from": 12, "to": 40, "count": 29}),
    );
    died["unmapped"]["portcullis"]["epoch"] = json!("00000000000000bb");
    let mut overflow = gap(2, json!({"cause": "overflow", "from": 5, "to": 9, "count": 5}));
    overflow["unmapped"]["portcullis"]["epoch"] = json!("00000000000000bb");
    overflow["metadata"].as_object_mut().unwrap().remove("tenant_uid");
    let batch = [died, overflow];
    assert_eq!(running.ingest(&batch).await.json()["stored"], 2);
    assert_eq!(running.ingest(&batch).await.json()["duplicates"], 2);

    let events = running.events("acme", "?event_type=AUDIT_GAP").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["details"]["missing"], 26);
    assert_eq!(events[0]["details"]["cause"], "vm-died");
    assert_eq!(running.events("public", "?event_type=AUDIT_GAP").await[0]["details"]["missing"], 5);

    let text = running.get("/metrics", Some(&running.admin())).await.body;
    for line in [
        "portcullis_audit_gaps_total{cause=\"vm-died\"} 1",
        "portcullis_audit_records_missing_total{cause=\"vm-died\"} 26",
        "portcullis_audit_records_missing_total{cause=\"overflow\"} 5",
        "portcullis_ingest_records_total{result=\"stored\"} 6",
        "portcullis_ingest_records_total{result=\"duplicate\"} 2",
        "portcullis_events_total{type=\"AUDIT_GAP\",severity=\"ERROR\"} 2",
        "portcullis_ingest_batches_total{result=\"stored\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

async fn an_exceeded_limit_leaves_a_row_in_its_own_table(store: Store) {
    let running = Running::start(store, true).await;
    running.ingest(&[record("acme", 1, "RATE_LIMIT_EXCEEDED", "WARNING")]).await;
    running.ingest(&[record("acme", 1, "RATE_LIMIT_EXCEEDED", "WARNING")]).await;
    let rows = running
        .rows("SELECT tenant_id, user_id, action, limit_exceeded, window_end FROM rate_limiting_logs")
        .await;
    assert_eq!(rows.len(), 1);
    let texts = [rows[0].text(0), rows[0].text(1), rows[0].text(2)].map(Result::unwrap);
    assert_eq!(texts, ["acme", "alice", "login"]);
    assert!(rows[0].boolean(3).unwrap());
    assert_eq!(rows[0].time(4).unwrap(), "2026-03-01T12:00:29.001Z".parse().unwrap());
}

async fn what_was_acknowledged_is_there_after_a_new_start(store: Store) {
    let running = Running::start(store, true).await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    // The tables are all that the next one has of it.
    assert_eq!(running.events("acme", "").await.len(), 1);
    let Running { companion, folder, place, .. } = running;
    // No graceful end: the listeners' tasks and the writer are simply left behind, as a kill would. They keep what else is
    // in the folder to themselves.
    std::mem::forget(companion);
    let beside = tempfile::tempdir().unwrap();
    let running = Running::reopen(beside, place, Clock::manual(start_time()), true).await;
    assert_eq!(running.events("acme", "").await.len(), 1);
    // Another trail does not know the record; the tables do.
    assert_eq!(running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await.json()["stored"], 1);
    assert_eq!(running.events("acme", "").await.len(), 1);
    let Running { companion, folder: beside, place, .. } = running;
    companion.stop().await.unwrap();
    let running = Running::reopen(beside, place, Clock::manual(start_time()), true).await;
    assert_eq!(running.events("acme", "").await.len(), 1);
    drop(folder);
}

async fn records_of_a_tenant_that_is_not_known_wait_for_it(store: Store) {
    let running = Running::start(store, false).await;
    assert_eq!(running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await.json()["stored"], 1);
    let path = "/api/security/events/acme";
    assert_eq!(running.get(path, Some(&running.admin())).await.status, 404);
    running.execute("INSERT INTO tenants (tenant_id, origin) VALUES ('acme', 'operator')").await;
    assert_eq!(running.events("acme", "").await.len(), 1);
}

async fn a_slow_or_broken_sender_harms_nobody(store: Store) {
    use tokio::io::AsyncWriteExt;
    let running = Running::start(store, true).await;
    let ingest = running.companion.ingest_address.unwrap();
    let mut broken = tokio::net::TcpStream::connect(ingest).await.unwrap();
    let head = format!(
        "POST /v1/ingest HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {INGEST_TOKEN}\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\n{{"
    );
    broken.write_all(head.as_bytes()).await.unwrap();
    drop(broken);
    for junk in
        [&b"\0\0\0\0"[..], b"GET", b"POST /v1/ingest HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"]
    {
        let mut stream = tokio::net::TcpStream::connect(ingest).await.unwrap();
        stream.write_all(junk).await.unwrap();
    }
    assert_eq!(running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await.json()["stored"], 1);
}

async fn a_store_that_fails_halfway_shows_nothing_of_a_batch_and_all_of_it_later(store: Store) {
    let running = Running::start(store, true).await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    assert_eq!(running.events("acme", "").await.len(), 1);
    running.execute("ALTER TABLE rate_limiting_logs RENAME TO away").await;
    let batch = [record("acme", 2, "REQUEST", "INFO"), record("acme", 3, "RATE_LIMIT_EXCEEDED", "WARNING")];
    assert_eq!(running.ingest(&batch).await.json()["stored"], 2, "the trail has it");
    let metric = async |line: &str| {
        let text = running.get("/metrics", Some(&running.admin())).await.body;
        text.lines().any(|found| found == line)
    };
    eventually(async || metric("portcullis_trail_stalled 1").await).await;
    assert!(metric("portcullis_trail_lag_records 2").await);
    assert_eq!(running.events("acme", "").await.len(), 1);
    let health = running.get("/health/detailed", Some(&running.admin())).await.json();
    assert_eq!(
        (&health["status"], &health["checks"]["audit_trail"]["status"]),
        (&json!("unhealthy"), &json!("waiting"))
    );

    running.execute("ALTER TABLE away RENAME TO rate_limiting_logs").await;
    eventually(async || metric("portcullis_trail_lag_records 0").await).await;
    let metrics = running.get("/api/security/metrics/acme", Some(&running.admin())).await.json();
    assert_eq!(metrics["metrics"]["total_events_24h"], 3);
    assert_eq!(running.rows("SELECT 1 FROM rate_limiting_logs").await.len(), 1);
    eventually(async || metric("portcullis_trail_stalled 0").await).await;
}

on_each_store![
    a_batch_delivered_twice_is_stored_once,
    concurrent_deliveries_of_the_same_batches_lose_and_double_nothing,
    bad_lines_are_named_and_the_rest_is_stored,
    only_the_token_opens_and_only_this_path,
    a_body_has_a_maximum_whether_it_says_its_length_or_not,
    a_gap_is_measured_against_what_arrived,
    an_exceeded_limit_leaves_a_row_in_its_own_table,
    what_was_acknowledged_is_there_after_a_new_start,
    records_of_a_tenant_that_is_not_known_wait_for_it,
    a_slow_or_broken_sender_harms_nobody,
    a_store_that_fails_halfway_shows_nothing_of_a_batch_and_all_of_it_later,
];
