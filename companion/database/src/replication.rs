//! How a server's replication fares: standbys that are behind, and slots that nobody reads, which fill the disk.
//!
//! Of the server that is asked: as a primary its standbys' replay lag, as a standby its own. Without `pg_monitor` a role does not see others'
//! lag, and it shows as none.

use tokio_postgres::Client;

use crate::Error;

/// How replication fares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Replication {
    /// How many seconds the standby that is most behind is behind; 0 without standbys.
    pub lag_seconds: f64,
    /// Bytes of write-ahead log that are kept for slots that nobody reads.
    pub unread_bytes: f64,
}

/// Looks at it.
///
/// # Errors
/// The server refused, or was lost.
pub async fn look(client: &Client) -> Result<Replication, Error> {
    const LOOK: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN \
         CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
         ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0) END \
         ELSE coalesce((SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication), 0) END::float8, \
         (SELECT coalesce(sum(greatest(pg_wal_lsn_diff( \
         CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)), 0) \
         FROM pg_replication_slots WHERE NOT active)::float8";
    let row = client.query_one(LOOK, &[]).await?;
    Ok(Replication { lag_seconds: row.try_get(0)?, unread_bytes: row.try_get(1)? })
}
