//! The journal's bytes: a head, then frames. All numbers are little-endian.
//!
//! ```text
//! head   "PCTLIM01", secret 16, identity 16, time 8, check 8
//! frame  "PCTF", length 4, number 8, time 8, records of 25, check 8
//! record kind 1, three numbers of 8
//! ```
//! A check is SipHash-1-3 keyed by the identity, so that what an earlier file left on the disk is never taken for ours. Every
//! frame is durable before the next is written: only the last can be torn. What is broken before an intact frame is corrupt.

use std::{hash::Hasher as _, ops::Range};

use siphasher::sip::SipHasher13;

use crate::{
    key::{Key, Secret},
    table::Floor,
};

const HEAD: &[u8; 8] = b"PCTLIM01";
const MARK: &[u8; 4] = b"PCTF";
const HEAD_BYTES: usize = 56;
const FRAME_BYTES: usize = 32;
/// Bytes of a record.
pub const RECORD_BYTES: usize = 25;

/// Which journal it is: random, remembered elsewhere too, so that its loss is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(pub [u8; 16]);

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// The key's arrival time is at most this.
    Ceiling(Key, u64),
    /// A set of a shard has this floor.
    Floor(u32, Floor),
    /// Earlier state was lost at this time.
    Lost(u64),
}

/// What a file held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The keys' secret.
    pub secret: Secret,
    /// Which journal.
    pub identity: Identity,
    /// The latest time that was written.
    pub now_ns: u64,
    /// In the order in which they were written.
    pub records: Vec<Record>,
}

fn check(identity: Identity, bytes: &[u8]) -> [u8; 8] {
    let mut hasher = SipHasher13::new_with_key(&identity.0);
    hasher.write(bytes);
    hasher.finish().to_le_bytes()
}

/// The head of a file.
#[must_use]
pub fn head(secret: &Secret, identity: Identity, now_ns: u64) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    bytes.extend_from_slice(&secret.0);
    bytes.extend_from_slice(&identity.0);
    bytes.extend_from_slice(&now_ns.to_le_bytes());
    let check = check(identity, &bytes);
    bytes.extend_from_slice(&check);
    bytes
}

/// Writes a record.
pub fn put(record: Record, bytes: &mut Vec<u8>) {
    let (kind, numbers) = match record {
        Record::Ceiling(key, ceiling_ns) => (1, [key.place, key.tag, ceiling_ns]),
        Record::Floor(shard, Floor { set, bits, floor_ns }) => {
            (2, [u64::from(shard) << 32 | u64::from(set), u64::from(bits), floor_ns])
        }
        Record::Lost(at_ns) => (3, [at_ns, 0, 0]),
    };
    bytes.push(kind);
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
}

