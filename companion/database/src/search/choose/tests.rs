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
    let chosen = |atoms: &Atoms| choose(Problem { atoms, sizes: &sizes, upkeep: &upkeep, budget: 2e4 }).set;
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
