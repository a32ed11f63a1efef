//! An index that could be: its definition as data, and as SQL.

mod generate;
mod worth;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

pub use generate::generate;
pub(crate) use worth::frequency;

use crate::catalog::{Table, quoted};
use crate::sql::{Access, Key, Order};

/// The longest identifier that PostgreSQL keeps.
const LONGEST_NAME: usize = 63;

/// How an index is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Ordered pointers to every row.
    Btree,
    /// The smallest and largest value of each run of this many pages.
    Brin {
        /// Pages in a run.
        pages: u32,
    },
    /// For each thing that values hold, the rows that hold it: an inverted index.
    Gin,
}

/// An index that could be.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// On which table.
    pub table: Arc<Table>,
    /// How it is built.
    pub method: Method,
    /// Its keys, in order.
    pub keys: Vec<Order>,
    /// The operator class of the last key, where it is not the usual one: `text_pattern_ops` finds prefixes in any collation.
    pub class: Option<String>,
    /// Columns that are only carried along.
    pub include: BTreeSet<String>,
    /// The conditions of a partial index, all of which hold for its rows.
    pub predicate: BTreeSet<String>,
    /// A bound from which on a time lies that grows with the table: one more condition of a partial index. Statements that ask for what is
    /// later imply it, today's and tomorrow's.
    pub since: Option<String>,
}

impl Candidate {
    /// What comes behind `ON`.
    #[must_use]
    pub fn definition(&self) -> String {
        let method = match self.method {
            Method::Btree => "",
            Method::Brin { .. } => " USING brin",
            Method::Gin => " USING gin",
        };
        let mut text = format!("{}{method} (", self.table.sql());
        let last = self.keys.len().saturating_sub(1);
        for (place, key) in self.keys.iter().enumerate() {
            if place > 0 {
                text.push_str(", ");
            }
            match &key.key {
                Key::Column(name) => text.push_str(&quoted(name)),
                Key::Expression { sql, .. } if is_call(sql) => text.push_str(sql),
                Key::Expression { sql, .. } => {
                    let _ = write!(text, "({sql})");
                }
            }
            if let Some(class) = self.class.as_ref().filter(|_| place == last) {
                let _ = write!(text, " {class}");
            }
            if key.descending {
                text.push_str(" DESC");
            }
            if key.nulls_first != key.descending {
                text.push_str(if key.nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
            }
        }
        text.push(')');
        if !self.include.is_empty() {
            let names: Vec<String> = self.include.iter().map(|name| quoted(name)).collect();
            let _ = write!(text, " INCLUDE ({})", names.join(", "));
        }
        if let Method::Brin { pages } = self.method {
            let _ = write!(text, " WITH (pages_per_range = {pages})");
        }
        if let Some(condition) = self.condition() {
            let _ = write!(text, " WHERE {condition}");
        }
        text
    }

    /// The predicate as one condition.
    #[must_use]
    pub fn condition(&self) -> Option<String> {
        let clauses: Vec<&str> = self.predicate.iter().chain(&self.since).map(String::as_str).collect();
        (!clauses.is_empty()).then(|| clauses.join(" AND "))
    }

    /// A name of its own: of the table, the keys, and a digest of the definition.
    #[must_use]
    pub fn name(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest: String = Sha256::digest(self.definition().as_bytes())
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut words = vec![self.table.name.as_str()];
        words.extend(self.keys.iter().flat_map(|key| key.key.columns()));
        let mut name: String = words
            .join("_")
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        name.truncate(LONGEST_NAME.saturating_sub(digest.len()).saturating_sub(5));
        format!("pc_{name}_{digest}")
    }

    /// The whole statement.
    #[must_use]
    pub fn create(&self, name: &str, concurrently: bool) -> String {
        let concurrently = if concurrently { "CONCURRENTLY " } else { "" };
        format!("CREATE INDEX {concurrently}{} ON {}", quoted(name), self.definition())
    }

    /// What kind of index it is.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        let method = match self.method {
            Method::Btree => "btree",
            Method::Brin { .. } => "brin",
            Method::Gin => "gin",
        };
        let more = [
            (self.condition().is_some(), "partial"),
            (self.has_expression(), "expression"),
            (!self.include.is_empty(), "covering"),
        ];
        [method].into_iter().chain(more.into_iter().filter_map(|(is, kind)| is.then_some(kind))).collect()
    }

    /// All columns it reads, those of the predicate apart.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().flat_map(|key| key.key.columns()).chain(self.include.iter().map(String::as_str))
    }

    /// It computes something of a row.
    #[must_use]
    pub fn has_expression(&self) -> bool {
        self.keys.iter().any(|key| matches!(key.key, Key::Expression { .. }))
    }

    /// Whether it could be of use for the access: it holds rows that the access asks for, and begins with what it looks for, joins or orders by,
    /// or has all that it reads.
    #[must_use]
    pub fn may_serve(&self, access: &Access) -> bool {
        if access.table.oid != self.table.oid {
            return false;
        }
        let asked = |clause: &String| {
            let mut columns = access.predicates.iter().flat_map(|predicate| predicate.key.columns());
            columns.any(|name| clause.contains(name))
        };
        let first = self.keys.first().map(|order| &order.key);
        let looked_for = || {
            let predicates = access.predicates.iter().map(|predicate| &predicate.key);
            let mut keys = predicates.chain(access.order.iter().map(|order| &order.key)).chain(&access.group);
            keys.any(|key| Some(key) == first)
        };
        let holds = || access.used.iter().all(|name| self.columns().any(|column| column == name));
        self.predicate.iter().chain(&self.since).all(asked) && (looked_for() || holds())
    }

    /// Whether `other` can do all that this one does: the same rows or more, the same keys first, at least the same columns.
    #[must_use]
    pub fn covered_by(&self, other: &Self) -> bool {
        self.table.oid == other.table.oid
            && self.method == other.method
            && self.class == other.class
            && self.predicate.is_superset(&other.predicate)
            && (other.since.is_none() || self.since == other.since)
            && other.keys.starts_with(&self.keys)
            && self.include.iter().all(|name| {
                other.include.contains(name)
                    || other.keys.iter().any(|key| key.key == Key::Column(name.clone()))
            })
    }
}

