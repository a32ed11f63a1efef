//! What events tell of people: sealed in the trail, gone with the tenant's keys from everything that shows events, and no
//! proof of the trail the worse for it.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use portcullis_server::storage::{Progress, StorageError};
use serde_json::{Value, json};

use crate::commands::{portcullis, text, url};
use crate::support::{ROOT_KEY, Running, Store, on_each_store, record, start_time};

/// A record with everything that tells of a person.
fn visit(tenant: &str, sequence: u64) -> Value {
    let mut record = record(tenant, sequence, "RATE_LIMIT_EXCEEDED", "WARNING");
    record["http_request"]["url"]["query_string"] = json!("mail=alice@shop.example");
    record["unmapped"]["portcullis"]["details"] =
        json!({"excerpt": "mail=A5", "referer": "https://a.test/alice"});
    record
}

/// An event as an application tells it.
fn told() -> Value {
    json!({"event_type": "patient_seen", "user_id": "alice", "ip_address": "10.0.0.1", "user_agent": "curl/8",
        "details": {"patient": {"name": "Ann Alice"}, "ward": 7}})
}

const PERSONAL: [&str; 3] = ["alice", "10.0.0.1", "curl/8"];

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// What of people stands in the files of a folder.
fn found_in(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.is_file()).collect();
    assert!(!files.is_empty());
    let of = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let secrets = PERSONAL.iter().filter(move |secret| holds(&bytes, secret));
        secrets.map(|secret| format!("{secret} in {}", path.display())).collect::<Vec<_>>()
    };
    files.iter().flat_map(|path| of(path)).collect()
}

async fn keys(running: &Running, method: &str, path: &str, body: &str) -> (u16, Value) {
    let answer =
        running.send_json(method, &format!("/api/security/keys/{path}"), &running.admin(), body).await;
    (answer.status, answer.json())
}

async fn metric(running: &Running, name: &str) -> u64 {
    let text = running.get("/metrics", Some(&running.admin())).await.body;
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// `portcullis audit` on the state of a companion that has ended, or runs.
fn audit(running: &Running, arguments: &[&str]) -> Output {
    let mut command = portcullis(running.folder.path(), &[&["audit"], arguments].concat());
    command.env("DATABASE_URL", url(&running.place)).env("AUDIT_SIGNING_KEY", "07".repeat(32));
    command.env("ENCRYPTION_KEY", ROOT_KEY).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Stopped, its tables filled anew from the trail, and started again.
async fn rebuilt(running: Running) -> Running {
    let Running { companion, folder, place, clock, .. } = running;
    companion.stop().await.unwrap();
    let mut rebuild = portcullis(folder.path(), &["audit", "rebuild"]);
    rebuild.env("DATABASE_URL", url(&place)).env("AUDIT_SIGNING_KEY", "07".repeat(32));
    let refused = rebuild.output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("ENCRYPTION_KEY: not set"), "{}", text(&refused.stderr));
    let done = rebuild.env("ENCRYPTION_KEY", ROOT_KEY).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    Running::reopen(folder, place, clock, true).await
}

async fn a_shredding_takes_people_out_of_everything_and_the_trail_stays_whole(store: Store) {
    let running = Running::start(store, true).await;
    for tenant in ["acme", "globex"] {
        let first = if tenant == "acme" { 0 } else { 10 };
        assert_eq!(running.ingest(&[visit(tenant, first), visit(tenant, first + 1)]).await.status, 200);
        running.companion.trail().caught_up().await;
        let answer = running.post(&format!("/api/security/events/{tenant}"), &told(), &running.admin()).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    let before = running.events("acme", "").await;
    let elsewhere = running.events("globex", "").await;
    for event in before.iter().chain(&elsewhere) {
        assert_eq!((&event["user_id"], &event["ip_address"]), (&json!("alice"), &json!("10.0.0.1")));
    }
    assert_eq!(before[0]["details"]["patient"]["name"], "Ann Alice");
    assert_eq!(before[1]["details"]["query"], "mail=alice@shop.example");
    assert_eq!(found_in(&running.folder.path().join("audit")), Vec::<String>::new());
    let exported = lines(&audit(&running, &["export", "--tenant", "acme"]));
    let opened = lines(&audit(&running, &["export", "--tenant", "acme", "--open"]));
    assert!(exported.iter().all(|record| record["sealed"].is_string() && record["personal"].is_null()));
    assert!(opened.iter().all(|record| record["personal"]["user_id"] == "alice"));
    let kept = audit(&running, &["checkpoint"]).stdout;
    std::fs::write(running.folder.path().join("kept"), kept).unwrap();

    let (status, shredded) = keys(&running, "DELETE", "acme", "").await;
    assert_eq!((status, &shredded["events_erased"]), (200, &json!(3)), "{shredded}");
    let after = running.events("acme", "").await;
    assert_eq!(after.len(), 3);
    for (event, was) in after.iter().zip(&before) {
        assert_eq!((&event["user_id"], &event["ip_address"]), (&Value::Null, &Value::Null), "{event}");
        assert_eq!(event["event_type"], was["event_type"]);
        assert!(!PERSONAL.iter().any(|secret| holds(event.to_string().as_bytes(), secret)), "{event}");
        assert_eq!(event["details"]["uid"], was["details"]["uid"]);
    }
    assert_eq!(after[1]["details"]["path"], "/login", "what tells of nobody stays");
    assert_eq!(running.events("globex", "").await, elsewhere);
    let rows =
        running.rows("SELECT user_id, ip_address FROM rate_limiting_logs WHERE tenant_id = 'acme'").await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.text_or_null(0).unwrap().or(row.text_or_null(1).unwrap()).is_none()));
    assert!(running.rows("SELECT tenant_id FROM erasures").await.is_empty());

    // Whoever comes afterwards leaves a trace and no name, until there is a new key.
    running.ingest(&[visit("acme", 2)]).await;
    assert_eq!(running.events("acme", "").await[1]["user_id"], Value::Null);
    assert_eq!(metric(&running, "portcullis_trail_unkept_total").await, 1);
    assert_eq!(keys(&running, "POST", "acme", "").await.0, 201);
    running.ingest(&[visit("acme", 3)]).await;
    let with_new_key = running.events("acme", "").await;
    assert_eq!(with_new_key.iter().filter(|event| event["user_id"] == "alice").count(), 1);

    let whole = audit(&running, &["verify", "--checkpoint", "kept"]);
    assert_eq!(whole.status.code(), Some(0), "{}{}", text(&whole.stdout), text(&whole.stderr));
    let proof = lines(&audit(&running, &["export", "--open"]));
    let people: Vec<bool> =
        proof.iter().filter(|r| r["tenant_id"] == "acme").map(|r| r["personal"].is_null()).collect();
    assert_eq!(people, [true, true, true, true, false]);

    let running = rebuilt(running).await;
    assert_eq!(running.events("acme", "").await, with_new_key, "as if filled anew from the trail");
    assert_eq!(running.events("globex", "").await, elsewhere);
}

