//! The addresses of tenants' own databases, with their passwords: sealed in the table `tenants`, never shown.

use portcullis_keyring::{Envelope, Error};
use zeroize::Zeroizing;

use super::{Keys, KeysError, Place};
use crate::clock::Timestamp;
use crate::storage::{Statement, StorageError};
use crate::tenant::TenantId;

fn place(tenant: &TenantId) -> Place {
    Place {
        tenant: tenant.clone(),
        table: "tenants".to_owned(),
        column: "database_url_sealed".to_owned(),
        row: tenant.to_string(),
        purpose: "database address".to_owned(),
    }
}

impl Keys {
    /// Seals and keeps the address of a tenant's database, or forgets it.
    ///
    /// # Errors
    /// A tenant that does not exist or whose keys were shredded, a store that fails.
    pub async fn set_database_url(
        &self,
        tenant: &TenantId,
        url: Option<Zeroizing<String>>,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        let sealed = match url {
            Some(url) => Some(Envelope::to_text(&self.seal(place(tenant), url.as_bytes().to_vec()).await?)),
            None => None,
        };
        let statement = Statement::new(
            "UPDATE tenants SET database_url_sealed = ?2, updated_at = ?3 WHERE tenant_id = ?1",
        )
        .bind(tenant.as_str())
        .bind(sealed)
        .bind(now);
        let done = self.0.storage.write(statement.into()).await?;
        match done.first().map_or(0, |step| step.changed) {
            0 => Err(Error::UnknownTenant(tenant.to_string()).into()),
            _ => Ok(()),
        }
    }

    /// The address of a tenant's database, for whoever connects to it; `None` when none is kept.
    ///
    /// # Errors
    /// Keys that were shredded, a store that fails, or an address that somebody else wrote there.
    pub async fn database_url(&self, tenant: &TenantId) -> Result<Option<Zeroizing<String>>, KeysError> {
        let Some(sealed) = self.sealed_database_url(tenant).await? else { return Ok(None) };
        let opened = self.open(place(tenant), Envelope::from_text(&sealed)?).await?;
        let url = std::str::from_utf8(opened.expose()).map_err(|_| Error::Refused)?;
        Ok(Some(Zeroizing::new(url.to_owned())))
    }

    /// Seals the address anew if an older key than the newest has sealed it; tells whether it did.
    pub(super) async fn reseal_database_url(
        &self,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Result<bool, KeysError> {
        let Some(before) = self.sealed_database_url(tenant).await? else { return Ok(false) };
        let (place, envelope) = (place(tenant), Envelope::from_text(&before)?);
        let fresh = self
            .run(move |keys| {
                Ok(keys.keyring().rewrap(&place.context(), &envelope, &mut getrandom::SysRng)?)
            })
            .await?;
        let Some(fresh) = fresh else { return Ok(false) };
        let statement = Statement::new(
            "UPDATE tenants SET database_url_sealed = ?3, updated_at = ?4 WHERE tenant_id = ?1 AND database_url_sealed = ?2",
        )
        .bind(tenant.as_str())
        .bind(before)
        .bind(Envelope::to_text(&fresh))
        .bind(now);
        let done = self.0.storage.write(statement.into()).await?;
        Ok(done.first().is_some_and(|step| step.changed == 1))
    }

    pub(super) async fn sealed_database_url(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<String>, StorageError> {
        let found = Statement::new("SELECT database_url_sealed FROM tenants WHERE tenant_id = ?1");
        let rows = self.0.storage.read(found.bind(tenant.as_str())).await?;
        Ok(rows.first().map(|row| row.text_or_null(0)).transpose()?.flatten())
    }
}
