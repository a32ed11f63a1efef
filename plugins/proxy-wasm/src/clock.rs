//! Time and randomness for policies, which have neither.
//!
//! Monotonic time is read per event; wall time is monotonic time plus an offset that each tick measures anew, so that
//! it costs no host call and a step of the wall clock shows only in records. Randomness is SplitMix64 (Steele, Lea and
//! Flood, 2014) from one seed of the host's: good for names, not for keys.

use std::{cell::Cell, time::Duration};

use portcullis_policy::Moment;

use crate::abi;

/// A VM's clock.
pub struct Clock {
    offset_ns: Cell<u64>,
    state: Cell<u64>,
}

impl Clock {
    /// Reads both clocks and draws a seed. A host that refuses randomness gives one made of the time: unique enough
    /// for correlation IDs, and logged by the caller.
    pub fn new() -> (Self, bool) {
        let mut seed = [0; 8];
        let random = getrandom::fill(&mut seed).is_ok();
        let time = abi::wall_ns().unwrap_or(1) ^ abi::monotonic_ns().unwrap_or(0).rotate_left(32);
        let seed = if random { u64::from_le_bytes(seed) } else { time };
        let clock = Self { offset_ns: Cell::new(0), state: Cell::new(seed) };
        clock.adjust();
        (clock, random)
    }

    /// Measures the wall clock against the monotonic one.
    pub fn adjust(&self) {
        if let Ok(wall) = abi::wall_ns() {
            self.offset_ns.set(wall.wrapping_sub(self.now_ns()));
        }
    }

    /// Monotonic nanoseconds; 0 where a host has no such clock.
    pub fn now_ns(&self) -> u64 {
        abi::monotonic_ns().unwrap_or(0)
    }

    /// The moment of an event.
    pub fn moment(&self) -> Moment {
        let now = self.now_ns();
        Moment {
            now: Duration::from_nanos(now),
            wall_ns: now.wrapping_add(self.offset_ns.get()),
            random: [self.random(), self.random()],
        }
    }

    /// Fresh random bits.
    pub fn random(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
