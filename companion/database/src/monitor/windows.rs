//! Which statements of a PostgreSQL database are slow, and which have become slower: windows over `pg_stat_statements`.
//!
//! The server counts since its last reset; what happened between two looks is their difference. Nothing is reset, so that
//! others who look are not disturbed. Against: a server without the extension ([`Snapshot::missing`] says what to do), a reset or a restart
//! in between (counts that fell begin anew), thousands of statements (the [`MOST`] that took most time are looked at).
//! Not against: statements that the server itself forgets between two looks (`pg_stat_statements.max`).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Client;

use super::{Counting, counting, not_loaded};
use crate::Error;
use crate::pool::statement::{self, Normal};

/// Statements that are looked at.
pub const MOST: i64 = 2000;
/// A statement's past is known when it was called so often.
const KNOWN_CALLS: f64 = 20.0;
/// It is slower when its mean is so many times its past, and so long.
const SLOWER: f64 = 3.0;
const WORTH_TELLING_MS: f64 = 10.0;
/// How much of its past a statement keeps from window to window.
const MEMORY: f64 = 0.9;

/// What the server has counted of one statement.
#[derive(Clone, Debug, PartialEq)]
struct Counted {
    calls: f64,
    total_ms: f64,
    max_ms: f64,
    rows: f64,
    text: String,
}

/// What the server has counted, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Why nothing was counted, with the remedy.
    pub missing: Option<&'static str>,
    /// Calls of all statements.
    pub calls: u64,
    /// By statement and role.
    statements: HashMap<(i64, u32), Counted>,
}

/// Asks the server.
///
/// # Errors
/// It does not answer. A server that does not count is no error.
pub async fn snapshot(client: &Client) -> Result<Snapshot, Error> {
    let schema = match counting(client).await? {
        Counting::In(schema) => schema,
        Counting::Missing(why) => return Ok(Snapshot { missing: Some(why), ..Snapshot::default() }),
    };
    // 13 and newer.
    let counted = format!(
        "SELECT queryid, userid, calls::float8, total_exec_time, max_exec_time, rows::float8, left(query, {}), \
         (sum(calls) OVER ())::float8 FROM {schema}.pg_stat_statements \
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IS NOT NULL \
         ORDER BY total_exec_time DESC LIMIT $1",
        statement::MAX_BYTES
    );
    let rows = match client.query(&counted, &[&MOST]).await {
        Ok(rows) => rows,
        Err(error) => {
            let missing = Some(not_loaded(&error).ok_or(error)?);
            return Ok(Snapshot { missing, ..Snapshot::default() });
        }
    };
    let mut found = Snapshot::default();
    for row in &rows {
        let all: f64 = row.try_get(7)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let calls = all.max(0.0) as u64;
        found.calls = calls;
        let one = Counted {
            calls: row.try_get(2)?,
            total_ms: row.try_get(3)?,
            max_ms: row.try_get(4)?,
            rows: row.try_get(5)?,
            text: row.try_get::<_, Option<String>>(6)?.unwrap_or_default(),
        };
        found.statements.insert((row.try_get(0)?, row.try_get(1)?), one);
    }
    Ok(found)
}

/// A statement that was slow in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// Its text without literals, and its fingerprint.
    pub statement: Normal,
    /// Its slowest call of the window if that is known, else the mean.
    pub took: Duration,
    /// Calls in the window.
    pub calls: u64,
    /// Rows of a call, on average.
    pub rows: u64,
}

/// A statement that has become slower than it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// Its text without literals, and its fingerprint.
    pub statement: Normal,
    /// The mean of its past.
    pub before: Duration,
    /// The mean of the window.
    pub now: Duration,
}

/// What a window has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Slow statements, slowest first.
    pub slow: Vec<Slow>,
    /// Statements that have become slower, by how much.
    pub slower: Vec<Regression>,
}

/// The past of a statement: calls and time, fading.
#[derive(Clone, Copy, Default)]
struct Past {
    calls: f64,
    total_ms: f64,
}

/// Looks at one database again and again.
#[derive(Default)]
pub struct Windows {
    last: Option<Snapshot>,
    past: HashMap<(i64, u32), Past>,
}

