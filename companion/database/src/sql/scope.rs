//! Scopes: which table a name means.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlparser::ast::{
    Cte, Expr, Ident, JoinConstraint, JoinOperator, LimitClause, ObjectName, OrderByExpr, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins,
};

use super::expression::stripped;
use super::{Access, Key, Kind, Predicate};
use crate::catalog::Catalog;

/// Parts of a partitioned table that are looked at: the largest.
const MOST_PARTS: usize = 16;

/// A column of an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub access: usize,
    pub column: String,
}

/// What a derived table gives: names, and where each comes from if it is a column as it stands.
pub(super) type Outputs = Vec<(String, Option<Place>)>;

/// A name in a FROM clause.
pub(super) enum Relation {
    Table { name: String, access: usize },
    Derived { name: String, outputs: Outputs },
}

/// The relations that a SELECT sees, and those around it.
pub(super) struct Scope<'p> {
    pub(super) relations: Vec<Relation>,
    pub(super) parent: Option<&'p Scope<'p>>,
}

pub(super) struct Analyzer<'c> {
    pub(super) catalog: &'c Catalog,
    pub(super) accesses: Vec<Access>,
    pub(super) tables: Vec<(String, Outputs)>,
    /// Views that stand in views.
    pub(super) views: usize,
    pub(super) wrote: bool,
    /// Relations that one SELECT joins, at most.
    pub(super) joined: usize,
}

/// An identifier as PostgreSQL compares it: in small letters unless quoted.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

impl<'c> Analyzer<'c> {
    pub fn new(catalog: &'c Catalog) -> Self {
        Self { catalog, accesses: Vec::new(), tables: Vec::new(), views: 0, wrote: false, joined: 0 }
    }

    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// The accesses; one of a partitioned table is one of each of its parts.
    pub fn finish(self) -> Vec<Access> {
        let mut all = Vec::new();
        for access in self.accesses {
            match self.catalog.parts(access.table.oid) {
                Some(parts) => all.extend(
                    parts.take(MOST_PARTS).map(|part| Access { table: Arc::clone(part), ..access.clone() }),
                ),
                None => all.push(access),
            }
        }
        all
    }

