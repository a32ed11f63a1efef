//! The choice on what is known.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::rc::Rc;

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
    /// Sets that plans use, and the statements that one of their members concerns.
    sets: Rc<[(&'a [usize], Vec<usize>)]>,
    chosen: Vec<bool>,
    costs: Vec<f64>,
    /// Which of its known plans each statement has; their number where it has none.
    plans: Vec<usize>,
    bytes: f64,
    upkeep: f64,
}

/// What a set would bring for each byte; the one that brings most is the greatest.
struct Offer {
    rate: f64,
    set: usize,
}

impl PartialEq for Offer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Offer {}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rate.total_cmp(&other.rate).then(other.set.cmp(&self.set))
    }
}

impl<'a> State<'a> {
    fn new(problem: Problem<'a>) -> Self {
        let queries = problem.atoms.queries();
        let sets: BTreeSet<&[usize]> =
            queries.iter().flat_map(|known| &known.atoms).map(|atom| atom.set.as_slice()).collect();
        let concerned = |set: &'a [usize]| {
            let queries: BTreeSet<usize> =
                set.iter().flat_map(|index| problem.atoms.concerned(*index)).copied().collect();
            (set, queries.into_iter().collect())
        };
        Self {
            problem,
            sets: sets.into_iter().map(concerned).collect(),
            chosen: vec![false; problem.sizes.len()],
            costs: queries.iter().map(|known| known.base).collect(),
            plans: queries.iter().map(|known| known.atoms.len()).collect(),
            bytes: 0.0,
            upkeep: 0.0,
        }
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
            if let (Some(known), Some(cost), Some(plan)) = (
                self.problem.atoms.queries().get(*query),
                self.costs.get_mut(*query),
                self.plans.get_mut(*query),
            ) {
                (*plan, *cost) = known.plan(&self.chosen, known.atoms.len());
            }
        }
    }

    /// What adding these saves the statements, upkeep taken off.
    fn gain(&mut self, missing: &[usize], queries: &[usize]) -> f64 {
        for index in missing {
            if let Some(place) = self.chosen.get_mut(*index) {
                *place = true;
            }
        }
        let mut gain = 0.0;
        for query in queries {
            if let (Some(known), Some(cost), Some(plan)) =
                (self.problem.atoms.queries().get(*query), self.costs.get(*query), self.plans.get(*query))
            {
                // Only a plan that stands before the present one can take its place.
                let (better, new) = known.plan(&self.chosen, *plan);
                if better < *plan {
                    gain += known.weight * (cost - new);
                }
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

    /// Adds what brings most for each byte, until nothing brings anything. What a set brings is reckoned again only when it stands first: it
    /// mostly sinks as others are added. Where it rises, because others complete it, the next pass finds it.
    fn fill(&mut self) {
        let sets = Rc::clone(&self.sets);
        loop {
            let mut offers: BinaryHeap<Offer> =
                (0..sets.len()).filter_map(|set| self.offer(&sets, set).map(|(offer, _)| offer)).collect();
            if offers.is_empty() {
                return;
            }
            while let Some(first) = offers.pop() {
                let Some((offer, missing)) = self.offer(&sets, first.set) else { continue };
                if offers.peek().is_some_and(|next| next.rate > offer.rate) {
                    offers.push(offer);
                    continue;
                }
                missing.into_iter().for_each(|index| self.set(index, true));
            }
        }
    }

    /// What is missing of a set, and what it would bring; nothing where it does not fit, or brings nothing.
    fn offer(&mut self, sets: &[(&'a [usize], Vec<usize>)], set: usize) -> Option<(Offer, Vec<usize>)> {
        let (indexes, queries) = sets.get(set)?;
        let there = |index: &usize| self.chosen.get(*index).copied().unwrap_or(true);
        let missing: Vec<usize> = indexes.iter().copied().filter(|index| !there(index)).collect();
        let bytes: f64 = missing.iter().map(|index| self.size(*index)).sum();
        if missing.is_empty() || self.bytes + bytes > self.problem.budget {
            return None;
        }
        // A page is the least that anything takes.
        let rate = self.gain(&missing, queries) / bytes.max(8192.0);
        (rate > 0.0).then_some((Offer { rate, set }, missing))
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
mod tests;
