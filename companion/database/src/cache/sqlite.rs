//! Reads of an SQLite file whose answers may be kept.
//!
//! SQLite counts itself: `PRAGMA data_version` of a connection changes when any other connection, of any process, has changed the file. So
//! the file has one number, and no table of its own. Two connections belong to the cache alone and are lent to nobody: one is asked for the
//! number, one reads. Nobody else's temporary tables, attached files or settings are in them, and they cannot write.

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::Refusal;
use super::words::{Grammar, Words, is_read, judge, pieces};

/// `SQLITE_DETERMINISTIC` of `PRAGMA function_list`.
const DETERMINISTIC: i64 = 0x800;
/// They read the clock if they are told so, or told nothing.
const CLOCK: &[&str] = &["date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"];

/// A number that no other pair of connections had.
#[must_use]
pub fn epoch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Forbids the connection to write.
///
/// # Errors
/// SQLite refuses.
pub fn only_reads(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch("PRAGMA query_only = ON")
}

/// The number of the file's state.
///
/// # Errors
/// SQLite refuses.
pub fn version(connection: &mut Connection) -> Result<u64, rusqlite::Error> {
    let version: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
    Ok(version.unsigned_abs())
}

/// Why the answers of a statement may not be kept; nothing if they may.
///
/// # Errors
/// It is no statement of this database.
pub fn refusal(connection: &mut Connection, sql: &str) -> Result<Option<Refusal>, rusqlite::Error> {
    let mut words = match judged(sql) {
        Ok(words) => words,
        Err(why) => return Ok(Some(why)),
    };
    if !connection.prepare(sql)?.readonly() {
        return Ok(Some(Refusal::NotARead));
    }
    // Views that are named, and views that those name.
    let mut seen = 0;
    while seen < words.all.len() {
        seen = words.all.len();
        let named = "SELECT name, coalesce(sql, '') FROM sqlite_schema WHERE type IN ('view', 'table')";
        let mut statement = connection.prepare_cached(named)?;
        let found =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for found in found {
            let (name, body) = found?;
            let starts =
                |start: &str| body.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start));
            match words.all.contains(&name.to_ascii_lowercase()) {
                // Its rows may be anywhere.
                true if starts("CREATE VIRTUAL") => return Ok(Some(Refusal::Foreign)),
                true if starts("CREATE VIEW") => match judged_view(&body) {
                    Ok(more) => words.join(more),
                    Err(why) => return Ok(Some(why)),
                },
                _ => {}
            }
        }
    }
    functions(connection, &words)
}

fn judged(sql: &str) -> Result<Words, Refusal> {
    let pieces = pieces(sql, Grammar::Sqlite)?;
    is_read(&pieces)?;
    judge(&pieces, Grammar::Sqlite, false)?;
    Ok(Words::of(&pieces))
}

/// `CREATE VIEW name (columns) AS SELECT ...`: the name is no call.
fn judged_view(body: &str) -> Result<Words, Refusal> {
    let pieces = pieces(body, Grammar::Sqlite)?;
    let select = pieces.iter().position(
        |piece| matches!(piece, super::words::Piece::Word { name, quoted: false } if name == "select" || name == "with" || name == "values"),
    );
    let pieces = select.and_then(|at| pieces.get(at..)).ok_or(Refusal::Unreadable)?;
    is_read(pieces)?;
    judge(pieces, Grammar::Sqlite, false)?;
    Ok(Words::of(pieces))
}

fn functions(connection: &Connection, words: &Words) -> Result<Option<Refusal>, rusqlite::Error> {
    for name in &words.calls {
        if CLOCK.contains(&name.as_str()) {
            return Ok(Some(Refusal::Time));
        }
        // Aggregates of SQLite's own are all deterministic, and do not say so.
        let known = "SELECT count(*), coalesce(min(CASE WHEN builtin AND type <> 's' THEN ?2 ELSE flags & ?2 END), 0) \
                     FROM pragma_function_list WHERE name = ?1 COLLATE NOCASE";
        let mut statement = connection.prepare_cached(known)?;
        let (count, flag): (i64, i64) =
            statement.query_row((name, DETERMINISTIC), |row| Ok((row.get(0)?, row.get(1)?)))?;
        match (count, flag) {
            (0, _) => return Ok(Some(Refusal::Unknown)),
            (_, 0) => return Ok(Some(Refusal::Volatile)),
            _ => {}
        }
    }
    Ok(None)
}

/// Runs a read.
///
/// # Errors
/// SQLite refuses.
pub fn rows(
    connection: &mut Connection,
    sql: &str,
    values: &[Value],
) -> Result<Vec<Vec<Value>>, rusqlite::Error> {
    let mut statement = connection.prepare(sql)?;
    let width = statement.column_count();
    let found =
        statement.query_map(params_from_iter(values), |row| (0..width).map(|at| row.get(at)).collect())?;
    found.collect()
}
