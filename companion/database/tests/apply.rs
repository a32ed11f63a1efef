//! Plans applied to a real server, with what goes wrong there: locks, killed sessions, old snapshots, no room, indexes that harm.
//!
//! `make soak` (`PORTCULLIS_SOAK=100`) runs 200 applications with faults instead of six.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use portcullis_database::apply::{ApplyError, Options, Progress, Report, Script, apply, live, rollback};
use portcullis_database::workload::Query;
use portcullis_database::{Error, catalog};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

const TABLES: &str = "
    CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, c text NOT NULL);
    INSERT INTO t SELECT i, i % 1000, i % 7, md5(i::text) FROM generate_series(1, 40000) i;
    CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO other VALUES (1);
    ANALYZE";

struct Database {
    url: String,
    server: Server,
}

impl Database {
    async fn new(tables: &str) -> Self {
        let layout = Layout::of_this_checkout();
        let server = Server::start(&layout, &PathBuf::from("/tmp"), Durability::None).unwrap();
        let url = server.create(&layout, "shop").unwrap();
        let database = Self { url, server };
        database.client().await.batch_execute(tables).await.unwrap();
        database
    }

    async fn connect(&self, settings: &str) -> Result<Client, Error> {
        let connected = tokio_postgres::connect(&self.url, NoTls).await;
        let (client, connection) = connected.map_err(|error| match error.code() {
            Some(&SqlState::INVALID_CATALOG_NAME) => Error::Removed(error.to_string()),
            _ => error.into(),
        })?;
        tokio::spawn(connection);
        client.batch_execute(settings).await?;
        Ok(client)
    }

    async fn client(&self) -> Client {
        self.connect("").await.unwrap()
    }

    async fn script(&self, statements: &[&str]) -> Script {
        let catalog = catalog::load(&self.client().await).await.unwrap();
        let text = format!("-- schema: {}\n{};\n", catalog.fingerprint(), statements.join(";\n"));
        Script::read(&text).unwrap()
    }

    async fn apply(
        &self,
        script: &Script,
        samples: &[&str],
        options: &Options,
    ) -> Result<Report, ApplyError> {
        let samples = samples.iter().map(|text| Query::new("sample", text, 1.0)).collect();
        let connect = async || self.connect("").await;
        apply(&connect, script, &script.digest(), samples, options, &mut |_| ()).await
    }

    async fn rollback(&self) -> Report {
        let connect = async || self.connect("").await;
        rollback(&connect, None, &quick()).await.unwrap()
    }

    async fn number(&self, statement: &str) -> i64 {
        self.client().await.query_one(statement, &[]).await.unwrap().get(0)
    }

    async fn invalid(&self) -> i64 {
        self.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await
    }

    async fn secondary(&self) -> i64 {
        self.number("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace AND NOT indisprimary").await
    }
}

fn quick() -> Options {
    Options {
        lock_timeout: Duration::from_millis(300),
        attempts: 3,
        patience: Duration::from_secs(8),
        observe: Duration::ZERO,
        ..Options::default()
    }
}

fn outcomes(report: &Report) -> Vec<(&str, &str)> {
    report.indexes.iter().map(|one| (one.index.as_str(), one.outcome)).collect()
}

#[tokio::test]
async fn what_gains_is_kept_what_nobody_uses_is_not_and_all_is_taken_back() {
    let database = Database::new(TABLES).await;
    let script = database
        .script(&[
            "CREATE INDEX CONCURRENTLY pc_a ON public.t (a)",
            "CREATE INDEX CONCURRENTLY pc_lower ON public.t (lower(c))",
            "CREATE INDEX CONCURRENTLY pc_idle ON public.t (b) WHERE b = 3",
        ])
        .await;
    let samples = ["SELECT c FROM t WHERE a = 5", "SELECT id FROM t WHERE lower(c) = 'x'", "DELETE FROM t"];
    let report = database.apply(&script, &samples, &quick()).await.unwrap();
    let expected = [("public.pc_idle", "dropped"), ("public.pc_a", "kept"), ("public.pc_lower", "kept")];
    assert_eq!(outcomes(&report), expected, "{report:?}");
    assert!(report.indexes[0].reason.contains("no gain"), "{report:?}");
    assert!(report.indexes[1].reason.contains("% of their time"), "{report:?}");
    assert_eq!(database.number("SELECT count(*) FROM t").await, 40_000, "statements that write are not run");
    // Again: what is there stays, what was dropped is built once more and dropped.
    let report = database.apply(&script, &samples, &quick()).await.unwrap();
    assert_eq!(report.count("kept"), 2, "{report:?}");
    assert_eq!(database.secondary().await, 2);
    let client = database.client().await;
    assert_eq!(live(&client).await.unwrap().len(), 2);
    let report = database.rollback().await;
    assert_eq!(outcomes(&report), [("public.pc_a", "dropped"), ("public.pc_lower", "dropped")]);
    assert_eq!((database.secondary().await, live(&client).await.unwrap().len()), (0, 0));
}

