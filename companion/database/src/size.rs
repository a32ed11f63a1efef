//! How large an index will be, before it is built.
//!
//! A B-tree's tuple is a header of 8 bytes (16 with a null), the values with their alignment, rounded up to 8, and a line
//! pointer of 4. Leaf pages are filled to 90 %. Since PostgreSQL 13 equal keys are merged into posting lists of 6 bytes a
//! row, up to a tenth of a page; not with included columns, and not for types whose equal values differ in bytes (`numeric`).
//! How wide values are and how they go together is taken from a sample of rows; how many rows a predicate leaves, from the
//! planner and the sample; how many distinct keys there are, from the statistics and the sample. Rows that have nulls in other keys are
//! reckoned apart: their tuples have another length, and they are merged more often.
//!
//! Source: `nbtree/README`, `nbtsort.c`, `nbtdedup.c` of PostgreSQL 15. Limits: what will be inserted later is not foreseen, nor
//! bloat; values that are compressed differently in the index are taken as in the table. An
//! inverted index is built on a sample and scaled ([`gin`]).

mod inverted;
mod sample;

pub use inverted::gin;
pub use sample::{Sample, Sampler};

use crate::candidate::{Candidate, Method};
use crate::sql::Key;

const PAGE: f64 = 8192.0;
/// Header and special space of a page, and what the fill factor of 90 % leaves free.
const LEAF: f64 = PAGE - 24.0 - 16.0 - 819.0;
/// Inner pages are filled to 70 %.
const INNER: f64 = (PAGE - 24.0 - 16.0) * 0.7;
const LINE_POINTER: f64 = 4.0;
/// A merged tuple is at most this long.
const LONGEST_POSTING: f64 = 812.0;
const ROW_POINTER: f64 = 6.0;
/// A tuple has at least a header and something.
const SMALLEST: f64 = 16.0;

/// Rows of an index whose keys are alike in kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Stratum {
    /// Rows.
    pub rows: f64,
    /// Distinct keys among them.
    pub distinct: f64,
    /// Rows of each of the most common keys.
    pub common: Vec<f64>,
    /// Mean bytes of a tuple, rounded up to 8 each.
    pub tuple: f64,
    /// All tuples have the same length.
    pub fixed: bool,
}

impl Stratum {
    /// Bytes of its leaf tuples, line pointers included.
    fn bytes(&self, merged: bool) -> f64 {
        if !merged {
            return self.rows * (self.tuple + LINE_POINTER);
        }
        let common: f64 = self.common.iter().map(|rows| group(*rows, self.tuple)).sum();
        let rows = (self.rows - self.common.iter().sum::<f64>()).max(0.0);
        #[expect(clippy::cast_precision_loss, reason = "at most some hundred")]
        let distinct = (self.distinct - self.common.len() as f64).max(rows.min(1.0));
        common + groups(rows, distinct.min(rows), self.tuple)
    }
}

fn up_to_8(bytes: f64) -> f64 {
    (bytes / 8.0).ceil() * 8.0
}

/// Bytes that `rows` rows of one key take in leaf pages, line pointers included.
fn group(rows: f64, tuple: f64) -> f64 {
    if rows <= 1.0 {
        return rows * (tuple + LINE_POINTER);
    }
    let most = ((LONGEST_POSTING - tuple) / ROW_POINTER).floor().max(2.0);
    let full = (rows / most).floor();
    let rest = rows - full * most;
    let list = |rows: f64| if rows <= 1.0 { tuple } else { tuple + up_to_8(rows * ROW_POINTER) };
    let mut bytes = full * (list(most) + LINE_POINTER);
    if rest > 0.5 {
        bytes += list(rest) + LINE_POINTER;
    }
    bytes
}

