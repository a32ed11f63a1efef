//! The one place that reads a clock.
//!
//! Everything else is handed the time, so that tests can move it. Wall time is for what is stored and shown;
//! monotonic time is for how long something took, because a stepped wall clock must not turn into a negative
//! duration.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

pub use jiff::Timestamp;

/// A source of wall time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that stands until a test moves it: milliseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.as_millisecond())))
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Manual(millis) => {
                at_millis(millis.load(Ordering::Relaxed)).unwrap_or(Timestamp::UNIX_EPOCH)
            }
        }
    }

    /// Moves a manual clock; the machine's clock is left alone.
    pub fn advance(&self, by: std::time::Duration) {
        if let Self::Manual(millis) = self {
            millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}

/// Monotonic time, for measuring.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the native service measures its own latency here and nowhere else"
)]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The instant `millis` after the Unix epoch; `None` before 1970 and after 9999.
#[must_use]
pub fn at_millis(millis: i64) -> Option<Timestamp> {
    if millis < 0 {
        return None;
    }
    Timestamp::from_millisecond(millis).ok()
}

/// RFC 3339 in UTC with exactly three fractional digits: one width, so that text order is time order in any
/// store.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_width_and_sorts_as_time_does() {
        let texts: Vec<String> = [0, 1, 999, 1_000, 1_764_000_000_123]
            .into_iter()
            .map(|ms| rfc3339(at_millis(ms).unwrap()))
            .collect();
        assert_eq!(texts[0], "1970-01-01T00:00:00.000Z");
        assert_eq!(texts[4], "2025-11-24T16:00:00.123Z");
        assert!(texts.iter().all(|text| text.len() == 24));
        assert!(texts.is_sorted());
    }

    #[test]
    fn before_1970_and_beyond_9999_there_is_no_time() {
        assert_eq!(at_millis(-1), None);
        assert_eq!(at_millis(i64::MAX), None);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), clock.now());
        clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(clock.now().as_second(), 60);
    }
}
