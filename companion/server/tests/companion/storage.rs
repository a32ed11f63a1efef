//! The promises of the storage seam that no listener shows.

use portcullis_server::clock::{Timestamp, at_millis};
use portcullis_server::event::{Epoch, Event, EventType, RecordKey, Sequence, Severity};
use portcullis_server::storage::sqlite::SqliteStorage;
use portcullis_server::storage::{
    self, EventQuery, Expiry, Outcome, Place, Registration, Shape, Start, Statement, Storage, StorageError,
    Transaction,
};
use portcullis_server::tenant::{TenantId, records};

use crate::support::{Store, new_place, on_each_store, start_time};

fn traffic(max_tenants: u32) -> Shape {
    Shape { registration: Registration::ByTraffic { max_tenants }, ..Shape::default() }
}

fn expiry(before: Timestamp, most: u32) -> Expiry {
    Expiry { now: before, before, most }
}

fn query(tenant: &TenantId) -> EventQuery {
    EventQuery {
        tenant: tenant.clone(),
        limit: 100,
        event_type: None,
        severity: None,
        since: None,
        until: None,
        start: Start::Newest,
    }
}

fn event(tenant: &str, sequence: u64) -> Event {
    Event {
        key: RecordKey {
            epoch: Epoch::new("00000000000000aa").unwrap(),
            sequence: Sequence::new(sequence).unwrap(),
        },
        tenant: TenantId::new(tenant).unwrap(),
        event_type: EventType::new("REQUEST").unwrap(),
        severity: Severity::Info,
        user_id: None,
        ip_address: None,
        user_agent: None,
        details: serde_json::Map::new(),
        at: start_time(),
        at_arrival: false,
        rate_limit: None,
        gap: None,
    }
}

async fn tenants_register_themselves_up_to_the_maximum_and_lose_no_events_beyond_it(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(store, folder.path()), traffic(2)).await.unwrap();
    let batch =
        ["a", "b", "Not-Plain", "c", "a"].iter().zip(1..).map(|(tenant, n)| event(tenant, n)).collect();
    assert_eq!(store.append(batch).await.unwrap(), [Outcome::Stored; 5]);
    for (name, known) in [("a", true), ("b", true), ("c", false), ("Not-Plain", false)] {
        assert_eq!(records::exists(&*store, &TenantId::new(name).unwrap()).await.unwrap(), known, "{name}");
    }
    let c = TenantId::new("c").unwrap();
    assert!(
        records::add(&*store, &c, start_time()).await.unwrap(),
        "an operator is not bound by the maximum"
    );
    assert_eq!(store.counts(c, start_time()).await.unwrap().total, 1);
}

