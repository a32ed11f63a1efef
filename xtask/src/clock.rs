//! Waiting with an end. The one place in this crate that reads the clock.

use std::{
    thread,
    time::{Duration, Instant},
};

/// A moment after which waiting stops.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    length: Duration,
}

impl Deadline {
    /// That far from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "a tool that waits for processes has a clock; policies have none"
    )]
    pub fn after(length: Duration) -> Self {
        Self { start: Instant::now(), length }
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.elapsed() >= self.length
    }

    /// How much time is left.
    pub fn remaining(&self) -> Duration {
        self.length.saturating_sub(self.elapsed())
    }

    /// How much time went by since it was made.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Asks again and again until the answer is there or the deadline has passed. The pauses start short and grow, so
    /// that what is quick is seen at once and what is slow costs little.
    pub fn poll<T>(&self, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
        let mut pause = Duration::from_millis(2);
        loop {
            if let Some(answer) = answer() {
                return Some(answer);
            }
            if self.passed() {
                return None;
            }
            thread::sleep(pause.min(self.remaining()));
            pause = pause.saturating_mul(2).min(Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = Deadline::after(Duration::from_secs(10)).poll(|| {
            asked += 1;
            (asked == 3).then_some("here")
        });
        assert_eq!((answer, asked), (Some("here"), 3));
    }

    #[test]
    fn gives_up_at_the_deadline_and_asks_at_least_once() {
        let mut asked = 0;
        let answer: Option<()> = Deadline::after(Duration::ZERO).poll(|| {
            asked += 1;
            None
        });
        assert_eq!((answer, asked), (None, 1));
    }
}
