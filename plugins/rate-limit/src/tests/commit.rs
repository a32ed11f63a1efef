//! All or nothing under concurrency: schedules drawn by proptest, and free threads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use portcullis_policy::{SharedState, SlotValue, StateError, StoreResult};
use proptest::prelude::*;

use crate::{
    ahead::Reserve,
    commit::{Asks, CONFLICTS, Claim, Cost, Failure, Outcome, decide},
    gcra::Quota,
    set::{Rate, Set, Step, Tag},
};

const NOW: u64 = 1_000_000_000;

/// The process's slots, as a host keeps them: a mutex, and versions.
#[derive(Default)]
struct Process {
    slots: Mutex<BTreeMap<u32, SlotValue>>,
    turns: Option<Turns>,
}

/// Lets one worker at a time make one host call, in a drawn order.
struct Turns {
    order: Vec<usize>,
    state: Mutex<(usize, Vec<bool>)>,
    changed: Condvar,
}

impl Turns {
    fn new(order: Vec<usize>, workers: usize) -> Self {
        Self { order, state: Mutex::new((0, vec![true; workers])), changed: Condvar::new() }
    }

    /// Whose turn it is, of those that still run.
    fn turn(&self, (calls, running): &(usize, Vec<bool>)) -> Option<usize> {
        let live: Vec<usize> = (0..running.len()).filter(|worker| running[*worker]).collect();
        let drawn = self.order[*calls % self.order.len()];
        (!live.is_empty()).then(|| live[drawn % live.len()])
    }

    fn wait(&self, worker: usize) {
        let mut state = self.state.lock().unwrap();
        while self.turn(&state) != Some(worker) {
            state = self.changed.wait(state).unwrap();
        }
        state.0 += 1;
        self.changed.notify_all();
    }

    fn leave(&self, worker: usize) {
        self.state.lock().unwrap().1[worker] = false;
        self.changed.notify_all();
    }
}

struct Worker {
    process: Arc<Process>,
    number: usize,
}

impl Worker {
    fn turn(&self) {
        if let Some(turns) = &self.process.turns {
            turns.wait(self.number);
        }
    }
}

impl SharedState for Worker {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        self.turn();
        Ok(self.process.slots.lock().unwrap().get(&slot).cloned().unwrap_or_default())
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        self.turn();
        let mut slots = self.process.slots.lock().unwrap();
        let value = slots.entry(slot).or_default();
        if value.version != version {
            return Ok(StoreResult::Conflict);
        }
        *value = SlotValue { bytes: bytes.to_vec(), version: version + 1 };
        Ok(StoreResult::Stored)
    }

    fn seed(&mut self) -> u64 {
        0
    }
}

fn quota(limit: u32) -> Quota {
    Quota::new(limit, Duration::from_secs(3600), limit).unwrap()
}

fn claim(slot: u32, quota: &Quota) -> Claim {
    claim_of(slot, 1, quota)
}

fn claim_of(slot: u32, key: u64, quota: &Quota) -> Claim {
    let step = Step::Refuse { wait_ns: 0 };
    let asks = Asks::Rate { quota: *quota, cost: 1, reserve: false, leased: false, share: None };
    Claim {
        rule: 0,
        slot,
        tag: Tag::new(key << 40, quota.refill_ns()),
        asks,
        enforce: true,
        reserve: Reserve::None,
        step,
    }
}

fn one(quota: &Quota) -> Rate<'_> {
    Rate { quota, cost: 1, reserve: false, leased: false, share: None }
}

/// How much of the quota is spent.
fn spent(process: &Process, slot: u32, quota: &Quota) -> u32 {
    let bytes = process.slots.lock().unwrap().get(&slot).cloned().unwrap_or_default().bytes;
    let mut set = Set::decode(&bytes).unwrap();
    let tag = Tag::new(1 << 40, quota.refill_ns());
    let left =
        std::iter::from_fn(|| matches!(set.step(tag, NOW, &one(quota)), Step::Admit { .. }).then_some(()));
    quota.limit() - u32::try_from(left.count()).unwrap()
}

/// What the workers admitted, what it cost, and how often nothing was decided.
#[derive(Debug, Default)]
struct Tally {
    admitted: u32,
    failed: u32,
    overcounted: u32,
}

