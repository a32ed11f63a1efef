//! The tenants that exist, as the store has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TenantId;
use crate::clock::Timestamp;
use crate::storage::{Row, Statement, Storage, StorageError};

/// How a tenant's data lies in its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenancyModel {
    /// In tables that tenants share.
    #[default]
    Shared,
    /// In a schema of its own.
    Schema,
    /// In a database of its own.
    Database,
}

impl TenancyModel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Schema => "schema",
            Self::Database => "database",
        }
    }

    fn from_name(name: &str) -> Self {
        [Self::Schema, Self::Database].into_iter().find(|model| model.as_str() == name).unwrap_or_default()
    }
}

/// What is known of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `operator` or `traffic`.
    pub origin: String,
    /// How its data lies.
    pub tenancy_model: TenancyModel,
    /// Whether the address of its database is kept.
    pub database_configured: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Option<Timestamp>,
}

fn record(row: &Row) -> Result<Record, StorageError> {
    Ok(Record {
        origin: row.text(0)?,
        tenancy_model: TenancyModel::from_name(&row.text(1)?),
        database_configured: row.boolean(2)?,
        created_at: row.time(3)?,
        updated_at: row.time_or_null(4)?,
    })
}

/// A tenant.
///
/// # Errors
/// The store does not answer.
pub async fn find(storage: &dyn Storage, tenant: &TenantId) -> Result<Option<Record>, StorageError> {
    let found = Statement::new(
        "SELECT origin, tenancy_model, database_url_sealed IS NOT NULL, created_at, updated_at FROM tenants \
         WHERE tenant_id = ?1",
    );
    storage.read(found.bind(tenant.as_str())).await?.first().map(record).transpose()
}

/// Adds or changes a tenant.
///
/// # Errors
/// The store does not answer.
pub async fn put(
    storage: &dyn Storage,
    tenant: &TenantId,
    model: TenancyModel,
    now: Timestamp,
) -> Result<Record, StorageError> {
    let statement = Statement::new(
        "INSERT INTO tenants (tenant_id, origin, created_at, tenancy_model) VALUES (?1, 'operator', ?2, ?3) \
         ON CONFLICT (tenant_id) DO UPDATE SET tenancy_model = excluded.tenancy_model, updated_at = excluded.created_at \
         RETURNING origin, tenancy_model, database_url_sealed IS NOT NULL, created_at, updated_at",
    );
    let statement = statement.bind(tenant.as_str()).bind(now).bind(model.as_str()).must_change(1);
    let done = storage.write(statement.into()).await?;
    done.first().and_then(|step| step.rows.first()).map_or(Err(StorageError::Conflict), record)
}

/// A tenant that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When another one of this name was removed, if one was.
    pub removed_at: Option<Timestamp>,
}

/// Whether the tenant exists, and since when its name is its own.
///
/// # Errors
/// The store does not answer.
pub async fn standing(storage: &dyn Storage, tenant: &TenantId) -> Result<Option<Standing>, StorageError> {
    let found = Statement::new(
        "SELECT removed_tenants.removed_at FROM tenants LEFT JOIN removed_tenants \
         ON removed_tenants.tenant_id = tenants.tenant_id WHERE tenants.tenant_id = ?1",
    );
    let rows = storage.read(found.bind(tenant.as_str())).await?;
    rows.first().map(|row| Ok(Standing { removed_at: row.time_or_null(0)? })).transpose()
}

/// Whether the tenant exists.
///
/// # Errors
/// The store does not answer.
pub async fn exists(storage: &dyn Storage, tenant: &TenantId) -> Result<bool, StorageError> {
    Ok(standing(storage, tenant).await?.is_some())
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
    named(storage.read(page).await?)
}

/// The same of those that have a database of their own.
///
/// # Errors
/// The store does not answer.
pub async fn with_database(
    storage: &dyn Storage,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<Vec<TenantId>, StorageError> {
    let page = Statement::new(
        "SELECT tenant_id FROM tenants WHERE tenant_id > ?1 AND database_url_sealed IS NOT NULL \
         ORDER BY tenant_id LIMIT ?2",
    )
    .bind(after.map_or("", TenantId::as_str))
    .bind(limit);
    named(storage.read(page).await?)
}

fn named(rows: Vec<Row>) -> Result<Vec<TenantId>, StorageError> {
    rows.iter()
        // A name that another program wrote and that is none of ours is passed over.
        .filter_map(|row| row.text(0).map(|name| TenantId::new(&name).ok()).transpose())
        .collect()
}
