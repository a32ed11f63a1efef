//! What workers debit ahead: nothing is gained by it, little is lost, and busy limits seldom ask their slot.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis_policy::{LocalSlots, SharedState, SlotValue, StateError, StoreResult, WorkerState};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ask, keeps_promise, policy, request};
use crate::{desk::Desk, metrics::ALLOWED};

const CALL: &[usize] = &[3];
const SECOND_NS: u64 = 1_000_000_000;

/// One of the workers that have slots in common.
struct Worker {
    slots: Arc<Mutex<LocalSlots>>,
    desk: Desk,
    loads: u64,
}

impl Worker {
    fn of(slots: &Arc<Mutex<LocalSlots>>) -> Self {
        Self { slots: Arc::clone(slots), desk: Desk::new(1, false), loads: 0 }
    }
}

impl SharedState for Worker {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        self.loads += 1;
        self.slots.lock().unwrap().load(slot)
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        self.slots.lock().unwrap().store(slot, bytes, version)
    }

    fn seed(&mut self) -> u64 {
        1
    }

    fn worker(&mut self) -> Option<&mut dyn WorkerState> {
        Some(&mut self.desk)
    }
}

fn workers(count: usize) -> Vec<Worker> {
    let slots = Arc::new(Mutex::new(LocalSlots::new(1)));
    (0..count).map(|_| Worker::of(&slots)).collect()
}

fn rule(name: &str, per: &[&str], limit: u32, window: &str, burst: u32) -> Value {
    json!({"name": name, "per": per, "limit": limit, "window": window, "burst": burst})
}

/// A request: how long after the one before, at which worker, and how far that one's clock was read before.
fn arrival() -> impl Strategy<Value = (u64, usize, u64)> {
    let after = prop_oneof![6 => 0..200_000_u64, 3 => 0..5_000_000_u64, 1 => 0..900_000_000_u64];
    (after, 0..4_usize, prop_oneof![3 => Just(0), 1 => 0..100_000_u64])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_span_sees_more_than_the_promise(
        (limit, burst) in (50..3_000_u32, 250..3_000_u32),
        window_s in 1..4_u64,
        count in 1..=4_usize,
        arrivals in prop::collection::vec(arrival(), 1..2_500),
    ) {
        let policy = policy(json!({"rules": [rule("r", &["tenant"], limit, &format!("{window_s}s"), burst)]}));
        let mut workers = workers(count);
        let bob = request("acme", "bob", CALL);
        let (mut now_ns, mut admitted) = (SECOND_NS, Vec::new());
        for (after, worker, behind) in arrivals {
            now_ns += after;
            let read_ns = now_ns - behind;
            let shared = &mut workers[worker % count];
            if ask(&policy, shared, Duration::from_nanos(read_ns), &bob).passed() {
                admitted.push(read_ns);
            }
        }
        admitted.sort_unstable();
        prop_assert!(keeps_promise(&admitted, limit, Duration::from_secs(window_s), burst));
    }
}

/// More than a limit allows, all the time, at each of several workers: it admits what it may, but for a fiftieth.
#[test]
fn a_limit_that_is_used_up_is_used_up() {
    for (limit, count) in [(1_000, 1), (1_000, 2), (5_000, 4), (20_000, 8)] {
        let policy = policy(json!({"rules": [rule("r", &["tenant"], limit, "1s", limit)]}));
        let mut workers = workers(count);
        let bob = request("acme", "bob", CALL);
        let (mut passed, seconds) = (0_u64, 4_u64);
        let (sent, step_ns) = (u64::from(limit) * 2 * seconds, SECOND_NS / (2 * u64::from(limit)));
        for number in 0..sent {
            let now = Duration::from_nanos(SECOND_NS + number * step_ns);
            let shared = &mut workers[usize::try_from(number).unwrap() % count];
            passed += u64::from(ask(&policy, shared, now, &bob).passed());
        }
        let most = u64::from(limit) * (1 + seconds);
        assert!(passed <= most && passed * 50 >= most * 49, "{passed} of {most} passed at {count} workers");
    }
}

