//! Rate limits: in any span of time, no key is admitted more often than its limit says, whatever else happens: other
//! keys that crowd the slot, workers that store first, a host that refuses.

use std::time::Duration;

use portcullis_policy::{SharedState, SlotValue, StateError, StoreResult};
use portcullis_rate_limit::{
    gcra::Quota,
    set::{Rate, Set, Step, Tag},
};

use crate::Choices;

/// Keys that share one slot: more than it has places.
const KEYS: u8 = 40;
/// Requests of one run.
const MOST: usize = 400;

/// Three bytes: limit, window in seconds, burst. Then two bytes a request: which key, and how long after the one before.
/// Last, all of it as the content of a slot.
pub fn hold(data: &[u8]) {
    slot(data);
    let mut choices = Choices(data);
    let limit = u32::from(choices.next() % 50) + 1;
    let window = Duration::from_secs(u64::from(choices.next() % 90) + 1);
    let burst = u32::from(choices.next() % 20) + 1;
    let quota = Quota::new(limit, window, burst).expect("within bounds");
    let mut shared = Shaky { value: SlotValue::default() };
    let mut admitted: Vec<(u8, u64)> = Vec::new();
    let mut now: u64 = 1_000_000_000;
    for pair in choices.0.chunks_exact(2).take(MOST) {
        let (key, wait) = (pair[0] % KEYS, pair[1]);
        // From nothing to some seconds, in steps that are no divisors of anything.
        now += u64::from(wait & 0x3f).pow(3) * 37_003;
        let troubled = wait & 0xc0;
        // A clock that another worker read a little earlier.
        let read = if troubled == 0x40 { now.saturating_sub(50_000_000) } else { now };
        let tag = Tag::new(u64::from(key) << 40, quota.refill_ns());
        let Ok(loaded) = shared.load(0) else { continue };
        let mut set = Set::decode(&loaded.bytes).expect("our own format");
        let step = set.step(tag, read, &one(&quota));
        if troubled == 0x80 {
            // Another worker was first: this decision does not count, and is not told to anybody.
            continue;
        }
        let stored = shared.store(0, set.encode().as_bytes(), loaded.version);
        if matches!(stored, Ok(StoreResult::Stored)) && matches!(step, Step::Admit { .. }) {
            admitted.push((key, now));
        }
    }
    for key in 0..KEYS {
        let times: Vec<u64> = admitted.iter().filter(|(of, _)| *of == key).map(|(_, at)| *at).collect();
        for first in 0..times.len() {
            for last in first..times.len() {
                // The clock may have been read 50 ms late at either end.
                let span = u128::from(times[last] - times[first]) + 50_000_000;
                let more = (u128::from(limit) * span).div_ceil(window.as_nanos());
                let most = u128::from(burst) + more;
                let count = (last - first + 1) as u128;
                assert!(count <= most, "key {key}: {count} in {span} ns, at most {most}");
            }
        }
    }
}

/// What stands in a slot may come from anywhere: it is read or taken as empty, and what is written is read again.
fn slot(data: &[u8]) {
    let Some(mut set) = Set::decode(data) else { return };
    let quota = Quota::new(5, Duration::from_secs(60), 5).expect("within bounds");
    set.step(Tag::new(7 << 40, 60_000_000_000), 1_000_000_000, &one(&quota));
    let encoded = set.encode();
    assert!(encoded.as_bytes().len() <= portcullis_policy::limits::SHARED_SLOT_BYTES);
    assert!(Set::decode(encoded.as_bytes()).is_some());
}

/// A request of one unit.
fn one(quota: &Quota) -> Rate<'_> {
    Rate { quota, cost: 1, reserve: false, leased: false, share: None }
}

struct Shaky {
    value: SlotValue,
}

impl SharedState for Shaky {
    fn load(&mut self, _: u32) -> Result<SlotValue, StateError> {
        Ok(self.value.clone())
    }

    fn store(&mut self, _: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        if version != self.value.version {
            return Ok(StoreResult::Conflict);
        }
        self.value = SlotValue { bytes: bytes.to_vec(), version: version.wrapping_add(1) };
        Ok(StoreResult::Stored)
    }

    fn seed(&mut self) -> u64 {
        7
    }
}
