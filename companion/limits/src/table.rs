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

/// One key's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `tag` of 0: free.
    pub key: Key,
    /// The theoretical arrival time.
    pub tat: Time,
    /// The limit whose parts `tat` counts.
    pub limit: u32,
    /// Whether tokens are out: then it never gives way.
    pub leased: bool,
    /// The arrival time that the journal promises never to be exceeded without another record.
    pub ceiling_ns: u64,
    /// The journal's batch with that promise.
    pub batch: u64,
}

impl Entry {
    const FREE: Self = Self {
        key: Key { place: 0, tag: 0 },
        tat: Time { ns: 0, parts: 0 },
        limit: 0,
        leased: false,
        ceiling_ns: 0,
        batch: 0,
    };

    fn is_fresh(&self, now_ns: u64) -> bool {
        self.key.tag == 0 || (!self.leased && self.tat.ceil() <= now_ns)
    }
}

#[derive(Debug, Clone, Copy)]
struct Set {
    entries: [Entry; WAYS],
    floor_ns: u64,
}

const EMPTY: Set = Set { entries: [Entry::FREE; WAYS], floor_ns: 0 };

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
        Self { sets: vec![EMPTY; 1], most, out: HashMap::new(), folded: 0, refused: 0 }
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

    /// The entry of `key`, made if there is none; `None` when every place is taken by keys with tokens out.
    pub fn entry(&mut self, key: Key, now_ns: u64, quota: &Quota) -> Option<&mut Entry> {
        let number = self.number(key);
        let known = self.sets.get(number)?.entries.iter().position(|entry| entry.key == key);
        if let Some(at) = known {
            return self.sets.get_mut(number)?.entries.get_mut(at);
        }
        while self.sets.len() < self.most && !self.has_room(key, now_ns) {
            self.double();
        }
        self.make(key, now_ns, quota)
    }

    fn has_room(&self, key: Key, now_ns: u64) -> bool {
        let set = self.sets.get(self.number(key));
        set.is_some_and(|set| set.entries.iter().any(|entry| entry.is_fresh(now_ns)))
    }

    fn make(&mut self, key: Key, now_ns: u64, quota: &Quota) -> Option<&mut Entry> {
        let number = self.number(key);
        let set = self.sets.get_mut(number)?;
        let free = set.entries.iter().position(|entry| entry.is_fresh(now_ns));
        let at = match free {
            Some(at) => at,
            None => {
                let usable = set.entries.iter().enumerate().filter(|(_, entry)| !entry.leased);
                let Some((at, victim)) = usable.min_by_key(|(_, entry)| entry.tat) else {
                    self.refused = self.refused.saturating_add(1);
                    return None;
                };
                set.floor_ns = set.floor_ns.max(victim.tat.ceil());
                self.folded = self.folded.saturating_add(1);
                at
            }
        };
        let start = set.floor_ns.min(now_ns.saturating_add(quota.refill_ns()));
        let entry = set.entries.get_mut(at)?;
        let tat = Time { ns: if start > now_ns { start } else { 0 }, parts: 0 };
        *entry = Entry { key, tat, limit: quota.limit(), ..Entry::FREE };
        Some(entry)
    }

    fn double(&mut self) {
        let old = self.sets.len();
        self.sets.extend_from_within(..);
        let (lower, upper) = self.sets.split_at_mut(old);
        let bit = u64::try_from(old).unwrap_or(0);
        for (lower, upper) in lower.iter_mut().zip(upper) {
            for (low, high) in lower.entries.iter_mut().zip(&mut upper.entries) {
                match low.key.place & bit {
                    0 => *high = Entry::FREE,
                    _ => *low = Entry::FREE,
                }
            }
        }
    }

    /// Puts back what was kept on disk: the arrival time is at least that.
    pub fn restore(&mut self, key: Key, ceiling_ns: u64, now_ns: u64) {
        // A quota that a whole floor fits in: nothing is cut off.
        let Ok(any) = Quota::new(1, crate::quota::LONGEST_WINDOW, 1) else { return };
        if let Some(entry) = self.entry(key, now_ns, &any) {
            entry.tat = entry.tat.max(Time { ns: ceiling_ns, parts: 0 });
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
    pub fn live(&self, now_ns: u64) -> impl Iterator<Item = &Entry> {
        let entries = self.sets.iter().flat_map(|set| &set.entries);
        entries.filter(move |entry| entry.key.tag != 0 && (entry.ceiling_ns > now_ns || entry.leased))
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
