//! Where states are kept: sets of eight entries in a table that grows up to a fixed size.
//!
//! At the bound nothing is refunded. An entry whose arrival time has passed equals a fresh one, and is the first to go. If
//! all eight of a set are in use, the one nearest to fresh gives way, and the set remembers its arrival time as a
//! *floor*: whoever comes anew to that set starts from there, at most with a whole quota used up. Entries with tokens out
//! never give way; when all eight have, a newcomer is told that there is no room, and is granted nothing.
//!
//! An entry fills one line of the processor's cache, and a key names the way it would like to have. Most keys have it, so
//! a question waits for memory once a key; the other ways are searched only for keys that came later, and for new ones.

use std::collections::HashMap;

use crate::{
    key::Key,
    quota::{Quota, Time},
    step::Leases,
};

/// Entries of a set.
pub const WAYS: usize = 8;

/// One key's state. Everything that a decision reads lies in one line of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C, align(64))]
pub struct Entry {
    /// 0: free.
    tag: u64,
    place: u64,
    tat_ns: u64,
    /// The arrival time that the journal promises never to be exceeded without another record.
    pub ceiling_ns: u64,
    /// The journal's batch with that promise.
    pub batch: u64,
    parts: u32,
    /// In the low bits the limit whose parts the arrival time counts; in the highest, whether tokens are out.
    limit: u32,
    /// Of the whole set; it stands in its first way alone.
    floor_ns: u64,
}

const LEASED: u32 = 1 << 31;
const _: () = assert!(crate::quota::MOST_REQUESTS < LEASED);
const _: () = assert!(std::mem::size_of::<Entry>() == 64);

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

    /// Whether it equals a fresh one, or is free.
    fn is_over(&self, now_ns: u64) -> bool {
        self.tag == 0 || !self.is_leased() && self.tat().ceil() <= now_ns
    }

    /// Whether in addition nothing of it is promised any more: a newcomer in its place costs its key nothing.
    fn is_idle(&self, now_ns: u64) -> bool {
        self.is_over(now_ns) && self.ceiling_ns <= now_ns
    }

    fn key(&self) -> Key {
        Key { place: self.place, tag: self.tag }
    }

    /// Another key's state in its place; the set's floor stays.
    fn replace(&mut self, other: Self) {
        *self = Self { floor_ns: self.floor_ns, ..other };
    }
}

/// Eight entries.
#[derive(Debug, Clone, Copy, Default)]
struct Set([Entry; WAYS]);

impl Set {
    /// The way that a key is first looked for in, and first put into.
    fn favourite(tag: u64) -> usize {
        usize::try_from(tag % 8).unwrap_or(0)
    }

    /// Where a key is.
    fn way(&self, tag: u64) -> Option<usize> {
        let favourite = Self::favourite(tag);
        if self.0.get(favourite)?.tag == tag {
            return Some(favourite);
        }
        self.0.iter().position(|entry| entry.tag == tag)
    }

    /// A place whose key equals a fresh one.
    fn fresh(&self, tag: u64, now_ns: u64) -> Option<usize> {
        let favourite = Self::favourite(tag);
        if self.0.get(favourite)?.is_idle(now_ns) {
            return Some(favourite);
        }
        self.0.iter().position(|entry| entry.is_over(now_ns))
    }

    /// The key nearest to fresh among those that may give way.
    fn victim(&self) -> Option<usize> {
        let usable = self.0.iter().enumerate().filter(|(_, entry)| !entry.is_leased());
        usable.min_by_key(|(_, entry)| entry.tat()).map(|(way, _)| way)
    }

    fn floor_ns(&self) -> u64 {
        let [first, ..] = &self.0;
        first.floor_ns
    }

    fn raise_floor(&mut self, floor_ns: u64) {
        let [first, ..] = &mut self.0;
        first.floor_ns = first.floor_ns.max(floor_ns);
    }
}

