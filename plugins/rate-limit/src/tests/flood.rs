//! An attack on the table: many keys, against bounded memory and a victim's spent burst. On a table of a thirty-second of its
//! size, so that it is full soon; at full size: `cargo run --release -p portcullis-rate-limit --example slots`.

use std::{collections::BTreeMap, time::Duration};

use portcullis_policy::{SharedState, SlotValue, StateError, StoreResult, limits};
use serde_json::json;

use super::{ask, policy, promise, request};
use crate::{RateLimit, metrics::FOLDED};

/// Slots of the small table.
const SLOTS: u32 = crate::LIMIT_SLOTS / 32;

/// Slots that know how much they hold.
struct Measured {
    slots: BTreeMap<u32, Vec<u8>>,
    bytes: usize,
    most: usize,
}

impl SharedState for Measured {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        Ok(SlotValue { bytes: self.slots.get(&(slot % SLOTS)).cloned().unwrap_or_default(), version: 1 })
    }

    fn store(&mut self, slot: u32, bytes: &[u8], _: u32) -> Result<StoreResult, StateError> {
        assert!(slot < limits::SHARED_SLOTS && bytes.len() <= limits::SHARED_SLOT_BYTES);
        let before = self.slots.insert(slot % SLOTS, bytes.to_vec()).map_or(0, |old| old.len());
        self.bytes = self.bytes + bytes.len() - before;
        self.most = self.most.max(self.bytes);
        Ok(StoreResult::Stored)
    }

    fn seed(&mut self) -> u64 {
        0x5eed
    }
}

fn per_user() -> RateLimit {
    policy(json!({"headers": false, "rules": [{"name": "u", "per": ["user"], "limit": 5, "window": "1h"}]}))
}

#[test]
fn many_keys_take_bounded_memory_and_give_no_burst_back() {
    const KEYS: u64 = 400_000;
    let policy = per_user();
    let mut shared = Measured { slots: BTreeMap::new(), bytes: 0, most: 0 };
    let victims: Vec<_> = (0..50).map(|n| request("t", &format!("victim-{n}"), &[])).collect();
    let mut admitted = vec![0_u128; victims.len()];
    let at = |key: u64| Duration::from_millis(1000 + key / 100);
    for (victim, admitted) in victims.iter().zip(&mut admitted) {
        while ask(&policy, &mut shared, at(0), victim).passed() {
            *admitted += 1;
        }
        assert_eq!(*admitted, 5);
    }
    let (mut folded, mut passed, mut half) = (0, 0, 0);
    for key in 0..KEYS {
        let answer = ask(&policy, &mut shared, at(key), &request("t", &key.to_string(), &[]));
        folded += answer.count(&FOLDED);
        passed += u64::from(answer.passed());
        if key % 20_000 == 0 {
            for (victim, admitted) in victims.iter().zip(&mut admitted) {
                *admitted += u128::from(ask(&policy, &mut shared, at(key), victim).passed());
            }
        }
        if key == KEYS / 2 {
            half = shared.most;
        }
    }
    let span = (at(KEYS) - at(0)).as_nanos() as u64;
    let most = promise(5, Duration::from_secs(3600), 5, span);
    assert!(admitted.iter().all(|count| *count <= most), "{admitted:?}");
    assert_eq!(shared.most, half, "memory grew in the second half");
    assert!(shared.most <= SLOTS as usize * limits::SHARED_SLOT_BYTES);
    // The table was full, and those who came late shared quotas.
    assert!(folded > 10_000 && passed < 300_000, "{folded} {passed}");
}
