use std::time::Duration;

use proptest::prelude::*;

use super::keeps_promise;
use crate::gcra::{self, Demand, LONGEST_REFILL, LONGEST_WINDOW, MOST_REQUESTS, Quota, Step, Time, charge};

fn step(state: Time, now_ns: u64, quota: &Quota) -> Step {
    gcra::step(state, now_ns, quota, Demand::ONE)
}

/// The algorithm as the recommendation writes it, in whole parts of 1/limit ns: exact, because nothing is divided.
struct Oracle {
    limit: u128,
    window: u128,
    burst: u128,
    state: u128,
}

impl Oracle {
    fn new(quota: &Quota) -> Self {
        let (limit, burst) = (u128::from(quota.limit()), u128::from(quota.burst()));
        Self { limit, window: quota.window().as_nanos(), burst, state: 0 }
    }

    /// The wait in nanoseconds, rounded up; 0 when admitted.
    fn ask(&mut self, now_ns: u64) -> u128 {
        let now = u128::from(now_ns) * self.limit;
        let next = self.state.max(now) + self.window;
        let over = (next - now).saturating_sub(self.burst * self.window);
        if over == 0 {
            self.state = next;
        }
        over.div_ceil(self.limit)
    }
}

prop_compose! {
    fn quota()(
        limit in prop_oneof![1..=20_u32, 1..=MOST_REQUESTS],
        burst in prop_oneof![1..=20_u32, 1..=MOST_REQUESTS],
        seconds in prop_oneof![1..=60_u64, 1..=LONGEST_WINDOW.as_secs()],
    ) -> (u32, u64, u32) {
        (limit, seconds, burst)
    }
}

fn valid() -> impl Strategy<Value = Quota> {
    quota().prop_filter_map("refills too slowly", |(limit, seconds, burst)| {
        Quota::new(limit, Duration::from_secs(seconds), burst)
    })
}

/// Gaps that matter to the quota: none, a nanosecond, about an interval, about the whole.
fn gaps(quota: &Quota) -> impl Strategy<Value = Vec<u64>> + use<> {
    let interval = u64::try_from(quota.window().as_nanos()).unwrap() / u64::from(quota.limit());
    let refill = quota.refill_ns();
    let gap = prop_oneof![
        4 => Just(0_u64),
        1 => Just(1_u64),
        2 => interval.saturating_sub(2)..=interval + 2,
        2 => 0..=interval,
        1 => 0..=refill + 2,
    ];
    prop::collection::vec(gap, 1..80)
}

fn quota_and_gaps() -> impl Strategy<Value = (Quota, u64, Vec<u64>)> {
    valid().prop_flat_map(|quota| (Just(quota), 0..1_u64 << 62, gaps(&quota)))
}

