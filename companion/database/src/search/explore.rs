//! What the planner is asked, so that the choice rests on its answers.

use std::collections::BTreeSet;

use super::Atoms;
use super::choose::{Choice, Problem, choose, fill};
use crate::Error;
use crate::candidate::Candidate;
use crate::planner::{Outcome, Planned, Planner};

/// What is searched: statements, candidates, and their sizes, all by number.
#[derive(Debug)]
pub struct Space {
    /// Statements that can be planned.
    pub queries: Vec<Planned>,
    /// Candidates.
    pub candidates: Vec<Candidate>,
    /// Bytes of each.
    pub sizes: Vec<f64>,
    /// What keeping each costs.
    pub upkeep: Vec<f64>,
    /// Bytes that all may have together.
    pub budget: f64,
}

/// A statement whose share of the cost is below this is asked less.
const SMALL: f64 = 0.0005;
/// Workloads of more statements are asked less of each: planning is what advice costs.
pub(crate) const MANY: usize = 40;

/// How much is asked.
struct Effort {
    /// Candidates of up to these shares of the budget are offered.
    parts: &'static [f64],
    /// Of up to so many indexes that are used together it is asked what all but one do, and each alone; 0 for neither.
    together: usize,
    /// Times that a statement is asked what else it would use, without what it used before.
    alternatives: usize,
    /// Rounds of choosing and asking at most.
    rounds: usize,
    /// Candidates of up to these shares are offered beside the choice.
    beside: &'static [f64],
}

const THOROUGH: Effort = Effort {
    parts: &[1.0, 0.25, 0.06],
    together: usize::MAX,
    alternatives: 3,
    rounds: 8,
    beside: &[0.1, 0.3],
};
const QUICK: Effort = Effort { parts: &[1.0, 0.1], together: 3, alternatives: 2, rounds: 5, beside: &[0.2] };
/// Of a statement that takes long to plan.
const ONCE: Effort = Effort { parts: &[0.25], together: 0, alternatives: 1, rounds: 5, beside: &[] };
/// PostgreSQL tries so many relations in every order (`from_collapse_limit`): planning such a statement takes up to a hundred times as long as another.
const WIDE: usize = 8;
/// Of many statements one that is wide is asked less, unless it costs so many times the mean.
const WORTH_IT: f64 = 3.0;

