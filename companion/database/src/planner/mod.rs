//! What a statement would cost with given indexes.
//!
//! Where hypopg is installed, the planner itself is asked, with indexes that exist for this session alone ([`hypothetical`]).
//! Where it is not, the planner's plan without them is taken, and what an index would save at each scan of it is
//! reckoned with the planner's own formulas ([`model`]). So are inverted indexes everywhere, of which hypopg knows nothing ([`inverted`]).

mod buildable;
mod descent;
mod hypothetical;
mod inverted;
mod model;

use std::collections::HashMap;

use tokio_postgres::Client;

use crate::Error;
use crate::candidate::{Candidate, Method};
use crate::catalog::Catalog;
use crate::sql::Analysis;
use crate::workload::Query;
pub(crate) use buildable::computes;

/// What the planner says.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Estimated cost, in the planner's unit.
    pub cost: f64,
    /// Which of the given indexes it would use, by number, in order.
    pub used: Vec<usize>,
    /// Rows that a statement which writes is thought to write.
    pub writes: f64,
}

/// A statement that can be planned, and the candidates that concern it.
#[derive(Debug)]
pub struct Planned {
    /// The statement.
    pub query: Query,
    /// What it asks of each table.
    pub analysis: Analysis,
    /// Candidates on its tables, by number, in order.
    pub relevant: Vec<usize>,
    /// Those of them that were made for it: what it is asked about first.
    pub own: Vec<usize>,
    /// Estimated cost without any.
    pub base: f64,
    /// Rows that a call writes: as counted, else as the planner thinks.
    pub writes: f64,
}

enum Source<'c> {
    Hypothetical(hypothetical::Session<'c>),
    Model(model::Model<'c>),
}

/// Answers what statements would cost; no question whose answer follows from another's is asked.
pub struct Planner<'c> {
    source: Source<'c>,
    /// For each statement, what was asked and answered.
    known: HashMap<usize, Vec<(Vec<usize>, Outcome)>>,
    asked: u64,
}

impl<'c> Planner<'c> {
    /// Asks the planner by hypopg where it is installed, else reckons.
    #[must_use]
    pub fn new(client: &'c Client, catalog: &'c Catalog) -> Self {
        let source = match &catalog.hypopg {
            Some(_) => Source::Hypothetical(hypothetical::Session::new(client, catalog)),
            None => Source::Model(model::Model::new(client, catalog)),
        };
        Self { source, known: HashMap::new(), asked: 0 }
    }

    /// How many questions the planner was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Whether the server itself plans with the indexes.
    #[must_use]
    pub fn hypothetical(&self) -> bool {
        matches!(self.source, Source::Hypothetical(_))
    }

    /// The candidates that the server would build, and a reason for each that it would not.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn admissible(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, Error> {
        // Of inverted indexes it shows when they are measured.
        let (inverted, candidates) = candidates.into_iter().partition(|one| one.method == Method::Gin);
        let mut good: Vec<Candidate> = inverted;
        good.extend(match &mut self.source {
            Source::Hypothetical(session) => session.admissible(candidates).await?,
            Source::Model(model) => {
                buildable::buildable(model.client(), candidates, model::immutable).await?
            }
        });
        Ok(good)
    }

    /// What the statement would cost with these of the candidates; others of its table do not exist.
    ///
    /// # Errors
    /// When the server does not plan it.
    pub async fn cost(
        &mut self,
        number: usize,
        planned: &Planned,
        candidates: &[Candidate],
        sizes: &[f64],
        set: &[usize],
    ) -> Result<Outcome, Error> {
        let set: Vec<usize> =
            set.iter().copied().filter(|index| planned.relevant.binary_search(index).is_ok()).collect();
        let known = self.known.entry(number).or_default();
        if let Some((_, outcome)) = known.iter().find(|(asked, outcome)| answers(asked, outcome, &set)) {
            return Ok(outcome.clone());
        }
        let outcome = match &mut self.source {
            Source::Hypothetical(session) => session.cost(planned, candidates, sizes, &set).await?,
            Source::Model(model) => model.cost(number, planned, candidates, sizes, &set).await?,
        };
        self.asked = self.asked.saturating_add(1);
        known.push((set, outcome.clone()));
        Ok(outcome)
    }

    /// Forgets all hypothetical indexes.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn reset(&mut self) -> Result<(), Error> {
        match &mut self.source {
            Source::Hypothetical(session) => session.reset().await,
            Source::Model(_) => Ok(()),
        }
    }
}

/// Whether the answer for `asked` is that for `set` too: what was used is there, and nothing that was not there to be used. The cheapest of
/// many plans is the cheapest of some of them.
fn answers(asked: &[usize], outcome: &Outcome, set: &[usize]) -> bool {
    within(&outcome.used, set) && within(set, asked)
}

/// Whether all of `part` are in `whole`; both are in order.
fn within(part: &[usize], whole: &[usize]) -> bool {
    part.len() <= whole.len() && part.iter().all(|index| whole.binary_search(index).is_ok())
}

/// A statement as EXPLAIN takes it; parameters make it a generic plan.
pub(crate) fn explain(query: &Query, version: u32, options: &str) -> String {
    let text = &query.text;
    if query.parameters == 0 {
        return format!("EXPLAIN ({options}) {text}");
    }
    if version >= 160_000 {
        return format!("EXPLAIN (GENERIC_PLAN, {options}) {text}");
    }
    let nulls = vec!["NULL"; query.parameters].join(", ");
    format!(
        "SET plan_cache_mode = force_generic_plan; PREPARE portcullis AS {text}; \
         EXPLAIN ({options}) EXECUTE portcullis({nulls}); DEALLOCATE portcullis"
    )
}

/// `(cost=0.42..8.44 rows=1 width=4)`: the second.
pub(crate) fn cost_of(line: &str) -> Option<f64> {
    line.split_once("(cost=")?.1.split_once("..")?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_what_lies_between() {
        let outcome = Outcome { cost: 7.0, used: vec![3], writes: 0.0 };
        let answered = |set: &[usize]| answers(&[1, 3, 5], &outcome, set);
        assert!(answered(&[3]) && answered(&[1, 3]) && answered(&[1, 3, 5]));
        // Without what was used, or with what was not there, it may be another.
        assert!(!answered(&[]) && !answered(&[1, 5]) && !answered(&[3, 4]));
        let without = Outcome { cost: 9.0, used: Vec::new(), writes: 0.0 };
        assert!(answers(&[1, 3], &without, &[]) && !answers(&[1, 3], &without, &[2]));
    }
}
