//! Every case of the policies, through a real Envoy: the files of `plugins/*/cases`, read and compared as `host-tests`
//! does it, with a listener for each case.
//!
//! Cases are dealt to a few Envoys that run side by side. Each has one worker, so that its counters are handed over
//! together. Records are looked for when all cases are through: they arrive while others run.

use std::{collections::BTreeMap, io::Write, thread, time::Duration};

use portcullis_host_tests::{
    case::{self, Case, Expect, Host, RequestWire, Step, UpstreamWire},
    expect::Observed,
    host::HeaderMap,
};
use serde_json::{Value, json};
use xtask::{
    clock::Deadline,
    stack::{ModuleConfig, Piece, Upstream},
};

use crate::support::{
    application::{Answer, Application},
    capture::Capture,
    client::{Request, Response},
    listeners::{self, Listener},
    message::{Headers, Message},
    stage::{Stage, layout},
    statistics::counters,
};

/// Envoys that run side by side, and one more with the module that also seals.
const LANES: usize = 3;
/// The longest that a case may let real time pass.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// In which counts are handed over for certain: two of the module's ticks, and more for a busy machine.
const SETTLED: Duration = Duration::from_millis(1_500);

#[test]
fn every_case_holds_in_a_real_envoy() {
    let files = case::all(layout().root()).unwrap_or_else(|error| panic!("{error}"));
    let mut lanes: Vec<Vec<(String, Case)>> = vec![Vec::new(); LANES + 1];
    let (mut skipped, mut wrong, mut next) = (Vec::new(), Vec::new(), 0);
    for file in &files {
        for case in &file.cases {
            let name = format!("{}: {}", file.path.display(), case.name);
            match (case.skip.get(&Host::Envoy), inexpressible(case)) {
                (Some(reason), _) => skipped.push(format!("{name}: {reason}")),
                (None, Some(why)) => wrong.push(format!("{name}: {why}; say `skip: {{envoy: \"why\"}}`")),
                (None, None) if file.path.components().any(|part| part.as_os_str() == "seal") => {
                    lanes[LANES].push((name, case.clone()));
                }
                (None, None) => {
                    lanes[next % LANES].push((name, case.clone()));
                    next += 1;
                }
            }
        }
    }
    let count: usize = files.iter().map(|file| file.cases.len()).sum();
    let run = count - skipped.len() - wrong.len();
    let mut summary =
        format!("{count} cases in {} files: {run} run in Envoy, {} skipped\n", files.len(), skipped.len());
    skipped.iter().for_each(|line| summary.push_str(&format!("  skipped: {line}\n")));
    // Not by `println!`, which shows nothing when all is well.
    std::io::stderr().write_all(summary.as_bytes()).unwrap();
    assert!(run > 0, "there are no cases");

    let threads: Vec<_> = lanes
        .into_iter()
        .enumerate()
        .map(|(number, cases)| thread::spawn(move || Lane::start(number, &cases).run(&cases)))
        .collect();
    for thread in threads {
        wrong.extend(thread.join().expect("the lane has said why"));
    }
    assert!(wrong.is_empty(), "{} do not hold:\n{}", wrong.len(), wrong.join("\n"));
}

/// Why Envoy cannot do as a case says.
fn inexpressible(case: &Case) -> Option<String> {
    let facts = &case.facts;
    let told = facts.route_name.is_some()
        || facts.virtual_host.is_some()
        || facts.route_metadata.is_some()
        || facts.source_address.is_some()
        || facts.peer_subject.is_some()
        || !facts.jwt_claims.is_empty()
        || !facts.environment.is_empty()
        || !facts.filter_marks.is_empty();
    if told {
        return Some("Envoy cannot be told `facts`".to_owned());
    }
    for step in &case.steps {
        if step.at.is_some_and(|at| at > LONGEST_WAIT) {
            return Some(format!("would take longer than {LONGEST_WAIT:?}"));
        }
        if step.request.scheme != "http" {
            return Some("the listener speaks plain HTTP".to_owned());
        }
    }
    None
}

