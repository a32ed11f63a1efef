//! The promise, against an oracle of exact integers: processes, messages that are lost, late, doubled and out of order,
//! restarts, direct spending; under a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use portcullis_limits::{
    engine::{Engine, Level},
    key::{Key, Name, Secret},
    quota::Quota,
    step::{Ask, Grant},
};
use proptest::prelude::*;

const SECRET: Secret = Secret([3; 16]);

/// Every admission's time; says whether any span admits more than burst + ceil(limit * span / window).
#[derive(Default)]
struct Oracle(Vec<u64>);

impl Oracle {
    fn admit(&mut self, now_ns: u64, tokens: u32) {
        (0..tokens).for_each(|_| self.0.push(now_ns));
    }

    /// For each pair of admissions i < j: j - i + 1 <= burst + ceil(limit * t / window).
    fn excess(&mut self, quota: &Quota) -> Option<String> {
        self.0.sort_unstable();
        let window = quota.window().as_nanos();
        for (first, start) in self.0.iter().enumerate() {
            for (last, end) in self.0.iter().enumerate().skip(first) {
                let span = u128::from(end - start);
                let most = u128::from(quota.burst()) + (u128::from(quota.limit()) * span).div_ceil(window);
                let admitted = (last - first + 1) as u128;
                if admitted > most {
                    return Some(format!("{admitted} admitted in {span} ns, at most {most}"));
                }
            }
        }
        None
    }
}

/// A process's side, as the module does it.
#[derive(Clone, Default)]
struct Process {
    id: u64,
    balance: u32,
    expires_ns: u64,
    sequence: u64,
    /// The newest ask has not been answered yet.
    asked: bool,
}

/// A message on its way.
#[derive(Clone, Copy)]
struct Flight {
    process: usize,
    ask: Ask,
    sent_ns: u64,
    grant: Option<Grant>,
}

impl Process {
    fn held(&mut self, now_ns: u64) -> u32 {
        if now_ns >= self.expires_ns {
            self.balance = 0;
        }
        self.balance
    }

    fn ask(&mut self, now_ns: u64, want: u32, back: u32) -> Ask {
        let held = self.held(now_ns);
        let give_back = back.min(held);
        self.balance = held - give_back;
        self.sequence += 1;
        self.asked = true;
        Ask {
            process: self.id,
            sequence: self.sequence,
            held: self.balance,
            want,
            need: if want.is_multiple_of(3) { 1.min(want) } else { want },
            give_back,
        }
    }

    fn heed(&mut self, flight: &Flight, now_ns: u64) {
        let newest = self.asked && flight.ask.sequence == self.sequence;
        let (Some(grant), true) = (flight.grant, newest) else { return };
        self.asked = false;
        self.balance = self.held(now_ns).min(grant.keep) + grant.granted;
        self.expires_ns = flight.sent_ns + grant.expires_ms * 1_000_000;
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes, in parts of an interval (per mille).
    Pass(u32),
    /// Time passes to the end of a process's lease, and it spends what it has.
    Brink { process: usize },
    /// A process asks.
    Ask { process: usize, want: u32, back: u32 },
    /// A message reaches the companion (again, if `keep`).
    Deliver { which: usize, keep: bool },
    /// An answer reaches its process.
    Answer { which: usize, keep: bool },
    /// A message or answer is lost.
    Lose { which: usize },
    /// A process spends what it has.
    Spend { process: usize, tokens: u32 },
    /// A process dies, and another takes its place.
    Die { process: usize },
    /// Spending without a lease.
    Direct { hits: u32 },
    /// Leases that are over are ended.
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u32..4000).prop_map(Event::Pass),
        1 => (0_u32..60_000).prop_map(Event::Pass),
        5 => (0_usize..3, 0_u32..25, 0_u32..3).prop_map(|(process, want, back)| Event::Ask { process, want, back }),
        5 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(which, keep)| Event::Deliver { which, keep }),
        5 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(which, keep)| Event::Answer { which, keep }),
        1 => any::<usize>().prop_map(|which| Event::Lose { which }),
        6 => (0_usize..3, prop_oneof![1_u32..5, Just(1000_u32)]).prop_map(|(process, tokens)| Event::Spend { process, tokens }),
        1 => (0_usize..3).prop_map(|process| Event::Die { process }),
        2 => (1_u32..25).prop_map(|hits| Event::Direct { hits }),
        2 => (0_usize..3).prop_map(|process| Event::Brink { process }),
        1 => Just(Event::Sweep),
    ]
}