fn run(
    process: &Arc<Process>,
    workers: usize,
    requests: u32,
    claims: impl Fn() -> Vec<(u32, Quota)> + Sync,
) -> Tally {
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for number in 0..workers {
            let (process, tally, claims) = (process.clone(), &tally, &claims);
            scope.spawn(move || {
                let mut worker = Worker { process: process.clone(), number };
                for _ in 0..requests {
                    let limits = claims();
                    let mut claims: Vec<_> = limits.iter().map(|(slot, quota)| claim(*slot, quota)).collect();
                    let mut cost = Cost::default();
                    let result = decide(&mut worker, NOW, &mut claims, &mut cost);
                    let mut tally = tally.lock().unwrap();
                    tally.admitted += u32::from(result == Ok(Outcome::Admitted));
                    tally.failed += u32::from(result.is_err());
                    tally.overcounted += cost.overcounted;
                }
                if let Some(turns) = &process.turns {
                    turns.leave(number);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

#[test]
fn threads_admit_exactly_the_limit() {
    for workers in [2, 4, 8] {
        let process = Arc::new(Process::default());
        let tally = run(&process, workers, 500, || vec![(7, quota(600))]);
        // What failed (a store forestalled too often) was not counted, and there were requests enough to fill the quota.
        assert_eq!(tally.admitted, 600, "{tally:?}");
        assert_eq!(spent(&process, 7, &quota(600)), 600);
    }
}

#[test]
fn threads_admit_all_or_nothing() {
    let process = Arc::new(Process::default());
    let limits = || vec![(1, quota(900)), (2, quota(700)), (3, quota(800))];
    let tally = run(&process, 4, 500, limits);
    let total: u32 = limits().iter().map(|(slot, quota)| spent(&process, *slot, quota)).sum();
    assert!(tally.admitted <= 700);
    assert_eq!(total, 3 * tally.admitted + tally.overcounted, "{tally:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the order of host calls, one limit admits exactly what it says.
    #[test]
    fn any_schedule_is_exact_for_one_limit(order in prop::collection::vec(0..3_usize, 1..60), limit in 1..8_u32) {
        let process = Arc::new(Process { turns: Some(Turns::new(order, 3)), ..Process::default() });
        let tally = run(&process, 3, 3, || vec![(7, quota(limit))]);
        prop_assert_eq!((tally.admitted, tally.failed), (limit, 0));
    }

    /// With two slots a race may count one too many, never admit one too many; and it says so.
    #[test]
    fn any_schedule_never_admits_too_many(
        order in prop::collection::vec(0..3_usize, 1..60),
        first in 1..7_u32,
        second in 1..7_u32,
    ) {
        let process = Arc::new(Process { turns: Some(Turns::new(order, 3)), ..Process::default() });
        let limits = [(1, quota(first)), (2, quota(second))];
        let tally = run(&process, 3, 3, || limits.to_vec());
        prop_assert!(tally.admitted <= first.min(second));
        prop_assert_eq!(tally.failed, 0);
        let counted = limits.iter().map(|(slot, quota)| spent(&process, *slot, quota)).sum::<u32>();
        prop_assert_eq!(counted, 2 * tally.admitted + tally.overcounted);
    }
}

/// One worker's slots, where something happens at a given host call.
struct Scripted<F: FnMut(usize, &mut BTreeMap<u32, SlotValue>) -> Option<StateError>> {
    slots: BTreeMap<u32, SlotValue>,
    calls: usize,
    script: F,
}

impl<F: FnMut(usize, &mut BTreeMap<u32, SlotValue>) -> Option<StateError>> Scripted<F> {
    fn new(script: F) -> Self {
        Self { slots: BTreeMap::new(), calls: 0, script }
    }

    fn act(&mut self) -> Result<(), StateError> {
        self.calls += 1;
        (self.script)(self.calls, &mut self.slots).map_or(Ok(()), Err)
    }
}

impl<F: FnMut(usize, &mut BTreeMap<u32, SlotValue>) -> Option<StateError>> SharedState for Scripted<F> {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        self.act()?;
        Ok(self.slots.get(&slot).cloned().unwrap_or_default())
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        self.act()?;
        let value = self.slots.entry(slot).or_default();
        if value.version != version {
            return Ok(StoreResult::Conflict);
        }
        *value = SlotValue { bytes: bytes.to_vec(), version: version + 1 };
        Ok(StoreResult::Stored)
    }

    fn seed(&mut self) -> u64 {
        0
    }
}

/// Another worker spends one of the slot's quota.
fn spend(slots: &mut BTreeMap<u32, SlotValue>, slot: u32, quota: &Quota) {
    let value = slots.entry(slot).or_default();
    let mut set = Set::decode(&value.bytes).unwrap();
    assert!(matches!(set.step(Tag::new(1 << 40, quota.refill_ns()), NOW, &one(quota)), Step::Admit { .. }));
    *value = SlotValue { bytes: set.encode().as_bytes().to_vec(), version: value.version + 1 };
}

#[test]
fn each_slot_costs_one_load_and_one_store_and_a_refusal_no_store() {
    let (one, two) = (quota(1), quota(2));
    let mut shared = Scripted::new(|_, _| None);
    let mut ask = |claims: &mut [Claim]| {
        let before = shared.calls;
        let admitted = decide(&mut shared, NOW, claims, &mut Cost::default());
        (admitted, shared.calls - before)
    };
    assert_eq!(
        ask(&mut [claim_of(1, 1, &two), claim_of(1, 2, &two), claim(2, &one)]),
        (Ok(Outcome::Admitted), 4)
    );
    assert_eq!(
        ask(&mut [claim_of(1, 1, &two), claim_of(1, 2, &two), claim(2, &one)]),
        (Ok(Outcome::Refused), 2)
    );
    // The refused request left the first limit alone.
    assert_eq!(ask(&mut [claim_of(1, 1, &two), claim_of(1, 2, &two)]), (Ok(Outcome::Admitted), 2));
}

#[test]
fn a_request_that_loses_the_race_is_taken_back() {
    let (ten, one) = (quota(10), quota(1));
    // Calls: load 1, load 2, store 1, store 2. Before the last, another worker takes the second limit's only request.
    let mut shared = Scripted::new(|call, slots| {
        if call == 4 {
            spend(slots, 2, &quota(1));
        }
        None
    });
    let mut cost = Cost::default();
    assert_eq!(
        decide(&mut shared, NOW, &mut [claim(1, &ten), claim(2, &one)], &mut cost),
        Ok(Outcome::Refused)
    );
    assert_eq!(cost, Cost { conflicts: 1, ..Cost::default() });
    assert!(shared.slots[&1].bytes.is_empty());
}

#[test]
fn what_others_have_built_upon_stays_counted() {
    let (ten, one) = (quota(10), quota(1));
    let mut shared = Scripted::new(|call, slots| {
        if call == 4 {
            spend(slots, 1, &quota(10));
            spend(slots, 2, &quota(1));
        }
        None
    });
    let mut cost = Cost::default();
    assert_eq!(
        decide(&mut shared, NOW, &mut [claim(1, &ten), claim(2, &one)], &mut cost),
        Ok(Outcome::Refused)
    );
    assert_eq!(cost, Cost { conflicts: 1, overcounted: 1, ..Cost::default() });
    let process = Process { slots: Mutex::new(shared.slots), turns: None };
    assert_eq!(spent(&process, 1, &ten), 2);
}

#[test]
fn retries_are_bounded_and_what_was_stored_is_taken_back() {
    let many = quota(1_000_000);
    let mut shared = Scripted::new(|call, slots| {
        if call > 3 {
            spend(slots, 2, &quota(1_000_000));
        }
        None
    });
    let mut cost = Cost::default();
    let result = decide(&mut shared, NOW, &mut [claim(1, &many), claim(2, &many)], &mut cost);
    assert_eq!(result, Err(Failure::Contention));
    assert_eq!(cost, Cost { conflicts: CONFLICTS + 1, ..Cost::default() });
    assert!(shared.slots[&1].bytes.is_empty());
}

#[test]
fn a_host_that_refuses_is_told() {
    for failing in 1..=4 {
        let ten = quota(10);
        let mut shared = Scripted::new(move |call, _| (call == failing).then_some(StateError::Refused));
        let mut cost = Cost::default();
        let result = decide(&mut shared, NOW, &mut [claim(1, &ten), claim(2, &ten)], &mut cost);
        assert_eq!(result, Err(Failure::State(StateError::Refused)));
        assert!(shared.slots.values().all(|value| value.bytes.is_empty()));
    }
}
