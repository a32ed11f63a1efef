//! Bans: who misbehaves again and again is kept out for a while, longer each time.
//!
//! Each key has strikes within a window that begins with the first of them, the end of its ban, and how often it was banned
//! without as much good conduct in between as the last ban lasted. State is in shared slots of its own, [`ENTRIES`] keys
//! a slot. When a slot is full, strikes give way to strikes, the oldest first, and to bans; a ban that runs never gives
//! way. So a flood of keys can make a newcomer's strikes be forgotten, and if all places of a slot are running bans, a
//! further ban there is not imposed (and counted); it never frees anybody who is banned.

use std::time::Duration;

use portcullis_policy::{SharedState, StateError, StoreResult, limits};

use crate::{
    commit::CONFLICTS,
    config::{Attacks, Limited},
    key::Counted,
};

/// Keys of a slot.
pub const ENTRIES: usize = 7;
const ENTRY: usize = 32;
/// `grlb`, version 1.
const FORMAT: u64 = u64::from_le_bytes(*b"grlb\x01\0\0\0");
const _: () = assert!(8 + ENTRIES * ENTRY <= limits::SHARED_SLOT_BYTES);

/// A ban, compiled.
#[derive(Debug)]
pub struct Ban {
    /// Its name.
    pub name: String,
    /// Whom it bans.
    pub counted: Counted,
    /// Tells it apart from others for the same.
    pub salt: u64,
    /// Which limits' refusals are strikes.
    pub on_limited: Limited,
    /// Which attacks are strikes.
    pub on_attacks: Attacks,
    /// Which statuses are strikes.
    pub statuses: Vec<(u16, u16)>,
    /// How many, and how long.
    pub terms: Terms,
    /// What the banned are answered.
    pub status: u16,
    /// Whether it refuses, or only reports.
    pub enforce: bool,
}

/// How many strikes ban, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// So many ban.
    pub strikes: u16,
    /// Within so long from the first.
    pub window_ns: u64,
    /// The first ban.
    pub first_ns: u64,
    /// The longest.
    pub maximum_ns: u64,
}

/// A key's strikes and bans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conduct {
    tag: u32,
    strikes: u16,
    bans: u16,
    /// When the window of the strikes ends.
    window_ns: u64,
    until_ns: u64,
    /// From then on it equals nothing.
    forgotten_ns: u64,
}

impl Conduct {
    /// How long the ban still runs.
    pub fn rest(&self, now_ns: u64) -> Option<u64> {
        self.until_ns.checked_sub(now_ns).filter(|rest| *rest > 0)
    }

    /// One strike more; how long the ban lasts that it brought.
    pub fn strike(&mut self, now_ns: u64, terms: &Terms) -> Option<u64> {
        if self.rest(now_ns).is_some() {
            return None;
        }
        if now_ns >= self.forgotten_ns {
            *self = Self { tag: self.tag, ..Self::default() };
        }
        if self.strikes == 0 || now_ns >= self.window_ns {
            self.strikes = 0;
            self.window_ns = now_ns.saturating_add(terms.window_ns);
        }
        self.strikes = self.strikes.saturating_add(1);
        self.forgotten_ns = self.forgotten_ns.max(self.window_ns);
        if self.strikes < terms.strikes {
            return None;
        }
        let doubled = terms
            .first_ns
            .checked_shl(u32::from(self.bans))
            .filter(|long| long >> self.bans == terms.first_ns);
        let ban_ns = doubled.unwrap_or(u64::MAX).min(terms.maximum_ns);
        self.bans = self.bans.saturating_add(1).min(62);
        self.strikes = 0;
        self.until_ns = now_ns.saturating_add(ban_ns);
        self.forgotten_ns = self.until_ns.saturating_add(ban_ns);
        Some(ban_ns)
    }
}

/// What a slot holds.
#[derive(Debug, Clone, Default)]
pub struct Table {
    entries: Vec<Conduct>,
}

impl Table {
    /// Reads a slot; what is not of this format is taken as empty.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut table = Self::default();
        let Some((format, entries)) = bytes.split_first_chunk::<8>() else { return table };
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        if u64::from_le_bytes(*format) != FORMAT || !rest.is_empty() || entries.len() > ENTRIES {
            return table;
        }
        for bytes in entries {
            let (words, _) = bytes.as_chunks::<8>();
            let [first, window, until, forgotten] = words else { continue };
            let [first, window_ns, until_ns, forgotten_ns] =
                [first, window, until, forgotten].map(|word| u64::from_le_bytes(*word));
            #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
            let (tag, strikes, bans) = (first as u32, (first >> 32) as u16, (first >> 48) as u16 & 63);
            table.entries.push(Conduct { tag, strikes, bans, window_ns, until_ns, forgotten_ns });
        }
        table
    }

    /// Writes a slot, without what is forgotten.
    pub fn encode(&self, now_ns: u64) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        for entry in self.entries.iter().filter(|entry| entry.forgotten_ns > now_ns) {
            let first = u64::from(entry.tag) | u64::from(entry.strikes) << 32 | u64::from(entry.bans) << 48;
            for word in [first, entry.window_ns, entry.until_ns, entry.forgotten_ns] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }

    /// How long the key's ban still runs, and its how manieth it is.
    pub fn running(&self, tag: u32, now_ns: u64) -> Option<(u64, u16)> {
        let entry = self.entries.iter().find(|entry| entry.tag == tag)?;
        entry.rest(now_ns).map(|rest| (rest, entry.bans))
    }

    /// A strike of that key.
    pub fn strike(&mut self, tag: u32, now_ns: u64, terms: &Terms) -> Struck {
        let known = self.entries.iter().copied().find(|entry| entry.tag == tag);
        let mut entry = known.unwrap_or(Conduct { tag, ..Conduct::default() });
        let banned = entry.strike(now_ns, terms);
        let place = match known {
            Some(_) => self.entries.iter_mut().find(|entry| entry.tag == tag),
            None => self.place(now_ns),
        };
        match (place, banned) {
            (None, None) => Struck::Forgotten,
            (None, Some(_)) => Struck::NoPlace,
            (Some(place), banned) => {
                *place = entry;
                banned.map_or(Struck::Counted, Struck::Banned)
            }
        }
    }

    /// A place for a newcomer: a free one, a forgotten one, or that of the strikes whose window ends first.
    fn place(&mut self, now_ns: u64) -> Option<&mut Conduct> {
        if self.entries.len() < ENTRIES {
            self.entries.push(Conduct::default());
            return self.entries.last_mut();
        }
        let idle = self.entries.iter_mut().filter(|entry| entry.rest(now_ns).is_none());
        idle.min_by_key(|entry| (entry.forgotten_ns > now_ns, entry.bans > 0, entry.forgotten_ns))
    }
}

