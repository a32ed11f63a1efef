//! Every way that workers can meet in shared slots, and processes at the companion, as far as a model checker finds them.
//!
//! Each load and each store of a slot is a point at which another worker may go first.
#![expect(
    clippy::unwrap_used,
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
    Request, SharedState, Site, SlotValue, StateError, StoreResult, Tenant, User, Vocabulary, WorkerState,
};
use portcullis_rate_limit::{
    RateLimit, Stream, Wire,
    desk::{Desk, Question},
};
use serde_json::{Value, json};
use shuttle::{
    rand::{Rng as _, thread_rng},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

const SCHEDULES: usize = 2_000;
const NOW: Duration = Duration::from_secs(100);

/// The shared data of a process.
type Slots = Arc<Mutex<LocalSlots>>;

fn process(seed: u64) -> Slots {
    Arc::new(Mutex::new(LocalSlots::new(seed)))
}

/// A worker: what it shares with others, and what it has for itself.
struct Worker {
    slots: Slots,
    desk: Desk,
    policy: RateLimit,
    /// Slots where a request that was not admitted stays counted.
    overcounted: u64,
}

impl SharedState for Meeting<'_> {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        self.0.lock().unwrap().load(slot)
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        self.0.lock().unwrap().store(slot, bytes, version)
    }

    fn seed(&mut self) -> u64 {
        self.0.lock().unwrap().seed()
    }

    fn worker(&mut self) -> Option<&mut dyn WorkerState> {
        self.1.as_deref_mut().map(|desk| desk as &mut dyn WorkerState)
    }
}

/// What a policy is given: slots, each behind a point of meeting, and the worker's own state.
struct Meeting<'w>(&'w Slots, Option<&'w mut Desk>);

fn request(user: &str) -> Request {
    Request { user: User::new(user.as_bytes()), ..Request::of(Tenant::new(b"acme").unwrap()) }
}

impl Worker {
    fn new(slots: &Slots, seed: u64, calls: bool, section: &Value) -> Self {
        let wire: Wire = serde_json::from_value(section.clone()).unwrap();
        let mut errors = ConfigErrors::default();
        let policy = RateLimit::compile(wire, &Site::root(), &Vocabulary::default(), &mut errors).unwrap();
        Self { slots: Arc::clone(slots), desk: Desk::new(seed, calls), policy, overcounted: 0 }
    }

    fn on(&mut self, stream: &mut Stream, user: &str, event: &Event<'_>) -> Effects {
        let mut effects = Effects::new();
        let (request, moment) = (request(user), Moment { now: NOW, ..Moment::default() });
        let mut shared = Meeting(&self.slots, Some(&mut self.desk));
        let mut context =
            Context { moment, request: &request, decisions: &[], shared: &mut shared, facts: &mut NoFacts };
        self.policy.on(&mut context, stream, event, &mut effects);
        for effect in &effects {
            if let Effect::Count(metric, count) = effect
                && metric.name == "portcullis_rate_limit_overcounted_total"
            {
                self.overcounted += count;
            }
        }
        effects
    }

    /// A request; its stream when it is admitted. One that would wait goes away.
    fn ask(&mut self, user: &str) -> Option<Stream> {
        let (mut stream, headers) = (Stream::default(), Headers::default());
        let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
        let effects = self.on(&mut stream, user, &event);
        let stopped = effects.iter().any(|effect| matches!(effect, Effect::Refuse(_) | Effect::Wait));
        (!stopped).then_some(stream)
    }

    fn end(&mut self, mut stream: Stream, user: &str, status: u16) {
        let outcome = Outcome { status: Some(status), ..Outcome::default() };
        self.on(&mut stream, user, &Event::Done { outcome: &outcome });
    }

