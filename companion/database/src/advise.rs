//! From a database and a workload to a plan.

mod prepare;
mod writes;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use crate::Error;
use crate::catalog::Catalog;
use crate::plan::Plan;
use crate::planner::{Outcome, Planner, computes};
use crate::proof::{self, Observation, Plans, Proof, Seconds};
use crate::search::choose::Choice;
use crate::search::explore::Space;
use crate::workload::Query;
pub use prepare::{Prepared, Skipped, prepare};

/// Unless it is wanted, statements whose estimated costs are together beyond this are not run for proof: some ten seconds.
const MOST_COST: f64 = 2_500_000.0;
/// Nor when they take longer than this together.
const MOST_SECONDS: f64 = 30.0;
/// The share of the budget that is given out on foreseen sizes alone: they may be wrong by a few percent.
const FORESEEABLE: f64 = 0.9;
/// Rounds of proof at most, and seconds after which none is begun.
const PROOFS: usize = 6;
const PROOF_SECONDS: u64 = 120;
/// A statement that becomes slower counts as if it had become so many times as slow: that is not to be had for any gain.
const HARM: f64 = 1000.0;

/// Progress: what is done, how far, of how much.
pub type Progress<'p> = &'p mut dyn FnMut(&str, usize, usize);

/// Whether indexes are built for proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prove {
    /// Where nobody else is connected, and the statements do not take long.
    #[default]
    Auto,
    /// In any case: writers wait meanwhile.
    Always,
    /// Never.
    Never,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes that all new indexes may take together.
    pub budget: f64,
    /// Whether they are built for proof.
    pub prove: Prove,
}

/// Advises: reads, searches, and where it is permitted proves.
///
/// # Errors
/// When the connection is lost, or the server refuses what it must permit.
pub async fn advise(
    client: &Client,
    catalog: &Catalog,
    workload: Vec<Query>,
    options: Options,
    progress: Progress<'_>,
) -> Result<Plan, Error> {
    // What is asked and run here is no part of what the database is asked. Who may not say so is counted.
    drop(client.batch_execute("SET pg_stat_statements.track = 'none'").await);
    let plan = uncounted(client, catalog, workload, options, progress).await;
    drop(client.batch_execute("RESET pg_stat_statements.track").await);
    plan
}

async fn uncounted(
    client: &Client,
    catalog: &Catalog,
    workload: Vec<Query>,
    options: Options,
    progress: Progress<'_>,
) -> Result<Plan, Error> {
    let mut planner = Planner::new(client, catalog);
    let foreseeable = options.budget * FORESEEABLE;
    let mut prepared = prepare(client, catalog, &mut planner, workload, foreseeable, progress).await?;
    let base = prepared.atoms.base();
    let mut choice = prepared.space.settle(&mut planner, &mut prepared.atoms).await?;
    let mut proof = None;
    let unproven = match before(client, catalog, &prepared, base, options.prove).await? {
        Ok(before) => {
            prepared.reweigh(&before, base);
            // What is built is measured, and what is too much is dropped.
            prepared.space.budget = options.budget;
            let proven =
                prove(client, &mut planner, &mut prepared, &before, catalog.version, progress).await?;
            choice = proven.0;
            proof = Some(proven.1);
            None
        }
        Err(reason) => {
            choice = prepared.without_failures(client, &mut planner, choice).await?;
            Some(reason)
        }
    };
    let mut after = costs(&mut planner, &prepared.space, &choice.set).await?;
    planner.reset().await?;
    // What the planner said of the real indexes is truer than what it says of hypothetical ones.
    for seen in proof.iter().flat_map(|proof| &proof.seen) {
        let kept =
            seen.built.is_superset(&choice.set) && seen.used.iter().all(|index| choice.set.contains(index));
        if let Some(outcome) = after.get_mut(seen.query).filter(|_| kept) {
            *outcome = Outcome { cost: seen.estimate, used: seen.used.clone(), writes: outcome.writes };
        }
    }
    let found = Found {
        choice,
        after,
        proof,
        unproven,
        asked: planner.asked(),
        hypothetical: planner.hypothetical(),
    };
    Ok(Plan::new(catalog, prepared, found, options.budget))
}

