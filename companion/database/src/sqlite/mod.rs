//! SQLite: how a connection is set up, and which indexes serve a workload.
//!
//! [`settle_connection`] sets what a connection needs and reads every value back: SQLite ignores what it does not know or cannot do without a word.
//! [`advise()`] measures on a copy; the database itself is only read.

mod advise;
mod copy;

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

pub use advise::{Advice, Index, advise};

/// What a statement's plan does, a step each; nothing is run. A value that is not given is null.
///
/// # Errors
/// SQLite cannot read it.
pub fn summary(connection: &Connection, statement: &str) -> rusqlite::Result<Vec<String>> {
    let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
    // Values are left out, so that nobody counts them.
    explained.raw_query().mapped(|row| row.get(3)).collect()
}

/// What goes wrong with an SQLite database.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// SQLite refused.
    #[error("SQLite: {0}")]
    Refused(#[from] rusqlite::Error),
    /// There is no such file, or it cannot be copied.
    #[error(
        "{path}: {problem}; name an SQLite database that can be read, with room beside the temporary files for a copy"
    )]
    File {
        /// Which.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// It is too large to be copied.
    #[error(
        "the database has {megabytes} MB; up to {most} MB are copied for measuring; advise on an excerpt"
    )]
    Large {
        /// Its size.
        megabytes: u64,
        /// The limit.
        most: u64,
    },
    /// A setting was not taken.
    #[error("SQLite did not take {name} = {wanted}, it has {found}; {remedy}")]
    NotTaken {
        /// The pragma.
        name: &'static str,
        /// What was set.
        wanted: &'static str,
        /// What was read back.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// A pragma as it was read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pragma {
    /// Its name.
    pub name: &'static str,
    /// Its value before.
    pub before: String,
    /// Its value now.
    pub now: String,
}

/// Pragmas: name, value, how it reads back, what to do when it does not.
const WANTED: [(&str, &str, &str, &str); 7] = [
    ("busy_timeout", "5000", "5000", "use a newer SQLite"),
    (
        "journal_mode",
        "wal",
        "wal",
        "the database must be a file on a local disk, not in memory and not on a network",
    ),
    ("synchronous", "normal", "1", "use a newer SQLite"),
    ("mmap_size", "268435456", "268435456", "SQLite was built without memory maps"),
    ("cache_size", "1000", "1000", "use a newer SQLite"),
    ("temp_store", "memory", "2", "SQLite was built to keep temporary tables in files"),
    ("journal_size_limit", "67108864", "67108864", "use a newer SQLite"),
];

/// Opens a file and sets it up as [`settle_connection`] does.
///
/// # Errors
/// [`SqliteError`], also when it is no database.
pub fn settle(path: &Path) -> Result<Vec<Pragma>, SqliteError> {
    settle_connection(&Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?)
}

/// Sets a connection up: a write-ahead log that is cut back to 64 MB, 256 MB of memory map, a cache of 1000 pages, temporary storage in
/// memory, five seconds of patience with a writer, statistics kept fresh. Every value is read back.
///
/// # Errors
/// [`SqliteError::NotTaken`] for the first that was not taken.
pub fn settle_connection(connection: &Connection) -> Result<Vec<Pragma>, SqliteError> {
    let mut all = Vec::new();
    for (name, wanted, expected, remedy) in WANTED {
        let before = read(connection, name)?;
        // Some answer with the new value, some with nothing.
        connection.pragma_update_and_check(None, name, wanted, |_| Ok(())).or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            other => Err(other),
        })?;
        let now = read(connection, name)?;
        if now != expected {
            return Err(SqliteError::NotTaken { name, wanted, found: now, remedy });
        }
        all.push(Pragma { name, before, now });
    }
    connection.execute_batch("PRAGMA optimize")?;
    Ok(all)
}

fn read(connection: &Connection, name: &str) -> Result<String, rusqlite::Error> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| {
        Ok(match row.get::<_, rusqlite::types::Value>(0)? {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text.to_lowercase(),
            other => format!("{other:?}"),
        })
    })
}

#[cfg(test)]
mod tests;
