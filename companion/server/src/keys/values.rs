//! The table `encrypted_data`: values that applications have sealed under their tenant's key.
//!
//! A value is bound to its tenant and its data type: it is not opened as another tenant's or as one of another type. It may
//! also lie in the application's own database; the table keeps those that were asked to be kept.

use getrandom::SysRng;
use portcullis_keyring::{EdgePlace, Envelope, Error, Malformed, Plaintext, TenantKey};

use super::counts::Call;
use super::{Blocking, Keys, KeysError, Place};
use crate::clock::Timestamp;
use crate::storage::{Statement, StorageError, Transaction};
use crate::tenant::TenantId;

const TABLE: &str = "encrypted_data";
const PURPOSE: &str = "sensitive data";
/// Values sealed anew in one step.
const PAGE: u32 = 100;

/// A sealed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The envelope as text.
    pub value: String,
    /// Tenant and version of its key, as `acme:3`.
    pub key_id: String,
}

/// What came of sealing anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that are sealed under the newest key by now and were not.
    pub resealed: u64,
    /// Values that could not be opened, and are as they were.
    pub unreadable: u64,
    /// Whether keys stood under another root key than the present one, and do not any more.
    pub root_changed: bool,
}

fn place(tenant: &TenantId, data_type: &str) -> Place {
    Place {
        tenant: tenant.clone(),
        table: TABLE.to_owned(),
        column: data_type.to_owned(),
        row: String::new(),
        purpose: PURPOSE.to_owned(),
    }
}

fn key_id(envelope: &[u8]) -> Result<String, KeysError> {
    let envelope = Envelope::parse(envelope)?;
    Ok(format!("{}:{}", envelope.tenant(), envelope.key_version()))
}

impl Keys {
    /// Seals `data` of a tenant as a value of `data_type`.
    ///
    /// # Errors
    /// As [`Keys::seal`].
    pub async fn encrypt_sensitive_data(
        &self,
        data: Vec<u8>,
        tenant: &TenantId,
        data_type: &str,
    ) -> Result<Sealed, KeysError> {
        let envelope = self.seal(place(tenant, data_type), data).await?;
        Ok(Sealed { key_id: key_id(&envelope)?, value: Envelope::to_text(&envelope) })
    }

