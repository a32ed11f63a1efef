//! Every kind of tampering is found, and named where it is.

use portcullis_audit_log::faults::Faulty;
use portcullis_audit_log::frame::{self, Body, FRAME_HEAD, Header, Record};
use portcullis_audit_log::log::Settings;
use portcullis_audit_log::note::Checkpoint;
use portcullis_audit_log::verify::{Fault, verify};

use crate::support::*;

const RECORDS: u64 = 40;

fn log() -> Faulty {
    let storage = Faulty::new();
    // Each group is published, so that the log ends with a group of records.
    let log = open_with(&storage, Settings { publish_ms: 0, ..small() }).unwrap().0;
    let mut number = 0;
    while number < RECORDS {
        let batch = (0..1 + number % 3).map(|place| entry("acme", number + place)).collect::<Vec<_>>();
        number += batch.len() as u64;
        log.append(batch).unwrap();
    }
    drop(log);
    storage
}

/// Where each record's frame lies in a file: number, start, end.
fn frames(bytes: &[u8]) -> Vec<(u64, usize, usize)> {
    let mut start = Header::decode(bytes).unwrap().1;
    let mut found = Vec::new();
    while let Some((length, _)) = bytes.get(start..).and_then(frame::head) {
        let end = start + FRAME_HEAD + length;
        match frame::body(&bytes[start..]).and_then(frame::decode) {
            Some(Body::Record(record)) => found.push((record.index, start, end)),
            Some(Body::Footer(_)) | None => break,
            Some(_) => {}
        }
        start = end;
    }
    found
}

