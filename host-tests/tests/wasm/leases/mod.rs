//! Limits that all proxies share: several processes, and a companion that answers, is late, or is away. The companion's
//! own engine counts.

mod callbacks;
mod share;

use std::time::Duration;

use portcullis_host_tests::{
    host::{
        Call, CallAnswer, Flow, HeaderMap, Message, Options, Process, Profile, Properties, Request, Stream,
        Vm,
    },
    run,
};
use portcullis_limits::{
    engine::Engine,
    key::Secret,
    wire::{Call as LeaseCall, Grants},
};
use serde_json::{Value, json};

use super::support::{log, portcullis, restricted, status_of, worker, worker_with};

/// The companion: its clock is the tests'.
struct Companion {
    engine: Engine<()>,
    calls: usize,
    asks: usize,
    /// What tenants may do; `null` for what the configuration says.
    rates: Value,
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It never arrives.
    LostOnTheWay,
    /// It arrives, and its answer does not.
    AnswerLost,
}

impl Companion {
    fn new() -> Self {
        Self { engine: Engine::new(10_000, Secret([7; 16]), ()), calls: 0, asks: 0, rates: Value::Null }
    }

    /// The answer to a call, worked out now.
    fn answer(&mut self, call: &Call, now: Duration) -> CallAnswer {
        let now_ns = 1_000_000_000 + u64::try_from(now.as_nanos()).unwrap();
        let path = call.headers.first(":path").unwrap().to_vec();
        assert_eq!(call.upstream, "portcullis_ingest");
        assert_eq!(call.headers.first("authorization"), Some(&b"Bearer token-of-the-tests"[..]));
        let body = match &path[..] {
            b"/v1/leases" => {
                self.calls += 1;
                let call: LeaseCall = serde_json::from_slice(&call.body).unwrap();
                let asks = call.check().unwrap();
                self.asks += asks.len();
                let secret = self.engine.secret();
                let grants = asks.iter().map(|asked| {
                    self.engine.ask(asked.name.key(secret), &asked.quota, &asked.ask, now_ns).value.into()
                });
                serde_json::to_vec(&Grants { grants: grants.collect() }).unwrap()
            }
            b"/v1/policies" => {
                let call: Value = serde_json::from_slice(&call.body).unwrap();
                let tenants = call["tenants"].as_array().unwrap();
                let news = |known: &&Value| known[1] != json!(9) && !self.rates.is_null();
                let changed: Vec<Value> = tenants
                    .iter()
                    .filter(news)
                    .map(|known| json!({"tenant": known[0], "version": 9, "rates": self.rates}))
                    .collect();
                json!({"changed": changed}).to_string().into_bytes()
            }
            other => panic!("{}", String::from_utf8_lossy(other)),
        };
        let headers = HeaderMap::new().with(":status", "200");
        CallAnswer::Answered(Message { headers: Some(headers), body, complete: true, ..Message::default() })
    }

    fn serve(&mut self, process: &Process, vm: &mut Vm, fate: Fate) {
        loop {
            let calls = vm.take_calls();
            if calls.is_empty() {
                return;
            }
            for call in calls {
                let answer = match fate {
                    Fate::LostOnTheWay => CallAnswer::Failed,
                    Fate::Answered => self.answer(&call, process.time()),
                    Fate::AnswerLost => {
                        self.answer(&call, process.time());
                        CallAnswer::Failed
                    }
                };
                vm.answer(call.token, answer).unwrap();
            }
        }
    }

    /// Nothing of what was granted has appeared from nowhere, or vanished.
    fn conserves(&self) {
        let totals = self.engine.totals();
        let known = totals.spent + totals.returned + totals.expired + totals.outstanding;
        assert_eq!(totals.granted, known, "{totals:?}");
    }
}

/// A proxy process: its shared data, and its workers.
struct Proxy {
    process: Process,
    workers: Vec<Vm>,
    turn: usize,
}

fn config(rule: Value) -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}]},
        "sanitize": {"mode": "off"}, "audit": {"mode": "off"},
        "rate_limit": {"scope": "global", "rules": [rule]},
    })
}

