//! Slots that lie in a store outside, as one request sees them: an optimistic transaction.
//!
//! A policy asks for slots while it decides, and a store answers later. Policies are pure, so the request is simply decided
//! again once what was missing is here, and again when somebody else stored first. Nothing that it decided counts before
//! its slots are stored.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::{SharedState, SlotValue, StateError, StoreResult, limits};

/// Slots of one request.
#[derive(Default)]
pub struct Transaction {
    base: BTreeMap<u32, SlotValue>,
    written: BTreeMap<u32, Vec<u8>>,
    missing: BTreeSet<u32>,
    /// The store cannot be reached.
    pub away: bool,
    /// The secret that all isolates share.
    pub seed: u64,
}

/// Where [`SharedState::seed`] lies: beyond the slots that policies may use.
pub const SEED_SLOT: u32 = limits::SHARED_SLOTS;

impl Transaction {
    /// Forgets what was written and missed, and keeps what the store gave.
    pub fn restart(&mut self) {
        self.written.clear();
        self.missing.clear();
    }

    /// What the store has.
    pub fn provide(&mut self, slot: u32, bytes: &[u8], version: u32) {
        if slot == SEED_SLOT {
            self.seed = bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        }
        self.base.insert(slot, SlotValue { bytes: bytes.to_vec(), version });
    }

    /// What was asked for and is not here.
    pub fn take_missing(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.missing).into_iter().collect()
    }

    /// Whether something was.
    pub fn misses(&self) -> bool {
        !self.missing.is_empty()
    }

    /// What the store gave.
    pub fn seen(&self) -> Vec<u32> {
        self.base.keys().copied().filter(|slot| *slot != SEED_SLOT).collect()
    }

    /// What is to be stored.
    pub fn written(&self) -> Vec<u32> {
        self.written.keys().copied().collect()
    }

    /// Whether there is something.
    pub fn writes(&self) -> bool {
        !self.written.is_empty()
    }

    /// What is to be stored in a slot.
    pub fn content(&self, slot: u32) -> Vec<u8> {
        self.written.get(&slot).cloned().unwrap_or_default()
    }

    /// Which version that replaces; 0: none was stored yet.
    pub fn version(&self, slot: u32) -> u32 {
        self.base.get(&slot).map_or(0, |value| value.version)
    }
}

impl SharedState for Transaction {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        if slot >= limits::SHARED_SLOTS {
            return Err(StateError::Limit);
        }
        match self.base.get(&slot) {
            _ if self.away => Err(StateError::Refused),
            Some(base) => {
                let bytes = self.written.get(&slot).unwrap_or(&base.bytes).clone();
                Ok(SlotValue { bytes, version: base.version })
            }
            None => {
                self.missing.insert(slot);
                Err(StateError::Refused)
            }
        }
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        if slot >= limits::SHARED_SLOTS || bytes.len() > limits::SHARED_SLOT_BYTES {
            return Err(StateError::Limit);
        }
        if self.away {
            return Err(StateError::Refused);
        }
        if self.version(slot) != version {
            return Ok(StoreResult::Conflict);
        }
        self.written.insert(slot, bytes.to_vec());
        Ok(StoreResult::Stored)
    }

    fn seed(&mut self) -> u64 {
        if !self.base.contains_key(&SEED_SLOT) && !self.away {
            self.missing.insert(SEED_SLOT);
        }
        self.seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_is_written_is_read() {
        let mut slots = Transaction::default();
        assert_eq!(slots.load(7), Err(StateError::Refused));
        assert_eq!(slots.seed(), 0);
        assert_eq!(slots.take_missing(), [7, SEED_SLOT]);
        slots.provide(7, b"a", 3);
        slots.provide(SEED_SLOT, &9_u64.to_le_bytes(), 1);
        assert_eq!((slots.seed(), slots.misses()), (9, false));
        assert_eq!(slots.store(7, b"b", 2), Ok(StoreResult::Conflict));
        assert_eq!(slots.store(7, b"b", 3), Ok(StoreResult::Stored));
        assert_eq!(slots.load(7), Ok(SlotValue { bytes: b"b".to_vec(), version: 3 }));
        assert_eq!((slots.written(), slots.seen()), (vec![7], vec![7]));
        slots.restart();
        assert_eq!(slots.load(7).map(|value| value.bytes), Ok(b"a".to_vec()));
    }

    #[test]
    fn a_store_that_is_away_refuses_and_is_not_asked_again() {
        let mut slots = Transaction { away: true, ..Transaction::default() };
        slots.provide(1, b"a", 1);
        assert_eq!(slots.load(1), Err(StateError::Refused));
        assert_eq!(slots.store(1, b"b", 1), Err(StateError::Refused));
        assert!(!slots.misses() && !slots.writes());
        assert_eq!(slots.load(limits::SHARED_SLOTS), Err(StateError::Limit));
    }
}
