//! How many connections a tenant needs: Little's law on what was measured.
//!
//! Of a stable system the mean number of customers in it is their rate of arrival times the time each stays (J. D. C. Little, A proof for the
//! queuing formula L = λW, Operations Research 9, 1961). Customers are loans, and a loan lasts from when a connection is handed out
//! until it comes back. Two standard deviations of a Poisson number of that mean are kept above it, so that
//! nineteen of twenty loans find an open connection. It grows at once and shrinks over some half a minute.

use std::time::Duration;

/// How fast old figures fade.
const FADE: Duration = Duration::from_secs(30);
/// A tenant that borrows less than once in so long keeps nothing open.
const IDLE: f64 = 1.0 / 300.0;

/// What was measured of one tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizing {
    loans: u32,
    busy: Duration,
    arrivals: f64,
    load: f64,
}

impl Sizing {
    /// A connection came back after so long.
    pub fn returned(&mut self, after: Duration) {
        self.counted(1, after);
    }

    /// So many were there, and lasted so long together.
    pub fn counted(&mut self, loans: u32, busy: Duration) {
        self.loans = self.loans.saturating_add(loans);
        self.busy = self.busy.saturating_add(busy);
    }

    /// So long has passed since the last step.
    pub fn step(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = f64::from(std::mem::take(&mut self.loans)) / seconds;
        let load = std::mem::take(&mut self.busy).as_secs_f64() / seconds;
        let weight = 1.0 - (-seconds / FADE.as_secs_f64()).exp();
        self.arrivals += (rate - self.arrivals) * weight;
        // What is needed now is needed now; that it is not needed any more may be chance.
        self.load = load.max(self.load + (load - self.load) * weight);
    }

    /// Loans a second.
    #[must_use]
    pub fn arrivals_per_second(&self) -> f64 {
        self.arrivals
    }

    /// How long a loan lasts.
    #[must_use]
    pub fn service(&self) -> Duration {
        if self.arrivals < IDLE {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(self.load / self.arrivals).unwrap_or_default()
    }

    /// How many connections to keep open, at most `most`.
    #[must_use]
    pub fn kept(&self, most: usize) -> usize {
        if self.arrivals < IDLE && self.load < IDLE {
            return 0;
        }
        let wanted = (self.load + 2.0 * self.load.sqrt()).ceil().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let wanted = wanted.min(65_536.0) as usize;
        wanted.min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn under(loans: u32, lasting: Duration, seconds: u32) -> Sizing {
        let mut sizing = Sizing::default();
        for _ in 0..seconds {
            (0..loans).for_each(|_| sizing.returned(lasting));
            sizing.step(SECOND);
        }
        sizing
    }

    #[test]
    fn it_is_arrivals_times_service_and_some_more() {
        // 100 a second of 40 ms each: 4 busy on average.
        let sizing = under(100, Duration::from_millis(40), 120);
        assert_eq!(sizing.kept(100), 8);
        assert_eq!(sizing.kept(5), 5, "bounded");
        assert!((sizing.arrivals_per_second() - 100.0).abs() < 3.0);
        assert!(sizing.service().abs_diff(Duration::from_millis(40)) < Duration::from_millis(2));
    }

    #[test]
    fn it_grows_at_once_shrinks_slowly_and_ends_at_none() {
        let mut sizing = under(100, Duration::from_millis(40), 1);
        assert_eq!(sizing.kept(100), 8);
        (0..20).for_each(|_| sizing.step(SECOND));
        assert!((2..8).contains(&sizing.kept(100)), "{}", sizing.kept(100));
        (0..600).for_each(|_| sizing.step(SECOND));
        assert_eq!((sizing.kept(100), sizing.service()), (0, Duration::ZERO));
        assert_eq!(under(1, Duration::from_millis(1), 5).kept(100), 1);
    }
}
