//! `make bench-database`: advises on a workload, builds what is advised, and measures: sizes, estimated cost, run time, writes, regressions.
//!
//!     make bench-database                                              # the booking fixture on a server of its own
//!     make bench-database WORKLOAD=folder BUDGET=105MB URL=postgres://me@127.0.0.1/copy SKIP=02,17
//!
//!     make bench-database WORKLOAD=folder URL=... SIZES=200            # builds 200 candidates: how far off were their foreseen sizes?
//!
//! The folder holds `queries/*.sql` (or the statements themselves), and if there are any `weights.json`, `writes/*.sql`, and `schema.sql`, which
//! is loaded into a server of its own where no URL is given. The database of a URL is written to: indexes are built and dropped. Times are CPU
//! seconds of the server's session where it runs on this machine.
#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_database::advise::{Options, Prove, advise, prepare};
use portcullis_database::catalog;
use portcullis_database::plan::Plan;
use portcullis_database::planner::Planner;
use portcullis_database::proof::{self, Clock, Stopwatch};
use portcullis_database::workload::{self, Query};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

/// Runs of a statement; the fastest counts.
const RUNS: usize = 2;
/// A statement became slower: by share and by seconds.
const SLOWER: (f64, f64) = (1.2, 0.010);

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

struct Arguments {
    folder: PathBuf,
    url: Option<String>,
    budget: f64,
    skip: BTreeSet<String>,
    prove: Prove,
    /// Candidates whose sizes are compared with what is built.
    sizes: usize,
}

impl Arguments {
    /// From the environment, as make passes it.
    fn read(layout: &Layout) -> Result<Self> {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let megabytes = given("BUDGET").unwrap_or_else(|| "2MB".into());
        let number = megabytes.trim_end_matches("MB").parse::<f64>();
        Ok(Self {
            folder: given("WORKLOAD")
                .map_or_else(|| layout.root().join("companion/database/tests/booking"), PathBuf::from),
            url: given("URL"),
            budget: number.context("BUDGET=105MB")? * 1_048_576.0,
            skip: given("SKIP").unwrap_or_default().split(',').map(str::to_owned).collect(),
            prove: match given("PROVE").as_deref() {
                None | Some("auto") => Prove::Auto,
                Some("always") => Prove::Always,
                Some("never") => Prove::Never,
                Some(other) => bail!("PROVE={other}: auto, always or never"),
            },
            sizes: given("SIZES").map_or(Ok(0), |number| number.parse()).context("SIZES=200")?,
        })
    }

    fn queries(&self) -> Result<Vec<Query>> {
        let (queries, weights) = (self.folder.join("queries"), self.folder.join("weights.json"));
        let statements = self.folder.join("statements.sql");
        let mut read = if queries.is_dir() || !statements.is_file() {
            let folder = if queries.is_dir() { &queries } else { &self.folder };
            workload::read(folder, weights.is_file().then_some(weights.as_path()))?
        } else {
            let text = std::fs::read_to_string(&statements)?;
            let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
            parts
                .enumerate()
                .map(|(number, part)| Query::new(&format!("{:02}", number + 1), part, 1.0))
                .collect()
        };
        read.retain(|query| !self.skip.contains(&query.name));
        Ok(read)
    }

    fn writes(&self) -> Result<Vec<Query>> {
        let folder = self.folder.join("writes");
        if folder.is_dir() { Ok(workload::read(&folder, None)?) } else { Ok(Vec::new()) }
    }
}

/// What was measured of a state of the database.
struct Measured {
    costs: Vec<f64>,
    seconds: Vec<Option<f64>>,
    writes: f64,
}

struct Judge {
    client: Client,
    watch: Stopwatch,
}

impl Judge {
    async fn measure(&self, queries: &[Query], writes: &[Query]) -> Result<Measured> {
        let mut measured = Measured { costs: Vec::new(), seconds: Vec::new(), writes: 0.0 };
        for query in queries {
            measured.costs.push(self.cost(&query.text).await.unwrap_or(0.0));
            measured.seconds.push(self.time(&query.text, RUNS).await);
        }
        for write in writes {
            measured.writes += self
                .time(&write.text, RUNS)
                .await
                .with_context(|| format!("{} cannot be run", write.name))?;
        }
        Ok(measured)
    }

