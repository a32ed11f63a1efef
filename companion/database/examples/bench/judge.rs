//! Measures a plan: built, and every statement run with its indexes and without them in turn, so that what else the machine does in the meantime is
//! the same for both.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use portcullis_database::plan::Plan;
use portcullis_database::proof::Stopwatch;
use portcullis_database::workload::Query;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Turns of a statement that takes no longer than [`LONG`]; the fastest counts on either side.
const TURNS: usize = 3;
/// Turns of a statement that writes.
const WRITES: usize = 5;
/// Seconds; a statement that takes longer is run in one turn.
const LONG: f64 = 0.5;
/// Turns more for one that seems slower.
const DOUBT: usize = 4;
/// A statement became slower: by share and by seconds.
const SLOWER: (f64, f64) = (1.2, 0.010);
/// Seconds that a statement may take.
const PATIENCE: u32 = 60;

/// A figure without the plan's indexes, and with them.
#[derive(Clone, Copy, Default)]
pub struct Pair {
    pub without: f64,
    pub with: f64,
}

impl Pair {
    pub fn slower(self) -> bool {
        self.with > self.without * SLOWER.0 && self.with - self.without > SLOWER.1
    }

    fn fastest(self, other: Self) -> Self {
        Self { without: self.without.min(other.without), with: self.with.min(other.with) }
    }
}

/// What was measured; of each statement in order.
pub struct Measured {
    /// Estimated costs.
    pub costs: Vec<Pair>,
    /// Seconds; `None` of what cannot be run within a minute.
    pub seconds: Vec<Option<Pair>>,
    /// Seconds of what writes.
    pub writes: Vec<Pair>,
    /// Bytes of each index as built.
    pub sizes: Vec<f64>,
}

pub struct Judge {
    pub client: Client,
    pub watch: Stopwatch,
}

impl Judge {
    /// Builds the plan, measures, and drops it again, also when something fails.
    pub async fn measure(&self, plan: &Plan, queries: &[Query], writes: &[Query]) -> Result<Measured> {
        let mut before = Vec::new();
        for query in queries {
            before.push(self.plan(&query.text).await.map_or(0.0, |(cost, _)| cost));
        }
        let names: Vec<String> =
            plan.indexes.iter().map(|index| format!("{}.{}", schema(&index.table), index.name)).collect();
        let measured = self.with_plan(plan, &names, &before, queries, writes).await;
        for index in &plan.indexes {
            let drop = index.drop.replace("INDEX CONCURRENTLY", "INDEX IF EXISTS");
            self.client.batch_execute(&drop).await?;
        }
        measured
    }

    async fn with_plan(
        &self,
        plan: &Plan,
        names: &[String],
        before: &[f64],
        queries: &[Query],
        writes: &[Query],
    ) -> Result<Measured> {
        let mut measured =
            Measured { costs: Vec::new(), seconds: Vec::new(), writes: Vec::new(), sizes: Vec::new() };
        for (index, name) in plan.indexes.iter().zip(names) {
            self.client.batch_execute(&index.create.replace(" CONCURRENTLY", "")).await?;
            let size = "SELECT pg_relation_size($1::text::regclass)::float8";
            measured.sizes.push(self.client.query_one(size, &[name]).await?.try_get(0)?);
        }
        self.client.batch_execute("VACUUM ANALYZE").await?;
        for (number, (query, without)) in queries.iter().zip(before).enumerate() {
            if std::io::stderr().is_terminal() {
                eprint!("\rmeasuring {} of {} ", number.saturating_add(1), queries.len());
            }
            let (with, text) = self.plan(&query.text).await.unwrap_or_default();
            measured.costs.push(Pair { without: *without, with });
            let used = plan.indexes.iter().any(|index| text.contains(&index.name));
            measured.seconds.push(self.seconds(&query.text, names, used).await);
        }
        for write in writes {
            let mut pair = self
                .turn(&write.text, names)
                .await
                .with_context(|| format!("{} cannot be run", write.name))?;
            for _ in 1..WRITES {
                pair = pair.fastest(self.turn(&write.text, names).await.context("a write")?);
            }
            measured.writes.push(pair);
            self.client.batch_execute("VACUUM").await?;
        }
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(measured)
    }

    /// Where the plan uses none of the indexes it is the one without them, and is timed once.
    async fn seconds(&self, text: &str, names: &[String], used: bool) -> Option<Pair> {
        if !used {
            let seconds = self.run(text, &[]).await?;
            return Some(Pair { without: seconds, with: seconds });
        }
        let mut pair = self.turn(text, names).await?;
        if pair.without.max(pair.with) <= LONG {
            for _ in 1..TURNS {
                pair = pair.fastest(self.turn(text, names).await?);
            }
        }
        for _ in 0..DOUBT {
            if !pair.slower() {
                break;
            }
            pair = pair.fastest(self.turn(text, names).await?);
        }
        Some(pair)
    }

    async fn turn(&self, text: &str, names: &[String]) -> Option<Pair> {
        Some(Pair { without: self.run(text, names).await?, with: self.run(text, &[]).await? })
    }

    /// Seconds without some of the indexes; rolled back. `None` when it fails or takes too long.
    async fn run(&self, text: &str, without: &[String]) -> Option<f64> {
        let drop =
            if without.is_empty() { String::new() } else { format!("DROP INDEX {};", without.join(", ")) };
        // It is planned once beforehand: what indexes there are has to be read anew after each change.
        let begin = format!("BEGIN; SET LOCAL statement_timeout = '{PATIENCE}s'; {drop} EXPLAIN {text}");
        let seconds = async {
            self.client.simple_query(&begin).await.ok()?;
            let start = self.watch.read();
            self.client.batch_execute(&format!("{text}; SET CONSTRAINTS ALL IMMEDIATE")).await.ok()?;
            Some(self.watch.since(start))
        };
        let seconds = seconds.await;
        self.client.batch_execute("ROLLBACK").await.ok()?;
        seconds
    }

    /// A statement's estimated cost, and its plan as text.
    async fn plan(&self, text: &str) -> Option<(f64, String)> {
        let answer = self.client.simple_query(&format!("EXPLAIN {text}")).await.ok()?;
        let lines = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan = lines.collect::<Vec<_>>().join("\n");
        let cost = plan.split_once("..")?.1.split(' ').next()?.parse().ok()?;
        Some((cost, plan))
    }
}

fn schema(table: &str) -> &str {
    table.split('.').next().unwrap_or_default()
}