fn hourly(limit: u32) -> Value {
    config(json!({"name": "hourly", "limit": limit, "window": "1h"}))
}

fn request(tenant: &str) -> HeaderMap {
    HeaderMap::new()
        .with(":method", "GET")
        .with(":path", "/")
        .with(":authority", "app.test")
        .with("x-tenant-id", tenant)
}

fn open(vm: &mut Vm) -> Stream {
    vm.open(Properties::new().with(&["source", "address"], "127.0.0.1:40000"))
}

/// The application answers if it was reached; the status that the client got.
fn finish(vm: &mut Vm, stream: Stream) -> u16 {
    if stream.has_arrived(vm).unwrap() {
        stream.response_headers(vm, HeaderMap::new().with(":status", "200"), true).unwrap();
    }
    let outcome = stream.end(vm).unwrap();
    outcome.downstream.headers.and_then(|headers| headers.status()).unwrap_or(0)
}

impl Proxy {
    fn new(seed: u64, workers: usize, config: &Value) -> Self {
        let process = Process::new(seed);
        let workers = (0..workers).map(|_| worker(&process, config)).collect();
        Self { process, workers, turn: 0 }
    }

    /// One request at the next worker; it waits as long as it is held.
    fn ask(&mut self, companion: &mut Companion, fate: Fate) -> u16 {
        self.turn = (self.turn + 1) % self.workers.len();
        let vm = &mut self.workers[self.turn];
        let stream = open(vm);
        stream.request_headers(vm, request("acme"), true).unwrap();
        for _ in 0..30 {
            if stream.has_arrived(vm).unwrap() || stream.is_answered(vm).unwrap() {
                break;
            }
            self.process.advance(Duration::from_millis(5));
            vm.tick().unwrap();
            companion.serve(&self.process, vm, fate);
        }
        finish(vm, stream)
    }

    fn idle(&mut self, companion: &mut Companion, time: Duration) {
        let end = self.process.time() + time;
        while self.process.time() < end {
            self.process.advance(Duration::from_millis(500));
            for vm in &mut self.workers {
                vm.tick().unwrap();
                companion.serve(&self.process, vm, Fate::Answered);
            }
        }
    }
}

/// Both clocks stand at the later of the two.
fn together(proxies: &mut [Proxy]) {
    let latest = proxies.iter().map(|proxy| proxy.process.time()).max().unwrap();
    proxies.iter().for_each(|proxy| proxy.process.set_time(latest));
}

#[test]
fn proxies_together_admit_exactly_the_limit() {
    for limit in [1, 5, 60] {
        let config = hourly(limit);
        let mut companion = Companion::new();
        let mut proxies = [Proxy::new(1, 2, &config), Proxy::new(2, 1, &config), Proxy::new(3, 1, &config)];
        let mut admitted = 0;
        for round in 0..limit * 2 + 60 {
            let proxy = &mut proxies[round as usize % 3];
            let status = proxy.ask(&mut companion, Fate::Answered);
            assert!(status == 200 || status == 429, "{status}");
            admitted += u32::from(status == 200);
            together(&mut proxies);
        }
        // Nothing comes back in so short a time; a few may still lie with a process that has not asked again.
        assert!(admitted <= limit, "{admitted} of {limit}");
        assert!(admitted * 10 >= limit * 9, "{admitted} of {limit}");
        companion.conserves();
    }
}

#[test]
fn hot_keys_hardly_ask_and_refusals_never_do() {
    let config = config(json!({"name": "hot", "limit": 100_000, "window": "1m"}));
    let mut companion = Companion::new();
    let mut proxies = [Proxy::new(1, 1, &config)];
    let [proxy] = &mut proxies;
    for _ in 0..3000 {
        proxy.process.advance(Duration::from_micros(700));
        assert_eq!(proxy.ask(&mut companion, Fate::Answered), 200);
    }
    assert!(companion.calls <= 30, "{} calls", companion.calls);
    let config = hourly(3);
    let mut proxy = Proxy::new(4, 2, &config);
    let admitted = (0..200).filter(|_| proxy.ask(&mut companion, Fate::Answered) == 200).count();
    let calls = companion.calls;
    assert_eq!(admitted, 3);
    assert!((0..200).all(|_| proxy.ask(&mut companion, Fate::Answered) == 429));
    assert_eq!(companion.calls, calls, "its own limit is exhausted: nobody is asked");
}