/// What a strike led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Struck {
    /// It is counted, or the key is banned already.
    Counted,
    /// It bans the key for so long.
    Banned(u64),
    /// All places are running bans: the strike is not kept.
    Forgotten,
    /// All places are running bans: this one is not imposed.
    NoPlace,
}

/// Counts a strike in its slot.
pub fn strike(
    shared: &mut dyn SharedState,
    slot: u32,
    tag: u32,
    now: Duration,
    terms: &Terms,
) -> Result<Struck, StateError> {
    let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    for _ in 0..=CONFLICTS {
        let value = shared.load(slot)?;
        let mut table = Table::decode(&value.bytes);
        let struck = table.strike(tag, now_ns, terms);
        if matches!(struck, Struck::Forgotten | Struck::NoPlace) {
            return Ok(struck);
        }
        if shared.store(slot, &table.encode(now_ns), value.version)? == StoreResult::Stored {
            return Ok(struck);
        }
    }
    // Others strike at the same time: one strike too few.
    Ok(Struck::Forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const TERMS: Terms = Terms { strikes: 3, window_ns: 10 * S, first_ns: 60 * S, maximum_ns: 200 * S };

    #[test]
    fn strikes_within_the_window_ban_and_bans_double() {
        let mut conduct = Conduct::default();
        assert_eq!([S, 2 * S].map(|now| conduct.strike(now, &TERMS)), [None, None]);
        // The window has passed: it begins again.
        assert_eq!([11 * S, 12 * S].map(|now| conduct.strike(now, &TERMS)), [None, None]);
        assert_eq!(conduct.strike(13 * S, &TERMS), Some(60 * S));
        assert_eq!((conduct.rest(73 * S - 1), conduct.rest(73 * S)), (Some(1), None));
        assert_eq!(conduct.strike(20 * S, &TERMS), None, "no strikes while it is banned");
        for (start, ban) in [(74, 120), (195, 200), (396, 200)] {
            assert_eq!([start, start].map(|now| conduct.strike(now * S, &TERMS)), [None, None]);
            assert_eq!(conduct.strike(start * S, &TERMS), Some(ban * S));
        }
        // As long as the last ban without a strike, and it begins anew.
        let good = 396 + 200 + 200;
        assert_eq!([good, good].map(|now| conduct.strike(now * S, &TERMS)), [None, None]);
        assert_eq!(conduct.strike(good * S, &TERMS), Some(60 * S));
    }

    #[test]
    fn a_flood_never_frees_who_is_banned() {
        let terms = Terms { strikes: 2, ..TERMS };
        let mut table = Table::default();
        table.strike(7, S, &terms);
        assert_eq!(table.strike(7, S, &terms), Struck::Banned(60 * S));
        let mut full = false;
        for key in 100..10_000_u32 {
            let first = table.strike(key, 2 * S, &terms);
            full |= table.strike(key, 2 * S, &terms) == Struck::Forgotten || first == Struck::Forgotten;
            table = Table::decode(&table.encode(2 * S));
            assert!(table.encode(2 * S).len() <= limits::SHARED_SLOT_BYTES);
            assert!(table.running(7, 3 * S).is_some());
        }
        assert!(full);
        assert_eq!(table.strike(99_999, 2 * S, &Terms { strikes: 1, ..TERMS }), Struck::NoPlace);
        // When the bans are over and forgotten there is room again.
        assert_eq!(table.strike(99_999, 200 * S, &Terms { strikes: 1, ..TERMS }), Struck::Banned(60 * S));
    }

    #[test]
    fn strikes_give_way_the_oldest_first() {
        let mut table = Table::default();
        for key in 0..8 {
            assert_eq!(table.strike(key, (u64::from(key) + 1) * S / 10, &TERMS), Struck::Counted);
        }
        // Key 0 has given way to key 7; key 1 has one strike.
        assert_eq!(table.strike(1, S, &TERMS), Struck::Counted);
        assert_eq!(table.strike(1, S, &TERMS), Struck::Banned(60 * S));
        assert_eq!(table.strike(0, S, &TERMS), Struck::Counted);
        assert_eq!(table.strike(0, S, &TERMS), Struck::Counted);
        assert_eq!(table.strike(0, S, &TERMS), Struck::Banned(60 * S));
    }

    #[test]
    fn what_is_not_ours_is_taken_as_empty() {
        for bytes in [&b""[..], b"x", &[0; 64], &[0xff; 256], b"grlb\x01\0\0\0short"] {
            assert_eq!(Table::decode(bytes).running(0, 0), None);
        }
    }
}
