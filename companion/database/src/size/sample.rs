//! A sample of a table's rows: how wide values are, and which go together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Candidate, up_to_8};
use crate::Error;
use crate::catalog::{Table, quoted};
use crate::sql::Key;

/// Rows of a sample.
const ROWS: f64 = 3000.0;
/// Columns of one statement: PostgreSQL permits 1664 outputs, and two are taken for each.
const COLUMNS: usize = 400;

/// A value of a row: its bytes, and a number that is equal for equal values. `None` is null.
type Value = Option<(u32, i32)>;

/// Sampled values of the keys of one table.
#[derive(Debug, Default)]
pub struct Sample {
    values: HashMap<Key, Vec<Value>>,
}

impl Sample {
    /// Mean bytes of an index tuple of these, and whether all have the same length.
    pub(super) fn tuple(&self, table: &Table, keys: &[Key]) -> (f64, bool) {
        let columns: Vec<&Vec<Value>> = keys.iter().filter_map(|key| self.values.get(key)).collect();
        let rows = columns.iter().map(|values| values.len()).min().unwrap_or(0);
        if columns.len() < keys.len() || rows == 0 {
            return (by_statistics(table, keys), false);
        }
        let mut total = 0.0;
        let mut first = None;
        let mut fixed = true;
        for row in 0..rows {
            let values =
                keys.iter().zip(&columns).map(|(key, values)| (key, values.get(row).copied().flatten()));
            let bytes = tuple(table, values);
            fixed &= *first.get_or_insert(bytes) == bytes;
            total += f64::from(bytes);
        }
        #[expect(clippy::cast_precision_loss, reason = "some thousand rows")]
        let mean = total / rows as f64;
        (mean, fixed)
    }

    /// Distinct values in a table of so many rows (the estimator of Haas and Stokes that ANALYZE uses).
    pub(super) fn distinct(&self, key: &Key, rows: f64) -> f64 {
        let Some(values) = self.values.get(key) else { return (rows / 10.0).clamp(1.0, 200.0) };
        let mut counts: HashMap<i32, u32> = HashMap::new();
        for (_, hash) in values.iter().flatten() {
            *counts.entry(*hash).or_default() += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "some thousand rows")]
        let (sampled, seen, once) = (
            values.len() as f64,
            counts.len() as f64,
            counts.values().filter(|count| **count == 1).count() as f64,
        );
        let rows = rows.max(sampled);
        (sampled * seen / (sampled - once + once * sampled / rows).max(1.0)).clamp(1.0, rows.max(1.0))
    }

    /// The key that decides all others, if the sample shows one.
    pub(super) fn dependent(&self, keys: &[Key]) -> Option<usize> {
        if keys.len() < 2 {
            return None;
        }
        let columns: Vec<&Vec<Value>> = keys.iter().map(|key| self.values.get(key)).collect::<Option<_>>()?;
        let rows = columns.iter().map(|values| values.len()).min()?;
        let together: HashSet<Vec<Value>> = (0..rows)
            .map(|row| columns.iter().map(|values| values.get(row).copied().flatten()).collect())
            .collect();
        columns.iter().position(|values| {
            let alone = values.iter().take(rows).collect::<HashSet<_>>().len();
            // Only a value that comes again can show that the others come with it.
            alone.saturating_mul(10) < rows.saturating_mul(9)
                && together.len() <= alone.saturating_add(alone / 50)
        })
    }
}

fn by_statistics(table: &Table, keys: &[Key]) -> f64 {
    let mut bytes = 8.0;
    for key in keys {
        bytes += match key {
            Key::Column(name) => table.column(name).map_or(8.0, |column| column.width),
            Key::Expression { .. } => 16.0,
        };
    }
    up_to_8(bytes)
}

