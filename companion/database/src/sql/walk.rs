//! Which columns an expression reads, and the queries in it.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Visit, Visitor};

use super::scope::{Analyzer, Outputs, Scope};

impl Analyzer<'_> {
    /// Notes the columns that an expression reads, and analyzes the queries in it. To be called once for each expression.
    pub(super) fn uses(&mut self, expr: &Expr, scope: &Scope<'_>) {
        let mut walk = Walk { analyzer: self, scope, depth: 0, outputs: Vec::new() };
        let _: ControlFlow<()> = expr.visit(&mut walk);
    }
}

/// Visits an expression without the queries in it, which are analyzed in scopes of their own.
struct Walk<'a, 'c, 's> {
    analyzer: &'a mut Analyzer<'c>,
    scope: &'s Scope<'s>,
    depth: usize,
    /// Of the query that was met last.
    outputs: Outputs,
}

impl Visitor for Walk<'_, '_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 {
            self.outputs = self.analyzer.query(query, Some(self.scope));
        }
        self.depth = self.depth.saturating_add(1);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth = self.depth.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth == 0
            && matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            && let Some(place) = self.analyzer.column(expr, self.scope)
        {
            self.analyzer.used(&place);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        // `x IN (SELECT y ...)` joins both.
        if self.depth == 0
            && let Expr::In { expr, target: sqlparser::ast::InTarget::Subquery(_), negated: false, .. } = expr
        {
            let inner = self.outputs.first().and_then(|(_, place)| place.clone());
            let outer = self.analyzer.column(expr, self.scope);
            for place in [inner, outer].into_iter().flatten() {
                self.analyzer.joined(place);
            }
        }
        ControlFlow::Continue(())
    }
}
