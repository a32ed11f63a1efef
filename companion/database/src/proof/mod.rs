//! Proof: the indexes are built in a transaction that is rolled back, the statements are run with and without them, and what slows a
//! statement down, or saves nothing that can be measured, is taken out.
//!
//! Estimated cost misleads: measured, a third less cost has been a tenth less time, with statements that became slower. The
//! transaction holds a lock on each table that keeps writers out until it ends; so by default it is made only where nobody else is connected
//! ([`obstacle`]). Statements that write are taken back one by one. Statements with parameters cannot be run, and are judged by cost alone.
//!
//! What it does not show: how a cold cache, other sessions or later data would change the times.

mod stopwatch;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokio_postgres::Client;

use crate::Error;
use crate::candidate::Candidate;
use crate::catalog::{Catalog, quoted};
use crate::planner::Planned;
use crate::search::explore::Space;
pub use stopwatch::{Clock, Stopwatch, same_machine};
use verdict::Verdict;
pub(crate) use verdict::slower;

/// A statement that takes longer is not run again.
const ONCE_SECONDS: f64 = 1.0;
/// Runs of a short statement; the fastest counts.
const RUNS: usize = 3;
/// Seconds that one statement may take.
const STATEMENT_SECONDS: u32 = 60;

/// A statement's time.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Timing {
    /// Seconds without the indexes.
    pub before: f64,
    /// Seconds with them.
    pub after: f64,
}

/// A statement's real plan and time, with real indexes.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The statement.
    pub query: usize,
    /// Candidates that were there.
    pub built: BTreeSet<usize>,
    /// Those that its plan used, in order.
    pub used: Vec<usize>,
    /// What the planner thought of it.
    pub estimate: f64,
    /// How long it took, where it could be run.
    pub seconds: Option<f64>,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Proof {
    /// Candidates that were there in the end.
    pub kept: BTreeSet<usize>,
    /// Of statements that could be run, by number.
    pub timings: BTreeMap<usize, Timing>,
    /// Bytes that each index took, by candidate.
    pub bytes: BTreeMap<usize, u64>,
    /// Candidates that were taken out, and why.
    pub rejected: BTreeMap<usize, String>,
    /// Those of them that the server does not build.
    pub refused: BTreeSet<usize>,
    /// All that was seen, the last of a statement last.
    pub seen: Vec<Observation>,
    /// How time was taken.
    pub clock: Option<Clock>,
}

/// Why the indexes cannot be built here for proof, if they cannot.
///
/// # Errors
/// When the server refuses to tell.
pub async fn obstacle(
    client: &Client,
    catalog: &Catalog,
    space: &Space,
    always: bool,
) -> Result<Option<String>, Error> {
    if catalog.standby {
        return Ok(Some("the server is a standby and only reads".into()));
    }
    let tables: BTreeSet<u32> = space.candidates.iter().map(|candidate| candidate.table.oid).collect();
    let tables: Vec<u32> = tables.into_iter().collect();
    let foreign = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = ANY ($1) AND NOT pg_has_role(c.relowner, 'USAGE') LIMIT 1";
    if let Some(row) = client.query_opt(foreign, &[&tables]).await? {
        let table: String = row.try_get(0)?;
        return Ok(Some(format!("the role does not own {table}")));
    }
    if always {
        return Ok(None);
    }
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                  AND backend_type = 'client backend'";
    let others: i64 = client.query_one(others, &[]).await?.try_get(0)?;
    Ok((others > 0).then(|| format!("{others} other sessions are connected, and building locks writers out")))
}

/// Seconds of each statement, by number.
pub type Seconds = BTreeMap<usize, f64>;

/// What each plan of a statement took, by the indexes that it uses and by its estimate: the same plan is not run in every round, and what else
/// the machine does at the time does not make it look better or worse than it was.
#[derive(Debug, Default)]
pub struct Plans {
    took: HashMap<(usize, Vec<usize>, u64), f64>,
    tried: HashSet<(usize, usize)>,
}

impl Plans {
    fn key(query: usize, used: &[usize], estimate: f64) -> (usize, Vec<usize>, u64) {
        (query, used.to_vec(), estimate.to_bits())
    }