/// Bytes of the leaf tuples when rows fall into groups at random: the number in a group follows Poisson's law, without 0.
fn groups(rows: f64, distinct: f64, tuple: f64) -> f64 {
    if rows <= 0.0 || distinct <= 0.0 {
        return 0.0;
    }
    let mean = (rows / distinct).max(1.0);
    if mean > 30.0 {
        return distinct * group(mean, tuple);
    }
    if mean < 1.0005 {
        return rows * (tuple + LINE_POINTER);
    }
    // The rate whose mean, given at least one, is `mean`.
    let (mut low, mut high) = (1e-6, mean + 1.0);
    for _ in 0..60 {
        let rate: f64 = (low + high) / 2.0;
        if rate / -(-rate).exp_m1() < mean { low = rate } else { high = rate }
    }
    let rate: f64 = (low + high) / 2.0;
    let scale = -(-rate).exp_m1();
    let mut probability = (-rate).exp();
    let mut bytes = 0.0;
    for count in 1..=120_u32 {
        probability *= rate / f64::from(count);
        bytes += probability / scale * group(f64::from(count), tuple);
    }
    bytes * distinct
}

/// Bytes of a B-tree; `merged` is whether equal keys share a tuple.
#[must_use]
pub fn btree(strata: &[Stratum], merged: bool) -> f64 {
    let rows: f64 = strata.iter().map(|one| one.rows).sum();
    let tuple = strata.iter().map(|one| one.rows * one.tuple).sum::<f64>() / rows.max(1e-9);
    let tuple = tuple.max(SMALLEST);
    let single = tuple + LINE_POINTER;
    let bytes: f64 = strata.iter().map(|one| one.bytes(merged)).sum();
    // Tuples of one length leave a rest on every page.
    let fixed = strata.iter().all(|one| one.fixed && (one.tuple - tuple).abs() < 0.5);
    let leaf = if fixed && !merged { (LEAF / single).floor() * single } else { LEAF - single / 2.0 };
    let leaves = (bytes / leaf.max(single)).ceil().max(1.0);
    let fan_out = (INNER / (tuple.min(64.0) + 8.0 + LINE_POINTER)).max(2.0);
    let (mut pages, mut level) = (leaves + 1.0, leaves);
    while level > 1.0 {
        level = (level / fan_out).ceil();
        pages += level;
    }
    pages * PAGE
}

/// Bytes of a BRIN index.
#[must_use]
pub fn brin(table_pages: f64, pages_per_range: u32, width: f64) -> f64 {
    let ranges = (table_pages / f64::from(pages_per_range.max(1))).ceil().max(1.0);
    let tuple = up_to_8(8.0 + 2.0 * width) + LINE_POINTER;
    let regular = (ranges * tuple / (PAGE - 48.0)).ceil();
    let map = (ranges / 1360.0).ceil();
    (1.0 + map + regular) * PAGE
}

/// Bytes of an index over `share` of its table's rows.
#[must_use]
pub fn of(candidate: &Candidate, sample: &Sample, share: f64) -> f64 {
    match candidate.method {
        Method::Btree => {
            let merged = candidate.include.is_empty()
                && candidate.keys.iter().all(|key| match &key.key {
                    Key::Column(name) => candidate.table.column(name).is_none_or(|one| one.deduplicates),
                    Key::Expression { .. } => true,
                });
            btree(&strata(candidate, sample, share), merged)
        }
        Method::Brin { pages } => {
            let width = |name: &str| candidate.table.column(name).map_or(8.0, |column| column.width);
            let width = candidate.keys.iter().flat_map(|key| key.key.columns()).map(width).sum();
            brin(candidate.table.pages, pages, width)
        }
        // What values hold is not known without looking: `gin`.
        Method::Gin => f64::INFINITY,
    }
}

