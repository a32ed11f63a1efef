//! What is kept is what would be answered, whatever others do: at random, at the same time, and in files.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use portcullis_database::cache::{Context, Refusal};
use portcullis_database::pool::target::Rules;
use portcullis_database::pool::{Pools, Read, Shape};
use proptest::prelude::*;
use rusqlite::types::Value;
use tokio::time::{Instant, sleep};

use crate::cache::{LONG, counts, plain, refused, shop};
use crate::{beside, tls};

/// What a random client does.
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Write(usize, usize),
    Begin(usize),
    Commit(usize),
    Rollback(usize),
    Leave(usize),
}

const READS: [&str; 4] = [
    "SELECT string_agg(id::text || note, ',' ORDER BY id) FROM orders",
    "SELECT count(*)::text FROM clients",
    "SELECT string_agg(n, ',' ORDER BY n) FROM (SELECT name || count(o.id)::text AS n FROM clients c LEFT JOIN orders o ON o.client = c.id GROUP BY name) x",
    "SELECT total::text FROM totals",
];
const WRITES: [&str; 6] = [
    "INSERT INTO orders SELECT coalesce(max(id), 0) + 1, 2, 'n' FROM orders",
    "UPDATE orders SET note = note || '!' WHERE id = 2",
    "DELETE FROM orders WHERE id = (SELECT max(id) FROM orders)",
    "INSERT INTO clients VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET name = clients.name || '+'",
    "DELETE FROM clients WHERE id = 1",
    "WITH x AS (UPDATE orders SET note = 'w' WHERE id = 1 RETURNING id) SELECT count(*) FROM x",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = 0..2_usize;
    let step = prop_oneof![
        6 => (0..READS.len()).prop_map(Step::Read),
        4 => (session.clone(), 0..WRITES.len()).prop_map(|(session, write)| Step::Write(session, write)),
        1 => session.clone().prop_map(Step::Begin),
        1 => session.clone().prop_map(Step::Commit),
        1 => session.clone().prop_map(Step::Rollback),
        1 => session.prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 1..60)
}

