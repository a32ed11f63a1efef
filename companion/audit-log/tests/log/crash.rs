use portcullis_audit_log::faults::Faulty;
use portcullis_audit_log::frame::{CHECKPOINT_BODY, FRAME_HEAD};
use portcullis_audit_log::log::{AppendError, OpenError};
use portcullis_audit_log::verify::Fault;

use crate::support::*;

/// Appends under every fault at once, loses power, and looks for what was acknowledged.
fn lives(seed: u64, crashes: u64, tear: bool) {
    let storage = Faulty::new();
    let mut dice = Dice(seed);
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    let mut value = 0;
    for life in 0..crashes {
        let (log, _) = open_with(&storage, small()).unwrap_or_else(|error| panic!("life {life}: {error}"));
        let records = read_all(&log);
        for (index, value) in &acknowledged {
            let index = usize::try_from(*index).unwrap();
            let found = records.get(index).unwrap_or_else(|| panic!("life {life}: record {index} is lost"));
            assert_eq!(found.public, entry("a", *value).public, "life {life}: record {index}");
        }
        let cut = dice.roll(40);
        for step in 0..40 {
            match dice.roll(12) {
                0 => storage.set_capacity(Some(storage.used() + usize::try_from(dice.roll(900)).unwrap())),
                1 => storage.set_capacity(None),
                2 => storage.fail_syncs(u32::try_from(dice.roll(3)).unwrap()),
                _ => {}
            }
            if step == cut {
                // The power fails while a group is under way.
                let (copy, mut torn) = (storage.clone(), Dice(dice.roll(u64::MAX - 1) + 1));
                let thread = std::thread::spawn(move || copy.crash(|| tear && torn.roll(2) == 0));
                let _ = log.append(vec![entry("a", value)]).map(|at| acknowledged.push((at.first, value)));
                thread.join().unwrap();
                break;
            }
            let count = 1 + dice.roll(4);
            let batch = (0..count).map(|place| entry("a", value + place)).collect();
            match log.append(batch) {
                Ok(appended) => {
                    acknowledged.extend((0..count).map(|place| (appended.first + place, value + place)));
                }
                Err(AppendError::Full | AppendError::Failed(_)) => {}
                Err(other) => panic!("{other}"),
            }
            value += count;
        }
        storage.set_capacity(None);
        storage.fail_syncs(0);
        drop(log);
        assert_eq!(check_if_begun(&storage), None, "life {life}");
    }
    assert!(acknowledged.len() as u64 > crashes);
}

fn check_if_begun(storage: &Faulty) -> Option<portcullis_audit_log::verify::Finding> {
    if segments(storage).is_empty() { None } else { check(storage).finding }
}

#[test]
fn every_byte_that_was_not_synced_is_discarded_and_nothing_acknowledged_is_lost() {
    for seed in 1..=scale(200, 3) {
        lives(seed * 7919, 25, false);
    }
}

#[test]
fn writes_tear_and_nothing_acknowledged_is_lost() {
    for seed in 1..=scale(200, 3) {
        lives(seed * 104_729, 25, true);
    }
}

#[test]
fn damage_is_not_taken_for_a_tear() {
    let storage = Faulty::new();
    let log = open(&storage);
    for number in 0..9 {
        log.append(vec![entry("a", number)]).unwrap();
    }
    drop(log);
    let name = segments(&storage).pop().unwrap();
    let sound = storage.bytes(&name).unwrap();
    let last_checkpoint = sound.len() - FRAME_HEAD - CHECKPOINT_BODY;
    for place in 0..sound.len() {
        let damaged = storage.copy();
        damaged.tamper(&name, |bytes| bytes[place] ^= 0x10);
        let opened = open_with(&damaged, small()).map(|(log, _)| log.durable().size);
        if place >= last_checkpoint {
            // The signature that closing adds: no record depends on it.
            assert!(matches!(opened, Ok(9)), "byte {place}");
            continue;
        }
        assert!(matches!(opened, Err(OpenError::Damaged { .. } | OpenError::Key(_))), "byte {place}");
        assert_eq!(damaged.bytes(&name).unwrap().len(), sound.len(), "evidence was changed");
    }
    // The near miss: what was never acknowledged is cut.
    let torn = storage.copy();
    torn.tamper(&name, |bytes| bytes.extend_from_slice(&sound[sound.len() - 100..]));
    let (log, recovered) = open_with(&torn, small()).unwrap();
    assert_eq!((recovered.cut_bytes, log.durable().size), (100, 9));
}

#[test]
fn a_log_whose_end_was_cut_is_not_opened() {
    let storage = Faulty::new();
    let log = open(&storage);
    for number in 0..9 {
        log.append(vec![entry("a", number)]).unwrap();
    }
    drop(log);
    let name = segments(&storage).pop().unwrap();
    storage.tamper(&name, |bytes| bytes.truncate(bytes.len() - 200));
    assert!(matches!(open_with(&storage, small()).map(|_| ()), Err(OpenError::Damaged { .. })));
    let finding = check(&storage).finding.unwrap();
    assert!(matches!(finding.fault, Fault::CutOff | Fault::Changed), "{finding:?}");
}