/// What was found out.
pub struct Found {
    /// The choice.
    pub choice: Choice,
    /// Each statement's cost with it, and what its plan uses.
    pub after: Vec<Outcome>,
    /// What was measured.
    pub proof: Option<Proof>,
    /// Why nothing was.
    pub unproven: Option<String>,
    /// Questions to the planner.
    pub asked: u64,
    /// The planner answered with hypothetical indexes.
    pub hypothetical: bool,
}

async fn costs(
    planner: &mut Planner<'_>,
    space: &Space,
    set: &BTreeSet<usize>,
) -> Result<Vec<Outcome>, Error> {
    let chosen: Vec<usize> = set.iter().copied().collect();
    let mut outcomes = Vec::new();
    for (number, planned) in space.queries.iter().enumerate() {
        outcomes.push(planner.cost(number, planned, &space.candidates, &space.sizes, &chosen).await?);
    }
    Ok(outcomes)
}

/// The statements' times as things are, or why they are not taken.
async fn before(
    client: &Client,
    catalog: &Catalog,
    prepared: &Prepared,
    base: f64,
    prove: Prove,
) -> Result<Result<Seconds, String>, Error> {
    if prove == Prove::Never {
        return Ok(Err("it was not wanted (--prove never)".into()));
    }
    if prepared.space.candidates.is_empty() || base <= 0.0 {
        return Ok(Err("there is nothing to prove".into()));
    }
    let always = prove == Prove::Always;
    if let Some(reason) = proof::obstacle(client, catalog, &prepared.space, always).await? {
        return Ok(Err(reason));
    }
    let once: f64 = prepared.atoms.queries().iter().map(|known| known.base).sum();
    if !always && once > MOST_COST {
        return Ok(Err("running all statements would take long; --prove always does it".into()));
    }
    let limit = if always { f64::INFINITY } else { MOST_SECONDS };
    let before = proof::baseline(client, &prepared.space.queries, limit).await?;
    Ok(before
        .ok_or_else(|| format!("running all statements takes over {MOST_SECONDS} s; --prove always does it")))
}

impl Prepared {
    /// What is not built for proof is at least computed: an expression that fails on a row would end the building of its index.
    async fn without_failures(
        &mut self,
        client: &Client,
        planner: &mut Planner<'_>,
        mut choice: Choice,
    ) -> Result<Choice, Error> {
        let mut computed = BTreeSet::new();
        loop {
            let mut failed = false;
            for index in choice.set.iter().filter(|index| !computed.contains(*index)) {
                let Some(candidate) = self.space.candidates.get(*index) else { continue };
                if computes(client, candidate).await? {
                    continue;
                }
                failed = true;
                if let Some(size) = self.space.sizes.get_mut(*index) {
                    *size = f64::INFINITY;
                }
            }
            if !failed {
                return Ok(choice);
            }
            computed.append(&mut choice.set);
            choice = self.space.settle(planner, &mut self.atoms).await?;
        }
    }

    /// Weighs statements by half by their share of estimated cost, by half by their share of measured time: each alone misleads.
    fn reweigh(&mut self, before: &Seconds, base: f64) {
        let weight = |number: usize| self.space.queries.get(number).map_or(0.0, |one| one.query.weight);
        let seconds: f64 = before.iter().map(|(number, seconds)| weight(*number) * seconds).sum();
        for number in 0..self.space.queries.len() {
            let cost = self.atoms.queries().get(number).map_or(1.0, |known| known.base).max(1e-9);
            let time = before.get(&number).copied().unwrap_or(0.0) / (cost * seconds.max(1e-9));
            self.atoms.weigh(number, weight(number) * (0.5 / base + 0.5 * time));
        }
        self.space.upkeep.iter_mut().for_each(|upkeep| *upkeep /= base);
    }