#[tokio::test]
async fn nothing_is_begun_that_was_not_approved_or_does_not_fit() {
    let database = Database::new(TABLES).await;
    let client = database.client().await;
    client.batch_execute("CREATE INDEX foreign_to_us ON t (b, a); CREATE ROLE guest LOGIN").await.unwrap();
    let script = database.script(&["CREATE INDEX CONCURRENTLY pc_a ON public.t (a)"]).await;
    let connect = async || database.connect("").await;
    let error = apply(&connect, &script, "abc", Vec::new(), &quick(), &mut |_| ()).await.unwrap_err();
    assert!(matches!(error, ApplyError::Approval { .. }), "{error}");

    let as_guest = async || database.connect("SET ROLE guest").await;
    let error =
        apply(&as_guest, &script, &script.digest(), Vec::new(), &quick(), &mut |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("may not build indexes on public.t"), "{error}");

    let mut large = script.clone();
    large.builds[0].bytes = 1 << 62;
    let options = Options { free: Some(1 << 30), ..quick() };
    let error = database.apply(&large, &[], &options).await.unwrap_err();
    assert!(error.to_string().contains("1024.00 MB are free"), "{error}");

    let taken = database.script(&["CREATE INDEX CONCURRENTLY foreign_to_us ON public.t (a)"]).await;
    let error = database.apply(&taken, &[], &quick()).await;
    // The name is somebody else's: the schema is not what the plan would find without it, or the build says so; it is never dropped.
    assert!(error.map_or(true, |report| report.count("failed") == 1));

    client.batch_execute("ALTER TABLE t ADD COLUMN d int").await.unwrap();
    let error = database.apply(&script, &[], &quick()).await.unwrap_err();
    assert!(matches!(error, ApplyError::Changed), "{error}");
    let script = database.script(&["CREATE INDEX CONCURRENTLY pc_a ON public.t (a)"]).await;
    let options = quick();
    let one = database.apply(&script, &[], &options);
    let two = database.apply(&script, &[], &options);
    let (one, two) = tokio::join!(one, two);
    // One waits for the other, and finds its index there.
    assert_eq!((one.unwrap().count("kept"), two.unwrap().count("kept")), (1, 1));
    assert_eq!(database.secondary().await, 2, "ours and the one that is none of our business");
}

/// Rows with `a = 1` are the last in the order of `b`: the planner expects them early, and reads everything in that order.
const MISLEADING: &str = "
    CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
    SELECT setseed(0.1);
    CREATE TABLE h (id int PRIMARY KEY, a int NOT NULL, b float8 NOT NULL, c text NOT NULL);
    INSERT INTO h SELECT i, (r > 0.99)::int, r, repeat('x', 60) FROM (SELECT i, random() r FROM generate_series(1, 150000) i) x;
    ANALYZE h";
const MISLED: &str = "SELECT id FROM h WHERE a = 1 ORDER BY b LIMIT 1";

#[tokio::test]
async fn an_index_that_harms_goes_by_given_statements() {
    let database = Database::new(MISLEADING).await;
    let script = database.script(&["CREATE INDEX CONCURRENTLY pc_b ON public.h (b)"]).await;
    let report = database.apply(&script, &[MISLED], &quick()).await.unwrap();
    assert_eq!(outcomes(&report), [("public.pc_b", "dropped")], "{report:?}");
    assert!(report.indexes[0].reason.contains("measured: sample takes"), "{report:?}");
    assert_eq!(database.secondary().await, 0);
}

#[tokio::test]
async fn an_index_that_harms_goes_within_a_minute_by_what_others_run() {
    let database = Database::new(MISLEADING).await;
    let others = database.client().await;
    for _ in 0..8 {
        others.simple_query(MISLED).await.unwrap();
    }
    let script = database.script(&["CREATE INDEX CONCURRENTLY pc_b ON public.h (b)"]).await;
    let report = applied_beside(&database, &script, &others).await;
    assert_eq!(outcomes(&report), [("public.pc_b", "dropped")], "{report:?}");
    assert!(report.indexes[0].reason.contains("pg_stat_statements"), "{report:?}");
    let stood = "SELECT extract(epoch FROM changed_at - begun_at)::int8 FROM portcullis_advisor.index_ledger";
    assert!(database.number(stood).await < 60);
    assert_eq!(database.secondary().await, 0);
}

/// Applies, and watches for nearly a minute, while others ask what the index misleads.
async fn applied_beside(database: &Database, script: &Script, others: &Client) -> Report {
    let options = Options { observe: Duration::from_secs(55), ..quick() };
    let applied = database.apply(script, &[], &options);
    tokio::pin!(applied);
    loop {
        tokio::select! {
            report = &mut applied => return report.unwrap(),
            _ = others.simple_query(MISLED) => {}
        }
    }
}

