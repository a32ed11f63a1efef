use std::sync::Arc;

use portcullis_audit_log::faults::Faulty;
use portcullis_audit_log::log::Log;
use portcullis_audit_log::merkle::{extends, includes};
use portcullis_audit_log::note::Checkpoint;
use portcullis_audit_log::retention::{Retention, Rule};
use portcullis_audit_log::storage::Storage;
use portcullis_audit_log::verify::{Fault, verify};
use portcullis_audit_log::view::{View, ViewError};

use crate::support::*;

const COUNT: u64 = 120;

/// Two tenants in turn, and the published heads on the way.
fn filled(storage: &Faulty) -> (Log, Vec<Checkpoint>) {
    let log = open(storage);
    let mut heads = Vec::new();
    for number in 0..COUNT {
        log.append(vec![entry(["acme", "blue"][usize::from(number % 2 == 1)], number)]).unwrap();
        if let Some(head) = storage.bytes("head") {
            heads.push(Checkpoint::open(std::str::from_utf8(&head).unwrap(), log.verifier()).unwrap());
        }
    }
    (log, heads)
}

fn age(milliseconds: u64) -> Rule {
    Rule { max_age_ms: Some(milliseconds), max_bytes: None }
}

#[test]
fn one_tenant_goes_and_the_other_stays_and_every_proof_is_valid() {
    let storage = Faulty::new();
    let (log, heads) = filled(&storage);
    let rules = Retention { tenants: [("acme".to_owned(), age(10))].into(), ..Retention::default() };
    let done = log.retain(&rules, u64::MAX, 10_000).unwrap();
    assert!(done.rewritten > 3 && done.deleted == 0, "{done:?}");
    let left = read_all(&log);
    let (acme, blue) = (
        left.iter().filter(|record| record.tenant == "acme").count() as u64,
        left.iter().filter(|record| record.tenant == "blue").count() as u64,
    );
    assert_eq!((blue, acme), (COUNT / 2, COUNT / 2 - done.erased));
    assert_eq!(log.retain(&rules, u64::MAX, 10_000).unwrap().erased, 0, "once is enough");
    proofs(&storage, &log, &heads, 0);

    // Then the other one's time is over too: what has nothing left is deleted.
    let rules = Retention { default: age(10), ..Retention::default() };
    let done = log.retain(&rules, u64::MAX, 10_000).unwrap();
    assert!(done.deleted > 3 && done.rewritten == 0, "{done:?}");
    let first = read_all(&log).first().map_or(COUNT, |record| record.index);
    assert!(first > COUNT / 2);
    proofs(&storage, &log, &heads, first);

    log.append(vec![entry("acme", COUNT)]).unwrap();
    drop(log);
    let report = check(&storage);
    assert_eq!((report.finding, report.size, report.erased), (None, COUNT + 1, first));
    let log = open(&storage);
    assert_eq!(log.append(vec![entry("acme", COUNT)]).unwrap().first, COUNT + 1);
}

/// Every record from `first` on is proven, and every head that was given out is the beginning of the log.
fn proofs(storage: &Faulty, log: &Log, heads: &[Checkpoint], first: u64) {
    let now = Checkpoint::open(&log.checkpoint(), log.verifier()).unwrap();
    let mut view = View::open(Arc::new(storage.clone())).unwrap();
    for index in first..now.size {
        let (leaf, path) = view.inclusion(index, now.size).unwrap();
        assert!(includes(&now.root, now.size, index, leaf, &path), "{index}");
    }
    if let Some(gone) = first.checked_sub(1) {
        assert!(matches!(view.inclusion(gone, now.size), Err(ViewError::Gone(..))));
    }
    assert!(heads.len() > 10);
    for head in heads.iter().step_by(4) {
        let proof = view.consistency(head.size, now.size).unwrap();
        assert!(extends(head.size, &head.root, now.size, &now.root, &proof), "{}", head.size);
        let report = verify(storage, log.verifier(), Some(head)).unwrap();
        assert_eq!((report.finding, report.rollback_excluded), (None, true), "{}", head.size);
    }
}

