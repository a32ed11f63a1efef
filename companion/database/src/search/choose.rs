//! The choice on what is known.

use std::collections::BTreeSet;

use super::Atoms;

/// What there is to choose from.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// What is known of statements.
    pub atoms: &'a Atoms,
    /// Bytes of each candidate.
    pub sizes: &'a [f64],
    /// What keeping each candidate costs in the workload's unit: writes, and a little for its being there.
    pub upkeep: &'a [f64],
    /// Bytes that all may have together.
    pub budget: f64,
}

/// A choice, and what it costs: statements by weight, and upkeep.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Candidates by number.
    pub set: BTreeSet<usize>,
    /// The cost.
    pub cost: f64,
    /// Bytes.
    pub bytes: f64,
}

/// Rounds of exchanges at most.
const ROUNDS: usize = 3;

/// A set of candidates, with the cost of each statement kept up to date.
struct State<'a> {
    problem: Problem<'a>,
    /// Sets that plans use.
    sets: BTreeSet<&'a [usize]>,
    chosen: Vec<bool>,
    costs: Vec<f64>,
    bytes: f64,
    upkeep: f64,
}

impl<'a> State<'a> {
    fn new(problem: Problem<'a>) -> Self {
        let costs = problem.atoms.queries().iter().map(|known| known.base).collect();
        let atoms = problem.atoms.queries().iter().flat_map(|known| &known.atoms);
        let sets = atoms.map(|atom| atom.set.as_slice()).collect();
        Self { problem, sets, chosen: vec![false; problem.sizes.len()], costs, bytes: 0.0, upkeep: 0.0 }
    }

    fn size(&self, index: usize) -> f64 {
        self.problem.sizes.get(index).copied().unwrap_or(f64::INFINITY)
    }

    fn keep(&self, index: usize) -> f64 {
        self.problem.upkeep.get(index).copied().unwrap_or(0.0)
    }

    fn total(&self) -> f64 {
        let queries = self.problem.atoms.queries().iter().zip(&self.costs);
        queries.map(|(known, cost)| known.weight * cost).sum::<f64>() + self.upkeep
    }

    fn set(&mut self, index: usize, there: bool) {
        let (size, keep) = (self.size(index), self.keep(index));
        let Some(place) = self.chosen.get_mut(index) else { return };
        if *place == there {
            return;
        }
        *place = there;
        let sign = if there { 1.0 } else { -1.0 };
        self.bytes += sign * size;
        self.upkeep += sign * keep;
        for query in self.problem.atoms.concerned(index) {
            if let (Some(known), Some(cost)) =
                (self.problem.atoms.queries().get(*query), self.costs.get_mut(*query))
            {
                *cost = known.cost(&self.chosen);
            }
        }
    }

    /// What adding these saves, upkeep taken off.
    fn gain(&mut self, missing: &[usize]) -> f64 {
        let queries: BTreeSet<usize> =
            missing.iter().flat_map(|index| self.problem.atoms.concerned(*index)).copied().collect();
        for index in missing {
            if let Some(place) = self.chosen.get_mut(*index) {
                *place = true;
            }
        }
        let mut gain = 0.0;
        for query in queries {
            if let (Some(known), Some(cost)) =
                (self.problem.atoms.queries().get(query), self.costs.get(query))
            {
                gain += known.weight * (cost - known.cost(&self.chosen));
            }
        }
        for index in missing {
            if let Some(place) = self.chosen.get_mut(*index) {
                *place = false;
            }
            gain -= self.keep(*index);
        }
        gain
    }

    fn fill(&mut self) {
        let sets = self.sets.clone();
        loop {
            let mut best: Option<(f64, Vec<usize>)> = None;
            for set in &sets {
                let missing: Vec<usize> =
                    set.iter().copied().filter(|i| !self.chosen.get(*i).copied().unwrap_or(true)).collect();
                let bytes: f64 = missing.iter().map(|index| self.size(*index)).sum();
                if missing.is_empty() || self.bytes + bytes > self.problem.budget {
                    continue;
                }
                let gain = self.gain(&missing);
                // A page is the least that anything takes.
                let rate = gain / bytes.max(8192.0);
                if gain > 0.0 && rate > best.as_ref().map_or(0.0, |(best, _)| *best) {
                    best = Some((rate, missing));
                }
            }
            let Some((_, missing)) = best else { return };
            missing.into_iter().for_each(|index| self.set(index, true));
        }
    }