fn strata(candidate: &Candidate, sample: &Sample, share: f64) -> Vec<Stratum> {
    let table = &candidate.table;
    let keys: Vec<Key> = candidate.keys.iter().map(|key| key.key.clone()).collect();
    let column = |key: &Key| match key {
        Key::Column(name) => table.column(name),
        Key::Expression { .. } => None,
    };
    let values = |key: &Key| match column(key) {
        Some(column) => column.distinct,
        None => sample.distinct(key, table.rows),
    };
    let mut all = Vec::new();
    for part in sample.parts(candidate, &keys) {
        let rows = table.rows * share * part.share;
        let present: Vec<&Key> =
            keys.iter().zip(&part.present).filter(|(_, there)| **there).map(|(key, _)| key).collect();
        let singles: Vec<f64> = present.iter().map(|key| values(key)).collect();
        let distinct = match (singles.as_slice(), part.together) {
            ([], _) => 1.0,
            ([one], _) => remaining(one.min(table.rows), table.rows, share * part.share),
            (several, together) => {
                let left =
                    |distinct: f64| remaining(distinct.min(table.rows), table.rows, share * part.share);
                let least = several.iter().copied().map(left).fold(1.0, f64::max);
                let most = occupied(rows, several.iter().product()).max(least);
                together.map_or(most, |seen| seen.of(rows)).clamp(least.min(most), most)
            }
        };
        let common = match (keys.as_slice(), present.first().and_then(|key| column(key))) {
            // Of one key the statistics know more than the sample; a predicate leaves of each value what it leaves of all.
            ([_], Some(column)) => column.common.iter().map(|(_, each)| each * table.rows * share).collect(),
            _ => Vec::new(),
        };
        all.push(Stratum { rows, distinct, common, tuple: part.tuple, fixed: part.fixed });
    }
    all
}

/// How many of `cells` equally likely values `rows` rows take.
fn occupied(rows: f64, cells: f64) -> f64 {
    if rows <= 0.0 {
        return 0.0;
    }
    (cells * -(-rows / cells.max(1.0)).exp_m1()).clamp(1.0, rows.max(1.0))
}

/// How many of the distinct values of `rows` rows are left in a share of them.
fn remaining(distinct: f64, rows: f64, share: f64) -> f64 {
    let each = rows / distinct.max(1.0);
    distinct * (1.0 - (1.0 - share.clamp(0.0, 1.0)).powf(each.max(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(rows: f64, distinct: f64, merged: bool) -> f64 {
        let stratum = Stratum { rows, distinct, common: Vec::new(), tuple: 16.0, fixed: true };
        btree(&[stratum], merged) / PAGE
    }

    #[test]
    fn integers_without_duplicates_take_366_to_a_page() {
        // What PostgreSQL 15 makes of generate_series(1, 1000000): 2745 pages.
        let plain = pages(1e6, 1e6, false);
        assert!((2735.0..2755.0).contains(&plain), "{plain}");
        // Merging changes nothing where there is nothing to merge.
        let merged = pages(1e6, 1e6, true);
        assert!((2700.0..2800.0).contains(&merged), "{merged}");
    }

    #[test]
    fn duplicates_take_six_bytes_and_a_bit() {
        let bytes_per_row = pages(1e6, 10.0, true) * PAGE / 1e6;
        assert!((6.2..7.4).contains(&bytes_per_row), "{bytes_per_row}");
    }

    #[test]
    fn never_less_than_two_pages_and_never_nonsense() {
        for rows in [0.0, 1.0, 2.0, 1e3, 1e9] {
            for distinct in [0.0, 1.0, 1e3, 1e12] {
                for tuple in [0.0, 16.0, 400.0, 2700.0] {
                    for merged in [true, false] {
                        let one = Stratum { rows, distinct, common: vec![rows / 2.0], tuple, fixed: false };
                        let strata = [one.clone(), Stratum { rows: 0.0, ..one }];
                        let bytes = btree(&strata, merged);
                        assert!(bytes.is_finite() && bytes >= 2.0 * PAGE, "{strata:?}: {bytes}");
                        let most = (rows + 3.0) * (tuple.max(16.0) + 8.0) * 2.0 + 4.0 * PAGE;
                        assert!(bytes <= most, "{strata:?}: {bytes}");
                    }
                }
            }
        }
        assert!(btree(&[], true) >= 2.0 * PAGE);
    }
}
