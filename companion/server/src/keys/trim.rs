//! Old versions of keys go when nothing of ours needs them any more: on the schedule of the rotation, and by `portcullis keys trim`.
//!
//! Only what lies below `min_decrypt_version` may go: it opens nothing any more, and whether values outside the store are done
//! with is for whoever raises that to say. Of those a version goes when the audit trail holds no record that it sealed
//! ([`super::minimum`]), and the store neither a kept value nor the address of a database: so that a minimum which was raised by
//! force, or before all was sealed anew, can be taken back for as long as it would serve anybody.

use std::sync::Arc;

use portcullis_audit_log::retention::Retention;
use portcullis_keyring::{Envelope, TenantRecord};

use super::minimum::needed_until;
use super::{Keys, KeysError};
use crate::clock::{Timestamp, rfc3339};
use crate::storage::{Statement, StorageError};
use crate::tenant::TenantId;

/// Tenants looked at in one step.
const PAGE: u32 = 500;

/// What came of a look at a tenant's old versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// As it is now.
    pub record: TenantRecord,
    /// Versions that were deleted.
    pub deleted: usize,
    /// Versions below the minimum that stay,
    pub left: usize,
    /// because of this; empty when none does.
    pub why: String,
}

impl Keys {
    /// Deletes a tenant's versions that are below its minimum and that nothing needs any more; `kept` is what the trail keeps.
    ///
    /// # Errors
    /// A tenant without keys, a store that fails.
    pub async fn trim(&self, tenant: &TenantId, kept: &Retention) -> Result<Trimmed, KeysError> {
        let named = tenant.clone();
        let before = self.run(move |keys| Ok(keys.keyring().record(named.as_tenant())?)).await?;
        let below = |record: &TenantRecord| {
            record.versions.iter().filter(|held| held.version < record.min_decrypt).count()
        };
        if below(&before) == 0 {
            return Ok(Trimmed { record: before, deleted: 0, left: 0, why: String::new() });
        }
        let (least, why) = self.least_needed(tenant, &before, kept).await?;
        let named = tenant.clone();
        let record = self.run(move |keys| Ok(keys.keyring().trim(named.as_tenant(), least)?)).await?;
        let deleted = before.versions.len().saturating_sub(record.versions.len());
        self.counts().trimmed.add(u64::try_from(deleted).unwrap_or(u64::MAX));
        let left = below(&record);
        Ok(Trimmed { deleted, left, why: if left == 0 { String::new() } else { why }, record })
    }

    /// The oldest version that something needs, and what that is.
    async fn least_needed(
        &self,
        tenant: &TenantId,
        record: &TenantRecord,
        kept: &Retention,
    ) -> Result<(u32, String), KeysError> {
        let now = self.0.clock.now();
        let rule = kept.tenants.get(tenant.as_str()).unwrap_or(&kept.default);
        let (mut least, mut why) = (record.min_decrypt, String::new());
        // The trail needs a version until long after its successor was made: what it needs is all from one version on.
        for held in record.versions.iter().filter(|held| held.version < record.min_decrypt) {
            let until = needed_until(record, held.version.saturating_add(1), rule);
            if let Some(until) = until.filter(|until| *until > now) {
                (least, why) = (held.version, until_when(until));
                break;
            }
        }
        if let Some(version) = self.oldest_in_store(tenant).await?.filter(|version| *version < least) {
            least = version;
            "the store has values that it sealed; `portcullis keys rewrap` seals them anew"
                .clone_into(&mut why);
        }
        Ok((least, why))
    }

    /// The oldest version under which the store keeps something of a tenant.
    async fn oldest_in_store(&self, tenant: &TenantId) -> Result<Option<u32>, KeysError> {
        let values =
            Statement::new("SELECT DISTINCT encryption_key_id FROM encrypted_data WHERE tenant_id = ?1");
        let rows = self.0.storage.read(values.bind(tenant.as_str())).await?;
        let names = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, StorageError>>()?;
        // What cannot be read is taken as the oldest.
        let version = |name: &String| name.rsplit(':').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let address = self.sealed_database_url(tenant).await?.map(|text| {
            let envelope = Envelope::from_text(&text);
            envelope.and_then(|bytes| Ok(Envelope::parse(&bytes)?.key_version())).unwrap_or(0)
        });
        Ok(names.iter().map(version).chain(address).min())
    }

    /// Does that for every tenant whose minimum was ever raised; tells how many versions went.
    ///
    /// # Errors
    /// The store fails; single tenants' failures are logged and counted, and the others go on.
    pub async fn trim_all(&self, kept: &Retention) -> Result<u64, KeysError> {
        let storage = Arc::clone(&self.0.storage);
        let (mut after, mut deleted) = (String::new(), 0_u64);
        loop {
            let page = Statement::new(
                "SELECT tenant_id FROM tenant_keys WHERE min_decrypt_version > 1 AND shredded_at IS NULL AND tenant_id > ?1 \
                 ORDER BY tenant_id LIMIT ?2",
            );
            let rows = storage.read(page.bind(after.as_str()).bind(PAGE)).await?;
            let Some(last) = rows.last() else { return Ok(deleted) };
            after = last.text(0)?;
            for row in &rows {
                let name = row.text(0)?;
                let Ok(tenant) = TenantId::new(&name) else { continue };
                match self.trim(&tenant, kept).await {
                    Ok(done) => {
                        deleted = deleted.saturating_add(u64::try_from(done.deleted).unwrap_or(u64::MAX))
                    }
                    Err(error) => {
                        self.counts().trim_errors.add(1);
                        tracing::error!(category = "application", tenant = name, %error, "old versions of a key were not deleted");
                    }
                }
            }
        }
    }
}

fn until_when(until: Timestamp) -> String {
    format!("the audit trail may hold records that it sealed until {}", rfc3339(until))
}
