//! Slow queries, as pg_stat_statements has counted them: without literals, with what their plans do.

use std::fmt::Write;

use serde::Serialize;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Counting, counting, not_loaded};
use crate::Error;
use crate::planner::explain;
use crate::workload::{Query, token};

/// Characters of a statement that are told.
const MOST_TEXT: i32 = 2000;
/// Steps of a plan that are told.
const MOST_STEPS: usize = 12;

/// A statement that took long.
#[derive(Debug, Clone, Serialize)]
pub struct Slowest {
    /// The statement's number at the server: a fingerprint.
    pub query: i64,
    /// Its text, literals replaced by `$1`, `$2`, ...
    pub statement: String,
    /// Calls.
    pub calls: i64,
    /// Mean milliseconds of a call.
    pub mean_ms: f64,
    /// Milliseconds of the slowest.
    pub max_ms: f64,
    /// Its share of the time of all statements, 0 to 1.
    pub share: f64,
    /// Mean rows of a call.
    pub rows: f64,
    /// Bytes that it spilled to disk, of all calls.
    pub spilled: i64,
    /// What its plan does, from the top: `Seq Scan on tasks`.
    pub plan: Vec<String>,
}

const COUNTS: &str = "
SELECT queryid, left(min(query), $3), sum(calls)::int8, (sum(total_exec_time) / sum(calls))::float8, max(max_exec_time)::float8,
       coalesce(sum(total_exec_time) / nullif((SELECT sum(total_exec_time) FROM {counts}), 0), 0)::float8,
       (sum(rows)::float8 / sum(calls))::float8, (sum(temp_blks_written) * 8192)::int8
FROM {counts}
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IS NOT NULL AND calls > 0
GROUP BY queryid HAVING max(max_exec_time) >= $1
ORDER BY sum(total_exec_time) DESC LIMIT $2";

/// The statements one of whose calls took at least `milliseconds`, those that took most time in all first; or why the server does not count.
///
/// # Errors
/// It does not answer, or does not permit it.
pub async fn slowest(
    client: &Client,
    milliseconds: f64,
    limit: i64,
) -> Result<Result<Vec<Slowest>, &'static str>, Error> {
    let schema = match counting(client).await? {
        Counting::In(schema) => schema,
        Counting::Missing(why) => return Ok(Err(why)),
    };
    let version = version(client).await?;
    let counts = COUNTS.replace("{counts}", &format!("{schema}.pg_stat_statements"));
    let rows = match client.query(&counts, &[&milliseconds, &limit, &MOST_TEXT]).await {
        Ok(rows) => rows,
        Err(error) => return Ok(Err(not_loaded(&error).ok_or(error)?)),
    };
    let mut all = Vec::new();
    for row in rows {
        all.push(Slowest {
            query: row.try_get(0)?,
            statement: row.try_get(1)?,
            calls: row.try_get(2)?,
            mean_ms: row.try_get(3)?,
            max_ms: row.try_get(4)?,
            share: row.try_get(5)?,
            rows: row.try_get(6)?,
            spilled: row.try_get(7)?,
            plan: Vec::new(),
        });
    }
    for one in &mut all {
        one.plan = plan(client, &one.statement, version).await?;
    }
    Ok(Ok(all))
}

/// The steps of the plan of a statement whose literals are `?` or `$1`; nothing where it cannot be planned without them.
///
/// # Errors
/// When the connection is lost.
pub async fn summary(client: &Client, statement: &str) -> Result<Vec<String>, Error> {
    plan(client, &numbered(statement), version(client).await?).await
}

async fn version(client: &Client) -> Result<u32, Error> {
    let version = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await?;
    Ok(u32::try_from(version.try_get::<_, i32>(0)?).unwrap_or(0))
}

/// Each `?` becomes a parameter of its own, after those that there are.
fn numbered(statement: &str) -> String {
    let mut next = Query::new("", statement, 1.0).parameters;
    let (mut text, mut rest) = (String::new(), statement);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at_checked(token(rest)).unwrap_or((rest, ""));
        rest = after;
        if piece == "?" {
            next = next.saturating_add(1);
            // Writing into a String cannot fail.
            let _ = write!(text, "${next}");
        } else {
            text.push_str(piece);
        }
    }
    text
}

/// The steps of a statement's generic plan; nothing where it cannot be planned so.
async fn plan(client: &Client, statement: &str, version: u32) -> Result<Vec<String>, Error> {
    let start: String = statement.trim_start().chars().take(6).collect::<String>().to_lowercase();
    if !["select", "insert", "update", "delete"].contains(&start.as_str()) && !start.starts_with("with") {
        return Ok(Vec::new());
    }
    let query = Query::new("", statement, 1.0);
    match client.simple_query(&explain(&query, version, "COSTS OFF")).await {
        Ok(messages) => {
            let lines = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            Ok(lines.filter_map(step).take(MOST_STEPS).collect())
        }
        Err(error) if error.is_closed() => Err(error.into()),
        Err(_) => {
            client.batch_execute("DEALLOCATE ALL").await?;
            Ok(Vec::new())
        }
    }
}

/// `  ->  Seq Scan on tasks` is a step, `Filter: (a = $1)` is none.
fn step(line: &str) -> Option<String> {
    let text = line.trim_start();
    let first = text.len() == line.len();
    let text = match text.strip_prefix("->") {
        Some(step) => step.trim_start(),
        None if first => text,
        None => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_a_literal_becomes_a_parameter() {
        let text = "SELECT \"a?\" FROM t WHERE b = $2 AND c = ? AND d IN (?, $1)";
        assert_eq!(numbered(text), "SELECT \"a?\" FROM t WHERE b = $2 AND c = $3 AND d IN ($4, $1)");
        assert_eq!(numbered("'?"), "'?");
    }

    #[test]
    fn steps_are_told_from_conditions() {
        assert_eq!(step("Limit").as_deref(), Some("Limit"));
        assert_eq!(step("  ->  Seq Scan on t").as_deref(), Some("Seq Scan on t"));
        assert_eq!(step("        Filter: (a -> 'b' = $1)"), None);
    }
}
