//! What hypopg leaves out of an index's cost: the way down from its root.
//!
//! PostgreSQL charges 50 operators for each page from the root to the leaf (`btcostestimate` in `selfuncs.c`). How high a hypothetical index is
//! it does not know, and charges nothing. In a nested loop that is paid for each row of the outer side, and may be most of what the loop
//! costs: such plans look far cheaper than they become. The missing part is added to what EXPLAIN tells.
//!
//! Limits: the planner has still chosen by its own figure. How often a Memoize node finds its answer, and how often a correlated subquery runs,
//! EXPLAIN does not tell; each is taken to run once.

/// Operators that are charged for a page.
const OPERATORS: f64 = 50.0;
/// Keys of an inner page, about.
const FAN_OUT: f64 = 250.0;

/// Operators that one way down into a B-tree of so many bytes takes.
pub(super) fn operators(bytes: f64) -> f64 {
    let leaves = (bytes / 8192.0).max(1.0);
    let height = if leaves <= 2.0 { 0.0 } else { (leaves.ln() / FAN_OUT.ln()).ceil() };
    OPERATORS * (height + 1.0)
}

/// What a node does with those below it.
enum Kind {
    /// The second child runs for each row of the first.
    NestedLoop,
    /// Only so many rows are taken.
    Limit,
    /// Takes all rows, whatever is taken of it.
    All,
    /// Keeps the rows: what is below runs once.
    Kept,
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name.split(' ').next() {
            Some("Nested") => Self::NestedLoop,
            Some("Limit") => Self::Limit,
            Some("Sort" | "Aggregate" | "HashAggregate") => Self::All,
            Some("Memoize" | "Materialize" | "Hash") => Self::Kept,
            _ => Self::Other,
        }
    }
}

struct Node {
    depth: usize,
    kind: Kind,
    loops: f64,
    rows: f64,
    /// Rows of a nested loop's first child.
    outer: Option<f64>,
}

impl Node {
    /// How often the next child runs, which gives so many rows.
    fn child(&mut self, rows: f64) -> f64 {
        match self.kind {
            Kind::NestedLoop => match self.outer {
                Some(outer) => self.loops * outer,
                None => {
                    self.outer = Some(rows.max(1.0));
                    self.loops
                }
            },
            Kind::Limit => self.loops * (self.rows / rows.max(1.0)).min(1.0),
            Kind::All => self.loops.max(1.0),
            Kind::Kept => 1.0,
            Kind::Other => self.loops,
        }
    }
}

/// How often the nodes of a plan run, told line by line.
#[derive(Default)]
pub(super) struct Loops {
    above: Vec<Node>,
}

impl Loops {
    /// How often the node of this line runs; 0 where the line names none.
    pub fn of(&mut self, line: &str) -> f64 {
        let rows = |figures: &str| figures.split_once(" rows=")?.1.split(' ').next()?.parse::<f64>().ok();
        let Some((before, figures)) = line.split_once("  (cost=") else { return 0.0 };
        let Some(rows) = rows(figures) else { return 0.0 };
        let depth = before.len().saturating_sub(before.trim_start().len());
        while self.above.last().is_some_and(|node| node.depth >= depth) {
            self.above.pop();
        }
        let loops = self.above.last_mut().map_or(1.0, |parent| parent.child(rows));
        let kind = Kind::of(before.trim_start_matches([' ', '-', '>']));
        self.above.push(Node { depth, kind, loops, rows, outer: None });
        loops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loops(plan: &str) -> Vec<f64> {
        let mut loops = Loops::default();
        plan.lines().map(|line| loops.of(line)).collect()
    }

    #[test]
    fn the_inner_side_of_a_loop_runs_for_each_row_of_the_outer() {
        let plan = "\
Sort  (cost=9.00..9.10 rows=40 width=4)
  Sort Key: a.x
  ->  Nested Loop  (cost=0.10..8.00 rows=40 width=4)
        ->  Nested Loop  (cost=0.05..5.00 rows=30 width=4)
              ->  Seq Scan on a  (cost=0.00..1.00 rows=10 width=4)
              ->  Index Scan using \"<7>btree_b\" on b  (cost=0.05..0.30 rows=3 width=4)
                    Index Cond: (b.x = a.x)
        ->  Memoize  (cost=0.05..0.10 rows=1 width=4)
              ->  Index Scan using \"<8>btree_c\" on c  (cost=0.05..0.09 rows=1 width=4)";
        assert_eq!(loops(plan), [1.0, 0.0, 1.0, 1.0, 1.0, 10.0, 0.0, 30.0, 1.0]);
    }

    #[test]
    fn a_limit_ends_it_early() {
        let plan = "\
Limit  (cost=0.10..1.00 rows=5 width=4)
  ->  Nested Loop  (cost=0.10..80.00 rows=50 width=4)
        ->  Index Scan using \"<7>btree_a\" on a  (cost=0.00..1.00 rows=20 width=4)
        ->  Index Scan using \"<8>btree_b\" on b  (cost=0.05..0.30 rows=3 width=4)";
        let found = loops(plan);
        assert!((found[1] - 0.1).abs() < 1e-9 && (found[3] - 2.0).abs() < 1e-9, "{found:?}");
        for odd in ["", "  (cost=", "x  (cost=1..2 rows=z", "->  (cost=0.1..0.2 rows=1 width=1)"] {
            drop(loops(odd));
        }
    }

    #[test]
    fn higher_indexes_cost_more() {
        // Real indexes of PostgreSQL 15: 2 pages, 130, 11000.
        assert!((operators(2.0 * 8192.0) - 50.0).abs() < 1e-9);
        assert!((operators(130.0 * 8192.0) - 100.0).abs() < 1e-9);
        assert!((operators(11_000.0 * 8192.0) - 150.0).abs() < 1e-9);
        assert!(operators(f64::NAN).is_finite() && operators(0.0).is_finite());
    }
}
