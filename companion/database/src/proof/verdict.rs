//! The verdict on a set of indexes: built, every statement run, and what harms, is too large or is not used taken out.
//!
//! Where a statement takes far longer than its estimate promised, the planner did not know something, as it knows nothing of how the values
//! of an expression are distributed until there is an index on it: then the statement's own candidates are tried one by one. So are partial
//! indexes and expressions for statements that join: hypopg 1.3 shows them to the planner for the first table of a statement alone (the others'
//! predicates keep the number of the first).

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::SimpleQueryMessage;

use super::{Observation, Plans, Proof, Seconds, Timing, Trial};
use crate::Error;
use crate::catalog::quoted;
use crate::planner::{cost_of, explain};
use crate::search::explore::Space;

/// A statement may take this much longer, by share and by seconds, before it counts as slower.
const SLOWER_SHARE: f64 = 1.1;
const SLOWER_SECONDS: f64 = 0.003;
/// Times that a statement which seems slower is run in turn with and without.
const TURNS: usize = 3;
/// Indexes that are dropped because statements became slower, at most.
const MOST_CURES: usize = 12;
/// A statement that took so many times what was promised was misjudged,
const MISJUDGED: f64 = 4.0;
/// if its share of the time that is left is at least this.
const HEAVY: f64 = 0.02;
/// Candidates that are tried for it, of those that carry columns along and of those that do not.
const MOST_TRIED: usize = 2;

pub(super) struct Verdict<'t, 'c> {
    trial: &'t Trial<'c>,
    space: &'t Space,
    before: &'t Seconds,
    plans: &'t mut Plans,
    version: u32,
    /// Names of what is built, by candidate.
    built: BTreeMap<usize, String>,
    /// What each statement's plan uses now.
    uses: BTreeMap<usize, Vec<usize>>,
    proof: Proof,
}

/// Whether a statement became slower.
pub(crate) fn slower(before: f64, after: f64) -> bool {
    after > before * SLOWER_SHARE && after - before > SLOWER_SECONDS
}

impl<'t, 'c> Verdict<'t, 'c> {
    pub fn new(
        trial: &'t Trial<'c>,
        space: &'t Space,
        before: &'t Seconds,
        plans: &'t mut Plans,
        version: u32,
    ) -> Self {
        let proof = Proof { clock: Some(trial.watch.clock()), ..Proof::default() };
        Self { trial, space, before, plans, version, built: BTreeMap::new(), uses: BTreeMap::new(), proof }
    }

    pub async fn of(mut self, set: &BTreeSet<usize>) -> Result<Proof, Error> {
        let mut computed = BTreeSet::new();
        for index in set {
            self.build(*index).await?;
            computed.extend(
                self.space
                    .candidates
                    .get(*index)
                    .filter(|one| one.has_expression())
                    .map(|one| one.table.sql()),
            );
        }
        for table in computed {
            self.trial.client.batch_execute(&format!("ANALYZE {table}")).await?;
        }
        self.within_budget().await?;
        for number in 0..self.space.queries.len() {
            self.observe(number).await?;
        }
        self.cure().await?;
        self.misjudged().await?;
        let needed: BTreeSet<usize> = self.uses.values().flatten().copied().collect();
        let idle: Vec<usize> = self.built.keys().copied().filter(|index| !needed.contains(index)).collect();
        for index in idle {
            self.built.remove(&index);
            self.proof.rejected.insert(index, "built, and no statement's plan uses it".into());
        }
        self.proof.kept = self.built.keys().copied().collect();
        Ok(self.proof)
    }

