//! Audit records on their way: a companion that is away, answers that are lost, a VM that dies.

use std::{collections::BTreeMap, time::Duration};

use portcullis_host_tests::{
    host::{CallAnswer, HostError, Message, Process, Request, Vm},
    run::{self, receipt, records_of},
};
use serde_json::{Value, json};

use super::support::{exchange, panicking, status_of, worker};

/// A companion that stores each record once.
#[derive(Default)]
struct Companion {
    stored: BTreeMap<(String, u64), Value>,
    deliveries: usize,
}

impl Companion {
    /// Stores what is delivered; answers as it is told, or truly.
    fn take(&mut self, vm: &mut Vm, mut instead: impl FnMut(usize) -> Option<CallAnswer>) {
        for call in vm.take_calls() {
            assert_eq!(call.upstream, "portcullis_ingest");
            assert_eq!(call.headers.first("authorization"), Some(&b"Bearer token-of-the-tests"[..]));
            self.deliveries += 1;
            let records = records_of(&call.body).unwrap();
            let count = records.len();
            for record in records {
                let ours = &record["unmapped"]["portcullis"];
                let key = (ours["epoch"].as_str().unwrap().to_owned(), ours["sequence"].as_u64().unwrap());
                self.stored.insert(key, record);
            }
            let answer = instead(self.deliveries).unwrap_or_else(|| receipt(count));
            vm.answer(call.token, answer).unwrap();
        }
    }

    fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let records = self.stored.values();
        records.filter(move |record| record["unmapped"]["portcullis"]["event_type"] == kind)
    }
}

/// Answers every delivery with a failure, without reading it.
fn refuse_all(vm: &mut Vm) -> usize {
    let calls = vm.take_calls();
    for call in &calls {
        vm.answer(call.token, CallAnswer::status(503)).unwrap();
    }
    calls.len()
}

fn tick(process: &Process, vm: &mut Vm) {
    process.advance(Duration::from_millis(500));
    vm.tick().unwrap();
}

fn unlimited() -> Value {
    json!({"rate_limit": {"mode": "off"}})
}

/// Requests that are told apart by their correlation IDs.
fn numbered(number: usize) -> Request {
    Request::new("GET", "/").with("x-request-id", format!("request-{number:06}"))
}

