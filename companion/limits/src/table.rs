//! Where states are kept: sets of eight entries in a table that grows up to a fixed size.
//!
//! At the bound nothing is refunded. An entry whose arrival time has passed equals a fresh one, and is the first to go. If
//! all eight of a set are in use, the one nearest to fresh gives way, and the set remembers its arrival time as a
//! *floor*: whoever comes anew to that set starts from there, at most with a whole quota used up. Entries with tokens out
//! never give way; when all eight have, a newcomer is told that there is no room, and is granted nothing.

use std::collections::HashMap;

use crate::{
    key::Key,
    quota::{Quota, Time},
    step::Leases,
};

/// Entries of a set.
pub const WAYS: usize = 8;

/// One key's state, in 40 bytes: what is looked at together lies together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    tat_ns: u64,
    place: u64,
    /// The arrival time that the journal promises never to be exceeded without another record.
    pub ceiling_ns: u64,
    /// The journal's batch with that promise.
    pub batch: u64,
    parts: u32,
    /// In the low bits the limit whose parts the arrival time counts; in the highest, whether tokens are out.
    limit: u32,
}

const LEASED: u32 = 1 << 31;
const _: () = assert!(crate::quota::MOST_REQUESTS < LEASED);

impl Entry {
    /// The theoretical arrival time.
    #[must_use]
    pub fn tat(&self) -> Time {
        Time { ns: self.tat_ns, parts: self.parts }
    }

    /// Sets it.
    pub fn set_tat(&mut self, tat: Time) {
        (self.tat_ns, self.parts) = (tat.ns, tat.parts);
    }

    /// The limit whose parts the arrival time counts.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit & !LEASED
    }

    /// Sets it.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = self.limit & LEASED | limit & !LEASED;
    }

    /// Whether tokens are out: then it never gives way.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.limit & LEASED != 0
    }

    /// Notes it.
    pub fn set_leased(&mut self, leased: bool) {
        self.limit = self.limit() | if leased { LEASED } else { 0 };
    }

    fn is_over(&self, now_ns: u64) -> bool {
        !self.is_leased() && self.tat().ceil() <= now_ns
    }
}

/// Eight entries. Their keys' tags fill one line of the processor's cache, so that a key is found, or known not to be
/// there, by reading that alone.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Set {
    /// 0: free.
    tags: [u64; WAYS],
    entries: [Entry; WAYS],
    floor_ns: u64,
}

impl Set {
    const EMPTY: Self = Self {
        tags: [0; WAYS],
        entries: [Entry { tat_ns: 0, place: 0, ceiling_ns: 0, batch: 0, parts: 0, limit: 0 }; WAYS],
        floor_ns: 0,
    };

    /// Where a key is. Without a branch for each, so that several sets can be searched at the same time.
    fn way(&self, tag: u64) -> Option<usize> {
        let found = self
            .tags
            .iter()
            .enumerate()
            .fold(0_u32, |all, (way, known)| all | u32::from(*known == tag) << way);
        (found != 0).then(|| found.trailing_zeros() as usize)
    }

    /// A place whose key equals a fresh one.
    fn fresh(&self, now_ns: u64) -> Option<usize> {
        self.tags.iter().zip(&self.entries).position(|(tag, entry)| *tag == 0 || entry.is_over(now_ns))
    }

    /// The key nearest to fresh among those that may give way.
    fn victim(&self) -> Option<usize> {
        let usable = self.entries.iter().enumerate().filter(|(_, entry)| !entry.is_leased());
        usable.min_by_key(|(_, entry)| entry.tat()).map(|(way, _)| way)
    }

    fn clear(&mut self, way: usize) {
        if let (Some(tag), Some(entry)) = (self.tags.get_mut(way), self.entries.get_mut(way)) {
            (*tag, *entry) = (0, Entry::default());
        }
    }
}

/// What is out of a key, and by which quota it went.
#[derive(Debug, Clone)]
pub struct Out {
    /// The leases.
    pub leases: Leases,
    /// The quota of the last ask.
    pub quota: Quota,
}

/// A part of the whole table, behind one lock.
#[derive(Debug)]
pub struct Table {
    sets: Vec<Set>,
    most: usize,
    /// Of the keys whose entries are `leased`.
    pub out: HashMap<Key, Out>,
    /// Entries that gave way although they were in use.
    pub folded: u64,
    /// Keys that found no room.
    pub refused: u64,
}

/// A set's floor as it is kept on disk: it holds for every set whose number ends on these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The number of the set.
    pub set: u32,
    /// How many low bits of `place` it was chosen by.
    pub bits: u32,
    /// The arrival time.
    pub floor_ns: u64,
}