/// Applies until all is built, and is gone then.
async fn gone_while_watching(database: &Database, script: &Script) {
    let (watching, digest) = (tokio::sync::Notify::new(), script.digest());
    let options = Options { observe: Duration::from_secs(60), ..quick() };
    let connect = async || database.connect("").await;
    let tell = &mut |progress: Progress<'_>| {
        if matches!(progress, Progress::Watching(_)) {
            watching.notify_one();
        }
    };
    tokio::select! {
        report = apply(&connect, script, &digest, Vec::new(), &options, tell) => panic!("it should watch: {report:?}"),
        () = watching.notified() => {}
    }
}

#[tokio::test]
async fn what_was_not_watched_to_the_end_is_watched_anew() {
    let database = Database::new(MISLEADING).await;
    let others = database.client().await;
    for _ in 0..8 {
        others.simple_query(MISLED).await.unwrap();
    }
    let script = database.script(&["CREATE INDEX CONCURRENTLY pc_b ON public.h (b)"]).await;
    gone_while_watching(&database, &script).await;
    let report = applied_beside(&database, &script, &others).await;
    assert_eq!(outcomes(&report), [("public.pc_b", "dropped")], "{report:?}");
    assert!(report.indexes[0].reason.contains("pg_stat_statements"), "{report:?}");

    // What was to go when the earlier run ended goes, and is not built again; nor is what somebody has dropped by hand.
    for (meanwhile, said) in [
        (
            "UPDATE portcullis_advisor.index_ledger SET state = 'dropping', reason = 'it harms' WHERE state = 'observing'",
            "it harms",
        ),
        ("DROP INDEX pc_b", "somebody else"),
    ] {
        gone_while_watching(&database, &script).await;
        others.batch_execute(meanwhile).await.unwrap();
        let report = database.apply(&script, &[], &quick()).await.unwrap();
        assert_eq!(outcomes(&report), [("public.pc_b", "dropped")], "{report:?}");
        assert!(report.indexes[0].reason.contains(said), "{report:?}");
        assert_eq!(database.secondary().await, 0);
    }

    // A schema that has changed meanwhile: what stands is watched, and nothing more is built.
    gone_while_watching(&database, &script).await;
    others.batch_execute("ALTER TABLE h ADD COLUMN d int").await.unwrap();
    let report = database.apply(&script, &[], &quick()).await.unwrap();
    assert_eq!(outcomes(&report), [("public.pc_b", "kept")], "{report:?}");
    assert!(!report.indexes[0].reason.contains("there already"), "{report:?}");
}

/// What goes wrong during an application.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A writer holds the table for a while.
    Lock,
    /// A writer holds the table for longer than anybody waits.
    LongLock,
    /// The server's session is killed while it builds.
    Kill,
    /// The client is gone while the server builds.
    Gone,
    /// Another session keeps an old snapshot.
    Snapshot,
    /// The server has no room for the sort.
    Room,
    /// Whoever wanted it wants it no longer.
    Withdrawn,
}

const FAULTS: [Fault; 7] =
    [Fault::Lock, Fault::LongLock, Fault::Kill, Fault::Gone, Fault::Snapshot, Fault::Room, Fault::Withdrawn];

