//! Statements that write: which table, and what they read to find its rows.

use sqlparser::ast::{Delete, FromTable, Insert, ObjectName, TableObject, Update, UpdateTableFromKind};

use super::scope::{Analyzer, Relation, Scope};

impl Analyzer<'_> {
    pub(super) fn insert(&mut self, insert: &Insert) {
        self.wrote = true;
        if let TableObject::TableName(name) = &insert.table {
            self.written(name);
        }
        if let Some(source) = &insert.source {
            self.query(source, None);
        }
    }

    fn written(&mut self, name: &ObjectName) {
        if let Some(access) = self.table(name).and_then(|access| self.accesses.get_mut(access)) {
            access.written = true;
        }
    }

    pub(super) fn update(&mut self, update: &Update) {
        self.wrote = true;
        let mut scope = Scope { relations: Vec::new(), parent: None };
        let mut conditions = Vec::new();
        self.relations(&update.table, &mut scope, &mut conditions);
        self.mark_written(&scope);
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
        self.mark_written(&scope);
        for table in delete.using.iter().flatten() {
            self.relations(table, &mut scope, &mut conditions);
        }
        conditions.extend(&delete.selection);
        self.conditions(&conditions, &scope);
    }

    fn mark_written(&mut self, scope: &Scope<'_>) {
        for relation in &scope.relations {
            if let Relation::Table { access, .. } = relation
                && let Some(access) = self.accesses.get_mut(*access)
            {
                access.written = true;
            }
        }
    }
}
