//! A partition a day: made a week ahead, dropped whole when all of it is too old. Dropping a day costs nothing, however many
//! events it holds; deleting them row by row would cost as much as storing them did, and so would counting them: of a large day
//! the server's own estimate is told.
//!
//! Days are made first and by themselves, each day is dropped by itself, and a table that fails does not keep the others from their
//! turn: what comes must find its place whatever goes wrong with what goes. An event is therefore kept up to a day longer than asked for. The default partition holds what fits no day (records
//! that came very late): its rows are deleted one by one.

use deadpool_postgres::{Client, Transaction};

use super::value::Utc;
use crate::clock::Timestamp;
use crate::storage::{Expiry, StorageError};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const MINUTE_MS: i64 = 60_000;
/// Days made ahead: a companion may be away for as long, and other programs still find theirs.
const AHEAD: i64 = 7;
/// A day of so many bytes is counted: it is small, or the server has not looked at it yet.
const COUNTED_BYTES: i64 = 8 * 1024 * 1024;

/// The tables that are partitioned, and the text of what is done to a day of each.
const TABLES: [&str; 3] = ["security_events", "rate_limiting_logs", "database_performance_logs"];

/// Makes what is missing, drops what is too old, deletes what is too old of the rest.
pub async fn expire(client: &mut Client, expiry: Expiry) -> Result<u64, StorageError> {
    let (mut removed, mut failed) = (0_u64, None);
    for table in TABLES {
        match expire_table(client, table, expiry).await {
            Ok(count) => removed = removed.saturating_add(count),
            Err(error) => {
                tracing::error!(category = "application", table, %error, "days of events were not made or dropped; it is tried again");
                failed = Some(error);
            }
        }
    }
    let minute = expiry.before.as_millisecond().div_euclid(MINUTE_MS);
    client.execute("DELETE FROM security_event_counts WHERE minute < $1", &[&minute]).await?;
    match failed {
        // Whoever is told that some went comes again at once: only if all goes well.
        Some(error) => Err(error),
        None => Ok(removed),
    }
}

async fn expire_table(client: &mut Client, table: &str, expiry: Expiry) -> Result<u64, StorageError> {
    // Whatever of this fails, the rest is done: a default partition that is too large to be looked through in time keeps neither
    // from its turn.
    let (mut removed, mut failed) = (0_u64, make(client, table, expiry.now).await.err());
    let transaction = begin(client).await?;
    let days = days(&transaction, table).await?;
    transaction.commit().await?;
    let kept_from = expiry.before.as_millisecond().div_euclid(DAY_MS);
    for day in days.into_iter().filter(|day| *day < kept_from) {
        match drop_day(client, &partition(table, day)).await {
            Ok(count) => removed = removed.saturating_add(count),
            Err(error) => failed = Some(error),
        }
    }
    match delete_late(client, table, expiry).await {
        Ok(count) => removed = removed.saturating_add(count),
        Err(error) => failed = Some(error),
    }
    failed.map_or(Ok(removed), Err)
}

/// A transaction in which days are made or dropped: both of two companions may come here; and nobody waits long for a lock on a
/// whole table.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, StorageError> {
    let transaction = client.transaction().await?;
    let first =
        "SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock(hashtextextended('partitions', 0))";
    transaction.batch_execute(first).await?;
    Ok(transaction)
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

async fn make(client: &mut Client, table: &str, now: Timestamp) -> Result<(), StorageError> {
    let transaction = begin(client).await?;
    let days = days(&transaction, table).await?;
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
    transaction.commit().await?;
    Ok(())
}

/// Drops a day, unless another companion was faster; tells of about how many rows.
async fn drop_day(client: &mut Client, name: &str) -> Result<u64, StorageError> {
    let transaction = begin(client).await?;
    let found = "SELECT greatest(reltuples, 0)::bigint, pg_relation_size(oid) FROM pg_class WHERE oid = to_regclass($1::text)";
    let Some(row) = transaction.query_opt(found, &[&name]).await? else { return Ok(0) };
    let rows: i64 = match row.try_get::<_, i64>(1)? {
        0..=COUNTED_BYTES => {
            transaction.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await?.try_get(0)?
        }
        _ => row.try_get(0)?,
    };
    transaction.batch_execute(&format!("DROP TABLE {name}")).await?;
    transaction.commit().await?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

async fn delete_late(client: &Client, table: &str, expiry: Expiry) -> Result<u64, StorageError> {
    let sql = format!(
        "DELETE FROM {table}_default WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table}_default WHERE created_at < $1 LIMIT $2))"
    );
    Ok(client.execute(&sql, &[&Utc(expiry.before), &i64::from(expiry.most)]).await?)
}
