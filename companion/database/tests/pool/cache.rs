//! The cache on a real server: what is kept, for whom, and until when.

use std::time::Duration;

use portcullis_database::cache::{self, Context, Limits, Refusal};
use portcullis_database::pool::{Pools, Read, Shape};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{ToSql, Type};

use crate::{SOON, beside, database, pools};

/// An hour: whatever is found again was kept on purpose.
pub const LONG: Limits = Limits { bytes: 8 << 20, life: Duration::from_secs(3600) };

pub async fn shop(name: &str, schema: &str) -> (Pools, String) {
    let url = database(name);
    beside(&url).await.batch_execute(schema).await.unwrap();
    let (pools, _slow) = pools(Shape { cache: LONG, ..Shape::default() }, &url);
    pools.put("acme", &url).unwrap();
    (pools, url)
}

/// The first column of the first row, as text.
async fn ask(pools: &Pools, context: &Context, sql: &str) -> String {
    let rows = pools.read("acme", Read { context, sql, values: &[] }, None).await.unwrap();
    rows.first().and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default()
}

pub async fn plain(pools: &Pools, sql: &str) -> String {
    ask(pools, &Context::default(), sql).await
}

async fn run(pools: &Pools, sql: &str) {
    pools.lend("acme", None).await.unwrap().query(sql, &[]).await.unwrap();
}

pub fn counts(pools: &Pools) -> (u64, u64) {
    let figures = pools.cached();
    (figures.hits, figures.misses)
}

pub fn refused(pools: &Pools, why: Refusal) -> u64 {
    pools.cached().refused.into_iter().find(|(one, _)| *one == why).unwrap().1
}

const ORDERS: &str = "CREATE TABLE clients (id int PRIMARY KEY, name text);
    CREATE TABLE orders (id int PRIMARY KEY, client int REFERENCES clients ON DELETE CASCADE, note text);
    CREATE TABLE other (id int);
    INSERT INTO clients VALUES (1, 'a'), (2, 'b'); INSERT INTO orders VALUES (1, 1, 'x'), (2, 2, 'y')";
