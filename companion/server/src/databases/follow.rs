//! Whose database is where: what stands in the store, looked through every few seconds, and at once for a tenant that somebody asks for.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Databases, Known};
use crate::keys::KeysError;
use crate::storage::{Statement, StorageError};
use crate::tenant::TenantId;

/// How often the store is looked through for tenants that came, went or moved.
const PAUSE: Duration = Duration::from_secs(5);
/// How many such looks there are for each that is for unfinished plans.
const RESUME: usize = 3;
/// Tenants of one page.
const PAGE: u32 = 1000;

impl Databases {
    /// Looks whether one tenant's database is still where it was.
    ///
    /// # Errors
    /// The store or the keys fail.
    pub async fn refresh(&self, tenant: &TenantId) -> Result<(), KeysError> {
        let found = Statement::new("SELECT database_url_sealed FROM tenants WHERE tenant_id = ?1");
        let rows = self.0.storage.read(found.bind(tenant.as_str())).await?;
        let sealed = rows.first().map(|row| row.text_or_null(0)).transpose()?.flatten();
        match sealed {
            Some(sealed) => self.settle(tenant, sealed).await,
            None => {
                self.forget(tenant.as_str());
                Ok(())
            }
        }
    }

    /// Looks through all tenants.
    async fn follow(&self) -> Result<(), StorageError> {
        let mut seen = Vec::new();
        loop {
            let page = Statement::new(
                "SELECT tenant_id, database_url_sealed FROM tenants \
                 WHERE database_url_sealed IS NOT NULL AND tenant_id > ?1 ORDER BY tenant_id LIMIT ?2",
            )
            .bind(seen.last().map_or("", String::as_str))
            .bind(PAGE);
            let rows = self.0.storage.read(page).await?;
            for row in &rows {
                let (name, sealed) = (row.text(0)?, row.text(1)?);
                // A name that another program wrote and that is none of ours is passed over.
                if let Ok(tenant) = TenantId::new(&name)
                    && let Err(error) = self.settle(&tenant, sealed).await
                {
                    tracing::warn!(category = "application", tenant = name, %error, "the address of a database was not read");
                }
                seen.push(name);
            }
            if u32::try_from(rows.len()).is_ok_and(|count| count < PAGE) {
                break;
            }
        }
        let known: Vec<String> =
            self.0.known.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        for name in known.iter().filter(|name| seen.binary_search(name).is_err()) {
            self.forget(name);
        }
        Ok(())
    }

    /// Opens a pool for what stands in the store, if it is not the one that is open.
    async fn settle(&self, tenant: &TenantId, sealed: String) -> Result<(), KeysError> {
        let known = self.known(tenant.as_str(), |known| known.sealed == sealed);
        if known == Some(true) {
            return Ok(());
        }
        let Some(url) = self.0.keys.database_url(tenant).await? else { return Ok(()) };
        let opened = self.0.pools.put(tenant.as_str(), &url);
        if known.is_some() {
            if matches!(opened, Ok(false)) {
                // The same address, sealed anew: whatever goes on with it goes on.
                let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(known) = known.get_mut(tenant.as_str()) {
                    known.sealed = sealed;
                }
                return Ok(());
            }
            self.withdraw(tenant.as_str(), "the address of the tenant's database was changed");
        }
        let problem = opened.as_ref().err().map(|error| format!("database_url: {error}"));
        match &problem {
            Some(problem) => {
                tracing::warn!(
                    category = "security",
                    tenant = tenant.as_str(),
                    problem,
                    "a tenant's database is not connected to"
                );
            }
            None => {
                tracing::info!(
                    category = "application",
                    tenant = tenant.as_str(),
                    "a tenant's database is known"
                );
            }
        }
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(tenant.to_string(), Known { sealed, problem, ..Known::default() });
        Ok(())
    }

    fn forget(&self, tenant: &str) {
        self.withdraw(tenant, "the tenant, or its database, was removed");
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        if self.0.pools.remove(tenant) {
            tracing::info!(category = "application", tenant, "a tenant's database is known no longer");
        }
    }
}

/// Looks through all tenants, again and again, and for plans that nobody is at.
pub(super) async fn run(databases: &Databases) {
    let mut looks = 0_usize;
    loop {
        match databases.follow().await {
            Ok(()) if databases.enabled() => {
                if looks.is_multiple_of(RESUME) {
                    databases.resume(looks / RESUME).await;
                }
                looks = looks.wrapping_add(1);
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(category = "application", %error, "the tenants' databases were not looked through");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
