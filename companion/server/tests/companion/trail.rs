//! The audit trail from outside: what is durable before it is acknowledged, what `portcullis audit` says of it, and what the
//! tables are made of.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit_log::merkle::{self, Hash};
use portcullis_server::clock::Clock;
use portcullis_server::secret::Secret;
use portcullis_server::storage::{self, Shape, Statement};
use portcullis_server::trail::redact::Redactor;
use portcullis_server::trail::retention::{self, TenantRule};
use serde_json::{Value, json};

use crate::commands::{output, portcullis, text, url};
use crate::support::{ROOT_KEY, Running, Store, on_each_store, record, start_time};

fn audit(folder: &Path, arguments: &[&str]) -> Output {
    output(folder, &[&["audit"], arguments].concat())
}

/// A companion that has stored events, and is ended; its folder.
async fn ended(events: u64) -> tempfile::TempDir {
    let running = Running::start(Store::Sqlite, true).await;
    for first in (0..events).step_by(10) {
        let batch: Vec<_> =
            (first..(first + 10).min(events)).map(|n| record("acme", n, "REQUEST", "INFO")).collect();
        assert_eq!(running.ingest(&batch).await.status, 200);
    }
    let Running { companion, folder, .. } = running;
    companion.stop().await.unwrap();
    folder
}

async fn events_go_through_the_trail_and_the_tables_are_made_of_it(store: Store) {
    let running = Running::start(store, true).await;
    running
        .ingest(&[record("acme", 1, "REQUEST", "INFO"), record("acme", 2, "RATE_LIMIT_EXCEEDED", "WARNING")])
        .await;
    let token = running.of_tenant("acme");
    let own = json!({"event_type": "payment", "details": {"amount": 3}});
    assert_eq!(running.post("/api/security/events/acme", &own, &token).await.status, 201);
    assert_eq!(running.companion.trail().size(), 3);
    let shown = running.events("acme", "").await;
    assert_eq!(shown.len(), 3);

    // Rows that were changed, removed and invented behind our back.
    running.execute("UPDATE security_events SET severity = 'INFO', user_id = 'bob'").await;
    running.execute("DELETE FROM security_events WHERE event_type = 'PAYMENT'").await;
    running.execute("DELETE FROM rate_limiting_logs").await;
    let Running { companion, folder, place, clock, .. } = running;
    companion.stop().await.unwrap();
    let mut rebuild = portcullis(folder.path(), &["audit", "rebuild"]);
    rebuild.env("DATABASE_URL", url(&place)).env("AUDIT_SIGNING_KEY", "07".repeat(32));
    rebuild.env("ENCRYPTION_KEY", ROOT_KEY);
    let rebuilt = rebuild.output().unwrap();
    assert!(rebuilt.status.success(), "{}", text(&rebuilt.stderr));
    assert!(
        text(&rebuilt.stdout).contains("2 events removed; 3 filled in from 3 records"),
        "{}",
        text(&rebuilt.stdout)
    );
    let running = Running::reopen(folder, place, clock, true).await;
    assert_eq!(running.events("acme", "").await, shown);
    assert_eq!(running.rows("SELECT 1 FROM rate_limiting_logs").await.len(), 1);
    let metrics = running.get("/api/security/metrics/acme", Some(&running.admin())).await.json();
    assert_eq!(metrics["metrics"]["total_events_24h"], 3);
}

async fn what_the_store_missed_is_filled_in_at_the_next_start(store: Store) {
    let running = Running::start(store, true).await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    assert_eq!(running.events("acme", "").await.len(), 1);
    running.execute("ALTER TABLE security_event_counts RENAME TO away").await;
    assert_eq!(running.ingest(&[record("acme", 2, "REQUEST", "INFO")]).await.json()["stored"], 1);
    let Running { companion, folder, place, clock, .. } = running;
    companion.stop().await.unwrap();
    let store = storage::open(&place, Shape::default()).await.unwrap();
    store.write(Statement::new("ALTER TABLE away RENAME TO security_event_counts").into()).await.unwrap();
    store.close().await.unwrap();
    let running = Running::reopen(folder, place, clock, true).await;
    assert_eq!(running.events("acme", "").await.len(), 2);
}

