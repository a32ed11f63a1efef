//! Which indexes could serve an access.
//!
//! Keys that are compared for equality come first, in orders that other statements can share; then a range, or the order of
//! the result. Frequent constants and `IS NULL` can move into the predicate of a partial index. Columns that are only read
//! may be carried along, so that the table need not be visited. Where only what is recent is asked for, of a table that grows in time, an
//! index may hold just that. For ranges over columns that follow the table's order there
//! is BRIN; for what values hold (`@>`, `@@`, `LIKE '%text%'` where pg_trgm is installed) GIN.

use std::collections::{BTreeMap, BTreeSet};

use super::worth::{CORRELATED, distinct, grows, selects_for_partial, usable};
use super::{Candidate, Method};
use crate::sql::{Access, Key, Kind, Order, Predicate};

/// Key columns at most.
const WIDEST: usize = 4;
/// Included columns at most.
const MOST_INCLUDED: usize = 6;
/// Below this a table is read faster as a whole.
const SMALLEST_PAGES: f64 = 8.0;
/// Candidates for one access at most, where a statement has but one or two.
const MOST: usize = 160;
/// Candidates for one statement, about; each access gets at least [`LEAST`]. Where there are many statements, each has fewer.
const MOST_OF_STATEMENT: usize = 240;
const MOST_OF_ONE_OF_MANY: usize = 120;
const LEAST: usize = 12;
/// Tables from this size on are worth a BRIN.
const BRIN_PAGES: f64 = 256.0;

/// Indexes that could serve a statement's accesses; `many` is whether it is one of many, `trigrams` the operator class that finds a text within
/// texts, where there is one.
pub fn generate<'a>(
    accesses: &'a [Access],
    many: bool,
    trigrams: Option<&'a str>,
) -> impl Iterator<Item = Candidate> + 'a {
    let most = if many { MOST_OF_ONE_OF_MANY } else { MOST_OF_STATEMENT };
    let most = most.checked_div(accesses.len()).unwrap_or(MOST).clamp(LEAST, MOST);
    accesses.iter().flat_map(move |access| of_access(access, most, trigrams))
}

/// Indexes that could serve the access, the most useful first, without those that there are.
fn of_access(access: &Access, most: usize, trigrams: Option<&str>) -> Vec<Candidate> {
    if access.table.pages < SMALLEST_PAGES {
        return Vec::new();
    }
    let mut found = Found { access, most, all: BTreeMap::new(), order: Vec::new() };
    let parts = Parts::of(access);
    for keys in parts.key_lists(access) {
        found.with_predicates(&keys, &parts);
    }
    found.patterns(&parts);
    found.brin(&parts);
    found.inverted(trigrams);
    found.finish()
}

/// The predicates of an access by what an index can do with them.
struct Parts<'a> {
    equal: Vec<&'a Predicate>,
    joins: Vec<&'a Key>,
    ranges: Vec<&'a Predicate>,
    prefixes: Vec<&'a Predicate>,
    /// Conditions that can be a partial index's.
    partial: Vec<&'a Predicate>,
    /// Bounds from which on rows are asked for, of times that grow with the table.
    recent: Vec<&'a String>,
}

impl<'a> Parts<'a> {
    fn of(access: &'a Access) -> Self {
        let mut parts = Self {
            equal: Vec::new(),
            joins: Vec::new(),
            ranges: Vec::new(),
            prefixes: Vec::new(),
            partial: Vec::new(),
            recent: Vec::new(),
        };
        for predicate in &access.predicates {
            parts.recent.extend(predicate.since.as_ref().filter(|_| grows(access, &predicate.key)));
            if selects_for_partial(access, predicate) {
                parts.partial.push(predicate);
            }
            if !usable(access, &predicate.key) {
                continue;
            }
            match predicate.kind {
                Kind::Equal | Kind::In | Kind::Null => parts.equal.push(predicate),
                Kind::Join if !parts.joins.contains(&&predicate.key) => parts.joins.push(&predicate.key),
                Kind::Range => parts.ranges.push(predicate),
                Kind::Prefix => parts.prefixes.push(predicate),
                Kind::Join | Kind::Not | Kind::Infix | Kind::Contains | Kind::Has => {}
            }
        }
        parts.equal.sort_by(|a, b| distinct(access, &b.key).total_cmp(&distinct(access, &a.key)));
        parts.equal.dedup_by(|a, b| a.key == b.key);
        parts
    }

