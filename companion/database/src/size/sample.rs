//! A sample of a table's rows: how wide values are, and which go together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Candidate, Method, up_to_8};
use crate::Error;
use crate::catalog::{Table, quoted};
use crate::sql::Key;

/// Rows of a sample, and pages that they are taken from: rows of one page are alike.
const ROWS: f64 = 4000.0;
const PAGES: f64 = 600.0;
/// Columns of one statement: PostgreSQL permits 1664 outputs, and two are taken for each.
const COLUMNS: usize = 400;
/// Conditions of one statement.
const CONDITIONS: usize = 200;
/// With so many sampled rows under a condition these are looked at instead of all; with so many, they tell the share of several
/// conditions together better than the planner, which multiplies.
const ENOUGH: usize = 100;
const ENOUGH_FOR_SHARE: usize = 200;
/// Rows whose tuples are measured.
const MEASURED: usize = 800;
/// An odd number with bits all over: mixes the numbers of values into one.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
/// Kinds of rows that are told apart, by which keys are null.
const KINDS: usize = 8;

/// A value of a row: its bytes, and a number that is equal for equal values. `None` is null.
type Value = Option<(u32, i32)>;

/// Sampled values of the keys of one table, and for which rows conditions hold.
#[derive(Debug, Default)]
pub struct Sample {
    rows: usize,
    values: HashMap<Key, Vec<Value>>,
    holds: HashMap<String, Vec<bool>>,
}

/// Rows of an index that have nulls in the same keys.
pub(super) struct Part {
    /// Their share of the index's rows.
    pub share: f64,
    /// Which keys are not null.
    pub present: Vec<bool>,
    /// Mean bytes of a tuple.
    pub tuple: f64,
    /// All tuples have the same length.
    pub fixed: bool,
    /// How often keys come again, where the sample is large enough to tell.
    pub together: Option<Repetition>,
}

/// How often values come again in a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repetition {
    sampled: f64,
    seen: f64,
    once: f64,
}

impl Repetition {
    fn count(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let runs: Vec<usize> = values.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
        let once = runs.iter().filter(|run| **run == 1).count();
        Self { sampled: number(values.len()), seen: number(runs.len()), once: number(once) }
    }