/// One Envoy and the cases that are dealt to it.
struct Lane {
    stage: Stage,
    application: Application,
    capture: Capture,
    listeners: Vec<Listener>,
    /// Requests that have been sent.
    sent: u64,
    /// How many records there must be of each correlation ID.
    ids: BTreeMap<String, usize>,
}

/// A record that must come.
struct Owed {
    name: String,
    id: String,
    /// Which one of those with this ID.
    nth: usize,
    expect: Expect,
}

impl Lane {
    fn start(number: usize, cases: &[(String, Case)]) -> Self {
        let (application, capture) = (Application::start(), Capture::start());
        let listeners: Vec<Listener> = cases
            .iter()
            .enumerate()
            .map(|(at, (_, case))| {
                let config = case.config.clone().unwrap_or(json!({}));
                let holds_headers = case.facts.holds_headers;
                Listener { holds_headers, ..Listener::new(&format!("case-{at}"), config) }
            })
            .collect();
        let (added, upstream, ingest) = (listeners.clone(), application.host_port(), capture.port());
        let stage = Stage::start(&format!("cases-{number}"), |options| {
            options.pieces = vec![Piece::Envoy];
            options.concurrency = 1;
            options.upstream = Upstream::At(upstream);
            options.ports.ingest = ingest;
            options.module = (number == LANES).then(|| layout().seal_module().unwrap());
            // Envoy must add nothing of its own to what a case sees.
            options.config = ModuleConfig::Text(r#"{"headers": {"mode": "off"}}"#.to_owned());
            options.edits.push(listeners::add(added));
        });
        Self { stage, application, capture, listeners, sent: 0, ids: BTreeMap::new() }
    }

    /// Runs them; every case that does not hold, with what is not as it should be.
    fn run(mut self, cases: &[(String, Case)]) -> Vec<String> {
        let (mut wrong, mut owed) = (Vec::new(), Vec::<Owed>::new());
        for (at, (name, case)) in cases.iter().enumerate() {
            if let Err(problem) = self.case(at, name, case, &mut owed) {
                wrong.push(format!("{name}: {problem}"));
            }
        }
        for Owed { name, id, nth, expect } in owed {
            let records = self.capture.wait_for(&id, nth + 1);
            let observed =
                Observed { records: records.into_iter().skip(nth).take(1).collect(), ..Observed::default() };
            let problems = expect.differences(&observed);
            if !problems.is_empty() {
                wrong.push(format!("{name}: {}", problems.join("; ")));
            }
        }
        wrong
    }

    fn case(&mut self, at: usize, name: &str, case: &Case, owed: &mut Vec<Owed>) -> Result<(), String> {
        // Cases may choose the same ID, and listeners deliver each in its own time: not two of them at once.
        for id in case.steps.iter().filter_map(|step| step.request.headers.get("x-request-id")) {
            let id = id.0.iter().map(|value| String::from_utf8_lossy(&value.0)).collect::<String>();
            if let Some(count) = self.ids.get(&id) {
                self.capture.wait_for(&id, *count);
            }
        }
        let clock = Deadline::after(Duration::MAX);
        for (number, step) in case.steps.iter().enumerate() {
            if let Some(at) = step.at {
                thread::sleep(at.saturating_sub(clock.elapsed()));
            }
            let before = (!step.expect.metrics.is_empty()).then(|| self.settled());
            for _ in 0..step.repeat {
                let answer = self.exchange(at, &step.request, &step.upstream);
                let (observed, id) = answer.map_err(|problem| format!("steps[{number}]: {problem}"))?;
                if audits(case) {
                    let count = self.ids.entry(id.clone()).or_default();
                    let expect = step.expect.record.clone().unwrap_or(json!({}));
                    let expect = Expect { record: Some(expect), ..Expect::default() };
                    let name = format!("{name}, steps[{number}]");
                    owed.push(Owed { name, id, nth: *count, expect });
                    *count += 1;
                }
                let at_once = Expect { record: None, metrics: BTreeMap::new(), ..step.expect.clone() };
                let problems = at_once.differences(&observed);
                if !problems.is_empty() {
                    return Err(format!("steps[{number}]: {}", problems.join("; ")));
                }
            }
            if let Some(before) = before {
                self.check_metrics(step, &before).map_err(|problem| format!("steps[{number}]: {problem}"))?;
            }
        }
        Ok(())
    }

    /// Sends a request to a case's listener; what came of it, and its correlation ID.
    fn exchange(
        &mut self,
        at: usize,
        request: &RequestWire,
        upstream: &UpstreamWire,
    ) -> Result<(Observed, String), String> {
        let mut answer = Answer::new(upstream.status, upstream.body.0.clone());
        answer.headers =
            upstream.wire_headers().into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        self.application.otherwise(answer);
        self.application.take_seen();
        let response = on_the_wire(request).send(self.listeners[at].address());
        self.sent += 1;
        let mut seen = self.application.take_seen();
        if seen.len() > 1 {
            return Err(format!("the application got {} requests", seen.len()));
        }
        let id = response.id();
        let Response { status, message } = response;
        let observed = Observed {
            status: Some(status),
            headers: header_map(&message.headers),
            body: message.body,
            upstream: seen.first().map(as_seen),
            intents: self.capture.intents(&id),
            upstream_body: seen.pop().map(|seen| seen.body).unwrap_or_default(),
            ..Observed::default()
        };
        Ok((observed, id))
    }

    /// Our counters, when all that was sent before has been counted.
    fn settled(&self) -> BTreeMap<String, u64> {
        let mut last = BTreeMap::new();
        // Requests that Envoy answers by itself are not counted: then the time must pass.
        Deadline::after(SETTLED).poll(|| {
            last = counters(self.stage.stack.admin());
            (last.get("portcullis_requests_total") == Some(&self.sent)).then_some(())
        });
        last
    }

    fn check_metrics(&self, step: &Step, before: &BTreeMap<String, u64>) -> Result<(), String> {
        let metrics =
            step.expect.metrics.iter().map(|(name, by)| (name.clone(), by * u64::from(step.repeat)));
        let expect = Expect { metrics: metrics.collect(), ..Expect::default() };
        let mut problems = Vec::new();
        let held = Deadline::after(SETTLED).poll(|| {
            let after = self.settled();
            let grew = after.into_iter().map(|(name, count)| {
                let by = count - before.get(&name).copied().unwrap_or(0);
                (name, by)
            });
            problems = expect.differences(&Observed { metrics: grew.collect(), ..Observed::default() });
            problems.is_empty().then_some(())
        });
        held.ok_or_else(|| problems.join("; "))
    }
}

/// Whether every request of a case leaves a record, as it does unless the configuration says otherwise.
fn audits(case: &Case) -> bool {
    let config = case.config.clone().unwrap_or_default();
    let off = |section: &Value| section["audit"]["mode"] == "off";
    let elsewhere = config["routes"].as_array().is_some_and(|routes| routes.iter().any(off));
    let left_out = config["policies"].as_array().is_some_and(|names| !names.contains(&json!("audit")));
    !off(&config) && !elsewhere && !left_out
}

fn on_the_wire(request: &RequestWire) -> Request {
    let wire = request.wire();
    let mut out = Request::new(&request.method, &request.path.0).header("host", &request.host);
    out.headers.extend(wire.headers.into_iter().map(|(name, value)| (name.into_bytes(), value)));
    out.body = wire.pieces.concat();
    if wire.chunked {
        out.pieces = Some(wire.pieces.iter().map(Vec::len).filter(|size| *size > 0).collect());
    } else if !wire.pieces.is_empty()
        && !request.headers.keys().any(|name| name.eq_ignore_ascii_case("content-length"))
    {
        let length = out.body.len().to_string();
        out = out.header("content-length", length);
    }
    out
}

fn header_map(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.add(name, value);
    }
    map
}

/// A request as HTTP/2 writes it.
fn as_seen(request: &Message) -> HeaderMap {
    let mut words = request.first_line.split(|byte| *byte == b' ');
    let mut map = HeaderMap::new();
    map.add(":method", words.next().unwrap_or_default());
    map.add(":path", words.next().unwrap_or_default());
    map.add(":authority", request.header("host").unwrap_or_default());
    for (name, value) in &request.headers {
        map.add(name, value);
    }
    map
}
