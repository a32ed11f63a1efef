//! What a result is grouped and ordered by.

use sqlparser::ast::{Distinct, Expr, GroupByExpr, OrderByExpr, OrderBySort, Select, SelectItem};

use super::expression::{position, stripped};
use super::scope::{Analyzer, Relation, Scope, folded};
use super::{Key, Order};

impl Analyzer<'_> {
    pub(super) fn group(&mut self, select: &Select, scope: &Scope<'_>) {
        let mut keys = Vec::new();
        if let GroupByExpr::Expressions(expressions, _) = &select.group_by {
            for expression in expressions {
                let expression = self.aliased(expression, select, scope);
                self.uses(expression, scope);
                keys.push(self.key(expression, scope));
            }
        }
        if keys.is_empty() && matches!(select.distinct, Some(Distinct::Distinct)) {
            for item in &select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    keys.push(self.key(expr, scope));
                }
            }
        }
        if let Some((access, keys)) = of_one_access(keys)
            && let Some(access) = self.accesses.get_mut(access)
        {
            access.group = keys;
        }
    }

    pub(super) fn order(&mut self, select: &Select, order: &[OrderByExpr], limited: bool, scope: &Scope<'_>) {
        let mut keys = Vec::new();
        let mut directions = Vec::new();
        for part in order {
            let expression = self.aliased(&part.expr, select, scope);
            self.uses(expression, scope);
            keys.push(self.key(expression, scope));
            let descending = matches!(part.options.sort, Some(OrderBySort::Desc));
            directions.push((descending, part.options.nulls_first.unwrap_or(descending)));
        }
        if let Some((access, keys)) = of_one_access(keys)
            && let Some(access) = self.accesses.get_mut(access)
        {
            let with = keys.into_iter().zip(directions);
            access.order =
                with.map(|(key, (descending, nulls_first))| Order { key, descending, nulls_first }).collect();
            access.limited = limited;
        } else if order.is_empty() && limited {
            for relation in &scope.relations {
                if let Relation::Table { access, .. } = relation
                    && let Some(access) = self.accesses.get_mut(*access)
                {
                    access.limited = true;
                }
            }
        }
    }

    /// What `ORDER BY 2` and `ORDER BY alias` mean.
    fn aliased<'e>(&self, expression: &'e Expr, select: &'e Select, scope: &Scope<'_>) -> &'e Expr {
        let item = match stripped(expression) {
            Expr::Identifier(name) => {
                let wanted = folded(name);
                let alias = select.projection.iter().find(
                    |item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if folded(alias) == wanted),
                );
                alias.filter(|_| self.column(expression, scope).is_none())
            }
            other => position(other).and_then(|place| select.projection.get(place)),
        };
        match item {
            Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr,
            _ => expression,
        }
    }
}

/// Keys that are all known and all of one access.
fn of_one_access(keys: Vec<Option<(usize, Key)>>) -> Option<(usize, Vec<Key>)> {
    let keys: Vec<(usize, Key)> = keys.into_iter().collect::<Option<_>>()?;
    let access = keys.first()?.0;
    keys.iter()
        .all(|(other, _)| *other == access)
        .then(|| (access, keys.into_iter().map(|(_, key)| key).collect()))
}