impl Windows {
    /// What happened since the last snapshot; nothing the first time. A statement is slow when a call took `slow` and more.
    pub fn step(&mut self, now: Snapshot, slow: Duration) -> Seen {
        let mut seen = Seen::default();
        if let Some(last) = self.last.take().filter(|last| last.missing.is_none()) {
            for (key, counted) in &now.statements {
                self.look(*key, counted, last.statements.get(key), slow, &mut seen);
            }
        }
        self.past.retain(|key, _| now.statements.contains_key(key));
        self.last = Some(now);
        seen.slow.sort_by_key(|slow| Reverse(slow.took));
        seen.slower.sort_by_key(|slower| Reverse(slower.now));
        seen
    }

    fn look(
        &mut self,
        key: (i64, u32),
        now: &Counted,
        last: Option<&Counted>,
        slow: Duration,
        seen: &mut Seen,
    ) {
        // Counts that fell were reset in between: what is there now is all since then.
        let before = last.filter(|last| last.calls <= now.calls && last.total_ms <= now.total_ms);
        let calls = now.calls - before.map_or(0.0, |last| last.calls);
        if calls <= 0.0 {
            return;
        }
        let total_ms = now.total_ms - before.map_or(0.0, |last| last.total_ms);
        let rows = (now.rows - before.map_or(0.0, |last| last.rows)).max(0.0) / calls;
        let mean_ms = total_ms / calls;
        let slowest_ms = match before {
            Some(last) if now.max_ms <= last.max_ms => mean_ms,
            _ => now.max_ms.max(mean_ms),
        };
        if slowest_ms >= slow.as_secs_f64() * 1000.0 {
            seen.slow.push(Slow {
                statement: statement::postgres(&now.text),
                took: millis(slowest_ms),
                calls: count(calls),
                rows: count(rows),
            });
        }
        let past = self.past.entry(key).or_default();
        let usual_ms = if past.calls > 0.0 { past.total_ms / past.calls } else { 0.0 };
        if past.calls >= KNOWN_CALLS && mean_ms >= WORTH_TELLING_MS && mean_ms >= usual_ms * SLOWER {
            seen.slower.push(Regression {
                statement: statement::postgres(&now.text),
                before: millis(usual_ms),
                now: millis(mean_ms),
            });
        }
        past.calls = past.calls * MEMORY + calls;
        past.total_ms = past.total_ms * MEMORY + total_ms;
    }
}

fn millis(millis: f64) -> Duration {
    Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn count(number: f64) -> u64 {
    number.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(calls: f64, total_ms: f64, max_ms: f64) -> Snapshot {
        let text = "SELECT * FROM t WHERE a = $1".to_owned();
        let counted = Counted { calls, total_ms, max_ms, rows: calls * 3.0, text };
        Snapshot { statements: HashMap::from([((7, 10), counted)]), ..Snapshot::default() }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_happened_between_two_looks_is_told_once() {
        let mut windows = Windows::default();
        assert_eq!(windows.step(at(5.0, 9000.0, 4000.0), SECOND), Seen::default(), "long ago, perhaps");
        assert_eq!(windows.step(at(5.0, 9000.0, 4000.0), SECOND), Seen::default());
        let seen = windows.step(at(7.0, 11_500.0, 4000.0), SECOND);
        assert_eq!((seen.slow[0].took, seen.slow[0].calls, seen.slow[0].rows), (millis(1250.0), 2, 3));
        let seen = windows.step(at(107.0, 17_500.0, 5000.0), SECOND);
        assert_eq!(seen.slow[0].took, millis(5000.0), "one call of a hundred");
        assert_eq!(windows.step(at(108.0, 17_501.0, 5000.0), SECOND), Seen::default());
        let reset = windows.step(at(2.0, 3000.0, 2000.0), SECOND);
        assert_eq!(reset.slow[0].took, millis(2000.0), "counts began anew");
    }

    #[test]
    fn a_statement_is_compared_with_its_own_past() {
        let mut windows = Windows::default();
        windows.step(at(0.0, 0.0, 0.0), SECOND);
        let usual = windows.step(at(100.0, 500.0, 9.0), SECOND);
        assert!(usual.slower.is_empty());
        let slower = windows.step(at(110.0, 700.0, 30.0), SECOND).slower;
        assert_eq!((slower[0].before, slower[0].now), (millis(5.0), millis(20.0)));
        assert!(windows.step(at(120.0, 760.0, 30.0), SECOND).slower.is_empty(), "a little is not told");
    }
}
