//! Strict delivery: a request reaches the application only when the companion has stored its intent.

use std::{collections::BTreeMap, time::Duration};

use portcullis_host_tests::{
    host::{CallAnswer, Flow, HeaderMap, Options, Process, Profile, Properties, Request, Stream, Vm},
    run::{self, is_intent, receipt, records_of},
};
use serde_json::{Value, json};

use super::support::{log, status_of, worker, worker_with};

/// What becomes of a call with intents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Stored,
    /// The companion is away, or its disk is full.
    Refused(u16),
    LostOnTheWay,
    /// It is stored, and the answer does not arrive.
    AnswerLost,
}

/// A companion that stores each line once, by its epoch and sequence.
#[derive(Default)]
struct Companion {
    stored: BTreeMap<(String, u64), Value>,
    /// How many intents each call carried.
    calls: Vec<usize>,
}

impl Companion {
    fn serve(&mut self, vm: &mut Vm, fate: Fate) {
        for call in vm.take_calls() {
            if call.headers.first(":path") != Some(b"/v1/ingest") {
                vm.answer(call.token, CallAnswer::status(404)).unwrap();
                continue;
            }
            let lines = records_of(&call.body).unwrap();
            let count = lines.len();
            if lines.iter().any(is_intent) {
                self.calls.push(count);
            }
            if matches!(fate, Fate::Stored | Fate::AnswerLost) {
                for line in lines {
                    let ours = &line["unmapped"]["portcullis"];
                    let key =
                        (ours["epoch"].as_str().unwrap().to_owned(), ours["sequence"].as_u64().unwrap());
                    self.stored.insert(key, line);
                }
            }
            let answer = match fate {
                Fate::Stored => receipt(count),
                Fate::Refused(status) => CallAnswer::status(status),
                Fate::LostOnTheWay | Fate::AnswerLost => CallAnswer::Failed,
            };
            vm.answer(call.token, answer).unwrap();
        }
    }