    /// Opens what [`Keys::encrypt_sensitive_data`] has sealed.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub async fn decrypt_sensitive_data(
        &self,
        value: &str,
        tenant: &TenantId,
        data_type: &str,
    ) -> Result<Plaintext, KeysError> {
        let envelope = self.counts().count(Call::Open, Envelope::from_text(value).map_err(KeysError::from));
        match envelope {
            Ok(envelope) => self.open(place(tenant, data_type), envelope).await,
            Err(error) => Err(error),
        }
    }

    /// The public key of a tenant's newest version: what a proxy seals to.
    ///
    /// # Errors
    /// A tenant without keys; a root key or store that fails.
    pub async fn public_key(&self, tenant: &TenantId) -> Result<TenantKey, KeysError> {
        let tenant = tenant.clone();
        self.run(move |keys| Ok(keys.keyring().public_key(tenant.as_tenant())?)).await
    }

    /// Opens what a proxy has sealed of a field, for a purpose.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub async fn open_edge(
        &self,
        value: &str,
        tenant: &TenantId,
        field: String,
        purpose: String,
    ) -> Result<Plaintext, KeysError> {
        let Some(bytes) = portcullis_hpke::Envelope::from_text(value) else {
            return self.counts().count(Call::Open, Err(Error::Malformed(Malformed::Edge).into()));
        };
        let tenant = tenant.clone();
        let opened = self.run(move |keys| {
            let place = EdgePlace { tenant: tenant.as_tenant(), field: &field, purpose: &purpose };
            Ok(keys.keyring().open_edge(&place, &bytes)?)
        });
        self.counts().count(Call::Open, opened.await)
    }

    /// Keeps a sealed value; tells its number.
    ///
    /// # Errors
    /// The store fails.
    pub async fn keep(
        &self,
        tenant: &TenantId,
        data_type: &str,
        sealed: &Sealed,
        now: Timestamp,
    ) -> Result<i64, KeysError> {
        // Only as long as the tenant is there: one that is removed meanwhile takes it along.
        let statement = Statement::of_tenant(
            "INSERT INTO encrypted_data (tenant_id, data_type, encrypted_value, encryption_key_id, created_at, updated_at) \
             SELECT tenant_id, ?2, ?3, ?4, ?5, ?5 FROM tenants WHERE tenant_id = ?1 RETURNING id",
        )
        .bind(tenant.as_str())
        .bind(data_type)
        .bind(sealed.value.as_str())
        .bind(sealed.key_id.as_str())
        .bind(now)
        .must_change(1);
        let done = self.0.storage.write(statement.into()).await?;
        let row = done.first().and_then(|step| step.rows.first()).ok_or(StorageError::Conflict)?;
        Ok(row.int(0)?)
    }

    /// A kept value and its data type.
    ///
    /// # Errors
    /// The store fails.
    pub async fn kept(&self, tenant: &TenantId, id: i64) -> Result<Option<(String, String)>, KeysError> {
        let found = Statement::new(
            "SELECT encrypted_value, data_type FROM encrypted_data WHERE id = ?1 AND tenant_id = ?2",
        );
        let rows = self.0.storage.read(found.bind(id).bind(tenant.as_str())).await?;
        Ok(rows.first().map(|row| Ok::<_, StorageError>((row.text(0)?, row.text(1)?))).transpose()?)
    }

    /// Removes a kept value; `false` when there is none.
    ///
    /// # Errors
    /// The store fails.
    pub async fn discard(&self, tenant: &TenantId, id: i64) -> Result<bool, KeysError> {
        let statement = Statement::new("DELETE FROM encrypted_data WHERE id = ?1 AND tenant_id = ?2");
        let done = self.0.storage.write(statement.bind(id).bind(tenant.as_str()).into()).await?;
        Ok(done.first().is_some_and(|step| step.changed == 1))
    }

    /// Wraps a tenant's keys under the present root key, and seals what the store keeps of it anew under the newest key.
    ///
    /// # Errors
    /// The tenant has no keys, or the store fails. What is done by then is done; it may be repeated.
    pub async fn rewrap_tenant(&self, tenant: &TenantId, now: Timestamp) -> Result<Resealed, KeysError> {
        let root_changed = {
            let tenant = tenant.clone();
            self.run(move |keys| Ok(keys.keyring().rewrap_tenant_key(tenant.as_tenant(), &mut SysRng)?))
                .await?
        };
        let mut done = Resealed { root_changed, ..self.reseal(tenant, now).await? };
        match self.reseal_database_url(tenant, now).await {
            Ok(resealed) => done.resealed = done.resealed.saturating_add(resealed.into()),
            Err(KeysError::Keyring(error)) if !super::counts::is_failure(&error) => {
                done.unreadable = done.unreadable.saturating_add(1);
                let tenant = tenant.as_str();
                tracing::error!(category = "application", tenant, %error, "the address of a database cannot be opened");
            }
            Err(error) => return Err(error),
        }
        Ok(done)
    }

    /// Seals all kept values of a tenant anew that an older key than the newest has sealed. Others may read and write
    /// meanwhile: a value that changes in between is left to who changed it.
    ///
    /// # Errors
    /// The tenant has no keys, or the store fails. What is done by then is done.
    async fn reseal(&self, tenant: &TenantId, now: Timestamp) -> Result<Resealed, KeysError> {
        let current = {
            let tenant = tenant.clone();
            self.run(move |keys| Ok(keys.keyring().record(tenant.as_tenant())?.current)).await?
        };
        let newest = format!("{tenant}:{current}");
        let (mut after, mut done) = (0_i64, Resealed::default());
        loop {
            let page = Statement::new(
                "SELECT id, data_type, encrypted_value FROM encrypted_data \
                 WHERE tenant_id = ?1 AND id > ?2 AND encryption_key_id <> ?3 ORDER BY id LIMIT ?4",
            )
            .bind(tenant.as_str())
            .bind(after)
            .bind(newest.as_str())
            .bind(PAGE);
            let rows = self.0.storage.read(page).await?;
            let Some(last) = rows.last() else { return Ok(done) };
            after = last.int(0)?;
            let rows = rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?, row.text(2)?)));
            let rows = rows.collect::<Result<Vec<_>, StorageError>>()?;
            let (fresh, unreadable) = {
                let tenant = tenant.clone();
                self.run(move |keys| reseal_page(keys, &tenant, rows)).await?
            };
            done.unreadable = done.unreadable.saturating_add(unreadable);
            let updates = fresh.into_iter().map(|(id, before, sealed)| replace(id, before, sealed, now));
            let transaction = updates.fold(Transaction::new(), Transaction::then);
            for step in self.0.storage.write(transaction).await? {
                done.resealed = done.resealed.saturating_add(step.changed);
            }
        }
    }
}

/// What is to be written: number, what stands there, what shall stand there.
type Fresh = Vec<(i64, String, Sealed)>;

/// Seals a page of (number, data type, value) anew; tells how many could not be opened.
fn reseal_page(
    keys: &Blocking<'_>,
    tenant: &TenantId,
    rows: Vec<(i64, String, String)>,
) -> Result<(Fresh, u64), KeysError> {
    let (mut fresh, mut unreadable) = (Fresh::with_capacity(rows.len()), 0_u64);
    let mut session = keys.keyring().session();
    for (id, data_type, value) in rows {
        let place = place(tenant, &data_type);
        let sealed = Envelope::from_text(&value)
            .and_then(|envelope| session.rewrap(&place.context(), &envelope, &mut SysRng));
        match sealed {
            Ok(None) => {}
            Ok(Some(envelope)) => {
                let sealed = Sealed { key_id: key_id(&envelope)?, value: Envelope::to_text(&envelope) };
                fresh.push((id, value, sealed));
            }
            Err(error) if !super::counts::is_failure(&error) => {
                unreadable = unreadable.saturating_add(1);
                let tenant = tenant.as_str();
                tracing::error!(category = "application", tenant, id, %error, "a value cannot be opened");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((fresh, unreadable))
}

/// Changes a value that is still as it was read.
fn replace(id: i64, before: String, sealed: Sealed, now: Timestamp) -> Statement {
    Statement::new(
        "UPDATE encrypted_data SET encrypted_value = ?3, encryption_key_id = ?4, updated_at = ?5 \
         WHERE id = ?1 AND encrypted_value = ?2",
    )
    .bind(id)
    .bind(before)
    .bind(sealed.value)
    .bind(sealed.key_id)
    .bind(now)
}