struct World {
    engine: Engine<()>,
    key: Key,
    quota: Quota,
    now_ns: u64,
    processes: Vec<Process>,
    flights: Vec<Flight>,
    oracle: Oracle,
}

impl World {
    fn new(quota: Quota) -> Self {
        let key = Name::new("acme", "login", "user=alice").unwrap().key(&SECRET);
        let processes = (0..3).map(|id| Process { id, ..Process::default() }).collect();
        let engine = Engine::new(1024, SECRET, ());
        Self {
            engine,
            key,
            quota,
            now_ns: 1_000_000_000,
            processes,
            flights: vec![],
            oracle: Oracle::default(),
        }
    }

    fn pick(&self, which: usize, answered: bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.flights.len()).filter(|at| self.flights[*at].grant.is_some() == answered).collect();
        (!fitting.is_empty()).then(|| fitting[which % fitting.len()])
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Pass(mille) => {
                let interval = u64::try_from(self.quota.window().as_nanos()).unwrap()
                    / u64::from(self.quota.limit().max(1));
                self.now_ns += interval / 1000 * u64::from(mille);
            }
            Event::Brink { process } => {
                self.now_ns = self.now_ns.max(self.processes[process].expires_ns.saturating_sub(1));
                self.happen(&Event::Spend { process, tokens: u32::MAX });
            }
            Event::Ask { process, want, back } => {
                let ask = self.processes[process].ask(self.now_ns, want, back);
                self.flights.push(Flight { process, ask, sent_ns: self.now_ns, grant: None });
            }
            Event::Deliver { which, keep } => {
                let Some(at) = self.pick(which, false) else { return };
                let mut flight = self.flights[at];
                let answer = self.engine.ask(self.key, &self.quota, &flight.ask, self.now_ns);
                flight.grant = Some(answer.value);
                match keep {
                    true => self.flights.push(flight),
                    false => self.flights[at] = flight,
                }
            }
            Event::Answer { which, keep } => {
                let Some(at) = self.pick(which, true) else { return };
                let flight = self.flights[at];
                self.processes[flight.process].heed(&flight, self.now_ns);
                if !keep {
                    self.flights.swap_remove(at);
                }
            }
            Event::Lose { which } => {
                if !self.flights.is_empty() {
                    let at = which % self.flights.len();
                    self.flights.swap_remove(at);
                }
            }
            Event::Spend { process, tokens } => {
                let process = &mut self.processes[process];
                let spent = process.held(self.now_ns).min(tokens);
                process.balance -= spent;
                self.oracle.admit(self.now_ns, spent);
            }
            Event::Die { process } => {
                let id = self.processes.iter().map(|process| process.id).max().unwrap_or(0) + 1;
                // What was on its way to the dead one reaches nobody.
                self.flights.retain(|flight| flight.process != process || flight.grant.is_none());
                self.processes[process] = Process { id, ..Process::default() };
            }
            Event::Direct { hits } => {
                let level = Level { key: self.key, quota: self.quota, hits };
                if self.engine.spend(&[level], self.now_ns, &mut Vec::new()).value {
                    self.oracle.admit(self.now_ns, hits);
                }
            }
            Event::Sweep => (0..self.engine.shards()).for_each(|shard| self.engine.sweep(shard, self.now_ns)),
        }
        let totals = self.engine.totals();
        assert_eq!(
            totals.granted,
            totals.spent + totals.returned + totals.expired + totals.outstanding,
            "{totals:?}"
        );
    }
}

