//! What an index did to the statements that others ran, from what pg_stat_statements counted: with an interval, because means of few
//! calls say little.
//!
//! The calls after the build are taken at their mean time before it and after it. The interval is that of a ratio of two sums by the
//! delta method, at 95 %; calls of one statement are taken as independent of each other, which on a busy server they are not quite.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Half of a 95 % interval, in standard errors.
const HALF_INTERVAL: f64 = 1.96;
/// A statement that was called less often says nothing.
pub(super) const CALLS: i64 = 5;
/// Slower by so many times and so many milliseconds is harm.
const HARM_SHARE: f64 = 1.5;
const HARM_MILLISECONDS: f64 = 5.0;

/// Calls of a statement, milliseconds in all, and the sum of their squares.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub calls: i64,
    pub milliseconds: f64,
    pub squares: f64,
}

impl Count {
    /// What was counted since then.
    pub fn since(&self, then: &Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(then.calls),
            milliseconds: self.milliseconds - then.milliseconds,
            squares: self.squares - then.squares,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "calls")]
    fn number(&self) -> f64 {
        self.calls.max(1) as f64
    }

    pub fn mean(&self) -> f64 {
        self.milliseconds / self.number()
    }

    /// The variance of the mean.
    fn uncertainty(&self) -> f64 {
        let spread = (self.squares / self.number() - self.mean() * self.mean()).max(0.0);
        spread / (self.number() - 1.0).max(1.0)
    }
}

/// The means before and after, in milliseconds a call, where the difference is harm.
pub(super) fn slower_since(before: &Count, after: &Count) -> Option<(f64, f64)> {
    let counted = before.calls >= CALLS && after.calls >= CALLS;
    let (before, after) = (before.mean(), after.mean());
    let slower = after > before * HARM_SHARE && after - before > HARM_MILLISECONDS;
    (counted && slower).then_some((before, after))
}

/// A statement before the build and after it.
pub(super) struct Window {
    pub before: Count,
    pub after: Count,
}

/// What the statements on an index's table took while it was there, as a share of what they took before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Statements that were compared.
    pub statements: usize,
    /// Their calls since the build.
    pub calls: i64,
    /// What these took, and would have taken before, in milliseconds a call.
    pub after_ms: f64,
    /// See `after_ms`.
    pub before_ms: f64,
    /// The share, and its 95 % interval.
    pub share: f64,
    /// From.
    pub low: f64,
    /// To.
    pub high: f64,
}

impl Measured {
    pub(super) fn of(windows: &[Window]) -> Option<Self> {
        let calls: f64 = windows.iter().map(|window| window.after.number()).sum();
        let sum = |of: &dyn Fn(&Window) -> f64| -> f64 { windows.iter().map(of).sum() };
        let before = sum(&|window| window.after.number() * window.before.mean());
        let after = sum(&|window| window.after.number() * window.after.mean());
        if windows.is_empty() || before <= 0.0 {
            return None;
        }
        let squared = |window: &Window| window.after.number() * window.after.number();
        let before_error = sum(&|window| squared(window) * window.before.uncertainty());
        let after_error = sum(&|window| squared(window) * window.after.uncertainty());
        let share = after / before;
        let error = (after_error + share * share * before_error).sqrt() / before;
        Some(Self {
            statements: windows.len(),
            calls: windows.iter().map(|window| window.after.calls).fold(0, i64::saturating_add),
            after_ms: after / calls,
            before_ms: before / calls,
            share,
            low: (share - HALF_INTERVAL * error).max(0.0),
            high: share + HALF_INTERVAL * error,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls of {} statements on its table take {:.1} % of their time before (95 %: {:.1} to {:.1} %)",
            self.calls,
            self.statements,
            100.0 * self.share,
            100.0 * self.low,
            100.0 * self.high
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls of which half took `mean - spread`, half `mean + spread`.
    fn count(calls: i64, mean: f64, spread: f64) -> Count {
        let number = f64::from(i32::try_from(calls).unwrap());
        Count { calls, milliseconds: number * mean, squares: number * (mean * mean + spread * spread) }
    }

    #[test]
    fn the_more_was_counted_the_narrower_the_interval() {
        let of = |calls| {
            let window = Window { before: count(calls, 10.0, 2.0), after: count(calls, 1.0, 0.5) };
            Measured::of(&[window]).unwrap()
        };
        let (few, many) = (of(6), of(6000));
        for one in [&few, &many] {
            assert!((one.share - 0.1).abs() < 1e-9 && one.low < 0.1 && one.high > 0.1, "{one:?}");
        }
        assert!(few.high - few.low > 10.0 * (many.high - many.low), "{few:?} {many:?}");
        // By hand: errors 2 / sqrt(5) and 0.5 / sqrt(5) of means 10 and 1.
        let error = (0.25_f64 / 5.0 + 0.01 * 4.0 / 5.0).sqrt() / 10.0;
        assert!((few.high - 0.1 - HALF_INTERVAL * error).abs() < 1e-9, "{few:?}");
    }

    #[test]
    fn what_is_called_often_counts_more_and_nothing_says_nothing() {
        let windows = [
            Window { before: count(50, 10.0, 0.0), after: count(90, 1.0, 0.0) },
            Window { before: count(50, 10.0, 0.0), after: count(10, 20.0, 0.0) },
        ];
        let measured = Measured::of(&windows).unwrap();
        assert!((measured.share - 0.29).abs() < 1e-9 && measured.calls == 100, "{measured:?}");
        assert_eq!(Measured::of(&[]), None);
        assert_eq!(Measured::of(&[Window { before: Count::default(), after: count(9, 1.0, 0.0) }]), None);
        let since = count(100, 3.0, 1.0).since(&count(40, 3.0, 1.0));
        assert!(since.calls == 60 && (since.mean() - 3.0).abs() < 1e-9);
    }
}