fn tuple<'k>(table: &Table, values: impl Iterator<Item = (&'k Key, Value)>) -> u32 {
    let mut bytes = 0_u32;
    let mut null = false;
    for (key, value) in values {
        let Some((width, _)) = value else {
            null = true;
            continue;
        };
        let (width, alignment) = match key {
            Key::Column(name) => match table.column(name) {
                Some(column) if column.length > 0 => (width, u32::try_from(column.alignment).unwrap_or(8)),
                // Short values of varying length have a header of one byte and no alignment.
                _ if width <= 127 => (width, 1),
                _ => (width, 4),
            },
            // Computed values come with a header of four bytes, which is shortened when they are stored.
            Key::Expression { .. } if (5..=130).contains(&width) => (width.saturating_sub(3), 1),
            Key::Expression { .. } => (width, 4),
        };
        bytes = bytes.div_ceil(alignment.max(1)).saturating_mul(alignment.max(1)).saturating_add(width);
    }
    let header = if null { 16 } else { 8 };
    bytes.saturating_add(header).div_ceil(8).saturating_mul(8)
}

/// Takes samples and asks the planner how many rows conditions leave.
#[derive(Debug)]
pub struct Sampler<'c> {
    client: &'c Client,
    shares: HashMap<(u32, String), f64>,
}

impl<'c> Sampler<'c> {
    /// On a connection.
    #[must_use]
    pub fn new(client: &'c Client) -> Self {
        Self { client, shares: HashMap::new() }
    }

    /// Samples what the candidates store, table by table.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn samples(&self, candidates: &[Candidate]) -> Result<HashMap<u32, Sample>, Error> {
        let mut wanted: BTreeMap<u32, (&Candidate, BTreeSet<Key>)> = BTreeMap::new();
        for candidate in candidates {
            let (_, keys) = wanted.entry(candidate.table.oid).or_insert_with(|| (candidate, BTreeSet::new()));
            keys.extend(candidate.keys.iter().map(|key| key.key.clone()));
            keys.extend(candidate.include.iter().cloned().map(Key::Column));
        }
        let mut samples = HashMap::new();
        for (oid, (candidate, keys)) in wanted {
            let keys: Vec<Key> = keys.into_iter().take(COLUMNS).collect();
            samples.insert(oid, self.sample(&candidate.table, &keys).await?);
        }
        Ok(samples)
    }

    async fn sample(&self, table: &Table, keys: &[Key]) -> Result<Sample, Error> {
        let percent = (ROWS * 130.0 / table.rows.max(1.0)).clamp(0.0001, 100.0);
        let outputs: Vec<String> = keys
            .iter()
            .map(|key| {
                let sql = match key {
                    Key::Column(name) => quoted(name),
                    Key::Expression { sql, .. } => format!("({sql})"),
                };
                format!("pg_column_size({sql}), hashtext({sql}::text)")
            })
            .collect();
        let statement = format!(
            "SELECT {} FROM {} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1) LIMIT {ROWS}",
            outputs.join(", "),
            table.sql()
        );
        let mut sample = Sample::default();
        for message in self.client.simple_query(&statement).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            for (place, key) in keys.iter().enumerate() {
                let number = |at: usize| row.get(at);
                let at = place.saturating_mul(2);
                let width = number(at).and_then(|text| text.parse().ok());
                let hash = number(at.saturating_add(1)).and_then(|text| text.parse().ok());
                sample.values.entry(key.clone()).or_default().push(width.zip(hash));
            }
        }
        Ok(sample)
    }

    /// The share of a table's rows for which a candidate's predicate holds, as the planner sees it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn share(&mut self, candidate: &Candidate) -> Result<f64, Error> {
        let Some(condition) = candidate.condition() else { return Ok(1.0) };
        let key = (candidate.table.oid, condition);
        if let Some(share) = self.shares.get(&key) {
            return Ok(*share);
        }
        let statement = format!("EXPLAIN SELECT FROM {} WHERE {}", candidate.table.sql(), key.1);
        let messages = self.client.simple_query(&statement).await?;
        let rows = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                row.get(0)?.split_once("rows=")?.1.split(' ').next()?.parse::<f64>().ok()
            }
            _ => None,
        });
        let share = (rows.unwrap_or(candidate.table.rows) / candidate.table.rows.max(1.0)).clamp(0.0, 1.0);
        self.shares.insert(key, share);
        Ok(share)
    }
}
