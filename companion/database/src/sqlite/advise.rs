//! Which indexes serve a workload, measured on a copy.
//!
//! A statement's candidates are built on the copy, and SQLite is asked which it uses; what the statement then takes is counted in steps of SQLite's
//! machine, which are the same on every machine. Sets are chosen within the budget as for PostgreSQL ([`crate::search`]), built, and every
//! statement is counted again: what no plan uses, or what makes one slower, is taken out.
//!
//! Limits: 2 GB; statements with parameters cannot be run and are left out; what is not SQL to the PostgreSQL parser is left out too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::SqliteError;
use super::copy::Copy;
use crate::advise::Skipped;
use crate::candidate::{Candidate, Method, generate};
use crate::catalog::quoted;
use crate::search::Atoms;
use crate::search::choose::{Problem, choose};
use crate::sql::{Key, analyze};
use crate::workload::Query;

/// Candidates of one statement that are built.
const MOST: usize = 24;
/// Times that a statement is counted without what it used before.
const ALTERNATIVES: usize = 2;
/// What a written row costs in each index, in steps.
const INSERTION: f64 = 20.0;
/// A statement may take this much longer before it counts as slower.
const SLOWER: f64 = 1.05;

/// What is advised.
#[derive(Debug, Serialize)]
pub struct Advice {
    /// Indexes to build.
    pub indexes: Vec<Index>,
    /// Steps of the workload with them, as a share of those without.
    pub steps: f64,
    /// Bytes that they take.
    pub bytes: f64,
    /// Statements that were left out.
    pub skipped: Vec<Skipped>,
}

/// An index to build.
#[derive(Debug, Serialize)]
pub struct Index {
    /// The statement.
    pub create: String,
    /// Bytes as built.
    pub bytes: f64,
    /// Statements that use it: name, steps before, steps after.
    pub serves: Vec<(String, f64, f64)>,
}

struct Known {
    query: Query,
    base: f64,
    own: Vec<usize>,
    writes: BTreeSet<u32>,
}

struct Search {
    copy: Copy,
    candidates: Vec<Candidate>,
    sizes: Vec<f64>,
    queries: Vec<Known>,
    atoms: Atoms,
    skipped: Vec<Skipped>,
}

/// Advises on the database in a file, which is only read.
///
/// # Errors
/// [`SqliteError`] when it cannot be read or copied.
pub fn advise(path: &Path, workload: Vec<Query>, budget: f64) -> Result<Advice, SqliteError> {
    let copy = Copy::of(path)?;
    let mut search = Search {
        copy,
        candidates: Vec::new(),
        sizes: Vec::new(),
        queries: Vec::new(),
        atoms: Atoms::default(),
        skipped: Vec::new(),
    };
    search.read(workload)?;
    for number in 0..search.queries.len() {
        search.ask(number)?;
    }
    search.conclude(budget)
}

impl Search {
    fn read(&mut self, workload: Vec<Query>) -> Result<(), SqliteError> {
        let catalog = self.copy.catalog()?;
        // A name is made of the definition: what stands there already was advised before.
        let standing = self.copy.names()?;
        let texts: Vec<&str> = workload.iter().map(|query| query.text.as_str()).collect();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let analyses = analyze(&catalog, &texts);
        for (query, analysis) in workload.into_iter().zip(analyses) {
            let skipped = |reason: String| Skipped { name: query.name.clone(), reason };
            let analysis = match analysis {
                Ok(_) if query.parameters > 0 || query.text.contains('?') => {
                    self.skipped.push(skipped("it has parameters, and cannot be run; put values in".into()));
                    continue;
                }
                Ok(analysis) => analysis,
                Err(error) => {
                    self.skipped.push(skipped(error.to_string()));
                    continue;
                }
            };
            let base = match self.copy.steps(&query.text) {
                Ok(base) => base,
                Err(error) => {
                    self.skipped.push(skipped(error.to_string()));
                    continue;
                }
            };
            let mut own = Vec::new();
            let new = |candidate: &Candidate| !standing.contains(&candidate.name());
            for candidate in generate(&analysis.accesses, false, None).filter(possible).filter(new).take(MOST)
            {
                let definition = definition(&candidate);
                let next = self.candidates.len();
                let number = *numbers.entry(definition).or_insert(next);
                if number == next {
                    self.candidates.push(candidate);
                    self.sizes.push(f64::INFINITY);
                }
                if !own.contains(&number) {
                    own.push(number);
                }
            }
            let writes = analysis.accesses.iter().filter(|access| access.written.is_some());
            let writes = writes.map(|access| access.table.oid).collect();
            self.atoms.query(query.weight, base);
            self.queries.push(Known { query, base, own, writes });
        }
        Ok(())
    }

    /// What a statement would use of its candidates, and what it takes then.
    fn ask(&mut self, number: usize) -> Result<(), SqliteError> {
        let mut set: Vec<usize> = self.queries.get(number).map(|known| known.own.clone()).unwrap_or_default();
        for _ in 0..=ALTERNATIVES {
            if set.is_empty() {
                break;
            }
            let mut built = Vec::new();
            for index in &set {
                match self.build(*index) {
                    Ok(()) => built.push(*index),
                    // What may change its answer is no key: such a candidate is not for SQLite.
                    Err(error) => tracing::debug!(index = self.name(*index), %error, "not built"),
                }
            }
            set = built;
            let (used, steps) = self.count(number, &set)?;
            for index in &set {
                self.drop(*index)?;
            }
            self.atoms.learn(number, &used, steps);
            if used.is_empty() {
                break;
            }
            set.retain(|index| !used.contains(index));
        }
        Ok(())
    }

