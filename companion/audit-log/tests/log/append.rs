use std::sync::Arc;
use std::sync::mpsc::channel;

use portcullis_audit_log::faults::Faulty;
use portcullis_audit_log::log::{AppendError, Entry, OpenError, Settings};
use portcullis_audit_log::merkle::{Hash, extends, includes};
use portcullis_audit_log::note::Checkpoint;
use portcullis_audit_log::verify::{Fault, verify};
use portcullis_audit_log::view::View;

use crate::support::*;

#[test]
fn what_is_appended_is_read_back_in_order_over_segments_and_starts() {
    let storage = Faulty::new();
    let mut wanted = 0;
    for life in 0..4 {
        let (log, recovered) = open_with(&storage, small()).unwrap();
        assert_eq!((recovered.size, recovered.new, recovered.cut_bytes), (wanted, life == 0, 0));
        for _ in 0..20 {
            let batch: Vec<Entry> = (0..3).map(|place| entry("acme", wanted + place)).collect();
            let appended = log.append(batch).unwrap();
            assert_eq!((appended.first, appended.count), (wanted, 3));
            wanted += 3;
        }
        let records = read_all(&log);
        assert_eq!(records.len() as u64, wanted);
        for (number, record) in (0..).zip(&records) {
            let expected = entry("acme", number);
            assert_eq!((record.index, record.time), (number, expected.time));
            assert_eq!((&record.public, &record.sealed), (&expected.public, &expected.sealed));
        }
    }
    assert!(segments(&storage).len() > 5);
    let report = check(&storage);
    assert_eq!((report.finding, report.size, report.head), (None, wanted, Some(wanted)));
    assert!(!report.rollback_excluded);
}