    fn ids(&self, intents: bool) -> Vec<String> {
        let lines = self.stored.values().filter(|line| is_intent(line) == intents);
        let mut ids: Vec<String> =
            lines.map(|line| line["metadata"]["correlation_uid"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

fn config() -> Value {
    json!({
        "rate_limit": {"mode": "off"}, "sanitize": {"mode": "off"},
        "routes": [{"match": {"path_prefix": "/pay"}, "audit": {"delivery": "strict", "strict_wait": "1s"}}],
    })
}

fn request(path: &str, id: &str) -> HeaderMap {
    HeaderMap::new()
        .with(":method", "POST")
        .with(":path", path)
        .with(":authority", "app.test")
        .with("x-request-id", id)
}

fn open(vm: &mut Vm) -> Stream {
    vm.open(Properties::new().with(&["source", "address"], "127.0.0.1:40000"))
}

/// The application answers if it was reached; the status that the client got.
fn finish(vm: &mut Vm, stream: Stream) -> u16 {
    if stream.has_arrived(vm).unwrap() {
        stream.response_headers(vm, HeaderMap::new().with(":status", "200"), true).unwrap();
    }
    stream.end(vm).unwrap().downstream.headers.and_then(|headers| headers.status()).unwrap_or(0)
}

/// One request, for as long as it waits.
fn pay(process: &Process, vm: &mut Vm, companion: &mut Companion, id: &str, fate: Fate) -> u16 {
    let stream = open(vm);
    stream.request_headers(vm, request("/pay", id), true).unwrap();
    for _ in 0..400 {
        if stream.has_arrived(vm).unwrap() || stream.is_answered(vm).unwrap() {
            break;
        }
        process.advance(Duration::from_millis(5));
        vm.tick().unwrap();
        companion.serve(vm, fate);
    }
    finish(vm, stream)
}

#[test]
fn one_call_stores_the_intents_of_all_that_wait() {
    let process = Process::new(1);
    let mut vm = worker(&process, &config());
    let mut companion = Companion::default();
    let streams: Vec<Stream> = (0..6).map(|_| open(&mut vm)).collect();
    for (number, stream) in streams.iter().enumerate() {
        let flow = stream.request_headers(&mut vm, request("/pay", &format!("request-{number}")), false);
        assert_eq!(flow.unwrap(), Flow::Held);
        assert_eq!(stream.request_body(&mut vm, b"amount=1", true).unwrap(), Flow::Held);
    }
    assert_eq!(vm.tick_period(), Some(Duration::from_millis(1)), "the call is brought forward");
    vm.tick().unwrap();
    assert!(!streams[0].has_arrived(&mut vm).unwrap(), "nobody has said yes yet");
    companion.serve(&mut vm, Fate::Stored);
    assert_eq!(companion.calls, [6]);
    assert_eq!(companion.ids(true).len(), 6);
    for stream in streams {
        assert!(stream.has_arrived(&mut vm).unwrap(), "body and all");
        assert_eq!(finish(&mut vm, stream), 200);
    }
    process.advance(Duration::from_millis(500));
    vm.tick().unwrap();
    companion.serve(&mut vm, Fate::Stored);
    assert_eq!(companion.ids(false), companion.ids(true), "the outcome follows in the other lane");
    assert_eq!(process.metric("portcullis_audit_intents_total"), 6);
    assert_eq!(process.metric("portcullis_audit_intent_calls_total"), 1);
    vm.tick().unwrap();
    assert_eq!(vm.tick_period(), Some(Duration::from_millis(500)));
}

#[test]
fn without_a_yes_a_request_is_refused_and_other_routes_serve() {
    for fate in [Fate::LostOnTheWay, Fate::AnswerLost, Fate::Refused(503), Fate::Refused(400)] {
        let process = Process::new(1);
        let mut vm = worker(&process, &config());
        let mut companion = Companion::default();
        let start = process.time();
        assert_eq!(pay(&process, &mut vm, &mut companion, "request-a", fate), 503, "{fate:?}");
        let waited = process.time() - start;
        assert!(waited <= Duration::from_millis(1010), "{fate:?}: {waited:?}");
        assert_eq!(status_of(&mut vm, &Request::new("GET", "/shop")), Some(200), "{fate:?}");
        process.advance(Duration::from_millis(500));
        vm.tick().unwrap();
        companion.serve(&mut vm, fate);
        assert_eq!(process.metric("portcullis_audit_intents_total"), 0);
        assert!(process.metric("portcullis_audit_intent_failures_total") > 0, "{fate:?}");
        // It is back, and requests pass again.
        assert_eq!(pay(&process, &mut vm, &mut companion, "request-b", Fate::Stored), 200, "{fate:?}");
        assert!(companion.ids(true).contains(&"request-b".to_owned()));
        let epochs: Vec<&u64> =
            companion.stored.iter().filter(|(_, line)| is_intent(line)).map(|((_, n), _)| n).collect();
        assert!(
            epochs.windows(2).all(|pair| pair[0] < pair[1]),
            "each once, whatever was repeated: {epochs:?}"
        );
    }
}

#[test]
fn a_short_outage_is_waited_out() {
    let process = Process::new(1);
    let mut vm = worker(&process, &config());
    let mut companion = Companion::default();
    let stream = open(&mut vm);
    stream.request_headers(&mut vm, request("/pay", "request-late"), true).unwrap();
    let start = process.time();
    while !stream.has_arrived(&mut vm).unwrap() {
        process.advance(Duration::from_millis(5));
        assert!(process.time() - start < Duration::from_secs(1), "it waits as long as it may");
        vm.tick().unwrap();
        let away = process.time() - start < Duration::from_millis(400);
        companion.serve(&mut vm, if away { Fate::AnswerLost } else { Fate::Stored });
    }
    assert_eq!(finish(&mut vm, stream), 200);
    assert_eq!(
        companion.ids(true),
        ["request-late"],
        "stored once, although it was sent {} times",
        companion.calls.len()
    );
    assert!(companion.calls.len() >= 3);
}

#[test]
fn while_the_companion_is_away_few_wait_and_the_rest_are_answered_at_once() {
    let process = Process::new(1);
    let mut vm = worker(&process, &config());
    let mut companion = Companion::default();
    assert_eq!(pay(&process, &mut vm, &mut companion, "request-first", Fate::LostOnTheWay), 503);
    let mut held = Vec::new();
    for number in 0..50 {
        let stream = open(&mut vm);
        let flow =
            stream.request_headers(&mut vm, request("/pay", &format!("request-{number}")), true).unwrap();
        assert!(flow == Flow::Held || flow == Flow::Answered);
        if flow == Flow::Held {
            held.push(stream);
        } else {
            assert_eq!(finish(&mut vm, stream), 503);
        }
    }
    assert_eq!(held.len(), 8, "those find out whether it is back");
    // A client that goes leaves nothing behind.
    let gone = held.pop().unwrap();
    gone.end(&mut vm).unwrap();
    process.advance(Duration::from_millis(200));
    vm.tick().unwrap();
    companion.serve(&mut vm, Fate::Stored);
    assert!(held.into_iter().all(|stream| finish(&mut vm, stream) == 200));
    assert_eq!(companion.ids(true).len(), 7);
    assert_eq!(process.metric("portcullis_host_calls_refused_total"), 0);
}

#[test]
fn whatever_is_lost_each_request_that_arrived_has_a_stored_intent() {
    for seed in 1..=20_u64 {
        let process = Process::new(seed);
        let mut vm = worker(&process, &config());
        let mut companion = Companion::default();
        let (mut dice, mut passed) = (seed, Vec::new());
        for number in 0..60 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let fate = match dice >> 61 {
                0 => Fate::LostOnTheWay,
                1 => Fate::AnswerLost,
                2 => Fate::Refused(503),
                _ => Fate::Stored,
            };
            let id = format!("request-{number}");
            if pay(&process, &mut vm, &mut companion, &id, fate) == 200 {
                passed.push(id);
            }
        }
        assert!(!passed.is_empty());
        let intents = companion.ids(true);
        assert!(passed.iter().all(|id| intents.contains(id)), "seed {seed}");
    }
}

#[test]
fn a_host_without_calls_answers_503_on_strict_routes_and_says_so() {
    let process = Process::new(1);
    let options = Options { profile: Profile::restricted(), ..run::options() };
    let mut vm = worker_with(&process, &options, &config());
    assert_eq!(status_of(&mut vm, &Request::new("POST", "/pay")), Some(503));
    assert_eq!(status_of(&mut vm, &Request::new("GET", "/shop")), Some(200));
    assert!(log(&process).contains("requests of strict routes are answered 503"), "{}", log(&process));
}
