//! `portcullis database apply` and `rollback`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use portcullis_database::apply::{self, Options, Report, Script};
use portcullis_database::catalog;

use super::{UrlArgs, WorkloadArgs, bytes, connect};

/// Without an approval nothing is applied.
const NOT_APPROVED: u8 = 3;

pub(super) const APPLY_HELP: &str = "\
Without --approve it looks whether the plan can be applied, prints the plan's digest, and changes nothing. The digest is of the schema and
of every statement: a plan that was changed wants another approval.

  portcullis database apply --url postgres://owner@db.example/shop plan.sql
  portcullis database apply --url postgres://owner@db.example/shop plan.sql --approve 3f9a0c51d2e7

Each index is built with CREATE INDEX CONCURRENTLY under a lock timeout, after long transactions and other builds have been waited for; what a
failed build leaves is dropped, and it is tried again. It is entered in the table portcullis_advisor.index_ledger before it is begun. Given
statements (--workload) are timed before and after, read-only; what others run is watched in pg_stat_statements. An index that makes them
slower, or that no given statement uses, is dropped. The role must own the tables.

Exit code: 0 all indexes are there or were dropped with a measured reason, 1 something failed, 3 not approved yet.";

pub(super) const ROLLBACK_HELP: &str = "\
It drops what stands in portcullis_advisor.index_ledger, and nothing else, with DROP INDEX CONCURRENTLY.

  portcullis database rollback --url postgres://owner@db.example/shop
  portcullis database rollback --url postgres://owner@db.example/shop --plan 3f9a0c51d2e7

Exit code: 0 nothing is left, 1 something is.";

/// What `database apply` takes.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Which database.
    #[command(flatten)]
    pub url: UrlArgs,
    /// The plan, as `advise --out` wrote it
    pub plan: PathBuf,
    /// The digest of the plan that was looked at; without it nothing is changed
    #[arg(long, value_name = "DIGEST")]
    pub approve: Option<String>,
    /// Statements by which gain and harm are measured.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// How it is done.
    #[command(flatten)]
    pub how: HowArgs,
    /// How long the last index is watched, in seconds, where pg_stat_statements counts
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub observe: u64,
    /// What is free on the server's disk, where that is another machine's: 20GB
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    pub free: Option<f64>,
}

/// How indexes are built and dropped.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Seconds that a lock is waited for, before others are let pass
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub lock_timeout: u64,
    /// Seconds that long transactions, other builds and a restarting server are waited for
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub wait: u64,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

/// What `database rollback` takes.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Which database.
    #[command(flatten)]
    pub url: UrlArgs,
    /// Of this plan alone; left out: of all
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,
    /// How it is done.
    #[command(flatten)]
    pub how: HowArgs,
}

impl HowArgs {
    fn options(&self) -> Options {
        let seconds = Duration::from_secs;
        Options {
            lock_timeout: seconds(self.lock_timeout),
            patience: seconds(self.wait),
            ..Options::default()
        }
    }
}

pub(super) async fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let path = args.plan.display();
    let text = std::fs::read_to_string(&args.plan)
        .with_context(|| format!("{path}: name a plan that `advise --out` wrote"))?;
    let script = Script::read(&text).with_context(|| path.to_string())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of a disk, not negative"
    )]
    let free = args.free.map(|free| free as u64);
    let options = Options { observe: Duration::from_secs(args.observe), free, ..args.how.options() };
    let connect = async || connect(&args.url.url).await;
    let Some(approved) = &args.approve else {
        let client = connect().await?;
        let catalog = catalog::load(&client).await?;
        let seen = apply::preflight(&client, &catalog, &script, free).await?;
        let digest = script.digest();
        if args.how.json {
            let seen = serde_json::json!({"plan": digest, "approved": false, "preflight": seen});
            super::super::print(&serde_json::to_string_pretty(&seen)?)?;
            return Ok(ExitCode::from(NOT_APPROVED));
        }
        for build in &script.builds {
            super::super::print(&format!("would build {} on {}", build.index(), build.on()))?;
        }
        for old in &seen.old {
            super::super::print(&format!("would wait: {old}"))?;
        }
        super::super::print(&format!("nothing was changed; to apply it: --approve {digest}"))?;
        return Ok(ExitCode::from(NOT_APPROVED));
    };
    let samples = args.workload.read()?.unwrap_or_default();
    let tell = &mut |line: apply::Progress<'_>| {
        if std::io::stderr().is_terminal() {
            eprintln!("{line}");
        }
    };
    let report = apply::apply(&connect, &script, approved, samples, &options, tell).await?;
    finish(&report, args.how.json)
}

pub(super) async fn rollback(args: &RollbackArgs) -> anyhow::Result<ExitCode> {
    let connect = async || connect(&args.url.url).await;
    let report = apply::rollback(&connect, args.plan.as_deref(), &args.how.options()).await?;
    finish(&report, args.how.json)
}

fn finish(report: &Report, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        super::super::print(&serde_json::to_string_pretty(report)?)?;
    } else {
        for one in &report.indexes {
            super::super::print(&format!("{:<8} {}: {}", one.outcome, one.index, one.reason))?;
        }
        for note in &report.notes {
            super::super::print(&format!("note: {note}"))?;
        }
        super::super::print(&format!(
            "plan {}: {} kept, {} dropped, {} failed, {} left",
            report.plan,
            report.count("kept"),
            report.count("dropped"),
            report.count("failed"),
            report.count("left")
        ))?;
    }
    let bad = report.count("failed") + report.count("left");
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
