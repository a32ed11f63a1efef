//! Wrapped keys in the companion's own store.
//!
//! Other processes write it too: companions on the same database, `portcullis keys`. So whoever uses a key from memory asks
//! first whether its tenant's record is still the one that was read, by one look-up of a primary key. That is what makes a
//! shredding hold everywhere when it returns, without a message that could be lost.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_keyring::{KeyStore, Saved, StoreError, Tenant, TenantRecord, WrappedVersion};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::clock::Timestamp;
use crate::storage::{Pending, Row, Statement, Storage, StorageError, Transaction, erasure};

/// The table `tenant_keys`. Its calls wait for the store, so they are for threads that may block.
pub struct KeyTable {
    storage: Arc<dyn Storage>,
    runtime: Handle,
}

/// A version as it stands in the column.
#[derive(Serialize, Deserialize)]
struct Version {
    version: u32,
    /// Milliseconds since the Unix epoch.
    created_at: i64,
    wrapped: String,
}

impl KeyTable {
    /// The table in `storage`. To be called within a runtime.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, runtime: Handle::current() }
    }

    fn wait<T>(&self, pending: Pending<'_, T>) -> Result<T, StorageError> {
        self.runtime.block_on(pending)
    }
}

impl KeyStore for KeyTable {
    fn load(&self, tenant: &Tenant) -> Result<Option<TenantRecord>, StoreError> {
        let found = Statement::new(
            "SELECT tenant_id, revision, current_version, min_decrypt_version, index_key, versions, shredded_at \
             FROM tenant_keys WHERE tenant_id = ?1",
        );
        let rows = self.wait(self.storage.read(found.bind(tenant.as_str()))).map_err(failed)?;
        rows.first().map(record).transpose().map_err(failed)
    }

    fn save(&self, record: &TenantRecord) -> Result<Saved, StoreError> {
        let statement = if record.revision == 1 {
            Statement::new(
                "INSERT INTO tenant_keys (tenant_id, revision, current_version, min_decrypt_version, index_key, versions, \
                 rotated_at, shredded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            )
        } else {
            Statement::new(
                "UPDATE tenant_keys SET revision = ?2, current_version = ?3, min_decrypt_version = ?4, index_key = ?5, \
                 versions = ?6, rotated_at = ?7, shredded_at = ?8 WHERE tenant_id = ?1 AND revision = ?2 - 1",
            )
        };
        let versions: Vec<Version> = record
            .versions
            .iter()
            .map(|held| Version {
                version: held.version,
                created_at: held.created_at,
                wrapped: STANDARD.encode(&held.wrapped),
            })
            .collect();
        let versions = serde_json::to_value(versions).map_err(|error| StoreError(error.to_string()))?;
        let statement = statement
            .bind(record.tenant.as_str())
            .bind(i64::try_from(record.revision).unwrap_or(i64::MAX))
            .bind(record.current)
            .bind(record.min_decrypt)
            .bind(STANDARD.encode(&record.index))
            .bind(versions)
            .bind(record.rotated_at().map(instant))
            .bind(record.shredded_at.map(instant))
            .must_change(1);
        let transaction = match record.shredded_at {
            Some(at) => Transaction::from(statement).then(erasure::ask(record.tenant.as_str(), instant(at))),
            None => statement.into(),
        };
        match self.wait(self.storage.write(transaction)) {
            Ok(_) => Ok(Saved::Written),
            Err(StorageError::Conflict) => Ok(Saved::Conflict),
            Err(error) => Err(failed(error)),
        }
    }

    fn list(&self, after: Option<&Tenant>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
        let page = Statement::new(
            "SELECT tenant_id, revision, current_version, min_decrypt_version, index_key, versions, shredded_at \
             FROM tenant_keys WHERE tenant_id > ?1 ORDER BY tenant_id LIMIT ?2",
        )
        .bind(after.map_or("", Tenant::as_str))
        .bind(u32::try_from(limit).unwrap_or(u32::MAX));
        let rows = self.wait(self.storage.read(page)).map_err(failed)?;
        rows.iter().map(record).collect::<Result<_, _>>().map_err(failed)
    }

    fn is_newest(&self, tenant: &Tenant, revision: u64) -> Result<bool, StoreError> {
        let found = Statement::new("SELECT 1 FROM tenant_keys WHERE tenant_id = ?1 AND revision = ?2")
            .bind(tenant.as_str())
            .bind(i64::try_from(revision).unwrap_or(i64::MAX));
        Ok(!self.wait(self.storage.read(found)).map_err(failed)?.is_empty())
    }
}

fn failed(error: StorageError) -> StoreError {
    StoreError(error.to_string())
}

fn instant(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn record(row: &Row) -> Result<TenantRecord, StorageError> {
    let name = row.text(0)?;
    let unreadable =
        |what: &str| StorageError::Failed(format!("tenant_keys: {what} of {name} is not readable"));
    let number = |column| row.int(column).map(|number| u32::try_from(number).unwrap_or(0));
    let bytes = |text: &str, what| STANDARD.decode(text).map_err(|_| unreadable(what));
    let versions: Vec<Version> = serde_json::from_value(row.json(5)?).map_err(|_| unreadable("versions"))?;
    let versions = versions
        .into_iter()
        .map(|held| {
            let wrapped = bytes(&held.wrapped, "a version")?;
            Ok(WrappedVersion { version: held.version, created_at: held.created_at, wrapped })
        })
        .collect::<Result<_, StorageError>>()?;
    Ok(TenantRecord {
        tenant: Tenant::new(name.as_bytes()).ok_or_else(|| unreadable("the name"))?,
        revision: u64::try_from(row.int(1)?).unwrap_or(0),
        current: number(2)?,
        min_decrypt: number(3)?,
        index: bytes(&row.text(4)?, "index_key")?,
        versions,
        shredded_at: row.time_or_null(6)?.map(|at| at.as_millisecond()),
    })
}
