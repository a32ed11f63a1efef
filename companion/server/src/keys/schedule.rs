//! Rotation on a schedule: KEY_ROTATION says how old a tenant's sealing key may become.
//!
//! Each companion on a store looks; of several that find the same key due one rotates it. What older versions sealed is still
//! opened. A tenant whose rotation fails is logged, counted, and tried again in the next round.

use std::sync::Arc;
use std::time::Duration;

use getrandom::SysRng;
use tokio::sync::watch;

use super::{Keys, KeysError};
use crate::clock::Timestamp;
use crate::storage::{Statement, Storage};
use crate::tenant::TenantId;

/// Tenants looked at in one step.
const PAGE: u32 = 500;
/// A hundredth of the schedule, within these, is how late a rotation may be.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Rotates what is older than `period`, until `end` says true.
pub async fn rotate_when_due(keys: Keys, period: Duration, mut end: watch::Receiver<bool>) {
    let pause = period.checked_div(100).unwrap_or(period).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    loop {
        match keys.rotate_older_than(period).await {
            Ok(0) => {}
            Ok(rotated) => {
                tracing::info!(category = "security", rotated, "tenants' keys rotated on schedule")
            }
            Err(error) => {
                keys.counts().rotation_errors.add(1);
                tracing::error!(category = "application", %error, "keys that are due were not rotated");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = end.wait_for(|end| *end) => return,
        }
    }
}

impl Keys {
    /// Rotates all keys that are older than `period`; tells how many.
    ///
    /// # Errors
    /// The store fails; single tenants' failures are logged and counted, and the others go on.
    pub async fn rotate_older_than(&self, period: Duration) -> Result<u64, KeysError> {
        let (storage, now) = (Arc::clone(&self.0.storage), self.0.clock.now());
        let due = now.checked_sub(period).unwrap_or(Timestamp::UNIX_EPOCH);
        let (mut after, mut rotated) = (None, 0_u64);
        loop {
            let page = due_tenants(&*storage, due, after.as_ref()).await?;
            let Some(last) = page.last().cloned() else { return Ok(rotated) };
            for tenant in page {
                let done = self.run({
                    let tenant = tenant.clone();
                    move |keys| {
                        let due = due.as_millisecond();
                        let tenant = tenant.as_tenant();
                        Ok(keys.keyring().rotate_when_due(tenant, due, keys.now(), &mut SysRng)?)
                    }
                });
                match done.await {
                    Ok(done) => {
                        let one = u64::from(done.is_some());
                        self.counts().rotations.add(one);
                        rotated = rotated.saturating_add(one);
                    }
                    Err(error) => {
                        self.counts().rotation_errors.add(1);
                        let tenant = tenant.as_str();
                        tracing::error!(category = "application", tenant, %error, "a key was not rotated");
                    }
                }
            }
            after = Some(last);
        }
    }
}

/// Tenants whose sealing key was made at `due` or before, by name.
async fn due_tenants(
    storage: &dyn Storage,
    due: Timestamp,
    after: Option<&TenantId>,
) -> Result<Vec<TenantId>, KeysError> {
    let page = Statement::new(
        "SELECT tenant_id FROM tenant_keys WHERE rotated_at <= ?1 AND tenant_id > ?2 ORDER BY tenant_id LIMIT ?3",
    )
    .bind(due)
    .bind(after.map_or("", TenantId::as_str))
    .bind(PAGE);
    let rows = storage.read(page).await?;
    let names = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| TenantId::new(name).ok()).collect())
}