    fn of(&self, query: usize, used: &[usize], estimate: f64) -> Option<f64> {
        self.took.get(&Self::key(query, used, estimate)).copied()
    }

    fn took(&mut self, query: usize, used: &[usize], estimate: f64, seconds: f64) {
        self.took.insert(Self::key(query, used, estimate), seconds);
    }

    /// Whether a candidate was not tried for a statement before; it is now.
    fn try_once(&mut self, query: usize, index: usize) -> bool {
        self.tried.insert((query, index))
    }
}

/// Runs every statement as things are. Those that fail or take too long are left out; `None` when all together take longer than `limit`
/// seconds.
///
/// # Errors
/// When the connection is lost.
pub async fn baseline(client: &Client, queries: &[Planned], limit: f64) -> Result<Option<Seconds>, Error> {
    let trial = Trial::begin(client).await?;
    let start = trial.watch.read();
    let mut before = Seconds::new();
    let mut within = true;
    for (number, planned) in queries.iter().enumerate() {
        if let Some(seconds) = trial.run(planned).await? {
            before.insert(number, seconds);
        }
        within &= trial.watch.since(start) <= limit;
        if !within {
            break;
        }
    }
    trial.end().await?;
    Ok(within.then_some(before))
}

/// Builds the chosen candidates, runs the statements, and takes out what harms or is not used.
///
/// # Errors
/// When the connection is lost, or an index cannot be built.
pub async fn judge(
    client: &Client,
    space: &Space,
    set: &BTreeSet<usize>,
    before: &Seconds,
    plans: &mut Plans,
    version: u32,
) -> Result<Proof, Error> {
    let trial = Trial::begin(client).await?;
    let judged = Verdict::new(&trial, space, before, plans, version).of(set).await;
    if !client.is_closed() {
        trial.end().await?;
    }
    judged
}

/// Bytes that an index takes: built, looked at, and rolled back.
///
/// # Errors
/// When it cannot be built.
pub async fn bytes(client: &Client, candidate: &Candidate) -> Result<f64, Error> {
    client.batch_execute("BEGIN").await?;
    let size = async {
        client.batch_execute(&candidate.create("portcullis_size", false)).await?;
        let size = "SELECT pg_relation_size($1::text::regclass)::float8";
        let name = format!("{}.portcullis_size", quoted(&candidate.table.schema));
        Ok(client.query_one(size, &[&name]).await?.try_get(0)?)
    };
    let size = size.await;
    client.batch_execute("ROLLBACK").await?;
    size
}

/// A transaction in which statements run and indexes are built, and which is rolled back.
struct Trial<'c> {
    client: &'c Client,
    watch: Stopwatch,
}

impl<'c> Trial<'c> {
    async fn begin(client: &'c Client) -> Result<Trial<'c>, Error> {
        let watch = Stopwatch::of(client).await?;
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"
            ))
            .await?;
        Ok(Trial { client, watch })
    }

    async fn end(self) -> Result<(), Error> {
        Ok(self.client.batch_execute("ROLLBACK").await?)
    }

    /// The fastest of some runs; `None` when it cannot be run.
    async fn run(&self, planned: &Planned) -> Result<Option<f64>, Error> {
        if planned.query.parameters > 0 {
            return Ok(None);
        }
        let mut fastest: Option<f64> = None;
        for _ in 0..RUNS {
            self.client.batch_execute("SAVEPOINT portcullis_run").await?;
            let start = self.watch.read();
            let done = self.client.simple_query(&planned.query.text).await;
            let seconds = self.watch.since(start);
            self.client.batch_execute("ROLLBACK TO portcullis_run; RELEASE portcullis_run").await?;
            match done {
                Ok(_) => fastest = Some(fastest.map_or(seconds, |best| best.min(seconds))),
                Err(error) if error.is_closed() => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(statement = planned.query.name, %error, "not run");
                    return Ok(None);
                }
            }
            if seconds > ONCE_SECONDS {
                break;
            }
        }
        Ok(fastest)
    }
}