    /// Lists of keys, ascending where nothing demands another direction.
    fn key_lists(&self, access: &Access) -> Vec<Vec<Order>> {
        let mut lists = Vec::new();
        let equal: Vec<Key> = self.equal.iter().map(|predicate| predicate.key.clone()).collect();
        let order = usable_order(access);
        for prefix in prefixes(&equal) {
            let start: Vec<Order> = prefix.iter().cloned().map(Order::ascending).collect();
            let extended = |more: &[Order]| -> Vec<Order> {
                let mut keys = start.clone();
                for new in more {
                    if !keys.iter().any(|key| key.key == new.key) {
                        keys.push(new.clone());
                    }
                }
                keys.truncate(WIDEST);
                keys
            };
            lists.push(start.clone());
            if !order.is_empty() {
                lists.push(extended(&order));
            }
            for range in &self.ranges {
                let range = Order::ascending(range.key.clone());
                lists.push(extended(std::slice::from_ref(&range)));
                lists.push(extended(&[order.as_slice(), std::slice::from_ref(&range)].concat()));
            }
            for prefix in &self.prefixes {
                lists.push(extended(&[Order::ascending(prefix.key.clone())]));
            }
            for join in &self.joins {
                let join = Order::ascending((*join).clone());
                lists.push(extended(std::slice::from_ref(&join)));
                lists.push(
                    std::iter::once(join.clone())
                        .chain(start.iter().filter(|key| **key != join).cloned())
                        .take(WIDEST)
                        .collect(),
                );
                for range in &self.ranges {
                    lists.push(extended(&[join.clone(), Order::ascending(range.key.clone())]));
                }
                if !order.is_empty() {
                    lists.push(extended(&[std::slice::from_ref(&join), order.as_slice()].concat()));
                }
            }
            if !access.group.is_empty() && access.group.iter().all(|key| usable(access, key)) {
                let group: Vec<Order> = access.group.iter().cloned().map(Order::ascending).collect();
                lists.push(extended(&group));
            }
        }
        for pair in pairs(&self.joins) {
            lists.push(pair.into_iter().map(|key| Order::ascending((**key).clone())).collect());
        }
        lists.retain(|list| !list.is_empty());
        lists
    }
}

struct Found<'a> {
    access: &'a Access,
    most: usize,
    all: BTreeMap<String, Candidate>,
    order: Vec<String>,
}

