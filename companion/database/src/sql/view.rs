//! Views: a statement that reads one is read through it, as the planner does.

use sqlparser::ast::{ObjectName, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::MAX_BYTES;
use super::scope::{Analyzer, Outputs, folded};

/// Views within views at most.
const DEEPEST: usize = 8;

impl Analyzer<'_> {
    /// What the view of that name gives; `None` where there is none, or it cannot be read.
    pub(super) fn view(&mut self, name: &ObjectName) -> Option<Outputs> {
        let mut parts = name.0.iter().rev().filter_map(|part| part.as_ident()).map(folded);
        let (view, schema) = (parts.next()?, parts.next());
        let definition = &self.catalog.view(schema.as_deref(), &view)?.definition;
        if self.views >= DEEPEST || definition.len() > MAX_BYTES {
            return None;
        }
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, definition).ok()?;
        let Some(Statement::Query(query)) = statements.first() else { return None };
        // A view sees nothing of the statement around it.
        let around = std::mem::take(&mut self.tables);
        self.views = self.views.saturating_add(1);
        let outputs = self.query(query, None);
        self.views = self.views.saturating_sub(1);
        self.tables = around;
        Some(outputs)
    }
}
