//! `portcullis database`: what a tenant's database lacks, and how it gets it.

mod apply;
mod sqlite;
mod tune;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use portcullis_database::advise::{self, Options, Prove};
use portcullis_database::apply::Script;
use portcullis_database::plan::{Plan, megabytes};
use portcullis_database::workload::Query;
use portcullis_database::{catalog, findings, workload};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::storage::postgres::Target;

const ADVISE_HELP: &str = "\
The workload is a folder of .sql files, a statement each; the weights say how often each runs, by the file's name without .sql:
{\"01_task_list\": 400}. Without --workload it is what pg_stat_statements has counted, by calls.

Where the extension hypopg is installed (CREATE EXTENSION hypopg), the planner itself judges indexes that do not exist; elsewhere their
use is reckoned. Where nobody else is connected and the statements do not take long, the indexes are then built in a transaction,
the statements run with and without them, and everything is rolled back: what slows a statement down is taken out. Building keeps
writers out of a table, so with others connected it is done with --prove always alone.

Advise on a copy, with statements as they are:
  portcullis database advise --url postgres://me@127.0.0.1/copy --workload queries --weights weights.json --budget 105MB --out plan.sql
On a server that counts its statements:
  portcullis database advise --url postgres://me@db.example/shop --budget 500MB --out plan.sql

Of an SQLite file (--url sqlite:shop.db) a copy is made, candidates are built there, and the steps of every statement are counted.

The role must own the tables to prove, be able to read them to advise. A password may stand in PGPASSWORD instead of the URL.
Exit code: 0 a plan was written (it may be empty), 1 none could be made.";

/// What `database` takes.
#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DatabaseCommand,
}

/// What to do with a database.
#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Find the indexes that serve a workload best within a storage budget; write them as a plan, change nothing
    #[command(after_help = ADVISE_HELP)]
    Advise(Box<AdviseArgs>),
    /// Build the indexes of an approved plan beside the running application; watch them, and take back what harms
    #[command(after_help = apply::APPLY_HELP)]
    Apply(apply::ApplyArgs),
    /// Drop the indexes that `apply` built, and what a crash left of them
    #[command(after_help = apply::ROLLBACK_HELP)]
    Rollback(apply::RollbackArgs),
    /// Tell which of PostgreSQL's settings should be others, why, and what it takes; change nothing
    #[command(after_help = tune::TUNE_HELP)]
    Tune(tune::TuneArgs),
    /// Tell the statements that take longest, without literals, with what their plans do
    #[command(after_help = tune::SLOW_HELP)]
    SlowQueries(tune::SlowArgs),
    /// Tell foreign keys without an index, and duplicate, redundant, unused and invalid indexes
    #[command(
        after_help = "Exit code: 0 nothing was found, 1 something was, 2 the database could not be read."
    )]
    Report(ReportArgs),
}

/// Which database.
#[derive(Debug, Args)]
pub struct UrlArgs {
    /// The database: postgres://USER@HOST:PORT/DATABASE; for advise and tune also sqlite:FILE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub url: String,
}

/// Statements, and how often each runs.
#[derive(Debug, Args)]
pub struct WorkloadArgs {
    /// A folder of .sql files, a statement each; left out: what pg_stat_statements has counted
    #[arg(long, value_name = "FOLDER")]
    pub workload: Option<PathBuf>,
    /// How often each statement runs, JSON: {"file name without .sql": 10}; a name that is not in it weighs 1
    #[arg(long, value_name = "FILE", requires = "workload")]
    pub weights: Option<PathBuf>,
}

impl WorkloadArgs {
    fn read(&self) -> anyhow::Result<Option<Vec<Query>>> {
        let read = |folder: &PathBuf| workload::read(folder, self.weights.as_deref());
        Ok(self.workload.as_ref().map(read).transpose()?)
    }
}

