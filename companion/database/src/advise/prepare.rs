//! What is found out before anything is chosen: statements read, candidates made and measured, first questions asked.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::{Progress, writes};
use crate::Error;
use crate::candidate::{Candidate, Method, generate};
use crate::catalog::Catalog;
use crate::planner::{Planned, Planner};
use crate::search::Atoms;
use crate::search::explore::{MANY, Space};
use crate::size::{self, Sampler};
use crate::sql::{Analysis, analyze};
use crate::workload::Query;

/// What an insertion into an index costs, in the planner's unit: some two microseconds.
const INSERTION: f64 = 0.7;
/// Where the workload does not tell what is written: while it runs, every row of the database is taken to be written anew, and an index
/// over all of them to cost this share of the workload.
const UNKNOWN_WRITES: f64 = 0.005;
/// An index over what is recent holds at most this share of the rows.
const RECENT: f64 = 0.35;
/// What an index costs merely by being there, as a share of the workload's cost for each share of the budget that it takes.
const PRESENCE: f64 = 0.002;

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
    /// How much of an entry each adds for a row that is written.
    pub entries: Vec<f64>,
}

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
        for candidate in generate(&analysis.accesses, read.len() > MANY, catalog.trigrams.as_deref()) {
            own.insert(candidate.definition());
            all.insert(candidate.definition(), candidate);
        }
        made.push(own);
    }
    progress("weighing candidates", 0, all.len());
    let candidates = planner.admissible(all.into_values().collect()).await?;
    let Measures { candidates, sizes, entries } = measures(client, candidates).await?;
    let queries = plannable(planner, read.into_iter().zip(made).collect(), &candidates, &mut skipped).await?;
    let mut space = Space { queries, upkeep: vec![0.0; candidates.len()], candidates, sizes, budget };
    let atoms =
        space.begin(planner, &mut |done, of| progress("asking the planner, statement", done, of)).await?;
    space.upkeep = upkeep(catalog, &space, &atoms, &entries);
    let foreseen = space.sizes.clone();
    Ok(Prepared { space, atoms, skipped, foreseen, entries })
}

/// Candidates, how large each would be, and what share of an insertion into its table it costs.
struct Measures {
    candidates: Vec<Candidate>,
    sizes: Vec<f64>,
    entries: Vec<f64>,
}

async fn measures(client: &Client, candidates: Vec<Candidate>) -> Result<Measures, Error> {
    let mut sampler = Sampler::new(client);
    let samples = sampler.samples(&candidates).await?;
    let none = size::Sample::default();
    let mut all = Measures { candidates: Vec::new(), sizes: Vec::new(), entries: Vec::new() };
    for candidate in candidates {
        if candidate.method == Method::Gin {
            if let Some(bytes) = size::gin(client, &candidate).await? {
                all.sizes.push(bytes);
                all.entries.push(insertions(&candidate));
                all.candidates.push(candidate);
            }
            continue;
        }
        let sample = samples.get(&candidate.table.oid).unwrap_or(&none);
        let share = sampler.share(&candidate, sample).await?;
        let recent = candidate.since.is_some();
        if (recent && share > RECENT) || !sample.computes(&candidate) {
            continue;
        }
        all.sizes.push(size::of(&candidate, sample, share));
        // What is inserted is recent.
        all.entries.push(insertions(&candidate) * if recent { 1.0 } else { share });
        all.candidates.push(candidate);
    }
    Ok(all)
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
        let own = |index: &usize| definitions.get(*index).is_some_and(|definition| made.contains(definition));
        let serves = |index: &usize| {
            own(index)
                || candidates
                    .get(*index)
                    .is_some_and(|one| analysis.accesses.iter().any(|a| one.may_serve(a)))
        };
        let relevant: Vec<usize> = (0..candidates.len()).filter(serves).collect();
        let own = relevant.iter().copied().filter(own).collect();
        let mut planned = Planned { own, relevant, query, analysis, base: 0.0, writes: 0.0 };
        match planner.cost(queries.len(), &planned, candidates, &[], &[]).await {
            Ok(outcome) => {
                planned.base = outcome.cost;
                planned.writes = planned.query.rows.unwrap_or(outcome.writes);
                queries.push(planned);
            }
            Err(Error::Database(error)) if error.is_closed() => return Err(Error::Database(error)),
            Err(error) => skipped.push(Skipped { name: planned.query.name, reason: error.to_string() }),
        }
    }
    Ok(queries)
}

/// How much of an insertion an index costs that holds all rows.
fn insertions(candidate: &Candidate) -> f64 {
    match candidate.method {
        Method::Btree if candidate.has_expression() => 1.5,
        Method::Btree => 1.0,
        // A range's summary is rarely changed, but it is read and unpacked for each row.
        Method::Brin { .. } => 0.5,
        // An entry for each thing that a value holds.
        Method::Gin => 6.0,
    }
}

/// What keeping each candidate costs: its part of the writes, and a little for being there. `entries` tells what share of its table's
/// rows are in each.
fn upkeep(catalog: &Catalog, space: &Space, atoms: &Atoms, entries: &[f64]) -> Vec<f64> {
    let total = atoms.base();
    let told = space.queries.iter().any(|planned| planned.analysis.writes);
    let rows: f64 = catalog.tables.iter().map(|table| table.rows).sum();
    let written = |candidate: &Candidate| -> f64 {
        if told {
            return INSERTION
                * space.queries.iter().map(|planned| writes::entries(candidate, planned)).sum::<f64>();
        }
        total * UNKNOWN_WRITES * candidate.table.rows / rows.max(1.0)
    };
    let each = space.candidates.iter().zip(&space.sizes).zip(entries);
    each.map(|((candidate, bytes), entries)| {
        written(candidate) * entries + total * PRESENCE * (bytes / space.budget.max(1.0))
    })
    .collect()
}
