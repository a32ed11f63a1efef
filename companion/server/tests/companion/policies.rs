//! Policies: defaults, changes, who may make them, and how others learn of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_server::clock::Timestamp;
use portcullis_server::event::Event;
use portcullis_server::policies::{self, Policies, SecurityPolicies};
use portcullis_server::storage::{
    Done, Expiry, Outcome, Pending, Progress, QueueState, Row, Statement, Storage, StorageError, Transaction,
};
use portcullis_server::tenant::TenantId;
use serde_json::{Value, json};
use xtask::clock::Deadline;

use crate::support::{Running, Store, on_each_store};

const PATH: &str = "/api/security/policies/acme";

async fn with_tenant(store: Store) -> Running {
    let running = Running::start(store, false).await;
    running.execute("INSERT INTO tenants (tenant_id, origin) VALUES ('acme', 'operator')").await;
    running
}

async fn put(running: &Running, token: &str, body: &Value) -> (u16, Value) {
    let answer = running.send_json("PUT", PATH, token, &body.to_string()).await;
    (answer.status, answer.json())
}

async fn every_tenant_starts_with_the_required_policies(store: Store) {
    let running = with_tenant(store).await;
    let answer = running.get(PATH, Some(&running.of_tenant("acme"))).await.json();
    assert_eq!(
        answer,
        json!({
            "tenant_id": "acme",
            "rate": {"api_calls_per_minute": 100, "login_attempts_per_minute": 5, "file_uploads_per_minute": 20,
                "report_generation_per_minute": 10},
            "password": {"min_length": 8, "require_uppercase": true, "require_lowercase": true, "require_numbers": true,
                "require_special_chars": true, "max_age_days": 90},
            "session": {"session_timeout_minutes": 60, "max_concurrent_sessions": 3, "inactive_timeout_minutes": 30},
            "database": {"auto_apply": false, "allow_btree": true, "allow_partial": true, "allow_expression": true,
                "allow_covering": true, "allow_brin": true, "max_index_megabytes": 1024, "budget_megabytes": 4096,
                "max_write_tax_percent": 100, "window_start_hour": 0, "window_end_hour": 24},
            "version": 0, "timestamp": "2026-03-01T12:00:30.000Z"
        })
    );
}

async fn a_change_touches_what_it_names_and_takes_the_next_version(store: Store) {
    let running = with_tenant(store).await;
    let admin = running.admin();
    let (status, changed) = put(&running, &admin, &json!({"rate": {"api_calls_per_minute": 7}})).await;
    assert_eq!((status, &changed["version"]), (200, &json!(1)), "{changed}");
    let (_, changed) = put(&running, &admin, &json!({"session": {"max_concurrent_sessions": 1}})).await;
    assert_eq!(changed["rate"]["api_calls_per_minute"], 7);
    assert_eq!(changed["rate"]["login_attempts_per_minute"], 5);
    assert_eq!((&changed["session"]["max_concurrent_sessions"], &changed["version"]), (&json!(1), &json!(2)));
    // What was read may be sent back; of two who read the same, one is told.
    assert_eq!(put(&running, &admin, &changed).await.0, 200);
    assert_eq!(put(&running, &admin, &changed).await.0, 409);
    let (_, back) =
        put(&running, &admin, &json!({"rate": null, "session": {"max_concurrent_sessions": null}})).await;
    assert_eq!(
        (&back["rate"]["api_calls_per_minute"], &back["session"]["max_concurrent_sessions"]),
        (&json!(100), &json!(3))
    );
    assert_eq!(running.get(PATH, Some(&admin)).await.json(), back);
}