/// Until a concurrent build waits for somebody.
async fn until_it_waits(client: &Client) -> Option<i32> {
    let builder = "SELECT p.pid FROM pg_stat_progress_create_index p JOIN pg_stat_activity a USING (pid) WHERE a.wait_event_type = 'Lock'";
    for _ in 0..400 {
        if let Some(row) = client.query_opt(builder, &[]).await.unwrap() {
            return Some(row.get(0));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

async fn round(database: &Database, fault: Fault, number: usize) {
    let statement = format!("CREATE INDEX CONCURRENTLY pc_{number} ON public.t (c, a)");
    let script = database.script(&[&statement]).await;
    let (blocker, observer) = (database.client().await, database.client().await);
    let hold = match fault {
        Fault::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM other",
        Fault::Room => "BEGIN",
        _ => "BEGIN; UPDATE t SET b = b WHERE id = 1",
    };
    blocker.batch_execute(hold).await.unwrap();
    let mut options = quick();
    if matches!(fault, Fault::Kill | Fault::Gone | Fault::Withdrawn) {
        // It waits for the writer until it is killed.
        options.lock_timeout = Duration::from_secs(20);
    }
    let (withdraw, withdrawal) = tokio::sync::watch::channel(None);
    options.withdrawal = Some(withdrawal);
    if matches!(fault, Fault::LongLock | Fault::Snapshot) {
        options.attempts = 2;
        options.patience = Duration::from_secs(2);
    }
    let settings = match fault {
        Fault::Room => "SET maintenance_work_mem = '1MB'; SET temp_file_limit = '64kB'",
        _ => "",
    };
    let connect = async || database.connect(settings).await;
    let digest = script.digest();
    let quiet = &mut |_: Progress<'_>| ();
    let application = apply(&connect, &script, &digest, Vec::new(), &options, quiet);
    let disturb = async {
        match fault {
            Fault::Kill => {
                let pid = until_it_waits(&observer).await.expect("it waits for the writer");
                observer.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
                blocker.batch_execute("COMMIT").await.unwrap();
            }
            Fault::Lock => {
                until_it_waits(&observer).await.expect("it waits for the writer");
                tokio::time::sleep(Duration::from_millis(500)).await;
                blocker.batch_execute("COMMIT").await.unwrap();
            }
            Fault::Withdrawn => {
                until_it_waits(&observer).await.expect("it waits for the writer");
                withdraw.send_replace(Some("nobody wants it".to_owned()));
                // The build ends at once; what it leaves can be dropped when the writer lets go.
                while until_it_waits(&observer).await.is_some() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                blocker.batch_execute("COMMIT").await.unwrap();
            }
            _ => drop(until_it_waits(&observer).await),
        }
    };
    match fault {
        Fault::Gone => {
            let mut application = Box::pin(application);
            tokio::select! {
                report = &mut application => panic!("it should wait: {report:?}"),
                () = disturb => {}
            }
            drop(application);
            blocker.batch_execute("COMMIT").await.unwrap();
        }
        Fault::Room => {
            let report = application.await.unwrap();
            assert_eq!(report.count("failed"), 1, "{report:?}");
            assert!(report.indexes[0].reason.contains("53400"), "{report:?}");
            assert_eq!(database.invalid().await, 0, "{fault:?}");
        }
        _ => {
            let (report, ()) = tokio::join!(application, disturb);
            let report = report.unwrap();
            match fault {
                Fault::Lock | Fault::Kill => assert_eq!(report.count("kept"), 1, "{fault:?} {report:?}"),
                Fault::Withdrawn => {
                    assert_eq!(report.withdrawn.as_deref(), Some("nobody wants it"), "{report:?}");
                    assert_eq!((report.count("failed"), database.invalid().await), (1, 0), "{report:?}");
                }
                Fault::Snapshot => {
                    assert_eq!(report.count("failed"), 1, "{report:?}");
                    assert_eq!(database.invalid().await, 0, "the snapshot is no lock on the table");
                }
                _ => assert_eq!(report.count("left") + report.count("failed"), 1, "{report:?}"),
            }
            blocker.batch_execute("COMMIT").await.unwrap();
        }
    }
    let report = database.rollback().await;
    assert_eq!(report.count("left"), 0, "{fault:?} {report:?}");
    assert_eq!((database.invalid().await, database.secondary().await), (0, 0), "{fault:?} {report:?}");
    let open =
        "SELECT count(*) FROM portcullis_advisor.index_ledger WHERE state NOT IN ('dropped', 'failed')";
    assert_eq!(database.number(open).await, 0, "{fault:?}");
}

#[tokio::test]
async fn after_any_fault_no_invalid_index_is_left() {
    let database = Database::new(TABLES).await;
    // Percent of the full scale.
    let scale = std::env::var("PORTCULLIS_SOAK").ok().and_then(|text| text.parse::<usize>().ok());
    let rounds = scale.map_or(FAULTS.len(), |percent| (200 * percent / 100).max(FAULTS.len()));
    for number in 0..rounds {
        round(&database, FAULTS[number % FAULTS.len()], number).await;
    }
    println!("{rounds} applications with faults: no invalid index is left");
}

#[tokio::test]
async fn a_database_that_is_removed_meanwhile_is_told_at_once() {
    let database = Database::new(TABLES).await;
    let script = database.script(&["CREATE INDEX CONCURRENTLY pc_a ON public.t (a)"]).await;
    let (blocker, observer) = (database.client().await, database.client().await);
    blocker.batch_execute("BEGIN; UPDATE t SET b = b WHERE id = 1").await.unwrap();
    let (elsewhere, connection) =
        tokio_postgres::connect(&database.server.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    let options =
        Options { lock_timeout: Duration::from_secs(30), patience: Duration::from_secs(30), ..quick() };
    let start = tokio::time::Instant::now();
    let remove = async {
        until_it_waits(&observer).await.expect("it waits for the writer");
        elsewhere.batch_execute("DROP DATABASE shop WITH (FORCE)").await.unwrap();
    };
    let (applied, ()) = tokio::join!(database.apply(&script, &[], &options), remove);
    let told = match applied {
        Ok(report) => report.indexes[0].reason.clone(),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("it was removed"), "{told}");
    assert!(start.elapsed() < Duration::from_secs(20));
}
