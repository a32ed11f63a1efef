//! What an inverted index would save, reckoned: hypopg takes no GIN.
//!
//! Where the plan without it reads a table from end to end, the rows that the condition leaves are taken from their pages instead, once for all (a bitmap
//! scan). How many those are the planner has told. Limits: joins whose order the index would change, and plans that read the table by
//! another index, are left as they are.

use crate::candidate::{Candidate, Method};
use crate::catalog::Costs;
use crate::sql::{Access, Kind};

/// Pages of the index that are read for one condition.
const PAGES: f64 = 8.0;
/// Rows that are read for each that is left, where the index tells not all: a text has the trigrams, and not in that order.
const READ_AGAIN: f64 = 3.0;

/// A scan from end to end in a plan.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scan {
    /// The table's name, without its schema.
    pub table: String,
    /// What it costs, and rows that it gives.
    pub cost: f64,
    pub rows: f64,
}

/// Whether the candidate finds what the access asks for.
pub(super) fn serves(candidate: &Candidate, access: &Access) -> bool {
    candidate.method == Method::Gin
        && candidate.table.oid == access.table.oid
        && access.predicates.iter().any(|predicate| {
            matches!(predicate.kind, Kind::Contains | Kind::Has | Kind::Infix)
                && candidate.keys.iter().any(|key| key.key == predicate.key)
                && (predicate.kind == Kind::Infix) == is_of_trigrams(candidate)
                && (predicate.kind != Kind::Has || candidate.class.is_none())
        })
}

/// What it costs to find so many rows by it. Pages that are many of the table's come in order, and cost less each (`cost_bitmap_heap_scan`).
pub(super) fn cost(costs: &Costs, candidate: &Candidate, rows: f64) -> f64 {
    let pages = candidate.table.pages.max(1.0);
    let rows = if is_of_trigrams(candidate) { (rows * READ_AGAIN).min(candidate.table.rows) } else { rows };
    let visited = (2.0 * pages * rows / (2.0 * pages + rows).max(1.0)).min(pages);
    let each = costs.random_page - (costs.random_page - costs.sequential_page) * (visited / pages).sqrt();
    costs.random_page * PAGES
        + visited * each
        + rows * (costs.tuple + costs.index_tuple + 2.0 * costs.operator)
}

fn is_of_trigrams(candidate: &Candidate) -> bool {
    candidate.class.as_ref().is_some_and(|class| class.ends_with("gin_trgm_ops"))
}

/// What the best of the candidates saves at the scans, each with its number.
pub(super) fn savings(
    costs: &Costs,
    accesses: &[Access],
    mut scans: Vec<Scan>,
    candidates: &[(usize, &Candidate)],
) -> Vec<(usize, f64)> {
    let mut all = Vec::new();
    for access in accesses {
        let Some(place) = scans.iter().position(|scan| scan.table == access.table.name) else { continue };
        let scan = scans.swap_remove(place);
        let serving = candidates.iter().filter(|(_, candidate)| serves(candidate, access));
        let saved = serving.map(|(index, candidate)| (*index, scan.cost - cost(costs, candidate, scan.rows)));
        all.extend(saved.filter(|(_, saved)| *saved > 0.0).max_by(|a, b| a.1.total_cmp(&b.1)));
    }
    all
}

/// The scans of a plan as text, of those nodes that run once.
pub(super) fn scan_of(line: &str) -> Option<Scan> {
    let (before, figures) = line.split_once("  (cost=")?;
    let (_, name) = before.split_once("Seq Scan on ")?;
    let number = |text: &str| text.parse::<f64>().ok();
    let name =
        name.strip_prefix('"').map_or_else(|| name.split(' ').next(), |quoted| quoted.split('"').next())?;
    Some(Scan {
        table: name.to_owned(),
        cost: number(figures.split_once("..")?.1.split(' ').next()?)?,
        rows: number(figures.split_once(" rows=")?.1.split(' ').next()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_read_from_plans() {
        let scan = scan_of("  ->  Seq Scan on accounts a  (cost=0.00..1234.50 rows=60 width=8)").unwrap();
        assert_eq!(scan, Scan { table: "accounts".into(), cost: 1234.5, rows: 60.0 });
        let quoted =
            scan_of("Parallel Seq Scan on \"Order Lines\"  (cost=0.00..9.00 rows=1 width=8)").unwrap();
        assert_eq!(quoted.table, "Order Lines");
        for odd in [
            "",
            "Filter: (a < 3)",
            "Index Scan using i on t  (cost=0.1..2.0 rows=1 width=1)",
            "Seq Scan on t  (cost=x",
        ] {
            assert_eq!(scan_of(odd), None);
        }
    }
}
