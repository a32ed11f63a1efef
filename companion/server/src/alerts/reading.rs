//! The figures that rules look at: counters of the companion over a window, and what it sees at the moment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::rule::WAVE;

/// How far back attacks are compared, and what is remembered.
const HOUR: Duration = Duration::from_secs(3600);
/// Looks that are remembered at most.
const LOOKS: usize = 1024;

/// Counters at an instant. All of them only grow, but a tenant that goes takes its own along.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Attacks.
    pub attacks: u64,
    /// Limits that were exceeded.
    pub limits: u64,
    /// Batches that the trail refused.
    pub refused: u64,
    /// Slow statements by tenant.
    pub slow: BTreeMap<String, u64>,
    /// Connections that were not to be had in time, by tenant.
    pub timeouts: BTreeMap<String, u64>,
}

/// A figure: of which rule, of which tenant, how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The rule's name.
    pub rule: &'static str,
    /// Whose; none: of the companion as a whole.
    pub tenant: Option<String>,
    /// How much.
    pub value: f64,
}

impl Figure {
    /// Of the companion as a whole.
    #[must_use]
    pub fn whole(rule: &'static str, value: f64) -> Self {
        Self { rule, tenant: None, value }
    }

    /// Of a tenant.
    #[must_use]
    pub fn of(rule: &'static str, tenant: &str, value: f64) -> Self {
        Self { rule, tenant: Some(tenant.to_owned()), value }
    }
}

/// Counters of the last hour.
#[derive(Debug)]
pub struct Window {
    /// What is counted together.
    pub width: Duration,
    looks: VecDeque<(Duration, Counters)>,
}

impl Window {
    /// Of that width.
    #[must_use]
    pub fn new(width: Duration) -> Self {
        Self { width, looks: VecDeque::new() }
    }

    /// Takes a look at `now`, and tells what has grown how fast over the width. Before the first look nothing was counted that is of
    /// interest: what a restart finds is no news.
    pub fn look(&mut self, now: Duration, counters: Counters) -> Vec<Figure> {
        let before = self.at(now.saturating_sub(self.width)).cloned().unwrap_or_else(|| counters.clone());
        let seconds = self.width.as_secs_f64().max(f64::EPSILON);
        let since = |now: u64, before: u64| count(now.saturating_sub(before));
        let mut figures = vec![
            Figure::whole("limits_exceeded", since(counters.limits, before.limits) / seconds),
            Figure::whole("attack_wave", self.wave(now, &counters, &before, seconds)),
            Figure::whole("trail_refuses", since(counters.refused, before.refused) / seconds * 60.0),
        ];
        for (rule, now, before) in [
            ("slow_statements", &counters.slow, &before.slow),
            ("pool_timeouts", &counters.timeouts, &before.timeouts),
        ] {
            for (tenant, value) in now {
                let grown = since(*value, before.get(tenant).copied().unwrap_or(0));
                figures.push(Figure::of(rule, tenant, grown / seconds * 60.0));
            }
        }
        self.looks.push_back((now, counters));
        let oldest = now.saturating_sub(HOUR).saturating_sub(self.width).saturating_sub(self.width);
        // The last one that is too old stays: it says what was before.
        while self.looks.len() > LOOKS || self.looks.get(1).is_some_and(|(at, _)| *at <= oldest) {
            self.looks.pop_front();
        }
        figures
    }

    /// Attacks a second, if they are many more than an hour ago; none otherwise.
    fn wave(&self, now: Duration, counters: &Counters, before: &Counters, seconds: f64) -> f64 {
        let present = count(counters.attacks.saturating_sub(before.attacks)) / seconds;
        let earlier = now.saturating_sub(HOUR);
        let usual = match (self.at(earlier), self.at(earlier.saturating_sub(self.width))) {
            (Some(then), Some(first)) if now > HOUR => {
                count(then.attacks.saturating_sub(first.attacks)) / seconds
            }
            _ => 0.0,
        };
        if present > WAVE * usual { present } else { 0.0 }
    }

    /// The newest look that is no younger than `then`; the oldest when all are.
    fn at(&self, then: Duration) -> Option<&Counters> {
        let known = self.looks.iter().rev().find(|(at, _)| *at <= then);
        known.or_else(|| self.looks.front()).map(|(_, counters)| counters)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are floats")]
fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(figures: &[Figure], rule: &str) -> f64 {
        figures.iter().find(|figure| figure.rule == rule).unwrap().value
    }

    fn counters(attacks: u64) -> Counters {
        Counters {
            attacks,
            limits: attacks * 2,
            slow: [("acme".to_owned(), attacks)].into(),
            ..Counters::default()
        }
    }

    #[test]
    fn rates_are_of_the_width_and_a_start_is_no_news() {
        let mut window = Window::new(Duration::from_secs(60));
        let first = window.look(Duration::from_secs(15), counters(1_000_000));
        assert_eq!(value(&first, "limits_exceeded"), 0.0);
        let mut last = Vec::new();
        for look in 1..=20_u64 {
            last = window.look(Duration::from_secs(15 + look * 15), counters(1_000_000 + look * 90));
        }
        // 90 in 15 s are 6 a second.
        assert_eq!(value(&last, "attack_wave"), 6.0);
        assert_eq!(value(&last, "limits_exceeded"), 12.0);
        assert_eq!(value(&last, "slow_statements"), 360.0);
        // Smaller than before: the tenant went and came.
        let after = window.look(Duration::from_secs(330), counters(5));
        assert_eq!(value(&after, "slow_statements"), 0.0);
    }

    #[test]
    fn as_many_attacks_as_an_hour_ago_are_no_wave() {
        let mut window = Window::new(Duration::from_secs(60));
        let mut last = Vec::new();
        for look in 0..600_u64 {
            last = window.look(Duration::from_secs(look * 15), counters(look * 90));
        }
        assert_eq!(value(&last, "attack_wave"), 0.0, "6 a second, as always");
        assert!(window.looks.len() < 260, "{}", window.looks.len());
        for look in 600..610_u64 {
            last = window.look(Duration::from_secs(look * 15), counters(54_000 + (look - 600) * 900));
        }
        assert_eq!(value(&last, "attack_wave"), 60.0);
    }
}
