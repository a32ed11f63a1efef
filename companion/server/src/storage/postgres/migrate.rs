//! Runs the migrations on a server ([`super::super::migrations`]), all in one transaction.

use deadpool_postgres::Client;

use crate::storage::StorageError;
use crate::storage::migrations::{Applied, POSTGRES, pending};

/// Any number that nobody else takes: of two starts one migrates and the other finds it done.
const LOCK: i64 = 0x7063_5f6d_6967_7261;

/// Brings the schema to the newest version; tells how many steps it took.
pub async fn run(client: &mut Client, place: &str) -> Result<usize, StorageError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, \
             checksum TEXT NOT NULL, applied_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'))",
        )
        .await?;
    let rows =
        transaction.query("SELECT version, checksum FROM schema_migrations ORDER BY version", &[]).await?;
    let applied = rows
        .iter()
        .map(|row| Ok(Applied { version: row.try_get(0)?, checksum: row.try_get(1)? }))
        .collect::<Result<Vec<_>, tokio_postgres::Error>>()?;
    let steps = pending(POSTGRES, &applied, place)?;
    for step in steps {
        transaction.batch_execute(step.sql).await?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                &[&step.version, &step.name, &step.checksum()],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(steps.len())
}
