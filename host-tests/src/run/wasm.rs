//! The built module under wasmtime.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{CaseHost, edge_request, upstream_answer};
use crate::{
    case::{self, RequestWire, UpstreamWire},
    expect::Observed,
    host::{
        CallAnswer, Flow, HeaderMap, HostError, Message, Module, Options, Outcome, Process, Properties,
        Request, Vm,
    },
};

/// A module that serves, and a companion that takes its records.
pub struct Wasm {
    vm: Vm,
    process: Process,
    properties: Properties,
    source: String,
    counted: BTreeMap<String, u64>,
    intents: Vec<Value>,
}

/// For so many rounds a request may wait: its calls are answered in the first.
const ROUNDS: usize = 8;

/// How `envoy/bootstrap.yaml` loads the module.
#[must_use]
pub fn options() -> Options {
    Options {
        environment: vec![
            ("PORTCULLIS_HOLD_HEADERS".to_owned(), "true".to_owned()),
            ("PORTCULLIS_INGEST_TOKEN".to_owned(), "token-of-the-tests".to_owned()),
        ],
        holds_headers: true,
        ..Options::default()
    }
}

/// What Envoy would know, from what a case says.
#[must_use]
pub fn properties(facts: &case::Facts) -> Properties {
    let mut properties = Properties::new().with(&["source", "address"], facts.source());
    let mut set = |path: &[&str], value: &Option<String>| {
        if let Some(value) = value {
            properties.set(path, value.into());
        }
    };
    set(&["xds", "route_name"], &facts.route_name);
    set(&["xds", "virtual_host_name"], &facts.virtual_host);
    set(&["xds", "route_metadata", "filter_metadata", "portcullis", "config"], &facts.route_metadata);
    set(&["connection", "subject_peer_certificate"], &facts.peer_subject);
    for mark in facts.marks() {
        properties.set(&["metadata", "filter_metadata", mark], "ran".into());
    }
    for (claim, value) in &facts.jwt_claims {
        let filter = "envoy.filters.http.jwt_authn";
        properties.set(&["metadata", "filter_metadata", filter, "jwt_payload", claim], value.into());
    }
    properties
}

impl Wasm {
    /// Starts a module with a configuration.
    ///
    /// # Errors
    /// When it traps or refuses the configuration.
    pub fn start(module: &Module, configuration: &[u8], facts: &case::Facts) -> Result<Self, HostError> {
        Self::start_on(options(), module, configuration, facts)
    }

    /// The same on a host that is set up in another way.
    ///
    /// # Errors
    /// When it traps or refuses the configuration.
    pub fn start_on(
        mut options: Options,
        module: &Module,
        configuration: &[u8],
        facts: &case::Facts,
    ) -> Result<Self, HostError> {
        let process = Process::new(1);
        if !facts.holds_headers {
            options.environment.retain(|(name, _)| name != "PORTCULLIS_HOLD_HEADERS");
            options.holds_headers = false;
        }
        options.environment.extend(facts.environment.clone());
        let vm = Vm::serve(module, &process, &options, configuration)?;
        let properties = properties(facts);
        Ok(Self {
            vm,
            process,
            properties,
            source: facts.source().to_owned(),
            counted: BTreeMap::new(),
            intents: Vec::new(),
        })
    }

    /// One request; while it waits, the companion answers.
    fn serve(
        &mut self,
        request: &Request,
        answer: &Message,
        records: &mut Vec<Value>,
    ) -> Result<Outcome, String> {
        let failed = |error: HostError| error.to_string();
        let stream = self.vm.open(request.properties.clone());
        if stream.send(&mut self.vm, request).map_err(failed)? == Flow::Held {
            for _ in 0..ROUNDS {
                if stream.has_arrived(&mut self.vm).map_err(failed)?
                    || stream.is_answered(&mut self.vm).map_err(failed)?
                {
                    break;
                }
                records.extend(self.records()?);
            }
        }
        stream.answer(&mut self.vm, answer).map_err(failed)?;
        stream.end(&mut self.vm).map_err(failed)
    }

    /// A tick, after which counters are handed over and records delivered.
    fn records(&mut self) -> Result<Vec<Value>, String> {
        let mut records = Vec::new();
        self.vm.tick().map_err(|error| error.to_string())?;
        loop {
            let calls = self.vm.take_calls();
            if calls.is_empty() {
                return Ok(records);
            }
            for call in calls {
                let answer = if call.headers.first(":path") == Some(b"/v1/ingest") {
                    let lines = records_of(&call.body)?;
                    let receipt = receipt(lines.len());
                    let (intents, rest): (Vec<Value>, Vec<Value>) = lines.into_iter().partition(is_intent);
                    self.intents.extend(intents);
                    records.extend(rest);
                    receipt
                } else {
                    // No tenant of a case has a policy of its own.
                    CallAnswer::status(404)
                };
                self.vm.answer(call.token, answer).map_err(|error| error.to_string())?;
            }
        }
    }
}

/// Whether a line tells what a request is about to do, and not what came of it.
#[must_use]
pub fn is_intent(line: &Value) -> bool {
    line.pointer("/unmapped/portcullis/event_type").is_some_and(|kind| kind == "REQUEST_INTENT")
}

/// The records of a delivery.
///
/// # Errors
/// When a line is not JSON.
pub fn records_of(body: &[u8]) -> Result<Vec<Value>, String> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map_err(|error| format!("a record is not JSON: {error}")))
        .collect()
}

/// What the companion says when it has stored so many records.
#[must_use]
pub fn receipt(stored: usize) -> CallAnswer {
    let body = json!({"stored": stored, "duplicates": 0, "rejected": 0, "errors": []}).to_string();
    let headers = HeaderMap::new().with(":status", "200").with("content-type", "application/json");
    CallAnswer::Answered(Message {
        headers: Some(headers),
        body: body.into_bytes(),
        trailers: None,
        complete: true,
    })
}

impl CaseHost for Wasm {
    fn at(&mut self, since_start: Duration) -> Result<(), String> {
        self.process.set_time(since_start);
        Ok(())
    }

    fn exchange(&mut self, request: &RequestWire, upstream: &UpstreamWire) -> Result<Observed, String> {
        let (headers, pieces) = edge_request(request, &self.source);
        // A codec tells the end of a chunked body after its last piece.
        let end_apart = headers.first("transfer-encoding").is_some();
        let properties = self.properties.clone();
        let request = Request { headers, pieces, end_apart, properties, ..Request::default() };
        let answer = Message {
            headers: Some(upstream_answer(upstream)),
            body: upstream.body.0.clone(),
            trailers: None,
            complete: true,
        };
        let mut records = Vec::new();
        let outcome = self.serve(&request, &answer, &mut records).map_err(|error| {
            let log: Vec<String> = self.process.log().into_iter().map(|line| line.text).collect();
            format!("{error}\n{}", log.join("\n"))
        })?;
        records.extend(self.records()?);
        let counted = self.process.metrics();
        let grown = counted.iter().map(|(name, value)| {
            let before = self.counted.get(name).copied().unwrap_or(0);
            (name.clone(), value.saturating_sub(before))
        });
        let metrics = grown.filter(|(_, by)| *by > 0).collect();
        self.counted = counted;
        let headers = outcome.downstream.headers.unwrap_or_default();
        Ok(Observed {
            status: headers.status(),
            headers,
            body: outcome.downstream.body,
            upstream: outcome.upstream.headers,
            upstream_body: outcome.upstream.body,
            records,
            intents: std::mem::take(&mut self.intents),
            metrics,
        })
    }
}
