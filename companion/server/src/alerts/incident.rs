//! What an alert goes through: pending, firing, resolved. Pure: time is handed in.
//!
//! A condition must hold for a while before it fires, and must not hold for a while before it is over; so what comes and goes is
//! one incident and not many, and each is told once when it begins and once when it ends.

use std::time::Duration;

/// Where an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The condition holds, not long enough yet. Nobody is told.
    Pending {
        /// Since when.
        since: Duration,
    },
    /// It has held long enough.
    Firing {
        /// Since when the condition has not held, if it does not at the moment.
        calm_since: Option<Duration>,
    },
    /// It is over.
    Resolved,
}

/// How long is long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until it fires.
    pub hold: Duration,
    /// Until it is over.
    pub calm: Duration,
}

/// What a look at a condition has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that anybody is told of.
    None,
    /// It fires from now on.
    Fired,
    /// It is over.
    Resolved,
    /// It was over before it fired: it never was.
    Withdrawn,
}

impl Phase {
    /// One look at `now`: whether the condition holds.
    #[must_use]
    pub fn step(self, holds: bool, patience: Patience, now: Duration) -> (Self, Change) {
        match (self, holds) {
            (Self::Pending { since }, true) if now.saturating_sub(since) >= patience.hold => {
                (Self::Firing { calm_since: None }, Change::Fired)
            }
            (Self::Pending { .. }, false) => (Self::Resolved, Change::Withdrawn),
            (Self::Firing { .. }, true) => (Self::Firing { calm_since: None }, Change::None),
            (Self::Firing { calm_since }, false) => {
                let since = calm_since.unwrap_or(now);
                match now.saturating_sub(since) >= patience.calm {
                    true => (Self::Resolved, Change::Resolved),
                    false => (Self::Firing { calm_since: Some(since) }, Change::None),
                }
            }
            (same, _) => (same, Change::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience { hold: Duration::from_secs(3), calm: Duration::from_secs(2) };

    /// What is told of a condition that is looked at each second.
    fn told(holds: &[bool], patience: Patience) -> Vec<(usize, Change)> {
        let mut phase: Option<Phase> = None;
        let mut told = Vec::new();
        for (second, holds) in holds.iter().enumerate() {
            let now = Duration::from_secs(second.try_into().unwrap());
            if phase.is_none() && *holds {
                phase = Some(Phase::Pending { since: now });
            }
            let Some(known) = phase else { continue };
            let (next, change) = known.step(*holds, patience, now);
            phase = Some(next).filter(|phase| *phase != Phase::Resolved);
            if matches!(change, Change::Fired | Change::Resolved) {
                told.push((second, change));
            }
        }
        told
    }

    fn seconds(pattern: &str) -> Vec<bool> {
        pattern.chars().map(|char| char == '#').collect()
    }

    #[test]
    fn what_comes_and_goes_is_told_once() {
        for (pattern, wanted) in [
            ("##.##.##.##.", vec![]),
            ("#####...", vec![(3, Change::Fired), (7, Change::Resolved)]),
            ("####.#.#.##...", vec![(3, Change::Fired), (13, Change::Resolved)]),
            (
                "####...####...",
                vec![(3, Change::Fired), (6, Change::Resolved), (10, Change::Fired), (13, Change::Resolved)],
            ),
        ] {
            assert_eq!(told(&seconds(pattern), PATIENCE), wanted, "{pattern}");
        }
        let none = Patience { hold: Duration::ZERO, calm: Duration::ZERO };
        assert_eq!(told(&seconds("#."), none), [(0, Change::Fired), (1, Change::Resolved)]);
    }

    proptest! {
        #[test]
        fn it_fires_and_is_over_in_turn_and_never_too_early(pattern in prop::collection::vec(any::<bool>(), 0..200), hold in 0_u64..6, calm in 0_u64..6) {
            let patience = Patience { hold: Duration::from_secs(hold), calm: Duration::from_secs(calm) };
            let told = told(&pattern, patience);
            for (index, (second, change)) in told.iter().enumerate() {
                let (wanted, held) = match index % 2 { 0 => (Change::Fired, hold), _ => (Change::Resolved, calm) };
                prop_assert_eq!(*change, wanted);
                let from = second.saturating_sub(usize::try_from(held).unwrap());
                prop_assert!(pattern[from..=*second].iter().all(|holds| *holds == (wanted == Change::Fired)));
            }
        }
    }
}