impl Found<'_> {
    /// The keys with each predicate that makes the index smaller, with and without the columns that are read.
    fn with_predicates(&mut self, keys: &[Order], parts: &Parts<'_>) {
        self.with_columns(keys, &BTreeSet::new(), None);
        let mut choices: BTreeSet<BTreeSet<String>> = BTreeSet::new();
        let clauses = |wanted: &dyn Fn(&Predicate) -> bool| -> BTreeSet<String> {
            parts.partial.iter().filter(|p| wanted(p)).map(|p| p.clause.clone()).collect()
        };
        choices.insert(clauses(&|_| true));
        choices.insert(clauses(&|p| p.kind == Kind::Null));
        choices.insert(clauses(&|p| p.kind != Kind::Not));
        choices.insert(clauses(&|p| p.kind != Kind::Null));
        for one in &parts.partial {
            choices.insert(BTreeSet::from([one.clause.clone()]));
        }
        for predicate in choices.iter().filter(|choice| !choice.is_empty()) {
            self.partial(keys, parts, predicate, None);
        }
        let whole = clauses(&|_| true);
        for since in &parts.recent {
            self.partial(keys, parts, &BTreeSet::new(), Some(since));
            self.partial(keys, parts, &whole, Some(since));
        }
    }

    fn partial(
        &mut self,
        keys: &[Order],
        parts: &Parts<'_>,
        predicate: &BTreeSet<String>,
        since: Option<&String>,
    ) {
        // What the predicate fixes to one value is no key any more.
        let fixed = |key: &Key| {
            let mut fixing = parts.partial.iter().filter(|p| matches!(p.kind, Kind::Equal | Kind::Null));
            fixing.any(|p| p.key == *key && predicate.contains(&p.clause))
        };
        let rest: Vec<Order> = keys.iter().filter(|key| !fixed(&key.key)).cloned().collect();
        if !rest.is_empty() {
            return self.with_columns(&rest, predicate, since);
        }
        // Any key will do: the rows are what is wanted. A small one that is read anyway.
        let carried = self.access.used.iter().find(|name| usable(self.access, &Key::Column((*name).clone())));
        if let Some(name) = carried {
            self.with_columns(&[Order::ascending(Key::Column(name.clone()))], predicate, since);
        }
    }

    fn with_columns(&mut self, keys: &[Order], predicate: &BTreeSet<String>, since: Option<&String>) {
        let bare = Candidate {
            table: self.access.table.clone(),
            method: Method::Btree,
            keys: keys.to_vec(),
            class: None,
            include: BTreeSet::new(),
            predicate: predicate.clone(),
            since: since.cloned(),
        };
        let carried: BTreeSet<String> =
            self.access.used.iter().filter(|name| !is_key(&bare, name)).cloned().collect();
        let bytes: f64 =
            carried.iter().filter_map(|name| self.access.table.column(name)).map(|c| c.width).sum();
        let row: f64 = self.access.table.columns.iter().map(|c| c.width).sum();
        let worth = !carried.is_empty()
            && carried.len() <= MOST_INCLUDED
            && self.access.written.is_none()
            && bytes <= (row * 0.6).max(24.0)
            && bytes <= 400.0;
        let covering = worth.then(|| Candidate { include: carried, ..bare.clone() });
        self.add(bare);
        if let Some(covering) = covering {
            self.add(covering);
        }
    }

    /// `LIKE 'text%'` where the collation is no order of bytes.
    fn patterns(&mut self, parts: &Parts<'_>) {
        for prefix in &parts.prefixes {
            let bytewise =
                prefix.key.columns().all(|name| self.access.table.column(name).is_some_and(|c| c.bytewise));
            if bytewise {
                continue;
            }
            let equal = parts.equal.iter().map(|predicate| predicate.key.clone());
            let mut keys: Vec<Order> = equal.take(WIDEST.saturating_sub(1)).map(Order::ascending).collect();
            keys.push(Order::ascending(prefix.key.clone()));
            let candidate = Candidate {
                table: self.access.table.clone(),
                method: Method::Btree,
                keys,
                class: Some("text_pattern_ops".into()),
                include: BTreeSet::new(),
                predicate: BTreeSet::new(),
                since: None,
            };
            self.add(candidate);
        }
    }

    fn brin(&mut self, parts: &Parts<'_>) {
        for range in &parts.ranges {
            let Key::Column(name) = &range.key else { continue };
            let correlated =
                self.access.table.column(name).is_some_and(|c| c.correlation.abs() >= CORRELATED);
            if correlated && self.access.table.pages >= BRIN_PAGES {
                for pages in [16, 64] {
                    self.add(Candidate {
                        table: self.access.table.clone(),
                        method: Method::Brin { pages },
                        keys: vec![Order::ascending(range.key.clone())],
                        class: None,
                        include: BTreeSet::new(),
                        predicate: BTreeSet::new(),
                        since: None,
                    });
                }
            }
        }
    }

    /// Inverted indexes. Which class a type has is asked of the server, which refuses what does not go together.
    fn inverted(&mut self, trigrams: Option<&str>) {
        for predicate in &self.access.predicates {
            let json = || match &predicate.key {
                Key::Column(name) => {
                    self.access.table.column(name).is_some_and(|column| column.kind == "jsonb")
                }
                Key::Expression { sql, .. } => sql.contains("->") && !sql.contains("->>"),
            };
            let class = match (predicate.kind, trigrams) {
                (Kind::Infix, Some(class)) => Some(class.to_owned()),
                (Kind::Contains, _) if json() => Some("jsonb_path_ops".to_owned()),
                (Kind::Contains | Kind::Has, _) => None,
                _ => continue,
            };
            self.add(Candidate {
                table: self.access.table.clone(),
                method: Method::Gin,
                keys: vec![Order::ascending(predicate.key.clone())],
                class,
                include: BTreeSet::new(),
                predicate: BTreeSet::new(),
                since: None,
            });
        }
    }

    fn add(&mut self, candidate: Candidate) {
        let definition = candidate.definition();
        if self.all.len() >= self.most || self.all.contains_key(&definition) || exists(&candidate) {
            return;
        }
        self.order.push(definition.clone());
        self.all.insert(definition, candidate);
    }

    fn finish(mut self) -> Vec<Candidate> {
        self.order.iter().filter_map(|definition| self.all.remove(definition)).collect()
    }
}

