//! The removal of a tenant: all of what it had goes in one transaction, or nothing does, so that one of the same name that is added
//! later begins with nothing.
//!
//! Its keys are shredded before ([`Keys::shred`] takes its people out of the tables, which takes long), and again in the transaction,
//! for a first key that was made in between. The instant of the removal stays: tokens that were issued before it open nothing of the
//! next tenant of that name, and what happened before it is not shown to that one. What is begun for a tenant meanwhile
//! ([`Statement::of_tenant`]) is either there in time to go with it, or finds it gone.
//!
//! Limits: a row a removed name stays for good. Events stay until they are old enough, without people.

use super::{TenantId, records};
use crate::clock::Timestamp;
use crate::keys::{Keys, KeysError};
use crate::policies::{self, Policies};
use crate::storage::{Statement, Storage, StorageError, Transaction};

/// Tables whose rows are a tenant's own.
const OWN: [&str; 5] = [
    "DELETE FROM user_sessions WHERE tenant_id = ?1",
    "DELETE FROM encrypted_data WHERE tenant_id = ?1",
    "DELETE FROM database_performance_logs WHERE tenant_id = ?1",
    "DELETE FROM index_plans WHERE tenant_id = ?1",
    "DELETE FROM business_metrics WHERE tenant_id = ?1",
];

/// Removes a tenant and all of what it had but its events; `false` when there is none. Whoever is told of an error may ask again.
///
/// # Errors
/// The store or the keys fail; then the tenant is there still, without keys perhaps.
pub async fn remove(
    storage: &dyn Storage,
    keys: &Keys,
    policies: &Policies,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<bool, KeysError> {
    if !records::exists(storage, tenant).await? {
        return Ok(false);
    }
    keys.shred(tenant).await?;
    let of = |sql| Statement::new(sql).bind(tenant.as_str());
    // The tenant's row first: what is begun for it locks that one before its own.
    let mut transaction = Transaction::new()
        .lock(policies::LOCK)
        .then(of("DELETE FROM tenants WHERE tenant_id = ?1").must_change(1))
        .then(
            of("INSERT INTO removed_tenants (tenant_id, removed_at) VALUES (?1, ?2) \
                ON CONFLICT (tenant_id) DO UPDATE SET removed_at = excluded.removed_at")
            .bind(now),
        )
        .then(
            of("INSERT INTO erasures (tenant_id, asked_at) SELECT tenant_id, ?2 FROM tenant_keys \
                WHERE tenant_id = ?1 AND shredded_at IS NULL \
                ON CONFLICT (tenant_id) DO UPDATE SET asked_at = excluded.asked_at")
            .bind(now),
        )
        .then(
            of("UPDATE tenant_keys SET revision = revision + 1, index_key = '', versions = '[]', rotated_at = NULL, \
                shredded_at = ?2 WHERE tenant_id = ?1 AND shredded_at IS NULL")
            .bind(now),
        );
    for sql in OWN {
        transaction = transaction.then(of(sql));
    }
    match storage.write(transaction.then(policies::forgotten(tenant, now))).await {
        Ok(done) => {
            policies.heed(&done)?;
            Ok(true)
        }
        // Somebody else was faster.
        Err(StorageError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
