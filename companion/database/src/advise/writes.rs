//! How many entries an index adds for what a statement writes.
//!
//! A row that is added has an entry in each index. A row that is changed has none where no index reads a changed column (a heap-only tuple): then
//! an index that reads one costs its own entry and those of all others, which were spared. A row that is taken away costs its
//! entries later, when VACUUM takes them out.
//!
//! Limits: that a page has room for a heap-only tuple is taken for granted; what other indexes of the same plan do to it is not seen.

use crate::candidate::Candidate;
use crate::catalog::{Index, quoted};
use crate::planner::Planned;
use crate::sql::Written;

/// What taking an entry out costs, as a part of putting one in.
const TAKEN_OUT: f64 = 0.5;

/// Entries of all indexes that the candidate adds to what the statement writes, by its weight; as if the candidate held all rows.
pub(super) fn entries(candidate: &Candidate, planned: &Planned) -> f64 {
    let rows = planned.query.weight * planned.writes.max(1.0);
    let written = || planned.analysis.accesses.iter().filter(|access| access.written.is_some());
    // What is written to a partitioned table falls into any of its parts.
    let part_of = candidate.table.part_of.as_ref();
    let parts =
        part_of.map_or(1, |_| written().filter(|access| access.table.part_of.as_ref() == part_of).count());
    #[expect(clippy::cast_precision_loss, reason = "a few parts")]
    let rows = rows / parts.max(1) as f64;
    let own = written().filter(|access| access.table.oid == candidate.table.oid);
    own.filter_map(|access| access.written.as_ref()).map(|written| rows * of_a_row(candidate, written)).sum()
}

fn of_a_row(candidate: &Candidate, written: &Written) -> f64 {
    let columns = match written {
        Written::Inserted => return 1.0,
        Written::Deleted => return TAKEN_OUT,
        Written::Updated(columns) => columns,
    };
    let table = &candidate.table;
    let spared = !table.indexes.iter().any(|index| columns.iter().any(|column| reads(index, column)));
    let own = columns.iter().any(|column| candidate_reads(candidate, column));
    #[expect(clippy::cast_precision_loss, reason = "a few indexes")]
    let others = table.indexes.len() as f64;
    match (own, spared) {
        (true, true) => 1.0 + others,
        (true, false) | (false, false) => 1.0,
        (false, true) => 0.0,
    }
}

fn candidate_reads(candidate: &Candidate, column: &str) -> bool {
    candidate.columns().any(|name| name == column)
        || candidate.condition().is_some_and(|condition| mentions(&condition, column))
}

fn reads(index: &Index, column: &str) -> bool {
    index.key_columns.iter().flatten().chain(&index.include).any(|name| name == column)
        || index.keys.iter().chain(&index.predicate).any(|text| mentions(text, column))
}

/// Whether a text of SQL names a column: as a word of its own.
fn mentions(text: &str, column: &str) -> bool {
    let name = quoted(column);
    let of_a_name = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
    text.match_indices(name.as_str()).any(|(at, found)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at.saturating_add(found.len())..).and_then(|text| text.chars().next());
        !before.is_some_and(of_a_name) && !after.is_some_and(of_a_name)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::candidate::Method;
    use crate::catalog::Table;
    use crate::sql::{Key, Order};

    fn candidate(column: &str, predicate: &[&str], indexes: Vec<Index>) -> Candidate {
        let table =
            Table { oid: 1, schema: "public".into(), name: "jobs".into(), indexes, ..Table::default() };
        Candidate {
            table: Arc::new(table),
            method: Method::Btree,
            keys: vec![Order::ascending(Key::Column(column.into()))],
            class: None,
            include: BTreeSet::new(),
            predicate: predicate.iter().map(|clause| (*clause).to_owned()).collect(),
            since: None,
        }
    }

    #[test]
    fn heap_only_tuples_spare_indexes() {
        let key = |column: &str| Index { key_columns: vec![Some(column.into())], ..Index::default() };
        let updated = |column: &str| Written::Updated([column.to_owned()].into());
        let one = candidate("run_at", &["state = 'pending'"], vec![key("id"), key("tenant")]);
        let entries = |written: &Written| of_a_row(&one, written);
        // Inserted: its own. Changed where nothing reads it: none. Changed where only this reads it: the two others lose what they were spared.
        assert!((entries(&Written::Inserted) - 1.0).abs() < 1e-9);
        assert!(entries(&updated("attempts")).abs() < 1e-9);
        assert!((entries(&updated("state")) - 3.0).abs() < 1e-9);
        assert!((entries(&updated("run_at")) - 3.0).abs() < 1e-9);
        // Another index reads the column already: an entry more.
        assert!((entries(&updated("tenant")) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn names_are_words() {
        assert!(mentions("(state = 'x')", "state") && mentions("lower(\"Name\")", "Name"));
        assert!(!mentions("(estate = 'x')", "state") && !mentions("state_of = 1", "state"));
        assert!(!mentions("", "state"));
    }
}
