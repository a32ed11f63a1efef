//! Conditions: what each demands of one key.

use sqlparser::ast::{BinaryOperator, Expr, InTarget, UnaryOperator, Value};

use super::expression::{constant, last_name, literal, stripped, unqualified};
use super::scope::{Analyzer, Scope};
use super::{Key, Kind, Predicate};
use crate::catalog::quoted;

impl Analyzer<'_> {
    /// Takes a condition that must hold apart.
    pub(super) fn conjunct(&mut self, expr: &Expr, scope: &Scope<'_>) {
        match stripped(expr) {
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.conjunct(left, scope);
                self.conjunct(right, scope);
            }
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => self.alternatives(expr, scope),
            Expr::BinaryOp { left, op, right } => self.comparison(expr, left, op, right, scope),
            Expr::Between { expr: value, negated: false, low, high } => {
                let fixed = constant(low) && constant(high);
                self.note(value, Kind::Range, expr, fixed, None, scope);
            }
            Expr::In { expr: value, target: InTarget::List(list), negated, .. } => {
                let kind = if *negated { Kind::Not } else { Kind::In };
                self.note(value, kind, expr, list.iter().all(constant), None, scope);
            }
            Expr::IsNull(value) => self.note(value, Kind::Null, expr, true, None, scope),
            Expr::IsNotNull(value) => self.note(value, Kind::Not, expr, true, None, scope),
            Expr::Like { negated: false, any: false, expr: value, pattern, escape_char: None } => {
                if literal(pattern).is_some_and(|text| !text.starts_with(['%', '_'])) {
                    self.note(value, Kind::Prefix, expr, true, None, scope);
                } else if literal(pattern).is_some_and(|text| has_trigram(&text)) {
                    self.note(value, Kind::Infix, expr, true, None, scope);
                }
            }
            Expr::ILike { negated: false, any: false, expr: value, pattern, escape_char: None }
                if literal(pattern).is_some_and(|text| has_trigram(&text)) =>
            {
                self.note(value, Kind::Infix, expr, true, None, scope);
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                self.note(left, Kind::In, expr, constant(right), None, scope);
            }
            Expr::IsTrue(value) => self.note(value, Kind::Equal, expr, true, Some("t"), scope),
            Expr::IsFalse(value) => self.note(value, Kind::Equal, expr, true, Some("f"), scope),
            Expr::UnaryOp { op: UnaryOperator::Not, expr: value } if self.column(value, scope).is_some() => {
                self.note(value, Kind::Equal, expr, true, Some("f"), scope);
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                self.note(expr, Kind::Equal, expr, true, Some("t"), scope);
            }
            _ => {}
        }
    }

    fn comparison(
        &mut self,
        whole: &Expr,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        scope: &Scope<'_>,
    ) {
        let kind = match op {
            BinaryOperator::Eq => Kind::Equal,
            BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq => {
                Kind::Range
            }
            BinaryOperator::NotEq => Kind::Not,
            BinaryOperator::AtArrow
            | BinaryOperator::ArrowAt
            | BinaryOperator::PGOverlap
            | BinaryOperator::AtAt
            | BinaryOperator::AtQuestion => Kind::Contains,
            BinaryOperator::Question | BinaryOperator::QuestionAnd | BinaryOperator::QuestionPipe => {
                Kind::Has
            }
            _ => return,
        };
        if let (Expr::Tuple(left), Expr::Tuple(right)) = (stripped(left), stripped(right)) {
            // Row comparison: equal in all, else decided by the first.
            let pairs = left.iter().zip(right).take(if kind == Kind::Equal { usize::MAX } else { 1 });
            for (left, right) in pairs {
                self.comparison(whole, left, op, right, scope);
            }
            return;
        }
        let inverted = matches!(kind, Kind::Contains | Kind::Has);
        for (one, other) in [(left, right), (right, left)] {
            // `this <@ that`: that holds this.
            if inverted && (*op == BinaryOperator::ArrowAt) == std::ptr::eq(one, left) {
                continue;
            }
            let Some((access, _)) = self.key(one, scope) else { continue };
            let Some(readers) = self.readers(other, scope) else {
                // A scalar subquery: one value.
                if kind != Kind::Not {
                    self.note(one, kind, whole, false, None, scope);
                }
                continue;
            };
            if readers.contains(&access) {
                continue;
            }
            let joins = !readers.is_empty();
            let kind = if joins && kind == Kind::Equal { Kind::Join } else { kind };
            if joins && (kind == Kind::Not || inverted) {
                continue;
            }
            let value = (kind == Kind::Equal).then(|| literal(other)).flatten();
            self.note(one, kind, whole, constant(other), value.as_deref(), scope);
        }
    }

    /// `OR`: what every alternative demands; and alternatives that all compare one key.
    fn alternatives(&mut self, expr: &Expr, scope: &Scope<'_>) {
        let mut branches = Vec::new();
        split(expr, &BinaryOperator::Or, &mut branches);
        let parts: Vec<Vec<&Expr>> = branches
            .iter()
            .map(|branch| {
                let mut parts = Vec::new();
                split(branch, &BinaryOperator::And, &mut parts);
                parts
            })
            .collect();
        let Some((first, others)) = parts.split_first() else { return };
        for part in first {
            if others.iter().all(|other| other.contains(part)) {
                self.conjunct(part, scope);
            }
        }
        let equalities: Option<Vec<(&Expr, bool)>> = branches.iter().map(|branch| equality(branch)).collect();
        let Some(equalities) = equalities else { return };
        let keys: Vec<_> = equalities.iter().map(|(value, _)| self.key(value, scope)).collect();
        if let (Some((value, _)), Some(Some(first))) = (equalities.first(), keys.first())
            && keys.iter().all(|key| key.as_ref() == Some(first))
        {
            let fixed = equalities.iter().all(|(_, fixed)| *fixed);
            self.note(value, Kind::In, expr, fixed, None, scope);
        }
    }

    /// A list over a `varchar` as the planner has it in the end. hypopg keeps predicates as they were written, and would find that the one does not
    /// follow from the other.
    fn folded_list(&self, access: usize, key: &Key, clause: &Expr) -> Option<String> {
        let Key::Column(name) = key else { return None };
        let Expr::In { target: InTarget::List(list), negated, .. } = stripped(clause) else { return None };
        let column = self.accesses.get(access)?.table.column(name)?;
        let (compare, all) = if *negated { ("<>", "ALL") } else { ("=", "ANY") };
        // SQLite has the type's name and nothing of this.
        let varying = self.catalog.version > 0 && column.kind.starts_with("character varying");
        varying
            .then(|| Some(format!("{}::text {compare} {all} ({})", quoted(name), array_of(list)?)))
            .flatten()
    }

    fn note(
        &mut self,
        value: &Expr,
        kind: Kind,
        clause: &Expr,
        fixed: bool,
        literal: Option<&str>,
        scope: &Scope<'_>,
    ) {
        let Some((access, key)) = self.key(value, scope) else { return };
        // Only a clause whose every name is a column of this table can be a predicate.
        let own =
            self.readers(clause, scope).is_some_and(|readers| readers.iter().all(|reader| *reader == access));
        let renamed = matches!(&key, Key::Column(name) if last_name(stripped(value)).as_ref() != Some(name));
        let predicate = Predicate {
            kind,
            clause: self.folded_list(access, &key, clause).unwrap_or_else(|| unqualified(clause)),
            value: literal.map(str::to_owned),
            constant: fixed && own && !renamed,
            since: if kind == Kind::Range && own && !renamed { since(clause, value) } else { None },
            key,
        };
        if let Some(access) = self.accesses.get_mut(access)
            && !access.predicates.contains(&predicate)
        {
            access.predicates.push(predicate);
        }
    }
}