impl Space {
    fn effort(&self) -> &'static Effort {
        if self.queries.len() > MANY { &QUICK } else { &THOROUGH }
    }

    /// How much is asked of a statement that has this share of the cost.
    fn effort_for(&self, query: usize, share: f64) -> &'static Effort {
        let wide = self.queries.get(query).is_some_and(|planned| planned.analysis.joined >= WIDE);
        #[expect(clippy::cast_precision_loss, reason = "some hundred")]
        let many_times = share * self.queries.len() as f64 > WORTH_IT;
        if self.queries.len() > MANY && wide && !many_times { &ONCE } else { self.effort() }
    }

    async fn ask(&self, planner: &mut Planner<'_>, query: usize, set: &[usize]) -> Result<Outcome, Error> {
        let planned = self.queries.get(query).ok_or(Error::Unexpected("the search"))?;
        planner.cost(query, planned, &self.candidates, &self.sizes, set).await
    }

    /// Candidates made for a statement that fit into the budget at all.
    fn affordable(&self, query: usize, largest: f64) -> Vec<usize> {
        let own = self.queries.get(query).map(|planned| planned.own.as_slice()).unwrap_or_default();
        let fits = |index: &&usize| self.sizes.get(**index).is_some_and(|bytes| *bytes <= largest);
        own.iter().filter(fits).copied().collect()
    }

    /// First answers: without any, with all, with each that was used alone, and with all but those used before.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn begin(
        &self,
        planner: &mut Planner<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Atoms, Error> {
        let mut atoms = Atoms::default();
        let mut bases = Vec::new();
        for (number, planned) in self.queries.iter().enumerate() {
            let base = self.ask(planner, number, &[]).await?.cost;
            atoms.query(planned.query.weight, base);
            bases.push(base);
        }
        let total = atoms.base();
        for (number, planned) in self.queries.iter().enumerate() {
            progress(number, self.queries.len());
            let base = bases.get(number).copied().unwrap_or(0.0);
            let share = planned.query.weight * base / total.max(1e-300);
            let effort = self.effort_for(number, share);
            let rounds = if share < SMALL { 1 } else { effort.alternatives };
            self.alternatives(planner, &mut atoms, (number, base), effort, rounds).await?;
        }
        Ok(atoms)
    }

    async fn alternatives(
        &self,
        planner: &mut Planner<'_>,
        atoms: &mut Atoms,
        (query, base): (usize, f64),
        effort: &Effort,
        rounds: usize,
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for part in effort.parts {
            let mut set = self.affordable(query, self.budget * part);
            for _ in 0..rounds {
                set.retain(|index| !seen.contains(index));
                if set.is_empty() {
                    break;
                }
                let outcome = self.ask(planner, query, &set).await?;
                atoms.learn(query, &outcome.used, outcome.cost);
                if outcome.used.is_empty() || outcome.cost > base * 0.98 {
                    break;
                }
                if effort.together > 0 {
                    self.parts(planner, atoms, query, &outcome.used).await?;
                }
                seen.extend(outcome.used);
            }
        }
        Ok(())
    }

    /// Of indexes that were used together, what each does alone.
    async fn parts(
        &self,
        planner: &mut Planner<'_>,
        atoms: &mut Atoms,
        query: usize,
        used: &[usize],
    ) -> Result<(), Error> {
        if used.len() < 2 {
            return Ok(());
        }
        for index in used {
            let alone = self.ask(planner, query, &[*index]).await?;
            atoms.learn(query, &alone.used, alone.cost);
            if (3..=self.effort().together).contains(&used.len()) {
                let others: Vec<usize> = used.iter().copied().filter(|other| other != index).collect();
                let outcome = self.ask(planner, query, &others).await?;
                atoms.learn(query, &outcome.used, outcome.cost);
            }
        }
        Ok(())
    }

    fn problem<'a>(&'a self, atoms: &'a Atoms) -> Problem<'a> {
        Problem { atoms, sizes: &self.sizes, upkeep: &self.upkeep, budget: self.budget }
    }

    /// Chooses, asks the planner about the choice and about what statements would use beside it, and chooses again, until nothing is learnt.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn settle(&self, planner: &mut Planner<'_>, atoms: &mut Atoms) -> Result<Choice, Error> {
        let mut best = fill(self.problem(atoms));
        for round in 0.. {
            let chosen: Vec<usize> = best.set.iter().copied().collect();
            let mut learnt = false;
            for query in 0..self.queries.len() {
                let outcome = self.ask(planner, query, &chosen).await?;
                learnt |= atoms.learn(query, &outcome.used, outcome.cost);
            }
            learnt |= self.beside(planner, atoms, &best).await?;
            // Exchanges take long to reckon, and are made when the rest is known.
            let last = round >= self.effort().rounds;
            let next = if learnt && !last { fill(self.problem(atoms)) } else { choose(self.problem(atoms)) };
            let same = next.set == best.set;
            best = next;
            if last || (!learnt && same) {
                break;
            }
        }
        Ok(best)
    }

    /// What statements that still cost much would use beside the choice, of what would fit if a little were given up.
    async fn beside(
        &self,
        planner: &mut Planner<'_>,
        atoms: &mut Atoms,
        best: &Choice,
    ) -> Result<bool, Error> {
        let mut chosen = vec![false; self.candidates.len()];
        for index in &best.set {
            if let Some(place) = chosen.get_mut(*index) {
                *place = true;
            }
        }
        let mut heavy: Vec<(f64, usize)> = atoms
            .queries()
            .iter()
            .enumerate()
            .map(|(query, known)| (known.weight * known.cost(&chosen), query))
            .collect();
        let total: f64 = heavy.iter().map(|(cost, _)| cost).sum();
        heavy.retain(|(cost, query)| !self.effort_for(*query, cost / total.max(1e-300)).beside.is_empty());
        heavy.sort_by(|a, b| b.0.total_cmp(&a.0));
        heavy.truncate(self.queries.len().div_ceil(3).max(8));
        let free = self.budget - best.bytes;
        let mut learnt = false;
        for (_, query) in heavy {
            for part in self.effort().beside {
                let mut set = self.affordable(query, free.max(self.budget * part));
                set.extend(best.set.iter().copied());
                set.sort_unstable();
                set.dedup();
                let outcome = self.ask(planner, query, &set).await?;
                learnt |= atoms.learn(query, &outcome.used, outcome.cost);
            }
        }
        Ok(learnt)
    }
}