fn quota() -> impl Strategy<Value = Quota> {
    (prop_oneof![1_u32..40, 20_u32..80], prop_oneof![1_u64..120, 1_u64..3], 1_u32..40)
        .prop_map(|(limit, seconds, burst)| Quota::new(limit, Duration::from_secs(seconds), burst).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Nothing that can happen to messages and processes admits one request too many.
    #[test]
    fn no_span_admits_too_many(quota in quota(), events in prop::collection::vec(event(), 1..250)) {
        let mut world = World::new(quota);
        events.iter().for_each(|event| world.happen(event));
        prop_assert_eq!(world.oracle.excess(&quota), None);
    }

    /// A refusal names the wait exactly: until then the same is refused, and then allowed.
    #[test]
    fn a_wait_is_exact(quota in quota(), hits in prop::collection::vec(1_u32..4, 1..60), pass in 0_u64..2_000_000_000) {
        let world = World::new(quota);
        let mut now_ns = world.now_ns;
        for hits in hits {
            let hits = hits.min(quota.burst());
            let level = Level { key: world.key, quota, hits };
            let mut said = Vec::new();
            now_ns += pass;
            if !world.engine.spend(&[level], now_ns, &mut said).value {
                let wait = said[0].retry_after_ns;
                prop_assert!(!world.engine.spend(&[level], now_ns + wait - 1, &mut said).value);
                prop_assert!(world.engine.spend(&[level], now_ns + wait, &mut said).value);
                now_ns += wait;
            }
        }
    }

    /// All levels, or none: a question that is refused leaves every level as it was.
    #[test]
    fn levels_commit_all_or_nothing(costs in prop::collection::vec((1_u32..4, 1_u32..4, 1_u32..4), 1..60)) {
        let engine = Engine::new(1024, SECRET, ());
        let quotas = [10, 6, 4].map(|limit| Quota::new(limit, Duration::from_secs(3600), limit).unwrap());
        let keys = ["a", "b", "c"].map(|rule| Name::new("acme", rule, "").unwrap().key(&SECRET));
        let mut left = [10_i64, 6, 4];
        for (a, b, c) in costs {
            let hits = [a, b, c];
            let levels: Vec<Level> =
                (0..3).map(|at| Level { key: keys[at], quota: quotas[at], hits: hits[at] }).collect();
            let mut said = Vec::new();
            let allowed = engine.spend(&levels, 2_000_000_000, &mut said).value;
            let fits = (0..3).all(|at| i64::from(hits[at]) <= left[at]);
            prop_assert_eq!(allowed, fits);
            if allowed {
                (0..3).for_each(|at| left[at] -= i64::from(hits[at]));
            }
            for at in 0..3 {
                prop_assert_eq!(i64::try_from(said[at].remaining).unwrap(), left[at]);
            }
        }
    }
}

#[test]
fn a_key_that_comes_twice_in_a_question_adds_up() {
    let engine = Engine::new(1024, SECRET, ());
    let quota = Quota::new(5, Duration::from_secs(60), 5).unwrap();
    let level = Level { key: Name::new("acme", "a", "").unwrap().key(&SECRET), quota, hits: 3 };
    let mut said = Vec::new();
    assert!(!engine.spend(&[level, level], 2_000_000_000, &mut said).value);
    assert!(engine.spend(&[level], 2_000_000_000, &mut said).value);
    assert_eq!(said[0].remaining, 2);
}

#[test]
fn an_attack_on_a_full_table_gives_nobody_tokens_back() {
    let quota = Quota::new(5, Duration::from_secs(60), 5).unwrap();
    let engine = Engine::new(512, SECRET, ());
    let key = |user: u32| Name::new("acme", "login", &format!("user={user}")).unwrap().key(&SECRET);
    let mut said = Vec::new();
    let mut now_ns = 2_000_000_000;
    let mut oracle = Oracle::default();
    for round in 0..60_u32 {
        for _ in 0..6 {
            if engine.spend(&[Level { key: key(0), quota, hits: 1 }], now_ns, &mut said).value {
                oracle.admit(now_ns, 1);
            }
        }
        for stranger in 0..2000 {
            engine.spend(
                &[Level { key: key(1 + round * 2000 + stranger), quota, hits: 1 }],
                now_ns,
                &mut said,
            );
        }
        now_ns += 700_000_000;
    }
    assert_eq!(oracle.excess(&quota), None);
    let totals = engine.totals();
    assert!(totals.folded > 1000, "the table was not full: {totals:?}");
    // The same without strangers admits at least as many: nobody gains by them.
    assert!(oracle.0.len() <= 5 + 42 * 5 / 60 + 1);
}

#[test]
fn memory_does_not_grow_with_keys() {
    let quota = Quota::new(5, Duration::from_secs(60), 5).unwrap();
    let engine = Engine::new(4096, SECRET, ());
    let mut said = Vec::new();
    let mut most = 0;
    for user in 0..300_000_u32 {
        let key = Name::new("acme", "login", &format!("user={user}")).unwrap().key(&SECRET);
        engine.spend(&[Level { key, quota, hits: 1 }], 2_000_000_000 + u64::from(user), &mut said);
        if user == 100_000 {
            most = engine.totals().bytes;
        }
    }
    assert_eq!(engine.totals().bytes, most);
    assert!(most <= 4096 * 2 * 64, "{most} bytes");
}

#[test]
fn what_was_lost_grants_nothing_for_a_window() {
    let quota = Quota::new(5, Duration::from_secs(60), 5).unwrap();
    let engine = Engine::new(1024, SECRET, ());
    let level = Level { key: Name::new("acme", "a", "").unwrap().key(&SECRET), quota, hits: 1 };
    let mut said = Vec::new();
    engine.forget(1_000_000_000);
    assert!(!engine.spend(&[level], 1_000_000_001, &mut said).value);
    let wait = said[0].retry_after_ns;
    assert!(wait >= 59_999_999_999, "{wait}");
    assert!(!engine.spend(&[level], 1_000_000_001 + wait - 1, &mut said).value);
    assert!(engine.spend(&[level], 1_000_000_001 + wait, &mut said).value);
}

#[test]
fn a_limit_of_zero_allows_nothing_and_a_change_keeps_the_counts() {
    let engine = Engine::new(1024, SECRET, ());
    let key = Name::new("acme", "a", "").unwrap().key(&SECRET);
    let level = |limit: u32, hits| Level {
        key,
        quota: Quota::new(limit, Duration::from_secs(60), limit).unwrap(),
        hits,
    };
    let mut said = Vec::new();
    let now_ns = 2_000_000_000;
    assert!(!engine.spend(&[level(0, 1)], now_ns, &mut said).value);
    assert!(engine.spend(&[level(10, 5)], now_ns, &mut said).value);
    // Half is used up, by any measure.
    assert!(!engine.spend(&[level(20, 11)], now_ns, &mut said).value);
    assert!(engine.spend(&[level(20, 10)], now_ns, &mut said).value);
}

#[test]
fn tokens_of_a_lease_that_ended_count_from_its_end() {
    let mut world = World::new(Quota::new(20, Duration::from_secs(1), 20).unwrap());

    for event in [
        Event::Ask { process: 0, want: 10, back: 0 },
        Event::Deliver { which: 0, keep: false },
        Event::Answer { which: 0, keep: false },
        // Long after they have been debited, and a moment before they end.
        Event::Brink { process: 0 },
        Event::Pass(2300),
        Event::Direct { hits: 20 },
        Event::Direct { hits: 10 },
    ] {
        world.happen(&event);
    }
    assert_eq!(world.oracle.0.len(), 20, "10 on the lease, and what has come back since");
    assert_eq!(world.oracle.excess(&world.quota), None);
}
