//! A partition a day: made a week ahead, dropped whole when all of it is too old. Dropping a day costs nothing, however many
//! events it holds; deleting them row by row would cost as much as storing them did.
//!
//! An event is therefore kept up to a day longer than asked for. The default partition holds what fits no day (records
//! that came very late): its rows are deleted one by one.

use deadpool_postgres::{Client, Transaction};

use super::value::Utc;
use crate::clock::Timestamp;
use crate::storage::{Expiry, StorageError};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const MINUTE_MS: i64 = 60_000;
/// Days made ahead: a companion may be away for as long, and other programs still find theirs.
const AHEAD: i64 = 7;

/// The tables that are partitioned, and the text of what is done to a day of each.
const TABLES: [&str; 3] = ["security_events", "rate_limiting_logs", "database_performance_logs"];

/// Makes what is missing, drops what is too old, deletes what is too old of the rest.
pub async fn expire(client: &mut Client, expiry: Expiry) -> Result<u64, StorageError> {
    let mut removed: u64 = 0;
    for table in TABLES {
        let transaction = client.transaction().await?;
        // Both of two companions may come here; and nobody waits long for a lock on a whole table.
        transaction
            .batch_execute("SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock(hashtextextended('partitions', 0))")
            .await?;
        let days = days(&transaction, table).await?;
        make(&transaction, table, &days, expiry.now).await?;
        removed = removed.saturating_add(drop_old(&transaction, table, &days, expiry.before).await?);
        transaction.commit().await?;
        removed = removed.saturating_add(delete_late(client, table, expiry).await?);
    }
    let minute = expiry.before.as_millisecond().div_euclid(MINUTE_MS);
    client.execute("DELETE FROM security_event_counts WHERE minute < $1", &[&minute]).await?;
    Ok(removed)
}

/// The days that a table has partitions for, counted from 1970.
async fn days(transaction: &Transaction<'_>, table: &str) -> Result<Vec<i64>, StorageError> {
    let rows = transaction
        .query(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent = to_regclass($1::text)",
            &[&table],
        )
        .await?;
    let names = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| name.rsplit_once("_d")?.1.parse().ok()).collect())
}

/// Names are made of a fixed table and a number, so that they need no quoting.
fn partition(table: &str, day: i64) -> String {
    format!("{table}_d{day}")
}

async fn make(
    transaction: &Transaction<'_>,
    table: &str,
    days: &[i64],
    now: Timestamp,
) -> Result<(), StorageError> {
    let today = now.as_millisecond().div_euclid(DAY_MS);
    for day in today..=today.saturating_add(AHEAD) {
        if days.contains(&day) {
            continue;
        }
        let (name, end) = (partition(table, day), day.saturating_add(1));
        // A savepoint: a day whose rows are in the default partition already cannot be made, and stays there.
        let sql = format!(
            "CREATE TABLE {name} PARTITION OF {table} FOR VALUES \
             FROM (TIMESTAMP '1970-01-01' + INTERVAL '{day} days') TO (TIMESTAMP '1970-01-01' + INTERVAL '{end} days')"
        );
        transaction.batch_execute("SAVEPOINT day").await?;
        if let Err(error) = transaction.batch_execute(&sql).await {
            if error.code() != Some(&tokio_postgres::error::SqlState::CHECK_VIOLATION) {
                return Err(error.into());
            }
            transaction.batch_execute("ROLLBACK TO SAVEPOINT day").await?;
        }
        transaction.batch_execute("RELEASE SAVEPOINT day").await?;
    }
    Ok(())
}

async fn drop_old(
    transaction: &Transaction<'_>,
    table: &str,
    days: &[i64],
    before: Timestamp,
) -> Result<u64, StorageError> {
    let kept_from = before.as_millisecond().div_euclid(DAY_MS);
    let mut removed: u64 = 0;
    for day in days.iter().filter(|day| **day < kept_from) {
        let name = partition(table, *day);
        let row = transaction.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await?;
        transaction.batch_execute(&format!("DROP TABLE {name}")).await?;
        removed = removed.saturating_add(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0));
    }
    Ok(removed)
}

async fn delete_late(client: &Client, table: &str, expiry: Expiry) -> Result<u64, StorageError> {
    let sql = format!(
        "DELETE FROM {table}_default WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table}_default WHERE created_at < $1 LIMIT $2))"
    );
    Ok(client.execute(&sql, &[&Utc(expiry.before), &i64::from(expiry.most)]).await?)
}
