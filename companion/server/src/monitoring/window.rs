//! Durations of the last minutes: how many, how long, how many failed.
//!
//! A slot a minute, and in it a bucket for each eighth of a power of two: a quantile is right to a sixteenth, and memory is fixed
//! (some 30 KB), whatever arrives.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::monotonic;

/// Minutes that are remembered, the present one included.
pub const MINUTES: u64 = 15;
/// Eighths of powers of two up to 2^32 µs, more than an hour.
const BUCKETS: usize = 32 * 8;

/// What a minute has seen.
#[derive(Clone)]
struct Slot {
    minute: u64,
    count: u64,
    failed: u64,
    sum_us: u64,
    buckets: [u32; BUCKETS],
}

/// Durations of the last [`MINUTES`] minutes.
pub struct Window {
    started: Instant,
    slots: Mutex<Vec<Slot>>,
}

impl Default for Window {
    fn default() -> Self {
        Self { started: monotonic(), slots: Mutex::default() }
    }
}

/// What the last minutes add up to. Durations are zero when there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The mean.
    pub average: Duration,
    /// Half took no longer.
    pub p50: Duration,
    /// 95 of 100 took no longer.
    pub p95: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
}

impl Window {
    /// Counts one.
    pub fn observe(&self, elapsed: Duration, failed: bool) {
        self.observe_at(self.minute(), elapsed, failed);
    }

    /// What the last minutes add up to.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary_at(self.minute())
    }

    fn minute(&self) -> u64 {
        self.started.elapsed().as_secs() / 60
    }

    fn observe_at(&self, minute: u64, elapsed: Duration, failed: bool) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.last().is_none_or(|slot| slot.minute < minute) {
            slots.retain(|slot| slot.minute.saturating_add(MINUTES) > minute);
            slots.push(Slot { minute, count: 0, failed: 0, sum_us: 0, buckets: [0; BUCKETS] });
        }
        let Some(slot) = slots.last_mut() else { return };
        slot.count = slot.count.saturating_add(1);
        slot.failed = slot.failed.saturating_add(failed.into());
        slot.sum_us = slot.sum_us.saturating_add(micros);
        if let Some(bucket) = slot.buckets.get_mut(bucket(micros)) {
            *bucket = bucket.saturating_add(1);
        }
    }

    fn summary_at(&self, minute: u64) -> Summary {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = || slots.iter().filter(|slot| slot.minute.saturating_add(MINUTES) > minute);
        let count = recent().map(|slot| slot.count).sum::<u64>();
        if count == 0 {
            return Summary::default();
        }
        let mut buckets = [0_u64; BUCKETS];
        for slot in recent() {
            for (sum, bucket) in buckets.iter_mut().zip(&slot.buckets) {
                *sum = sum.saturating_add((*bucket).into());
            }
        }
        let sum_us = recent().fold(0_u64, |sum, slot| sum.saturating_add(slot.sum_us));
        let quantile = |hundredths: u64| {
            let rank = count.saturating_mul(hundredths).div_ceil(100).max(1);
            let mut seen = 0_u64;
            let at = buckets.iter().position(|bucket| {
                seen = seen.saturating_add(*bucket);
                seen >= rank
            });
            Duration::from_micros(middle(at.unwrap_or(BUCKETS - 1)))
        };
        Summary {
            count,
            failed: recent().map(|slot| slot.failed).sum(),
            average: Duration::from_micros(sum_us.checked_div(count).unwrap_or(0)),
            p50: quantile(50),
            p95: quantile(95),
            p99: quantile(99),
        }
    }
}

/// Where a duration is counted: by its highest bit and the three below it.
fn bucket(micros: u64) -> usize {
    let Some(power) = micros.checked_ilog2() else { return 0 };
    let eighth = if power >= 3 { (micros >> (power - 3)) & 7 } else { (micros << (3 - power)) & 7 };
    let index = u64::from(power).saturating_mul(8).saturating_add(eighth);
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(0);
    let (power, eighth) = (bucket / 8, bucket % 8);
    // In sixteenths, so that small buckets keep their middle.
    ((17 + 2 * eighth) << power) / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_sixteenth() {
        let window = Window::default();
        for millis in 1..=1000 {
            window.observe_at(0, Duration::from_millis(millis), millis % 10 == 0);
        }
        let summary = window.summary_at(0);
        assert_eq!((summary.count, summary.failed), (1000, 100));
        assert_eq!(summary.average, Duration::from_micros(500_500));
        for (found, wanted) in [(summary.p50, 500.0), (summary.p95, 950.0), (summary.p99, 990.0)] {
            let off = (found.as_secs_f64() * 1000.0 - wanted).abs() / wanted;
            assert!(off <= 1.0 / 16.0, "{found:?} instead of {wanted} ms");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let window = Window::default();
        window.observe_at(0, Duration::from_secs(9), true);
        window.observe_at(14, Duration::from_millis(1), false);
        assert_eq!(window.summary_at(14).count, 2);
        assert_eq!(window.summary_at(15).count, 1);
        assert_eq!(window.summary_at(29), Summary::default());
        for minute in 15..1000 {
            window.observe_at(minute, Duration::ZERO, false);
        }
        assert_eq!(window.slots.lock().unwrap().len(), 15);
    }

    #[test]
    fn any_duration_has_a_bucket_and_lies_in_it() {
        for micros in (0..64).map(|bit| 1_u64 << bit).chain([0, 3, 5, 6, 7, 11, 1_000_003, u64::MAX]) {
            let found = middle(bucket(micros));
            let within = micros.min(1 << 32) / 8 + 1;
            assert!(micros >= 1 << 32 || found.abs_diff(micros) <= within, "{micros}: {found}");
        }
    }
}