/// What `database advise` takes.
#[derive(Debug, Args)]
pub struct AdviseArgs {
    /// Which database.
    #[command(flatten)]
    pub url: UrlArgs,
    /// What runs.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// What all new indexes may take together: 500kB, 105MB, 2GB (of 1024), or bytes
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    pub budget: f64,
    /// Where the plan is written; left out: standard output
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Whether the indexes are built for proof, in a transaction that is rolled back
    #[arg(long, value_enum, default_value_t = ProveArg::Auto)]
    pub prove: ProveArg,
    /// Print the plan with all that it rests on as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Whether indexes are built for proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProveArg {
    /// Where nobody else is connected, and the statements do not take long
    Auto,
    /// In any case: writers wait meanwhile
    Always,
    /// Never
    Never,
}

/// What `database report` takes.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Which database.
    #[command(flatten)]
    pub url: UrlArgs,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: &DatabaseArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), 1),
    };
    runtime.block_on(async {
        match &args.command {
            DatabaseCommand::Advise(args) => match advise(args).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error, 1),
            },
            DatabaseCommand::Apply(args) => {
                apply::apply(args).await.unwrap_or_else(|error| failed(&error, 1))
            }
            DatabaseCommand::Rollback(args) => {
                apply::rollback(args).await.unwrap_or_else(|error| failed(&error, 1))
            }
            DatabaseCommand::Tune(args) => tune::tune(args).await.unwrap_or_else(|error| failed(&error, 1)),
            DatabaseCommand::SlowQueries(args) => {
                tune::slow_queries(args).await.unwrap_or_else(|error| failed(&error, 1))
            }
            DatabaseCommand::Report(args) => match report(args).await {
                Ok(0) => ExitCode::SUCCESS,
                Ok(_) => ExitCode::FAILURE,
                Err(error) => failed(&error, 2),
            },
        }
    })
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("portcullis: {error:#}");
    ExitCode::from(code)
}

async fn advise(args: &AdviseArgs) -> anyhow::Result<()> {
    if let Some(path) = sqlite::file(&args.url.url) {
        return sqlite::advise(args, path);
    }
    let given = args.workload.read()?;
    let client = connect(&args.url.url).await?;
    let catalog = catalog::load(&client).await.context("the catalog cannot be read")?;
    let workload = match given {
        Some(workload) => workload,
        None => recorded(&client, catalog.statements).await?,
    };
    let prove = match args.prove {
        ProveArg::Auto => Prove::Auto,
        ProveArg::Always => Prove::Always,
        ProveArg::Never => Prove::Never,
    };
    let mut progress = Progress::default();
    let plan = advise::advise(
        &client,
        &catalog,
        workload,
        Options { budget: args.budget, prove },
        &mut |what, done, of| {
            progress.show(what, done, of);
        },
    )
    .await;
    progress.clear();
    let plan = plan?;
    for skipped in &plan.skipped {
        eprintln!("portcullis: left out: {}: {}", skipped.name, skipped.reason);
    }
    if plan.statements.is_empty() {
        bail!("no statement of the workload can be planned: see above");
    }
    write_plan(args, &plan)
}

fn write_plan(args: &AdviseArgs, plan: &Plan) -> anyhow::Result<()> {
    if let Some(path) = &args.out {
        std::fs::write(path, plan.sql())
            .with_context(|| format!("{}: cannot be written; name another with --out", path.display()))?;
    }
    match (args.json, &args.out) {
        (true, _) => super::print(&serde_json::to_string_pretty(plan)?),
        (false, None) => super::print(&plan.sql()),
        (false, Some(path)) => {
            let digest = Script::read(&plan.sql())?.digest();
            for index in &plan.indexes {
                super::print(&format!("{:>6.2} %  {}", index.saves * 100.0, index.create))?;
            }
            super::print(&format!("{}: {}", path.display(), plan.summary()))?;
            super::print(&format!(
                "look at it, then: portcullis database apply --url ... {} --approve {digest}",
                path.display()
            ))
        }
    }
}