#[test]
fn what_is_kept_is_what_would_be_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (pools, url) = runtime.block_on(shop(
        "same",
        "CREATE TABLE clients (id int PRIMARY KEY, name text);
         CREATE TABLE orders (id int PRIMARY KEY, client int REFERENCES clients ON DELETE CASCADE, note text);
         CREATE VIEW totals AS SELECT count(*) AS total FROM orders;
         INSERT INTO clients VALUES (1, 'a'), (2, 'b'); INSERT INTO orders VALUES (1, 1, 'x'), (2, 2, 'y')",
    ));
    let direct = runtime.block_on(beside(&url));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let done = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let mut leases = [None, None];
            for step in steps {
                match step {
                    Step::Read(read) => {
                        let kept = plain(&pools, READS[read]).await;
                        let row = direct.query_one(READS[read], &[]).await.unwrap();
                        prop_assert_eq!(kept, row.get::<_, Option<String>>(0).unwrap_or_default());
                    }
                    Step::Leave(session) => leases[session] = None,
                    Step::Write(session, _)
                    | Step::Begin(session)
                    | Step::Commit(session)
                    | Step::Rollback(session) => {
                        let sql = match step {
                            Step::Write(_, write) => WRITES[write],
                            Step::Begin(_) => "BEGIN",
                            Step::Commit(_) => "COMMIT",
                            _ => "ROLLBACK",
                        };
                        if leases[session].is_none() {
                            let lease = pools.lend("acme", None).await.unwrap();
                            // Two who wait for one another's rows would stop this test.
                            lease.query("SET lock_timeout = '50ms'", &[]).await.unwrap();
                            leases[session] = Some(lease);
                        }
                        // It may fail: in a failed transaction, or for a lock.
                        let _ = leases[session].as_ref().unwrap().query(sql, &[]).await;
                    }
                }
            }
            Ok(())
        })
    });
    done.unwrap();
    let figures = pools.cached();
    assert!(figures.hits > 10 && figures.misses > 10, "{figures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_never_older_than_what_was_acknowledged() {
    let (pools, _url) = shop("ordered", "CREATE TABLE t (n bigint); INSERT INTO t VALUES (0)").await;
    let acknowledged = Arc::new(AtomicI64::new(0));
    let until = Instant::now() + Duration::from_secs(2);
    let writer = tokio::spawn({
        let (pools, acknowledged) = (pools.clone(), Arc::clone(&acknowledged));
        async move {
            while Instant::now() < until {
                let lease = pools.lend("acme", None).await.unwrap();
                let rows = lease.query("UPDATE t SET n = n + 1 RETURNING n", &[]).await.unwrap();
                acknowledged.store(rows[0].get(0), Ordering::SeqCst);
                drop(lease);
                sleep(Duration::from_millis(7)).await;
            }
        }
    });
    let readers = (0..4).map(|_| {
        let (pools, acknowledged) = (pools.clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let mut last = 0;
            while Instant::now() < until {
                let before = acknowledged.load(Ordering::SeqCst);
                let context = Context::default();
                let read = Read { context: &context, sql: "SELECT n FROM t", values: &[] };
                let seen: i64 = pools.read("acme", read, None).await.unwrap()[0].get(0);
                assert!(seen >= before && seen >= last, "{seen} after {before} and {last}");
                last = seen;
                tokio::task::yield_now().await;
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    writer.await.unwrap();
    let (hits, misses) = counts(&pools);
    assert!(hits > 0 && misses > 0, "{hits} {misses}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_s_own_counter_tells_of_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acme.db");
    let others = rusqlite::Connection::open(&path).unwrap();
    others
        .execute_batch(
            "PRAGMA journal_mode = wal; CREATE TABLE t (a INTEGER PRIMARY KEY, b); CREATE VIEW dice AS SELECT random() AS r;
             CREATE VIEW fine AS SELECT max(a) AS m FROM t; INSERT INTO t VALUES (1, 'x')",
        )
        .unwrap();
    let rules = Rules { sqlite: Some(folder.path().into()), ..Rules::default() };
    let shape = Shape { cache: LONG, ..Shape::default() };
    let (pools, _slow) = Pools::new(shape, rules, tls(), Instant::now().into_std());
    pools.put("acme", "sqlite:acme.db").unwrap();
    let ask = async |sql: &str, values: &[Value]| {
        pools.read_file("acme", sql, values, None).await.unwrap()[0][0].clone()
    };
    let count = "SELECT count(*) FROM t WHERE a >= ?1";
    for _ in 0..3 {
        assert_eq!(ask(count, &[Value::Integer(0)]).await, Value::Integer(1));
    }
    assert_eq!(counts(&pools), (2, 1));
    for (value, name) in
        [(Value::Integer(1), "integer"), (Value::Text("1".into()), "text"), (Value::Null, "null")]
    {
        assert_eq!(ask("SELECT typeof(?1)", &[value]).await, Value::Text(name.into()));
    }
    // By another connection; through the pools, with and without an end; by a statement that SQLite counts no rows of.
    others.execute("INSERT INTO t VALUES (2, 'y')", []).unwrap();
    assert_eq!(ask(count, &[Value::Integer(0)]).await, Value::Integer(2));
    let lease = pools.lend("acme", None).await.unwrap();
    lease.run("BEGIN", |file| Ok((file.execute_batch("BEGIN; DELETE FROM t")?, 0))).await.unwrap();
    assert_eq!(ask(count, &[Value::Integer(0)]).await, Value::Integer(2));
    lease.run("ROLLBACK", |file| Ok((file.execute_batch("ROLLBACK; DELETE FROM t")?, 0))).await.unwrap();
    assert_eq!(ask(count, &[Value::Integer(0)]).await, Value::Integer(0));
    drop(lease);
    for (sql, why) in [
        ("SELECT random()", Refusal::Volatile),
        ("SELECT r FROM dice", Refusal::Volatile),
        ("SELECT date('now')", Refusal::Time),
        ("SELECT datetime()", Refusal::Time),
        ("SELECT CURRENT_TIMESTAMP", Refusal::Time),
        ("SELECT last_insert_rowid()", Refusal::Volatile),
        ("SELECT count(*) FROM sqlite_schema", Refusal::Catalog),
    ] {
        let before = refused(&pools, why);
        ask(sql, &[]).await;
        assert_eq!(refused(&pools, why), before + 1, "{sql}");
    }
    let before = counts(&pools).0;
    ask("SELECT m, lower('A') FROM fine", &[]).await;
    ask("SELECT m, lower('A') FROM fine", &[]).await;
    assert_eq!(counts(&pools).0, before + 1);
    let error = pools.read_file("acme", "DELETE FROM t", &[], None).await.unwrap_err().to_string();
    assert!(error.contains("readonly"), "{error}");
}
