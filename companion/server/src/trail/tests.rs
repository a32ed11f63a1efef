use portcullis_audit_log::faults::Faulty;
use portcullis_audit_log::verify::verify;

use super::*;
use crate::clock::at_millis;
use crate::event::{Epoch, EventType, Sequence, Severity};
use crate::tenant::TenantId;

fn settings(max_bytes: u64) -> Settings {
    let signer = Signer::from_seed(&[7; 32]);
    Settings { folder: PathBuf::new(), signer, redactor: None, retention: Retention::default(), max_bytes }
}

fn open(disk: &Faulty, max_bytes: u64) -> Trail {
    let clock = Clock::manual(at_millis(1_764_000_000_000).unwrap());
    Trail::over(Arc::new(disk.clone()), &settings(max_bytes), None, clock).unwrap()
}

fn event(n: u64) -> Event {
    Event {
        key: RecordKey {
            epoch: Epoch::new("00000000000000aa").unwrap(),
            sequence: Sequence::new(n).unwrap(),
        },
        tenant: TenantId::new("acme").unwrap(),
        event_type: EventType::new("REQUEST").unwrap(),
        severity: Severity::Info,
        user_id: None,
        ip_address: None,
        user_agent: None,
        details: Default::default(),
        at: at_millis(1_764_000_000_000).unwrap(),
        at_arrival: false,
        rate_limit: None,
        gap: None,
    }
}

fn events(numbers: std::ops::Range<u64>) -> Vec<Event> {
    numbers.map(event).collect()
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_loss_of_power_and_the_rest_is_not_claimed() {
    let disk = Faulty::new();
    let trail = open(&disk, u64::MAX);
    let first = Appended { first: Some(0), stored: 3, duplicates: 0 };
    assert_eq!(trail.append(events(0..3)).await.unwrap(), first);
    // After the second group the head of the first one is written: the next sync is the group's own.
    assert_eq!(trail.append(events(3..5)).await.unwrap().stored, 2);
    disk.fail_syncs(1);
    assert!(matches!(trail.append(events(5..7)).await, Err(TrailError::Failed(_))));
    assert!(!trail.takes_events());
    assert_eq!(
        trail.append(events(5..7)).await.unwrap().stored,
        2,
        "what failed is not taken for a duplicate"
    );
    assert!(trail.takes_events());
    let after = disk.copy();
    after.crash(|| false);
    let again = open(&after, u64::MAX);
    assert_eq!(again.size(), 7);
    assert_eq!(verify(&after, again.log().verifier(), None).unwrap().finding, None);
}

#[tokio::test]
async fn a_full_disk_refuses_says_so_and_loses_nothing() {
    let disk = Faulty::new();
    let trail = open(&disk, u64::MAX);
    trail.append(events(0..10)).await.unwrap();
    disk.set_capacity(Some(disk.used() + 100));
    assert_eq!(trail.append(events(10..20)).await, Err(TrailError::Full));
    assert_eq!((trail.takes_events(), trail.figures().refused_full.value(), trail.size()), (false, 1, 10));
    disk.set_capacity(None);
    assert_eq!(trail.append(events(10..20)).await.unwrap().first, Some(10));
    assert!(trail.takes_events());
}

#[tokio::test]
async fn it_grows_to_its_bound_and_no_further() {
    let disk = Faulty::new();
    let trail = open(&disk, 10_000);
    let mut stored = 0;
    while let Ok(appended) = trail.append(events(stored..stored + 5)).await {
        stored += appended.stored;
        assert!(stored < 1_000);
    }
    assert!(stored > 10 && trail.bytes() <= 10_000, "{stored} events, {} bytes", trail.bytes());
    assert_eq!(trail.append(events(stored..stored + 5)).await, Err(TrailError::Full));
    assert_eq!(trail.size(), stored);
}

#[tokio::test]
async fn what_just_came_is_not_stored_again_within_a_batch_or_after_one() {
    let trail = open(&Faulty::new(), u64::MAX);
    let twice = events(0..3).into_iter().chain(events(0..4)).collect();
    assert_eq!(trail.append(twice).await.unwrap(), Appended { first: Some(0), stored: 4, duplicates: 3 });
    assert_eq!(trail.append(events(0..4)).await.unwrap(), Appended { first: None, stored: 0, duplicates: 4 });
    assert_eq!(trail.append(Vec::new()).await.unwrap(), Appended::default());
    assert_eq!(trail.size(), 4);
}

#[tokio::test]
async fn after_its_end_it_takes_nothing() {
    let trail = open(&Faulty::new(), u64::MAX);
    trail.append(events(0..2)).await.unwrap();
    trail.close().await;
    assert_eq!(trail.append(events(2..3)).await, Err(TrailError::Closed));
    assert_eq!(trail.append(events(0..2)).await.unwrap().duplicates, 2);
}