async fn what_cannot_be_is_refused_whole_and_named(store: Store) {
    let running = with_tenant(store).await;
    let admin = running.admin();
    for (body, status, named) in [
        ("{\"rate\": {\"api_calls_per_minute\": 7}", 400, "line 1 column"),
        ("", 400, "line 1 column 0"),
        ("[]", 422, "body"),
        (
            "{\"rate\": {\"api_calls_per_minute\": -1}}",
            422,
            "rate.api_calls_per_minute: must be a whole number from 0",
        ),
        ("{\"rate\": {\"api_calls_per_minute\": 7, \"x\": 1}}", 422, "rate.x: not known"),
        (
            "{\"rate\": {\"api_calls_per_minute\": 7}, \"password\": {\"min_length\": 65}}",
            422,
            "password.min_length",
        ),
        (
            "{\"session\": {\"inactive_timeout_minutes\": 61}}",
            422,
            "session.inactive_timeout_minutes: must not be longer",
        ),
        ("{\"tenant_id\": \"globex\"}", 422, "tenant_id"),
        ("{\"version\": \"1\"}", 422, "version"),
        ("{\"'; DROP TABLE tenants; --\": {}}", 422, "not known"),
    ] {
        let answer = running.send_json("PUT", PATH, &admin, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{body}: {}", answer.body);
    }
    let large = format!("{{\"rate\": {{\"{}\": 1}}}}", "x".repeat(20_000));
    assert_eq!(running.send_json("PUT", PATH, &admin, &large).await.status, 413);
    assert_eq!(running.get(PATH, Some(&admin)).await.json()["version"], 0);
}

async fn a_tenant_sets_its_passwords_and_sessions_and_not_its_rate(store: Store) {
    let running = with_tenant(store).await;
    let own = running.of_tenant("acme");
    assert_eq!(put(&running, &own, &json!({"password": {"min_length": 12}})).await.0, 200);
    let (status, problem) = put(&running, &own, &json!({"rate": {"api_calls_per_minute": 1_000_000}})).await;
    assert_eq!((status, &problem["reason"]), (403, &json!("forbidden")));
    assert_eq!(put(&running, &running.of_tenant("globex"), &json!({})).await.0, 403);
    let unknown = running.send_json("PUT", "/api/security/policies/nobody", &running.admin(), "{}").await;
    assert_eq!(unknown.status, 404);
}

async fn others_ask_for_what_changed_since_a_version(store: Store) {
    let running = with_tenant(store).await;
    let defaults = SecurityPolicies::default();
    let policies = Policies::new(running.beside().await, defaults.clone());
    let mut watch = policies.watch();
    let now = crate::support::start_time();
    let [a, b] = ["a", "b"].map(|name| TenantId::new(name).unwrap());
    let patch = json!({"rate": {"api_calls_per_minute": 1}});
    // At once, on both: versions are an order all the same.
    let both = tokio::join!(policies.change(&a, &patch, None, now), policies.change(&b, &patch, None, now));
    let mut versions = [both.0.unwrap().version, both.1.unwrap().version];
    versions.sort_unstable();
    assert_eq!(versions, [1, 2]);
    assert_eq!(*watch.borrow_and_update(), 2);
    let forgotten = Transaction::new().lock(policies::LOCK).then(policies::forgotten(&a, now));
    policies.heed(&running.beside().await.write(forgotten).await.unwrap()).unwrap();
    assert_eq!(*watch.borrow_and_update(), 3);
    let changed = policies.changed_since(2, 10).await.unwrap();
    assert_eq!((changed.len(), &changed[0].tenant, changed[0].version), (1, &a, 3));
    assert_eq!(changed[0].policies, defaults);
    assert_eq!(policies.changed_since(0, 10).await.unwrap().len(), 2);
    assert!(policies.changed_since(3, 10).await.unwrap().is_empty());
}

/// The first tenants get a rate of their own.
macro_rules! wave {
    ($rate:literal, $tenants:literal) => {
        concat!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ",
            $tenants,
            ") INSERT INTO security_policies (tenant_id, policy, version, created_at, updated_at) SELECT 't' || i, '{\"rate\": {\"api_calls_per_minute\": ",
            $rate,
            "}}', i + (SELECT coalesce(max(version), 0) FROM security_policies), '2026-03-01T12:00:00Z', '2026-03-01T12:00:00Z' \
             FROM n WHERE true ON CONFLICT (tenant_id) DO UPDATE SET policy = excluded.policy, version = excluded.version"
        )
    };
}

/// Two processes on one store: one changes more than is read one by one, the other tells what holds.
async fn a_wave_of_changes_is_known_within_a_second(store: Store) {
    use portcullis_server::policies::CHANGES;
    let running = with_tenant(store).await;
    let policies = Policies::new(running.beside().await, SecurityPolicies::default());
    // One more than a statement asks for at a time, some of them twice.
    let names = [
        "t1", "t2", "t1", "t3", "nobody", "t4", "t5", "t6", "t7", "t8", "t9", "t10", "t11", "t12", "t13",
        "t14", "t15", "t16",
    ];
    let tenants = names.map(|name| TenantId::new(name).unwrap());
    let calls = async || -> Vec<u32> {
        let known = policies.known(&tenants).await.unwrap();
        known.iter().map(|known| known.rate.api_calls_per_minute).collect()
    };
    assert_eq!(calls().await, [100; 18]);
    // One wave is more than is read one by one, the other less.
    const { assert!(CHANGES < 5000 && CHANGES > 2) };
    for (rate, tenants, wave) in [(7, 5000, wave!(7, 5000)), (8, 2, wave!(8, 2))] {
        running.execute(wave).await;
        // What was read counts for a second.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let known = calls().await;
        for (name, known) in names.iter().zip(known) {
            let number = name.strip_prefix('t').map_or(u32::MAX, |number| number.parse().unwrap());
            let wanted = if number <= tenants {
                rate
            } else if number == u32::MAX {
                100
            } else {
                7
            };
            assert_eq!(known, wanted, "{name}");
        }
    }
}

