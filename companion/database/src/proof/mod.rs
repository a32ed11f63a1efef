//! Proof: the indexes are built in a transaction that is rolled back, the statements are run with and without them, and what slows a
//! statement down, or saves nothing that can be measured, is taken out.
//!
//! Estimated cost misleads: measured, a third less cost has been a tenth less time, with statements that became slower. The
//! transaction holds a lock on each table that keeps writers out until it ends; so by default it is made only where nobody else is connected
//! ([`obstacle`]). Statements that write are taken back one by one. Statements with parameters cannot be run, and are judged by cost alone.
//!
//! What it does not show: how a cold cache, other sessions or later data would change the times.

mod stopwatch;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::Error;
use crate::catalog::Catalog;
use crate::planner::{Planned, explain};
use crate::search::explore::Space;
pub use stopwatch::{Clock, Stopwatch};

/// A statement may take this much longer, by share and by seconds, before it counts as slower.
const SLOWER_SHARE: f64 = 1.1;
const SLOWER_SECONDS: f64 = 0.003;
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

/// What was measured.
#[derive(Debug, Default)]
pub struct Proof {
    /// Of statements that could be run, by number.
    pub timings: BTreeMap<usize, Timing>,
    /// Bytes that each index took, by candidate.
    pub bytes: BTreeMap<usize, u64>,
    /// Candidates that were taken out, and why.
    pub rejected: BTreeMap<usize, String>,
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
    version: u32,
) -> Result<Proof, Error> {
    let trial = Trial::begin(client).await?;
    let judged = trial.build_and_judge(space, set, before, version).await;
    if !client.is_closed() {
        trial.end().await?;
    }
    judged
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

    async fn build_and_judge(
        &self,
        space: &Space,
        set: &BTreeSet<usize>,
        before: &Seconds,
        version: u32,
    ) -> Result<Proof, Error> {
        let mut proof = Proof { clock: Some(self.watch.clock()), ..Proof::default() };
        let mut built: BTreeMap<usize, String> = BTreeMap::new();
        let mut computed = BTreeSet::new();
        for index in set {
            let Some(candidate) = space.candidates.get(*index) else { continue };
            let name = candidate.name();
            self.client.batch_execute(&candidate.create(&name, false)).await?;
            let full = format!(
                "{}.{}",
                crate::catalog::quoted(&candidate.table.schema),
                crate::catalog::quoted(&name)
            );
            let row = self.client.query_one("SELECT pg_relation_size($1::text::regclass)", &[&full]).await?;
            proof.bytes.insert(*index, u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0));
            built.insert(*index, full);
            if candidate.has_expression() {
                computed.insert(candidate.table.sql());
            }
        }
        for table in computed {
            self.client.batch_execute(&format!("ANALYZE {table}")).await?;
        }
        self.within_budget(space, &mut proof, &mut built).await?;
        for (number, planned) in space.queries.iter().enumerate() {
            let Some(before) = before.get(&number).copied() else { continue };
            let Some(mut after) = self.run(planned).await? else { continue };
            if slower(before, after) {
                after = self.cure(space, &mut proof, &mut built, number, Timing { before, after }).await?;
            }
            proof.timings.insert(number, Timing { before, after });
        }
        let mut needed = BTreeSet::new();
        for planned in &space.queries {
            needed.extend(self.used(planned, space, &built, version).await?);
        }
        for index in built.keys().filter(|index| !needed.contains(index)) {
            proof.rejected.insert(*index, "built, and no statement's plan uses it".into());
        }
        Ok(proof)
    }

    /// Drops what is least missed until the real sizes fit.
    async fn within_budget(
        &self,
        space: &Space,
        proof: &mut Proof,
        built: &mut BTreeMap<usize, String>,
    ) -> Result<(), Error> {
        loop {
            let total: u64 = built.keys().filter_map(|index| proof.bytes.get(index)).sum();
            #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
            if total as f64 <= space.budget {
                return Ok(());
            }
            // The one whose size was foreseen worst.
            let excess = |index: &usize| {
                let real = proof.bytes.get(index).copied().unwrap_or(0);
                #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
                let real = real as f64;
                real - space.sizes.get(*index).copied().unwrap_or(0.0)
            };
            let worst = built.keys().copied().max_by(|a, b| excess(a).total_cmp(&excess(b)));
            let Some(index) = worst else { return Ok(()) };
            if let Some(name) = built.remove(&index) {
                self.client.batch_execute(&format!("DROP INDEX {name}")).await?;
            }
            proof.rejected.insert(index, "larger than foreseen, and beyond the budget".into());
        }
    }

    /// A statement became slower: the index that it uses and is better without goes.
    async fn cure(
        &self,
        space: &Space,
        proof: &mut Proof,
        built: &mut BTreeMap<usize, String>,
        number: usize,
        Timing { before, after }: Timing,
    ) -> Result<f64, Error> {
        let Some(planned) = space.queries.get(number) else { return Ok(after) };
        let mut best: Option<(f64, usize)> = None;
        for index in self.used(planned, space, built, 0).await? {
            let Some(name) = built.get(&index) else { continue };
            self.client.batch_execute(&format!("SAVEPOINT portcullis_cure; DROP INDEX {name}")).await?;
            let without = self.run(planned).await?;
            self.client.batch_execute("ROLLBACK TO portcullis_cure; RELEASE portcullis_cure").await?;
            if let Some(without) = without
                && without < best.map_or(after, |(best, _)| best)
            {
                best = Some((without, index));
            }
        }
        let Some((without, index)) = best else { return Ok(after) };
        if let Some(name) = built.remove(&index) {
            self.client.batch_execute(&format!("DROP INDEX {name}")).await?;
        }
        let reason = format!(
            "measured: {} took {:.1} ms with it, {:.1} ms without",
            planned.query.name,
            after * 1e3,
            without.min(before) * 1e3
        );
        proof.rejected.insert(index, reason);
        Ok(without)
    }

    async fn used(
        &self,
        planned: &Planned,
        space: &Space,
        built: &BTreeMap<usize, String>,
        version: u32,
    ) -> Result<Vec<usize>, Error> {
        let messages = self.client.simple_query(&explain(&planned.query, version, "FORMAT TEXT")).await?;
        let plan: Vec<&str> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        let names = built.keys().filter_map(|index| Some((*index, space.candidates.get(*index)?.name())));
        Ok(names
            .filter(|(_, name)| plan.iter().any(|line| line.contains(name)))
            .map(|(index, _)| index)
            .collect())
    }
}

fn slower(before: f64, after: f64) -> bool {
    after > before * SLOWER_SHARE && after - before > SLOWER_SECONDS
}