#[test]
fn whatever_is_lost_no_more_than_the_limit_is_admitted() {
    for seed in 1..=12_u64 {
        let config = hourly(20);
        let mut companion = Companion::new();
        let mut proxies = [Proxy::new(seed, 2, &config), Proxy::new(seed + 100, 1, &config)];
        let mut admitted = 0;
        let mut dice = seed;
        for _ in 0..120 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let fate = match dice >> 60 {
                0..=2 => Fate::LostOnTheWay,
                3..=5 => Fate::AnswerLost,
                _ => Fate::Answered,
            };
            let proxy = &mut proxies[(dice >> 40) as usize % 2];
            admitted += u32::from(proxy.ask(&mut companion, fate) == 200);
            // An outage is noticed, and its end too.
            proxy.process.advance(Duration::from_millis(dice >> 52 & 0x3ff));
            together(&mut proxies);
        }
        let hours = proxies[0].process.time().as_secs_f64() / 3600.0;
        let most = 20 + (20.0 * hours).ceil() as u32;
        assert!(admitted <= most, "{admitted} of {most}");
        assert!(admitted > 0);
        companion.conserves();
    }
}

#[test]
fn requests_that_wait_for_one_key_are_one_ask() {
    let mut companion = Companion::new();
    let process = Process::new(1);
    let mut vm = worker(&process, &hourly(4));
    let streams: Vec<Stream> = (0..6).map(|_| open(&mut vm)).collect();
    for stream in &streams {
        assert_eq!(stream.request_headers(&mut vm, request("acme"), true).unwrap(), Flow::Held);
    }
    assert_eq!(vm.tick_period(), Some(Duration::from_millis(1)), "the call is brought forward");
    vm.tick().unwrap();
    companion.serve(&process, &mut vm, Fate::Answered);
    assert_eq!((companion.calls, companion.asks), (1, 1));
    let arrived = streams.iter().filter(|stream| stream.has_arrived(&mut vm).unwrap()).count();
    assert_eq!(arrived, 4);
    vm.tick().unwrap();
    companion.serve(&process, &mut vm, Fate::Answered);
    let statuses: Vec<u16> = streams.into_iter().map(|stream| finish(&mut vm, stream)).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 2, "{statuses:?}");
    vm.tick().unwrap();
    assert_eq!(vm.tick_period(), Some(Duration::from_millis(500)));
}

#[test]
fn a_stream_that_ends_while_it_waits_is_forgotten() {
    let mut companion = Companion::new();
    let process = Process::new(1);
    let mut vm = worker(&process, &hourly(4));
    let (gone, stays) = (open(&mut vm), open(&mut vm));
    for stream in [gone, stays] {
        assert_eq!(stream.request_headers(&mut vm, request("acme"), true).unwrap(), Flow::Held);
    }
    vm.tick().unwrap();
    gone.end(&mut vm).unwrap();
    companion.serve(&process, &mut vm, Fate::Answered);
    assert_eq!(finish(&mut vm, stays), 200);
    assert_eq!(process.metric("portcullis_host_calls_refused_total"), 0);
}