/// `'{"a","b"}'::text[]` of literals.
fn array_of(list: &[Expr]) -> Option<String> {
    let mut elements = Vec::new();
    for expr in list {
        let Expr::Value(value) = stripped(expr) else { return None };
        let Value::SingleQuotedString(text) = &value.value else { return None };
        elements.push(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    Some(format!("'{{{}}}'::text[]", elements.join(",").replace('\'', "''")))
}

/// Whether a pattern demands three letters or digits side by side: with fewer every trigram would have to be looked at.
fn has_trigram(pattern: &str) -> bool {
    pattern.split(|c: char| !c.is_alphanumeric()).any(|word| word.chars().count() >= 3)
}

/// The lower bound of a range over `value`, where it is a literal.
fn since(clause: &Expr, value: &Expr) -> Option<String> {
    let of = |one: &Expr, other: &Expr| stripped(one) == stripped(value) && constant(other);
    match stripped(clause) {
        Expr::BinaryOp { left, op: BinaryOperator::Gt | BinaryOperator::GtEq, right } => {
            of(left, right).then(|| unqualified(clause))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Lt | BinaryOperator::LtEq, right } => {
            of(right, left).then(|| unqualified(clause))
        }
        Expr::Between { expr, negated: false, low, .. } => {
            of(expr, low).then(|| format!("{} >= {low}", unqualified(expr)))
        }
        _ => None,
    }
}

fn split<'e>(expr: &'e Expr, by: &BinaryOperator, parts: &mut Vec<&'e Expr>) {
    match stripped(expr) {
        Expr::BinaryOp { left, op, right } if op == by => {
            split(left, by, parts);
            split(right, by, parts);
        }
        other => parts.push(other),
    }
}

/// `value = literal`: the value, and whether it is compared with a literal.
fn equality(expr: &Expr) -> Option<(&Expr, bool)> {
    match stripped(expr) {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match (constant(left), constant(right)) {
            (false, true) => Some((left, true)),
            (true, false) => Some((right, true)),
            _ => None,
        },
        Expr::In { expr, target: InTarget::List(list), negated: false, .. } => {
            list.iter().all(constant).then_some((expr.as_ref(), true))
        }
        _ => None,
    }
}