/// A store that hangs, and then fails, when it is told to.
struct Hanging {
    store: Arc<dyn Storage>,
    hangs: AtomicBool,
}

impl Storage for Hanging {
    fn project(&self, events: Vec<Event>, progress: Option<Progress>) -> Pending<'_, Vec<Outcome>> {
        self.store.project(events, progress)
    }
    fn read(&self, statement: Statement) -> Pending<'_, Vec<Row>> {
        Box::pin(async move {
            if self.hangs.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Err(StorageError::Busy);
            }
            self.store.read(statement).await
        })
    }
    fn write(&self, transaction: Transaction) -> Pending<'_, Vec<Done>> {
        self.store.write(transaction)
    }
    fn expire(&self, expiry: Expiry) -> Pending<'_, u64> {
        self.store.expire(expiry)
    }
    fn probe(&self, now: Timestamp) -> Pending<'_, ()> {
        self.store.probe(now)
    }
    fn kind(&self) -> &'static str {
        self.store.kind()
    }
    fn queue(&self) -> QueueState {
        self.store.queue()
    }
    fn close(&self) -> Pending<'_, ()> {
        self.store.close()
    }
}

async fn a_store_that_hangs_makes_nobody_wait_in_line(store: Store) {
    let running = with_tenant(store).await;
    let hanging = Arc::new(Hanging { store: running.beside().await, hangs: AtomicBool::new(false) });
    let policies = Policies::new(Arc::clone(&hanging) as Arc<dyn Storage>, SecurityPolicies::default());
    let tenant = |name: &str| TenantId::new(name).unwrap();
    policies.known(&[tenant("acme")]).await.unwrap();
    // What was read counts for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    hanging.hangs.store(true, Ordering::Relaxed);
    let patience = Deadline::after(Duration::from_secs(10));
    let asks = (0..50).map(|n| {
        let (policies, asked) = (policies.clone(), tenant(if n % 2 == 0 { "acme" } else { "globex" }));
        tokio::spawn(async move { policies.known(&[asked]).await.is_ok() })
    });
    let answers: Vec<bool> =
        futures_util::future::join_all(asks).await.into_iter().map(Result::unwrap).collect();
    assert!(!patience.passed(), "one after the other would take 50 seconds");
    assert!((0..50).all(|n| answers[n] == (n % 2 == 0)), "what is in memory holds: {answers:?}");
    hanging.hangs.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(policies.known(&[tenant("globex")]).await.is_ok());
}

async fn what_cannot_be_read_of_one_tenant_keeps_no_other_from_its_own(store: Store) {
    let running = with_tenant(store).await;
    let policies = Policies::new(running.beside().await, SecurityPolicies::default());
    let [odd, acme] = ["odd", "acme"].map(|name| TenantId::new(name).unwrap());
    let patch = json!({"rate": {"api_calls_per_minute": 7}});
    let calls = async || {
        let known = policies.known(&[odd.clone(), acme.clone()]).await.unwrap();
        known.iter().map(|policies| policies.rate.api_calls_per_minute).collect::<Vec<_>>()
    };
    assert_eq!(calls().await, [100, 100]);
    running
        .execute(
            "INSERT INTO security_policies (tenant_id, policy, version, created_at, updated_at) \
             VALUES ('odd', '{\"nonsense\": 1}', 1, '2026-03-01T12:00:00.000Z', '2026-03-01T12:00:00.000Z')",
        )
        .await;
    policies.change(&acme, &patch, None, crate::support::start_time()).await.unwrap();
    assert_eq!(calls().await, [100, 7], "the defaults hold for the one, and its own for the other");
    assert_eq!(policies.changed_since(0, 10).await.unwrap().len(), 2);
}

on_each_store![
    a_store_that_hangs_makes_nobody_wait_in_line,
    what_cannot_be_read_of_one_tenant_keeps_no_other_from_its_own,
    a_wave_of_changes_is_known_within_a_second,
    every_tenant_starts_with_the_required_policies,
    a_change_touches_what_it_names_and_takes_the_next_version,
    what_cannot_be_is_refused_whole_and_named,
    a_tenant_sets_its_passwords_and_sessions_and_not_its_rate,
    others_ask_for_what_changed_since_a_version,
];
