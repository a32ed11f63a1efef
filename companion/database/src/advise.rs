//! From a database and a workload to a plan.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use crate::Error;
use crate::candidate::{Candidate, generate};
use crate::catalog::Catalog;
use crate::plan::Plan;
use crate::planner::{Outcome, Planned, Planner};
use crate::proof::{self, Proof, Seconds};
use crate::search::Atoms;
use crate::search::choose::Choice;
use crate::search::explore::Space;
use crate::size::{self, Sampler};
use crate::sql::{Analysis, analyze};
use crate::workload::Query;

/// What an insertion into an index costs, in the planner's unit.
const INSERTION: f64 = 0.2;
/// What an index costs merely by being there, as a share of the workload's cost for each share of the budget that it takes.
const PRESENCE: f64 = 0.01;
/// Unless it is wanted, statements whose estimated costs are together beyond this are not run for proof: some ten seconds.
const MOST_COST: f64 = 2_500_000.0;
/// Nor when they take longer than this together.
const MOST_SECONDS: f64 = 30.0;
/// The share of the budget that is given out on foreseen sizes alone: they may be wrong by a few percent.
const FORESEEABLE: f64 = 0.9;
/// Rounds of proof at most.
const PROOFS: usize = 4;

/// A statement that is left out, and why.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What was found before anything was chosen.
pub struct Prepared {
    /// Statements and candidates.
    pub space: Space,
    /// What is known of them.
    pub atoms: Atoms,
    /// Statements that were left out.
    pub skipped: Vec<Skipped>,
    /// Sizes as they were foreseen.
    pub foreseen: Vec<f64>,
}

/// Progress: what is done, how far, of how much.
pub type Progress<'p> = &'p mut dyn FnMut(&str, usize, usize);

/// Reads the workload, makes candidates and asks the planner the first questions.
///
/// # Errors
/// When the connection is lost.
pub async fn prepare(
    client: &Client,
    catalog: &Catalog,
    planner: &mut Planner<'_>,
    workload: Vec<Query>,
    budget: f64,
    progress: Progress<'_>,
) -> Result<Prepared, Error> {
    let mut skipped = Vec::new();
    let mut read = Vec::new();
    let texts: Vec<&str> = workload.iter().map(|query| query.text.as_str()).collect();
    let analyses = analyze(catalog, &texts);
    for (query, analysis) in workload.into_iter().zip(analyses) {
        match analysis {
            Ok(analysis) if analysis.explainable => read.push((query, analysis)),
            Ok(_) => {
                skipped.push(Skipped { name: query.name, reason: "neither reads nor writes rows".into() })
            }
            Err(error) => skipped.push(Skipped { name: query.name, reason: error.to_string() }),
        }
    }
    let mut all: BTreeMap<String, Candidate> = BTreeMap::new();
    let mut made: Vec<BTreeSet<String>> = Vec::new();
    for (_, analysis) in &read {
        let mut own = BTreeSet::new();
        for candidate in generate(&analysis.accesses) {
            own.insert(candidate.definition());
            all.insert(candidate.definition(), candidate);
        }
        made.push(own);
    }
    progress("weighing candidates", 0, all.len());
    let candidates = planner.admissible(all.into_values().collect()).await?;
    let mut sampler = Sampler::new(client);
    let samples = sampler.samples(&candidates).await?;
    let mut sizes = Vec::new();
    for candidate in &candidates {
        let share = sampler.share(candidate).await?;
        let none = size::Sample::default();
        sizes.push(size::of(candidate, samples.get(&candidate.table.oid).unwrap_or(&none), share));
    }
    let queries = plannable(planner, read.into_iter().zip(made).collect(), &candidates, &mut skipped).await?;
    let mut space = Space { queries, upkeep: vec![0.0; candidates.len()], candidates, sizes, budget };
    let atoms =
        space.begin(planner, &mut |done, of| progress("asking the planner, statement", done, of)).await?;
    space.upkeep = upkeep(&space, &atoms);
    let foreseen = space.sizes.clone();
    Ok(Prepared { space, atoms, skipped, foreseen })
}