async fn close_finishes_what_is_queued_and_then_refuses(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let place = new_place(store, folder.path());
    let store = storage::open(&place, traffic(10)).await.unwrap();
    let appends = (0..30).map(|n| store.append(vec![event("a", n)]));
    let (stored, closed) = tokio::join!(
        async {
            let mut stored = 0;
            for append in appends {
                match append.await {
                    Ok(_) => stored += 1,
                    Err(StorageError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            stored
        },
        async {
            tokio::task::yield_now().await;
            store.close().await
        }
    );
    closed.unwrap();
    assert!(matches!(store.append(vec![event("a", 99)]).await, Err(StorageError::Closed)));
    assert_eq!(store.queue().depth, 0);
    let again = storage::open(&place, Shape::default()).await.unwrap();
    assert_eq!(again.counts(TenantId::new("a").unwrap(), start_time()).await.unwrap().total, stored);
}

/// Tables and columns that were asked for to the letter: name, type, whether it may be missing, default.
const REQUIRED: [(&str, &str); 5] = [
    (
        "security_events",
        "id INTEGER; tenant_id VARCHAR(50) NOT NULL; event_type VARCHAR(100) NOT NULL; severity VARCHAR(20) NOT NULL = 'INFO'; \
         user_id VARCHAR(50); ip_address VARCHAR(45); user_agent VARCHAR(500); details JSONB; created_at TIMESTAMP NOT NULL = now; \
         processed BOOLEAN NOT NULL = FALSE",
    ),
    (
        "rate_limiting_logs",
        "id INTEGER; tenant_id VARCHAR(50) NOT NULL; user_id VARCHAR(50); action VARCHAR(50) NOT NULL; ip_address VARCHAR(45); \
         request_count INTEGER NOT NULL = 1; limit_exceeded BOOLEAN NOT NULL = FALSE; window_start TIMESTAMP NOT NULL; \
         window_end TIMESTAMP NOT NULL; created_at TIMESTAMP NOT NULL = now",
    ),
    (
        "encrypted_data",
        "id INTEGER; tenant_id VARCHAR(50) NOT NULL; data_type VARCHAR(50) NOT NULL; encrypted_value TEXT NOT NULL; \
         encryption_key_id VARCHAR(100) NOT NULL; created_at TIMESTAMP NOT NULL = now; updated_at TIMESTAMP NOT NULL = now",
    ),
    (
        "user_sessions",
        "id INTEGER; tenant_id VARCHAR(50) NOT NULL; user_id VARCHAR(50) NOT NULL; session_id VARCHAR(100) NOT NULL; \
         token_hash VARCHAR(255) NOT NULL; ip_address VARCHAR(45); user_agent VARCHAR(500); is_active BOOLEAN NOT NULL = TRUE; \
         last_activity TIMESTAMP NOT NULL = now; expires_at TIMESTAMP NOT NULL; created_at TIMESTAMP NOT NULL = now",
    ),
    (
        "database_performance_logs",
        "id INTEGER; tenant_id VARCHAR(50) NOT NULL; query_hash VARCHAR(64) NOT NULL; query_text TEXT NOT NULL; \
         execution_time FLOAT NOT NULL; rows_affected INTEGER; connection_id VARCHAR(50); created_at TIMESTAMP NOT NULL = now",
    ),
];

#[test]
fn the_required_tables_have_the_required_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(SqliteStorage::open(&path, Shape::default()).unwrap());
    let file = rusqlite::Connection::open(&path).unwrap();
    for (table, required) in REQUIRED {
        let columns: Vec<String> = file
            .prepare(&format!("SELECT name, type, \"notnull\", dflt_value FROM pragma_table_info('{table}')"))
            .unwrap()
            .query_map([], |row| {
                let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
                let must = if row.get(2)? { " NOT NULL" } else { "" };
                let default = row.get::<_, Option<String>>(3)?.map_or(String::new(), |default| {
                    format!(" = {}", if default.starts_with("strftime(") { "now" } else { &default })
                });
                Ok(format!("{name} {kind}{must}{default}"))
            })
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for column in required.split("; ") {
            assert!(columns.iter().any(|have| have == column), "{table}: {column} in {columns:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_required_tables_have_the_required_columns_in_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(Store::Postgres, folder.path()), Shape::default()).await.unwrap();
    let columns = store
        .read(Statement::new(
            "SELECT table_name::text || ' ' || column_name::text || ' ' || data_type::text || \
             coalesce('(' || character_maximum_length::text || ')', '') || \
             CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END || \
             CASE WHEN column_default IS NULL THEN '' WHEN column_default LIKE '%now()%' THEN ' = now' \
             ELSE ' = ' || split_part(column_default, '::', 1) END FROM information_schema.columns",
        ))
        .await
        .unwrap();
    let columns: Vec<String> = columns.iter().map(|row| row.text(0).unwrap()).collect();
    for (table, required) in REQUIRED {
        for column in required.split("; ").filter(|column| *column != "id INTEGER") {
            let (name, rest) = column.split_once(' ').unwrap();
            let (kind, rest) =
                rest.split_once(' ').map_or((rest, String::new()), |(kind, rest)| (kind, format!(" {rest}")));
            let kind = match kind {
                "TIMESTAMP" => "timestamp without time zone".to_owned(),
                "FLOAT" => "double precision".to_owned(),
                other => other.to_lowercase().replace("varchar", "character varying"),
            };
            let rest = rest.replace("FALSE", "false").replace("TRUE", "true");
            let wanted = format!("{table} {name} {kind}{rest}");
            assert!(columns.contains(&wanted), "{wanted}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_keeps_what_it_has_says_so_and_takes_events_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let small = Shape { max_bytes: 1024 * 1024, ..traffic(10) };
    let store = SqliteStorage::open(&folder.path().join("a.db"), small).unwrap();
    let acme = TenantId::new("a").unwrap();
    store.probe(start_time()).await.unwrap();
    let mut stored = 0;
    for first in (0..100_000).step_by(100) {
        match store.append((first..first + 100).map(|n| event("a", n)).collect()).await {
            Ok(outcomes) => stored += u64::try_from(outcomes.len()).unwrap(),
            Err(StorageError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((100..100_000).contains(&stored), "{stored}");
    assert!(matches!(store.probe(start_time()).await, Err(StorageError::Full)));
    let count = async || store.counts(acme.clone(), start_time()).await.unwrap().total;
    assert_eq!(count().await, stored);

    // One day later everything is old enough.
    let later = at_millis(start_time().as_millisecond() + 86_400_000).unwrap();
    let mut expired = 0;
    while let removed @ 1.. = store.expire(expiry(later, 1000)).await.unwrap() {
        expired += removed;
    }
    assert_eq!((expired, count().await), (stored, 0));
    store.probe(later).await.unwrap();
    assert_eq!(store.append(vec![event("a", 200_000)]).await.unwrap(), [Outcome::Stored]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_old_expires() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(&folder.path().join("a.db"), traffic(10)).unwrap();
    let minutes = |minutes: i64| at_millis(start_time().as_millisecond() + minutes * 60_000).unwrap();
    let batch = (0..10).map(|n| Event { at: minutes(n), ..event("a", u64::try_from(n).unwrap()) }).collect();
    store.append(batch).await.unwrap();
    assert_eq!(store.expire(expiry(minutes(-1), 1000)).await.unwrap(), 0);
    assert_eq!(store.expire(expiry(minutes(4), 3)).await.unwrap(), 3);
    assert_eq!(store.expire(expiry(minutes(4), 3)).await.unwrap(), 1);
    assert_eq!(store.expire(expiry(minutes(4), 3)).await.unwrap(), 0);
    let acme = TenantId::new("a").unwrap();
    let query = query(&acme);
    assert_eq!(store.events(query).await.unwrap().len(), 6);
    assert_eq!(store.counts(acme, minutes(5)).await.unwrap().total, 5);
}

async fn a_transaction_happens_whole_or_not_at_all(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(store, folder.path()), Shape::default()).await.unwrap();
    let add = |name: &str| {
        let sql = "INSERT INTO tenants (tenant_id, origin, created_at) VALUES (?1, 'operator', ?2)";
        Statement::new(sql).bind(name).bind(start_time())
    };
    let none = Statement::new("DELETE FROM tenants WHERE tenant_id = ?1").bind("nobody").must_change(1);
    let failed = store.write(Transaction::new().then(add("a")).then(none)).await;
    assert!(matches!(failed, Err(StorageError::Conflict)), "{failed:?}");
    let twice = store.write(Transaction::new().lock("x").then(add("b")).then(add("b"))).await;
    assert!(matches!(twice, Err(StorageError::Conflict)), "{twice:?}");
    assert!(records::list(&*store, None, 10).await.unwrap().is_empty());
    let returning = Statement::new("UPDATE tenants SET origin = 'traffic' RETURNING tenant_id, created_at");
    let done = store.write(Transaction::new().then(add("a")).then(add("b")).then(returning)).await.unwrap();
    assert_eq!((done[0].changed, done[2].changed), (1, 2));
    assert_eq!(done[2].rows[0].time(1).unwrap(), start_time());
}

async fn what_was_stored_later_is_found_after_a_number_and_what_is_older_after_a_position(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(store, folder.path()), traffic(10)).await.unwrap();
    store.append((0..5).map(|n| event("a", n)).chain([event("b", 9)]).collect()).await.unwrap();
    let a = TenantId::new("a").unwrap();
    let all = store.events(query(&a)).await.unwrap();
    assert!(all.is_sorted_by(|one, other| one.position.id > other.position.id), "one instant, newest first");
    let older = Start::OlderThan(all[1].position);
    assert_eq!(store.events(EventQuery { start: older, ..query(&a) }).await.unwrap(), all[2..]);
    let after = Start::StoredAfter(all[1].position.id);
    assert_eq!(store.events(EventQuery { start: after, ..query(&a) }).await.unwrap(), all[..1]);
    store.append(vec![Event { at: at_millis(1000).unwrap(), ..event("a", 7) }]).await.unwrap();
    let late = store.events(EventQuery { start: after, ..query(&a) }).await.unwrap();
    assert_eq!(late.len(), 2, "also what happened long ago");
    assert_eq!(late[1].position.at.as_second(), 1);
}

async fn a_record_without_a_true_time_is_stored_once_however_late_it_comes_again(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(store, folder.path()), traffic(10)).await.unwrap();
    let arrives = |at: i64| Event { at: at_millis(at).unwrap(), at_arrival: true, ..event("a", 1) };
    assert_eq!(store.append(vec![arrives(1_000)]).await.unwrap(), [Outcome::Stored]);
    assert_eq!(store.append(vec![arrives(900_000_000)]).await.unwrap(), [Outcome::Duplicate]);
}

async fn of_many_that_are_there_in_part_the_others_are_stored(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(store, folder.path()), traffic(10)).await.unwrap();
    let odd = |n: u64| Event {
        user_id: Some(format!("u\t\\N{n}")),
        details: serde_json::json!({"note": "\\N\t\"é\u{1F600}", "n": n}).as_object().unwrap().clone(),
        ..event("a", n)
    };
    let batch = |numbers: std::ops::Range<u64>| numbers.map(odd).collect::<Vec<_>>();
    assert_eq!(store.append(batch(0..40)).await.unwrap(), [Outcome::Stored; 40]);
    let outcomes = store.append(batch(30..70)).await.unwrap();
    assert_eq!(outcomes[..10], [Outcome::Duplicate; 10]);
    assert_eq!(outcomes[10..], [Outcome::Stored; 30]);
    let mut twice = batch(70..100);
    twice.push(odd(99));
    assert_eq!(store.append(twice).await.unwrap().pop(), Some(Outcome::Duplicate));
    let events = store.events(query(&TenantId::new("a").unwrap())).await.unwrap();
    assert_eq!(events.len(), 100);
    assert!(
        events.iter().all(|event| event.user_id.as_deref() == Some(&format!("u\t\\N{}", event.details["n"])))
    );
    assert_eq!(events[0].details["note"], "\\N\t\"é\u{1F600}");
    let too_wide = Event { user_id: Some("x".repeat(51)), ..event("a", 200) };
    let mut bad = batch(100..120);
    bad.push(too_wide);
    let refused = store.append(bad).await;
    let kept = store.events(query(&TenantId::new("a").unwrap())).await.unwrap().len();
    // SQLite has no widths; PostgreSQL refuses the batch whole.
    assert!(
        refused.is_ok() || (matches!(refused, Err(StorageError::Unstorable(_))) && kept == 100),
        "{refused:?}"
    );
}

on_each_store![
    of_many_that_are_there_in_part_the_others_are_stored,
    tenants_register_themselves_up_to_the_maximum_and_lose_no_events_beyond_it,
    close_finishes_what_is_queued_and_then_refuses,
    a_transaction_happens_whole_or_not_at_all,
    what_was_stored_later_is_found_after_a_number_and_what_is_older_after_a_position,
    a_record_without_a_true_time_is_stored_once_however_late_it_comes_again,
];

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_days_are_made_ahead_and_dropped_by_age() {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(Store::Postgres, folder.path()), traffic(10)).await.unwrap();
    let partitions = async || {
        let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                   WHERE i.inhparent = 'security_events'::regclass ORDER BY 1";
        let rows = store.read(Statement::new(sql)).await.unwrap();
        rows.iter().map(|row| row.text(0).unwrap()).collect::<Vec<_>>()
    };
    let day = |days: i64| at_millis(start_time().as_millisecond() + days * 86_400_000).unwrap();
    let run = async |now, before| store.expire(Expiry { now, before, most: 2 }).await.unwrap();
    assert_eq!(run(day(0), day(-90)).await, 0);
    assert_eq!(partitions().await.len(), 9, "today, a week, and the default: {:?}", partitions().await);
    let at = |days: i64, n: u64| Event { at: day(days), ..event("a", n) };
    // One from before there were partitions, one a day, and one that comes a year late.
    store.append(vec![at(-300, 1), at(-2, 2), at(-2, 3), at(0, 4), at(1, 5), at(2, 6)]).await.unwrap();
    assert_eq!(run(day(2), day(-90)).await, 1);
    assert_eq!(partitions().await.len(), 11);
    assert_eq!(run(day(2), day(1)).await, 3, "two from the default partition, and one day whole");
    let a = TenantId::new("a").unwrap();
    assert_eq!(store.events(query(&a)).await.unwrap().len(), 2);
    assert_eq!(partitions().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_a_day_goes_uncounted_and_one_that_cannot_keeps_nothing_else_from_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let store = storage::open(&new_place(Store::Postgres, folder.path()), traffic(10)).await.unwrap();
    let day = |days: i64| at_millis(start_time().as_millisecond() + days * 86_400_000).unwrap();
    let exists = async |table: &str, days: i64| {
        let number = day(days).as_millisecond() / 86_400_000;
        let found = Statement::new("SELECT to_regclass(?1::text) IS NOT NULL");
        let rows = store.read(found.bind(format!("{table}_d{number}"))).await.unwrap();
        rows[0].boolean(0).unwrap()
    };
    let sql = async |sql: &'static str| store.write(Statement::new(sql).into()).await.unwrap();
    let run = async |now, before| store.expire(Expiry { now, before, most: 2 }).await;
    assert_eq!(run(day(0), day(-90)).await.unwrap(), 0);
    let fill = Statement::new(
        "INSERT INTO security_events (tenant_id, event_type, details, created_at, epoch, sequence) \
         SELECT 'a', 'REQUEST', jsonb_build_object('x', repeat('y', 150)), ?1, '00000000000000bb', g FROM generate_series(1, 60000) g",
    );
    store.write(fill.bind(day(0)).into()).await.unwrap();
    // What no count could find: so it was not counted.
    sql("UPDATE pg_class SET reltuples = 7 WHERE oid = (SELECT tableoid FROM security_events LIMIT 1)").await;
    assert_eq!(run(day(1), day(1)).await.unwrap(), 7);
    assert!(!exists("security_events", 0).await);

    // What an operator builds on a day keeps that one, and no other.
    let number = day(1).as_millisecond() / 86_400_000;
    assert_eq!(number, 20_514, "in the next statement's text");
    sql("CREATE VIEW theirs AS SELECT * FROM security_events_d20514").await;
    assert!(run(day(30), day(30)).await.is_err());
    for table in ["security_events", "rate_limiting_logs", "database_performance_logs"] {
        assert!(exists(table, 37).await, "{table}");
        assert_eq!(exists(table, 1).await, table == "security_events", "{table}");
    }
    sql("DROP VIEW theirs").await;
    run(day(30), day(30)).await.unwrap();
    assert!(!exists("security_events", 1).await && !exists("security_events", 2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_is_refused_and_a_file_of_the_first_release_is_taken_on() {
    let folder = tempfile::tempdir().unwrap();
    for store in [Store::Sqlite, Store::Postgres] {
        let place = new_place(store, folder.path());
        let first = storage::open(&place, Shape::default()).await.unwrap();
        first.write(Statement::new("UPDATE schema_migrations SET checksum = 'x'").into()).await.unwrap();
        first.close().await.unwrap();
        let error = storage::open(&place, Shape::default()).await.err().unwrap();
        assert!(matches!(error, StorageError::OtherHistory { version: 1, .. }), "{error}");
    }
    let path = folder.path().join("first.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(storage::migrations::SQLITE[0].sql).unwrap();
    file.execute_batch(
        "INSERT INTO tenants (tenant_id, origin) VALUES ('a', 'operator'); PRAGMA user_version = 1",
    )
    .unwrap();
    drop(file);
    let store = storage::open(&Place::Sqlite(path), Shape::default()).await.unwrap();
    assert_eq!(records::list(&*store, None, 10).await.unwrap().len(), 1);
    let migrated = store.read(Statement::new("SELECT 1 FROM schema_migrations")).await.unwrap();
    assert_eq!(migrated.len(), storage::migrations::SQLITE.len());
}
