//! Every case through the npm package, in the runtimes that it is made for, against the chain itself: not what the cases
//! expect, but all there is to see. What a JavaScript `Request` or `Response` cannot say is counted, with the reason.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};
use portcullis_host_tests::{
    case::{Case, CaseFile, Facts, Host},
    expect::Observed,
    host::{HeaderMap, Process},
    run::{CaseHost, Native, edge_request, upstream_answer},
};
use serde::Deserialize;
use serde_json::{Value, json};
use xtask::{
    commands::{edge, install},
    layout::Layout,
};

use super::replay::{comparable, files};

/// What became of a case in JavaScript.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Became {
    Seen(Vec<Seen>),
    Inexpressible(String),
    Failed(String),
}

type Pairs = Vec<(String, String)>;

/// One exchange; bytes are in base64.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    status: u16,
    headers: Pairs,
    body: String,
    upstream: Option<Pairs>,
    upstream_body: String,
    records: Vec<String>,
    metrics: BTreeMap<String, u64>,
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn plain(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

fn map(pairs: &Pairs) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.add(plain(name), plain(value));
    }
    map
}

impl Seen {
    fn observed(&self) -> Observed {
        let mut headers = HeaderMap::new().with(":status", self.status.to_string());
        for (name, value) in map(&self.headers).iter() {
            headers.add(name, value);
        }
        Observed {
            status: Some(self.status),
            headers,
            body: plain(&self.body),
            upstream: self.upstream.as_ref().map(map),
            upstream_body: plain(&self.upstream_body),
            records: self.records.iter().map(|line| serde_json::from_str(line).unwrap()).collect(),
            metrics: self.metrics.clone(),
            ..Observed::default()
        }
    }
}

/// The case as the driver reads it (`plugins/edge/tests/driver.js`).
fn told(case: &Case, epoch_ms: u64) -> Value {
    let pairs = |headers: &HeaderMap| -> Vec<Value> {
        headers.iter().map(|(name, value)| json!([base64(name), base64(value)])).collect()
    };
    let source = case.facts.source();
    let steps: Vec<Value> = case
        .steps
        .iter()
        .map(|step| {
            let (headers, pieces) = edge_request(&step.request, source);
            let pieces: Vec<String> = pieces.iter().map(|piece| base64(piece)).collect();
            let answer = upstream_answer(&step.upstream);
            let answer: HeaderMap = answer.iter().filter(|(name, _)| *name != b":status").collect();
            json!({
                "at": step.at.map(|at| at.as_millis() as u64),
                "repeat": step.repeat,
                "request": {"headers": pairs(&headers), "pieces": pieces},
                "upstream": {
                    "status": step.upstream.status,
                    "headers": pairs(&answer),
                    "body": base64(&step.upstream.body.0),
                },
            })
        })
        .collect();
    let configuration = String::from_utf8(case.configuration()).unwrap();
    json!({
        "configuration": configuration, "epoch": epoch_ms, "source": source, "facts": facts(&case.facts),
        "environment": case.facts.environment, "steps": steps,
    })
}

fn facts(facts: &Facts) -> Value {
    json!({
        "routeName": facts.route_name, "virtualHost": facts.virtual_host, "routeMetadata": facts.route_metadata,
        "jwtClaims": facts.jwt_claims, "peerSubject": facts.peer_subject, "verifiedBy": facts.marks(),
    })
}

/// What no edge can express, whatever its runtime.
fn beyond(file: &Path, case: &Case) -> Option<&'static str> {
    if file.components().any(|part| part.as_os_str() == "seal") {
        return Some("the package leaves the policy seal out, which would make it larger");
    }
    if !case.facts.holds_headers {
        return Some("an edge can always hold a request back");
    }
    let strict = case.config.as_ref().is_some_and(|config| config.to_string().contains("\"strict\""));
    strict.then_some("an edge has no journal that is written before a request")
}

