//! What is known of a pool: counted by the pool itself.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Entry, Pools};

/// Figures of one tenant's pool. All of them are the library pool's own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Connections that are open.
    pub size: usize,
    /// Of these, idle.
    pub checked_in: usize,
    /// Of these, in use.
    pub checked_out: usize,
    /// Who waits for one.
    pub waiting: usize,
    /// The most there may be.
    pub most: usize,
    /// How many are kept open without use, by the tenant's measured use.
    pub kept: usize,
    /// Loans a second, lately.
    pub arrivals_per_second: f64,
    /// How long a loan lasts, lately.
    pub service: Duration,
    /// How long a loan was waited for, on average.
    pub wait: Duration,
    /// Loans since the pool was opened.
    pub loans: u64,
    /// Loans that were not to be had in time.
    pub timeouts: u64,
    /// Statements since then, of those that are timed.
    pub statements: u64,
    /// Those that took long.
    pub slow: u64,
}

impl Statistics {
    /// 0 to 1: how much of what a tenant may have is in use.
    #[must_use]
    pub fn usage(&self) -> f64 {
        let part = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        if self.most == 0 { 0.0 } else { part(self.checked_out) / part(self.most) }
    }
}

/// Counts of one tenant.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) loans: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) waited_us: AtomicU64,
    pub(super) statements: AtomicU64,
    pub(super) slow: AtomicU64,
}

impl Pools {
    pub(super) fn figures(&self, entry: &Entry) -> Statistics {
        let shape = self.shape();
        let status = entry.pool.status();
        let (_, waiting) = self.0.gate.of(&entry.tenant);
        let sizing = entry.sizing.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let loans = count(&entry.counts.loans);
        let waited = count(&entry.counts.waited_us).checked_div(loans).unwrap_or(0);
        Statistics {
            size: status.size,
            checked_in: status.available,
            checked_out: status.size.saturating_sub(status.available),
            waiting,
            most: shape.most(),
            kept: sizing.kept(shape.size),
            arrivals_per_second: sizing.arrivals_per_second(),
            service: sizing.service(),
            wait: Duration::from_micros(waited),
            loans,
            timeouts: count(&entry.counts.timeouts),
            statements: count(&entry.counts.statements),
            slow: count(&entry.counts.slow),
        }
    }
}