async fn a_trail_that_is_full_refuses_is_seen_and_drops_nothing(store: Store) {
    let running = Running::started_with(store, |settings| settings.trail.max_bytes = 20_000).await;
    let mut stored = 0;
    let refused = loop {
        let answer = running.ingest(&[record("acme", stored, "REQUEST", "INFO")]).await;
        if answer.status != 200 {
            break answer;
        }
        stored += 1;
        assert!(stored < 1_000);
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["reason"], "audit-unavailable");
    let own = json!({"event_type": "x", "details": {"note": "x".repeat(2_000)}});
    let own = running.post("/api/security/events/acme", &own, &running.admin()).await;
    assert_eq!(own.status, 503, "{}", own.body);
    let status = running.get("/api/security/status", Some(&running.admin())).await.json();
    assert_eq!(status["audit_logging_enabled"], false);
    let metrics = running.get("/metrics", Some(&running.admin())).await.body;
    assert!(metrics.contains("portcullis_trail_refused_batches_total{reason=\"full\"} 2\n"), "{metrics}");
    let syncs = metrics.lines().find_map(|line| line.strip_prefix("portcullis_trail_sync_seconds_count "));
    assert!(syncs.unwrap().parse::<u64>().unwrap() >= stored, "each batch was synced: {metrics}");
    let health = running.get("/health/detailed", Some(&running.admin())).await.json();
    assert_eq!(health["checks"]["audit_trail"]["status"], "refusing");
    assert!(stored > 5);
    assert_eq!(running.events("acme", "?limit=1000").await.len() as u64, stored);
}