#[test]
fn a_tenant_keeps_its_newest_bytes() {
    let storage = Faulty::new();
    let (log, _) = filled(&storage);
    let rule = Rule { max_age_ms: None, max_bytes: Some(3_000) };
    let rules = Retention { tenants: [("blue".to_owned(), rule)].into(), ..Retention::default() };
    log.retain(&rules, u64::MAX, 0).unwrap();
    let left = read_all(&log);
    let blue: Vec<u64> =
        left.iter().filter(|record| record.tenant == "blue").map(|record| record.index).collect();
    assert!((10..45).contains(&blue.len()), "{}", blue.len());
    assert_eq!(blue.last(), Some(&(COUNT - 1)));
    assert_eq!(left.iter().filter(|record| record.tenant == "acme").count() as u64, COUNT / 2);
    let all = Retention { max_total_bytes: Some(5_000), ..Retention::default() };
    assert!(log.retain(&all, u64::MAX, 0).unwrap().deleted > 2);
    assert_eq!(read_all(&log).last().map(|record| record.index), Some(COUNT - 1));
    assert_eq!(check(&storage).finding, None);
}

#[test]
fn what_is_not_exported_is_held() {
    let storage = Faulty::new();
    let (log, _) = filled(&storage);
    let rules = Retention { default: age(0), ..Retention::default() };
    let done = log.retain(&rules, 0, 10_000).unwrap();
    assert!(done.held > 3 && done.erased == 0, "{done:?}");
    log.retain(&rules, 60, 10_000).unwrap();
    let first = read_all(&log).first().unwrap().index;
    assert!(first > 0 && first <= 60, "{first}");
}

#[test]
fn an_interrupted_deletion_is_finished() {
    let storage = Faulty::new();
    let (log, _) = filled(&storage);
    let rules = Retention { default: age(0), ..Retention::default() };
    let before = storage.copy();
    log.retain(&rules, u64::MAX, 10_000).unwrap();
    // The power failed when the first file had been written and its segment was still there.
    let gone = storage.list().unwrap().into_iter().find(|name| name.ends_with(".gone")).unwrap();
    let content = storage.bytes(&gone).unwrap();
    before.create(&gone).unwrap().write_at(&content, 0).unwrap();
    before.create("00000000000000000000.seg.new").unwrap();
    assert_eq!(check(&before).finding, None);
    drop(open(&before));
    let names = before.list().unwrap();
    assert!(names.contains(&gone) && !names.contains(&gone.replace("gone", "seg")));
    assert!(!names.iter().any(|name| name.ends_with(".new")));
    assert_eq!(check(&before).finding, None);
}

#[test]
fn a_full_disk_leaves_segments_as_they_were() {
    let storage = Faulty::new();
    let (log, _) = filled(&storage);
    let rules = Retention { tenants: [("acme".to_owned(), age(0))].into(), ..Retention::default() };
    storage.set_capacity(Some(storage.used() + 100));
    assert!(log.retain(&rules, u64::MAX, 10_000).is_err());
    assert_eq!((read_all(&log).len() as u64, check(&storage).finding), (COUNT, None));
    storage.set_capacity(None);
    assert!(log.retain(&rules, u64::MAX, 10_000).unwrap().erased > 0);
}

#[test]
fn an_erasure_that_nobody_signed_is_found() {
    use portcullis_audit_log::frame::{Body, FRAME_HEAD, body, decode, head};
    use portcullis_audit_log::merkle::Hash;
    let storage = Faulty::new();
    let (log, _) = filled(&storage);
    drop(log);
    let name = segments(&storage).first().unwrap().clone();
    storage.tamper(&name, |bytes| {
        let mut start = portcullis_audit_log::frame::Header::decode(bytes).unwrap().1;
        loop {
            let total = head(&bytes[start..]).unwrap().0 + FRAME_HEAD;
            let raw = body(&bytes[start..]).unwrap().to_vec();
            if let Some(Body::Record(record)) = decode(&raw)
                && record.index == 3
            {
                let mut erased = Vec::new();
                Body::Erased { index: 3, leaf: Hash::leaf(&raw) }.encode(&mut erased);
                bytes.splice(start..start + total, erased);
                return;
            }
            start += total;
        }
    });
    let finding = check(&storage).finding.unwrap();
    // The footer's sums do not fit any more, or the signed word is missing: found either way.
    assert!(matches!(finding.fault, Fault::Removed | Fault::Changed), "{finding:?}");
    assert!(finding.record <= 3 && finding.last >= 3, "{finding:?}");
}
