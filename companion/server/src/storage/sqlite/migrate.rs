//! Runs the migrations of the embedded store ([`super::super::migrations`]), all in one transaction.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::storage::StorageError;
use crate::storage::migrations::{Applied, Migration, SQLITE, pending};

/// Brings the schema to the newest version; tells how many steps it took.
pub fn run(connection: &mut Connection, path: &Path) -> Result<usize, StorageError> {
    // The write lock comes first, so that of two starts one migrates and the other finds it done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, \
         checksum CHAR(64) NOT NULL, applied_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))",
    )?;
    adopt(&transaction)?;
    let applied: Vec<Applied> = transaction
        .prepare("SELECT version, checksum FROM schema_migrations ORDER BY version")?
        .query_map([], |row| Ok(Applied { version: row.get(0)?, checksum: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    let steps = pending(SQLITE, &applied, &path.display().to_string())?;
    for step in steps {
        transaction.execute_batch(step.sql)?;
        record(&transaction, step)?;
    }
    transaction.commit()?;
    Ok(steps.len())
}

/// A file from before there was the table says 1 in `PRAGMA user_version`.
fn adopt(transaction: &Transaction<'_>) -> Result<(), StorageError> {
    let before: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let (1, Some(first)) = (before, SQLITE.first()) else { return Ok(()) };
    record(transaction, first)?;
    transaction.pragma_update(None, "user_version", 0)?;
    Ok(())
}

fn record(transaction: &Transaction<'_>, step: &Migration) -> Result<(), StorageError> {
    transaction
        .prepare_cached("INSERT INTO schema_migrations (version, name, checksum) VALUES (?1, ?2, ?3)")?
        .execute(params![step.version, step.name, step.checksum()])?;
    Ok(())
}