    /// Takes out what saves less than it costs to keep.
    fn prune(&mut self) {
        loop {
            let total = self.total();
            let mut worst = None;
            for index in self.members() {
                self.set(index, false);
                let loss = self.total() - total;
                self.set(index, true);
                if loss <= 0.0 && worst.is_none_or(|(_, least)| loss < least) {
                    worst = Some((index, loss));
                }
            }
            let Some((index, _)) = worst else { return };
            self.set(index, false);
        }
    }

    fn members(&self) -> Vec<usize> {
        self.chosen.iter().enumerate().filter(|(_, there)| **there).map(|(index, _)| index).collect()
    }

    fn load(&mut self, set: &BTreeSet<usize>) {
        for index in self.members() {
            if !set.contains(&index) {
                self.set(index, false);
            }
        }
        set.iter().for_each(|index| self.set(*index, true));
    }

    fn choice(&self) -> Choice {
        Choice { set: self.members().into_iter().collect(), cost: self.total(), bytes: self.bytes }
    }
}

/// The choice that greedy filling finds.
#[must_use]
pub fn fill(problem: Problem<'_>) -> Choice {
    filled(problem).choice()
}

fn filled(problem: Problem<'_>) -> State<'_> {
    let mut state = State::new(problem);
    state.fill();
    state.prune();
    state.fill();
    state
}

/// The best choice that greedy filling and exchanges find.
#[must_use]
pub fn choose(problem: Problem<'_>) -> Choice {
    let mut state = filled(problem);
    let mut best = state.choice();
    for _ in 0..ROUNDS {
        let before = best.cost;
        exchange(&mut state, &mut best);
        if best.cost >= before * 0.9999 {
            break;
        }
    }
    best
}

/// Without one that is chosen, or with a set that did not fit and without what stands in its way: is the rest better filled?
fn exchange(state: &mut State<'_>, best: &mut Choice) {
    let accept = |state: &mut State<'_>, best: &mut Choice| {
        state.fill();
        state.prune();
        let choice = state.choice();
        if choice.cost < best.cost && choice.bytes <= state.problem.budget {
            *best = choice;
        }
    };
    for index in best.set.clone() {
        let mut rest = best.set.clone();
        rest.remove(&index);
        state.load(&rest);
        accept(state, best);
    }
    let atoms = state.problem.atoms;
    for known in atoms.queries() {
        for atom in known.atoms.iter().take(2) {
            if atom.set.iter().all(|index| best.set.contains(index)) {
                continue;
            }
            state.load(&best.set.clone());
            atom.set.iter().for_each(|index| state.set(*index, true));
            make_room(state, &atom.set);
            if state.bytes <= state.problem.budget {
                accept(state, best);
            }
        }
    }
    state.load(&best.set.clone());
}