    /// One call to the companion; its answer comes, or is lost, or the call itself is.
    fn call(&mut self, engine: &Engine<()>) {
        let mut slots = Meeting(&self.slots, None);
        self.desk.tick(&mut slots, NOW, &mut Effects::new());
        let Some(body) = self.desk.call(Question::Leases, &mut slots, NOW, &mut Effects::new()) else {
            return;
        };
        let fate = thread_rng().gen_range(0..4);
        let answer = (fate > 0).then(|| answer(engine, &body)).filter(|_| fate > 1);
        self.desk.answered(Question::Leases, answer.as_deref(), &mut slots, NOW, &mut Effects::new());
    }
}

fn answer(engine: &Engine<()>, body: &[u8]) -> Vec<u8> {
    let call: Call = serde_json::from_slice(body).unwrap();
    let now_ns = u64::try_from(NOW.as_nanos()).unwrap();
    let grants = call.check().unwrap().into_iter().map(|asked| {
        // The companion answers others in between.
        thread::yield_now();
        engine.ask(asked.name.key(engine.secret()), &asked.quota, &asked.ask, now_ns).value.into()
    });
    serde_json::to_vec(&Grants { grants: grants.collect() }).unwrap()
}

/// Runs workers of one process at the same time; what each answers, added up.
fn together(
    slots: &Slots,
    section: Value,
    workers: u32,
    work: impl Fn(u32, &mut Worker) -> u32 + Send + Sync + Copy + 'static,
) -> (u32, u64) {
    let threads: Vec<_> = (0..workers)
        .map(|number| {
            let (slots, section) = (Arc::clone(slots), section.clone());
            thread::spawn(move || {
                let mut worker = Worker::new(&slots, 1, false, &section);
                (work(number, &mut worker), worker.overcounted)
            })
        })
        .collect();
    let done = threads.into_iter().map(|thread| thread.join().unwrap());
    done.fold((0, 0), |(sum, over), (admitted, overcounted)| (sum + admitted, over + overcounted))
}

fn admitted(worker: &mut Worker, user: &str, times: u32) -> u32 {
    (0..times).map(|_| u32::from(worker.ask(user).is_some())).sum()
}

#[test]
fn workers_admit_exactly_the_limit() {
    shuttle::check_random(
        || {
            let section = json!({"rules": [{"name": "r", "limit": 4, "window": "1h"}]});
            let (sum, _) = together(&process(1), section, 3, |_, worker| admitted(worker, "alice", 2));
            assert_eq!(sum, 4);
        },
        SCHEDULES,
    );
}

/// Of a limit that is large enough, workers debit units ahead: none is admitted twice, and what is lost is at most what one of
/// them has debited and not spent.
#[test]
fn workers_that_debit_ahead_admit_no_more() {
    const SCHEDULES: usize = 100;
    shuttle::check_random(
        || {
            let section = json!({"rules": [{"name": "r", "limit": 280, "window": "1h"}]});
            let (slots, asked) = (process(1), 160);
            let (sum, _) =
                together(&slots, section.clone(), 2, move |_, worker| admitted(worker, "alice", asked));
            assert!((280 - 4..=280).contains(&sum), "{sum} of 280");
            let mut late = Worker::new(&slots, 1, false, &section);
            assert_eq!(admitted(&mut late, "alice", 8), 0, "what is debited is nobody else's");
        },
        SCHEDULES,
    );
}

/// Two levels in two slots: all or nothing, and whoever is taken back is not admitted.
#[test]
fn levels_commit_whole_or_not_at_all() {
    shuttle::check_random(
        || {
            let section = json!({"rules": [
                {"name": "tenant", "per": ["tenant"], "limit": 3, "window": "1h"},
                {"name": "user", "per": ["tenant", "user"], "limit": 2, "window": "1h"}
            ]});
            let slots = process(1);
            let users = ["alice", "alice", "bob"];
            let (sum, overcounted) = together(&slots, section.clone(), 3, move |number, worker| {
                admitted(worker, users.get(number as usize).unwrap(), 2)
            });
            assert!(sum <= 3, "{sum} of 3");
            // Whoever met a request that was then taken back was refused; the room is there for those who come later,
            // unless it was told to be overcounted.
            let mut late = Worker::new(&slots, 1, false, &section);
            let all = sum + admitted(&mut late, "carol", 2) + admitted(&mut late, "dave", 2);
            assert!(all <= 3, "{all} of 3");
            assert!(u64::from(all) + overcounted >= 3, "{all} admitted, {overcounted} overcounted");
        },
        SCHEDULES,
    );
}