    async fn cost(&self, text: &str) -> Option<f64> {
        let answer = self.client.simple_query(&format!("EXPLAIN {text}")).await.ok()?;
        answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.split_once("..")?.1.split(' ').next()?.parse().ok(),
            _ => None,
        })
    }

    /// Rolled back; `None` when it fails or takes over a minute.
    async fn time(&self, text: &str, runs: usize) -> Option<f64> {
        let mut fastest: Option<f64> = None;
        for _ in 0..runs {
            self.client.batch_execute("BEGIN; SET LOCAL statement_timeout = '60s'").await.ok()?;
            let start = self.watch.read();
            let done = self.client.batch_execute(&format!("{text}; SET CONSTRAINTS ALL IMMEDIATE")).await;
            let seconds = self.watch.since(start);
            self.client.batch_execute("ROLLBACK").await.ok()?;
            done.ok()?;
            fastest = Some(fastest.map_or(seconds, |best| best.min(seconds)));
        }
        fastest
    }

    /// Builds the plan; bytes of each index as built.
    async fn build(&self, plan: &Plan) -> Result<Vec<f64>> {
        let mut sizes = Vec::new();
        for index in &plan.indexes {
            self.client.batch_execute(&index.create.replace(" CONCURRENTLY", "")).await?;
            let schema = index.table.split('.').next().unwrap_or_default();
            let size = format!("SELECT pg_relation_size('{schema}.{}'::regclass)::float8", index.name);
            sizes.push(self.client.query_one(&size, &[]).await?.try_get(0)?);
        }
        self.client.batch_execute("VACUUM ANALYZE").await?;
        Ok(sizes)
    }
}

/// CPU seconds of this process.
fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn weighted(queries: &[Query], values: impl Iterator<Item = f64>) -> f64 {
    queries.iter().zip(values).map(|(query, value)| query.weight * value).sum()
}

fn share(after: f64, before: f64) -> f64 {
    if before > 0.0 { after / before } else { 1.0 }
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

    let before = judge.measure(&queries, &writes).await?;
    let sizes = judge.build(&plan).await?;
    let after = judge.measure(&queries, &writes).await;
    for index in &plan.indexes {
        judge.client.batch_execute(&index.drop.replace(" CONCURRENTLY", "")).await?;
    }
    tell(&arguments, &plan, &queries, (&before, &after?), &sizes);
    let clock = if judge.watch.clock() == Clock::Cpu { "CPU" } else { "elapsed" };
    println!(
        "times are {clock} seconds; advising took {ours:.2} s of ours and {theirs:.2} s of the server's, {} questions",
        plan.judged.questions
    );
    Ok(())
}

fn tell(
    arguments: &Arguments,
    plan: &Plan,
    queries: &[Query],
    (before, after): (&Measured, &Measured),
    sizes: &[f64],
) {
    let pairs: Vec<(f64, f64)> =
        before.seconds.iter().zip(&after.seconds).map(|(b, a)| b.zip(*a).unwrap_or((0.0, 0.0))).collect();
    let name = arguments.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let slower: Vec<&str> = queries
        .iter()
        .zip(&pairs)
        .filter(|(_, (before, after))| *after > before * SLOWER.0 && after - before > SLOWER.1)
        .map(|(query, _)| query.name.as_str())
        .collect();
    let mut errors: Vec<f64> = plan
        .indexes
        .iter()
        .zip(sizes)
        .map(|(index, real)| (index.foreseen_bytes - real).abs() / real.max(1.0))
        .collect();
    errors.sort_by(f64::total_cmp);
    let quantile = |share: usize| {
        errors.get(errors.len().saturating_sub(1) * share / 100).copied().unwrap_or(0.0) * 100.0
    };
    println!(
        "{name}: {} statements, {} left out, {} indexes",
        queries.len(),
        plan.skipped.len(),
        plan.indexes.len()
    );
    let megabytes = sizes.iter().sum::<f64>() / 1_048_576.0;
    let cost = share(
        weighted(queries, after.costs.iter().copied()),
        weighted(queries, before.costs.iter().copied()),
    );
    let time = share(
        weighted(queries, pairs.iter().map(|pair| pair.1)),
        weighted(queries, pairs.iter().map(|pair| pair.0)),
    );
    println!(
        "{:<30} {megabytes:.1} MB  cost {cost:.4}  time {time:.4}  writes {:.2}  {} slower{}",
        "Portcullis",
        share(after.writes, before.writes),
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
