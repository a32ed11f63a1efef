//! Statements that write: which table, how, and what they read to find its rows.

use sqlparser::ast::{
    AssignmentTarget, Delete, FromTable, Insert, ObjectName, TableObject, Update, UpdateTableFromKind,
};

use super::Written;
use super::scope::{Analyzer, Relation, Scope, folded};

impl Analyzer<'_> {
    pub(super) fn insert(&mut self, insert: &Insert) {
        self.wrote = true;
        if let TableObject::TableName(name) = &insert.table
            && let Some(access) = self.table(name).and_then(|access| self.accesses.get_mut(access))
        {
            access.written = Some(Written::Inserted);
        }
        if let Some(source) = &insert.source {
            self.query(source, None);
        }
    }

    pub(super) fn update(&mut self, update: &Update) {
        self.wrote = true;
        let mut scope = Scope { relations: Vec::new(), parent: None };
        let mut conditions = Vec::new();
        self.relations(&update.table, &mut scope, &mut conditions);
        let columns = update.assignments.iter().flat_map(|assignment| match &assignment.target {
            AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
            AssignmentTarget::Tuple(names) => names,
        });
        let columns = columns.filter_map(column).collect();
        self.mark_written(&scope, &Written::Updated(columns));
        if let Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) = &update.from
        {
            from.iter().for_each(|table| self.relations(table, &mut scope, &mut conditions));
        }
        conditions.extend(&update.selection);
        self.conditions(&conditions, &scope);
        for assignment in &update.assignments {
            self.uses(&assignment.value, &scope);
        }
    }

    pub(super) fn delete(&mut self, delete: &Delete) {
        self.wrote = true;
        let mut scope = Scope { relations: Vec::new(), parent: None };
        let mut conditions = Vec::new();
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        from.iter().for_each(|table| self.relations(table, &mut scope, &mut conditions));
        self.mark_written(&scope, &Written::Deleted);
        for table in delete.using.iter().flatten() {
            self.relations(table, &mut scope, &mut conditions);
        }
        conditions.extend(&delete.selection);
        self.conditions(&conditions, &scope);
    }

    fn mark_written(&mut self, scope: &Scope<'_>, written: &Written) {
        for relation in &scope.relations {
            if let Relation::Table { access, .. } = relation
                && let Some(access) = self.accesses.get_mut(*access)
            {
                access.written = Some(written.clone());
            }
        }
    }
}

/// The column that is assigned to. Of a field of a composite type (`place.city`) it is the field: no column, which is told apart by nobody.
fn column(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(folded)
}
