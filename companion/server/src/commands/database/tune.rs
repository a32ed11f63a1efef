//! `portcullis database tune` and `slow-queries`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use portcullis_database::monitor;
use portcullis_database::tune::{self, Scope, Takes};

use super::super::print;
use super::{UrlArgs, bytes, connect};

pub(super) const TUNE_HELP: &str = "\
Memory and CPUs are those of the server's machine, within its cgroup's limits, where it runs on this one; of a server elsewhere tell them. The
advice is SQL: each setting with its old value, its reason, and whether a reload or a restart is wanted, and how to return.

  portcullis database tune --url postgres://postgres@127.0.0.1/postgres --out settings.sql
  portcullis database tune --url postgres://postgres@db.example/shop --memory 16GB --cpus 4
  portcullis database tune --url postgres://owner@db.example/shop --scope database

An SQLite file (--url sqlite:shop.db) is set up at once: write-ahead log, memory map, cache, and what else a connection wants, each read back.

ALTER SYSTEM changes the server for every tenant; --scope database gives what can be set for one database alone.
Exit code: 0 the advice was given (there may be none), 1 the server could not be asked.";

pub(super) const SLOW_HELP: &str = "\
From pg_stat_statements, of this database: statements one of whose calls took at least --min-ms, those that took most time in all first.

  portcullis database slow-queries --url postgres://me@db.example/shop --limit 10

Exit code: 0 it was told, 1 it could not be read.";

/// What `database tune` takes.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Which database.
    #[command(flatten)]
    pub url: UrlArgs,
    /// For whom
    #[arg(long, value_enum, default_value_t = ScopeArg::Cluster)]
    pub scope: ScopeArg,
    /// Memory that the server may use: 16GB
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    pub memory: Option<f64>,
    /// CPUs that the server may use
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub cpus: Option<u32>,
    /// The disk
    #[arg(long, value_enum, default_value_t = StorageArg::Ssd)]
    pub storage: StorageArg,
    /// Where the advice is written; left out: standard output
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

/// For whom settings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// The whole server
    Cluster,
    /// This database alone
    Database,
}

/// What the data lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StorageArg {
    /// Flash, or a network's block storage
    Ssd,
    /// A disk with heads
    Hdd,
}

/// What `database slow-queries` takes.
#[derive(Debug, Args)]
pub struct SlowArgs {
    /// Which database.
    #[command(flatten)]
    pub url: UrlArgs,
    /// Statements at most
    #[arg(long, default_value_t = 10, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub limit: i64,
    /// What is slow, in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400_000))]
    pub min_ms: u32,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn tune(args: &TuneArgs) -> anyhow::Result<ExitCode> {
    if let Some(path) = super::sqlite::file(&args.url.url) {
        return super::sqlite::tune(args, path);
    }
    let client = connect(&args.url.url).await?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of memory, not negative"
    )]
    let memory = args.memory.map(|bytes| bytes as u64);
    let facts = tune::facts(&client, memory, args.cpus, args.storage == StorageArg::Ssd).await?;
    let scope = match args.scope {
        ScopeArg::Cluster => Scope::Cluster,
        ScopeArg::Database => Scope::Database,
    };
    let advice = tune::advise(&facts, scope);
    let text = tune::sql(&facts, &advice);
    if let Some(path) = &args.out {
        std::fs::write(path, &text)
            .with_context(|| format!("{}: cannot be written; name another with --out", path.display()))?;
    }
    if args.json {
        print(&serde_json::to_string_pretty(&serde_json::json!({"facts": facts, "advice": advice}))?)?;
    } else if let Some(path) = &args.out {
        let restarts = advice.iter().filter(|one| one.takes == Takes::Restart).count();
        print(&format!("{}: {} settings, {restarts} of them want a restart", path.display(), advice.len()))?;
    } else {
        print(text.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn slow_queries(args: &SlowArgs) -> anyhow::Result<ExitCode> {
    let client = connect(&args.url.url).await?;
    let found = match monitor::slowest(&client, f64::from(args.min_ms), args.limit).await {
        Ok(Ok(found)) => found,
        Ok(Err(why)) => bail!("{why}"),
        Err(error) => {
            return Err(error).context(
                "pg_stat_statements cannot be read; connect as its owner, or GRANT pg_read_all_stats TO the role",
            );
        }
    };
    if args.json {
        print(&serde_json::to_string_pretty(&found)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for one in &found {
        let text: String = one.statement.split_whitespace().collect::<Vec<_>>().join(" ");
        print(&format!(
            "{:>5.1} %  {} calls, mean {:.1} ms, slowest {:.1} ms, {:.1} rows\n  {text}",
            one.share * 100.0,
            one.calls,
            one.mean_ms,
            one.max_ms,
            one.rows
        ))?;
        if one.spilled > 0 {
            print(&format!("  spilled {} to disk", tune::size(u64::try_from(one.spilled).unwrap_or(0))))?;
        }
        if !one.plan.is_empty() {
            print(&format!("  plan: {}", one.plan.join(" > ")))?;
        }
    }
    print(&format!("{} statements took {} ms or more", found.len(), args.min_ms))?;
    Ok(ExitCode::SUCCESS)
}
