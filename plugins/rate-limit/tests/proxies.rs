//! Several processes and the companion's own engine under a virtual clock, with messages that are late or lost: never
//! more is admitted than the limit says, reckoned in whole integers; and no token appears from nowhere or vanishes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by failing; clippy allows it within test functions, not beside them"
)]

use std::time::Duration;

use portcullis_limits::{
    engine::Engine,
    key::Secret,
    wire::{Call, Grants},
};
use portcullis_policy::{
    ConfigErrors, Context, Effect, Effects, Event, Headers, LocalSlots, Moment, NoFacts, Outcome, Policy,
    Request, SharedState, Site, SlotValue, StateError, StoreResult, Tenant, Vocabulary, WorkerState,
};
use portcullis_rate_limit::{
    RateLimit, Stream, Wire,
    desk::{Desk, Question},
};
use proptest::prelude::*;
use serde_json::json;

/// A process with one worker.
struct Process {
    slots: LocalSlots,
    desk: Desk,
    /// The call under way, and its answer once the companion has made it.
    call: Option<(Vec<u8>, Option<Vec<u8>>)>,
    /// Requests whose response is awaited.
    under_way: Vec<Stream>,
}

impl SharedState for Process {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        self.slots.load(slot)
    }
    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        self.slots.store(slot, bytes, version)
    }
    fn seed(&mut self) -> u64 {
        self.slots.seed()
    }
    fn worker(&mut self) -> Option<&mut dyn WorkerState> {
        Some(&mut self.desk)
    }
}

fn policy(rule: serde_json::Value) -> RateLimit {
    let wire: Wire = serde_json::from_value(json!({"scope": "global", "rules": [rule]})).unwrap();
    let mut errors = ConfigErrors::default();
    RateLimit::compile(wire, &Site::root(), &Vocabulary::default(), &mut errors).unwrap()
}

fn request() -> Request {
    Request::of(Tenant::new(b"acme").unwrap())
}

impl Process {
    fn new(seed: u64) -> Self {
        let (slots, desk) = (LocalSlots::new(seed), Desk::new(seed, true));
        Self { slots, desk, call: None, under_way: Vec::new() }
    }

    fn on(&mut self, policy: &RateLimit, stream: &mut Stream, now: Duration, event: &Event<'_>) -> Effects {
        let mut effects = Effects::new();
        let (request, moment) = (request(), Moment { now, ..Moment::default() });
        let mut context =
            Context { moment, request: &request, decisions: &[], shared: self, facts: &mut NoFacts };
        policy.on(&mut context, stream, event, &mut effects);
        effects
    }

    /// One request; true when it is admitted. One that would wait goes away.
    fn ask(&mut self, policy: &RateLimit, now: Duration) -> bool {
        let (mut stream, headers) = (Stream::default(), Headers::default());
        let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
        let effects = self.on(policy, &mut stream, now, &event);
        let stopped = effects.iter().any(|effect| matches!(effect, Effect::Refuse(_) | Effect::Wait));
        if !stopped {
            self.under_way.push(stream);
        }
        !stopped
    }

    /// The oldest request ends with that status.
    fn end(&mut self, policy: &RateLimit, now: Duration, status: u16) -> bool {
        if self.under_way.is_empty() {
            return false;
        }
        let mut stream = self.under_way.remove(0);
        let outcome = Outcome { status: Some(status), ..Outcome::default() };
        self.on(policy, &mut stream, now, &Event::Done { outcome: &outcome });
        true
    }

    fn tick(&mut self, now: Duration) {
        let Self { slots, desk, call, .. } = self;
        desk.tick(slots, now, &mut Effects::new());
        if call.is_none() {
            *call = desk.call(Question::Leases, slots, now, &mut Effects::new()).map(|body| (body, None));
        }
    }

    /// The companion gets the call.
    fn arrive(&mut self, engine: &Engine<()>, now: Duration) {
        let Some((body, answer @ None)) = &mut self.call else { return };
        let call: Call = serde_json::from_slice(body).unwrap();
        let now_ns = u64::try_from(now.as_nanos()).unwrap() + 1_000_000_000;
        let grants = call.check().unwrap().into_iter().map(|asked| {
            engine.ask(asked.name.key(engine.secret()), &asked.quota, &asked.ask, now_ns).value.into()
        });
        *answer = Some(serde_json::to_vec(&Grants { grants: grants.collect() }).unwrap());
    }

    /// The process gets the answer, or hears that none came.
    fn answer(&mut self, now: Duration, lost: bool) {
        let Some((_, answer)) = &self.call else { return };
        if answer.is_none() && !lost {
            return;
        }
        let body = answer.clone().filter(|_| !lost);
        self.call = None;
        let Self { slots, desk, .. } = self;
        desk.answered(Question::Leases, body.as_deref(), slots, now, &mut Effects::new());
    }
}

