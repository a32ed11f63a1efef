//! Which candidates to take, within a storage budget.
//!
//! The planner is asked little. A statement's cost with a set of indexes is known once the planner has used that set: it stays so for every
//! larger set, unless a better plan is found ([`Atoms`]; after INUM, Papadomanolakis et al. 2007, and CoPhy, Dash et al. 2011).
//! On what is known, sets are added greedily by what they save for each byte, joint savings included, and then improved by exchanges
//! ([`choose`]). The planner is then asked about that choice, and about what each statement would use beside it ([`explore`]), until nothing
//! new is learnt.
//!
//! What is measured stands above what is estimated: the planner still takes the plan that it holds for the cheapest ([`Atom::estimate`]), and
//! what that plan then costs is what was measured ([`Atom::cost`]). So a plan that the planner would take and that is slow counts against the
//! indexes that invite it.

pub mod choose;
pub mod explore;

use std::collections::HashMap;

/// What statements cost with sets of indexes, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct Atoms {
    /// For each statement.
    queries: Vec<Known>,
    /// The statements that a candidate concerns.
    concerned: HashMap<usize, Vec<usize>>,
}

/// What is known of a statement.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// How often it runs.
    pub weight: f64,
    /// Its cost without any candidate.
    pub base: f64,
    /// Sets that a plan used, and that plan's cost; the planner's favourite first.
    pub atoms: Vec<Atom>,
    /// Sets of which a real plan has shown that they would not be used as estimated.
    refuted: Vec<Vec<usize>>,
}

/// A set of indexes and the cost of the plan that uses all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Atom {
    /// Candidates by number, in order.
    pub set: Vec<usize>,
    /// What the planner thinks that it costs, by which it chooses.
    pub estimate: f64,
    /// The cost: measured, else the estimate.
    pub cost: f64,
    /// It was measured.
    pub measured: bool,
}

impl Atoms {
    /// Takes a statement and its cost without candidates; answers its number.
    pub fn query(&mut self, weight: f64, base: f64) -> usize {
        self.queries.push(Known { weight, base, ..Known::default() });
        self.queries.len().saturating_sub(1)
    }

    /// Learns what the planner thinks that a plan which uses `set` costs. Answers whether that was new.
    pub fn learn(&mut self, query: usize, set: &[usize], estimate: f64) -> bool {
        let Some(known) = self.queries.get_mut(query) else { return false };
        if set.is_empty() || estimate >= known.base * 0.9999 {
            return false;
        }
        let within = |atom: &Atom| atom.set.iter().all(|index| set.contains(index));
        // A smaller set that is as good makes this one needless; what was measured is not estimated again.
        if known.atoms.iter().any(|atom| atom.estimate <= estimate * 1.0001 && within(atom))
            || known.atoms.iter().any(|atom| atom.measured && atom.set == set)
            || known.refuted.iter().any(|refuted| refuted == set)
        {
            return false;
        }
        let contained = |atom: &Atom| set.iter().all(|index| atom.set.contains(index));
        known.atoms.retain(|atom| atom.measured || !(atom.estimate >= estimate && contained(atom)));
        known.atoms.push(Atom { set: set.to_vec(), estimate, cost: estimate, measured: false });
        self.arrange(query, set);
        true
    }

    /// Learns what was measured: with all of `built` there, the plan used `set`, was estimated at `estimate`, and cost `cost`.
    /// Answers whether that was new.
    pub fn measure(
        &mut self,
        query: usize,
        built: &dyn Fn(usize) -> bool,
        set: &[usize],
        estimate: f64,
        cost: f64,
    ) -> bool {
        let Some(known) = self.queries.get_mut(query) else { return false };
        // What was there, was held for cheaper, and was not used: the estimate was wrong.
        let refuted = |atom: &Atom| {
            atom.set != set && atom.estimate < estimate && atom.set.iter().all(|index| built(*index))
        };
        let wrong = known.atoms.iter().filter(|atom| !atom.measured && refuted(atom));
        let wrong: Vec<Vec<usize>> = wrong.map(|atom| atom.set.clone()).collect();
        let mut new = !wrong.is_empty();
        known.atoms.retain(|atom| atom.measured || !refuted(atom));
        known.refuted.extend(wrong);
        if !set.is_empty() {
            let before = known.atoms.iter().position(|atom| atom.set == set);
            let before = before.map(|place| known.atoms.remove(place));
            new |= before.is_none_or(|atom| !atom.measured || (atom.cost - cost).abs() > 0.05 * known.base);
            known.atoms.push(Atom { set: set.to_vec(), estimate, cost, measured: true });
            self.arrange(query, set);
        }
        new
    }

    fn arrange(&mut self, query: usize, set: &[usize]) {
        if let Some(known) = self.queries.get_mut(query) {
            known.atoms.sort_by(|a, b| a.estimate.total_cmp(&b.estimate));
        }
        for index in set {
            let queries = self.concerned.entry(*index).or_default();
            if !queries.contains(&query) {
                queries.push(query);
            }
        }
    }

    /// All statements.
    #[must_use]
    pub fn queries(&self) -> &[Known] {
        &self.queries
    }

    /// The statements for which a candidate is part of a plan.
    #[must_use]
    pub fn concerned(&self, index: usize) -> &[usize] {
        self.concerned.get(&index).map(Vec::as_slice).unwrap_or_default()
    }

    /// Gives a statement another weight.
    pub fn weigh(&mut self, query: usize, weight: f64) {
        if let Some(known) = self.queries.get_mut(query) {
            known.weight = weight;
        }
    }

    /// The workload's cost without candidates.
    #[must_use]
    pub fn base(&self) -> f64 {
        self.queries.iter().map(|known| known.weight * known.base).sum()
    }
}

impl Known {
    /// The cost when just these are there.
    #[must_use]
    pub fn cost(&self, chosen: &[bool]) -> f64 {
        self.plan(chosen, self.atoms.len()).1
    }

    /// Which of the first plans it is when just these are there, and its cost; `before` and the cost without any where it is none of them.
    pub(crate) fn plan(&self, chosen: &[bool], before: usize) -> (usize, f64) {
        let there = |index: &usize| chosen.get(*index).copied().unwrap_or(false);
        // What the planner takes stands first.
        let mut first = self.atoms.iter().take(before).enumerate();
        first
            .find(|(_, atom)| atom.set.iter().all(there))
            .map_or((before, self.base), |(place, atom)| (place, atom.cost))
    }
}
