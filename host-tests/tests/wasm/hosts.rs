//! Every case on every kind of host: as it stands, or held to less where `degradations.yaml` says so and why. Any other
//! difference fails.

use std::{collections::BTreeMap, fs};

use portcullis_host_tests::{
    case::{Case, CaseFile, Host, Step},
    host::{Module, Options, Profile},
    run::{self, CaseHost, Wasm, replay},
};
use serde::Deserialize;
use serde_json::Value;
use xtask::layout::Layout;

use super::{
    replay::{files, module_of},
    restricted::edge,
    support::restricted,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Envoy,
    Nginx,
    Bare,
    Edge,
}

impl Kind {
    fn options(self) -> Options {
        let profile = match self {
            Self::Envoy => Profile::envoy(),
            Self::Nginx => Profile::nginx(),
            Self::Bare => Profile::restricted(),
            Self::Edge => return edge(),
        };
        Options { profile, ..run::options() }
    }

    fn module(self, file: &CaseFile) -> &'static Module {
        if self == Self::Edge { restricted() } else { module_of(file) }
    }
}

/// An entry of `degradations.yaml`, which explains the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Degradation {
    hosts: Vec<Kind>,
    lacks: String,
    #[serde(default)]
    cases: Needs,
    #[serde(default)]
    unseen: Vec<Part>,
    refused: Option<u16>,
    #[serde(default)]
    untold: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Needs {
    facts: bool,
    body: bool,
    config: Option<String>,
    folder: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Upstream,
    Metrics,
    Record,
    Intent,
}

fn degradations() -> Vec<Degradation> {
    let file = Layout::of_this_checkout().root().join("host-tests/degradations.yaml");
    serde_yaml_ng::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(name, value)| name == text || mentions(value, text)),
        Value::Array(list) => list.iter().any(|value| mentions(value, text)),
        value => value == text,
    }
}

impl Needs {
    fn apply(&self, file: &CaseFile, case: &Case) -> bool {
        let facts = &case.facts;
        let told = facts.route_name.is_some()
            || facts.virtual_host.is_some()
            || facts.route_metadata.is_some()
            || facts.source_address.is_some()
            || facts.peer_subject.is_some()
            || !facts.marks().is_empty();
        let configured = |key: &String| case.config.as_ref().is_some_and(|config| mentions(config, key));
        let lies_in =
            |folder: &String| file.path.components().any(|part| part.as_os_str() == folder.as_str());
        (!self.facts || told)
            && (!self.body || case.steps.iter().any(|step| step.request.body.is_some()))
            && self.config.as_ref().is_none_or(configured)
            && self.folder.as_ref().is_none_or(lies_in)
    }
}

/// Plays the case, held to what these leave of it.
fn played(case: &Case, host: &mut Wasm, lacks: &[&Degradation]) -> Result<(), String> {
    for (number, step) in case.steps.iter().enumerate() {
        let mut expect = step.expect.clone();
        for part in lacks.iter().flat_map(|lack| &lack.unseen) {
            match part {
                Part::Upstream => expect.upstream = None,
                Part::Metrics => expect.metrics.clear(),
                Part::Record => expect.record = None,
                Part::Intent => expect.intent = None,
            }
        }
        let Step { at, repeat, request, upstream, .. } = step;
        at.map_or(Ok(()), |at| host.at(at))?;
        for _ in 0..*repeat {
            let seen = host.exchange(request, upstream)?;
            // Before the application has it, where anybody can tell.
            let unseen = lacks.iter().any(|lack| lack.unseen.contains(&Part::Upstream));
            let refused = lacks.iter().any(|lack| lack.refused.is_some() && lack.refused == seen.status)
                && (unseen || seen.upstream.is_none());
            let differences = expect.differences(&seen);
            if !differences.is_empty() && !refused {
                return Err(format!("steps[{number}]: {}", differences.join("; ")));
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    unchanged: usize,
    less: usize,
    untold: usize,
    reasons: BTreeMap<String, usize>,
    failed: Vec<String>,
}

impl Tally {
    fn count(&mut self, reason: &str) {
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    fn play(&mut self, kind: Kind, file: &CaseFile, case: &Case, all: &[Degradation]) {
        if let Some(reason) = case.skip.get(&Host::Wasmtime) {
            self.untold += 1;
            return self.count(reason);
        }
        let start = || {
            Wasm::start_on(kind.options(), kind.module(file), &case.configuration(), &case.facts)
                .map_err(|error| error.to_string())
        };
        let Err(problem) = start().and_then(|mut host| replay(case, &mut host).map(drop)) else {
            self.unchanged += 1;
            return;
        };
        let lacks: Vec<&Degradation> =
            all.iter().filter(|lack| lack.hosts.contains(&kind) && lack.cases.apply(file, case)).collect();
        if let Some(lack) = lacks.iter().find(|lack| lack.untold) {
            self.untold += 1;
            return self.count(&lack.lacks);
        }
        // Without the ones that do not matter: so that each that is counted is needed.
        let comes_out = |lacks: &[&Degradation]| start().and_then(|mut host| played(case, &mut host, lacks));
        if let Err(less) = comes_out(&lacks) {
            let name = &case.name;
            let what = if lacks.is_empty() { problem } else { format!("{problem}\n  held to less: {less}") };
            return self.failed.push(format!("{}, \"{name}\": {what}", file.path.display()));
        }
        self.less += 1;
        let mut needed = lacks;
        while let Some(at) = (0..needed.len()).find(|at| {
            let rest: Vec<_> = needed.iter().enumerate().filter(|(n, _)| n != at).map(|(_, l)| *l).collect();
            comes_out(&rest).is_ok()
        }) {
            needed.remove(at);
        }
        needed.iter().for_each(|lack| self.count(&lack.lacks));
    }
}

fn every_case_on(kind: Kind) {
    let all = degradations();
    let mut tally = Tally::default();
    for file in &files() {
        for case in &file.cases {
            tally.play(kind, file, case, &all);
        }
    }
    let Tally { unchanged, less, untold, reasons, failed } = tally;
    println!("{kind:?}: {unchanged} cases as they stand, {less} held to less, {untold} cannot be told");
    reasons.iter().for_each(|(reason, count)| println!("  {count}: {reason}"));
    assert!(failed.is_empty(), "{} cases on {kind:?}:\n{}", failed.len(), failed.join("\n"));
    let idle = all.iter().filter(|lack| lack.hosts.contains(&kind) && !reasons.contains_key(&lack.lacks));
    let idle: Vec<&str> = idle.map(|lack| lack.lacks.as_str()).collect();
    assert!(idle.is_empty(), "no case on {kind:?} needs: {idle:?}");
    assert!(unchanged + less > 4 * untold, "{untold} cases cannot be told to {kind:?}");
}

#[test]
fn every_case_holds_on_envoy() {
    every_case_on(Kind::Envoy);
}

#[test]
fn every_case_holds_on_nginx() {
    every_case_on(Kind::Nginx);
}

#[test]
fn every_case_holds_where_nothing_optional_is_there() {
    every_case_on(Kind::Bare);
}

#[test]
fn every_case_holds_on_a_restricted_edge() {
    every_case_on(Kind::Edge);
}