/// Writes a record's frame anew, so that its CRC holds.
fn forge(bytes: &[u8], start: usize, change: impl FnOnce(&mut Record<'_>)) -> Vec<u8> {
    let raw = frame::body(&bytes[start..]).unwrap().to_vec();
    let Some(Body::Record(mut record)) = frame::decode(&raw) else { panic!("no record") };
    change(&mut record);
    let mut out = Vec::new();
    Body::Record(record).encode(&mut out);
    out
}

struct Mutation {
    kind: &'static str,
    /// The record that was touched, where it is one.
    record: Option<u64>,
    /// Whether it must be named to the record.
    exact: bool,
}

fn mutate(storage: &Faulty, dice: &mut Dice) -> Mutation {
    let names = segments(storage);
    let name = &names[usize::try_from(dice.roll(names.len() as u64)).unwrap()];
    let original = storage.bytes(name).unwrap();
    let frames = frames(&original);
    let pick = usize::try_from(dice.roll(frames.len().max(1) as u64)).unwrap();
    let kind = if frames.len() < 2 { 0 } else { dice.roll(6) };
    let mut made = Mutation { kind: "", record: None, exact: false };
    storage.tamper(name, |bytes| match kind {
        0 => {
            made.kind = "flip";
            let bit = usize::try_from(dice.roll(bytes.len() as u64 * 8)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            made.record = frames
                .iter()
                .find(|(_, start, end)| (*start..*end).contains(&(bit / 8)))
                .map(|(index, ..)| *index);
            made.exact = true;
        }
        1 => {
            made.kind = "forge";
            let (index, start, end) = frames[pick];
            let forged = forge(bytes, start, |record| record.time ^= 1 + dice.roll(1 << 40));
            bytes.splice(start..end, forged);
            made.record = Some(index);
        }
        2 => {
            made.kind = "remove";
            let (index, start, end) = frames[pick];
            bytes.drain(start..end);
            made.record = Some(index);
            made.exact = true;
        }
        3 => {
            made.kind = "swap";
            let first = pick.min(frames.len() - 2);
            let ((low, start, middle), (_, second, end)) = (frames[first], frames[first + 1]);
            let swapped =
                [&original[second..end], &original[middle..second], &original[start..middle]].concat();
            bytes.splice(start..end, swapped);
            made.record = Some(low);
        }
        4 => {
            made.kind = "cut";
            let keep = usize::try_from(dice.roll(bytes.len() as u64)).unwrap();
            bytes.truncate(keep);
        }
        _ => {
            made.kind = "repeat";
            let (_, start, end) = frames[pick];
            let copy = original[start..end].to_vec();
            bytes.splice(end..end, copy);
        }
    });
    made
}

#[test]
fn every_mutation_is_found_and_named() {
    let sound = log();
    let whole = check(&sound);
    assert_eq!(whole.finding, None);
    let verifier = verifier(&sound);
    let mut dice = Dice(0xD1CE);
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    for round in 0..scale(1_000_000, 2_000) {
        let storage = sound.copy();
        let made = mutate(&storage, &mut dice);
        let report = verify(&storage, &verifier, None).unwrap();
        let Some(finding) = report.finding else {
            // What ends a file that another follows holds no record, and a file that was given up has none.
            assert_eq!(made.kind, "cut", "round {round}: it was not found");
            assert_eq!(
                (report.size, &report.root),
                (whole.size, &whole.root),
                "round {round}: records are missing"
            );
            *counts.entry("cut where no record was").or_default() += 1;
            continue;
        };
        if let Some(record) = made.record {
            assert!(
                (finding.record..=finding.last).contains(&record),
                "{round} {}: {record} {finding:?}",
                made.kind
            );
            assert!(!made.exact || finding.record == record, "{round} {}: {record} {finding:?}", made.kind);
        }
        *counts.entry(made.kind).or_default() += 1;
    }
    println!("found: {counts:?}");
    counts.remove("cut where no record was");
    assert_eq!(counts.len(), 6);
}

#[test]
fn mended_crcs_and_roots_do_not_help() {
    let storage = log();
    let name = segments(&storage).first().unwrap().clone();
    // Changes record 1 and every root after it in the file, as somebody without the key can.
    storage.tamper(&name, |bytes| {
        let (header, mut start) = Header::decode(bytes).unwrap();
        let mut tree = header.before;
        let mut out = bytes[..start].to_vec();
        while let Some(raw) = frame::body(&bytes[start..]) {
            match frame::decode(raw).unwrap() {
                Body::Record(mut record) => {
                    if record.index == 1 {
                        record.tenant = "else";
                    }
                    let place = Body::Record(record).encode(&mut out);
                    tree.push(portcullis_audit_log::merkle::Hash::leaf(&out[place]));
                }
                Body::Checkpoint(mut signed) => {
                    signed.root = tree.root();
                    Body::Checkpoint(signed).encode(&mut out);
                }
                other => {
                    other.encode(&mut out);
                }
            }
            start += FRAME_HEAD + raw.len();
            if start + frame::TRAILER >= bytes.len() {
                break;
            }
        }
        *bytes = out;
    });
    let finding = check(&storage).finding.unwrap();
    assert!(finding.record <= 1 && finding.last >= 1 && finding.last < 6, "{finding:?}");
}

#[test]
fn missing_files_and_other_files_are_found() {
    use portcullis_audit_log::storage::Storage;
    let sound = log();
    let names = segments(&sound);
    assert!(names.len() > 2, "{names:?}");
    let number = |name: &str| name[..20].parse::<u64>().unwrap();
    for (place, name) in names.iter().enumerate() {
        let storage = sound.copy();
        storage.remove(name).unwrap();
        let finding = check(&storage).finding.unwrap();
        let wanted = if place + 1 == names.len() { Fault::CutOff } else { Fault::Removed };
        assert_eq!((finding.fault, finding.record), (wanted, number(name)));
    }
    let storage = sound.copy();
    let other = log();
    let foreign = other.bytes(&names[1]).unwrap();
    storage.tamper(&names[1], |bytes| *bytes = foreign);
    assert_eq!(check(&storage).finding.unwrap().record, number(&names[1]));
    let storage = sound.copy();
    storage.tamper("head", |bytes| bytes[40] ^= 1);
    assert_eq!(check(&storage).finding.unwrap().fault, Fault::Forged);
}

#[test]
fn a_roll_back_needs_a_checkpoint_from_elsewhere() {
    let storage = Faulty::new();
    let log = open(&storage);
    for number in 0..10 {
        log.append(vec![entry("acme", number)]).unwrap();
    }
    log.close();
    let earlier = storage.copy();
    drop(log);
    let log = open(&storage);
    for number in 10..20 {
        log.append(vec![entry("acme", number)]).unwrap();
    }
    let kept = log.checkpoint();
    drop(log);
    let verifier = verifier(&earlier);
    let kept = Checkpoint::open(&kept, &verifier).unwrap();
    let report = verify(&earlier, &verifier, None).unwrap();
    assert_eq!((report.finding, report.rollback_excluded), (None, false));
    let report = verify(&earlier, &verifier, Some(&kept)).unwrap();
    let finding = report.finding.unwrap();
    assert_eq!((finding.fault, finding.record, report.rollback_excluded), (Fault::CutOff, 10, false));
    let report = verify(&storage, &verifier, Some(&kept)).unwrap();
    assert_eq!((report.finding, report.rollback_excluded), (None, true));
}