fn is_key(candidate: &Candidate, name: &str) -> bool {
    candidate.keys.iter().any(|key| key.key == Key::Column(name.to_owned()))
}

/// The order of the result. One that is all the other way round is read backwards: so the usual one can be shared.
fn usable_order(access: &Access) -> Vec<Order> {
    let known = access.order.iter().take_while(|order| usable(access, &order.key));
    let order: Vec<Order> = known.take(WIDEST).cloned().collect();
    if order.iter().all(|key| key.descending && key.nulls_first) {
        return order.into_iter().map(|key| Order::ascending(key.key)).collect();
    }
    order
}

/// The equality keys in front: all of them in several orders, and each alone.
fn prefixes(equal: &[Key]) -> Vec<Vec<Key>> {
    let equal: Vec<Key> = equal.iter().take(WIDEST).cloned().collect();
    let mut all = vec![equal.clone()];
    if equal.len() >= 2 {
        let mut reversed = equal.clone();
        reversed.reverse();
        all.push(reversed);
        all.extend(equal.iter().map(|key| vec![key.clone()]));
        for first in 1..equal.len() {
            let mut turned = equal.clone();
            turned.rotate_left(first);
            all.push(turned);
        }
        if equal.len() > 2 {
            all.extend(pairs(&equal).into_iter().map(|pair| pair.into_iter().cloned().collect()));
        }
    }
    if !equal.is_empty() {
        all.push(Vec::new());
    }
    let mut seen = BTreeSet::new();
    all.retain(|keys| seen.insert(keys.clone()));
    all
}

fn pairs<T>(items: &[T]) -> Vec<Vec<&T>> {
    let mut all = Vec::new();
    for (place, first) in items.iter().enumerate() {
        for second in items.iter().skip(place.saturating_add(1)) {
            all.push(vec![first, second]);
            all.push(vec![second, first]);
        }
    }
    all
}

/// Whether the table has an index that does all of this, of which the candidate would be a copy.
fn exists(candidate: &Candidate) -> bool {
    if candidate.method != Method::Btree || !candidate.predicate.is_empty() || !candidate.include.is_empty() {
        return false;
    }
    candidate.table.indexes.iter().any(|index| {
        index.valid
            && index.method == "btree"
            && index.predicate.is_none()
            && candidate.keys.len() <= index.keys.len()
            && candidate.keys.iter().zip(&index.keys).all(|(key, existing)| {
                !key.descending
                    && matches!(&key.key, Key::Column(name) if crate::catalog::quoted(name) == *existing)
            })
    })
}