/// `lower(email)`: a call needs no parentheses of its own.
fn is_call(sql: &str) -> bool {
    let Some((name, rest)) = sql.split_once('(') else { return false };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return false;
    }
    // The parenthesis that opens first closes last.
    let mut depth = 1_usize;
    for (place, c) in rest.char_indices() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            '\'' | '"' => return false,
            _ => {}
        }
        if depth == 0 {
            return place.saturating_add(1) == rest.len();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: Vec<Order>) -> Candidate {
        let table = Table { schema: "public".into(), name: "tasks".into(), ..Table::default() };
        Candidate {
            table: Arc::new(table),
            method: Method::Btree,
            keys,
            class: None,
            include: BTreeSet::new(),
            predicate: BTreeSet::new(),
            since: None,
        }
    }

    #[test]
    fn a_definition_says_everything() {
        let column = |name: &str| Order::ascending(Key::Column(name.into()));
        let mut one =
            index(vec![column("queue"), Order { descending: true, nulls_first: true, ..column("order") }]);
        one.include.insert("id".into());
        one.predicate.insert("state = 'x'".into());
        one.since = Some("at >= '2026-05-01'".into());
        assert_eq!(
            one.definition(),
            "public.tasks (queue, \"order\" DESC) INCLUDE (id) WHERE state = 'x' AND at >= '2026-05-01'"
        );
        let lower = Key::Expression { sql: "lower(email)".into(), columns: ["email".to_owned()].into() };
        let json = Key::Expression { sql: "a ->> 'ip'".into(), columns: ["a".to_owned()].into() };
        let two = index(vec![Order::ascending(lower), Order::ascending(json)]);
        assert_eq!(two.definition(), "public.tasks (lower(email), (a ->> 'ip'))");
        assert!(!is_call("lower(a) || lower(b)") && is_call("f(g(x), y)"));
    }

    #[test]
    fn names_differ_and_fit() {
        let column = |name: &str| Order::ascending(Key::Column(name.into()));
        let long = index(vec![column(&"Ä".repeat(60))]);
        assert!(long.name().len() <= LONGEST_NAME, "{}", long.name());
        assert_ne!(index(vec![column("a"), column("b")]).name(), index(vec![column("a_b")]).name());
    }

    #[test]
    fn a_longer_index_covers_a_shorter_one() {
        let column = |name: &str| Order::ascending(Key::Column(name.into()));
        let (short, long) = (index(vec![column("a")]), index(vec![column("a"), column("b")]));
        assert!(short.covered_by(&long) && !long.covered_by(&short));
        let mut partial = long.clone();
        partial.predicate.insert("x IS NULL".into());
        assert!(!short.covered_by(&partial) && partial.covered_by(&long));
    }
}
