//! The promises of the storage seam that no listener shows.

use portcullis_server::event::{Epoch, Event, EventType, RecordKey, Sequence, Severity};
use portcullis_server::storage::sqlite::SqliteStorage;
use portcullis_server::storage::{Outcome, Registration, Storage, StorageError};
use portcullis_server::tenant::TenantId;

use crate::support::start_time;

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
    let store =
        SqliteStorage::open(&folder.path().join("a.db"), Registration::ByTraffic { max_tenants: 2 }).unwrap();
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
    let store = SqliteStorage::open(&path, Registration::ByTraffic { max_tenants: 10 }).unwrap();
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
    let again = SqliteStorage::open(&path, Registration::Operator).unwrap();
    assert_eq!(again.counts(TenantId::new("a").unwrap(), start_time()).await.unwrap().total, stored);
}
