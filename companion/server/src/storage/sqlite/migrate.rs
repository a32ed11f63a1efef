//! Schema versions of the embedded store, in `PRAGMA user_version`. A migration runs whole or not at all;
//! none is ever edited.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::storage::StorageError;

const MIGRATIONS: [&str; 1] = [include_str!("../../../migrations/sqlite/0001_schema.sql")];

/// Brings the schema to the newest version.
pub fn run(connection: &mut Connection, path: &Path) -> Result<(), StorageError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    // The write lock comes first, so that of two starts one migrates and the other finds it done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StorageError::Newer { place: path.display().to_string(), found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
