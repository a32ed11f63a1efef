//! CPU time per request of Envoy alone, with native filters, and with Portcullis.
//!
//! All variants run at the same time, each an Envoy of its own with one worker; load goes to one after the other in many
//! short rounds whose order rotates, and what is compared is compared within a round, so that what else the machine does meets
//! all alike. What counts is the CPU time of Envoy's worker thread (`/proc/<pid>/task/*/schedstat`), not wall time. Each
//! Envoy runs on one processor and everything else on the others. It answers by itself and has requests of other connections
//! waiting, so that neither the upstream nor waiting and waking up is in the figures; `Options::upstream` brings both
//! in. What V8 spends on threads of its own to compile what is called often is a price of the start, not of a request:
//! it is told apart.

mod envoy;
mod figures;
pub mod keys;
mod levels;
mod load;
mod noop;
mod processors;
mod service;
mod variants;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

pub use envoy::{Behind, Envoy};
pub use figures::Figure;
use figures::median;
pub use load::{Load, Upstream};
pub use service::Service;
pub use variants::{Goal, Variant, variants};

/// What the header policy may add to Envoy alone, as a multiple of what Envoy's own filter adds for as many headers.
const HEADERS_GOAL: f64 = 4.5;

/// Requests after which the wasm compiler has done its best.
const WARM_UP: usize = 5_000;

/// What to measure with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// The built modules.
    pub dist: PathBuf,
    /// Other modules, each measured beside `portcullis.wasm` of `dist` in everything it is measured in.
    pub beside: Vec<PathBuf>,
    /// Rounds, each of which loads every variant once.
    pub rounds: usize,
    /// Requests of one variant in one round.
    pub requests: usize,
    /// Connections that are kept open.
    pub connections: usize,
    /// All requests go on to an upstream, instead of being answered by Envoy.
    pub upstream: bool,
    /// Measure only variants whose name contains this.
    pub only: Option<String>,
}

/// What was measured of one variant.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    /// The variant.
    pub name: String,
    /// CPU microseconds per request, median over the rounds.
    pub cpu_us: f64,
    /// The same beyond Envoy alone with the same request: of the differences within each round.
    pub added_us: Figure,
    /// The same beyond a module that does nothing, where there is one to compare with: what is ours of `added_us`.
    pub beyond_noop_us: Option<Figure>,
    /// What may be added, where that was set.
    pub goal: Goal,
    /// CPU microseconds per request of our rate limit service, where it was asked; not among `cpu_us`.
    pub service_us: Option<f64>,
    /// `cpu_us` as a multiple of Envoy alone.
    pub ratio: f64,
    /// CPU milliseconds that V8 has spent on compiling since the process started.
    pub compiling_ms: f64,
    /// Resident memory of the process at the end, in MiB.
    pub memory_mib: f64,
}

