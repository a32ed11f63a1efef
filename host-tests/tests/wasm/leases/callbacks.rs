//! How long a worker is kept by one callback, when it has as much to do as it may: while it runs, no request of that worker
//! moves.

use std::{collections::BTreeMap, time::Duration};

use portcullis_host_tests::host::{Call, CallAnswer, HeaderMap, Message, Process, Vm};
use serde_json::{Value, json};
use xtask::clock::Deadline;

use super::{Companion, config, open, request};
use crate::support::worker;

/// Tenants that one worker knows.
const TENANTS: usize = 4000;
/// Requests that wait for tokens at the same time.
const TOGETHER: usize = 200;
/// What a millisecond burns, of a machine on which the module runs at 2 GHz and an instruction a tick.
const MILLISECOND: u64 = 2_000_000;

/// Fuel and time of callbacks, by what they were.
#[derive(Default)]
struct Costs(BTreeMap<&'static str, Vec<(u64, Duration)>>);

impl Costs {
    fn of<T>(&mut self, what: &'static str, vm: &mut Vm, callback: impl FnOnce(&mut Vm) -> T) -> T {
        vm.take_fuel();
        let time = Deadline::after(Duration::MAX);
        let done = callback(vm);
        let took = time.elapsed();
        self.0.entry(what).or_default().push((vm.take_fuel(), took));
        done
    }

    /// Prints what was seen; the worst of all, in fuel.
    fn worst(&self) -> u64 {
        let mut worst = 0;
        for (what, all) in &self.0 {
            let fuel = all.iter().map(|(fuel, _)| *fuel).max().unwrap();
            let mut times: Vec<Duration> = all.iter().map(|(_, time)| *time).collect();
            times.sort();
            let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
            println!(
                "{what}: {} times, at most {fuel} fuel, {longest:?}, in the middle {middle:?}",
                all.len()
            );
            worst = worst.max(fuel);
        }
        worst
    }
}

/// Policies of all tenants that a call names, each of them new.
fn news(call: &Call, version: u64) -> CallAnswer {
    let call: Value = serde_json::from_slice(&call.body).unwrap();
    let rates = json!({"api_calls_per_minute": 1000 + version, "login_attempts_per_minute": 5,
        "file_uploads_per_minute": 20, "report_generation_per_minute": 10});
    let tenants = call["tenants"].as_array().unwrap().iter();
    let changed: Vec<Value> = tenants
        .map(|known| json!({"tenant": known[0], "version": 4_503_599_627_370_000 + version, "rates": rates}))
        .collect();
    let body = json!({"changed": changed}).to_string().into_bytes();
    let headers = HeaderMap::new().with(":status", "200");
    CallAnswer::Answered(Message { headers: Some(headers), body, complete: true, ..Message::default() })
}

#[test]
fn no_callback_keeps_a_worker_for_a_millisecond() {
    let rule = json!({"name": "calls", "per": ["tenant"], "limit": 1000, "window": "1m", "policy": "api_calls_per_minute"});
    let (process, mut companion, mut costs) = (Process::new(1), Companion::new(), Costs::default());
    let mut vm = worker(&process, &config(rule));
    let (mut policies, mut leases) = (0, 0);
    let mut serve = |costs: &mut Costs, vm: &mut Vm, version: u64| {
        loop {
            let calls = vm.take_calls();
            if calls.is_empty() {
                break;
            }
            for call in calls {
                let (what, answer) = match call.headers.first(":path") {
                    Some(b"/v1/policies") => {
                        policies += 1;
                        ("an answer with policies", news(&call, version))
                    }
                    _ => {
                        leases += 1;
                        ("an answer with tokens", companion.answer(&call, process.time()))
                    }
                };
                costs.of(what, vm, |vm| vm.answer(call.token, answer)).unwrap();
            }
        }
    };
    for first in (0..TENANTS).step_by(TOGETHER) {
        let streams: Vec<_> = (first..first + TOGETHER)
            .map(|number| {
                let stream = open(&mut vm);
                let headers = request(&format!("tenant-{number}"));
                costs.of("a request", &mut vm, |vm| stream.request_headers(vm, headers, true)).unwrap();
                stream
            })
            .collect();
        // All get a token of their own, a few with each tick.
        for _ in 0..TOGETHER {
            process.advance(vm.tick_period().unwrap());
            costs.of("a tick", &mut vm, Vm::tick).unwrap();
            serve(&mut costs, &mut vm, 1);
            if streams.iter().all(|stream| stream.has_arrived(&mut vm).unwrap()) {
                break;
            }
        }
        for stream in streams {
            let headers = HeaderMap::new().with(":status", "200");
            costs.of("a response", &mut vm, |vm| stream.response_headers(vm, headers, true)).unwrap();
            stream.end(&mut vm).unwrap();
        }
    }
    // Every tenant is asked for again and again, and leases end.
    for round in 0..60 {
        process.advance(Duration::from_millis(500));
        costs.of("a tick", &mut vm, Vm::tick).unwrap();
        serve(&mut costs, &mut vm, 2 + round);
    }
    let worst = costs.worst();
    assert!(policies >= TENANTS / 64 && leases >= TENANTS / 16, "{policies} {leases}");
    assert!(worst <= MILLISECOND, "{worst} fuel");
}