async fn a_shredding_reaches_what_a_proxy_whose_clock_is_ahead_has_told(store: Store) {
    let running = Running::start(store, true).await;
    let mut ahead = visit("acme", 0);
    ahead["time"] = (running.clock.now().as_millisecond() + 4 * 60_000).into();
    assert_eq!(running.ingest(&[ahead]).await.status, 200);
    assert_eq!(running.events("acme", "").await[0]["user_id"], "alice");
    assert_eq!(keys(&running, "DELETE", "acme", "").await.0, 200);
    assert_eq!(running.events("acme", "").await[0]["user_id"], Value::Null);
}

async fn a_shredding_that_broke_off_is_finished_and_what_was_opened_before_it_is_not_stored(store: Store) {
    let running = Running::start(store, true).await;
    running.ingest(&[visit("acme", 0)]).await;
    assert_eq!(running.events("acme", "").await[0]["user_id"], "alice");
    // The projection waits with what comes now, and the shredding gets no further than the keys.
    running.execute("ALTER TABLE security_events RENAME TO away").await;
    assert_eq!(running.ingest(&[visit("acme", 1)]).await.status, 200);
    let admin = running.admin();
    let storage = running.companion.storage();
    let keys = running.companion.keys();
    let acme = portcullis_server::tenant::TenantId::new("acme").unwrap();
    keys.shred(&acme).await.unwrap_err();
    running.execute("ALTER TABLE away RENAME TO security_events").await;
    keys.erase_pending().await.unwrap();
    while running.companion.trail().projected() < running.companion.trail().size() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let events = running.events("acme", "").await;
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event["user_id"].is_null()), "{events:?}");
    assert!(running.rows("SELECT tenant_id FROM erasures").await.is_empty());

    let step = |revision| Progress { keys: vec![("acme".to_owned(), revision)], ..Progress::new("x", 0, 1) };
    let stale = storage.project(Vec::new(), Some(step(1))).await;
    assert!(matches!(stale, Err(StorageError::Conflict)), "{stale:?}");
    assert_eq!(storage.projected("x").await.unwrap(), 0);
    storage.project(Vec::new(), Some(step(2))).await.unwrap();
    assert_eq!(running.send_json("POST", "/api/security/keys/acme", &admin, "").await.status, 201);
}

async fn while_the_keys_are_away_known_tenants_events_are_taken_and_the_others_come_again(store: Store) {
    let running = Running::start(store, true).await;
    assert_eq!(running.ingest(&[visit("acme", 0)]).await.status, 200);
    running.companion.trail().caught_up().await;
    running.execute("ALTER TABLE tenant_keys RENAME TO away").await;
    for n in 1..4 {
        assert_eq!(running.ingest(&[visit("acme", n)]).await.status, 200, "its key is in memory");
    }
    let refused = running.ingest(&[visit("globex", 10), visit("acme", 4)]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.body);
    assert_eq!(refused.json()["reason"], "audit-unavailable");
    assert_eq!(metric(&running, "portcullis_trail_refused_batches_total{reason=\"keys\"}").await, 1);
    running.execute("ALTER TABLE away RENAME TO tenant_keys").await;
    assert_eq!(running.ingest(&[visit("globex", 10), visit("acme", 4)]).await.json()["stored"], 2);
    while running.companion.trail().projected() < running.companion.trail().size() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((running.events("acme", "").await.len(), running.events("globex", "").await.len()), (5, 1));
    assert_eq!(found_in(&running.folder.path().join("audit")), Vec::<String>::new());
}