/// Statements that the server plans, with the candidates on their tables.
async fn plannable(
    planner: &mut Planner<'_>,
    read: Vec<((Query, Analysis), BTreeSet<String>)>,
    candidates: &[Candidate],
    skipped: &mut Vec<Skipped>,
) -> Result<Vec<Planned>, Error> {
    let mut queries: Vec<Planned> = Vec::new();
    let definitions: Vec<String> = candidates.iter().map(Candidate::definition).collect();
    for ((query, analysis), made) in read {
        let tables: BTreeSet<u32> = analysis.accesses.iter().map(|access| access.table.oid).collect();
        let relevant =
            candidates.iter().enumerate().filter(|(_, candidate)| tables.contains(&candidate.table.oid));
        let relevant: Vec<usize> = relevant.map(|(index, _)| index).collect();
        let own = |index: &usize| definitions.get(*index).is_some_and(|definition| made.contains(definition));
        let planned =
            Planned { own: relevant.iter().copied().filter(own).collect(), relevant, query, analysis };
        match planner.cost(queries.len(), &planned, candidates, &[], &[]).await {
            Ok(_) => queries.push(planned),
            Err(Error::Database(error)) if error.is_closed() => return Err(Error::Database(error)),
            Err(error) => skipped.push(Skipped { name: planned.query.name, reason: error.to_string() }),
        }
    }
    Ok(queries)
}

/// What keeping each candidate costs: its part of the workload's writes, and a little for being there.
fn upkeep(space: &Space, atoms: &Atoms) -> Vec<f64> {
    let total = atoms.base();
    let written = |candidate: &Candidate| -> f64 {
        let concerned = space.queries.iter().filter(|planned| {
            planned
                .analysis
                .accesses
                .iter()
                .any(|access| access.written && access.table.oid == candidate.table.oid)
        });
        concerned.map(|planned| planned.query.weight * INSERTION).sum()
    };
    let each = space.candidates.iter().zip(&space.sizes);
    each.map(|(candidate, bytes)| written(candidate) + total * PRESENCE * (bytes / space.budget.max(1.0)))
        .collect()
}

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
    let mut planner = Planner::new(client, catalog);
    let foreseeable = options.budget * FORESEEABLE;
    let mut prepared = prepare(client, catalog, &mut planner, workload, foreseeable, progress).await?;
    let base = prepared.atoms.base();
    let mut choice = prepared.space.settle(&mut planner, &mut prepared.atoms, &BTreeSet::new()).await?;
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
        Err(reason) => Some(reason),
    };
    let after = costs(&mut planner, &prepared.space, &choice.set).await?;
    planner.reset().await?;
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
    /// Weighs statements by half by their share of estimated cost, by half by their share of measured time: each alone misleads.
    fn reweigh(&mut self, before: &Seconds, base: f64) {
        let weight =
            |number: &usize| self.space.queries.get(*number).map_or(0.0, |planned| planned.query.weight);
        let seconds: f64 = before.iter().map(|(number, seconds)| weight(number) * seconds).sum();
        for number in 0..self.space.queries.len() {
            let cost = self.atoms.queries().get(number).map_or(1.0, |known| known.base).max(1e-9);
            let time = before.get(&number).copied().unwrap_or(0.0) / (cost * seconds.max(1e-9));
            self.atoms.weigh(number, weight(&number) * (0.5 / base + 0.5 * time));
        }
        self.space.upkeep.iter_mut().for_each(|upkeep| *upkeep /= base);
    }
}

/// Chooses, builds, measures, and chooses again without what was rejected and with the sizes that were seen.
async fn prove(
    client: &Client,
    planner: &mut Planner<'_>,
    prepared: &mut Prepared,
    before: &Seconds,
    version: u32,
    progress: Progress<'_>,
) -> Result<(Choice, Proof), Error> {
    let mut barred = BTreeMap::new();
    let mut round = 0;
    loop {
        progress("building and running for proof, round", round, PROOFS);
        let out: BTreeSet<usize> = barred.keys().copied().collect();
        let mut choice = prepared.space.settle(planner, &mut prepared.atoms, &out).await?;
        planner.reset().await?;
        let mut proof = proof::judge(client, &prepared.space, &choice.set, before, version).await?;
        for (index, bytes) in &proof.bytes {
            if let Some(size) = prepared.space.sizes.get_mut(*index) {
                #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
                let bytes = *bytes as f64;
                *size = bytes;
            }
        }
        round += 1;
        let clean = proof.rejected.is_empty();
        barred.append(&mut proof.rejected.clone());
        if clean || round >= PROOFS {
            choice.set.retain(|index| !barred.contains_key(index));
            proof.rejected = barred;
            return Ok((choice, proof));
        }
    }
}