/// Tells that script all of these cases, and answers what it wrote.
fn ask(runtime: &str, cases: &[&Case], run: impl Fn(&Layout, &Path, &Path) -> Command) -> Vec<u8> {
    let layout = Layout::of_this_checkout();
    let folder = layout.target().join("edge-tests");
    fs::create_dir_all(&folder).unwrap();
    let (told_file, became_file) =
        (folder.join(format!("{runtime}-cases.json")), folder.join(format!("{runtime}-results.json")));
    let epoch_ms = Process::new(1).wall_ns() / 1_000_000;
    let told: Vec<Value> = cases.iter().map(|case| told(case, epoch_ms)).collect();
    fs::write(&told_file, Value::from(told).to_string()).unwrap();
    drop(fs::remove_file(&became_file));
    let output = run(&layout, &told_file, &became_file).output().unwrap();
    assert!(output.status.success(), "{runtime}: {}", String::from_utf8_lossy(&output.stderr));
    fs::read(&became_file).unwrap()
}

/// Replays all cases with that script, and compares.
fn replay_in(runtime: &str, run: impl Fn(&Layout, &Path, &Path) -> Command) {
    let files = files();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for (file, case) in files.iter().flat_map(|file| file.cases.iter().map(move |case| (file, case))) {
        if let Some(reason) = beyond(&file.path, case).or(case.skip.get(&Host::Native).map(String::as_str)) {
            *reasons.entry(reason.to_owned()).or_default() += 1;
        } else {
            cases.push((file, case));
        }
    }
    let told: Vec<&Case> = cases.iter().map(|(_, case)| *case).collect();
    let became: Vec<Became> = serde_json::from_slice(&ask(runtime, &told, run)).unwrap();
    assert_eq!(became.len(), cases.len());
    let (mut same, mut failed) = (0, Vec::new());
    for ((file, case), became) in cases.iter().zip(became) {
        let problem = match became {
            Became::Inexpressible(reason) => {
                *reasons.entry(reason).or_default() += 1;
                continue;
            }
            Became::Failed(problem) => Err(problem),
            Became::Seen(seen) => as_natively(case, &seen),
        };
        match problem {
            Ok(()) => same += 1,
            Err(problem) => failed.push(format!("{}, \"{}\": {problem}", file.path.display(), case.name)),
        }
    }
    println!("{runtime}: {same} cases as natively, {} failed", failed.len());
    for (reason, count) in &reasons {
        println!("  {count} not expressible: {reason}");
    }
    assert!(failed.is_empty(), "{} cases in {runtime}:\n{}", failed.len(), failed.join("\n"));
    let left_out: usize = reasons.values().sum();
    assert!(same > 4 * left_out, "only {same} cases ran in {runtime}, {left_out} did not");
}

/// `Headers` has one value for each name, all of them joined (RFC 9110, 5.3), except cookies that are set.
fn combined(mut seen: Observed) -> Observed {
    seen.headers = joined(&seen.headers);
    seen.upstream = seen.upstream.as_ref().map(joined);
    seen
}

fn joined(map: &HeaderMap) -> HeaderMap {
    let mut joined = HeaderMap::new();
    for (name, value) in map.iter() {
        let text = String::from_utf8_lossy(name).into_owned();
        if text == "set-cookie" {
            joined.add(name, value);
        } else if joined.first(&text).is_none() {
            joined.add(name, map.all(&text).join(&b", "[..]));
        }
    }
    joined
}

/// Does the steps natively, and compares everything.
fn as_natively(case: &Case, seen: &[Seen]) -> Result<(), String> {
    let mut native = Native::start(&case.configuration(), &case.facts)?;
    let mut seen = seen.iter();
    for (number, step) in case.steps.iter().enumerate() {
        if let Some(at) = step.at {
            native.at(at)?;
        }
        for _ in 0..step.repeat {
            let expected = native.exchange(&step.request, &step.upstream)?;
            let seen = seen.next().ok_or("an exchange is missing")?.observed();
            let [expected, seen] = [expected, seen].map(|seen| comparable(&combined(seen)));
            let differences = expected.differences(&seen);
            if !differences.is_empty() {
                return Err(format!("steps[{number}]: {}", differences.join("; ")));
            }
        }
    }
    Ok(())
}

fn node(layout: &Layout, name: &str) -> Command {
    let mut command = Command::new(install::node(layout).unwrap());
    command.arg(edge::stage(layout).unwrap().join(name));
    command
}

