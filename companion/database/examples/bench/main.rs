//! `make bench-database`: advises on a workload, builds what is advised, and measures: sizes, estimated cost, run time, writes, regressions.
//!
//!     make bench-database                                              # the booking fixture on a server of its own
//!     make bench-database WORKLOAD=folder BUDGET=105MB URL=postgres://me@127.0.0.1/copy SKIP=02,17
//!
//!     make bench-database WORKLOAD=folder URL=... SIZES=200            # builds 200 candidates: how far off were their foreseen sizes?
//!
//! The folder holds `queries/*.sql` (or the statements themselves), and if there are any `weights.json`, `writes/*.sql`, and `schema.sql`, which
//! is loaded into a server of its own where no URL is given. The database of a URL is written to: indexes are built and dropped. Times are CPU
//! seconds of the server's session where it runs on this machine; each statement is run with the indexes and without them in turn.
#![allow(clippy::print_stdout, reason = "a program that prints")]

mod arguments;
mod judge;

use std::path::Path;

use anyhow::{Context, Result};
use arguments::Arguments;
use judge::{Judge, Measured, Pair};
use portcullis_database::advise::{Options, advise, prepare};
use portcullis_database::catalog;
use portcullis_database::plan::Plan;
use portcullis_database::planner::Planner;
use portcullis_database::proof::{self, Clock, Stopwatch};
use portcullis_database::workload::Query;
use tokio_postgres::{Client, NoTls};
use xtask::layout::Layout;
use xtask::postgres::Durability;
use xtask::postgres::Server;

/// What is published of others: MB, estimated cost, run time, write CPU against none.
const PEERS: &[(&str, &[(&str, &str)])] = &[
    (
        "saas",
        &[
            ("postgres-mcp, 30 s", "35 MB    cost 0.614    time 0.493   writes 1.06"),
            ("postgres-mcp, union per query", "250 MB   cost 0.0116   time 0.041   writes 2.24"),
            ("Dexter", "147 MB   cost 0.0259   time 0.049   writes 2.09"),
            ("Supabase, union", "112 MB   cost 0.0222   time 0.066   writes 1.71"),
            ("Extend", "101 MB   cost 0.0228   time 0.066   writes 1.65"),
        ],
    ),
    (
        "tpch",
        &[
            ("Dexter", "14 MB    cost 0.676    time 0.925   3 slower"),
            ("Extend", "50 MB    cost 0.600    time 0.85    1 slower"),
        ],
    ),
    (
        "tpcds",
        &[("Extend", "100 MB   cost 0.522    130 CPU-s"), ("DB2Advis", "100 MB   cost 0.628    2.2 CPU-s")],
    ),
];

/// CPU seconds of this process.
fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// What is left of all statements together, each by its weight.
fn share(queries: &[Query], pairs: &[Pair]) -> f64 {
    let by_weight = queries
        .iter()
        .zip(pairs)
        .map(|(query, pair)| Pair { without: query.weight * pair.without, with: query.weight * pair.with });
    of_all(&by_weight.collect::<Vec<_>>())
}

fn of_all(pairs: &[Pair]) -> f64 {
    let without: f64 = pairs.iter().map(|pair| pair.without).sum();
    let with: f64 = pairs.iter().map(|pair| pair.with).sum();
    if without > 0.0 { with / without } else { 1.0 }
}

/// Builds candidates, evenly taken from all, and tells how far off their foreseen sizes were.
async fn sizes(client: &Client, arguments: &Arguments, queries: Vec<Query>) -> Result<()> {
    let catalog = catalog::load(client).await?;
    let mut planner = Planner::new(client, &catalog);
    let prepared =
        prepare(client, &catalog, &mut planner, queries, arguments.budget, &mut |_, _, _| ()).await?;
    planner.reset().await?;
    let every = prepared.space.candidates.len().div_ceil(arguments.sizes).max(1);
    let mut errors = Vec::new();
    for (candidate, foreseen) in prepared.space.candidates.iter().zip(&prepared.foreseen).step_by(every) {
        let real = proof::bytes(client, candidate).await?;
        errors.push(((foreseen - real) / real.max(1.0), candidate.definition(), *foreseen, real));
    }
    errors.sort_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    let at = |share: usize| {
        errors.get(errors.len().saturating_sub(1) * share / 100).map_or(0.0, |one| 100.0 * one.0.abs())
    };
    for (error, definition, foreseen, real) in errors.iter().rev().take(12) {
        println!("{:+7.1} %  {:>10.0} foreseen {:>10.0} built  {definition}", 100.0 * error, foreseen, real);
    }
    println!(
        "{} indexes built: foreseen wrong by {:.1} % (median), {:.1} % (p95)",
        errors.len(),
        at(50),
        at(95)
    );
    Ok(())
}