/// Where a key was found; it may have moved since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    set: u32,
    way: u32,
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
        Self { sets: vec![Set::default(); 1], most, out: HashMap::new(), folded: 0, refused: 0 }
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

    /// Reads where `key` most likely is, for nothing but that it be in the cache when it is looked for.
    pub fn touch(&self, key: Key) {
        let entry = self.sets.get(self.number(key)).and_then(|set| set.0.get(Set::favourite(key.tag)));
        std::hint::black_box(entry.map(|entry| entry.tag));
    }

    /// Where the entry of `key` is, made if there is none; `None` when every place is taken by keys with tokens out.
    pub fn locate(&mut self, key: Key, now_ns: u64, quota: &Quota) -> Option<Slot> {
        let number = self.number(key);
        let found = self.sets.get(number)?.way(key.tag);
        let (set, way) = match found {
            Some(way) => (number, way),
            None => self.make(key, now_ns, quota)?,
        };
        Some(Slot { set: u32::try_from(set).ok()?, way: u32::try_from(way).ok()? })
    }

    /// The entry of `key`, if it is still where it was found.
    pub fn at(&mut self, slot: Slot, key: Key) -> Option<&mut Entry> {
        entry_at(&mut self.sets, slot, key)
    }

    /// The entry of `key`, made if there is none; `None` when every place is taken by keys with tokens out.
    pub fn entry(&mut self, key: Key, now_ns: u64, quota: &Quota) -> Option<&mut Entry> {
        let slot = self.locate(key, now_ns, quota)?;
        self.at(slot, key)
    }

    /// The same, beside what is out of keys.
    pub fn known(&mut self, slot: Slot, key: Key) -> (&mut HashMap<Key, Out>, Option<&mut Entry>) {
        let Self { sets, out, .. } = self;
        (out, entry_at(sets, slot, key))
    }

    fn has_room(&self, key: Key, now_ns: u64) -> bool {
        self.sets.get(self.number(key)).is_some_and(|set| set.fresh(key.tag, now_ns).is_some())
    }

    #[cold]
    fn make(&mut self, key: Key, now_ns: u64, quota: &Quota) -> Option<(usize, usize)> {
        while self.sets.len() < self.most && !self.has_room(key, now_ns) {
            self.double();
        }
        let number = self.number(key);
        let set = self.sets.get_mut(number)?;
        let way = match set.fresh(key.tag, now_ns) {
            Some(way) => way,
            None => {
                let Some(way) = set.victim() else {
                    self.refused = self.refused.saturating_add(1);
                    return None;
                };
                let tat = set.0.get(way)?.tat();
                set.raise_floor(tat.ceil());
                self.folded = self.folded.saturating_add(1);
                way
            }
        };
        let start = set.floor_ns().min(now_ns.saturating_add(quota.refill_ns()));
        let tat_ns = if start > now_ns { start } else { 0 };
        let Key { place, tag } = key;
        let entry = set.0.get_mut(way)?;
        entry.replace(Entry { tag, place, tat_ns, limit: quota.limit(), ..Entry::default() });
        Some((number, way))
    }

    fn double(&mut self) {
        let old = self.sets.len();
        self.sets.extend_from_within(..);
        let (lower, upper) = self.sets.split_at_mut(old);
        let bit = u64::try_from(old).unwrap_or(0);
        for (lower, upper) in lower.iter_mut().zip(upper) {
            for (lower, upper) in lower.0.iter_mut().zip(&mut upper.0) {
                let leaves = if lower.place & bit != 0 { lower } else { upper };
                leaves.replace(Entry::default());
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
                set.raise_floor(floor.floor_ns);
            }
        }
    }

    /// Everything that still matters at `now_ns`.
    pub fn live(&self, now_ns: u64) -> impl Iterator<Item = (Key, &Entry)> {
        let matters = move |entry: &&Entry| entry.ceiling_ns > now_ns || entry.is_leased();
        let used = self.sets.iter().flat_map(|set| &set.0).filter(|entry| entry.tag != 0).filter(matters);
        used.map(|entry| (entry.key(), entry))
    }

    /// Floors that still matter at `now_ns`.
    pub fn floors(&self, now_ns: u64) -> impl Iterator<Item = Floor> {
        let bits = self.sets.len().trailing_zeros();
        self.sets.iter().enumerate().filter(move |(_, set)| set.floor_ns() > now_ns).map(
            move |(number, set)| Floor {
                set: u32::try_from(number).unwrap_or(u32::MAX),
                bits,
                floor_ns: set.floor_ns(),
            },
        )
    }
}

fn entry_at(sets: &mut [Set], slot: Slot, key: Key) -> Option<&mut Entry> {
    let set = sets.get_mut(usize::try_from(slot.set).ok()?)?;
    set.0.get_mut(usize::try_from(slot.way).ok()?).filter(|entry| entry.tag == key.tag)
}