const COUNT: &str = "SELECT count(*)::text FROM orders";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_and_what_is_not_is_kept() {
    let (pools, _url) = shop("kept", ORDERS).await;
    for _ in 0..3 {
        assert_eq!(plain(&pools, COUNT).await, "2");
    }
    assert_eq!(counts(&pools), (2, 1));
    run(&pools, "INSERT INTO other VALUES (1)").await;
    assert_eq!(plain(&pools, COUNT).await, "2");
    assert_eq!(counts(&pools), (3, 1), "another table");
    run(&pools, "INSERT INTO orders VALUES (3, 1, 'z')").await;
    assert_eq!(plain(&pools, COUNT).await, "3");
    // A key that cascades.
    run(&pools, "DELETE FROM clients WHERE id = 1").await;
    assert_eq!(plain(&pools, COUNT).await, "1");
    assert_eq!(counts(&pools), (3, 3));

    // What is rolled back was never there; while it is open nobody is served from memory.
    let lease = pools.lend("acme", None).await.unwrap();
    lease.query("BEGIN", &[]).await.unwrap();
    lease.query("DELETE FROM orders", &[]).await.unwrap();
    assert_eq!(plain(&pools, COUNT).await, "1");
    assert_eq!(refused(&pools, Refusal::Changing), 1);
    lease.query("ROLLBACK", &[]).await.unwrap();
    assert_eq!(plain(&pools, COUNT).await, "1");
    lease.query("BEGIN", &[]).await.unwrap();
    lease.query("DELETE FROM orders", &[]).await.unwrap();
    lease.query("COMMIT", &[]).await.unwrap();
    assert_eq!(plain(&pools, COUNT).await, "0");
    // Who leaves a transaction open loses it, and the cache is right again.
    lease.query("BEGIN", &[]).await.unwrap();
    lease.query("INSERT INTO clients VALUES (9, 'z')", &[]).await.unwrap();
    drop(lease);
    let names = "SELECT string_agg(name, ',' ORDER BY name) FROM clients";
    let before = counts(&pools).0;
    timeout(SOON, async {
        while counts(&pools).0 == before {
            assert_eq!(plain(&pools, names).await, "b");
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is kept again");
    // What nobody sees may be anything, until its connection is back.
    let lease = pools.lend("acme", None).await.unwrap();
    lease.client().unwrap().batch_execute("INSERT INTO clients VALUES (9, 'z')").await.unwrap();
    assert_eq!(plain(&pools, names).await, "b,z");
    lease.client().unwrap().batch_execute("DELETE FROM clients WHERE id = 9").await.unwrap();
    assert_eq!(plain(&pools, names).await, "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_below_a_view_and_behind_a_trigger_counts() {
    let (pools, _url) = shop(
        "below",
        "CREATE TABLE base (a int); CREATE VIEW v AS SELECT count(*) AS n FROM base; CREATE VIEW w AS SELECT n FROM v;
         CREATE TABLE log (a int); CREATE TABLE source (a int); CREATE TABLE plain_one (a int);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (1); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT ON source FOR EACH STATEMENT EXECUTE FUNCTION note();
         CREATE TABLE parts (a int) PARTITION BY RANGE (a); CREATE TABLE part_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE VIEW moment AS SELECT now() AS at; CREATE SEQUENCE numbers",
    )
    .await;
    for (read, write) in [
        ("SELECT n::text FROM w", "INSERT INTO base VALUES (1)"),
        ("SELECT count(*)::text FROM log", "INSERT INTO source VALUES (1)"),
        ("SELECT count(*)::text FROM parts", "INSERT INTO part_low VALUES (1)"),
        ("SELECT count(*)::text FROM part_low", "INSERT INTO parts VALUES (2)"),
        ("SELECT count(*)::text FROM plain_one", "SELECT 1 FROM plain_one, LATERAL (SELECT 1) x; -- nothing"),
    ] {
        let before = plain(&pools, read).await;
        assert_eq!(plain(&pools, read).await, before);
        run(&pools, write.split(';').next().unwrap()).await;
        let after: u64 = plain(&pools, read).await.parse().unwrap();
        let grows = u64::from(write.starts_with("INSERT"));
        assert_eq!(after, before.parse::<u64>().unwrap() + grows, "{read}");
    }
    // A view is judged by what it says.
    plain(&pools, "SELECT at::text FROM moment").await;
    assert_eq!(refused(&pools, Refusal::Session) + refused(&pools, Refusal::Time), 1);
    plain(&pools, "SELECT last_value::text FROM numbers").await;
    assert_eq!(refused(&pools, Refusal::Foreign), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gives_another_answer_each_time_is_asked_each_time() {
    let (pools, url) = shop(
        "volatile",
        "CREATE TABLE t (a int, note text, born date); INSERT INTO t VALUES (1, 'x', '2000-01-01');
         CREATE FUNCTION mine() RETURNS text LANGUAGE sql AS 'SELECT random()::text';
         CREATE FUNCTION steady(int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1::text';
         CREATE FUNCTION hidden(t) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT random()::text'",
    )
    .await;
    for (sql, why) in [
        ("SELECT random()::text", Refusal::Volatile),
        ("SELECT clock_timestamp()::text", Refusal::Volatile),
        ("SELECT mine()", Refusal::Volatile),
        ("SELECT t.hidden FROM t", Refusal::Volatile),
        ("SELECT \"hidden\"(t) FROM t", Refusal::Volatile),
        ("SELECT now()::text", Refusal::Session),
        ("SELECT age(born)::text FROM t", Refusal::Session),
        ("SELECT current_setting('application_name')", Refusal::Session),
        ("SELECT current_user::text", Refusal::Session),
        ("SELECT current_date::text", Refusal::Time),
        ("SELECT ('now'::timestamp)::text", Refusal::Time),
        ("SELECT pg_backend_pid()::text", Refusal::Catalog),
        ("SELECT relname::text FROM pg_class LIMIT 1", Refusal::Catalog),
        ("SELECT ctid::text FROM t", Refusal::Catalog),
    ] {
        let (before, (hits, _)) = (refused(&pools, why), counts(&pools));
        plain(&pools, sql).await;
        plain(&pools, sql).await;
        assert_eq!((refused(&pools, why), counts(&pools).0), (before + 2, hits), "{sql}");
    }
    // A text that is a moment may come as a parameter, too.
    let sql = "SELECT $1::text::timestamp::text";
    for (value, hits) in [("now", 0), ("2000-01-01", 1)] {
        let before = counts(&pools).0;
        for _ in 0..2 {
            let values: [(&(dyn ToSql + Sync), Type); 1] = [(&value, Type::TEXT)];
            pools
                .read("acme", Read { context: &Context::default(), sql, values: &values }, None)
                .await
                .unwrap();
        }
        assert_eq!(counts(&pools).0, before + hits, "{value}");
    }
    // Near misses.
    for sql in
        ["SELECT steady(1)", "SELECT lower(note) || to_char(born, 'YYYY') FROM t WHERE note <> 'nowhere'"]
    {
        let (hits, misses) = counts(&pools);
        assert_eq!(plain(&pools, sql).await, plain(&pools, sql).await);
        assert_eq!(counts(&pools), (hits + 1, misses + 1), "{sql}");
    }
    // A read changes nothing, whoever says that it is one.
    let read = Read { context: &Context::default(), sql: "DELETE FROM t", values: &[] };
    let error = pools.read("acme", read, None).await.unwrap_err().to_string();
    assert!(error.contains("read-only transaction"), "{error}");
    // An operator that may do anything is called without a name.
    beside(&url)
        .await
        .batch_execute(
            "CREATE FUNCTION any_of(text, text) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT random() < 0.5';
             CREATE OPERATOR %% (LEFTARG = text, RIGHTARG = text, FUNCTION = any_of)",
        )
        .await
        .unwrap();
    pools.invalidate("acme", &[]);
    let before = refused(&pools, Refusal::Volatile);
    plain(&pools, "SELECT (note %% 'a')::text FROM t").await;
    assert_eq!(refused(&pools, Refusal::Volatile), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_what_is_another_s() {
    let (pools, url) = shop(
        "whose",
        "CREATE ROLE whose_app; CREATE ROLE whose_other; CREATE TABLE secrets (owner text, what text);
         INSERT INTO secrets VALUES ('ann', 'of ann'), ('bob', 'of bob'); GRANT SELECT ON secrets TO whose_app;
         ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON secrets USING (owner = current_setting('app.user', true));
         CREATE SCHEMA s1; CREATE SCHEMA s2; CREATE TABLE s1.t AS SELECT 'one' AS a; CREATE TABLE s2.t AS SELECT 'two' AS a",
    )
    .await;
    let whose = |user: &str| Context::default().role("whose_app").setting("app.user", user).unwrap();
    let sql = "SELECT string_agg(what, ',' ORDER BY what) FROM secrets";
    for _ in 0..2 {
        assert_eq!(ask(&pools, &whose("ann"), sql).await, "of ann");
        assert_eq!(ask(&pools, &whose("bob"), sql).await, "of bob");
        assert_eq!(ask(&pools, &whose("' OR true --"), sql).await, "");
        assert_eq!(ask(&pools, &Context::default().role("whose_app"), sql).await, "");
        assert_eq!(plain(&pools, sql).await, "of ann,of bob", "the owner of the table");
        // A role without rights has none, though the answer lies there.
        let other = Context::default().role("whose_other").setting("app.user", "ann").unwrap();
        let denied = pools.read("acme", Read { context: &other, sql, values: &[] }, None).await.unwrap_err();
        assert!(denied.to_string().contains("permission denied"), "{denied}");
    }
    assert_eq!(counts(&pools), (5, 5));
    for _ in 0..2 {
        for (path, wanted) in [("s1", "one"), ("s2", "two")] {
            assert_eq!(
                ask(&pools, &Context::default().search_path(&[path]), "SELECT a FROM t").await,
                wanted
            );
        }
    }
    // Another tenant of the same database shares no answer, and sees what the first one changes.
    pools.put("globex", &url).unwrap();
    let (hits, misses) = counts(&pools);
    let read = Read { context: &whose("ann"), sql, values: &[] };
    let rows = pools.read("globex", read, None).await.unwrap();
    assert_eq!((rows[0].get::<_, &str>(0), counts(&pools)), ("of ann", (hits, misses + 1)));
    run(&pools, "UPDATE secrets SET what = 'new of ann' WHERE owner = 'ann'").await;
    let read = Read { context: &whose("ann"), sql, values: &[] };
    assert_eq!(pools.read("globex", read, None).await.unwrap()[0].get::<_, &str>(0), "new of ann");
    // A tenant that moves takes no answer along.
    let elsewhere = database("whose_moved");
    beside(&elsewhere).await.batch_execute("CREATE TABLE secrets (what text)").await.unwrap();
    pools.put("acme", &elsewhere).unwrap();
    assert_eq!(plain(&pools, sql).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_change_is_heard_or_told() {
    let (pools, url) = shop("heard", ORDERS).await;
    let others = beside(&url).await;
    assert_eq!(plain(&pools, COUNT).await, "2");
    others.batch_execute("INSERT INTO orders VALUES (3, 1, 'z')").await.unwrap();
    assert_eq!(plain(&pools, COUNT).await, "2", "nobody knows yet");
    assert!(pools.invalidate("acme", &["orders"]) && !pools.invalidate("nobody", &[]));
    assert_eq!(plain(&pools, COUNT).await, "3");

    others.batch_execute(&cache::TRIGGER.replace("{table}", "orders")).await.unwrap();
    let ear = pools.listen("acme").await.unwrap();
    assert_eq!(plain(&pools, COUNT).await, "3");
    others.batch_execute("INSERT INTO orders VALUES (4, 1, 'z')").await.unwrap();
    timeout(SOON, async {
        while plain(&pools, COUNT).await != "4" {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the trigger's word is heard");
    let before = counts(&pools).0;
    others.batch_execute("INSERT INTO other VALUES (4)").await.unwrap();
    plain(&pools, COUNT).await;
    assert_eq!(counts(&pools).0, before + 1, "our own trigger makes no table suspicious");
    // A lost ear: what it would have heard is unknown.
    let misses = counts(&pools).1;
    let pid: i32 = ear.connection().trim_start_matches("postgres:").parse().unwrap();
    others.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    timeout(SOON, async {
        while !ear.is_closed() || counts(&pools).1 == misses {
            assert_eq!(plain(&pools, COUNT).await, "4");
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is asked anew");
}