impl Table {
    /// At most `keys` entries, rounded up to a power of two.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        let most = keys.div_ceil(WAYS).max(1).next_power_of_two();
        Self { sets: vec![Set::EMPTY; 1], most, out: HashMap::new(), folded: 0, refused: 0 }
    }

    /// Bytes of the entries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sets.len() * std::mem::size_of::<Set>()
    }

    fn number(&self, key: Key) -> usize {
        // Low bits: a table that doubles splits each set in two. The high bits chose the shard.
        usize::try_from(key.place).unwrap_or(0) & (self.sets.len() - 1)
    }

    /// The entry of `key`, if there is one.
    #[must_use]
    pub fn find(&self, key: Key) -> Option<&Entry> {
        let set = self.sets.get(self.number(key))?;
        set.entries.get(set.way(key.tag)?)
    }

    /// The entry of `key`, made if there is none; `None` when every place is taken by keys with tokens out.
    pub fn entry(&mut self, key: Key, now_ns: u64, quota: &Quota) -> Option<&mut Entry> {
        let number = self.number(key);
        if let Some(at) = self.sets.get(number)?.way(key.tag) {
            return self.sets.get_mut(number)?.entries.get_mut(at);
        }
        while self.sets.len() < self.most && !self.has_room(key, now_ns) {
            self.double();
        }
        self.make(key, now_ns, quota)
    }

    fn has_room(&self, key: Key, now_ns: u64) -> bool {
        self.sets.get(self.number(key)).is_some_and(|set| set.fresh(now_ns).is_some())
    }

    fn make(&mut self, key: Key, now_ns: u64, quota: &Quota) -> Option<&mut Entry> {
        let number = self.number(key);
        let set = self.sets.get_mut(number)?;
        let at = match set.fresh(now_ns) {
            Some(at) => at,
            None => {
                let Some(at) = set.victim() else {
                    self.refused = self.refused.saturating_add(1);
                    return None;
                };
                set.floor_ns = set.floor_ns.max(set.entries.get(at)?.tat().ceil());
                self.folded = self.folded.saturating_add(1);
                at
            }
        };
        let start = set.floor_ns.min(now_ns.saturating_add(quota.refill_ns()));
        *set.tags.get_mut(at)? = key.tag;
        let entry = set.entries.get_mut(at)?;
        let tat_ns = if start > now_ns { start } else { 0 };
        *entry = Entry { tat_ns, place: key.place, ..Entry::default() };
        entry.set_limit(quota.limit());
        Some(entry)
    }

    fn double(&mut self) {
        let old = self.sets.len();
        self.sets.extend_from_within(..);
        let (lower, upper) = self.sets.split_at_mut(old);
        let bit = u64::try_from(old).unwrap_or(0);
        for (lower, upper) in lower.iter_mut().zip(upper) {
            for way in 0..WAYS {
                let goes_up = lower.entries.get(way).is_some_and(|entry| entry.place & bit != 0);
                if goes_up { lower.clear(way) } else { upper.clear(way) }
            }
        }
    }

    /// Puts back what was kept on disk: the arrival time is at least that.
    pub fn restore(&mut self, key: Key, ceiling_ns: u64, now_ns: u64) {
        // A quota that a whole floor fits in: nothing is cut off.
        let Ok(any) = Quota::new(1, crate::quota::LONGEST_WINDOW, 1) else { return };
        if let Some(entry) = self.entry(key, now_ns, &any) {
            entry.set_tat(entry.tat().max(Time { ns: ceiling_ns, parts: 0 }));
            entry.ceiling_ns = entry.ceiling_ns.max(ceiling_ns);
        }
    }

    /// Puts back a floor.
    pub fn restore_floor(&mut self, floor: Floor) {
        let mask = |bits: u32| 1_usize.checked_shl(bits).map_or(usize::MAX, |count| count - 1);
        let common = mask(floor.bits) & (self.sets.len() - 1);
        let wanted = usize::try_from(floor.set).unwrap_or(0) & common;
        for (number, set) in self.sets.iter_mut().enumerate() {
            if number & common == wanted {
                set.floor_ns = set.floor_ns.max(floor.floor_ns);
            }
        }
    }

    /// Everything that still matters at `now_ns`.
    pub fn live(&self, now_ns: u64) -> impl Iterator<Item = (Key, &Entry)> {
        let entries = self.sets.iter().flat_map(|set| set.tags.iter().zip(&set.entries));
        let matters = move |entry: &Entry| entry.ceiling_ns > now_ns || entry.is_leased();
        let used = entries.filter(move |(tag, entry)| **tag != 0 && matters(entry));
        used.map(|(tag, entry)| (Key { place: entry.place, tag: *tag }, entry))
    }

    /// Floors that still matter at `now_ns`.
    pub fn floors(&self, now_ns: u64) -> impl Iterator<Item = Floor> {
        let bits = self.sets.len().trailing_zeros();
        self.sets.iter().enumerate().filter(move |(_, set)| set.floor_ns > now_ns).map(
            move |(number, set)| Floor {
                set: u32::try_from(number).unwrap_or(u32::MAX),
                bits,
                floor_ns: set.floor_ns,
            },
        )
    }
}