    /// Distinct values among so many rows (the estimator of Haas and Stokes that ANALYZE uses).
    pub fn of(&self, rows: f64) -> f64 {
        let rows = rows.max(self.sampled).max(1.0);
        let new = self.sampled - self.once + self.once * self.sampled / rows;
        (self.sampled * self.seen / new.max(1.0)).clamp(1.0, rows)
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousand rows")]
fn number(count: usize) -> f64 {
    count as f64
}

impl Sample {
    /// The rows of an index by which of its keys are null.
    pub(super) fn parts(&self, candidate: &Candidate, keys: &[Key]) -> Vec<Part> {
        let table = &candidate.table;
        let stored: Vec<Key> =
            keys.iter().cloned().chain(candidate.include.iter().cloned().map(Key::Column)).collect();
        let columns: Vec<&Vec<Value>> = stored.iter().filter_map(|key| self.values.get(key)).collect();
        if columns.len() < stored.len() || self.rows == 0 {
            let (share, present) = (1.0, vec![true; keys.len()]);
            return vec![Part {
                share,
                present,
                tuple: by_statistics(table, &stored),
                fixed: false,
                together: None,
            }];
        }
        let value = |values: &Vec<Value>, row: usize| values.get(row).copied().flatten();
        let keyed = columns.get(..keys.len()).unwrap_or_default();
        let mut kinds: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for row in self.under(candidate) {
            let present =
                keyed.iter().fold(0, |bits, values| (bits << 1) | u32::from(value(values, row).is_some()));
            kinds.entry(present).or_default().push(row);
        }
        let mut kinds: Vec<(u32, Vec<usize>)> = kinds.into_iter().collect();
        kinds.sort_by_key(|(present, rows)| (std::cmp::Reverse(rows.len()), *present));
        kinds.truncate(KINDS);
        let all: usize = kinds.iter().map(|(_, rows)| rows.len()).sum();
        let part = |(present, rows): (u32, Vec<usize>)| {
            let measured = rows.iter().step_by(rows.len().div_ceil(MEASURED).max(1));
            let lengths: Vec<u32> = measured
                .map(|row| {
                    tuple(table, stored.iter().zip(&columns).map(|(key, values)| (key, value(values, *row))))
                })
                .collect();
            let together = (present.count_ones() > 1 && rows.len() >= ENOUGH / 2).then(|| {
                let mixed = |row: &usize| {
                    let hashes = keyed
                        .iter()
                        .map(|values| value(values, *row).map_or(0, |(_, hash)| hash.cast_unsigned()));
                    hashes.fold(0_u64, |mixed, hash| {
                        (mixed ^ u64::from(hash)).wrapping_mul(MIX).rotate_left(29)
                    })
                };
                Repetition::count(rows.iter().map(mixed).collect())
            });
            Part {
                share: number(rows.len()) / number(all).max(1.0),
                present: (0..keys.len()).rev().map(|place| (present >> place) & 1 == 1).collect(),
                tuple: lengths.iter().copied().map(f64::from).sum::<f64>() / number(lengths.len()).max(1.0),
                fixed: lengths.windows(2).all(|pair| pair.first() == pair.last()),
                together,
            }
        };
        kinds.into_iter().map(part).collect()
    }

    /// Whether all of an index's expressions could be computed of the sampled rows.
    #[must_use]
    pub fn computes(&self, candidate: &Candidate) -> bool {
        let computed =
            |key: &Key| matches!(key, Key::Column(_)) || self.rows == 0 || self.values.contains_key(key);
        candidate.keys.iter().all(|key| computed(&key.key))
    }

    /// The sampled rows that an index holds; all, where they are too few to tell anything.
    fn under(&self, candidate: &Candidate) -> Vec<usize> {
        let holds = candidate.condition().and_then(|condition| self.holds.get(&condition));
        let rows: Vec<usize> = match holds {
            Some(holds) => (0..self.rows).filter(|row| holds.get(*row).copied().unwrap_or(false)).collect(),
            None => Vec::new(),
        };
        if rows.len() >= ENOUGH { rows } else { (0..self.rows).collect() }
    }

    /// The share of rows for which several conditions hold together.
    fn share(&self, condition: &str) -> Option<f64> {
        let holding = self.holds.get(condition)?.iter().filter(|holds| **holds).count();
        (holding >= ENOUGH_FOR_SHARE).then(|| number(holding) / number(self.rows))
    }

    /// Distinct values in a table of so many rows.
    pub(super) fn distinct(&self, key: &Key, rows: f64) -> f64 {
        let Some(values) = self.values.get(key) else { return (rows / 10.0).clamp(1.0, 200.0) };
        Repetition::count(values.iter().flatten().map(|(_, hash)| u64::from(hash.cast_unsigned())).collect())
            .of(rows)
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

/// What is to be sampled of a table.
struct Wanted {
    table: Arc<Table>,
    keys: BTreeSet<Key>,
    conditions: BTreeSet<String>,
}

impl Wanted {
    fn of(candidate: &Candidate) -> Self {
        Self { table: Arc::clone(&candidate.table), keys: BTreeSet::new(), conditions: BTreeSet::new() }
    }
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
        let mut wanted: BTreeMap<u32, Wanted> = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| candidate.method != Method::Gin) {
            let one = wanted.entry(candidate.table.oid).or_insert_with(|| Wanted::of(candidate));
            one.keys.extend(candidate.keys.iter().map(|key| key.key.clone()));
            one.keys.extend(candidate.include.iter().cloned().map(Key::Column));
            one.conditions.extend(candidate.condition());
        }
        let mut samples = HashMap::new();
        for (oid, wanted) in wanted {
            let keys: Vec<Key> = wanted.keys.into_iter().take(COLUMNS).collect();
            let conditions: Vec<String> = wanted.conditions.into_iter().take(CONDITIONS).collect();
            let plain = keys.iter().filter(|key| matches!(key, Key::Column(_))).cloned().collect::<Vec<_>>();
            let sample = match self.sample(&wanted.table, &keys, conditions).await {
                Err(Error::Database(error)) if !error.is_closed() => {
                    // What an expression makes of some row is an error: a division, a cast. The others are sampled.
                    tracing::debug!(table = wanted.table.sql(), %error, "sampled one by one");
                    let mut good = plain;
                    for key in keys.iter().filter(|key| matches!(key, Key::Expression { .. })) {
                        if self.sample(&wanted.table, std::slice::from_ref(key), Vec::new()).await.is_ok() {
                            good.push(key.clone());
                        }
                    }
                    self.sample(&wanted.table, &good, Vec::new()).await
                }
                other => other,
            };
            match sample {
                Ok(sample) => drop(samples.insert(oid, sample)),
                Err(Error::Database(error)) if !error.is_closed() => {
                    tracing::warn!(table = wanted.table.sql(), %error, "not sampled: sizes rest on statistics alone");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(samples)
    }

    async fn sample(&self, table: &Table, keys: &[Key], conditions: Vec<String>) -> Result<Sample, Error> {
        let percent = (PAGES * 100.0 / table.pages.max(1.0)).clamp(0.0001, 100.0);
        // Of the rows of those pages, one in so many.
        let every = (table.rows * percent / 100.0 / ROWS).round().max(1.0);
        let mut outputs: Vec<String> = Vec::new();
        for key in keys {
            let sql = match key {
                Key::Column(name) => quoted(name),
                Key::Expression { sql, .. } => format!("({sql})"),
            };
            outputs.push(format!("pg_column_size({sql}), hashtext({sql}::text)"));
        }
        outputs.extend(conditions.iter().map(|condition| format!("({condition}) IS TRUE")));
        if outputs.is_empty() {
            return Ok(Sample::default());
        }
        let statement = format!(
            "SELECT {} FROM {} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1) WHERE {every} < 2 OR hashtext(ctid::text) % {every} = 0 \
             LIMIT {}",
            outputs.join(", "),
            table.sql(),
            ROWS * 2.0
        );
        let mut sample = Sample::default();
        let mut holds: Vec<Vec<bool>> = vec![Vec::new(); conditions.len()];
        for message in self.client.simple_query(&statement).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            sample.rows = sample.rows.saturating_add(1);
            for (place, key) in keys.iter().enumerate() {
                let at = place.saturating_mul(2);
                let width = row.get(at).and_then(|text| text.parse().ok());
                let hash = row.get(at.saturating_add(1)).and_then(|text| text.parse().ok());
                sample.values.entry(key.clone()).or_default().push(width.zip(hash));
            }
            for (place, holds) in holds.iter_mut().enumerate() {
                holds.push(row.get(keys.len().saturating_mul(2).saturating_add(place)) == Some("t"));
            }
        }
        sample.holds = conditions.into_iter().zip(holds).collect();
        Ok(sample)
    }

    /// The share of a table's rows for which a candidate's predicate holds: as the planner sees it, and of several conditions as the sample
    /// shows it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn share(&mut self, candidate: &Candidate, sample: &Sample) -> Result<f64, Error> {
        let Some(condition) = candidate.condition() else { return Ok(1.0) };
        let key = (candidate.table.oid, condition);
        if let Some(share) = self.shares.get(&key) {
            return Ok(*share);
        }
        if candidate.predicate.len() > 1
            && candidate.since.is_none()
            && let Some(share) = sample.share(&key.1)
        {
            self.shares.insert(key, share);
            return Ok(share);
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