/// Measures every variant.
///
/// # Errors
/// When an Envoy does not start, or answers anything but 200.
pub fn run(options: &Options, progress: &mut dyn std::io::Write) -> Result<Vec<Row>> {
    let processor = processors::spare_one()?;
    let upstream = Upstream::start()?;
    let all = variants(&options.dist, &options.beside)?;
    let named = |variant: &Variant| options.only.as_ref().is_none_or(|only| variant.name.contains(only));
    let baselines: Vec<&str> = all
        .iter()
        .filter(|variant| named(variant))
        .flat_map(|variant| [variant.baseline, variant.noop])
        .collect();
    let wanted = |variant: &&Variant| named(variant) || baselines.contains(&variant.name.as_str());
    let chosen: Vec<Variant> = all.iter().filter(wanted).cloned().collect();
    let mut envoys = Vec::new();
    let asks = |variant: &Variant| variant.name == levels::SERVICE;
    let service = chosen.iter().any(asks).then(Service::start).transpose()?;
    for variant in &chosen {
        let behind = Behind {
            upstream: (options.upstream || variant.proxied).then(|| upstream.port()),
            records: upstream.port(),
            service: service.as_ref().map_or(upstream.port(), Service::port),
        };
        envoys.push(
            Envoy::start(&options.envoy, variant, &behind, processor)
                .with_context(|| format!("starting Envoy for `{}`", variant.name))?,
        );
    }
    let mut loads = Vec::new();
    for (envoy, variant) in envoys.iter().zip(&chosen) {
        let requests = variant.requests.clone();
        let in_turn =
            move |number: usize| requests.iter().cycle().nth(number % requests.len().max(1)).cloned();
        let request = Box::new(move |number| in_turn(number).unwrap_or_default());
        loads.push(Load::connect(envoy.port(), options.connections, request)?);
    }
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); chosen.len()];
    let mut of_service = Vec::new();
    for round in 0..=options.rounds {
        for turn in 0..chosen.len() {
            let at = (turn + round) % chosen.len();
            let (Some(envoy), Some(load), Some(cost)) =
                (envoys.get(at), loads.get_mut(at), costs.get_mut(at))
            else {
                continue;
            };
            // The first round warms up: connections, caches, the wasm compiler's tiers.
            let requests = if round == 0 { options.requests.max(WARM_UP) } else { options.requests };
            let named = || format!("`{}`", chosen.get(at).map_or("", |variant| variant.name.as_str()));
            // What another Envoy has displaced from the caches comes back.
            load.run(options.requests / 8).with_context(named)?;
            let before = envoy.cpu()?.serving_ns;
            let asked = service.as_ref().filter(|_| chosen.get(at).is_some_and(asks));
            let asked =
                asked.map(|service| Ok::<_, anyhow::Error>((service, service.cpu_ns()?))).transpose()?;
            load.run(requests).with_context(named)?;
            let each = |before: u64, after: u64| {
                after.saturating_sub(before) as f64 / 1000.0 / options.requests as f64
            };
            if round > 0 {
                cost.push(each(before, envoy.cpu()?.serving_ns));
                if let Some((service, before)) = asked {
                    of_service.push(each(before, service.cpu_ns()?));
                }
            }
        }
        write!(progress, "\rround {round} of {}", options.rounds)?;
        progress.flush()?;
    }
    writeln!(progress)?;
    let mut rows = Vec::new();
    for ((variant, cost), envoy) in chosen.iter().zip(&costs).zip(&envoys) {
        let costs_of = |name: &str| {
            let at = chosen.iter().position(|other| other.name == name)?;
            costs.get(at)
        };
        let base = costs_of(variant.baseline).context("a variant without its baseline")?;
        let beyond =
            |other: &[f64]| -> Vec<f64> { cost.iter().zip(other).map(|(is, other)| is - other).collect() };
        let noop = costs_of(variant.noop).filter(|_| variant.name.contains("portcullis"));
        let cpu_us = median(cost.clone());
        rows.push(Row {
            name: variant.name.clone(),
            cpu_us,
            added_us: Figure::of(&beyond(base)),
            beyond_noop_us: noop.map(|noop| Figure::of(&beyond(noop))),
            goal: variant.goal,
            service_us: asks(variant).then(|| median(of_service.clone())),
            ratio: cpu_us / median(base.clone()),
            compiling_ms: envoy.cpu()?.compiling_ns as f64 / 1e6,
            memory_mib: envoy.memory_mib()?,
        });
    }
    Ok(rows)
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| variant | CPU µs per request | added µs (95 % interval) | beyond a no-op module | ratio | compiling ms | memory MiB |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let shown = |Figure { median, interval: [low, high] }| format!("{median:+.1} ({low:+.1} .. {high:+.1})");
    for row in rows {
        let beyond = row.beyond_noop_us.map(shown).unwrap_or_default();
        text.push_str(&format!(
            "| {} | {:.1} | {} | {beyond} | {:.2} | {:.0} | {:.0} |\n",
            row.name,
            row.cpu_us,
            shown(row.added_us),
            row.ratio,
            row.compiling_ms,
            row.memory_mib
        ));
    }
    for row in rows {
        let Row { name, added_us, .. } = row;
        let goals = [
            (Some(*added_us), row.goal.added_us, "Envoy alone"),
            (row.beyond_noop_us, row.goal.beyond_noop_us, "a no-op module"),
        ];
        for (is, goal, what) in goals {
            let (Some(is), Some(goal)) = (is, goal) else { continue };
            let is = is.median;
            text.push_str(&format!("\n{name}: {is:.1} µs beyond {what}; the goal is {goal:.0} µs.\n"));
        }
        if let Some(service_us) = row.service_us {
            text.push_str(&format!("\n{name}: and {service_us:.1} µs in the service.\n"));
        }
    }
    let added = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.added_us.median);
    if let (Some(native), Some(ours)) = (added(variants::NATIVE_HEADERS), added(variants::HEADERS))
        && native > 0.0
    {
        text.push_str(&format!(
            "\nThe header policy adds {ours:.1} µs, Envoy's own header_mutation {native:.1} µs: {:.1} times as much; the goal is \
             {HEADERS_GOAL}.\n",
            ours / native
        ));
    }
    text
}
