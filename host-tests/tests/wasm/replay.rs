//! Every case on the chain itself, and each module against the chain.

use std::collections::BTreeMap;

use portcullis_host_tests::{
    case::{self, Case, CaseFile, Host},
    expect::Observed,
    host::{HeaderMap, Module},
    run::{CaseHost, Native, Wasm, replay},
};
use regex_lite::Regex;
use serde_json::{Value, json};
use xtask::layout::Layout;

use super::support::{portcullis, sealing, single};

pub(super) fn files() -> Vec<CaseFile> {
    let files = case::all(Layout::of_this_checkout().root()).unwrap_or_else(|error| panic!("{error}"));
    assert!(!files.is_empty(), "there are no cases");
    files
}

/// The module with the whole chain; for what it leaves out, the one that has that too.
pub(super) fn module_of(file: &CaseFile) -> &'static Module {
    let seals = file.path.components().any(|part| part.as_os_str() == "seal");
    if seals { sealing() } else { portcullis() }
}

/// What happened to the cases on one host.
#[derive(Default)]
struct Tally {
    ran: usize,
    skipped: Vec<String>,
    failed: Vec<String>,
}

impl Tally {
    fn run(&mut self, file: &CaseFile, case: &Case, host: Host, run: impl FnOnce() -> Result<(), String>) {
        if let Some(reason) = case.skip.get(&host) {
            self.skipped.push(format!("{}, \"{}\": {reason}", file.path.display(), case.name));
            return;
        }
        self.ran += 1;
        if let Err(problem) = run() {
            self.failed.push(format!("{}, \"{}\": {problem}", file.path.display(), case.name));
        }
    }

    fn finish(self, host: &str) {
        println!(
            "{host}: {} cases ran, {} skipped, {} failed",
            self.ran,
            self.skipped.len(),
            self.failed.len()
        );
        for skipped in &self.skipped {
            println!("  skipped {skipped}");
        }
        assert!(self.failed.is_empty(), "on {host}:\n{}", self.failed.join("\n"));
        assert!(self.ran > 0, "no case ran on {host}");
    }
}

#[test]
fn every_case_holds_on_the_chain_itself() {
    let mut tally = Tally::default();
    for file in &files() {
        for case in &file.cases {
            tally.run(file, case, Host::Native, || {
                let mut host = Native::start(&case.configuration(), &case.facts)?;
                replay(case, &mut host).map(drop)
            });
        }
    }
    tally.finish("native");
}

/// Not what the cases expect, but all there is to see: module and chain differ in nothing.
#[test]
fn the_module_answers_as_the_chain_does() {
    let mut tally = Tally::default();
    for file in &files() {
        for case in &file.cases {
            let host = if case.skip.contains_key(&Host::Native) { Host::Native } else { Host::Wasmtime };
            tally.run(file, case, host, || {
                let configuration = case.configuration();
                let native = Native::start(&configuration, &case.facts)?;
                let wasm = Wasm::start(module_of(file), &configuration, &case.facts);
                same(case, native, wasm.map_err(|error| error.to_string())?)
            });
        }
    }
    tally.finish("wasmtime against native");
}

/// A module with one policy does what the chain does when it runs that policy alone.
fn as_the_chain_with(module: &str, policy: &str) {
    let mut tally = Tally::default();
    let compiled = single(module);
    for file in &files() {
        for case in &file.cases {
            let host = if case.skip.contains_key(&Host::Native) { Host::Native } else { Host::Wasmtime };
            tally.run(file, case, host, || {
                let mut configuration = case.config.clone().unwrap_or_else(|| json!({}));
                configuration["policies"] = json!([policy]);
                let configuration = configuration.to_string().into_bytes();
                let native = Native::start(&configuration, &case.facts)?;
                let wasm = Wasm::start(&compiled, &configuration, &case.facts);
                same(case, native, wasm.map_err(|error| error.to_string())?)
            });
        }
    }
    tally.finish(&format!("portcullis-{module}.wasm"));
}

#[test]
fn the_module_of_headers_answers_as_the_chain_with_that_policy() {
    as_the_chain_with("headers", "headers");
}

#[test]
fn the_module_of_access_answers_as_the_chain_with_that_policy() {
    as_the_chain_with("access", "access");
}