/// No more hold a place at the same time than there are, and every place comes back.
#[test]
fn places_are_held_by_so_many_and_come_back() {
    shuttle::check_random(
        || {
            let section = json!({"rules": [{"name": "r", "concurrent": 2}]});
            let (slots, holding) = (process(1), Arc::new(AtomicU32::new(0)));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let (slots, section, holding) =
                        (Arc::clone(&slots), section.clone(), Arc::clone(&holding));
                    thread::spawn(move || {
                        let mut worker = Worker::new(&slots, 1, false, &section);
                        for _ in 0..2 {
                            let Some(stream) = worker.ask("alice") else { continue };
                            let held = holding.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(held <= 2, "{held} hold one of 2");
                            thread::yield_now();
                            holding.fetch_sub(1, Ordering::SeqCst);
                            worker.end(stream, "alice", 200);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let mut last = Worker::new(&slots, 1, false, &section);
            let streams: Vec<_> = (0..3).filter_map(|_| last.ask("alice")).collect();
            assert_eq!(streams.len(), 2);
        },
        SCHEDULES,
    );
}

/// Of requests that count only when they fail, no more fail than the limit says, and what was held for others comes back.
#[test]
fn what_is_held_until_the_response_counts_once() {
    shuttle::check_random(
        || {
            let section =
                json!({"rules": [{"name": "r", "limit": 3, "window": "1h", "count": "on_failure"}]});
            let slots = process(1);
            let (failed, _) = together(&slots, section.clone(), 3, |number, worker| {
                let status = if number == 0 { 200 } else { 401 };
                let mut failed = 0;
                for _ in 0..2 {
                    let Some(stream) = worker.ask("alice") else { continue };
                    failed += u32::from(status == 401);
                    worker.end(stream, "alice", status);
                }
                failed
            });
            assert!(failed <= 3, "{failed} of 3");
            let mut late = Worker::new(&slots, 1, false, &section);
            let more = admitted(&mut late, "alice", 5);
            assert!(failed + more <= 3, "{failed} and {more} of 3");
        },
        SCHEDULES,
    );
}

/// Two processes, one of them with two workers, and the companion's engine; calls and answers get lost.
#[test]
fn leases_never_admit_more_than_was_granted() {
    shuttle::check_random(
        || {
            let section = json!({"scope": "global", "rules": [{"name": "r", "limit": 5, "window": "1h"}]});
            let engine = Arc::new(Engine::new(64, Secret([3; 16]), ()));
            let (one, two) = (process(1), process(2));
            let threads: Vec<_> = [(&one, 1), (&one, 1), (&two, 2)]
                .into_iter()
                .map(|(slots, seed)| {
                    let (slots, section, engine) = (Arc::clone(slots), section.clone(), Arc::clone(&engine));
                    thread::spawn(move || {
                        let mut worker = Worker::new(&slots, seed, true, &section);
                        let mut sum = 0;
                        for _ in 0..4 {
                            sum += admitted(&mut worker, "alice", 1);
                            worker.call(&engine);
                        }
                        sum
                    })
                })
                .collect();
            let sum: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            let totals = engine.totals();
            assert!(u64::from(sum) <= totals.granted && totals.granted <= 5, "{sum} admitted: {totals:?}");
            assert_eq!(totals.granted, totals.spent + totals.returned + totals.expired + totals.outstanding);
        },
        SCHEDULES,
    );
}
