//! Tenants' own databases through the API: figures, slow statements, what they lack.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_server::storage::{self, Shape};
use portcullis_server::tenant::TenantId;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::support::{Running, Store, eventually, json_request, on_each_store, send, tenant_database};

pub fn unique(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where tenants' databases are in a test.
struct Places {
    url: String,
    sockets: PathBuf,
    files: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        let (url, sockets) = tenant_database(&unique("tenant"));
        Self { url, sockets, files: tempfile::tempdir().unwrap() }
    }

    async fn start(&self, store: Store, enabled: bool) -> Running {
        let running = Running::started_with(store, |settings| {
            let databases = &mut settings.databases;
            databases.enabled = enabled;
            databases.sockets = vec![self.sockets.clone()];
            databases.sqlite = Some(self.files.path().to_owned());
            databases.shape.slow = Duration::from_millis(150);
            databases.watch = Duration::from_millis(200);
        })
        .await;
        running.add_tenant("acme").await;
        running
    }
}

pub async fn give(running: &Running, tenant: &str, url: &str) {
    let body = json!({"database_url": url}).to_string();
    let answer = running.send_json("PUT", &format!("/api/tenants/{tenant}"), &running.admin(), &body).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
}

async fn performance(running: &Running, tenant: &str) -> Value {
    let path = format!("/api/database/performance/{tenant}");
    let answer = running.get(&path, Some(&running.of_tenant(tenant))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn optimize(running: &Running, tenant: &str) -> Value {
    let path = format!("/api/database/optimize/{tenant}");
    let answer = running.post(&path, &json!({}), &running.of_tenant(tenant)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn a_tenants_database_has_figures_slow_statements_and_advice(store: Store) {
    let places = Places::new();
    let running = places.start(store, true).await;
    let none = performance(&running, "acme").await;
    assert_eq!((&none["database"], &none["performance_metrics"]["pool_size"]), (&Value::Null, &0.into()));

    give(&running, "acme", &places.url).await;
    let databases = running.companion.databases();
    let acme = TenantId::new("acme").unwrap();
    let lease = databases.lend(&acme, Some("corr-7")).await.unwrap();
    let client = lease.client().unwrap();
    client
        .batch_execute(
            "CREATE EXTENSION pg_stat_statements; CREATE TABLE clients (id int PRIMARY KEY); \
             CREATE TABLE orders (id int PRIMARY KEY, client int REFERENCES clients, note text); \
             INSERT INTO clients SELECT g FROM generate_series(1, 100) g; \
             INSERT INTO orders SELECT g, 1 + g % 100, md5(g::text) FROM generate_series(1, 20000) g; ANALYZE",
        )
        .await
        .unwrap();
    lease.query("SELECT pg_sleep(0.2), 'hunter2'", &[]).await.unwrap();
    // Seen by the windows once they know what was before.
    running.companion.databases().watch(&acme).await;
    for number in 1..30 {
        lease.query("SELECT client FROM orders WHERE note = md5($1::int::text)", &[&number]).await.unwrap();
    }
    client.query("SELECT pg_sleep(0.25), 'hunter3'", &[]).await.unwrap();
    running.companion.databases().watch(&acme).await;

    let path = "/api/database/slow-queries/acme";
    let told = async || running.get(path, Some(&running.of_tenant("acme"))).await.json();
    eventually(async || told().await["count"].as_u64().unwrap() >= 2).await;
    let slow = told().await;
    assert!(!slow.to_string().contains("hunter"), "{slow}");
    let sources: Vec<&str> = slow["slow_queries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["connection"].as_str())
        .collect();
    assert!(sources.contains(&"pg_stat_statements"), "{slow}");
    assert!(sources.contains(&lease.connection().as_str()), "{slow}");
    assert!(slow["slow_queries"][0]["execution_time"].as_f64().unwrap() >= 0.15, "seconds");
    let texts = slow["slow_queries"].as_array().unwrap().iter().filter_map(|row| row["statement"].as_str());
    assert!(texts.filter(|text| text.starts_with("SELECT pg_sleep(")).count() >= 2, "{slow}");
    let sleeping = slow["slow_queries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["connection"] == lease.connection().as_str());
    assert_eq!(sleeping.unwrap()["plan"], json!(["Result"]), "what its plan does is told: {slow}");
    let one = running.get(&format!("{path}?limit=1"), Some(&running.of_tenant("acme"))).await.json();
    assert_eq!(one["count"], 1);

    let figures = performance(&running, "acme").await;
    let metrics = &figures["performance_metrics"];
    assert_eq!((&figures["database"], &figures["problem"]), (&"postgresql".into(), &Value::Null));
    assert_eq!(figures["sources"]["query_count"], "pg_stat_statements");
    assert!(metrics["query_count"].as_u64().unwrap() >= 30 && metrics["slow_queries"].as_u64().unwrap() >= 2);
    assert!(metrics["checked_out"].as_u64().unwrap() >= 1, "{figures}");
    assert!((0.0..=1.0).contains(&metrics["connection_usage"].as_f64().unwrap()));
    assert_eq!(metrics["last_optimization"], Value::Null);
    drop(lease);

    let done = optimize(&running, "acme").await;
    assert_eq!((&done["optimization_success"], &done["problem"]), (&true.into(), &Value::Null), "{done}");
    let text = done["plan"].to_string();
    assert!(text.contains("missing_foreign_key") && text.contains("orders"), "{done}");
    assert!(done["plan"]["indexes"].to_string().contains("note"), "an index for what it was asked: {done}");
    let after = performance(&running, "acme").await;
    assert_eq!(after["performance_metrics"]["last_optimization"], "2026-03-01T12:00:30.000Z");
    assert_eq!(running.events("acme", "?event_type=DATABASE_OPTIMIZED").await.len(), 1);
}

async fn a_statement_that_has_become_slower_is_told_with_its_plan(store: Store) {
    let places = Places::new();
    let running = places.start(store, true).await;
    give(&running, "acme", &places.url).await;
    let databases = running.companion.databases();
    let acme = TenantId::new("acme").unwrap();
    let lease = databases.lend(&acme, None).await.unwrap();
    let client = lease.client().unwrap();
    client
        .batch_execute(
            "CREATE EXTENSION pg_stat_statements; CREATE TABLE pace (seconds float8 NOT NULL); INSERT INTO pace VALUES (0.001)",
        )
        .await
        .unwrap();
    let statement = "SELECT count(*) FROM pace WHERE pg_sleep(seconds) IS NOT NULL";
    databases.watch(&acme).await;
    for _ in 0..60 {
        client.query(statement, &[]).await.unwrap();
    }
    databases.watch(&acme).await;
    // Its past is known now, and a little slower is nothing to tell.
    client.batch_execute("UPDATE pace SET seconds = 0.05").await.unwrap();
    client.query(statement, &[]).await.unwrap();
    let told = async || {
        running.get("/api/database/slow-queries/acme", Some(&running.of_tenant("acme"))).await.json()
    };
    eventually(async || {
        client.query(statement, &[]).await.unwrap();
        databases.watch(&acme).await;
        !told().await["regressions"].as_array().unwrap().is_empty()
    })
    .await;
    let answer = told().await;
    let slower = &answer["regressions"][0];
    assert!(slower["statement"].as_str().unwrap().contains("FROM pace"), "{answer}");
    let (now, usual) = (slower["execution_time"].as_f64().unwrap(), slower["usual_time"].as_f64().unwrap());
    assert!(now >= 0.05 && now >= 3.0 * usual, "{answer}");
    assert!(slower["plan"].to_string().contains("Seq Scan on pace"), "{answer}");
    assert_eq!(answer["count"], 0, "50 ms are not slow by themselves: {answer}");
}

async fn what_a_slow_statement_of_a_file_does_is_told(store: Store) {
    let places = Places::new();
    let running = places.start(store, true).await;
    let made =
        storage::open(&storage::Place::Sqlite(places.files.path().join("acme.db")), Shape::default()).await;
    made.unwrap().close().await.unwrap();
    give(&running, "acme", "sqlite:acme.db").await;
    let lease = running.companion.databases().lend(&TenantId::new("acme").unwrap(), None).await.unwrap();
    let asked = lease.run("SELECT count(*) FROM tenants WHERE origin = 'hunter2'", |_| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(((), 1))
    });
    asked.await.unwrap();
    let told = async || {
        running.get("/api/database/slow-queries/acme", Some(&running.of_tenant("acme"))).await.json()
    };
    eventually(async || told().await["count"] == 1).await;
    let slow = told().await;
    assert!(slow["slow_queries"][0]["plan"][0].as_str().unwrap().contains("SCAN tenants"), "{slow}");
    assert!(!slow.to_string().contains("hunter2"), "{slow}");
}

async fn what_hinders_is_told_with_a_remedy(store: Store) {
    let places = Places::new();
    let running = places.start(store, true).await;
    let acme = TenantId::new("acme").unwrap();
    let no_database = optimize(&running, "acme").await;
    assert_eq!(no_database["optimization_success"], false);
    assert!(no_database["problem"].as_str().unwrap().contains("database_url"), "{no_database}");

    for (url, said) in [
        ("postgres://u:hunter2@169.254.169.254/x", "DATABASE_TARGETS_ALLOW"),
        ("sqlite:/etc/passwd", "DATABASE_SQLITE_FOLDER"),
        (
            "postgres://u:hunter2@db.example/x?options=-csearch_path%3Dx",
            "the option \"options\" may not be given",
        ),
    ] {
        let body = json!({"database_url": url}).to_string();
        let answer = running.send_json("PUT", "/api/tenants/acme", &running.admin(), &body).await;
        assert!(answer.status == 422 && !answer.body.contains("hunter2"), "{url}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(said), "{url}: {}", answer.body);
        // One that was allowed when it was given, and is not any more.
        running
            .companion
            .keys()
            .set_database_url(&acme, Some(Zeroizing::new(url.to_owned())), running.clock.now())
            .await
            .unwrap();
        let figures = performance(&running, "acme").await;
        assert!(figures["problem"].as_str().unwrap().contains(said), "{url}: {figures}");
        let done = optimize(&running, "acme").await;
        assert!(done["problem"].as_str().unwrap().contains(said), "{url}: {done}");
        assert!(!done.to_string().contains("hunter2") && !figures.to_string().contains("hunter2"));
    }
    // A database that is not there.
    let absent = places.url.rsplit_once('/').map(|(server, _)| format!("{server}/absent")).unwrap();
    give(&running, "acme", &absent).await;
    let done = optimize(&running, "acme").await;
    assert!(done["problem"].as_str().unwrap().contains("does not exist"), "{done}");
    assert_eq!(
        running.events("acme", "?event_type=DATABASE_OPTIMIZATION_FAILED&severity=ERROR").await.len(),
        5
    );

    let off = places.start(store, false).await;
    let done = optimize(&off, "acme").await;
    assert!(done["problem"].as_str().unwrap().contains("DATABASE_OPTIMIZATION_ENABLED"), "{done}");
}

async fn all_are_looked_through_and_progress_is_streamed(store: Store) {
    let places = Places::new();
    let running = places.start(store, true).await;
    let file = places.files.path().join("globex.db");
    let made = storage::open(&storage::Place::Sqlite(file), Shape::default()).await.unwrap();
    made.close().await.unwrap();
    give(&running, "acme", &places.url).await;
    give(&running, "globex", "sqlite:globex.db").await;
    let absent = places.files.path().join("absent.db");
    std::fs::write(&absent, "").unwrap();
    give(&running, "initech", "sqlite:absent.db").await;
    std::fs::remove_file(&absent).unwrap();
    let admin = running.admin();
    let path = "/api/database/optimize-all";
    assert_eq!(running.post(path, &json!({}), &running.of_tenant("acme")).await.status, 403);
    let answer = running.post(path, &json!({}), &admin).await;
    let done = answer.json();
    assert_eq!(
        (answer.status, &done["optimization_results"]),
        (200, &json!({"acme": true, "globex": true, "initech": false})),
        "{done}"
    );
    assert_eq!((&done["total_tenants"], &done["successful_optimizations"]), (&3.into(), &2.into()));
    let job = format!("/api/database/jobs/{}", done["job_id"].as_str().unwrap());
    assert_eq!(running.get(&job, Some(&admin)).await.json()["finished"], true);
    assert_eq!(running.get(&job, Some(&running.of_tenant("acme"))).await.status, 404, "not its own alone");
    assert_eq!(running.get("/api/database/jobs/0123456789abcdef", Some(&admin)).await.status, 404);

    let request = String::from_utf8(json_request("POST", path, &json!({}), &admin)).unwrap();
    let request = request.replace("\r\nHost", "\r\nAccept: text/event-stream\r\nHost");
    let streamed = send(running.companion.api_address.unwrap(), request.as_bytes()).await.body;
    assert_eq!(streamed.matches("event: progress").count(), 3, "{streamed}");
    assert!(streamed.contains("event: result") && streamed.contains("\"successful_optimizations\":2"));
}

async fn a_tenant_that_goes_takes_its_pool_and_its_statements_along(store: Store) {
    let places = Places::new();
    let running = places.start(store, true).await;
    give(&running, "acme", &places.url).await;
    let acme = TenantId::new("acme").unwrap();
    let databases = running.companion.databases();
    let lease = databases.lend(&acme, None).await.unwrap();
    lease.query("SELECT pg_sleep(0.2)", &[]).await.unwrap();
    eventually(async || !running.rows("SELECT 1 FROM database_performance_logs").await.is_empty()).await;
    drop(lease);
    let status = running.get("/monitoring/database/status", Some(&running.admin())).await.json();
    // The watch may have one of its own.
    assert_eq!(status["tenants"]["pools"], 1, "{status}");
    assert!(status["tenants"]["connections"].as_u64().unwrap() >= 1, "{status}");
    let text = running.get("/metrics", Some(&running.admin())).await.body;
    assert!(text.contains("portcullis_pool_tenant_usage_ratio{tenant=\"acme\"} "), "{text}");
    assert_eq!(running.send_json("DELETE", "/api/tenants/acme", &running.admin(), "").await.status, 200);
    assert!(databases.pools().tenants().is_empty());
    assert!(running.rows("SELECT 1 FROM database_performance_logs").await.is_empty());

    // One that another companion adds is found by itself.
    give(&running, "globex", &places.url).await;
    eventually(async || databases.pools().tenants() == ["globex"]).await;
    running.execute("UPDATE tenants SET database_url_sealed = NULL").await;
    eventually(async || databases.pools().tenants().is_empty()).await;
}

on_each_store![
    a_tenants_database_has_figures_slow_statements_and_advice,
    a_statement_that_has_become_slower_is_told_with_its_plan,
    what_a_slow_statement_of_a_file_does_is_told,
    what_hinders_is_told_with_a_remedy,
    all_are_looked_through_and_progress_is_streamed,
    a_tenant_that_goes_takes_its_pool_and_its_statements_along,
];