#[test]
fn without_the_companion_on_error_decides_and_the_wait_is_short() {
    for (on_error, wanted) in [("deny", [503; 8]), ("allow", [200, 200, 200, 200, 200, 429, 429, 429])] {
        let mut config = hourly(5);
        config["rate_limit"]["on_error"] = json!(on_error);
        let mut proxy = Proxy::new(1, 1, &config);
        let mut companion = Companion::new();
        let start = proxy.process.time();
        let statuses: Vec<u16> = (0..8).map(|_| proxy.ask(&mut companion, Fate::LostOnTheWay)).collect();
        assert_eq!(statuses, wanted, "{on_error}");
        assert!(proxy.process.time() - start <= Duration::from_millis(55), "only the first has waited");
        // It is back, and soon used again.
        proxy.idle(&mut companion, Duration::from_secs(3));
        if on_error == "deny" {
            assert_eq!(proxy.ask(&mut companion, Fate::Answered), 200);
        }
        assert!(process_metric(&mut proxy, "portcullis_rate_limit_unleased_total") > 0);
        assert!(process_metric(&mut proxy, "portcullis_rate_limit_lease_failures_total") > 0);
    }
    // Nobody ever answers: it waits so long, and no longer.
    let process = Process::new(1);
    let mut vm = worker(&process, &hourly(5));
    let stream = open(&mut vm);
    assert_eq!(stream.request_headers(&mut vm, request("acme"), true).unwrap(), Flow::Held);
    for waited in 1..=10 {
        process.advance(Duration::from_millis(5));
        vm.tick().unwrap();
        vm.take_calls();
        assert!(waited == 10 || !stream.has_arrived(&mut vm).unwrap());
    }
    assert_eq!(finish(&mut vm, stream), 503);
}

fn process_metric(proxy: &mut Proxy, name: &str) -> u64 {
    proxy.workers.iter_mut().for_each(|vm| vm.tick().unwrap());
    proxy.process.metric(name)
}

#[test]
fn a_body_that_comes_while_its_request_waits_arrives_whole_or_not_at_all() {
    for (body, wanted) in [("a=hello&b=world", 200), ("a=1' union select password from users-- &b=x", 403)] {
        let mut config = hourly(5);
        config["sanitize"] = json!({"mode": "enforce"});
        let process = Process::new(1);
        let mut vm = worker(&process, &config);
        let mut companion = Companion::new();
        let stream = open(&mut vm);
        let headers = HeaderMap::new()
            .with(":method", "POST")
            .with(":path", "/form")
            .with(":authority", "app.test")
            .with("x-tenant-id", "acme")
            .with("content-type", "application/x-www-form-urlencoded")
            .with("content-length", body.len().to_string());
        assert_eq!(stream.request_headers(&mut vm, headers, false).unwrap(), Flow::Held);
        let (start, end) = body.as_bytes().split_at(9);
        assert_eq!(stream.request_body(&mut vm, start, false).unwrap(), Flow::Held);
        vm.tick().unwrap();
        companion.serve(&process, &mut vm, Fate::Answered);
        stream.request_body(&mut vm, end, true).unwrap();
        assert_eq!(stream.has_arrived(&mut vm).unwrap(), wanted == 200, "{body}");
        if wanted == 200 {
            stream.response_headers(&mut vm, HeaderMap::new().with(":status", "200"), true).unwrap();
        }
        let outcome = stream.end(&mut vm).unwrap();
        assert_eq!(outcome.downstream.headers.and_then(|headers| headers.status()), Some(wanted));
        let arrived = if wanted == 200 { body.as_bytes() } else { b"" };
        assert_eq!(outcome.upstream.body, arrived);
    }
}