/// How a server comes to count its statements.
const COUNT_THEM: &str = "have the server count them: shared_preload_libraries = 'pg_stat_statements', restart it, CREATE EXTENSION \
                          pg_stat_statements";

async fn recorded(client: &Client, installed: bool) -> anyhow::Result<Vec<Query>> {
    let remedy = format!("name a folder of statements with --workload; or {COUNT_THEM}");
    if !installed {
        bail!("there is no workload: pg_stat_statements is not installed in this database; {remedy}");
    }
    let workload = workload::recorded(client)
        .await
        .with_context(|| format!("pg_stat_statements cannot be read; {remedy}"))?;
    if workload.is_empty() {
        bail!("there is no workload: pg_stat_statements has counted nothing of this database yet; {remedy}");
    }
    Ok(workload)
}

async fn report(args: &ReportArgs) -> anyhow::Result<usize> {
    let client = connect(&args.url.url).await?;
    let catalog = catalog::load(&client).await.context("the catalog cannot be read")?;
    let found = findings::findings(&catalog);
    if args.json {
        super::print(&serde_json::to_string_pretty(&found)?)?;
        return Ok(found.len());
    }
    for finding in &found {
        #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
        let size =
            if finding.bytes > 0 { format!(" ({})", megabytes(finding.bytes as f64)) } else { String::new() };
        super::print(&format!(
            "{} {}{size}: {}\n  {}",
            finding.table, finding.name, finding.reason, finding.remedy
        ))?;
    }
    super::print(&format!("{} tables, {} findings", catalog.tables.len(), found.len()))?;
    Ok(found.len())
}

/// Connects, with the server's limits on statements lifted for this session.
async fn connect(url: &str) -> Result<Client, portcullis_database::Error> {
    use portcullis_database::Error::{Removed, Unreachable};
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        let remedy = "--url: write postgres://USER@HOST:PORT/DATABASE, or for advise and tune sqlite:FILE";
        return Err(Unreachable(remedy.into()));
    }
    let target = Target::new(url).map_err(|error| Unreachable(format!("--url: {error}")))?;
    let mut config = target.config();
    if let (None, Some(password)) = (config.get_password(), std::env::var_os("PGPASSWORD")) {
        config.password(password.as_encoded_bytes());
    }
    config.connect_timeout(std::time::Duration::from_secs(10));
    let tls = target.tls().map_err(|reason| Unreachable(format!("{target}: {reason}")))?;
    let (client, connection) = config.connect(tls).await.map_err(|error| {
        if let Some(said) = error.as_db_error().filter(|said| *said.code() == SqlState::INVALID_CATALOG_NAME)
        {
            return Removed(format!("{target}: {}", said.message()));
        }
        let said = error.as_db_error().map(|said| said.message().to_owned());
        let said = said.unwrap_or_else(|| {
            std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        });
        Unreachable(format!("{target}: {said}; check the URL, that the server runs, and PGPASSWORD"))
    })?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '5s'",
        )
        .await?;
    Ok(client)
}

/// `105MB` in bytes.
fn bytes(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("write a size: 500kB, 105MB, 2GB, or bytes".into()),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number * factor),
        _ => Err("write a size: 500kB, 105MB, 2GB, or bytes".into()),
    }
}

/// One line on a terminal's standard error, written over as work goes on.
#[derive(Default)]
struct Progress {
    shown: bool,
}

impl Progress {
    fn show(&mut self, what: &str, done: usize, of: usize) {
        if std::io::stderr().is_terminal() {
            self.shown = true;
            eprint!("\r\x1b[2K{what} {done}/{of}");
            drop(std::io::stderr().flush());
        }
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(bytes("105MB"), Ok(105.0 * 1_048_576.0));
        assert_eq!(bytes("1.5 gb"), Ok(1.5 * 1_073_741_824.0));
        assert_eq!(bytes("8192"), Ok(8192.0));
        for wrong in ["", "MB", "-1MB", "1e9", "5 apples", "1.2.3kB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