/// A single worker spends all that it has debited: its limits are exact as if it had not.
#[test]
fn levels_that_refuse_spend_nothing_of_the_others() {
    let policy = policy(json!({"rules": [
        rule("tenant", &["tenant"], 2_000, "1h", 2_000),
        rule("user", &["tenant", "user"], 300, "1h", 300),
    ]}));
    let mut worker = workers(1);
    let mut allowed = 0;
    let mut passing = |user: &str, of: u32| {
        let user = request("acme", user, CALL);
        let answers = (0..of).map(|_| ask(&policy, &mut worker[0], Duration::from_secs(9), &user));
        let passed = answers.filter(|answer| {
            allowed += answer.count(&ALLOWED);
            answer.passed()
        });
        passed.count()
    };
    for user in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(passing(user, 700), 300, "{user}");
    }
    assert_eq!(passing("g", 700), 200, "what is left to the tenant");
    assert_eq!(passing("h", 700), 0);
    assert_eq!(allowed, 2_000);
}

#[test]
fn a_busy_limit_seldom_asks_its_slot_and_a_small_or_rare_one_always_does() {
    for (limit, every_ns, sent, most) in [
        (100_000, 10_000, 10_000_u64, 40_u64),
        // Less is left than would be worth while.
        (200, 1_000, 100, 100),
        // What is debited ahead drains before the next comes.
        (1_000, 900_000_000, 20, 20),
    ] {
        let policy = policy(json!({"rules": [rule("r", &["tenant"], limit, "1s", limit)]}));
        let mut worker = workers(1);
        for number in 0..sent {
            let now = Duration::from_nanos(SECOND_NS + number * every_ns);
            assert!(ask(&policy, &mut worker[0], now, &request("acme", "bob", CALL)).passed());
        }
        let loads = worker[0].loads;
        assert!(loads <= most && (most < 100 || limit != 200 || loads == most), "{limit}: {loads} loads");
    }
}

#[test]
fn threads_never_admit_more_than_the_limit_and_lose_little() {
    const LIMIT: u32 = 6_000;
    let slots = Arc::new(Mutex::new(LocalSlots::new(1)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut worker = Worker::of(&slots);
            std::thread::spawn(move || {
                let policy = policy(json!({"rules": [rule("r", &["tenant"], LIMIT, "24h", LIMIT)]}));
                let bob = request("acme", "bob", CALL);
                let answers = (0..LIMIT).map(|_| ask(&policy, &mut worker, Duration::from_secs(9), &bob));
                u32::try_from(answers.filter(super::Answer::passed).count()).unwrap()
            })
        })
        .collect();
    let passed: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    // Each thread goes on to the end, so that nothing stays with one that has stopped.
    assert!(passed <= LIMIT && passed * 50 >= LIMIT * 49, "{passed} of {LIMIT}");
}

#[test]
fn requests_that_cost_more_use_a_limit_up_too() {
    for (limit, cost) in [(1_000, 16), (6_000, 10), (6_000, 100), (100_000, 50), (100_000, 1_600)] {
        let mut rule = rule("r", &["tenant"], limit, "24h", limit);
        rule["cost"] = json!(cost);
        let policy = policy(json!({"rules": [rule]}));
        let mut worker = workers(1);
        let bob = request("acme", "bob", CALL);
        let answers =
            (0..2 * limit / cost).map(|_| ask(&policy, &mut worker[0], Duration::from_secs(9), &bob));
        let passed = u32::try_from(answers.filter(super::Answer::passed).count()).unwrap();
        assert!(passed <= limit / cost && passed * 50 >= limit / cost * 49, "{passed} of {}", limit / cost);
    }
}

#[test]
fn workers_that_saw_a_daily_limit_now_and_then_hold_nothing_of_it() {
    const LIMIT: u32 = 6_000;
    let policy = policy(json!({"rules": [rule("r", &["tenant"], LIMIT, "24h", LIMIT)]}));
    let (mut workers, bob) = (workers(8), request("acme", "bob", CALL));
    let mut passed = 0;
    for second in [9, 19] {
        for worker in &mut workers {
            passed += u32::from(ask(&policy, worker, Duration::from_secs(second), &bob).passed());
        }
    }
    for _ in 0..LIMIT {
        passed += u32::from(ask(&policy, &mut workers[0], Duration::from_secs(29), &bob).passed());
    }
    assert!((LIMIT * 49 / 50..=LIMIT + 2).contains(&passed), "{passed} of {LIMIT}");
}
