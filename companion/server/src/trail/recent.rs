//! The keys of the records that came last: a batch that is delivered again right away is told from a new one.
//!
//! It spares the trail what modules repeat after a lost answer. It is no promise: what is older, or came before a
//! restart, is appended again, and the projection keeps one. Limits: two generations of [`GENERATION`] keys.

use std::collections::HashSet;

use crate::event::RecordKey;

/// Keys of one generation; the older of two is forgotten when the younger is full.
const GENERATION: usize = 128 * 1024;

/// A key in sixteen bytes.
type Key = (u64, i64);

fn key(key: &RecordKey) -> Key {
    // An epoch is sixteen hexadecimal digits, so it always reads.
    (u64::from_str_radix(key.epoch.as_str(), 16).unwrap_or_default(), key.sequence.as_i64())
}

/// Keys of records that are durable.
#[derive(Default)]
pub struct Recent {
    young: HashSet<Key>,
    old: HashSet<Key>,
}

impl Recent {
    /// Whether this record is known to be durable.
    #[must_use]
    pub fn holds(&self, record: &RecordKey) -> bool {
        let key = key(record);
        self.young.contains(&key) || self.old.contains(&key)
    }

    /// Remembers a record that is durable.
    pub fn add(&mut self, record: &RecordKey) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Epoch, Sequence};

    #[test]
    fn the_newest_keys_are_known_and_memory_is_bounded() {
        let key = |n: u64| RecordKey {
            epoch: Epoch::new("00000000000000aa").unwrap(),
            sequence: Sequence::new(n).unwrap(),
        };
        let mut recent = Recent::default();
        let count = 3 * GENERATION as u64;
        for n in 0..count {
            assert!(!recent.holds(&key(n)));
            recent.add(&key(n));
        }
        assert!(recent.holds(&key(count - 1)) && recent.holds(&key(count - GENERATION as u64)));
        assert!(!recent.holds(&key(0)));
        assert!(recent.young.len() + recent.old.len() <= 2 * GENERATION);
    }
}
