//! Business metrics: what a statement gives, why it gives nothing, and what no statement may do.

use std::sync::atomic::{AtomicUsize, Ordering};

use portcullis_server::tenant::TenantId;
use serde_json::{Value, json};

use crate::support::{Running, Store, eventually, on_each_store, tenant_database};

const PATH: &str = "/api/tenants/acme/business-metrics";

/// A companion, a tenant `acme` with a database of its own, and a role that may read `orders` there.
struct Shop {
    running: Running,
    role: String,
    url: String,
    files: tempfile::TempDir,
}

impl Shop {
    async fn open(store: Store) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("shop_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (url, sockets) = tenant_database(&name);
        let files = tempfile::tempdir().unwrap();
        let folder = files.path().to_owned();
        let running = Running::started_with(store, move |settings| {
            settings.databases.sockets = vec![sockets];
            settings.databases.sqlite = Some(folder);
        })
        .await;
        let shop = Self { running, role: format!("{name}_reader"), url, files };
        shop.give("acme", &shop.url).await;
        // Roles are the whole server's.
        let role = &shop.role;
        shop.execute(&format!(
            "CREATE ROLE {role} NOLOGIN; CREATE TABLE orders (id int PRIMARY KEY, tenant text, price numeric, note text); \
             INSERT INTO orders SELECT g, CASE WHEN g % 4 = 0 THEN 'globex' ELSE 'acme' END, g, 'x' FROM generate_series(1, 100) g; \
             GRANT SELECT ON orders TO {role}; CREATE TABLE hidden (a int); \
             CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO orders (id) VALUES (1000) RETURNING 1'; \
             CREATE VIEW writing AS SELECT writes() AS a; CREATE VIEW waiting AS SELECT 1 AS a FROM pg_sleep(20); \
             GRANT SELECT ON writing, waiting TO {role}; GRANT INSERT ON orders TO {role}"
        ))
        .await;
        shop
    }

    async fn give(&self, tenant: &str, url: &str) {
        let body = json!({"database_url": url}).to_string();
        let path = format!("/api/tenants/{tenant}");
        let answer = self.running.send_json("PUT", &path, &self.running.admin(), &body).await;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
    }

    async fn execute(&self, sql: &str) {
        let lease =
            self.running.companion.databases().lend(&TenantId::new("acme").unwrap(), None).await.unwrap();
        lease.client().unwrap().batch_execute(sql).await.unwrap();
    }

    async fn declare(&self, path: &str, name: &str, body: &Value) -> (u16, Value) {
        let path = format!("{path}/{name}");
        let answer = self.running.send_json("PUT", &path, &self.running.admin(), &body.to_string()).await;
        (answer.status, answer.json())
    }

    /// Declares, and waits for the first run.
    async fn measured(&self, path: &str, name: &str, statement: &str, limit_ms: u32) -> Value {
        let body = json!({"unit": "orders", "statement": statement, "role": self.role, "interval_seconds": 10, "time_limit_ms": limit_ms});
        let (status, answer) = self.declare(path, name, &body).await;
        assert!(matches!(status, 200 | 201), "{answer}");
        let one = format!("{path}/{name}");
        let read = async || self.running.get(&one, Some(&self.running.admin())).await.json();
        eventually(async || read().await["measured_at"] != Value::Null).await;
        read().await
    }
}

