//! Which candidates to take, within a storage budget.
//!
//! The planner is asked little. A statement's cost with a set of indexes is known once the planner has used that set: it stays so for every
//! larger set, unless a better plan is found ([`Atoms`]; after INUM, Papadomanolakis et al. 2007, and CoPhy, Dash et al. 2011).
//! On what is known, sets are added greedily by what they save for each byte, joint savings included, and then improved by exchanges
//! ([`choose`]). The planner is then asked about that choice, and about what each statement would use beside it ([`explore`]), until nothing
//! new is learnt.

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
    /// Sets that a plan used, and that plan's cost; cheaper than `base`.
    pub atoms: Vec<Atom>,
}

/// A set of indexes and the cost of the plan that uses all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Atom {
    /// Candidates by number, in order.
    pub set: Vec<usize>,
    /// The cost.
    pub cost: f64,
}

impl Atoms {
    /// Takes a statement and its cost without candidates; answers its number.
    pub fn query(&mut self, weight: f64, base: f64) -> usize {
        self.queries.push(Known { weight, base, atoms: Vec::new() });
        self.queries.len().saturating_sub(1)
    }

    /// Learns what a plan that uses `set` costs. Answers whether that was new.
    pub fn learn(&mut self, query: usize, set: &[usize], cost: f64) -> bool {
        let Some(known) = self.queries.get_mut(query) else { return false };
        if set.is_empty() || cost >= known.base * 0.9999 {
            return false;
        }
        // A smaller set that is as good makes this one needless.
        if known
            .atoms
            .iter()
            .any(|atom| atom.cost <= cost * 1.0001 && atom.set.iter().all(|i| set.contains(i)))
        {
            return false;
        }
        known.atoms.retain(|atom| !(atom.cost >= cost && set.iter().all(|index| atom.set.contains(index))));
        known.atoms.push(Atom { set: set.to_vec(), cost });
        known.atoms.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        for index in set {
            let queries = self.concerned.entry(*index).or_default();
            if !queries.contains(&query) {
                queries.push(query);
            }
        }
        true
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
        let there = |index: &usize| chosen.get(*index).copied().unwrap_or(false);
        // The cheapest stands first.
        self.atoms.iter().find(|atom| atom.set.iter().all(there)).map_or(self.base, |atom| atom.cost)
    }
}
