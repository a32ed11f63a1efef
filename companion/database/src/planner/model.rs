//! What an index would save, reckoned without hypopg: the planner's plan without it, minus the scans that it makes cheaper.
//!
//! It knows scans, sorts that an index makes needless, and nested loops whose inner side an index could serve. It does not
//! know what else the planner would change. So it is more cautious than the planner, and its plans are worth less.

use std::collections::HashMap;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::inverted::{self, Scan};
use super::{Outcome, Planned, explain};
use crate::Error;
use crate::candidate::{Candidate, Method, frequency};
use crate::catalog::{Catalog, Costs};
use crate::sql::{Access, Key, Kind, Predicate};

/// Functions whose answer depends on their arguments alone, of those that often stand in conditions.
const IMMUTABLE: [&str; 12] = [
    "lower",
    "upper",
    "abs",
    "md5",
    "length",
    "coalesce",
    "left",
    "right",
    "substring",
    "trim",
    "reverse",
    "round",
];

pub(super) struct Model<'c> {
    client: &'c Client,
    version: u32,
    costs: Costs,
    plans: HashMap<usize, Base>,
}

/// The plan without any candidate.
#[derive(Clone)]
struct Base {
    cost: f64,
    /// Scans from end to end.
    scans: Vec<Scan>,
    /// What sorting costs.
    sort: f64,
    /// Rows that are written.
    writes: f64,
}

impl<'c> Model<'c> {
    pub fn new(client: &'c Client, catalog: &Catalog) -> Self {
        Self { client, version: catalog.version, costs: catalog.costs, plans: HashMap::new() }
    }

    pub fn client(&self) -> &'c Client {
        self.client
    }

    pub async fn cost(
        &mut self,
        number: usize,
        planned: &Planned,
        candidates: &[Candidate],
        sizes: &[f64],
        set: &[usize],
    ) -> Result<Outcome, Error> {
        let base = match self.plans.get(&number) {
            Some(base) => base.clone(),
            None => {
                let base = self.plan(planned).await?;
                self.plans.insert(number, base.clone());
                base
            }
        };
        let mut outcome = Outcome { cost: base.cost, used: Vec::new(), writes: base.writes };
        let mut scans = base.scans.clone();
        for access in &planned.analysis.accesses {
            let Some(place) = scans.iter().position(|scan| scan.table == access.table.name) else {
                continue;
            };
            let scan = scans.swap_remove(place);
            let mut best: Option<(f64, usize)> = None;
            for index in set {
                let (Some(candidate), Some(bytes)) = (candidates.get(*index), sizes.get(*index)) else {
                    continue;
                };
                let Some(saved) = self.saving(access, candidate, *bytes, &scan, base.sort) else { continue };
                if saved > best.map_or(0.0, |(saved, _)| saved) {
                    best = Some((saved, *index));
                }
            }
            if let Some((saved, index)) = best {
                outcome.cost = (outcome.cost - saved).max(base.cost * 1e-6);
                outcome.used.push(index);
            }
        }
        outcome.used.sort_unstable();
        outcome.used.dedup();
        Ok(outcome)
    }

    async fn plan(&self, planned: &Planned) -> Result<Base, Error> {
        let statement = explain(&planned.query, self.version, "FORMAT JSON");
        let answer = self.client.simple_query(&statement).await;
        let messages = match answer {
            Ok(messages) => messages,
            Err(error) => {
                drop(self.client.simple_query("DEALLOCATE ALL").await);
                return Err(error.into());
            }
        };
        let text = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).filter(|text| text.starts_with('[')),
            _ => None,
        });
        let plan: serde_json::Value =
            text.and_then(|text| serde_json::from_str(text).ok()).ok_or(Error::Unexpected("EXPLAIN"))?;
        let root = plan.pointer("/0/Plan").ok_or(Error::Unexpected("EXPLAIN"))?;
        let mut base = Base { cost: number(root, "Total Cost"), scans: Vec::new(), sort: 0.0, writes: 0.0 };
        if root.get("Node Type").and_then(serde_json::Value::as_str) == Some("ModifyTable") {
            base.writes = root.pointer("/Plans/0").map_or(0.0, |rows| number(rows, "Plan Rows"));
        }
        walk(root, &mut base);
        Ok(base)
    }

    /// What the candidate saves at a sequential scan; `None` when it cannot serve it.
    fn saving(
        &self,
        access: &Access,
        candidate: &Candidate,
        bytes: f64,
        scan: &Scan,
        sort: f64,
    ) -> Option<f64> {
        if candidate.method == Method::Gin {
            let saved = scan.cost - inverted::cost(&self.costs, candidate, scan.rows);
            return (inverted::serves(candidate, access) && saved > 0.0).then_some(saved);
        }
        let table = &access.table;
        let holds = |clause: &String| access.predicates.iter().any(|predicate| predicate.clause == *clause);
        if candidate.table.oid != table.oid || !candidate.predicate.iter().all(holds) {
            return None;
        }
        let since = |bound: &String| access.predicates.iter().any(|one| one.since.as_ref() == Some(bound));
        if !candidate.since.iter().all(since) {
            return None;
        }
        let partial: f64 = access
            .predicates
            .iter()
            .filter(|predicate| candidate.predicate.contains(&predicate.clause))
            .map(|predicate| share(access, predicate))
            .product();
        let mut selected = 1.0;
        let mut matched = 0_usize;
        for key in &candidate.keys {
            let of_key = || access.predicates.iter().filter(|predicate| predicate.key == key.key);
            if let Some(equal) = of_key().find(|p| matches!(p.kind, Kind::Equal | Kind::In | Kind::Null)) {
                selected *= share(access, equal);
                matched = matched.saturating_add(1);
                continue;
            }
            if let Some(range) = of_key().find(|p| matches!(p.kind, Kind::Range | Kind::Prefix)) {
                selected *= share(access, range);
                matched = matched.saturating_add(1);
            }
            break;
        }
        let rest = candidate.keys.get(matched..).unwrap_or_default();
        let ordered = candidate.method == Method::Btree
            && !access.order.is_empty()
            && rest.len() >= access.order.len()
            && rest.iter().zip(&access.order).all(|(key, order)| key.key == order.key);
        if matched == 0 && candidate.predicate.is_empty() && !ordered {
            return None;
        }
        let mut rows = table.rows * partial * selected;
        if ordered && access.limited {
            rows = rows.min(1000.0);
        }
        let covering = access.used.iter().all(|name| candidate.columns().any(|column| column == name));
        let entries = table.rows * partial;
        let leaves = (bytes / 8192.0 * rows / entries.max(1.0)).ceil();
        let heap = if covering { 0.0 } else { self.heap_pages(table.pages, rows, candidate) };
        let (leaves, lossy) = match candidate.method {
            Method::Btree | Method::Gin => (leaves, 1.0),
            Method::Brin { .. } => (bytes / 8192.0, 1.2),
        };
        let cost = self.costs.random_page * (2.0 + heap * lossy)
            + self.costs.sequential_page * leaves
            + rows * lossy * (self.costs.index_tuple + self.costs.tuple + self.costs.operator);
        let saved = scan.cost - cost + if ordered { sort } else { 0.0 };
        (saved > 0.0).then_some(saved)
    }

    /// Pages that are visited for so many rows, by the formula of Mackert and Lohman; rows that lie together share theirs.
    fn heap_pages(&self, pages: f64, rows: f64, candidate: &Candidate) -> f64 {
        let scattered = (2.0 * pages * rows / (2.0 * pages + rows).max(1.0)).min(pages);
        let together = (rows / (candidate.table.rows / pages.max(1.0)).max(1.0)).ceil();
        let correlation = candidate.keys.iter().flat_map(|key| key.key.columns()).next();
        let correlation =
            correlation.and_then(|name| candidate.table.column(name)).map_or(0.0, |c| c.correlation);
        let square = correlation * correlation;
        scattered * (1.0 - square) + together * square
    }
}

