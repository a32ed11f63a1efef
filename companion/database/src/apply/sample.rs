//! Statements that were given to measure by: timed, and planned.

use std::collections::BTreeSet;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::Error;
use crate::planner::explain;
use crate::proof::Stopwatch;
use crate::workload::Query;

/// Runs of a given statement; the fastest counts. One that takes long is not run again.
const RUNS: usize = 3;
const LONG_SECONDS: f64 = 1.0;
const STATEMENT_SECONDS: u32 = 30;

/// A statement by which is measured.
pub(super) struct Sample {
    pub query: Query,
    /// The tables that it reads, as SQL has them.
    pub tables: BTreeSet<String>,
    /// Seconds before, and as they were last seen; none where it cannot be run.
    pub before: Option<f64>,
    pub after: Option<f64>,
}

/// The fastest of some runs, read-only and rolled back; `None` when it cannot be run so.
pub(super) async fn time(
    client: &Client,
    stopwatch: &Stopwatch,
    query: &Query,
) -> Result<Option<f64>, Error> {
    if query.parameters > 0 {
        return Ok(None);
    }
    let mut fastest: Option<f64> = None;
    for _ in 0..RUNS {
        client
            .batch_execute(&format!("BEGIN READ ONLY; SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"))
            .await?;
        let start = stopwatch.read();
        let done = client.simple_query(&query.text).await;
        let seconds = stopwatch.since(start);
        if let Err(error) = &done
            && error.is_closed()
        {
            return Ok(None);
        }
        client.batch_execute("ROLLBACK").await?;
        if done.is_err() {
            return Ok(None);
        }
        fastest = Some(fastest.map_or(seconds, |best| best.min(seconds)));
        if seconds > LONG_SECONDS {
            break;
        }
    }
    Ok(fastest)
}

/// The lines of its plan; none where it cannot be planned.
pub(super) async fn plan(client: &Client, version: u32, query: &Query) -> Result<Vec<String>, Error> {
    let statement = explain(query, version, "FORMAT TEXT");
    let Ok(messages) = client.simple_query(&statement).await else {
        client.batch_execute("DEALLOCATE ALL").await?;
        return Ok(Vec::new());
    };
    let lines = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(lines.collect())
}