    pub fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Query(query) => drop(self.query(query, None)),
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            _ => {}
        }
    }

    pub(super) fn query(&mut self, query: &Query, parent: Option<&Scope<'_>>) -> Outputs {
        let outer = self.tables.len();
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.common_table(table, query.with.as_ref().is_some_and(|with| with.recursive), parent);
        }
        let limited = query.fetch.is_some()
            || matches!(&query.limit_clause, Some(LimitClause::LimitOffset { limit: Some(_), .. }));
        let order = match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(order)) => order.as_slice(),
            _ => &[],
        };
        let outputs = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, parent, order, limited),
            other => self.set(other, parent),
        };
        self.tables.truncate(outer);
        outputs
    }

    fn common_table(&mut self, table: &Cte, recursive: bool, parent: Option<&Scope<'_>>) {
        let name = folded(&table.alias.name);
        let named = table.alias.columns.iter().map(|column| (folded(&column.name), None)).collect();
        let at = self.tables.len();
        if recursive {
            self.tables.push((name.clone(), named));
        }
        let outputs = self.query(&table.query, parent);
        self.tables.truncate(at);
        self.tables
            .push((name, renamed(outputs, table.alias.columns.iter().map(|column| folded(&column.name)))));
    }

    fn set(&mut self, set: &SetExpr, parent: Option<&Scope<'_>>) -> Outputs {
        match set {
            SetExpr::Select(select) => self.select(select, parent, &[], false),
            SetExpr::Query(query) => self.query(query, parent),
            SetExpr::SetOperation { left, right, .. } => {
                let outputs = self.set(left, parent);
                self.set(right, parent);
                // A condition on the whole would have to reach both sides.
                outputs.into_iter().map(|(name, _)| (name, None)).collect()
            }
            SetExpr::Insert(statement) | SetExpr::Update(statement) | SetExpr::Delete(statement) => {
                self.statement(statement);
                Vec::new()
            }
            SetExpr::Values(_) | SetExpr::Merge(_) | SetExpr::Table(_) => Vec::new(),
        }
    }

    fn select(
        &mut self,
        select: &Select,
        parent: Option<&Scope<'_>>,
        order: &[OrderByExpr],
        limited: bool,
    ) -> Outputs {
        let mut scope = Scope { relations: Vec::new(), parent };
        let mut conditions: Vec<&Expr> = Vec::new();
        select.from.iter().for_each(|table| self.relations(table, &mut scope, &mut conditions));
        self.joined = self.joined.max(scope.relations.len());
        conditions.extend(&select.selection);
        self.conditions(&conditions, &scope);
        let outputs = self.projection(select, &scope);
        if let Some(having) = &select.having {
            self.uses(having, &scope);
        }
        self.group(select, &scope);
        self.order(select, order, limited, &scope);
        outputs
    }

    pub(super) fn conditions(&mut self, conditions: &[&Expr], scope: &Scope<'_>) {
        for condition in conditions {
            self.conjunct(condition, scope);
        }
        for condition in conditions {
            self.uses(condition, scope);
        }
    }

    fn projection(&mut self, select: &Select, scope: &Scope<'_>) -> Outputs {
        let mut outputs = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    self.uses(expr, scope);
                    let name = match stripped(expr) {
                        Expr::Identifier(name) => folded(name),
                        Expr::CompoundIdentifier(names) => names.last().map(folded).unwrap_or_default(),
                        _ => String::new(),
                    };
                    outputs.push((name, self.column(expr, scope)));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.uses(expr, scope);
                    outputs.push((folded(alias), self.column(expr, scope)));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let name = name.0.last().and_then(|part| part.as_ident()).map(folded);
                    outputs.extend(self.everything(scope, name.as_deref()));
                }
                SelectItem::Wildcard(_) => outputs.extend(self.everything(scope, None)),
                _ => {}
            }
        }
        outputs
    }

    /// `*` and `name.*`.
    fn everything(&mut self, scope: &Scope<'_>, only: Option<&str>) -> Outputs {
        let mut outputs = Vec::new();
        for relation in &scope.relations {
            match relation {
                Relation::Table { name, access } if only.is_none_or(|only| only == name) => {
                    let Some(place) = self.accesses.get_mut(*access) else { continue };
                    for column in &place.table.columns {
                        place.used.insert(column.name.clone());
                        let from = Place { access: *access, column: column.name.clone() };
                        outputs.push((column.name.clone(), Some(from)));
                    }
                }
                Relation::Derived { name, outputs: inner } if only.is_none_or(|only| only == name) => {
                    outputs.extend(inner.iter().cloned());
                }
                _ => {}
            }
        }
        outputs
    }

    pub(super) fn relations<'e>(
        &mut self,
        from: &'e TableWithJoins,
        scope: &mut Scope<'_>,
        conditions: &mut Vec<&'e Expr>,
    ) {
        self.relation(&from.relation, scope, conditions);
        for join in &from.joins {
            let before = scope.relations.len();
            self.relation(&join.relation, scope, conditions);
            let constraint = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::Left(constraint)
                | JoinOperator::LeftOuter(constraint)
                | JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint) => constraint,
                _ => continue,
            };
            match constraint {
                JoinConstraint::On(condition) => conditions.push(condition),
                JoinConstraint::Using(names) => {
                    let names = names.iter().filter_map(|name| name.0.last()?.as_ident().map(folded));
                    names.for_each(|name| self.using(&name, before, scope));
                }
                _ => {}
            }
        }
    }

    /// `USING (name)`: equal on both sides.
    fn using(&mut self, name: &str, before: usize, scope: &Scope<'_>) {
        let find = |relations: &[Relation]| relations.iter().find_map(|relation| self.within(relation, name));
        let (left, right) = scope.relations.split_at_checked(before).unwrap_or((&[], &[]));
        let places = [find(left), find(right)];
        for place in places.into_iter().flatten() {
            self.joined(place);
        }
    }

    /// Notes that a column is compared with one of another table.
    pub(super) fn joined(&mut self, place: Place) {
        self.used(&place);
        let Some(access) = self.accesses.get_mut(place.access) else { return };
        let clause = place.column.clone();
        let key = Key::Column(place.column);
        access.predicates.push(Predicate {
            key,
            kind: Kind::Join,
            clause,
            value: None,
            constant: false,
            since: None,
        });
    }

    fn relation<'e>(
        &mut self,
        factor: &'e TableFactor,
        scope: &mut Scope<'_>,
        conditions: &mut Vec<&'e Expr>,
    ) {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let own = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
                let shown = alias.as_ref().map_or(own.clone(), |alias| folded(&alias.name));
                let common = self.tables.iter().rev().find(|(table, _)| name.0.len() == 1 && *table == own);
                if let Some((_, outputs)) = common {
                    scope.relations.push(Relation::Derived { name: shown, outputs: outputs.clone() });
                } else if let Some(access) = self.table(name) {
                    scope.relations.push(Relation::Table { name: shown, access });
                } else if let Some(outputs) = self.view(name) {
                    scope.relations.push(Relation::Derived { name: shown, outputs });
                }
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let outputs = self.query(subquery, if *lateral { Some(&*scope) } else { scope.parent });
                let names = alias.iter().flat_map(|alias| &alias.columns).map(|column| folded(&column.name));
                let outputs = renamed(outputs, names);
                let name = alias.as_ref().map(|alias| folded(&alias.name)).unwrap_or_default();
                scope.relations.push(Relation::Derived { name, outputs });
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                self.relations(table_with_joins, scope, conditions)
            }
            _ => {}
        }
    }

    pub(super) fn table(&mut self, name: &ObjectName) -> Option<usize> {
        let mut parts = name.0.iter().rev().filter_map(|part| part.as_ident()).map(folded);
        let (table, schema) = (parts.next()?, parts.next());
        let table = Arc::clone(self.catalog.find(schema.as_deref(), &table)?);
        self.accesses.push(Access {
            table,
            used: BTreeSet::new(),
            predicates: Vec::new(),
            order: Vec::new(),
            group: Vec::new(),
            limited: false,
            written: None,
        });
        self.accesses.len().checked_sub(1)
    }

    /// Where a bare column comes from.
    pub(super) fn column(&self, expr: &Expr, scope: &Scope<'_>) -> Option<Place> {
        match stripped(expr) {
            Expr::Identifier(name) => self.resolve(None, &folded(name), scope),
            Expr::CompoundIdentifier(names) => {
                let mut names = names.iter().rev().map(folded);
                let (column, table) = (names.next()?, names.next());
                self.resolve(table.as_deref(), &column, scope)
            }
            _ => None,
        }
    }

    fn resolve(&self, table: Option<&str>, column: &str, scope: &Scope<'_>) -> Option<Place> {
        for relation in &scope.relations {
            let (Relation::Table { name, .. } | Relation::Derived { name, .. }) = relation;
            match table {
                Some(table) if table == name => return self.within(relation, column),
                Some(_) => {}
                None => {
                    if let Some(place) = self.within(relation, column) {
                        return Some(place);
                    }
                    if let Relation::Derived { outputs, .. } = relation
                        && outputs.iter().any(|(name, _)| name == column)
                    {
                        return None;
                    }
                }
            }
        }
        scope.parent.and_then(|parent| self.resolve(table, column, parent))
    }

    fn within(&self, relation: &Relation, column: &str) -> Option<Place> {
        match relation {
            Relation::Table { access, .. } => {
                self.accesses.get(*access)?.table.column(column)?;
                Some(Place { access: *access, column: column.to_owned() })
            }
            Relation::Derived { outputs, .. } => {
                outputs.iter().find(|(name, _)| name == column).and_then(|(_, place)| place.clone())
            }
        }
    }

    pub(super) fn used(&mut self, place: &Place) {
        if let Some(access) = self.accesses.get_mut(place.access) {
            access.used.insert(place.column.clone());
        }
    }
}

fn renamed(outputs: Outputs, names: impl Iterator<Item = String>) -> Outputs {
    let mut outputs = outputs;
    for ((name, _), new) in outputs.iter_mut().zip(names) {
        *name = new;
    }
    outputs
}