/// Whether in every span no more than B + ⌈L·t/W⌉ were admitted.
fn keeps_promise(times: &[Duration], limit: u128, window: Duration, burst: u128) -> Result<(), String> {
    for (from, start) in times.iter().enumerate() {
        for (count, end) in (1_u128..).zip(times.iter().skip(from)) {
            let most = burst + (limit * (*end - *start).as_nanos()).div_ceil(window.as_nanos());
            if count > most {
                return Err(format!("{count} from {start:?} to {end:?}, at most {most}"));
            }
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Ask,
    End(u16),
    Tick,
    Arrive,
    Answer,
    Lose,
    Wait(u64),
    /// The process and all it holds are gone; another takes its place.
    Die,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => Just(Act::Ask),
        3 => prop_oneof![Just(200_u16), Just(401)].prop_map(Act::End),
        6 => Just(Act::Tick),
        5 => Just(Act::Arrive),
        5 => Just(Act::Answer),
        1 => Just(Act::Lose),
        3 => prop_oneof![0..20_u64, 0..3_000_u64, 0..20_000_u64].prop_map(Act::Wait),
        1 => Just(Act::Die),
    ]
}

fn run(
    acts: &[(usize, Act)],
    limit: u32,
    window_s: u64,
    burst: u32,
    count: serde_json::Value,
) -> Result<usize, String> {
    let policy = policy(
        json!({"name": "r", "limit": limit, "window": format!("{window_s}s"), "burst": burst, "count": count}),
    );
    let engine = Engine::new(1000, Secret([3; 16]), ());
    let mut processes: Vec<Process> = (1..=3).map(Process::new).collect();
    let (mut now, mut deaths) = (Duration::from_secs(100), 100);
    let (mut admitted, mut counted) = (Vec::new(), Vec::new());
    for (who, act) in acts {
        let Some(process) = processes.get_mut(*who) else { continue };
        match act {
            Act::Ask => {
                if process.ask(&policy, now) {
                    admitted.push(now);
                }
            }
            Act::End(status) => {
                if process.end(&policy, now, *status) && *status == 401 {
                    counted.push(now);
                }
            }
            Act::Tick => process.tick(now),
            Act::Arrive => process.arrive(&engine, now),
            Act::Answer => process.answer(now, false),
            Act::Lose => process.answer(now, true),
            Act::Wait(ms) => now += Duration::from_millis(*ms),
            Act::Die => {
                deaths += 1;
                *process = Process::new(deaths);
            }
        }
        let totals = engine.totals();
        let known = totals.spent + totals.returned + totals.expired + totals.outstanding;
        if totals.granted != known {
            return Err(format!("{totals:?}"));
        }
    }
    let times = if count == json!("always") { &admitted } else { &counted };
    keeps_promise(times, u128::from(limit), Duration::from_secs(window_s), u128::from(burst))?;
    Ok(admitted.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_schedule_admits_too_much(
        acts in prop::collection::vec((0..3_usize, act()), 1..250),
        limit in 1..60_u32,
        window_s in prop_oneof![Just(1_u64), Just(7), Just(60), Just(3600)],
        burst in 1..60_u32,
    ) {
        let admitted = run(&acts, limit, window_s, burst, json!("always"));
        prop_assert!(admitted.is_ok(), "{:?}", admitted);
    }

    /// Of requests that count only if they fail, no more fail than the limit says.
    #[test]
    fn no_schedule_lets_too_many_fail(
        acts in prop::collection::vec((0..3_usize, act()), 1..250),
        limit in 1..30_u32,
        window_s in prop_oneof![Just(7_u64), Just(60), Just(3600)],
    ) {
        let admitted = run(&acts, limit, window_s, limit, json!("on_failure"));
        prop_assert!(admitted.is_ok(), "{:?}", admitted);
    }
}

#[test]
fn a_steady_load_gets_nearly_all_that_it_may() {
    // Three processes ask all the time, for ten minutes; messages take 20 ms each way.
    let mut acts = Vec::new();
    for round in 0..30_000 {
        let who = round % 3;
        acts.push((who, Act::Ask));
        match round / 3 % 3 {
            0 => acts.push((who, Act::Tick)),
            1 => acts.push((who, Act::Arrive)),
            _ => acts.push((who, Act::Answer)),
        }
        acts.push((who, Act::Wait(20)));
    }
    let admitted = run_fast(&acts, 100, 60, 100);
    let most = 100 + 100 * 600 / 60;
    println!("{admitted} of {most}");
    assert!(admitted <= most && admitted * 100 >= most * 95, "{admitted} of {most}");
}

/// The same, for a load too long to look at every span.
fn run_fast(acts: &[(usize, Act)], limit: u32, window_s: u64, burst: u32) -> usize {
    let policy =
        policy(json!({"name": "r", "limit": limit, "window": format!("{window_s}s"), "burst": burst}));
    let engine = Engine::new(1000, Secret([3; 16]), ());
    let mut processes: Vec<Process> = (1..=3).map(Process::new).collect();
    let (mut now, mut admitted) = (Duration::from_secs(100), 0);
    for (who, act) in acts {
        let process = &mut processes[*who];
        match act {
            Act::Ask => admitted += usize::from(process.ask(&policy, now)),
            Act::Tick => process.tick(now),
            Act::Arrive => process.arrive(&engine, now),
            Act::Answer => process.answer(now, false),
            Act::Wait(ms) => now += Duration::from_millis(*ms),
            Act::End(_) | Act::Lose | Act::Die => {}
        }
    }
    admitted
}
