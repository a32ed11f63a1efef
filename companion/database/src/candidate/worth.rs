//! What the statistics say of a condition or key: whether an index could do something with it.

use crate::sql::{Access, Key, Kind, Predicate};

/// A constant may stand in a predicate when its column has at most this many values.
const FEW_VALUES: f64 = 64.0;
/// A range over a column whose correlation is at least this can use BRIN.
pub(super) const CORRELATED: f64 = 0.9;

/// A key whose type has an order, and is not too wide for a page's third.
pub(super) fn usable(access: &Access, key: &Key) -> bool {
    key.columns().all(|name| {
        access.table.column(name).is_some_and(|column| match key {
            Key::Column(_) => column.ordered && column.width < 600.0,
            Key::Expression { .. } => column.width < 4000.0,
        })
    })
}

/// A time that is later the later a row was added, so that a bound on it moves on as the table grows.
pub(super) fn grows(access: &Access, key: &Key) -> bool {
    let Key::Column(name) = key else { return false };
    access.table.column(name).is_some_and(|column| {
        column.correlation >= CORRELATED
            && column.distinct > FEW_VALUES
            && (column.kind.starts_with("timestamp") || column.kind == "date")
    })
}

/// A condition that leaves a part of the table, by a constant that will be asked for again.
pub(super) fn selects_for_partial(access: &Access, predicate: &Predicate) -> bool {
    if !predicate.constant {
        return false;
    }
    let Key::Column(name) = &predicate.key else { return false };
    let Some(column) = access.table.column(name) else { return false };
    match predicate.kind {
        Kind::Null => column.nulls < 0.99,
        Kind::Equal => {
            let few = column.distinct <= FEW_VALUES;
            few && frequency(column, predicate.value.as_deref()) <= 0.75
        }
        Kind::In | Kind::Not => column.distinct <= FEW_VALUES || predicate.clause.ends_with("IS NOT NULL"),
        Kind::Join | Kind::Range | Kind::Prefix | Kind::Infix | Kind::Contains | Kind::Has => false,
    }
}

/// The share of rows with this value.
pub(crate) fn frequency(column: &crate::catalog::Column, value: Option<&str>) -> f64 {
    let known = value.and_then(|value| column.common.iter().find(|(common, _)| common == value));
    known.map_or_else(|| (1.0 - column.nulls) / column.distinct.max(1.0), |(_, share)| *share)
}

pub(super) fn distinct(access: &Access, key: &Key) -> f64 {
    let mut columns = key.columns().filter_map(|name| access.table.column(name));
    columns.next().map_or(1.0, |column| column.distinct)
}