/// Takes out what is missed least for each byte, until the rest fits.
fn make_room(state: &mut State<'_>, keep: &[usize]) {
    while state.bytes > state.problem.budget {
        let total = state.total();
        let mut least: Option<(f64, usize)> = None;
        for index in state.members().into_iter().filter(|index| !keep.contains(index)) {
            state.set(index, false);
            let rate = (state.total() - total) / state.size(index).max(8192.0);
            state.set(index, true);
            if least.is_none_or(|(best, _)| rate < best) {
                least = Some((rate, index));
            }
        }
        let Some((_, index)) = least else { return };
        state.set(index, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

    use super::*;

    fn exhaustive(problem: Problem<'_>) -> f64 {
        let count = problem.sizes.len();
        (0..1_usize << count)
            .filter_map(|bits| {
                let mut state = State::new(problem);
                (0..count).filter(|i| bits >> i & 1 == 1).for_each(|i| state.set(i, true));
                (state.bytes <= problem.budget).then(|| state.total())
            })
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn two_that_help_only_together_are_found() {
        let mut atoms = Atoms::default();
        let query = atoms.query(1.0, 100.0);
        atoms.learn(query, &[0, 1], 10.0);
        atoms.learn(query, &[2], 95.0);
        let (sizes, upkeep) = (vec![1e4, 1e4, 2e4], vec![0.1; 3]);
        let chosen =
            |atoms: &Atoms| choose(Problem { atoms, sizes: &sizes, upkeep: &upkeep, budget: 2e4 }).set;
        assert_eq!(chosen(&atoms), BTreeSet::from([0, 1]));
        // Measured, the two make it slower: what the planner would take must not be there.
        assert!(atoms.measure(query, &|index| index < 2, &[0, 1], 10.0, 400.0));
        assert_eq!(chosen(&atoms), BTreeSet::from([2]));
        assert!(!atoms.learn(query, &[0, 1], 9.0), "a measurement is not estimated again");
    }

    #[test]
    fn what_a_real_plan_did_not_use_is_not_expected_again() {
        let mut atoms = Atoms::default();
        let query = atoms.query(1.0, 100.0);
        atoms.learn(query, &[0], 10.0);
        atoms.learn(query, &[1], 50.0);
        assert!(atoms.measure(query, &|_| true, &[1], 40.0, 45.0));
        assert!(!atoms.learn(query, &[0], 10.0));
        let (sizes, upkeep) = (vec![1e4; 2], vec![0.1; 2]);
        let problem = Problem { atoms: &atoms, sizes: &sizes, upkeep: &upkeep, budget: 3e4 };
        let choice = choose(problem);
        assert_eq!((choice.set, choice.cost), (BTreeSet::from([1]), 45.1));
    }

    /// What statements gain by which of eight indexes, their sizes, and a budget.
    type Random = (Vec<(f64, Vec<(BTreeSet<usize>, f64)>)>, Vec<f64>, f64);

    fn problems() -> impl Strategy<Value = Random> {
        let set = prop::collection::btree_set(0_usize..8, 1..3);
        let gains = prop::collection::vec((set, 0.01..0.99), 1..5);
        let queries = prop::collection::vec((1.0..50.0, gains), 1..6);
        (queries, prop::collection::vec(8192.0..1e6, 8), 0.0..3e6)
    }

    /// What is chosen costs, what nothing costs, and what the best choice costs that there is.
    fn costs((queries, sizes, budget): &Random) -> (Choice, f64, f64) {
        let mut atoms = Atoms::default();
        for (weight, sets) in queries {
            let query = atoms.query(*weight, 100.0);
            for (set, share) in sets {
                atoms.learn(query, &set.iter().copied().collect::<Vec<_>>(), 100.0 * share);
            }
        }
        let upkeep = vec![0.01; 8];
        let problem = Problem { atoms: &atoms, sizes, upkeep: &upkeep, budget: *budget };
        (choose(problem), atoms.base(), exhaustive(problem))
    }

    /// A search that is quick misses the best choice now and then; the same problems each time tell how often, and by how
    /// much.
    #[test]
    fn the_best_choice_is_nearly_reached() {
        const PROBLEMS: u32 = 400;
        let mut runner = TestRunner::deterministic();
        let mut missed = Vec::new();
        for _ in 0..PROBLEMS {
            let problem = problems().new_tree(&mut runner).unwrap().current();
            let (choice, base, best) = costs(&problem);
            missed.push((choice.cost - best) / (base - best).max(1e-6));
        }
        let mean = missed.iter().sum::<f64>() / f64::from(PROBLEMS);
        let far = missed.iter().filter(|share| **share > 0.1).count();
        println!(
            "of what could be gained {:.2} % is missed; more than a tenth in {far} of {PROBLEMS}",
            100.0 * mean
        );
        assert!(mean < 0.02 && far <= 20, "{mean} {far}");
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_nothing_is_made_worse(problem in problems()) {
            let (choice, base, _) = costs(&problem);
            prop_assert!(choice.bytes <= problem.2);
            prop_assert!(choice.cost <= base + 1e-6);
        }
    }
}