/// The share of rows for which a condition holds.
fn share(access: &Access, predicate: &Predicate) -> f64 {
    let column = match &predicate.key {
        Key::Column(name) => access.table.column(name),
        Key::Expression { .. } => None,
    };
    let Some(column) = column else { return 0.005 };
    match predicate.kind {
        Kind::Equal | Kind::Join => frequency(column, predicate.value.as_deref()),
        Kind::In => {
            let values = predicate.clause.matches(',').count().saturating_add(1);
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            let share = values as f64 * frequency(column, None);
            share.min(1.0)
        }
        Kind::Null => column.nulls,
        Kind::Range => 0.1,
        Kind::Prefix | Kind::Infix | Kind::Contains | Kind::Has => 0.01,
        Kind::Not => 0.5,
    }
}

fn number(plan: &serde_json::Value, name: &str) -> f64 {
    plan.get(name).and_then(serde_json::Value::as_f64).unwrap_or(0.0)
}

fn walk(plan: &serde_json::Value, base: &mut Base) {
    let kind = plan.get("Node Type").and_then(serde_json::Value::as_str).unwrap_or_default();
    let children =
        plan.get("Plans").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if kind.ends_with("Seq Scan")
        && let Some(table) = plan.get("Relation Name").and_then(serde_json::Value::as_str)
    {
        let (cost, rows) = (number(plan, "Total Cost"), number(plan, "Plan Rows"));
        base.scans.push(Scan { table: table.to_owned(), cost, rows });
    }
    if kind == "Sort" {
        let below: f64 = children.iter().map(|child| number(child, "Total Cost")).sum();
        base.sort += (number(plan, "Total Cost") - below).max(0.0);
    }
    children.iter().for_each(|child| walk(child, base));
}

/// Whether PostgreSQL would take the expressions: it refuses what may change its answer.
pub(super) fn immutable(candidate: &Candidate) -> bool {
    candidate.keys.iter().all(|key| match &key.key {
        Key::Column(_) => true,
        Key::Expression { sql, .. } => match sql.split_once('(') {
            Some((name, _)) => IMMUTABLE.contains(&name.trim().to_lowercase().as_str()),
            None => sql.contains("->") && !sql.contains("::"),
        },
    })
}