async fn a_version_opens_for_as_long_as_the_trail_needs_it(store: Store) {
    let running = Running::start(store, true).await;
    running.ingest(&[visit("acme", 0)]).await;
    running.companion.trail().caught_up().await;
    assert_eq!(keys(&running, "POST", "acme/rotate", "").await.0, 200);
    running.ingest(&[visit("acme", 1)]).await;
    let least = |force: bool| json!({"min_decrypt_version": 2, "force": force}).to_string();
    let (status, refused) = keys(&running, "PUT", "acme", &least(false)).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("still-needed")), "{refused}");
    // 90 days, and two.
    assert!(refused["detail"].as_str().unwrap().contains("until 2026-06-01T12:00:30.000Z"), "{refused}");
    assert_eq!(keys(&running, "PUT", "acme", &least(true)).await.1["min_decrypt_version"], 2);
    let running = rebuilt(running).await;
    let events = running.events("acme", "").await;
    assert_eq!((&events[0]["user_id"], &events[1]["user_id"]), (&json!("alice"), &Value::Null));
    // Shut out is not deleted.
    assert_eq!(keys(&running, "PUT", "acme", "{\"min_decrypt_version\": 1}").await.0, 200);
    let running = rebuilt(running).await;
    assert!(running.events("acme", "").await.iter().all(|event| event["user_id"] == "alice"));
    running.clock.advance(Duration::from_secs(93 * 86_400));
    assert_eq!(keys(&running, "PUT", "acme", &least(false)).await.0, 200);
}

async fn a_name_that_nobody_registered_has_a_key_too(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let place = crate::support::new_place(store, folder.path());
    let clock = portcullis_server::clock::Clock::manual(start_time());
    let running = Running::reopen(folder, place, clock, false).await;
    assert_eq!(running.ingest(&[visit("ghost", 0)]).await.status, 200);
    running.companion.trail().caught_up().await;
    assert_eq!(found_in(&running.folder.path().join("audit")), Vec::<String>::new());
    running.clock.advance(Duration::from_millis(1));
    let admin = running.admin();
    assert_eq!(running.send_json("PUT", "/api/tenants/ghost", &admin, "{}").await.status, 201);
    assert_eq!(running.events("ghost", "").await[0]["user_id"], "alice");
    // One that is removed takes its people along, and one that comes back under its name begins anew.
    assert_eq!(running.send_json("DELETE", "/api/tenants/ghost", &admin, "").await.status, 200);
    running.ingest(&[visit("ghost", 1)]).await;
    running.companion.trail().caught_up().await;
    running.clock.advance(Duration::from_millis(1));
    assert_eq!(running.send_json("PUT", "/api/tenants/ghost", &admin, "{}").await.status, 201);
    running.ingest(&[visit("ghost", 2)]).await;
    let known: Vec<Value> =
        running.events("ghost", "").await.iter().map(|event| event["user_id"].clone()).collect();
    assert_eq!(known, [json!("alice"), Value::Null, Value::Null]);
}

on_each_store![
    a_shredding_takes_people_out_of_everything_and_the_trail_stays_whole,
    a_shredding_reaches_what_a_proxy_whose_clock_is_ahead_has_told,
    a_shredding_that_broke_off_is_finished_and_what_was_opened_before_it_is_not_stored,
    while_the_keys_are_away_known_tenants_events_are_taken_and_the_others_come_again,
    a_version_opens_for_as_long_as_the_trail_needs_it,
    a_name_that_nobody_registered_has_a_key_too,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_without_end_do_not_fill_the_store_with_keys() {
    let folder = tempfile::tempdir().unwrap();
    let place = crate::support::new_place(Store::Sqlite, folder.path());
    let clock = portcullis_server::clock::Clock::manual(start_time());
    let running = Running::reopen(folder, place, clock, false).await;
    running
        .execute(
            "INSERT INTO tenant_keys WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
             SELECT 'name' || i, 1, 1, 1, '', '[]', NULL, NULL FROM n",
        )
        .await;
    for n in 0..3 {
        assert_eq!(running.ingest(&[visit(&format!("new{n}"), n)]).await.status, 200);
    }
    running.add_tenant("acme").await;
    running.ingest(&[visit("acme", 7)]).await;
    let made = running.rows("SELECT tenant_id FROM tenant_keys WHERE revision = 1 AND index_key <> ''").await;
    let made: Vec<String> = made.iter().map(|row| row.text(0).unwrap()).collect();
    assert_eq!(made, ["acme", "new0"], "one more than there were fits, and a tenant always");
    assert_eq!(metric(&running, "portcullis_trail_unkept_total").await, 2);
    assert_eq!(running.events("acme", "").await[0]["user_id"], "alice");
}
