//! Events by the server's copy protocol in its binary format: rows go in by the page, without a statement parsed and planned for each.

use std::pin::pin;

use deadpool_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::value::{Utc, Wrong};
use crate::event::Event;
use crate::storage::StorageError;

const COPY: &str = "COPY security_events (tenant_id, event_type, severity, user_id, ip_address, user_agent, details, created_at, epoch, \
     sequence) FROM STDIN BINARY";
const TYPES: [Type; 10] = [
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::JSONB,
    Type::TIMESTAMP,
    Type::BPCHAR,
    Type::INT8,
];

/// Text that is JSON.
#[derive(Debug)]
struct Jsonb<'a>(&'a str);

impl ToSql for Jsonb<'_> {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Wrong> {
        // The version of the binary format.
        out.extend_from_slice(&[1]);
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

/// Stores all `events`, each with the JSON of its details, or none of them and tells `false` when one is there already.
///
/// # Errors
/// The server fails, or cannot hold a value.
pub async fn copy(
    transaction: &Transaction<'_>,
    events: &[&Event],
    details: &[String],
) -> Result<bool, StorageError> {
    transaction.batch_execute("SAVEPOINT copied").await?;
    match rows(transaction, events, details).await {
        Ok(()) => {
            transaction.batch_execute("RELEASE SAVEPOINT copied").await?;
            Ok(true)
        }
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            transaction.batch_execute("ROLLBACK TO SAVEPOINT copied").await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

async fn rows(
    transaction: &Transaction<'_>,
    events: &[&Event],
    details: &[String],
) -> Result<(), tokio_postgres::Error> {
    let sink = transaction.copy_in(COPY).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
    for (event, details) in events.iter().zip(details) {
        let row: [&(dyn ToSql + Sync); 10] = [
            &event.tenant.as_str(),
            &event.event_type.as_str(),
            &event.severity.as_str(),
            &event.user_id,
            &event.ip_address,
            &event.user_agent,
            &Jsonb(details),
            &Utc(event.at),
            &event.key.epoch.as_str(),
            &event.key.sequence.as_i64(),
        ];
        writer.as_mut().write(&row).await?;
    }
    writer.finish().await.map(drop)
}