async fn open(layout: &Layout, arguments: &Arguments) -> Result<(Client, Option<Server>)> {
    let (url, server) = match &arguments.url {
        Some(url) => (url.clone(), None),
        None => {
            let server = Server::start(layout, Path::new("/tmp"), Durability::None)?;
            (server.create(layout, "bench")?, Some(server))
        }
    };
    let (client, connection) =
        tokio_postgres::connect(&url, NoTls).await.context("URL: no database answers there")?;
    tokio::spawn(connection);
    if server.is_some() {
        let schema = arguments.folder.join("schema.sql");
        let text = std::fs::read_to_string(&schema)
            .with_context(|| format!("{}: name a loaded copy with URL=postgres://...", schema.display()))?;
        client.batch_execute(&text).await?;
        drop(client.batch_execute("CREATE EXTENSION hypopg").await);
        client.batch_execute("VACUUM ANALYZE").await?;
    }
    Ok((client, server))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let layout = Layout::of_this_checkout();
    let arguments = Arguments::read(&layout)?;
    let (queries, writes) = (arguments.queries()?, arguments.writes()?);
    let (client, _server) = open(&layout, &arguments).await?;
    if arguments.sizes > 0 {
        return sizes(&client, &arguments, queries).await;
    }
    let judge = Judge { watch: Stopwatch::of(&client).await?, client };

    let (ours, theirs) = (own_cpu(), judge.watch.read());
    let catalog = catalog::load(&judge.client).await?;
    let options = Options { budget: arguments.budget, prove: arguments.prove };
    let plan = advise(&judge.client, &catalog, queries.clone(), options, &mut |_, _, _| ()).await?;
    let (ours, theirs) = (own_cpu() - ours, judge.watch.since(theirs));

    let measured = judge.measure(&plan, &queries, &writes).await?;
    tell(&arguments, &plan, &queries, &measured);
    for (write, pair) in writes.iter().zip(&measured.writes) {
        println!(
            "  {:<28} {:8.1} ms without, {:8.1} ms with",
            write.name,
            pair.without * 1e3,
            pair.with * 1e3
        );
    }
    let clock = if judge.watch.clock() == Clock::Cpu { "CPU" } else { "elapsed" };
    println!(
        "times are {clock} seconds, taken with and without the indexes in turn; advising took {ours:.2} s of ours and {theirs:.2} s of the server's, {} questions",
        plan.judged.questions
    );
    if let Some(reason) = &plan.judged.unproven {
        println!("the plan was not proven: {reason}");
    }
    Ok(())
}

fn tell(arguments: &Arguments, plan: &Plan, queries: &[Query], measured: &Measured) {
    let seconds: Vec<Pair> = measured.seconds.iter().map(|pair| pair.unwrap_or_default()).collect();
    let slower: Vec<String> = queries
        .iter()
        .zip(&seconds)
        .filter(|(_, pair)| pair.slower())
        .map(|(query, pair)| format!("{} {:.0} -> {:.0} ms", query.name, pair.without * 1e3, pair.with * 1e3))
        .collect();
    let mut errors: Vec<f64> = plan
        .indexes
        .iter()
        .zip(&measured.sizes)
        .map(|(index, real)| (index.foreseen_bytes - real).abs() / real.max(1.0))
        .collect();
    errors.sort_by(f64::total_cmp);
    let quantile = |share: usize| {
        errors.get(errors.len().saturating_sub(1) * share / 100).copied().unwrap_or(0.0) * 100.0
    };
    let name = arguments.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    println!(
        "{name}: {} statements, {} left out, {} not run, {} indexes",
        queries.len(),
        plan.skipped.len(),
        measured.seconds.iter().filter(|pair| pair.is_none()).count(),
        plan.indexes.len()
    );
    let megabytes = measured.sizes.iter().sum::<f64>() / 1_048_576.0;
    let dearer: Vec<Pair> = measured.writes.iter().copied().filter(|pair| pair.with > pair.without).collect();
    println!(
        "{:<30} {megabytes:.1} MB  cost {:.4}  time {:.4}  writes {:.2} (those that became dearer: {:.2})  {} slower{}",
        "Portcullis",
        share(queries, &measured.costs),
        share(queries, &seconds),
        of_all(&measured.writes),
        of_all(&dearer),
        slower.len(),
        if slower.is_empty() { String::new() } else { format!(" ({})", slower.join(", ")) }
    );
    for (peer, row) in
        PEERS.iter().find(|(workload, _)| name.contains(workload)).map_or(&[][..], |(_, rows)| rows)
    {
        println!("{peer:<30} {row}");
    }
    let over =
        if megabytes * 1_048_576.0 > arguments.budget { "OVER the budget" } else { "within the budget" };
    println!("sizes: foreseen wrong by {:.1} % (median), {:.1} % (p95); {over}", quantile(50), quantile(95));
}
