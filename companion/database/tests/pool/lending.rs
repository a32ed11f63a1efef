//! Caps, fairness, dead connections, changes while others work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_database::pool::target::{Rules, TargetError};
use portcullis_database::pool::{PoolError, Pools, QueryError, Shape};
use portcullis_database::{monitor, pool};
use tokio::time::{Instant, sleep, timeout};

use crate::{SOON, beside, database, open_on_the_server, pools, tls};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_for_all_is_never_exceeded_and_everybody_is_served() {
    const TENANTS: usize = 40;
    const CAP: usize = 8;
    let urls: Vec<String> = (0..4).map(|number| database(&format!("cap{number}"))).collect();
    let shape = Shape { size: 4, overflow: 4, cap: CAP, wait: SOON, ..Shape::default() };
    let (pools, _slow) = pools(shape, &urls[0]);
    for tenant in 0..TENANTS {
        assert!(pools.put(&format!("t{tenant}"), &urls[tenant % urls.len()]).unwrap());
    }
    let observer = beside(&urls[0]).await;
    let stop = Arc::new(AtomicUsize::new(0));
    let watching = tokio::spawn({
        let (pools, stop) = (pools.clone(), Arc::clone(&stop));
        async move {
            let (mut ours, mut theirs) = (0, 0);
            while stop.load(Ordering::Relaxed) == 0 {
                ours = ours.max(pools.open().0);
                theirs = theirs.max(open_on_the_server(&observer, "cap%").await);
                sleep(Duration::from_millis(5)).await;
            }
            (ours, theirs)
        }
    });
    let work: Vec<_> = (0..TENANTS)
        .map(|tenant| {
            let pools = pools.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let lease = pools.lend(&format!("t{tenant}"), None).await.unwrap();
                    lease.query("SELECT pg_sleep(0.002)", &[]).await.unwrap();
                }
            })
        })
        .collect();
    for work in work {
        work.await.unwrap();
    }
    stop.store(1, Ordering::Relaxed);
    let (ours, theirs) = watching.await.unwrap();
    assert!((2..=CAP).contains(&ours), "{ours}");
    assert!((2..=i64::try_from(CAP).unwrap()).contains(&theirs), "{theirs}");
    assert!(pools.all().iter().all(|(_, pool)| pool.loans == 10 && pool.timeouts == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_noisy_neighbour_starves_nobody() {
    let url = database("noisy");
    let shape = Shape { size: 10, overflow: 20, cap: 10, wait: SOON, ..Shape::default() };
    let (pools, _slow) = pools(shape, &url);
    pools.put("noisy", &url).unwrap();
    pools.put("quiet", &url).unwrap();
    let noise: Vec<_> = (0..40)
        .map(|_| {
            let pools = pools.clone();
            tokio::spawn(async move {
                loop {
                    let lease = pools.lend("noisy", None).await.unwrap();
                    lease.query("SELECT pg_sleep(2)", &[]).await.unwrap();
                }
            })
        })
        .collect();
    timeout(SOON, async {
        while pools.statistics("noisy").unwrap().waiting < 20 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert!(pools.statistics("noisy").unwrap().checked_out <= 9, "one place is kept for others");
    // Behind forty that take two seconds each in nine places, a line for all would be eight seconds long.
    for _ in 0..5 {
        let asked = Instant::now();
        drop(pools.lend("quiet", None).await.unwrap());
        assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    }
    noise.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_connections_are_never_handed_out() {
    let url = database("dead");
    let (pools, _slow) = pools(Shape::default(), &url);
    pools.put("acme", &url).unwrap();
    let mut leases = Vec::new();
    for _ in 0..5 {
        leases.push(pools.lend("acme", None).await.unwrap());
    }
    leases[0].query("SET search_path = nowhere", &[]).await.unwrap();
    drop(leases);
    assert_eq!(pools.statistics("acme").unwrap().checked_in, 5);
    let observer = beside(&url).await;
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE application_name LIKE 'portcullis%' AND datname = 'dead'";
    assert_eq!(observer.query_one(ended, &[]).await.unwrap().get::<_, i64>(0), 5);
    for _ in 0..10 {
        let lease = pools.lend("acme", None).await.unwrap();
        let path = lease.query("SHOW search_path", &[]).await.unwrap();
        assert_eq!(path[0].get::<_, String>(0), "\"$user\", public", "nothing is left of who had it before");
    }
    // Who leaves a transaction open costs a connection, not the next one's peace.
    let lease = pools.lend("acme", None).await.unwrap();
    lease.client().unwrap().batch_execute("BEGIN; CREATE TABLE left_over (a int)").await.unwrap();
    drop(lease);
    let lease = pools.lend("acme", None).await.unwrap();
    assert!(lease.query("SELECT * FROM left_over", &[]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_come_go_and_move_while_others_work() {
    let (here, there) = (database("moves_a"), database("moves_b"));
    let (pools, _slow) = pools(Shape { wait: Duration::from_millis(200), ..Shape::default() }, &here);
    let missing = pools.lend("acme", None).await.err().unwrap();
    assert!(matches!(missing, PoolError::NoDatabase), "{missing}");
    assert!(pools.put("acme", &here).unwrap());
    assert!(!pools.put("acme", &here).unwrap(), "it is there already");
    let lent = pools.lend("acme", None).await.unwrap();
    assert!(pools.put("acme", &there).unwrap());
    let name = "SELECT current_database()::text";
    let of = |rows: Vec<tokio_postgres::Row>| rows[0].get::<_, String>(0);
    assert_eq!(of(lent.query(name, &[]).await.unwrap()), "moves_a", "what is lent goes on");
    let moved = pools.lend("acme", None).await.unwrap();
    assert_eq!(of(moved.query(name, &[]).await.unwrap()), "moves_b");
    pools.resize(1, 0);
    assert!(matches!(pools.lend("acme", None).await.err().unwrap(), PoolError::Timeout(_)), "one at most");
    assert_eq!(pools.statistics("acme").unwrap().most, 1);
    drop((lent, moved));
    assert!(pools.remove("acme") && !pools.remove("acme"));
    assert!(pools.tenants().is_empty());
    let observer = beside(&here).await;
    timeout(SOON, async {
        while open_on_the_server(&observer, "moves%").await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("a removed tenant's connections end");
    assert!(matches!(pools.put("acme", "postgres://u@127.0.0.1/x"), Err(TargetError::Private(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_statements_are_told_with_their_request_and_without_literals() {
    let url = database("slow");
    let shape = Shape { slow: Duration::from_millis(500), ..Shape::default() };
    let (pools, mut slow) = pools(shape, &url);
    pools.put("acme", &url).unwrap();
    let lease = pools.lend("acme", Some("corr-1")).await.unwrap();
    // The server knows for which request it works, too, until the connection comes back.
    let name = "SELECT application_name, 'hunter2' FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    assert_eq!(lease.query(name, &[]).await.unwrap()[0].get::<_, &str>(0), "portcullis corr-1");
    lease.query("SELECT pg_sleep(0.6), 'hunter2' FROM generate_series(1, 1)", &[]).await.unwrap();
    let told = timeout(SOON, slow.recv()).await.unwrap().unwrap();
    assert_eq!(told.statement.text, "SELECT pg_sleep(?), ? FROM generate_series(?, ?)");
    assert_eq!((told.tenant.as_str(), told.correlation_id.as_deref()), ("acme", Some("corr-1")));
    assert_eq!((told.rows, told.connection), (Some(1), lease.connection()));
    assert!(told.took >= Duration::from_millis(600) && slow.try_recv().is_err(), "the fast one is not told");
    let figures = pools.statistics("acme").unwrap();
    assert_eq!((figures.statements, figures.slow), (2, 1));
    drop(lease);
    let lease = pools.lend("acme", None).await.unwrap();
    assert_eq!(lease.query(name, &[]).await.unwrap()[0].get::<_, &str>(0), "portcullis");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_counts_is_seen_in_windows() {
    let url = database("windows");
    let (pools, _slow) = pools(Shape::default(), &url);
    pools.put("acme", &url).unwrap();
    let lease = pools.lend("acme", None).await.unwrap();
    let client = lease.client().unwrap();
    let missing = monitor::snapshot(client).await.unwrap().missing.unwrap();
    assert!(missing.contains("CREATE EXTENSION pg_stat_statements"), "{missing}");
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let mut windows = monitor::Windows::default();
    let limit = Duration::from_millis(500);
    windows.step(monitor::snapshot(client).await.unwrap(), limit);
    client.query("SELECT pg_sleep(0.6), 'hunter2'", &[]).await.unwrap();
    let snapshot = monitor::snapshot(client).await.unwrap();
    assert!(snapshot.calls > 0);
    let seen = windows.step(snapshot, limit).slow;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        (seen[0].statement.text.as_str(), seen[0].calls, seen[0].rows),
        ("SELECT pg_sleep($1), $2", 1, 1)
    );
    assert!(seen[0].took >= Duration::from_millis(600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_set_up_lent_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    rusqlite::Connection::open(folder.path().join("acme.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t (a)")
        .unwrap();
    let rules = Rules { sqlite: Some(folder.path().into()), ..Rules::default() };
    let shape = Shape { slow: Duration::ZERO, ..Shape::default() };
    let (pools, mut slow) = Pools::new(shape, rules, tls(), Instant::now().into_std());
    pools.put("acme", "sqlite:acme.db").unwrap();
    assert_eq!(pools.kind("acme"), Some(pool::target::Kind::Sqlite));
    let lease = pools.lend("acme", None).await.unwrap();
    let settings = lease.run("PRAGMA ...", |connection| {
        let of = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        Ok(((mode, of("mmap_size")?, of("cache_size")?, of("temp_store")?), 1))
    });
    assert_eq!(settings.await.unwrap(), ("wal".to_owned(), 268_435_456, 1000, 2));
    let inserted = "INSERT INTO t VALUES ('hunter2')";
    lease.run(inserted, move |connection| Ok(((), connection.execute(inserted, [])? as u64))).await.unwrap();
    slow.recv().await.unwrap();
    let told = slow.recv().await.unwrap();
    assert_eq!((told.statement.text.as_str(), told.rows), ("INSERT INTO t VALUES (?)", Some(1)));
    assert!(matches!(lease.query("SELECT 1", &[]).await, Err(QueryError::OtherKind)));
    // A transaction that was left open ends with its connection.
    lease
        .run("BEGIN", |connection| Ok((connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM t")?, 0)))
        .await
        .unwrap();
    drop(lease);
    let lease = pools.lend("acme", None).await.unwrap();
    let rows = lease.run("SELECT", |connection| {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).map(|count| (count, 1))
    });
    assert_eq!(rows.await.unwrap(), 1);
    std::fs::remove_file(folder.path().join("acme.db")).unwrap();
    drop(lease);
}
