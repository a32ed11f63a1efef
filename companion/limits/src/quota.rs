//! A limit, its window and its burst, and points in time exact to a part of a nanosecond.
//!
//! An interval window/limit is rarely a whole number of nanoseconds. All sums are therefore made in units of 1/limit of
//! a nanosecond, in 128 bits: there one token takes exactly as many units as the window has nanoseconds, nothing is
//! rounded, and no step divides before it has decided.

use std::time::Duration;

/// Requests per window, and the burst: the most that a quota may say.
pub const MOST_REQUESTS: u32 = 1_000_000_000;
/// The longest window: a leap year.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest that an exhausted quota may take to be whole again.
pub const LONGEST_REFILL: Duration = LONGEST_WINDOW;
/// Leases live as long as a twentieth of the refill, within these bounds.
const LEASE_MS: (u64, u64) = (1_000, 10_000);

/// A point in time: nanoseconds and parts of one, each 1/limit of it and fewer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole nanoseconds.
    pub ns: u64,
    /// Parts of one.
    pub parts: u32,
}

impl Time {
    /// Whole nanoseconds, rounded up.
    #[must_use]
    pub const fn ceil(self) -> u64 {
        if self.parts > 0 { self.ns.saturating_add(1) } else { self.ns }
    }

    /// How far it is ahead of now, in units of 1/limit of a nanosecond; 0 when it has passed. Parts that another limit wrote,
    /// and that this one cannot read, round up.
    #[must_use]
    pub fn ahead_of(self, now_ns: u64, limit: u32) -> u128 {
        let Some(ns) = self.ns.checked_sub(now_ns) else { return 0 };
        u128::from(ns) * u128::from(limit) + u128::from(self.parts.min(limit))
    }

    /// So many units of 1/limit after now; beyond 584 years it stays there, and a limit of 0 has no time.
    #[must_use]
    pub fn after(now_ns: u64, units: u128, limit: u32) -> Self {
        let Some(limit) = std::num::NonZeroU32::new(limit) else { return Self::default() };
        // Division of 64 bits where they suffice: they mostly do.
        let (ns, parts) = match u64::try_from(units) {
            Ok(units) => (units / u64::from(limit.get()), units % u64::from(limit.get())),
            Err(_) => {
                let wide = u128::from(limit.get());
                (u64::try_from(units / wide).unwrap_or(u64::MAX), u64::try_from(units % wide).unwrap_or(0))
            }
        };
        Self { ns: now_ns.saturating_add(ns), parts: u32::try_from(parts).unwrap_or(0) }
    }
}

/// A limit, its window and its burst. A limit or burst of 0 allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    limit: u32,
    burst: u32,
    window_ns: u64,
}

/// Why numbers make no quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Too many requests.
    #[error("limit and burst must be 0 to 1000000000")]
    Requests,
    /// No window, or too long a one.
    #[error("window_ms must be 1 to 31622400000 (366 days)")]
    Window,
    /// A burst that would take longer than [`LONGEST_REFILL`] to come back.
    #[error("burst of so low a limit takes longer than 366 days to come back; lower it, or raise the limit")]
    Refill,
}

impl Quota {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`QuotaError`] tells the bounds.
    pub fn new(limit: u32, window: Duration, burst: u32) -> Result<Self, QuotaError> {
        if limit > MOST_REQUESTS || burst > MOST_REQUESTS {
            return Err(QuotaError::Requests);
        }
        let window_ns = u64::try_from(window.as_nanos()).map_err(|_| QuotaError::Window)?;
        if window < Duration::from_millis(1) || window > LONGEST_WINDOW {
            return Err(QuotaError::Window);
        }
        let quota = Self { limit, burst, window_ns };
        if u128::from(quota.refill_ns()) > LONGEST_REFILL.as_nanos() {
            return Err(QuotaError::Refill);
        }
        Ok(quota)
    }

    /// Requests per window.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Requests that may come at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_nanos(self.window_ns)
    }

    /// Whether nothing is ever allowed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.limit == 0 || self.burst == 0
    }

    /// Units that one token takes.
    #[must_use]
    pub fn interval(&self) -> u128 {
        u128::from(self.window_ns)
    }

    /// Units that the state may be ahead of now.
    #[must_use]
    pub fn capacity(&self) -> u128 {
        u128::from(self.window_ns) * u128::from(self.burst)
    }

    /// How long an exhausted quota takes to be whole again, rounded up.
    #[must_use]
    pub fn refill_ns(&self) -> u64 {
        self.nanoseconds(self.capacity())
    }

    /// How many tokens `units` are, rounded down.
    #[must_use]
    pub fn tokens(&self, units: u128) -> u64 {
        match u64::try_from(units) {
            Ok(units) => units.checked_div(self.window_ns).unwrap_or(0),
            Err(_) => units
                .checked_div(u128::from(self.window_ns))
                .and_then(|tokens| u64::try_from(tokens).ok())
                .unwrap_or(0),
        }
    }

    /// Nanoseconds that `units` are, rounded up.
    #[must_use]
    pub fn nanoseconds(&self, units: u128) -> u64 {
        let limit = self.limit.max(1);
        match u64::try_from(units) {
            Ok(units) => units.div_ceil(u64::from(limit)),
            Err(_) => u64::try_from(units.div_ceil(u128::from(limit))).unwrap_or(u64::MAX),
        }
    }

    /// How long a lease of this quota lives, in milliseconds.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        (self.refill_ns() / 20_000_000).clamp(LEASE_MS.0, LEASE_MS.1)
    }
}

/// The longest that a lease is remembered: its life, and what clocks may differ by.
#[must_use]
pub fn remembered_ms(lease_ms: u64) -> u64 {
    lease_ms.saturating_add(lease_ms / 100).saturating_add(100)
}

/// Of any lease.
#[must_use]
pub fn longest_remembered() -> Duration {
    Duration::from_millis(remembered_ms(LEASE_MS.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told() {
        let minute = Duration::from_secs(60);
        assert!(Quota::new(0, minute, 0).unwrap().is_nothing());
        assert_eq!(Quota::new(MOST_REQUESTS + 1, minute, 1), Err(QuotaError::Requests));
        assert_eq!(Quota::new(1, Duration::ZERO, 1), Err(QuotaError::Window));
        assert_eq!(Quota::new(1, LONGEST_WINDOW + minute, 1), Err(QuotaError::Window));
        assert_eq!(Quota::new(1, LONGEST_WINDOW, 2), Err(QuotaError::Refill));
        assert!(Quota::new(MOST_REQUESTS, LONGEST_WINDOW, MOST_REQUESTS).is_ok());
    }

    #[test]
    fn a_time_survives_its_units() {
        for (ns, limit) in [(7, 3), (u64::MAX, MOST_REQUESTS), (86_400_000_000_000, 999_999_937)] {
            for parts in [0, 1, limit - 1] {
                let time = Time { ns, parts };
                for now_ns in [0, 1, ns - 1, ns] {
                    assert_eq!(Time::after(now_ns, time.ahead_of(now_ns, limit), limit), time);
                }
            }
        }
        // Read by another limit it is never earlier, and what has passed is not ahead.
        assert_eq!(Time { ns: 5, parts: 9 }.ahead_of(0, 4), 24);
        assert_eq!(Time { ns: 5, parts: 9 }.ahead_of(6, 4), 0);
    }
}