    async fn build(&mut self, index: usize) -> Result<(), Error> {
        let Some(candidate) = self.space.candidates.get(index) else { return Ok(()) };
        let name = candidate.name();
        let client = self.trial.client;
        client.batch_execute("SAVEPOINT portcullis_build").await?;
        if let Err(error) = client.batch_execute(&candidate.create(&name, false)).await {
            let code = error.code().map_or("", |state| state.code());
            // No lock, no room, cancelled: that is not the index's fault.
            if error.is_closed() || code.starts_with("55") || code.starts_with("53") || code.starts_with("57")
            {
                return Err(error.into());
            }
            client.batch_execute("ROLLBACK TO portcullis_build; RELEASE portcullis_build").await?;
            self.proof.refused.insert(index);
            self.proof.rejected.insert(index, format!("the server does not build it: {error}"));
            return Ok(());
        }
        client.batch_execute("RELEASE portcullis_build").await?;
        let full = format!("{}.{}", quoted(&candidate.table.schema), quoted(&name));
        let size = "SELECT pg_relation_size($1::text::regclass)";
        let row = self.trial.client.query_one(size, &[&full]).await?;
        self.proof.bytes.insert(index, u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0));
        self.built.insert(index, full);
        Ok(())
    }

    async fn drop(&mut self, index: usize, reason: String) -> Result<(), Error> {
        if let Some(name) = self.built.remove(&index) {
            self.trial.client.batch_execute(&format!("DROP INDEX {name}")).await?;
        }
        self.proof.rejected.insert(index, reason);
        Ok(())
    }

    /// Plans and runs a statement with what is built.
    async fn observe(&mut self, number: usize) -> Result<Option<Timing>, Error> {
        let Some(planned) = self.space.queries.get(number) else { return Ok(None) };
        let (used, estimate) = self.plan(number).await?;
        let mut seconds = None;
        if let Some(before) = self.before.get(&number).copied() {
            // Without any of the indexes the plan is that which was run before.
            seconds = if used.is_empty() { Some(before) } else { self.plans.of(number, &used, estimate) };
            if seconds.is_none() {
                seconds = self.trial.run(planned).await?;
                if seconds.is_some_and(|after| slower(before, after)) {
                    seconds = self.in_turn(number, &used, before).await?;
                }
            }
            if let Some(after) = seconds {
                self.plans.took(number, &used, estimate, after);
                self.proof.timings.insert(number, Timing { before, after });
            }
        }
        let built = self.built.keys().copied().collect();
        self.uses.insert(number, used.clone());
        self.proof.seen.push(Observation { query: number, built, used, estimate, seconds });
        Ok(self.proof.timings.get(&number).copied())
    }

    /// With and without the indexes in turn, since what else the machine does makes everything slower for a while: what the statement takes
    /// with them, if it takes `before` without.
    async fn in_turn(&self, number: usize, used: &[usize], before: f64) -> Result<Option<f64>, Error> {
        let Some(planned) = self.space.queries.get(number) else { return Ok(None) };
        let names: Vec<&str> =
            used.iter().filter_map(|index| self.built.get(index)).map(String::as_str).collect();
        let (mut with, mut without) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..TURNS {
            let client = self.trial.client;
            client
                .batch_execute(&format!("SAVEPOINT portcullis_turn; DROP INDEX {}", names.join(", ")))
                .await?;
            let one = self.trial.run(planned).await?;
            client.batch_execute("ROLLBACK TO portcullis_turn; RELEASE portcullis_turn").await?;
            let (Some(one), Some(other)) = (one, self.trial.run(planned).await?) else { return Ok(None) };
            (without, with) = (without.min(one), with.min(other));
            if !slower(without, with) {
                break;
            }
        }
        Ok(Some(before * with / without.max(1e-9)))
    }

    /// Drops what is least missed until the real sizes fit.
    async fn within_budget(&mut self) -> Result<(), Error> {
        #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
        let real = |proof: &Proof, index: &usize| proof.bytes.get(index).copied().unwrap_or(0) as f64;
        loop {
            let total: f64 = self.built.keys().map(|index| real(&self.proof, index)).sum();
            if total <= self.space.budget {
                return Ok(());
            }
            // The one whose size was foreseen worst.
            let foreseen = |index: &usize| self.space.sizes.get(*index).copied().unwrap_or(0.0);
            let excess = |index: &usize| real(&self.proof, index) - foreseen(index);
            let worst = self.built.keys().copied().max_by(|a, b| excess(a).total_cmp(&excess(b)));
            let Some(index) = worst else { return Ok(()) };
            self.drop(index, "larger than foreseen, and beyond the budget".into()).await?;
        }
    }

    /// Where statements became slower, the index goes without which they are fastest; what used it is run again.
    async fn cure(&mut self) -> Result<(), Error> {
        for _ in 0..MOST_CURES {
            let ill = |(_, timing): &(&usize, &Timing)| slower(timing.before, timing.after);
            let worst = self.proof.timings.iter().filter(ill).max_by(|a, b| {
                let longer = |timing: &Timing| timing.after - timing.before;
                longer(a.1).total_cmp(&longer(b.1))
            });
            let Some((number, timing)) = worst.map(|(number, timing)| (*number, *timing)) else {
                return Ok(());
            };
            let Some(planned) = self.space.queries.get(number) else { return Ok(()) };
            let mut best: Option<(f64, usize)> = None;
            for index in self.uses.get(&number).cloned().unwrap_or_default() {
                let Some(name) = self.built.get(&index) else { continue };
                let client = self.trial.client;
                client.batch_execute(&format!("SAVEPOINT portcullis_cure; DROP INDEX {name}")).await?;
                let without = self.trial.run(planned).await?;
                client.batch_execute("ROLLBACK TO portcullis_cure; RELEASE portcullis_cure").await?;
                if let Some(without) = without
                    && without < best.map_or(f64::INFINITY, |(best, _)| best)
                {
                    best = Some((without, index));
                }
            }
            let Some((without, index)) = best else { return Ok(()) };
            let reason = format!(
                "measured: {} took {:.1} ms with it, {:.1} ms without",
                planned.query.name,
                timing.after * 1e3,
                without.min(timing.before) * 1e3
            );
            self.drop(index, reason).await?;
            let users = self.uses.iter().filter(|(_, used)| used.contains(&index));
            for number in users.map(|(number, _)| *number).collect::<Vec<_>>() {
                self.observe(number).await?;
            }
        }
        Ok(())
    }

    /// Where the planner was far off: what do the statement's own candidates do, each beside what is there?
    async fn misjudged(&mut self) -> Result<(), Error> {
        let weight = |number: &usize| self.space.queries.get(*number).map_or(0.0, |one| one.query.weight);
        let left: f64 = self.proof.timings.iter().map(|(number, timing)| weight(number) * timing.after).sum();
        let mut suspects = BTreeMap::new();
        for seen in &self.proof.seen {
            suspects.insert(seen.query, seen.estimate);
        }
        for (number, estimate) in suspects {
            let (Some(timing), Some(planned)) =
                (self.proof.timings.get(&number).copied(), self.space.queries.get(number))
            else {
                continue;
            };
            let promised = timing.before * estimate / planned.base.max(1e-9);
            let misjudged = timing.after >= MISJUDGED * promised;
            let joins = planned.analysis.joined > 1;
            if !(weight(&number) * timing.after > HEAVY * left && (misjudged || joins)) {
                continue;
            }
            for index in self.unknown_to_the_planner(number, joins) {
                if self.plans.try_once(number, index) {
                    self.attempt(number, index).await?;
                }
            }
        }
        Ok(())
    }

    /// The smallest candidates of a statement that the planner has not judged: on expressions, of which there are no statistics, and in joins partial
    /// ones.
    fn unknown_to_the_planner(&self, number: usize, joins: bool) -> Vec<usize> {
        let own = self.space.queries.get(number).map(|planned| planned.own.as_slice()).unwrap_or_default();
        let size = |index: &usize| self.space.sizes.get(*index).copied().unwrap_or(f64::INFINITY);
        let mut tried = Vec::new();
        for covering in [false, true] {
            let fits = |index: &usize| {
                !self.built.contains_key(index)
                    && size(index) <= self.space.budget
                    && self.space.candidates.get(*index).is_some_and(|one| {
                        let unknown = one.has_expression() || (joins && one.condition().is_some());
                        unknown && one.include.is_empty() != covering
                    })
            };
            let mut fitting: Vec<usize> = own.iter().copied().filter(fits).collect();
            fitting.sort_by(|a, b| size(a).total_cmp(&size(b)));
            tried.extend(fitting.into_iter().take(MOST_TRIED));
        }
        tried
    }

    async fn attempt(&mut self, number: usize, index: usize) -> Result<(), Error> {
        let Some(candidate) = self.space.candidates.get(index) else { return Ok(()) };
        let (uses, timings) = (self.uses.clone(), self.proof.timings.clone());
        self.trial.client.batch_execute("SAVEPOINT portcullis_attempt").await?;
        self.build(index).await?;
        if candidate.has_expression() {
            self.trial.client.batch_execute(&format!("ANALYZE {}", candidate.table.sql())).await?;
        }
        self.observe(number).await?;
        self.trial.client.batch_execute("ROLLBACK TO portcullis_attempt; RELEASE portcullis_attempt").await?;
        self.built.remove(&index);
        (self.uses, self.proof.timings) = (uses, timings);
        Ok(())
    }

    /// Which of the built indexes a statement's plan uses, and its estimated cost.
    async fn plan(&self, number: usize) -> Result<(Vec<usize>, f64), Error> {
        let Some(planned) = self.space.queries.get(number) else { return Ok((Vec::new(), 0.0)) };
        let statement = explain(&planned.query, self.version, "FORMAT TEXT");
        let messages = self.trial.client.simple_query(&statement).await?;
        let plan: Vec<&str> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        let estimate = plan.iter().find_map(|line| cost_of(line)).ok_or(Error::Unexpected("EXPLAIN"))?;
        let names =
            self.built.keys().filter_map(|index| Some((*index, self.space.candidates.get(*index)?.name())));
        let used = names.filter(|(_, name)| plan.iter().any(|line| line.contains(name)));
        Ok((used.map(|(index, _)| index).collect(), estimate))
    }
}
