//! Plans of indexes on a real server: approved, applied, watched, taken back; what a policy permits, what takes long, what harms, and
//! tenants that go meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_database::apply::Script;
use portcullis_database::catalog;
use portcullis_server::databases::Options;
use portcullis_server::storage::Statement;
use portcullis_server::tenant::TenantId;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, NoTls};

use crate::databases::{give, unique};
use crate::support::{Answer, Running, Store, eventually, on_each_store, tenant_database};

pub const TABLES: &str = "
    CREATE EXTENSION pg_stat_statements;
    CREATE TABLE orders (id int PRIMARY KEY, client int NOT NULL, note text NOT NULL);
    INSERT INTO orders SELECT g, 1 + g % 100, md5(g::text) FROM generate_series(1, 20000) g;
    ANALYZE";

pub const BUILDING: &str =
    "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";

/// One index is built at a time in a cluster, and all tests have the same one: a test that makes a build wait would make all others wait.
pub static BUILDS: Mutex<()> = Mutex::const_new(());

/// A tenant's database, and a companion that looks after it.
pub struct Shop {
    pub _builds: MutexGuard<'static, ()>,
    pub running: Running,
    pub client: Client,
    pub url: String,
    pub sockets: PathBuf,
}

impl Shop {
    async fn new(store: Store, tables: &str) -> Self {
        let shop = Self::with(store, tables, |_| ()).await;
        give(&shop.running, "acme", &shop.url).await;
        shop
    }

    /// With settings that a test has changed; the address is not given yet.
    pub async fn with(store: Store, tables: &str, change: impl FnOnce(&mut Options)) -> Self {
        let builds = BUILDS.lock().await;
        let (url, sockets) = tenant_database(&unique("plans"));
        let client = connect(&url).await;
        client.batch_execute(tables).await.unwrap();
        let folder = sockets.clone();
        let running = Running::started_with(store, |settings| {
            let databases = &mut settings.databases;
            databases.sockets = vec![folder];
            databases.observe = Duration::from_secs(3);
            change(databases);
        })
        .await;
        running.add_tenant("acme").await;
        Self { _builds: builds, running, client, url, sockets }
    }

    /// Statements that want an index on `note`, and one on `client` if it is asked for.
    pub async fn used(&self) {
        for number in 1..30 {
            let asked = "SELECT client FROM orders WHERE note = md5($1::int::text)";
            self.client.query(asked, &[&number]).await.unwrap();
        }
    }

    pub async fn post(&self, path: &str) -> Answer {
        self.running.post(path, &json!({}), &self.running.admin()).await
    }

    pub async fn act(&self, plan: &str, what: &str) -> Answer {
        self.post(&format!("/api/database/plans/acme/{plan}/{what}")).await
    }