async fn a_declared_number_is_measured_and_shown(store: Store) {
    let shop = Shop::open(store).await;
    let admin = shop.running.admin();
    let first = shop.measured(PATH, "revenue", "SELECT coalesce(sum(price), 0) FROM orders", 2000).await;
    assert_eq!(
        (&first["value"], &first["problem"], &first["unit"]),
        (&5050.0.into(), &Value::Null, &"orders".into())
    );
    let average = shop.measured(PATH, "average", "SELECT avg(price)::numeric(6, 1) FROM orders", 2000).await;
    assert_eq!(average["value"], 50.5);
    let list = shop.running.get(PATH, Some(&admin)).await.json();
    assert_eq!(
        (&list["count"], &list["business_metrics"][1]["value"]),
        (&2.into(), &5050.0.into()),
        "{list}"
    );
    let text = shop.running.get("/metrics", Some(&admin)).await.body;
    assert!(
        text.contains("portcullis_business_metric{tenant=\"acme\",name=\"revenue\",unit=\"orders\"} 5050\n"),
        "{text}"
    );
    assert!(text.contains("portcullis_business_metrics_failing 0\n"));

    // A change is measured anew, at once; and again when its interval is over.
    let changed = shop.measured(PATH, "revenue", "SELECT count(*) FROM orders", 2000).await;
    assert_eq!((&changed["value"], changed["history"].as_array().unwrap().len()), (&100.0.into(), 1));
    shop.execute("DELETE FROM orders WHERE id > 90").await;
    let one = format!("{PATH}/revenue");
    let again = async || shop.running.get(&one, Some(&admin)).await.json();
    eventually(async || again().await["value"] == 90.0).await;
    assert_eq!(again().await["history"].as_array().unwrap().len(), 2);

    // It is for administrators, and goes when it is told to, or with its tenant.
    for method in ["GET", "PUT", "DELETE"] {
        let of_tenant = shop.running.of_tenant("acme");
        assert_eq!(shop.running.send_json(method, &one, &of_tenant, "{}").await.status, 403, "{method}");
    }
    assert_eq!(shop.running.send_json("DELETE", &one, &admin, "").await.status, 200);
    assert_eq!(shop.running.get(&one, Some(&admin)).await.status, 404);
    assert_eq!(shop.running.send_json("DELETE", "/api/tenants/acme", &admin, "").await.status, 200);
    assert!(shop.running.rows("SELECT 1 FROM business_metrics").await.is_empty());
    eventually(async || {
        !shop.running.get("/metrics", Some(&admin)).await.body.contains("metric{tenant=\"acme\"")
    })
    .await;
}

async fn what_gives_no_number_says_why(store: Store) {
    let shop = Shop::open(store).await;
    for (name, statement, said) in [
        ("rows", "SELECT id FROM orders", "more than one row"),
        (
            "huge",
            "SELECT count(a.id) FROM orders a, orders b, orders c, orders d, orders e, orders f",
            "time limit",
        ),
        ("columns", "SELECT id, price FROM orders LIMIT 1", "columns"),
        ("text", "SELECT note FROM orders LIMIT 1", "no number"),
        ("nothing", "SELECT sum(price) FROM orders WHERE id > 5000", "coalesce"),
        ("none", "SELECT id FROM orders WHERE id > 5000", "no row"),
        ("infinite", "SELECT 'NaN'::float8", "no finite number"),
        ("absent", "SELECT count(*) FROM absent", "does not exist"),
        ("hidden", "SELECT count(*) FROM hidden", "permission denied"),
        // What the reader cannot see, the database refuses.
        ("writing", "SELECT a FROM writing", "read-only transaction"),
        ("waiting", "SELECT a FROM waiting", "time limit"),
    ] {
        let found = shop.measured(PATH, name, statement, 300).await;
        assert_eq!(found["value"], Value::Null, "{found}");
        assert!(found["problem"].as_str().unwrap().contains(said), "{statement}: {found}");
    }
    let admin = shop.running.admin();
    let text = shop.running.get("/metrics", Some(&admin)).await.body;
    assert!(text.contains("portcullis_business_metrics_failing 11\n"), "{text}");
    assert!(!text.contains("portcullis_business_metric{tenant=\"acme\""), "a failure is no number");

    for (role, said) in [("portcullis", "superuser"), ("nobody_of_this_name", "CREATE ROLE")] {
        let body = json!({"unit": "x", "statement": "SELECT count(*) FROM orders", "role": role});
        assert_eq!(shop.declare(PATH, role, &body).await.0, 201);
        let one = format!("{PATH}/{role}");
        let problem = async || shop.running.get(&one, Some(&admin)).await.json()["problem"].to_string();
        eventually(async || problem().await.contains(said)).await;
    }
    // A tenant without a database.
    shop.running.add_tenant("globex").await;
    let none = shop.measured("/api/tenants/globex/business-metrics", "a", "SELECT 1", 300).await;
    assert!(none["problem"].as_str().unwrap().contains("database_url"), "{none}");
}