fn ids(companion: &Companion) -> Vec<String> {
    let records = companion.of_type("REQUEST");
    let mut ids: Vec<String> =
        records.map(|record| record["metadata"]["correlation_uid"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn records_wait_for_a_companion_that_is_away_and_arrive_once_each() {
    let process = Process::new(1);
    let mut vm = worker(&process, &unlimited());
    let mut attempts = 0;
    for number in 0_usize..200 {
        assert_eq!(status_of(&mut vm, &numbered(number)), Some(200), "traffic flows");
        if number.is_multiple_of(20) {
            tick(&process, &mut vm);
            attempts += refuse_all(&mut vm);
        }
    }
    assert!(attempts >= 2, "it is tried again: {attempts}");
    let mut companion = Companion::default();
    for _ in 0..60 {
        tick(&process, &mut vm);
        // Stored, but every other answer is lost on the way back.
        companion.take(&mut vm, |delivery| (delivery % 2 == 1).then_some(CallAnswer::Failed));
    }
    let expected: Vec<String> = (0..200).map(|number| format!("request-{number:06}")).collect();
    assert_eq!(ids(&companion), expected);
    assert_eq!(companion.stored.len(), 200, "and nothing besides");
    assert!(process.metric("portcullis_audit_retries_total") > 0);
    assert_eq!(process.metric("portcullis_audit_delivered_total"), 200);
    let keys: Vec<u64> = companion.stored.keys().map(|(_, sequence)| *sequence).collect();
    assert_eq!(keys, (1..=200).collect::<Vec<u64>>(), "numbers without holes");
}

#[test]
fn what_does_not_fit_the_queue_is_counted_and_reported() {
    let process = Process::new(1);
    let config =
        json!({"rate_limit": {"mode": "off"}, "audit": {"queue_max_bytes": 65536, "batch_max_bytes": 16384}});
    let mut vm = worker(&process, &config);
    let before = vm.memory_bytes();
    for number in 0_usize..2000 {
        assert_eq!(status_of(&mut vm, &numbered(number)), Some(200), "traffic flows");
        if number.is_multiple_of(50) {
            tick(&process, &mut vm);
            refuse_all(&mut vm);
        }
    }
    assert!(vm.memory_bytes() <= before + 2 * 1024 * 1024, "{} to {}", before, vm.memory_bytes());
    let mut companion = Companion::default();
    for _ in 0..100 {
        tick(&process, &mut vm);
        companion.take(&mut vm, |_| None);
    }
    let arrived = companion.of_type("REQUEST").count() as u64;
    let dropped = process.metric("portcullis_audit_dropped_total");
    let reported: u64 = companion
        .of_type("AUDIT_GAP")
        .map(|gap| gap["unmapped"]["portcullis"]["details"]["count"].as_u64().unwrap())
        .sum();
    assert!(arrived > 0 && dropped > 0, "{arrived} arrived, {dropped} dropped");
    assert_eq!(arrived + dropped, 2000);
    assert_eq!(reported, dropped);
}

#[test]
fn a_companion_that_answers_nonsense_loses_nothing() {
    let process = Process::new(1);
    let mut vm = worker(&process, &unlimited());
    for number in 0..10 {
        exchange(&mut vm, &numbered(number));
    }
    let odd = |body: &[u8], status: &str| {
        let headers = portcullis_host_tests::host::HeaderMap::new().with(":status", status);
        CallAnswer::Answered(Message { headers: Some(headers), body: body.to_vec(), ..Message::default() })
    };
    let mut answers = vec![
        CallAnswer::Failed,
        CallAnswer::Answered(Message::default()),
        odd(b"\xff", "\u{ff}"),
        odd(b"", ""),
        odd(b"{", "99999"),
        odd(b"moved", "302"),
        CallAnswer::status(401),
        CallAnswer::status(500),
        CallAnswer::status(504),
    ];
    let mut companion = Companion::default();
    for _ in 0..200 {
        tick(&process, &mut vm);
        companion.take(&mut vm, |_| answers.pop());
    }
    assert!(answers.is_empty());
    assert_eq!(ids(&companion).len(), 10);
    assert_eq!(process.metric("portcullis_audit_delivered_total"), 10);
    assert_eq!(process.metric("portcullis_audit_dropped_total"), 0);
}

#[test]
fn after_a_trap_a_fresh_vm_serves_and_the_gap_is_reported_once() {
    let process = Process::new(1);
    let config = unlimited().to_string();
    let start = || Vm::serve(panicking(), &process, &run::options(), config.as_bytes()).unwrap();
    let mut companion = Companion::default();
    let mut dying = start();
    for number in 0..7 {
        exchange(&mut dying, &numbered(number));
        if number == 2 {
            tick(&process, &mut dying);
            companion.take(&mut dying, |_| None);
        }
    }
    let trap = dying.exchange(&numbered(7).with("x-portcullis-panic", "1"), &Message::answer(200, "ok"));
    assert!(
        matches!(trap, Err(HostError::Trapped { callback: "proxy_on_request_headers", .. })),
        "{:?}",
        trap.map(drop)
    );
    assert!(dying.is_dead() && matches!(dying.tick(), Err(HostError::Dead)));

    // What Envoy's FAIL_RELOAD does; and there is another worker, which must not report it too.
    let (mut fresh, mut other) = (start(), start());
    assert_eq!(status_of(&mut fresh, &numbered(8)), Some(200));
    assert_eq!(status_of(&mut other, &numbered(9)), Some(200));
    for _ in 0..40 {
        process.advance(Duration::from_millis(500));
        for vm in [&mut fresh, &mut other] {
            vm.tick().unwrap();
            companion.take(vm, |_| None);
        }
    }
    let gaps: Vec<&Value> = companion.of_type("AUDIT_GAP").collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let details = &gaps[0]["unmapped"]["portcullis"]["details"];
    // Four that waited, and the one in whose middle it died.
    assert_eq!(details["count"], json!(5), "{details}");
    assert_eq!(ids(&companion).len(), 5, "the first three and the last two");
}

#[test]
fn a_vm_that_ends_in_good_order_delivers_what_waits() {
    let process = Process::new(1);
    let mut vm = worker(&process, &unlimited());
    let mut companion = Companion::default();
    for number in 0..5 {
        exchange(&mut vm, &numbered(number));
    }
    assert!(!vm.finish().unwrap(), "it asks for time");
    for _ in 0..3 {
        companion.take(&mut vm, |_| None);
        tick(&process, &mut vm);
    }
    assert!(vm.is_done());
    assert_eq!(ids(&companion).len(), 5);
}
