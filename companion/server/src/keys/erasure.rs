//! What follows a shredding: the tables stop showing the tenant's people.
//!
//! The table `erasures` remembers what is to be done, in the transaction that deletes the keys; who shreds does it at once,
//! and what is left when that breaks off is done by any companion on the store within a minute. What the trail has from
//! after the shredding holds nothing of people, or a newer key's, so the erasure ends a little after it.

use std::time::Duration;

use tokio::sync::watch;

use super::{Keys, KeysError};
use crate::clock::Timestamp;
use crate::ingest::record::CLOCK_SKEW;
use crate::storage::{StorageError, erasure};
use crate::tenant::TenantId;

/// How often it is looked for what was left.
const PAUSE: Duration = Duration::from_secs(60);
/// What clocks of companions may differ by, and what a proxy's, whose time an event has, may be ahead of them.
const SLACK: Duration = Duration::from_secs(60).saturating_add(CLOCK_SKEW);

/// Finishes what others left, until `end` says true.
pub async fn finish_erasures(keys: Keys, mut end: watch::Receiver<bool>) {
    loop {
        if let Err(error) = keys.erase_pending().await {
            tracing::error!(category = "application", %error, "people of tenants whose keys were shredded still stand in the tables");
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = end.wait_for(|end| *end) => return,
        }
    }
}

impl Keys {
    /// Deletes a tenant's keys, for good, and takes out of the tables what they show of its people; tells of how many events.
    /// A tenant that never had keys is no error.
    ///
    /// # Errors
    /// The store fails. Once the keys are deleted, the rest is done later.
    pub async fn shred(&self, tenant: &TenantId) -> Result<u64, KeysError> {
        let named = tenant.clone();
        self.run(move |keys| keys.shred(named.as_tenant())).await?;
        // None is written down of a tenant that never had keys, or had them shredded before.
        let asked = self.0.storage.read(erasure::pending_of(tenant)).await?;
        let asked = asked.first().map(erasure::asked).transpose()?;
        Ok(self.erase(tenant, asked.map_or_else(|| self.0.clock.now(), |(_, asked)| asked)).await?)
    }

    /// Does what was asked for and is not done.
    ///
    /// # Errors
    /// The store fails.
    pub async fn erase_pending(&self) -> Result<(), StorageError> {
        for row in self.0.storage.read(erasure::pending()).await? {
            let (tenant, asked) = erasure::asked(&row)?;
            if let Some(tenant) = tenant {
                self.erase(&tenant, asked).await?;
            }
        }
        Ok(())
    }

    async fn erase(&self, tenant: &TenantId, asked: Timestamp) -> Result<u64, StorageError> {
        let storage = &self.0.storage;
        let last = asked.checked_add(SLACK).unwrap_or(asked);
        let (mut from, mut erased) = (Timestamp::UNIX_EPOCH, 0_u64);
        while from < last {
            let rows = storage.read(erasure::end_of_step(tenant, from)).await?;
            let end = rows.first().map(|row| row.time(0)).transpose()?;
            let to = end.map_or(last, |end| end.min(last));
            let done = storage.write(erasure::step(tenant, from, to)).await?;
            erased = erased.saturating_add(done.first().map_or(0, |step| step.changed));
            from = to;
        }
        storage.write(erasure::done(tenant, asked).into()).await?;
        Ok(erased)
    }
}