fn script(layout: &Layout, name: &str, cases: &Path, results: &Path) -> Command {
    let mut command = node(layout, name);
    command.arg(layout.npm_package()).arg(cases).arg(results);
    command
}

#[test]
fn every_case_is_decided_alike_in_node() {
    replay_in("node", |layout, cases, results| script(layout, "node.mjs", cases, results));
}

#[test]
fn every_case_is_decided_alike_in_workerd() {
    replay_in("workerd", |layout, cases, results| script(layout, "workerd.mjs", cases, results));
}

#[test]
fn every_case_is_decided_alike_in_edge_runtime() {
    replay_in("edge-runtime", |layout, cases, results| script(layout, "edge-light.mjs", cases, results));
}

#[test]
fn every_case_is_decided_alike_in_deno() {
    replay_in("deno", |layout, cases, results| {
        let deno = layout.node_packages().join(format!("@deno/linux-{}-glibc/deno", deno_architecture()));
        let mut command = Command::new(deno);
        command.args(["run", "--quiet", "--no-remote", "--no-config", "--allow-read", "--allow-write"]);
        command.arg(layout.root().join("plugins/edge/tests/deno.mjs"));
        command.arg(layout.npm_package()).arg(cases).arg(results);
        command
    });
}

const fn deno_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" }
}

/// A module that was compiled from a configuration, against the build that compiled it: in all there is to see.
#[test]
fn what_was_compiled_beforehand_decides_alike() {
    let files = files();
    // The light build is without sanitize; what is left of those cases would be the same thing again and again.
    let own = |path: &Path| !path.components().any(|part| part.as_os_str() == "sanitize");
    let all = files.iter().filter(|file| own(&file.path)).flat_map(|file| {
        let cases = file.cases.iter().filter(|case| beyond(&file.path, case).is_none());
        cases.map(move |case| (file, case))
    });
    let cases: Vec<(&CaseFile, &Case)> = all.collect();
    let told: Vec<&Case> = cases.iter().map(|(_, case)| *case).collect();
    let answer =
        ask("compiled", &told, |layout, cases, results| script(layout, "compiled.mjs", cases, results));
    let both: Vec<[Became; 2]> = serde_json::from_slice(&answer).unwrap();
    assert_eq!(both.len(), cases.len());
    let (mut same, mut failed) = (0, Vec::new());
    for ((file, case), became) in cases.iter().zip(&both) {
        let differences = match became {
            [Became::Inexpressible(_), Became::Inexpressible(_)] => continue,
            [Became::Seen(light), Became::Seen(compiled)] if light.len() == compiled.len() => {
                let pairs = light.iter().zip(compiled);
                let each = pairs.map(|pair| (comparable(&pair.0.observed()), comparable(&pair.1.observed())));
                each.flat_map(|(light, compiled)| light.differences(&compiled)).collect()
            }
            other => vec![format!("{other:?}")],
        };
        same += usize::from(differences.is_empty());
        if !differences.is_empty() {
            let path = file.path.display();
            failed.push(format!("{path}, \"{}\": {}", case.name, differences.join("; ")));
        }
    }
    println!("compiled beforehand: {same} cases as under the light build");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(same > 80, "only {same} cases");
}

fn succeeds(mut command: Command) {
    let output = command.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    print!("{said}");
    assert!(output.status.success(), "{said}");
}

#[test]
fn handlers_hono_stores_and_wrong_input() {
    succeeds(node(&Layout::of_this_checkout(), "package.mjs"));
}

#[test]
fn the_example_worker_limits_by_a_durable_object() {
    let layout = Layout::of_this_checkout();
    let mut command = node(&layout, "example.mjs");
    command.arg(layout.root().join("plugins/edge/example/worker.js")).arg("--check");
    succeeds(command);
}

#[test]
fn the_types_fit_what_users_write() {
    let layout = Layout::of_this_checkout();
    let folder = edge::stage(&layout).unwrap();
    let mut compiler = Command::new(install::node(&layout).unwrap());
    compiler.arg(layout.node_packages().join("typescript/bin/tsc")).current_dir(&folder);
    succeeds(compiler);
}