#[test]
fn a_request_whose_body_can_be_kept_no_longer_does_not_wait() {
    const PIECE: usize = 384 * 1024;
    let body = "the quick brown fox jumps over the lazy dog, ".repeat(50_000);
    for (on_error, wanted) in [("allow", 200), ("deny", 503)] {
        let mut config = hourly(5);
        config["sanitize"] = json!({"mode": "enforce"});
        config["rate_limit"]["on_error"] = json!(on_error);
        let process = Process::new(1);
        // What is kept, and a piece on top of it.
        let options = Options { body_bytes: 512 * 1024 + PIECE, ..run::options() };
        let mut vm = worker_with(&process, &options, &config);
        let stream = open(&mut vm);
        let headers = HeaderMap::new()
            .with(":method", "POST")
            .with(":path", "/form")
            .with(":authority", "app.test")
            .with("x-tenant-id", "acme")
            .with("content-type", "text/plain");
        let mut flow = stream.request_headers(&mut vm, headers, false).unwrap();
        assert_eq!(flow, Flow::Held);
        for (number, piece) in body.as_bytes().chunks(PIECE).enumerate() {
            if flow != Flow::Answered {
                flow = stream.request_body(&mut vm, piece, false).unwrap();
            }
            assert_eq!(flow == Flow::Held, number == 0, "{on_error}: piece {number} is {flow:?}");
        }
        if flow != Flow::Answered {
            stream.request_body(&mut vm, b"", true).unwrap();
            stream.response_headers(&mut vm, HeaderMap::new().with(":status", "200"), true).unwrap();
        }
        // Nobody decides on it again.
        vm.tick().unwrap();
        let outcome = stream.end(&mut vm).unwrap();
        assert_eq!(outcome.downstream.headers.and_then(|headers| headers.status()), Some(wanted));
        assert_eq!(outcome.upstream.body.len(), if wanted == 200 { body.len() } else { 0 });
    }
}

#[test]
fn a_host_that_cannot_call_limits_each_process_and_says_so_once() {
    for (module, profile) in [(portcullis(), Profile::restricted()), (restricted(), Profile::edge())] {
        let process = Process::new(1);
        let options = Options { profile, ..run::options() };
        let mut vm = Vm::serve(module, &process, &options, hourly(3).to_string().as_bytes()).unwrap();
        let ask = || Request::new("GET", "/").with("x-tenant-id", "acme");
        let statuses: Vec<_> = (0..5).filter_map(|_| status_of(&mut vm, &ask())).collect();
        assert_eq!(statuses, [200, 200, 200, 429, 429]);
        assert_eq!(
            log(&process).matches("limits of scope global hold for each process by itself").count(),
            1
        );
    }
}

#[test]
fn a_tenants_own_rates_arrive_within_five_seconds_and_keep_the_counts() {
    let mut config = hourly(1);
    config["rate_limit"] = json!({});
    let mut companion = Companion::new();
    let mut proxy = Proxy::new(1, 2, &config);
    let passing = |proxy: &mut Proxy, companion: &mut Companion, of: usize| {
        (0..of).filter(|_| proxy.ask(companion, Fate::Answered) == 200).count()
    };
    assert_eq!(passing(&mut proxy, &mut companion, 120), 100);
    companion.rates = json!({"api_calls_per_minute": 10, "login_attempts_per_minute": 1, "unknown": 3});
    proxy.idle(&mut companion, Duration::from_secs(5));
    // A minute's debt is a minute's debt, whatever the limit.
    assert_eq!(passing(&mut proxy, &mut companion, 20), 0);
    proxy.idle(&mut companion, Duration::from_secs(60));
    assert_eq!(passing(&mut proxy, &mut companion, 20), 10);
}

#[test]
fn what_a_dead_worker_held_comes_back() {
    let config = config(json!({"name": "at-once", "concurrent": 2}));
    let process = Process::new(1);
    let hold = |vm: &mut Vm| {
        let stream = open(vm);
        stream.request_headers(vm, request("acme"), true).unwrap();
        (stream, stream.has_arrived(vm).unwrap())
    };
    let mut dying = worker(&process, &config);
    assert!(hold(&mut dying).1);
    let mut living = worker(&process, &config);
    let (long, reached) = hold(&mut living);
    assert!(reached);
    drop(dying);
    for second in 0..100 {
        process.advance(Duration::from_secs(1));
        living.tick().unwrap();
        let (stream, reached) = hold(&mut living);
        assert!(second >= 20 || !reached, "both are held: after {second} s");
        assert!(second <= 50 || reached, "one is free: after {second} s");
        let (more, both) = hold(&mut living);
        assert!(!both, "the other is held by a stream that lives: after {second} s");
        more.end(&mut living).unwrap();
        stream.end(&mut living).unwrap();
    }
    long.end(&mut living).unwrap();
    let (first, second) = (hold(&mut living), hold(&mut living));
    assert!(first.1 && second.1);
}
