//! A plan that was approved becomes indexes: built beside the running application, watched, and kept or taken back.
//!
//! Against: a build that waits for a lock and makes everybody else wait behind it (`lock_timeout`); one that waits for an old transaction
//! (looked for first); a build that fails or is killed and leaves an invalid index, which costs writes and serves nothing (a ledger is written
//! before the build; what is invalid is dropped, now or by whoever comes next); a full disk (looked at first, and nothing more is built after
//! one); an index that makes statements slower (measured, and dropped within a minute), also when whoever watched it ended before that (the
//! next application of the plan watches it anew); two who apply at once (a lock).
//!
//! What it does not do: it never drops an index that is not in its ledger; it builds no constraint; a partitioned table gets its indexes part by part.
//! Between a crash and the next `apply` or `rollback` an invalid index may stand there: nobody is left to drop it.

mod build;
mod effect;
mod ledger;
mod preflight;
mod sample;
mod script;
mod session;
mod turn;
mod watch;

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch as channel;
use tokio_postgres::Client;

pub use effect::Measured;
pub use ledger::{Entry, live};
pub use preflight::{Preflight, preflight};
pub use script::{Build, Script};
pub use turn::Turn;

use crate::Error;
use crate::workload::Query;

/// Why nothing, or nothing more, is applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file is no plan.
    #[error("the plan: {0}")]
    Plan(String),
    /// Another digest was approved.
    #[error("the plan {found} is not what was approved ({approved}); look at it again, then approve {found}")]
    Approval {
        /// Of the plan.
        found: String,
        /// What was said.
        approved: String,
    },
    /// The server only reads.
    #[error("the server is a standby and only reads; connect to the primary")]
    Standby,
    /// Tables or indexes are not those that the plan was made for.
    #[error(
        "the schema has changed since the plan was made: a table, column or index is another; make a new plan with `database advise`"
    )]
    Changed,
    /// A table is somebody else's.
    #[error(
        "the role may not build indexes on {0}: it must own the table (or be a member of its owner) and have CREATE on its schema"
    )]
    Privilege(String),
    /// There can be no ledger.
    #[error(
        "the role may not make the ledger: GRANT CREATE ON DATABASE to it, or make the schema portcullis_advisor and grant it USAGE and CREATE there"
    )]
    Ledger,
    /// The disk would be full.
    #[error(
        "{free} are free on the server's disk and building needs {needed}; make room, or take indexes out of the plan"
    )]
    Room {
        /// What is free.
        free: String,
        /// What is needed.
        needed: String,
    },
    /// Somebody else is at it.
    #[error(
        "another apply or rollback holds this database (server process {0}); wait for it, or end it with pg_terminate_backend({0})"
    )]
    Busy(i32),
    /// The server refused, or was lost.
    #[error(transparent)]
    Server(#[from] Error),
}

/// How a plan is applied.
#[derive(Debug, Clone)]
pub struct Options {
    /// A build that waits longer for a lock gives up, lets others pass, and tries again.
    pub lock_timeout: Duration,
    /// How often a build is tried.
    pub attempts: u32,
    /// How long another application or rollback is waited for.
    pub wait: Duration,
    /// How long in all is waited for old transactions, other builds and a server that restarts.
    pub patience: Duration,
    /// How long an index is watched after it was built.
    pub observe: Duration,
    /// Bytes free on the server's disk, where it is elsewhere.
    pub free: Option<u64>,
    /// Says why it must end, when it must: then what this application has built is taken back.
    pub withdrawal: Option<channel::Receiver<Option<String>>>,
}

impl Options {
    /// Why it must end, if it must.
    fn withdrawn(&self) -> Option<String> {
        self.withdrawal.as_ref().and_then(|withdrawal| withdrawal.borrow().clone())
    }

    /// Waits; shorter when it is withdrawn meanwhile, and shorter once it is.
    async fn pause(&self, time: Duration) {
        match self.withdrawal.clone() {
            Some(mut withdrawal) if withdrawal.borrow().is_none() => {
                // Whoever could withdraw it may be gone; then it is waited all the same.
                let withdrawn = async {
                    if withdrawal.wait_for(Option::is_some).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                let _ = tokio::time::timeout(time, withdrawn).await;
            }
            Some(_) => tokio::time::sleep(time.min(RETRY)).await,
            None => tokio::time::sleep(time).await,
        }
    }
}

/// How soon something is tried again that was withdrawn.
const RETRY: Duration = Duration::from_millis(300);

impl Default for Options {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            lock_timeout: seconds(2),
            attempts: 4,
            wait: seconds(10),
            patience: seconds(60),
            observe: seconds(20),
            free: None,
            withdrawal: None,
        }
    }
}

/// What became of an index.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The index.
    pub index: String,
    /// `kept`, `dropped`, `failed`, `left`: an invalid index that could not be dropped.
    pub outcome: &'static str,
    /// Why.
    pub reason: String,
    /// Bytes.
    pub bytes: Option<i64>,
    /// What the statements of others on its table took before and after, where they were counted.
    pub measured: Option<Measured>,
}

/// What became of a plan.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The plan's digest.
    pub plan: String,
    /// Every index that was touched.
    pub indexes: Vec<Outcome>,
    /// What was not looked at, or could not be.
    pub notes: Vec<String>,
    /// Why it was withdrawn, if it was.
    pub withdrawn: Option<String>,
}

impl Report {
    fn tell(&mut self, index: &str, outcome: &'static str, reason: impl Into<String>, bytes: Option<i64>) {
        self.indexes.push(Outcome {
            index: index.to_owned(),
            outcome,
            reason: reason.into(),
            bytes,
            measured: None,
        });
    }

    /// How many ended so.
    #[must_use]
    pub fn count(&self, outcome: &str) -> usize {
        self.indexes.iter().filter(|one| one.outcome == outcome).count()
    }
}

/// How far an application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// This index is being built.
    Building(&'a str),
    /// So many stand, and are watched: all that could be built.
    Watching(usize),
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Building(index) => write!(f, "building {index}"),
            Self::Watching(standing) => write!(f, "watching {standing}"),
        }
    }
}

/// Who is told of it.
pub type Tell<'p> = &'p mut dyn FnMut(Progress<'_>);

/// Applies an approved plan: builds, watches, keeps or drops. `samples` are statements by which gain and harm are measured; those that write
/// are not run. Where pg_stat_statements counts, the statements that others run are watched too.
///
/// # Errors
/// [`ApplyError`] when nothing was begun, or the server was lost for good. What befalls single indexes stands in the report.
pub async fn apply<C, K>(
    connect: &C,
    script: &Script,
    approved: &str,
    samples: Vec<Query>,
    options: &Options,
    tell: Tell<'_>,
) -> Result<Report, ApplyError>
where
    C: AsyncFn() -> Result<K, Error>,
    K: Borrow<Client>,
{
    if script.digest() != approved {
        return Err(ApplyError::Approval { found: script.digest(), approved: approved.to_owned() });
    }
    Turn::take(connect, options).await?.apply(script, approved, samples, tell).await
}

/// Takes back what an apply built: the indexes of one plan, or all in the ledger; and what a crash has left.
///
/// # Errors
/// [`ApplyError`] when the server cannot be asked.
pub async fn rollback<C, K>(connect: &C, plan: Option<&str>, options: &Options) -> Result<Report, ApplyError>
where
    C: AsyncFn() -> Result<K, Error>,
    K: Borrow<Client>,
{
    Turn::take(connect, options).await?.rollback(plan).await
}