on_each_store![
    events_go_through_the_trail_and_the_tables_are_made_of_it,
    what_the_store_missed_is_filled_in_at_the_next_start,
    a_trail_that_is_full_refuses_is_seen_and_drops_nothing,
    what_is_too_old_or_too_much_goes_and_every_proof_stays,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_seen_more_than_the_trail_has_misses_nothing_of_what_comes() {
    let running = Running::start(Store::Sqlite, true).await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    running.events("acme", "").await;
    // The position says so; the trail was taken back.
    running.execute("UPDATE trail_positions SET next = 1000").await;
    let Running { companion, folder, place, clock, .. } = running;
    companion.stop().await.unwrap();
    let running = Running::reopen(folder, place, clock, true).await;
    running.ingest(&[record("acme", 2, "REQUEST", "INFO")]).await;
    assert_eq!(running.events("acme", "").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_companions_on_one_store_have_a_trail_each() {
    let one = Running::start(Store::Postgres, true).await;
    let beside = tempfile::tempdir().unwrap();
    let other = Running::reopen(beside, one.place.clone(), Clock::manual(start_time()), true).await;
    one.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    other.ingest(&[record("acme", 2, "REQUEST", "INFO"), record("acme", 1, "REQUEST", "INFO")]).await;
    one.companion.trail().caught_up().await;
    other.companion.trail().caught_up().await;
    assert_eq!(one.events("acme", "").await.len(), 2);
    assert_eq!(one.rows("SELECT 1 FROM trail_positions").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_names_what_is_wrong_and_says_what_it_cannot_know() {
    let folder = ended(30).await;
    let trail = folder.path().join("audit");
    let whole = audit(folder.path(), &["verify"]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
    for said in ["30 records", "whole: root ", "roll-back of the whole trail", "no key was given"] {
        assert!(text(&whole.stdout).contains(said), "{said}: {}", text(&whole.stdout));
    }
    let checkpoint = audit(folder.path(), &["checkpoint", "--json"]);
    let checkpoint: Value = serde_json::from_slice(&checkpoint.stdout).unwrap();
    assert_eq!(checkpoint["size"], 30);
    std::fs::write(folder.path().join("kept"), checkpoint["note"].as_str().unwrap()).unwrap();
    let key = checkpoint["verifier_key"].as_str().unwrap();
    let held = audit(folder.path(), &["verify", "--checkpoint", "kept", "--key", key, "--json"]);
    let held: Value = serde_json::from_slice(&held.stdout).unwrap();
    assert_eq!(
        (&held["rollback_excluded"], &held["finding"], &held["key_given"]),
        (&json!(true), &Value::Null, &json!(true))
    );

    let segment = trail.join(format!("{:020}.seg", 0));
    let bytes = std::fs::read(&segment).unwrap();
    let place = bytes.windows(19).position(|window| window == b"\"sequence\":13,\"even").unwrap();
    let mut changed = bytes.clone();
    changed[place + 12] = b'4';
    std::fs::write(&segment, &changed).unwrap();
    let found = audit(folder.path(), &["verify"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found.stdout).contains("NOT WHOLE: record 13"), "{}", text(&found.stdout));
    let refused = output(folder.path(), &["audit", "export"]);
    assert_eq!(refused.status.code(), Some(2), "an export of a damaged trail does not end well");

    std::fs::write(&segment, &bytes).unwrap();
    assert_eq!(audit(folder.path(), &["verify", "--checkpoint", "kept"]).status.code(), Some(0));
    assert_eq!(audit(folder.path(), &["verify", "--key", "nonsense"]).status.code(), Some(2));
    assert_eq!(audit(&trail, &["verify"]).status.code(), Some(2), "no trail here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trail_that_was_taken_back_is_found_with_a_checkpoint_alone() {
    let running = Running::start(Store::Sqlite, true).await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    let Running { companion, folder, place, clock, .. } = running;
    companion.stop().await.unwrap();
    let (trail, older) = (folder.path().join("audit"), folder.path().join("older"));
    std::fs::create_dir(&older).unwrap();
    for file in std::fs::read_dir(&trail).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), older.join(file.file_name())).unwrap();
    }
    let running = Running::reopen(folder, place, clock, true).await;
    running.ingest(&[record("acme", 2, "REQUEST", "INFO")]).await;
    let Running { companion, folder, .. } = running;
    companion.stop().await.unwrap();
    let note = audit(folder.path(), &["checkpoint"]).stdout;
    std::fs::write(folder.path().join("kept"), note).unwrap();
    std::fs::remove_dir_all(&trail).unwrap();
    std::fs::rename(&older, &trail).unwrap();
    assert_eq!(audit(folder.path(), &["verify"]).status.code(), Some(0), "every byte of it was ours");
    let found = audit(folder.path(), &["verify", "--checkpoint", "kept"]);
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));
    assert!(text(&found.stdout).contains("NOT WHOLE: record 1: cut off"), "{}", text(&found.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_and_proven_from_outside() {
    let folder = ended(25).await;
    let lines = |output: Output| -> Vec<Value> {
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(audit(folder.path(), &["export"]));
    assert_eq!(all.len(), 25);
    assert_eq!(
        (&all[7]["record"], &all[7]["tenant_id"], &all[7]["event"]["sequence"]),
        (&json!(7), &json!("acme"), &json!(7))
    );
    assert_eq!(lines(audit(folder.path(), &["export", "--from", "20", "--until", "22"])), all[20..22]);
    assert_eq!(lines(audit(folder.path(), &["tail", "-n", "3"])), all[22..]);
    assert_eq!(lines(audit(folder.path(), &["tail", "-n", "3", "--tenant", "acme"])), all[22..]);
    assert!(lines(audit(folder.path(), &["tail", "--tenant", "globex"])).is_empty());

    let hash = |value: &Value| {
        let text = value.as_str().unwrap();
        let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap();
        Hash(std::array::from_fn(byte))
    };
    let path = |value: &Value| value["path"].as_array().unwrap().iter().map(hash).collect::<Vec<_>>();
    let proof: Value = serde_json::from_slice(&audit(folder.path(), &["prove", "13"]).stdout).unwrap();
    assert!(merkle::includes(&hash(&proof["root"]), 25, 13, hash(&proof["leaf"]), &path(&proof)));
    assert!(!merkle::includes(&hash(&proof["root"]), 25, 12, hash(&proof["leaf"]), &path(&proof)));
    assert_eq!(proof["content"], all[13]);
    let since: Value =
        serde_json::from_slice(&audit(folder.path(), &["prove", "--since", "10"]).stdout).unwrap();
    assert!(merkle::extends(10, &hash(&since["since_root"]), 25, &hash(&since["root"]), &path(&since)));
    assert_eq!(audit(folder.path(), &["prove", "25"]).status.code(), Some(2));
}

const DAY: Duration = Duration::from_secs(86_400);

/// Each tenant by its own rule: its age, its bytes, or what is every tenant's.
async fn what_is_too_old_or_too_much_goes_and_every_proof_stays(store: Store) {
    let of = ["acme=2d", "initech=90d/3000"].map(|rule| rule.parse::<TenantRule>().unwrap());
    let rules = retention::rules(90 * DAY, None, &of).unwrap();
    let kept = rules.clone();
    let running = Running::started_with(store, |settings| settings.trail.retention = kept).await;
    let trail = running.companion.trail().clone();
    let mut sequence = 0;
    let mut ingest = async |running: &Running| {
        for tenant in ["acme", "globex", "initech"] {
            let now = running.clock.now().as_millisecond();
            let batch: Vec<_> = (sequence..sequence + 4)
                .map(|n| {
                    let mut record = record(tenant, n, "REQUEST", "INFO");
                    record["time"] = json!(now - 1);
                    record
                })
                .collect();
            sequence += 4;
            assert_eq!(running.ingest(&batch).await.json()["stored"], 4);
        }
        running.companion.trail().caught_up().await;
    };
    let retain = |running: &Running| {
        let now = u64::try_from(running.clock.now().as_millisecond()).unwrap();
        trail.retain(&rules, now).unwrap()
    };
    let there = |running: &Running, tenant: &str| -> usize {
        let exported = audit(running.folder.path(), &["export", "--tenant", tenant]);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        text(&exported.stdout).lines().count()
    };
    ingest(&running).await;
    std::fs::write(running.folder.path().join("kept"), audit(running.folder.path(), &["checkpoint"]).stdout)
        .unwrap();
    // A segment a day: each of these closes the one before.
    for _ in 0..3 {
        running.clock.advance(DAY + Duration::from_secs(60));
        ingest(&running).await;
    }
    let done = retain(&running);
    assert!(done.erased >= 8 && done.deleted == 0, "{done:?}");
    assert_eq!(there(&running, "globex"), 16);
    assert_eq!(there(&running, "acme"), 8, "what is younger than two days");
    let left = there(&running, "initech");
    assert!((4..16).contains(&left), "its newest 3000 bytes: {left}");
    running.clock.advance(90 * DAY - DAY / 2);
    ingest(&running).await;
    let done = retain(&running);
    assert!(done.deleted >= 1, "{done:?}");
    assert_eq!(there(&running, "globex"), 8, "what was being written then, and now");

    let folder = running.folder.path().join("audit");
    let names = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
    assert!(names.map(|name| name.into_string().unwrap()).any(|name| name.ends_with(".gone")));
    let whole = audit(running.folder.path(), &["verify", "--checkpoint", "kept"]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stdout));
    assert!(
        text(&whole.stdout).contains("removed by retention, with a signed word"),
        "{}",
        text(&whole.stdout)
    );
    // Of what went record by record the leaf is left, of a whole segment its roots.
    assert_eq!(audit(running.folder.path(), &["prove", "1"]).status.code(), Some(2));
    let proof = audit(running.folder.path(), &["prove", "37"]);
    let proof: Value = serde_json::from_slice(&proof.stdout).unwrap();
    assert!(proof["content"].is_null() && proof["leaf"].is_string(), "{proof}");
    // What the tables show is their own affair: they forget by age alone.
    assert_eq!(running.events("initech", "?limit=100").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_redacted_is_written_nowhere() {
    let running = Running::started_with(Store::Sqlite, |settings| {
        let key = Secret::new("t", "k".repeat(32), 32).unwrap();
        let rules = Redactor::new(key, ["user_id", "iban"], Some(r#"["\\b4[0-9]{15}\\b"]"#)).unwrap();
        settings.trail.redactor = Some(Arc::new(rules));
    })
    .await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    let own = json!({"event_type": "payment", "user_id": "alice", "details": {
        "password": "hunter2", "iban": "DE02120300000000202051", "note": "paid with 4111111111111111"}});
    assert_eq!(running.post("/api/security/events/acme", &own, &running.admin()).await.status, 201);
    let events = running.events("acme", "").await;
    assert_eq!(events[0]["user_id"], events[1]["user_id"], "equal values can be matched");
    assert!(events[0]["user_id"].as_str().unwrap().starts_with("redacted:"));
    let Running { companion, folder, .. } = running;
    companion.stop().await.unwrap();
    let mut files = 0;
    for place in [folder.path().to_owned(), folder.path().join("audit")] {
        for file in std::fs::read_dir(place).unwrap().map(Result::unwrap).filter(|file| file.path().is_file())
        {
            let bytes = std::fs::read(file.path()).unwrap();
            files += 1;
            for secret in ["alice", "hunter2", "DE02120300000000202051", "4111111111111111"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} in {}", file.path().display());
            }
        }
    }
    assert!(files >= 4, "{files}");
}
