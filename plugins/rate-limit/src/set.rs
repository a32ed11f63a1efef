//! The content of one shared slot: a small set of limits in use, of a fixed size.
//!
//! An entry is a tag of its key's hash and its state. One whose time has passed equals a fresh one and is left out. When
//! all [`WAYS`] places hold live entries and one more comes, the entry whose absence does least harm is *folded*: its
//! state is kept as a floor from which every key without an entry of its own starts. So no eviction ever gives burst back;
//! what it costs is that newcomers to a full slot share one quota until it has drained. Floors are kept by how long
//! a quota takes to refill, so that a flood of keys with a daily limit does not lock out those with a limit a minute.
//!
//! Two keys in one slot whose tags (30 bits) are the same share an entry: they are admitted less, never more.
//!
//! Time never goes back within a slot: what is decided here is decided at the latest time that the slot has seen. Workers
//! that read their clock before others stored would otherwise find entries gone that still mattered to them.
//!
//! Layout, little endian, at most 256 bytes: 8 bytes of format, 8 bytes latest time, 4 · 8 bytes floors, then 16 bytes
//! an entry: tag, parts, nanoseconds. Anything else, such as what another version of this module left behind, is taken
//! as empty: the next store puts it right, and the caller counts it.

use portcullis_policy::limits;

use crate::gcra::{self, Quota, Step, Time};

/// Entries of a set.
pub const WAYS: usize = 13;
const HEAD: usize = 48;
const ENTRY: usize = 16;
const _: () = assert!(HEAD + WAYS * ENTRY <= limits::SHARED_SLOT_BYTES);
/// `gcra`, version 1.
const FORMAT: u64 = u64::from_le_bytes(*b"gcra\x01\0\0\0");

const FLOORS: usize = 4;
const MINUTE_NS: u64 = 60_000_000_000;
/// A quota that takes up to so long to refill has that floor; what takes longer, the last.
const FLOOR_BORDERS: [u64; FLOORS - 1] = [2 * MINUTE_NS, 120 * MINUTE_NS, 48 * 60 * MINUTE_NS];

/// Which entry of a set: 30 bits of the key's hash, and the number of its floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tag(u32);

impl Tag {
    /// From the key's hash, for a quota that takes so long to refill.
    pub fn new(hash: u64, refill_ns: u64) -> Self {
        let floor = FLOOR_BORDERS.iter().filter(|border| refill_ns > **border).count();
        let high = u32::try_from(hash >> 32).unwrap_or(0);
        Self((high & !3) | u32::try_from(floor).unwrap_or(0))
    }

    const fn floor(self) -> usize {
        (self.0 & 3) as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Entry {
    tag: Tag,
    state: Time,
}

/// A slot's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    latest_ns: u64,
    floors: [u64; FLOORS],
    entries: [Entry; WAYS],
    len: usize,
    folded: u32,
}

impl Set {
    /// Reads a slot; `None` when its content is not of this format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (head, entries) = bytes.split_at_checked(HEAD)?;
        let (words, []) = head.as_chunks::<8>() else { return None };
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        if words.next() != Some(FORMAT) {
            return None;
        }
        let mut set = Self { latest_ns: words.next()?, ..Self::default() };
        for floor in &mut set.floors {
            *floor = words.next()?;
        }
        let (entries, []) = entries.as_chunks::<ENTRY>() else { return None };
        if entries.len() > WAYS {
            return None;
        }
        for (entry, bytes) in set.entries.iter_mut().zip(entries) {
            let whole = u128::from_le_bytes(*bytes);
            #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
            let (tag, parts, ns) = (whole as u32, (whole >> 32) as u32, (whole >> 64) as u64);
            *entry = Entry { tag: Tag(tag), state: Time { ns, parts } };
        }
        set.len = entries.len();
        Some(set)
    }

    /// Writes a slot, without entries and floors whose time has passed.
    pub fn encode(&self) -> Encoded {
        let mut encoded = Encoded { bytes: [0; limits::SHARED_SLOT_BYTES], len: 0 };
        encoded.push(&FORMAT.to_le_bytes());
        encoded.push(&self.latest_ns.to_le_bytes());
        for floor in self.floors {
            let live = if floor > self.latest_ns { floor } else { 0 };
            encoded.push(&live.to_le_bytes());
        }
        for entry in self.live() {
            let whole = u128::from(entry.tag.0)
                | (u128::from(entry.state.parts) << 32)
                | (u128::from(entry.state.ns) << 64);
            encoded.push(&whole.to_le_bytes());
        }
        encoded
    }

    fn live(&self) -> impl Iterator<Item = &Entry> {
        let latest = Time::whole(self.latest_ns);
        self.entries.iter().take(self.len).filter(move |entry| entry.state > latest)
    }

    /// How many entries were folded since the slot was read.
    pub fn folded(&self) -> u32 {
        self.folded
    }

    /// Decides on one request under that tag, and keeps the new state if it is admitted.
    pub fn step(&mut self, tag: Tag, now_ns: u64, quota: &Quota) -> Step {
        let at_ns = now_ns.max(self.latest_ns);
        let known = self.entries.iter_mut().take(self.len).find(|entry| entry.tag == tag);
        let floor = self.floors.get(tag.floor()).copied().unwrap_or(0);
        let state = known.as_ref().map_or(Time::whole(floor), |entry| entry.state);
        let step = gcra::step(state, at_ns, quota);
        match step {
            Step::Admit { state, .. } => {
                match known {
                    Some(entry) => entry.state = state,
                    None => self.insert(Entry { tag, state }, at_ns),
                }
                self.latest_ns = at_ns;
                step
            }
            // The wait is told from the caller's now.
            Step::Refuse { wait_ns } => {
                Step::Refuse { wait_ns: wait_ns.saturating_add(at_ns.saturating_sub(now_ns)) }
            }
        }
    }

    fn insert(&mut self, mut new: Entry, at_ns: u64) {
        if let Some(free) = self.entries.get_mut(self.len) {
            *free = new;
            self.len = self.len.saturating_add(1);
            return;
        }
        let at = Time::whole(at_ns);
        if let Some(passed) = self.entries.iter_mut().find(|entry| entry.state <= at) {
            *passed = new;
            return;
        }
        let floors = self.floors;
        let harm = |entry: &Entry| {
            let floor = floors.get(entry.tag.floor()).copied().unwrap_or(0).max(at_ns);
            entry.state.ceil().saturating_sub(floor)
        };
        let least = self.entries.iter_mut().min_by_key(|entry| harm(entry));
        if let Some(least) = least
            && harm(least) < harm(&new)
        {
            std::mem::swap(least, &mut new);
        }
        if let Some(floor) = self.floors.get_mut(new.tag.floor()) {
            *floor = (*floor).max(new.state.ceil());
        }
        self.folded = self.folded.saturating_add(1);
    }
}

/// A set as bytes.
#[derive(Debug, Clone)]
pub struct Encoded {
    bytes: [u8; limits::SHARED_SLOT_BYTES],
    len: usize,
}

impl Encoded {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