#[test]
fn the_module_of_rate_limit_answers_as_the_chain_with_that_policy() {
    as_the_chain_with("rate-limit", "rate_limit");
}

#[test]
fn the_module_of_sanitize_answers_as_the_chain_with_that_policy() {
    as_the_chain_with("sanitize", "sanitize");
}

#[test]
fn the_module_of_audit_answers_as_the_chain_with_that_policy() {
    as_the_chain_with("audit", "audit");
}

/// Does the steps of a case on both hosts, and compares everything.
fn same(case: &Case, mut native: Native, mut wasm: Wasm) -> Result<(), String> {
    for (number, step) in case.steps.iter().enumerate() {
        if let Some(at) = step.at {
            native.at(at)?;
            wasm.at(at)?;
        }
        for _ in 0..step.repeat {
            let native = native.exchange(&step.request, &step.upstream)?;
            let wasm = wasm.exchange(&step.request, &step.upstream)?;
            let differences = comparable(&native).differences(&comparable(&wasm));
            if !differences.is_empty() {
                return Err(format!("steps[{number}]: {}", differences.join("; ")));
            }
        }
    }
    Ok(())
}

/// What is compared, in a form that can be shown.
pub(super) struct Comparable {
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: String,
    upstream: Option<Vec<(String, String)>>,
    records: Vec<Value>,
    intents: Vec<Value>,
    metrics: BTreeMap<String, u64>,
}

impl Comparable {
    pub(super) fn differences(&self, wasm: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, native: String, wasm: String| {
            if native != wasm {
                found.push(format!("{what}: natively {native}, on the module {wasm}"));
            }
        };
        compare("status", format!("{:?}", self.status), format!("{:?}", wasm.status));
        compare("headers", format!("{:?}", self.headers), format!("{:?}", wasm.headers));
        compare("body", self.body.clone(), wasm.body.clone());
        compare("upstream", format!("{:?}", self.upstream), format!("{:?}", wasm.upstream));
        let shown = |records: &[Value]| Value::from(records.to_vec()).to_string();
        compare("records", shown(&self.records), shown(&wasm.records));
        compare("intents", shown(&self.intents), shown(&wasm.intents));
        compare("metrics", format!("{:?}", self.metrics), format!("{:?}", wasm.metrics));
        found
    }
}

/// Without what is drawn at random, and what only a delivery adds.
pub(super) fn comparable(seen: &Observed) -> Comparable {
    let id = seen.headers.first("x-request-id").map(|id| String::from_utf8_lossy(id).into_owned());
    let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| "\0".to_owned());
    let nonce = Regex::new("[A-Za-z0-9+/]{22}==").unwrap();
    let token = Regex::new(r"v1\.k1\.[0-9]+\.[0-9a-f]{32}\.[0-9a-f]{64}").unwrap();
    let envelope = Regex::new(r"pcse1\.[A-Za-z0-9_-]+").unwrap();
    let plain = |text: &str| {
        let text = text.replace(&id, "ID");
        let text = nonce.replace_all(&text, "NONCE");
        envelope.replace_all(&token.replace_all(&text, "TOKEN"), "ENVELOPE").into_owned()
    };
    let map = |map: &HeaderMap| {
        let mut pairs: Vec<(String, String)> =
            map.iter().map(|(name, value)| (lossy(name), plain(&lossy(value)))).collect();
        pairs.sort();
        pairs
    };
    let record = |record: &Value| {
        let mut record = record.clone();
        if let Some(ours) = record.pointer_mut("/unmapped/portcullis").and_then(Value::as_object_mut) {
            ours.remove("epoch");
            ours.remove("sequence");
        }
        serde_json::from_str(&plain(&record.to_string())).unwrap_or_default()
    };
    let ours = |name: &str| !name.starts_with("portcullis_audit_");
    Comparable {
        status: seen.status,
        headers: map(&seen.headers),
        body: plain(&lossy(&seen.body)),
        upstream: seen.upstream.as_ref().map(map),
        records: seen.records.iter().map(record).collect(),
        intents: seen.intents.iter().map(record).collect(),
        metrics: seen.metrics.iter().filter(|(name, _)| ours(name)).map(|(n, v)| (n.clone(), *v)).collect(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
