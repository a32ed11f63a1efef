//! Virtual time: it passes when a test says so.

use std::{cell::Cell, time::Duration};

/// Both clocks of a process.
#[derive(Debug)]
pub(crate) struct Clock {
    since_start: Cell<Duration>,
    wall_step_ns: Cell<i64>,
}

/// The monotonic clock when a process starts. Not 0, which a module could mistake for "none".
const MONOTONIC_START: Duration = Duration::from_secs(1000);
/// The wall clock when a process starts: 2026-01-01T00:00:00Z.
const WALL_START: Duration = Duration::from_secs(1_767_225_600);

impl Clock {
    pub fn new() -> Self {
        Self { since_start: Cell::new(Duration::ZERO), wall_step_ns: Cell::new(0) }
    }

    pub fn since_start(&self) -> Duration {
        self.since_start.get()
    }

    pub fn set(&self, since_start: Duration) {
        self.since_start.set(since_start);
    }

    pub fn step_wall(&self, by_ns: i64) {
        self.wall_step_ns.set(self.wall_step_ns.get().saturating_add(by_ns));
    }

    pub fn monotonic_ns(&self) -> u64 {
        nanoseconds(MONOTONIC_START.saturating_add(self.since_start()))
    }

    pub fn wall_ns(&self) -> u64 {
        nanoseconds(WALL_START.saturating_add(self.since_start()))
            .saturating_add_signed(self.wall_step_ns.get())
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