    fn name(&self, index: usize) -> String {
        self.candidates.get(index).map(Candidate::name).unwrap_or_default()
    }

    fn build(&mut self, index: usize) -> Result<(), SqliteError> {
        let Some(candidate) = self.candidates.get(index) else { return Ok(()) };
        let before = self.copy.bytes()?;
        // Statistics of this index alone.
        let name = quoted(&candidate.name());
        let statement = create(candidate);
        self.copy.connection.execute_batch(&format!("{statement}; ANALYZE {name}"))?;
        if let Some(size) = self.sizes.get_mut(index) {
            *size = (self.copy.bytes()? - before).max(4096.0);
        }
        Ok(())
    }

    fn drop(&self, index: usize) -> Result<(), SqliteError> {
        Ok(self
            .copy
            .connection
            .execute_batch(&format!("DROP INDEX IF EXISTS {}", quoted(&self.name(index))))?)
    }

    /// Which of these a statement uses, and its steps.
    fn count(&self, number: usize, set: &[usize]) -> Result<(Vec<usize>, f64), SqliteError> {
        let Some(known) = self.queries.get(number) else { return Ok((Vec::new(), 0.0)) };
        let plan = self.copy.plan(&known.query.text)?;
        let names = |index: &usize| {
            let name = self.name(*index);
            plan.iter().any(|line| line.split(' ').any(|word| word == name))
        };
        let mut used: Vec<usize> = set.iter().copied().filter(names).collect();
        used.sort_unstable();
        Ok((used, self.copy.steps(&known.query.text)?))
    }

    fn conclude(mut self, budget: f64) -> Result<Advice, SqliteError> {
        let upkeep: Vec<f64> = self
            .candidates
            .iter()
            .map(|candidate| {
                let writers = self.queries.iter().filter(|known| known.writes.contains(&candidate.table.oid));
                writers.map(|known| known.query.weight * INSERTION).sum::<f64>() + 1.0
            })
            .collect();
        let problem = Problem { atoms: &self.atoms, sizes: &self.sizes, upkeep: &upkeep, budget };
        let mut set: Vec<usize> = choose(problem).set.into_iter().collect();
        for index in set.clone() {
            self.build(index)?;
        }
        let counted = loop {
            let counted = (0..self.queries.len())
                .map(|number| self.count(number, &set))
                .collect::<Result<Vec<_>, _>>()?;
            // A write that takes longer uses none of them: that is its upkeep, which was weighed before.
            let slower =
                self.queries.iter().zip(&counted).filter(|(known, (_, steps))| *steps > known.base * SLOWER);
            let harmful = slower.filter_map(|(_, (used, _))| used.first().copied()).next();
            let needed: BTreeSet<usize> = counted.iter().flat_map(|(used, _)| used).copied().collect();
            let idle = set.iter().copied().find(|index| !needed.contains(index));
            match harmful.or(idle) {
                Some(index) => {
                    self.drop(index)?;
                    set.retain(|other| *other != index);
                }
                None => break counted,
            }
        };
        Ok(self.tell(&set, &counted))
    }

    fn tell(self, set: &[usize], counted: &[(Vec<usize>, f64)]) -> Advice {
        let weighed = |steps: &dyn Fn(&Known, f64) -> f64| -> f64 {
            self.queries
                .iter()
                .zip(counted)
                .map(|(known, (_, after))| known.query.weight * steps(known, *after))
                .sum()
        };
        let (before, after) = (weighed(&|known, _| known.base), weighed(&|_, after| after));
        let size = |index: usize| self.sizes.get(index).copied().unwrap_or(0.0);
        let indexes = set.iter().filter_map(|index| {
            let users = self.queries.iter().zip(counted).filter(|(_, (used, _))| used.contains(index));
            Some(Index {
                create: create(self.candidates.get(*index)?),
                bytes: size(*index),
                serves: users
                    .map(|(known, (_, after))| (known.query.name.clone(), known.base, *after))
                    .collect(),
            })
        });
        Advice {
            indexes: indexes.collect(),
            steps: if before > 0.0 { after / before } else { 1.0 },
            bytes: set.iter().map(|index| size(*index)).sum(),
            skipped: self.skipped,
        }
    }
}

/// SQLite has B-trees alone, and needs no operator class to find prefixes. Nulls stand where they stand.
fn possible(candidate: &Candidate) -> bool {
    candidate.method == Method::Btree && candidate.class.is_none()
}

/// What comes behind `ON`. What PostgreSQL includes is a further key.
fn definition(candidate: &Candidate) -> String {
    let mut keys: Vec<String> = Vec::new();
    for key in &candidate.keys {
        let sql = match &key.key {
            Key::Column(name) => quoted(name),
            Key::Expression { sql, .. } => sql.clone(),
        };
        keys.push(if key.descending { format!("{sql} DESC") } else { sql });
    }
    keys.extend(candidate.include.iter().map(|name| quoted(name)));
    let condition = candidate.condition().map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
    format!("{} ({}){condition}", quoted(&candidate.table.name), keys.join(", "))
}

fn create(candidate: &Candidate) -> String {
    format!("CREATE INDEX {} ON {}", quoted(&candidate.name()), definition(candidate))
}