    async fn optimized(&self) -> Value {
        let answer = self.post("/api/database/optimize/acme").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    pub async fn plan(&self, id: &str) -> Value {
        let answer =
            self.running.get("/api/database/plans/acme", Some(&self.running.of_tenant("acme"))).await.json();
        let plans = answer["plans"].as_array().unwrap();
        plans.iter().find(|plan| plan["plan_id"] == id).unwrap_or_else(|| panic!("{id}: {answer}")).clone()
    }

    pub async fn until(&self, id: &str, state: &str) -> Value {
        for _ in 0..600 {
            let plan = self.plan(id).await;
            if plan["state"] == state {
                return plan;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not {state} within 30 s: {}", self.plan(id).await);
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Indexes beside primary keys, invalid ones included.
    pub async fn indexes(&self) -> i64 {
        let ours = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                    WHERE c.relnamespace = 'public'::regnamespace AND NOT indisprimary";
        self.number(ours).await
    }

    /// A plan that somebody else's advice has put into the store.
    pub async fn planned(&self, create: &str, index: &str, table: &str) -> String {
        let schema = catalog::load(&self.client).await.unwrap().fingerprint();
        let script = Script::read(&format!("-- schema: {schema}\n-- bytes: 8192\n{create};\n")).unwrap();
        let document = json!({"schema": schema, "timeline": [], "steps": [{
            "index": index, "table": table, "create": create, "drop": format!("DROP INDEX CONCURRENTLY {index}"),
            "kinds": ["btree"], "size_bytes": 8192, "built_bytes": null, "cost_before": 10.0, "cost_after": 1.0, "saves": 0.9,
            "write_tax": 0.5, "reasons": [], "confidence": {"by": "planner", "explanation": "", "interval": null},
            "not_permitted": null, "state": "planned", "reason": null}]});
        let enter = Statement::new(
            "INSERT INTO index_plans (tenant_id, plan_id, state, document, created_at, updated_at) \
             VALUES ('acme', ?1, 'planned', ?2, ?3, ?3)",
        );
        let enter = enter.bind(script.digest()).bind(document).bind(self.running.clock.now());
        self.running.beside().await.write(enter.into()).await.unwrap();
        script.digest()
    }

    pub async fn approved(&self, create: &str, index: &str, table: &str) -> String {
        let id = self.planned(create, index, table).await;
        assert_eq!(self.act(&id, "approve").await.status, 200);
        id
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn happened(plan: &Value) -> Vec<&str> {
    plan["timeline"].as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap()).collect()
}

async fn a_plan_is_approved_applied_observed_kept_and_taken_back(store: Store) {
    let shop = Shop::new(store, TABLES).await;
    shop.used().await;
    let done = shop.optimized().await;
    let (plan, id) = (&done["plans"][0], done["plans"][0]["plan_id"].as_str().unwrap());
    assert_eq!((&plan["state"], &done["plans"].as_array().unwrap().len()), (&json!("planned"), &1), "{done}");
    let step = &plan["steps"][0];
    assert!(step["create"].as_str().unwrap().contains("(note"), "{plan}");
    assert!(
        step["not_permitted"].as_str().unwrap().contains("auto_apply is off"),
        "advice alone by default: {plan}"
    );
    assert!(
        step["size_bytes"].as_u64().unwrap() > 100_000 && step["write_tax"].as_f64().unwrap() > 0.0,
        "{plan}"
    );
    assert!(step["cost_before"].as_f64().unwrap() > step["cost_after"].as_f64().unwrap(), "{plan}");
    assert_ne!(
        step["confidence"]["by"], "measured",
        "nothing was built for proof on a tenant's server: {plan}"
    );
    assert_eq!((shop.indexes().await, happened(plan)), (0, vec!["planned"]));
    // Asked again, it is the same plan.
    assert_eq!(shop.optimized().await["plans"][0]["plan_id"], id);

    // Who may do what, and when.
    let own = shop.running.of_tenant("acme");
    for what in ["approve", "apply", "rollback"] {
        let path = format!("/api/database/plans/acme/{id}/{what}");
        assert_eq!(
            shop.running.post(&path, &json!({}), &own).await.status,
            403,
            "{what} is an administrator's"
        );
    }
    for (id, what, status, said) in [
        (id, "apply", 409, "approve it first"),
        (id, "rollback", 409, "nothing of it stands"),
        ("0123456789ab", "approve", 404, "no such plan"),
        ("nothing", "approve", 400, "12 hexadecimal digits"),
    ] {
        let answer = shop.act(id, what).await;
        assert!(answer.status == status && answer.body.contains(said), "{what}: {}", answer.body);
    }
    let approved = shop.act(id, "approve").await.json();
    assert_eq!((&approved["plan"]["state"], &approved["success"]), (&json!("approved"), &json!(true)));
    assert_eq!(shop.act(id, "approve").await.status, 409);

    let answer = shop.act(id, "apply").await;
    assert_eq!((answer.status, &answer.json()["success"]), (200, &json!(true)), "{}", answer.body);
    assert_eq!(shop.indexes().await, 1);
    // What is asked while it is watched is compared with what it took before.
    shop.used().await;
    let kept = shop.until(id, "kept").await;
    let confidence = &kept["steps"][0]["confidence"];
    assert_eq!(confidence["by"], "observed", "{kept}");
    let [low, share, high] =
        ["low", "share", "high"].map(|end| confidence["interval"][end].as_f64().unwrap());
    // Where a busy machine has stalled a call, the interval says so.
    assert!(low <= share && share <= high && low < 0.9, "an index on 20,000 rows is felt: {kept}");
    let expected = ["planned", "approved", "applying", "applied", "observed", "kept"];
    assert_eq!(happened(&kept), expected, "{kept}");
    assert!(kept["timeline"][1]["by"].as_str().unwrap().starts_with("administrator, token "), "{kept}");
    assert_eq!(kept["steps"][0]["state"], "kept");
    assert!(kept["steps"][0]["built_bytes"].as_i64().unwrap() > 100_000, "{kept}");

    let answer = shop.act(id, "rollback").await;
    assert_eq!((answer.status, &answer.json()["success"]), (200, &json!(true)), "{}", answer.body);
    assert_eq!((shop.indexes().await, &shop.plan(id).await["state"]), (0, &json!("rolled_back")));
    for (name, severity) in
        [("APPROVED", "INFO"), ("APPLIED", "INFO"), ("KEPT", "INFO"), ("ROLLED_BACK", "WARNING")]
    {
        let events = shop
            .running
            .events("acme", &format!("?event_type=DATABASE_PLAN_{name}&severity={severity}"))
            .await;
        assert_eq!((events.len(), &events[0]["details"]["plan"]), (1, &json!(id)), "{name}");
    }
    // What was taken back may be planned again.
    let again = shop.optimized().await;
    assert_eq!(happened(&again["plans"][0]).last(), Some(&"planned"), "{again}");
}

async fn what_the_policy_permits_is_applied_and_the_rest_waits(store: Store) {
    let shop = Shop::new(store, TABLES).await;
    shop.used().await;
    let policies = "/api/security/policies/acme";
    let own = shop.running.of_tenant("acme");
    let change = async |token: &str, database: Value| {
        shop.running
            .send_json("PUT", policies, token, &json!({"database": database}).to_string())
            .await
            .status
    };
    assert_eq!(change(&own, json!({"auto_apply": true})).await, 403, "the tenant does not decide that");
    assert_eq!(
        change(
            &shop.running.admin(),
            json!({"auto_apply": true, "window_start_hour": 13, "window_end_hour": 14})
        )
        .await,
        200
    );
    // It is 12 o'clock.
    let outside = shop.optimized().await;
    let refused = outside["plans"][0]["steps"][0]["not_permitted"].as_str().unwrap().to_owned();
    assert!(refused.contains("it is 12 o'clock UTC; the window is from 13 to 14"), "{outside}");
    assert_eq!(shop.indexes().await, 0);

    assert_eq!(change(&shop.running.admin(), json!({"window_start_hour": 12})).await, 200);
    let done = shop.optimized().await;
    assert_eq!((&done["optimization_success"], &done["problem"]), (&json!(true), &Value::Null), "{done}");
    let id = done["plans"][0]["plan_id"].as_str().unwrap();
    assert_eq!((shop.indexes().await, &done["plans"][0]["steps"][0]["not_permitted"]), (1, &Value::Null));
    let kept = shop.until(id, "kept").await;
    assert!(kept["timeline"].to_string().contains("the tenant's policy (database.auto_apply)"), "{kept}");

    // A second table: its index would be beyond the budget together with the first.
    shop.client
        .batch_execute("CREATE TABLE visits AS SELECT g AS id, md5(g::text) AS place FROM generate_series(1, 20000) g; ANALYZE")
        .await
        .unwrap();
    for number in 1..30 {
        shop.client
            .query("SELECT id FROM visits WHERE place = md5($1::int::text)", &[&number])
            .await
            .unwrap();
    }
    assert_eq!(change(&shop.running.admin(), json!({"budget_megabytes": 2})).await, 200);
    let done = shop.optimized().await;
    let step = &done["plans"][0]["steps"][0];
    assert!(step["table"].as_str().unwrap().contains("visits"), "{done}");
    assert!(step["not_permitted"].as_str().unwrap().contains("budget_megabytes is 2"), "{done}");
    assert_eq!((shop.indexes().await, &done["plans"][0]["state"]), (1, &json!("planned")));
}

async fn what_takes_long_is_a_job_and_may_be_withdrawn(store: Store) {
    let mut shop = Shop::new(store, TABLES).await;
    shop.running.companion.stop().await.unwrap();
    let (sockets, place) = (shop.sockets.clone(), shop.running.place.clone());
    // On the same store, with less patience than the 30 s of an operator.
    let impatient = Running::on(place, shop.running.clock.clone(), |settings| {
        settings.databases.sockets = vec![sockets];
        settings.databases.observe = Duration::from_secs(1);
        settings.databases.patience = Duration::from_millis(300);
    })
    .await;
    let folder = std::mem::replace(&mut shop.running.folder, tempfile::tempdir().unwrap());
    shop.running = impatient;
    let create = "CREATE INDEX CONCURRENTLY pc_client ON public.orders (client)";
    let id = shop.approved(create, "public.pc_client", "public.orders").await;
    let writer = connect(&shop.url).await;
    writer.batch_execute("BEGIN; UPDATE orders SET note = note WHERE id = 1").await.unwrap();
    let answer = shop.act(&id, "apply").await;
    let job = format!("/api/database/jobs/{}", answer.json()["job_id"].as_str().unwrap());
    assert_eq!((answer.status, &answer.json()["success"]), (202, &Value::Null), "{}", answer.body);
    let asked = async || shop.running.get(&job, Some(&shop.running.admin())).await;
    let far = asked().await;
    assert_eq!((far.status, &far.json()["finished"]), (202, &json!(false)), "{}", far.body);
    shop.until(&id, "applying").await;
    assert_eq!(shop.act(&id, "approve").await.status, 409);
    writer.batch_execute("COMMIT").await.unwrap();
    eventually(async || asked().await.status == 200).await;
    assert_eq!(asked().await.json()["optimization_results"], json!({"acme": true}));
    shop.until(&id, "kept").await;
    assert_eq!(shop.act(&id, "rollback").await.status / 100, 2);
    shop.until(&id, "rolled_back").await;

    // Taken back while it is built: the build is cancelled, and nothing is left of it.
    let create = "CREATE INDEX CONCURRENTLY pc_both ON public.orders (client, note)";
    let id = shop.approved(create, "public.pc_both", "public.orders").await;
    writer.batch_execute("BEGIN; UPDATE orders SET note = note WHERE id = 1").await.unwrap();
    assert_eq!(shop.act(&id, "apply").await.status, 202);
    eventually(async || shop.number(BUILDING).await > 0).await;
    let answer = shop.act(&id, "rollback").await;
    assert!([200, 202].contains(&answer.status), "{}", answer.body);
    // What it has begun can be dropped when the writer lets go.
    writer.batch_execute("COMMIT").await.unwrap();
    let plan = shop.until(&id, "rolled_back").await;
    assert!(plan["timeline"].to_string().contains("taken back by administrator"), "{plan}");
    assert_eq!(shop.indexes().await, 0);
    drop(folder);
}

/// Rows with `a = 1` are the last in the order of `b`: the planner expects them early, and reads everything in that order.
pub const MISLEADING: &str = "
    CREATE EXTENSION pg_stat_statements;
    SELECT setseed(0.1);
    CREATE TABLE h (id int PRIMARY KEY, a int NOT NULL, b float8 NOT NULL, c text NOT NULL);
    INSERT INTO h SELECT i, (r > 0.99)::int, r, repeat('x', 60) FROM (SELECT i, random() r FROM generate_series(1, 150000) i) x;
    ANALYZE h";
pub const MISLED: &str = "SELECT id FROM h WHERE a = 1 ORDER BY b LIMIT 1";

async fn an_index_that_harms_goes_within_a_minute_by_itself(store: Store) {
    let mut shop = Shop::new(store, MISLEADING).await;
    shop.running.companion.stop().await.unwrap();
    let (sockets, place) = (shop.sockets.clone(), shop.running.place.clone());
    let patient = Running::on(place, shop.running.clock.clone(), |settings| {
        settings.databases.sockets = vec![sockets];
        settings.databases.observe = Duration::from_secs(600);
    })
    .await;
    let folder = std::mem::replace(&mut shop.running.folder, tempfile::tempdir().unwrap());
    shop.running = patient;
    for _ in 0..8 {
        shop.client.simple_query(MISLED).await.unwrap();
    }
    let id = shop.approved("CREATE INDEX CONCURRENTLY pc_b ON public.h (b)", "public.pc_b", "public.h").await;
    let answer = shop.act(&id, "apply").await;
    assert_eq!(
        (answer.status, &answer.json()["plan"]["state"]),
        (200, &json!("observing")),
        "{}",
        answer.body
    );
    let begun = tokio::time::Instant::now();
    while shop.indexes().await > 0 {
        shop.client.simple_query(MISLED).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "it is there still");
    }
    // Nothing is left to be watched.
    let plan = shop.until(&id, "rolled_back").await;
    assert_eq!(plan["steps"][0]["state"], "dropped", "{plan}");
    assert!(plan["steps"][0]["reason"].as_str().unwrap().contains("pg_stat_statements: statement"), "{plan}");
    let told = async || shop.running.events("acme", "?event_type=DATABASE_PLAN_ROLLED_BACK").await;
    eventually(async || !told().await.is_empty()).await;
    let events = told().await;
    assert!(events[0]["details"]["detail"].as_str().unwrap().contains("ms since it was built"), "{events:?}");
    drop(folder);
}

async fn a_tenant_that_goes_meanwhile_leaves_nothing_half_applied(store: Store) {
    let shop = Shop::new(store, TABLES).await;
    let create = "CREATE INDEX CONCURRENTLY pc_client ON public.orders (client)";
    let id = shop.approved(create, "public.pc_client", "public.orders").await;
    let writer = connect(&shop.url).await;
    writer.batch_execute("BEGIN; UPDATE orders SET note = note WHERE id = 1").await.unwrap();
    let path = format!("/api/database/plans/acme/{id}/apply");
    let (token, body) = (shop.running.admin(), json!({}));
    let applied = shop.running.post(&path, &body, &token);
    let removed = async {
        eventually(async || shop.number(BUILDING).await > 0).await;
        let gone = shop.running.send_json("DELETE", "/api/tenants/acme", &token, "").await;
        assert_eq!(gone.status, 200, "{}", gone.body);
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (applied, ()) = tokio::join!(applied, removed);
    assert_eq!(
        (applied.status, &applied.json()["reason"]),
        (404, &json!("unknown-tenant")),
        "{}",
        applied.body
    );
    eventually(async || shop.indexes().await == 0).await;
    let open =
        "SELECT count(*) FROM portcullis_advisor.index_ledger WHERE state NOT IN ('dropped', 'failed')";
    eventually(async || shop.number(open).await == 0).await;
    assert!(shop.running.rows("SELECT plan_id FROM index_plans").await.is_empty());

    // The same before it could be looked through.
    shop.running.add_tenant("globex").await;
    give(&shop.running, "globex", &shop.url).await;
    let databases = shop.running.companion.databases();
    databases.pools().resize(1, 0);
    let lease = databases.lend(&TenantId::new("globex").unwrap(), None).await.unwrap();
    let looked = shop.running.post("/api/database/optimize/globex", &body, &token);
    let removed = async {
        eventually(async || databases.pools().statistics("globex").is_some_and(|pool| pool.waiting > 0))
            .await;
        assert_eq!(shop.running.send_json("DELETE", "/api/tenants/globex", &token, "").await.status, 200);
    };
    let (looked, ()) = tokio::join!(looked, removed);
    let looked = looked.json();
    assert!(looked["problem"].as_str().unwrap().contains("removed meanwhile"), "{looked}");
    assert_eq!((&looked["optimization_success"], &looked["plans"]), (&json!(false), &json!([])));
    drop(lease);
}

async fn a_companion_that_ends_leaves_the_rest_to_the_next(store: Store) {
    let shop = Shop::new(store, TABLES).await;
    let create = "CREATE INDEX CONCURRENTLY pc_client ON public.orders (client)";
    let id = shop.approved(create, "public.pc_client", "public.orders").await;
    let writer = connect(&shop.url).await;
    writer.batch_execute("BEGIN; UPDATE orders SET note = note WHERE id = 1").await.unwrap();
    let path = format!("/api/database/plans/acme/{id}/apply");
    let (token, body) = (shop.running.admin(), json!({}));
    let Shop { _builds, running, client, sockets, .. } = shop;
    let address = running.companion.api_address.unwrap();
    let request = crate::support::json_request("POST", &path, &body, &token);
    let asked = tokio::spawn(async move { crate::support::try_send(address, &request).await.map(|_| ()) });
    let building = async || -> i64 { client.query_one(BUILDING, &[]).await.unwrap().get(0) };
    eventually(async || building().await > 0).await;
    let Running { companion, place, folder, clock, .. } = running;
    companion.stop().await.unwrap();
    asked.abort();
    writer.batch_execute("COMMIT").await.unwrap();
    let next = Running::on(place, clock, |settings| {
        settings.databases.sockets = vec![sockets];
        settings.databases.observe = Duration::from_secs(1);
    })
    .await;
    let path = "/api/database/plans/acme";
    let plan = async || next.get(path, Some(&next.of_tenant("acme"))).await.json()["plans"][0].clone();
    eventually(async || plan().await["state"] == "kept").await;
    let plan = plan().await;
    let by: Vec<&str> =
        plan["timeline"].as_array().unwrap().iter().map(|entry| entry["by"].as_str().unwrap()).collect();
    assert!(by.contains(&"the companion"), "{plan}");
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'public.pc_client'::regclass";
    assert!(client.query_one(valid, &[]).await.unwrap().get::<_, bool>(0));
    drop(folder);
}

on_each_store![
    a_plan_is_approved_applied_observed_kept_and_taken_back,
    what_the_policy_permits_is_applied_and_the_rest_waits,
    what_takes_long_is_a_job_and_may_be_withdrawn,
    an_index_that_harms_goes_within_a_minute_by_itself,
    a_tenant_that_goes_meanwhile_leaves_nothing_half_applied,
    a_companion_that_ends_leaves_the_rest_to_the_next,
];