#[test]
fn batches_that_wait_share_a_sync() {
    let storage = Faulty::new();
    let log = open_with(&storage, Settings::default()).unwrap().0;
    log.append(vec![entry("a", 0)]).unwrap();
    let before = storage.syncs();
    let (done, answers) = channel();
    for number in 0..500 {
        let done = done.clone();
        log.append_then(vec![entry("a", number)], move |result| done.send(result.unwrap()).unwrap());
    }
    let firsts: Vec<u64> = answers.iter().take(500).map(|appended| appended.first).collect();
    assert_eq!(firsts, (1..=500).collect::<Vec<_>>());
    assert!(storage.syncs() - before < 400, "{}", storage.syncs() - before);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let storage = Faulty::new();
    let log = open(&storage);
    let mut acknowledged = 0;
    for round in 0..30_u64 {
        storage.set_capacity(Some(storage.used() + 700));
        let mut refused = 0;
        for _ in 0..12 {
            match log.append(vec![entry("a", acknowledged)]) {
                Ok(appended) => {
                    assert_eq!(appended.first, acknowledged);
                    acknowledged += 1;
                }
                Err(AppendError::Full) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(refused > 0, "round {round}");
        storage.set_capacity(None);
        log.append(vec![entry("a", acknowledged)]).unwrap();
        acknowledged += 1;
    }
    assert_eq!(read_all(&log).len() as u64, acknowledged);
    log.close();
    let report = check(&storage);
    assert_eq!((report.finding, report.size), (None, acknowledged));
}

#[test]
fn a_failed_sync_is_told_and_the_file_is_given_up() {
    let storage = Faulty::new();
    let log = open_with(&storage, Settings::default()).unwrap().0;
    // The first group's head is published behind its answer, and done before the second's.
    for number in 0..2 {
        log.append(vec![entry("a", number)]).unwrap();
    }
    storage.fail_syncs(1);
    assert!(matches!(log.append(vec![entry("a", 2)]), Err(AppendError::Failed(_))));
    assert_eq!(log.append(vec![entry("a", 2)]).unwrap().first, 2);
    assert_eq!(segments(&storage).len(), 2);
    storage.fail_syncs(3);
    for _ in 0..3 {
        assert!(matches!(log.append(vec![entry("a", 3)]), Err(AppendError::Failed(_))));
    }
    assert_eq!(log.append(vec![entry("a", 3)]).unwrap().first, 3);
    log.close();
    assert_eq!(log.append(vec![entry("a", 3)]), Err(AppendError::Closed));
    drop(log);
    assert_eq!(check(&storage).finding, None);
    let log = open(&storage);
    assert_eq!(read_all(&log).len(), 4);
}

#[test]
fn bounds_are_told() {
    let storage = Faulty::new();
    let settings = Settings { queue_bytes: 100, ..Settings::default() };
    let log = open_with(&storage, settings).unwrap().0;
    let large = Entry { sealed: vec![0; 1 << 20], ..entry("a", 1) };
    assert_eq!(log.append(vec![large.clone()]), Err(AppendError::TooLarge));
    let named = Entry { tenant: "a".repeat(256), ..entry("a", 1) };
    assert_eq!(log.append(vec![named]), Err(AppendError::TooLarge));
    // A batch alone is taken even when it is larger than the queue; a second one has to wait its turn.
    let near = Entry { sealed: vec![0; (1 << 20) - 20], public: Vec::new(), ..large };
    let (done, answers) = channel();
    for _ in 0..64 {
        let done = done.clone();
        log.append_then(vec![near.clone()], move |result| done.send(result).unwrap());
    }
    let answers: Vec<_> = answers.iter().take(64).collect();
    assert!(answers.contains(&Err(AppendError::Busy)) && answers.iter().any(Result::is_ok));
    assert_eq!(log.waiting_bytes(), 0);
    assert!(matches!(open_with(&storage, settings), Err(OpenError::Taken)));
}

#[test]
fn proofs_hold_over_segments() {
    let storage = Faulty::new();
    let log = open(&storage);
    let mut notes = Vec::new();
    for number in 0..150 {
        log.append(vec![entry("a", number)]).unwrap();
        notes.push(Checkpoint::open(&log.checkpoint(), log.verifier()).unwrap());
    }
    let mut view = View::open(Arc::new(storage.clone())).unwrap();
    let head = notes.last().unwrap();
    assert_eq!((view.size(), view.root(150).unwrap()), (150, head.root));
    for index in 0..150 {
        let (leaf, path) = view.inclusion(index, 150).unwrap();
        assert!(includes(&head.root, 150, index, leaf, &path), "{index}");
    }
    for old in &notes {
        let proof = view.consistency(old.size, 150).unwrap();
        assert!(extends(old.size, &old.root, 150, &head.root, &proof), "{}", old.size);
    }
    assert!(view.inclusion(150, 150).is_err() && view.consistency(151, 150).is_err());
    log.close();

    let verifier = verifier(&storage);
    let report = verify(&storage, &verifier, Some(&notes[70])).unwrap();
    assert_eq!((report.finding, report.rollback_excluded), (None, true));
    let other = Checkpoint { root: Hash::leaf(b"other"), ..notes[70].clone() };
    let finding = verify(&storage, &verifier, Some(&other)).unwrap().finding.unwrap();
    assert_eq!((finding.fault, finding.record, finding.last), (Fault::Changed, 0, 70));
}

#[test]
fn another_key_is_refused() {
    let storage = Faulty::new();
    let log = open(&storage);
    log.append(vec![entry("a", 1)]).unwrap();
    drop(log);
    let other = portcullis_audit_log::note::Signer::from_seed(&[8; 32]);
    let opened = portcullis_audit_log::log::Log::open(Arc::new(storage.clone()), other, small(), clock());
    assert!(matches!(opened.map(|_| ()), Err(OpenError::Key(_))));
    assert_eq!(open(&storage).durable().size, 1);
}

#[test]
fn a_segment_is_closed_when_it_is_old_also_after_a_restart() {
    let storage = Faulty::new();
    // The clock ticks with each look at it: some hundred looks are many appends here.
    let settings = Settings { segment_bytes: u64::MAX, segment_ms: 10, ..Settings::default() };
    let (log, _) = open_with(&storage, settings).unwrap();
    log.append(vec![entry("a", 0)]).unwrap();
    log.close();
    assert_eq!(segments(&storage).len(), 1);
    drop(log);
    // The second clock begins where the first did; nothing is old yet.
    let (log, _) = open_with(&storage, settings).unwrap();
    for number in 1..40 {
        log.append(vec![entry("a", number)]).unwrap();
    }
    log.close();
    let count = segments(&storage).len();
    assert!((2..20).contains(&count), "{count}");
    assert_eq!(read_all(&log).len(), 40);
    assert_eq!(check(&storage).finding, None);
}
