//! What must hold before anything is built.

use std::collections::BTreeSet;

use serde::Serialize;
use tokio_postgres::Client;

use super::{ApplyError, Script};
use crate::Error;
use crate::catalog::{Catalog, SCHEMA_OF_OURS};
use crate::plan::megabytes;
use crate::proof::same_machine;

/// A build needs so many times the size of its index: a sort spills to disk what does not fit into memory.
const ROOM: u64 = 2;
/// A snapshot that is older holds up a build, which waits for it: seconds.
const OLD_SECONDS: f64 = 5.0;

/// What was looked at.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Preflight {
    /// Bytes that the plan is foreseen to take.
    pub bytes: u64,
    /// Bytes free where the database lies; `None` when the server is on another machine and nobody said.
    pub free: Option<u64>,
    /// Transactions that builds would have to wait for.
    pub old: Vec<String>,
}

/// Looks at everything that can be looked at without changing anything. `free` is what is free at a server elsewhere, if it is known.
///
/// # Errors
/// [`ApplyError`] for what cannot be waited for.
pub async fn preflight(
    client: &Client,
    catalog: &Catalog,
    script: &Script,
    free: Option<u64>,
) -> Result<Preflight, ApplyError> {
    if catalog.standby {
        return Err(ApplyError::Standby);
    }
    for build in &script.builds {
        permitted(client, build).await?;
    }
    let ours: BTreeSet<String> = script.builds.iter().map(|build| build.name.clone()).collect();
    if catalog.fingerprint_without(&ours) != script.schema {
        return Err(ApplyError::Changed);
    }
    let ledger = format!(
        "SELECT has_database_privilege(current_database(), 'CREATE') OR coalesce(has_schema_privilege(to_regnamespace('{SCHEMA_OF_OURS}'), 'USAGE'), false)"
    );
    if !client
        .query_one(&ledger, &[])
        .await
        .map_err(Error::from)?
        .try_get::<_, bool>(0)
        .map_err(Error::from)?
    {
        return Err(ApplyError::Ledger);
    }
    let free = match free {
        Some(free) => Some(free),
        None => free_here(client).await?,
    };
    let bytes = script.bytes();
    if let Some(free) = free.filter(|free| *free < bytes.saturating_mul(ROOM)) {
        return Err(ApplyError::Room { free: size(free), needed: size(bytes.saturating_mul(ROOM)) });
    }
    Ok(Preflight { bytes, free, old: old_transactions(client).await? })
}

async fn permitted(client: &Client, build: &super::Build) -> Result<(), ApplyError> {
    let owner = "SELECT pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(c.relnamespace, 'CREATE') FROM pg_class c \
                 WHERE c.oid = to_regclass($1)";
    let row = client.query_opt(owner, &[&build.on()]).await.map_err(Error::from)?;
    match row.map(|row| row.try_get::<_, bool>(0)).transpose().map_err(Error::from)? {
        Some(true) => Ok(()),
        Some(false) => Err(ApplyError::Privilege(build.on())),
        None => Err(ApplyError::Changed),
    }
}

/// Transactions whose snapshot is old, and prepared ones: a concurrent build waits for them, in whatever table they are.
pub(super) async fn old_transactions(client: &Client) -> Result<Vec<String>, Error> {
    let old = "SELECT format('session %s (%s, %s) has been in a transaction for %s s', pid, coalesce(usename, '?'), \
                      coalesce(nullif(application_name, ''), 'no name'), extract(epoch FROM now() - xact_start)::int) \
               FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL \
               AND backend_type = 'client backend' AND xact_start < now() - make_interval(secs => $1) \
               UNION ALL SELECT format('the prepared transaction %L waits for its end', gid) FROM pg_prepared_xacts \
               WHERE database = current_database()";
    client.query(old, &[&OLD_SECONDS]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Builds that run anywhere in the cluster.
pub(super) async fn builds(client: &Client) -> Result<i64, Error> {
    let builds = "SELECT count(*) FROM pg_stat_progress_create_index WHERE pid <> pg_backend_pid()";
    Ok(client.query_one(builds, &[]).await?.try_get(0)?)
}

/// Bytes free under the data directory, where the server is on this machine and says where that is.
async fn free_here(client: &Client) -> Result<Option<u64>, Error> {
    let told = "SELECT CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END";
    if same_machine(client).await?.is_none() {
        return Ok(None);
    }
    let folder: Option<String> = client.query_one(told, &[]).await?.try_get(0)?;
    let held = folder.and_then(|folder| rustix::fs::statvfs(folder.as_str()).ok());
    Ok(held.map(|held| held.f_bavail.saturating_mul(held.f_frsize)))
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
fn size(bytes: u64) -> String {
    megabytes(bytes as f64)
}