proptest! {
    #[test]
    fn agrees_with_the_oracle_and_keeps_the_promise((quota, start, gaps) in quota_and_gaps()) {
        let mut oracle = Oracle::new(&quota);
        let (mut state, mut now) = (Time::default(), start);
        let mut admitted = Vec::new();
        for gap in gaps {
            now += gap;
            let wait = oracle.ask(now);
            match step(state, now, &quota) {
                Step::Admit { state: next, .. } => {
                    prop_assert_eq!(wait, 0);
                    prop_assert!(next.parts < quota.limit());
                    state = next;
                    admitted.push(now);
                }
                Step::Refuse { wait_ns } => prop_assert_eq!(u128::from(wait_ns), wait),
            }
        }
        prop_assert!(keeps_promise(&admitted, quota.limit(), quota.window(), quota.burst()));
    }

    #[test]
    fn refuses_until_exactly_the_wait((quota, start, gaps) in quota_and_gaps()) {
        let (mut state, mut now) = (Time::default(), start);
        for gap in gaps {
            now += gap;
            match step(state, now, &quota) {
                Step::Admit { state: next, .. } => state = next,
                Step::Refuse { wait_ns } => {
                    prop_assert!(wait_ns > 0);
                    let early = matches!(step(state, now + wait_ns - 1, &quota), Step::Refuse { wait_ns: 1 });
                    prop_assert!(early);
                    let in_time = matches!(step(state, now + wait_ns, &quota), Step::Admit { .. });
                    prop_assert!(in_time);
                }
            }
        }
    }

    #[test]
    fn what_is_left_is_what_is_admitted((quota, start, gaps) in quota_and_gaps()) {
        let (mut state, mut now) = (Time::default(), start);
        for gap in gaps {
            now += gap;
            let Step::Admit { state: next, debt } = step(state, now, &quota) else { continue };
            state = next;
            let left = quota.left(debt);
            prop_assert!(left.more_in_ns > 0);
            let count = |at: u64, most: u64| {
                let (mut state, mut count) = (state, 0);
                while count < most && let Step::Admit { state: next, .. } = step(state, at, &quota) {
                    (state, count) = (next, count + 1);
                }
                count
            };
            if left.requests < 200 {
                prop_assert_eq!(count(now, u64::MAX), left.requests);
                prop_assert_eq!(count(now + left.more_in_ns - 1, u64::MAX), left.requests);
                prop_assert!(count(now + left.more_in_ns, left.requests + 1) > left.requests);
            } else {
                prop_assert!(left.requests < u64::from(quota.burst()));
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_grants_nothing(quota in valid(), start in 1_u64 << 60..1 << 61, jumps in prop::collection::vec(-1_000_000_000_000_i64..1_000_000_000_000, 1..120)) {
        let (mut state, mut now) = (Time::default(), start);
        let (mut admitted, mut earliest, mut latest) = (0_u128, now, now);
        for jump in jumps {
            now = now.saturating_add_signed(jump);
            (earliest, latest) = (earliest.min(now), latest.max(now));
            if let Step::Admit { state: next, .. } = step(state, now, &quota) {
                prop_assert!(next > state);
                state = next;
                admitted += 1;
            }
        }
        prop_assert!(admitted <= super::promise(quota.limit(), quota.window(), quota.burst(), latest - earliest));
    }

    #[test]
    fn any_state_at_any_time_gets_an_answer(quota in valid(), ns: u64, parts: u32, now: u64) {
        let state = Time { ns, parts };
        match step(state, now, &quota) {
            Step::Admit { state: next, debt } => {
                prop_assert!(next.parts < quota.limit() && next.ns >= now);
                prop_assert!(quota.left(debt).requests < u64::from(quota.burst()));
            }
            Step::Refuse { wait_ns } => prop_assert!(wait_ns > 0),
        }
    }
}

#[test]
fn time_that_cannot_be_counted_refuses() {
    let quota = Quota::new(1, Duration::from_secs(1), 1).unwrap();
    for state in [Time::default(), Time { ns: u64::MAX, parts: u32::MAX }] {
        assert_eq!(step(state, u64::MAX, &quota), Step::Refuse { wait_ns: u64::MAX });
    }
}

#[test]
fn a_third_of_a_second_does_not_drift() {
    let quota = Quota::new(3, Duration::from_secs(1), 1).unwrap();
    let (mut state, mut now, mut waits) = (Time::default(), 0, Vec::new());
    for _ in 0..300 {
        let Step::Admit { state: next, .. } = step(state, now, &quota) else { panic!("refused at {now}") };
        state = next;
        let Step::Refuse { wait_ns } = step(state, now, &quota) else { panic!("admitted at {now}") };
        waits.push(wait_ns);
        now += wait_ns;
    }
    // Rounded up where it must be, and so never a nanosecond lost beyond the first.
    assert_eq!(&waits[..3], [333_333_334, 333_333_334, 333_333_334]);
    // A client that asks without pause at the very nanosecond gets what a second holds.
    let (mut state, mut admitted) = (Time::default(), Vec::new());
    for k in 0..=300_u64 {
        let at = (k * 1_000_000_000).div_ceil(3);
        if let Step::Admit { state: next, .. } = step(state, at, &quota) {
            (state, _) = (next, admitted.push(at));
        }
    }
    assert!(admitted.len() >= 100 && keeps_promise(&admitted, 3, Duration::from_secs(1), 1));
}

#[test]
fn another_limit_s_state_is_rounded_up() {
    let quota = Quota::new(2, Duration::from_secs(1), 2).unwrap();
    let Step::Admit { state, .. } = step(Time { ns: 10, parts: 5 }, 10, &quota) else { panic!("refused") };
    assert_eq!(state, Time::whole(500_000_011));
}

#[test]
fn quotas_have_bounds() {
    let seconds = Duration::from_secs;
    assert!(Quota::new(1, seconds(1), 1).is_some());
    assert!(Quota::new(MOST_REQUESTS, LONGEST_WINDOW, MOST_REQUESTS).is_some());
    assert!(
        Quota::new(1, LONGEST_WINDOW, 31)
            .is_some_and(|quota| quota.refill_ns() == LONGEST_REFILL.as_nanos() as u64)
    );
    for (limit, window, burst) in [
        (0, seconds(1), 1),
        (1, seconds(1), 0),
        (1, Duration::from_millis(999), 1),
        (1, LONGEST_WINDOW + Duration::from_nanos(1), 1),
        (MOST_REQUESTS + 1, seconds(1), 1),
        (1, seconds(1), MOST_REQUESTS + 1),
        (1, LONGEST_WINDOW, 32),
    ] {
        assert_eq!(Quota::new(limit, window, burst), None);
    }
}

proptest! {
    /// A request of several units is as many requests at once, all or none; what is reserved takes up room.
    #[test]
    fn a_cost_is_so_many_requests((quota, start, gaps) in quota_and_gaps(), costs in prop::collection::vec(0..30_u32, 80)) {
        let mut oracle = Oracle::new(&quota);
        let (mut state, mut now) = (Time::default(), start);
        for (gap, cost) in gaps.into_iter().zip(costs) {
            now += gap;
            let reserved = cost % 3;
            let mut all = Oracle { state: oracle.state, ..Oracle::new(&quota) };
            let room = (0..cost + reserved).all(|_| all.ask(now) == 0);
            match gcra::step(state, now, &quota, Demand { cost, reserved }) {
                Step::Admit { state: next, .. } => {
                    prop_assert!(room || cost == 0);
                    (0..cost).for_each(|_| { oracle.ask(now); });
                    prop_assert!(next == state.max(Time::whole(now)) || cost > 0);
                    state = next;
                }
                Step::Refuse { wait_ns } => {
                    prop_assert!(!room && wait_ns > 0);
                    let later = |by: u64| gcra::step(state, now + by, &quota, Demand { cost, reserved });
                    let fits = u64::from(cost + reserved) <= u64::from(quota.burst());
                    let admits = matches!(later(wait_ns), Step::Admit { .. });
                    prop_assert_eq!(admits, fits);
                    let early = matches!(later(wait_ns - 1), Step::Refuse { .. });
                    prop_assert!(early);
                }
            }
        }
    }

    /// What is charged is what as many requests would have cost, had there been room.
    #[test]
    fn a_charge_is_so_many_requests((quota, start, _) in quota_and_gaps(), units in 0..50_u32) {
        let state = charge(Time::whole(start / 2), start, &quota, units);
        let wide = u128::from(start) * u128::from(quota.limit()) + u128::from(units) * quota.window().as_nanos();
        prop_assert_eq!(u128::from(state.ns) * u128::from(quota.limit()) + u128::from(state.parts), wide);
    }
}

#[test]
fn the_stricter_of_two_quotas_covers_the_other() {
    let quota = |limit, seconds, burst| Quota::new(limit, Duration::from_secs(seconds), burst).unwrap();
    assert!(quota(5, 60, 5).covers(&quota(5, 60, 5)));
    assert!(quota(5, 60, 5).covers(&quota(400, 3600, 5)));
    assert!(!quota(5, 60, 5).covers(&quota(200, 3600, 200)), "fewer in the long run");
    assert!(!quota(5, 60, 5).covers(&quota(10, 60, 1)), "fewer at once");
}

#[test]
fn a_part_is_rounded_down_and_never_nothing() {
    let quota = Quota::new(100, Duration::from_secs(60), 50).unwrap();
    let part = quota.part(10, 3).unwrap();
    assert_eq!((part.limit(), part.burst()), (3, 1));
    assert_eq!(quota.part(1, 2), None);
}
