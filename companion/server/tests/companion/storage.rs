//! The promises of the storage seam that no listener shows.

use portcullis_server::event::{Epoch, Event, EventType, RecordKey, Sequence, Severity};
use portcullis_server::storage::sqlite::{Shape, SqliteStorage};
use portcullis_server::storage::{Outcome, Registration, Storage, StorageError};
use portcullis_server::tenant::TenantId;

use portcullis_server::clock::at_millis;
use portcullis_server::storage::EventQuery;

use crate::support::start_time;

fn traffic(max_tenants: u32) -> Shape {
    Shape { registration: Registration::ByTraffic { max_tenants }, ..Shape::default() }
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
        rate_limit: None,
        gap: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_register_themselves_up_to_the_maximum_and_lose_no_events_beyond_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStorage::open(&folder.path().join("a.db"), traffic(2)).unwrap();
    let batch =
        ["a", "b", "Not-Plain", "c", "a"].iter().zip(1..).map(|(tenant, n)| event(tenant, n)).collect();
    assert_eq!(store.append(batch).await.unwrap(), [Outcome::Stored; 5]);
    for (name, known) in [("a", true), ("b", true), ("c", false), ("Not-Plain", false)] {
        assert_eq!(store.tenant_exists(TenantId::new(name).unwrap()).await.unwrap(), known, "{name}");
    }
    let c = TenantId::new("c").unwrap();
    assert!(
        store.add_tenant(c.clone(), start_time()).await.unwrap(),
        "an operator is not bound by the maximum"
    );
    assert_eq!(store.counts(c, start_time()).await.unwrap().total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn close_finishes_what_is_queued_and_then_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let store = SqliteStorage::open(&path, traffic(10)).unwrap();
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
    let again = SqliteStorage::open(&path, Shape::default()).unwrap();
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
    while let removed @ 1.. = store.expire(later, 1000).await.unwrap() {
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
    assert_eq!(store.expire(minutes(-1), 1000).await.unwrap(), 0);
    assert_eq!(store.expire(minutes(4), 3).await.unwrap(), 3);
    assert_eq!(store.expire(minutes(4), 3).await.unwrap(), 1);
    assert_eq!(store.expire(minutes(4), 3).await.unwrap(), 0);
    let acme = TenantId::new("a").unwrap();
    let query =
        EventQuery { tenant: acme.clone(), limit: 100, event_type: None, severity: None, since: None };
    assert_eq!(store.events(query).await.unwrap().len(), 6);
    assert_eq!(store.counts(acme, minutes(5)).await.unwrap().total, 5);
}
