//! Expressions: what is constant, what can be a key of an index, and their text with unqualified names.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Value, Visit, VisitMut, Visitor, VisitorMut};

use super::Key;
use super::scope::{Analyzer, Place, Scope, folded};

/// Without parentheses around it.
pub(super) fn stripped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => stripped(inner),
        other => other,
    }
}

/// `ORDER BY 2` names the second output: 1 here.
pub(super) fn position(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse::<usize>().ok()?.checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}

/// The text of a literal, as statistics have it.
pub(super) fn literal(expr: &Expr) -> Option<String> {
    match stripped(expr) {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => Some(text.clone()),
            Value::SingleQuotedString(text) => Some(text.clone()),
            Value::Boolean(value) => Some(if *value { "t" } else { "f" }.to_owned()),
            _ => None,
        },
        Expr::Cast { expr, .. } => literal(expr),
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// What an expression holds.
#[derive(Default)]
struct Contents {
    names: Vec<Expr>,
    calls: bool,
    queries: bool,
    parameters: bool,
    conditional: bool,
}

impl Visitor for Contents {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries = true;
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.names.push(expr.clone()),
            Expr::Function(function) => {
                self.calls = true;
                // Aggregates and window functions are no keys.
                let name =
                    function.name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
                self.conditional |= function.over.is_some() || AGGREGATES.contains(&name.as_str());
            }
            Expr::Case { .. } => self.conditional = true,
            Expr::Value(value) => self.parameters |= matches!(value.value, Value::Placeholder(_)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

const AGGREGATES: [&str; 12] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "array_agg",
    "string_agg",
    "jsonb_agg",
    "json_agg",
    "bool_and",
    "bool_or",
    "stddev_samp",
];

fn contents(expr: &Expr) -> Contents {
    let mut contents = Contents::default();
    let _: ControlFlow<()> = expr.visit(&mut contents);
    contents
}

/// Literals alone: neither names, calls, queries nor parameters.
pub(super) fn constant(expr: &Expr) -> bool {
    let contents = contents(expr);
    contents.names.is_empty() && !contents.calls && !contents.queries && !contents.parameters
}

/// The text with names that stand alone.
pub(super) fn unqualified(expr: &Expr) -> String {
    struct Strip;
    impl VisitorMut for Strip {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(names) = expr
                && let Some(last) = names.last()
            {
                *expr = Expr::Identifier(last.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = stripped(expr).clone();
    let _: ControlFlow<()> = VisitMut::visit(&mut expr, &mut Strip);
    expr.to_string()
}

impl Analyzer<'_> {
    /// What an index on the expression would have as its key, and on which access.
    pub(super) fn key(&self, expr: &Expr, scope: &Scope<'_>) -> Option<(usize, Key)> {
        let expr = stripped(expr);
        if let Some(Place { access, column }) = self.column(expr, scope) {
            return Some((access, Key::Column(column)));
        }
        let contents = contents(expr);
        if contents.names.is_empty() || contents.queries || contents.parameters || contents.conditional {
            return None;
        }
        let places: Vec<Place> =
            contents.names.iter().map(|name| self.column(name, scope)).collect::<Option<_>>()?;
        let access = places.first()?.access;
        let table = &self.accesses.get(access)?.table;
        // Behind a derived table a column may have another name.
        let same = places.iter().zip(&contents.names).all(|(place, name)| {
            place.access == access
                && table.column(&place.column).is_some()
                && last_name(name) == Some(place.column.clone())
        });
        let columns: BTreeSet<String> = places.into_iter().map(|place| place.column).collect();
        same.then(|| (access, Key::Expression { sql: unqualified(expr), columns }))
    }

    /// The accesses whose columns an expression reads; `None` when it holds a query.
    pub(super) fn readers(&self, expr: &Expr, scope: &Scope<'_>) -> Option<BTreeSet<usize>> {
        let contents = contents(expr);
        if contents.queries {
            return None;
        }
        Some(
            contents
                .names
                .iter()
                .filter_map(|name| self.column(name, scope))
                .map(|place| place.access)
                .collect(),
        )
    }
}

/// The name of a column, without its table's.
pub(super) fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(names) => names.last().map(folded),
        _ => None,
    }
}