    /// What a statement costs by what was seen: estimate and time in the proportion in which they make up its weight.
    fn worth(&self, seen: &Observation, before: &Seconds, base: f64) -> f64 {
        let Some(known) = self.atoms.queries().get(seen.query) else { return seen.estimate };
        let (Some(before), Some(after)) = (before.get(&seen.query).copied(), seen.seconds) else {
            return seen.estimate;
        };
        let weight = self.space.queries.get(seen.query).map_or(0.0, |one| one.query.weight);
        let by_cost = (0.5 * weight / base / known.weight.max(1e-300)).clamp(0.0, 1.0);
        let time = known.base * after / before.max(1e-9);
        let harm = if proof::slower(before, after) { HARM * known.base } else { 0.0 };
        by_cost * seen.estimate + (1.0 - by_cost) * time + harm
    }

    /// Learns from what was seen. Answers what the workload costs with what was kept.
    fn learn(&mut self, proof: &Proof, before: &Seconds, base: f64) -> f64 {
        for (index, bytes) in &proof.bytes {
            if let Some(size) = self.space.sizes.get_mut(*index) {
                #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
                let bytes = *bytes as f64;
                *size = bytes;
            }
        }
        for index in &proof.refused {
            if let Some(size) = self.space.sizes.get_mut(*index) {
                *size = f64::INFINITY;
            }
        }
        let mut costs: BTreeMap<usize, f64> = BTreeMap::new();
        for seen in &proof.seen {
            let cost = self.worth(seen, before, base);
            let built = |index: usize| seen.built.contains(&index);
            self.atoms.measure(seen.query, &built, &seen.used, seen.estimate, cost);
            if proof.kept.is_superset(&seen.used.iter().copied().collect()) {
                costs.insert(seen.query, cost);
            }
        }
        let known = self.atoms.queries().iter().enumerate();
        let statements: f64 = known
            .map(|(number, known)| known.weight * costs.get(&number).copied().unwrap_or(known.base))
            .sum();
        let upkeep = |index: &usize| self.space.upkeep.get(*index).copied().unwrap_or(0.0);
        statements + proof.kept.iter().map(upkeep).sum::<f64>()
    }
}

/// Chooses, builds, measures, and chooses again by what was seen, until the same is chosen again. The best of what was built is taken.
async fn prove(
    client: &Client,
    planner: &mut Planner<'_>,
    prepared: &mut Prepared,
    before: &Seconds,
    version: u32,
    progress: Progress<'_>,
) -> Result<(Choice, Proof), Error> {
    let base: f64 = prepared.space.queries.iter().map(|one| one.query.weight * one.base).sum();
    let start = tokio::time::Instant::now();
    let mut tried: Vec<BTreeSet<usize>> = Vec::new();
    let mut best: Option<(Choice, Proof)> = None;
    let mut rejected = BTreeMap::new();
    let mut plans = Plans::default();
    for round in 0..PROOFS {
        progress("building and running for proof, round", round, PROOFS);
        let choice = prepared.space.settle(planner, &mut prepared.atoms).await?;
        let late = start.elapsed().as_secs() >= PROOF_SECONDS;
        if best.is_some() && (late || tried.contains(&choice.set)) {
            break;
        }
        planner.reset().await?;
        let mut proof =
            proof::judge(client, &prepared.space, &choice.set, before, &mut plans, version).await?;
        let cost = prepared.learn(&proof, before, base);
        tracing::debug!(round, predicted = choice.cost, cost, "proof");
        rejected.append(&mut proof.rejected);
        tried.extend([choice.set, proof.kept.clone()]);
        if best.as_ref().is_none_or(|(best, _)| cost < best.cost) {
            let bytes = proof.kept.iter().filter_map(|index| prepared.space.sizes.get(*index)).sum();
            best = Some((Choice { set: proof.kept.clone(), cost, bytes }, proof));
        }
    }
    let (choice, mut proof) = best.ok_or(Error::Unexpected("the proof"))?;
    rejected.retain(|index, _| !choice.set.contains(index));
    proof.rejected = rejected;
    Ok((choice, proof))
}
