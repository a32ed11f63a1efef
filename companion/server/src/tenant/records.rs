//! The tenants that exist, as the store has them.

use super::TenantId;
use crate::clock::Timestamp;
use crate::storage::{Statement, Storage, StorageError};

/// Whether the tenant exists.
///
/// # Errors
/// The store does not answer.
pub async fn exists(storage: &dyn Storage, tenant: &TenantId) -> Result<bool, StorageError> {
    let found = Statement::new("SELECT 1 FROM tenants WHERE tenant_id = ?1").bind(tenant.as_str());
    Ok(!storage.read(found).await?.is_empty())
}

/// Adds a tenant; `false` when it exists already.
///
/// # Errors
/// The store does not answer.
pub async fn add(storage: &dyn Storage, tenant: &TenantId, now: Timestamp) -> Result<bool, StorageError> {
    let statement = Statement::new(
        "INSERT INTO tenants (tenant_id, origin, created_at) VALUES (?1, 'operator', ?2) ON CONFLICT DO NOTHING",
    );
    let done = storage.write(statement.bind(tenant.as_str()).bind(now).into()).await?;
    Ok(done.first().is_some_and(|step| step.changed == 1))
}

/// At most `limit` tenants after `after`, by name.
///
/// # Errors
/// The store does not answer.
pub async fn list(
    storage: &dyn Storage,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<Vec<TenantId>, StorageError> {
    let page =
        Statement::new("SELECT tenant_id FROM tenants WHERE tenant_id > ?1 ORDER BY tenant_id LIMIT ?2")
            .bind(after.map_or("", TenantId::as_str))
            .bind(limit);
    let names = storage.read(page).await?;
    names
        .iter()
        // A name that another program wrote and that is none of ours is passed over.
        .filter_map(|row| row.text(0).map(|name| TenantId::new(&name).ok()).transpose())
        .collect()
}