/// A frame around records.
#[must_use]
pub fn frame(identity: Identity, number: u64, now_ns: u64, records: &[u8]) -> Vec<u8> {
    let length = u32::try_from(records.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(records.len().saturating_add(FRAME_BYTES));
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&now_ns.to_le_bytes());
    bytes.extend_from_slice(records);
    let check = check(identity, &bytes);
    bytes.extend_from_slice(&check);
    bytes
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

struct Frame {
    number: u64,
    now_ns: u64,
    records: Range<usize>,
    end: usize,
}

fn frame_at(identity: Identity, bytes: &[u8], at: usize) -> Option<Frame> {
    let rest = bytes.get(at..)?.strip_prefix(MARK)?;
    let length = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
    let records = at.checked_add(24)?..at.checked_add(24)?.checked_add(length)?;
    let end = records.end.checked_add(8)?;
    let whole = check(identity, bytes.get(at..records.end)?).as_slice() == bytes.get(records.end..end)?;
    let (sequence, now_ns) = (number(bytes, at.checked_add(8)?)?, number(bytes, at.checked_add(16)?)?);
    (whole && length % RECORD_BYTES == 0).then_some(Frame { number: sequence, now_ns, records, end })
}

fn record(bytes: &[u8]) -> Option<Record> {
    let [first, second, third] = [number(bytes, 1)?, number(bytes, 9)?, number(bytes, 17)?];
    match bytes.first()? {
        1 => Some(Record::Ceiling(Key { place: first, tag: second }, third)),
        2 => Some(Record::Floor(
            u32::try_from(first >> 32).ok()?,
            Floor {
                set: u32::try_from(first & u64::from(u32::MAX)).ok()?,
                bits: u32::try_from(second).ok()?,
                floor_ns: third,
            },
        )),
        3 => Some(Record::Lost(first)),
        _ => None,
    }
}

/// Reads a file; `None` when it is no journal, or is broken elsewhere than at its end.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Contents> {
    let rest = bytes.strip_prefix(HEAD)?;
    let (secret, rest) = rest.split_first_chunk()?;
    let identity = Identity(*rest.first_chunk()?);
    let (secret, now_ns) = (Secret(*secret), number(bytes, 40)?);
    if check(identity, bytes.get(..48)?).as_slice() != bytes.get(48..HEAD_BYTES)? {
        return None;
    }
    let mut contents = Contents { secret, identity, now_ns, records: Vec::new() };
    let (mut at, mut last) = (HEAD_BYTES, 0);
    while let Some(frame) = frame_at(identity, bytes, at).filter(|frame| frame.number > last) {
        contents.now_ns = contents.now_ns.max(frame.now_ns);
        for bytes in bytes.get(frame.records)?.chunks_exact(RECORD_BYTES) {
            contents.records.push(record(bytes)?);
        }
        (at, last) = (frame.end, frame.number);
    }
    let torn = bytes.get(at..)?;
    let later = torn.windows(MARK.len()).enumerate().filter(|(_, window)| window == MARK);
    let intact = later
        .filter_map(|(index, _)| frame_at(identity, bytes, at.checked_add(index)?))
        .any(|frame| frame.number > last);
    (!intact).then_some(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret([5; 16]);
    const IDENTITY: Identity = Identity([9; 16]);

    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = head(&SECRET, IDENTITY, 7);
        let mut ends = vec![bytes.len()];
        for number in 1..=4_u64 {
            let mut records = Vec::new();
            put(Record::Ceiling(Key { place: number, tag: 1 }, number * 10), &mut records);
            put(Record::Floor(3, Floor { set: 2, bits: 4, floor_ns: number }), &mut records);
            bytes.extend(frame(IDENTITY, number, 100 + number, &records));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn what_was_written_is_read() {
        let contents = read(&file().0).unwrap();
        assert_eq!((contents.secret, contents.identity, contents.now_ns), (SECRET, IDENTITY, 104));
        assert_eq!(contents.records.len(), 8);
        assert_eq!(contents.records[6], Record::Ceiling(Key { place: 4, tag: 1 }, 40));
        assert_eq!(contents.records[7], Record::Floor(3, Floor { set: 2, bits: 4, floor_ns: 4 }));
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_is_torn() {
        let (bytes, ends) = file();
        for length in ends[0]..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count() - 1;
            assert_eq!(read(&bytes[..length]).unwrap().records.len(), whole * 2, "{length}");
        }
        for length in 0..ends[0] {
            assert_eq!(read(&bytes[..length]), None);
        }
    }

    #[test]
    fn a_bit_that_flipped_before_the_end_is_corrupt() {
        let (bytes, ends) = file();
        for at in 0..ends[3] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 4;
            assert_eq!(read(&spoilt), None, "{at}");
        }
        // In the last frame it cannot be told from a torn one.
        let mut spoilt = bytes.clone();
        spoilt[ends[3] + 30] ^= 4;
        assert_eq!(read(&spoilt).unwrap().records.len(), 6);
    }

    #[test]
    fn frames_of_another_file_are_no_frames() {
        let (mut bytes, _) = file();
        bytes.extend(frame(Identity([8; 16]), 5, 999, &[]));
        assert_eq!(read(&bytes).unwrap().now_ns, 104);
    }
}