async fn a_statement_that_is_more_than_a_question_is_not_taken(store: Store) {
    let shop = Shop::open(store).await;
    for statement in [
        "DELETE FROM orders",
        "SELECT 1; DROP TABLE orders",
        "COPY orders TO '/tmp/x'",
        "COPY orders TO PROGRAM 'id'",
        "SELECT * INTO stolen FROM orders",
        "SELECT count(*) FROM orders FOR UPDATE",
        "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT count(*) FROM gone",
        "SELECT pg_sleep(60)",
        "SELECT set_config('role', 'portcullis', false)::int",
        "SELECT pg_terminate_backend(pg_backend_pid())::int",
        "SELECT writes()",
        "SELECT count(*) FROM generate_series(1, 1000000000)",
        "SELECT length(pg_read_file('/etc/passwd'))",
        "RESET ROLE",
        "COMMIT",
        "",
    ] {
        let (status, answer) =
            shop.declare(PATH, "hostile", &json!({"unit": "x", "statement": statement})).await;
        assert_eq!(status, 422, "{statement}: {answer}");
        assert!(answer["detail"].as_str().unwrap().starts_with("statement: "), "{answer}");
    }
    for (field, value) in [
        ("unit", json!("a\"b")),
        ("unit", json!("")),
        ("role", json!("a; DROP")),
        ("interval_seconds", json!(9)),
        ("time_limit_ms", json!(30_001)),
    ] {
        let mut body = json!({"unit": "x", "statement": "SELECT 1"});
        body[field] = value;
        let (status, answer) = shop.declare(PATH, "hostile", &body).await;
        assert!(status == 422 && answer["detail"].as_str().unwrap().starts_with(field), "{answer}");
    }
    assert_eq!(shop.declare(PATH, "Upper", &json!({"unit": "x", "statement": "SELECT 1"})).await.0, 400);
    // Not more than a tenant may have.
    for number in 0..20 {
        let (status, answer) =
            shop.declare(PATH, &format!("m{number}"), &json!({"unit": "x", "statement": "SELECT 1"})).await;
        assert_eq!(status, 201, "{answer}");
    }
    assert_eq!(shop.declare(PATH, "m20", &json!({"unit": "x", "statement": "SELECT 1"})).await.0, 409);
    assert_eq!(shop.declare(PATH, "m19", &json!({"unit": "x", "statement": "SELECT 2"})).await.0, 200);
}

async fn each_tenant_counts_its_own(store: Store) {
    let shop = Shop::open(store).await;
    shop.execute(
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY own ON orders USING (tenant = current_setting('portcullis.tenant_id'))",
    )
    .await;
    // Tenants that share a database.
    shop.give("globex", &shop.url).await;
    let count = "SELECT count(*) FROM orders";
    assert_eq!(shop.measured(PATH, "orders", count, 2000).await["value"], 75.0);
    let globex = "/api/tenants/globex/business-metrics";
    assert_eq!(shop.measured(globex, "orders", count, 2000).await["value"], 25.0);

    // And one with a file.
    let file = rusqlite::Connection::open(shop.files.path().join("initech.db")).unwrap();
    file.execute_batch(
        "CREATE TABLE visits (at TEXT); INSERT INTO visits VALUES (datetime('now')), ('2001-01-01')",
    )
    .unwrap();
    shop.give("initech", "sqlite:initech.db").await;
    let today = "SELECT count(*) FROM visits WHERE at > datetime('now', '-1 day')";
    assert_eq!(
        shop.measured("/api/tenants/initech/business-metrics", "today", today, 2000).await["value"],
        1.0
    );
}

on_each_store![
    a_declared_number_is_measured_and_shown,
    what_gives_no_number_says_why,
    a_statement_that_is_more_than_a_question_is_not_taken,
    each_tenant_counts_its_own,
];
