//! Rotation on a schedule: KEY_ROTATION says how old a tenant's sealing key may become.
//!
//! Each companion on a store looks; of several that find the same key due one rotates it. What older versions sealed is still
//! opened. A tenant whose rotation fails is logged, counted, and tried again in the next round. Old versions that nothing needs any
//! more ([`super::trim`]) are deleted at the start and once a day.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use getrandom::SysRng;
use portcullis_audit_log::retention::Retention;
use tokio::sync::watch;

use super::{Keys, KeysError};
use crate::clock::{Timestamp, monotonic};
use crate::storage::{Statement, Storage};
use crate::tenant::TenantId;
use crate::units;

/// How old a tenant's sealing key may become; none: it is rotated only by command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation(pub Option<Duration>);

impl FromStr for Rotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            text => Ok(Self(Some(units::duration(text).map_err(|error| format!("{error}; or off"))?))),
        }
    }
}

/// Tenants looked at in one step.
const PAGE: u32 = 500;
/// A hundredth of the schedule, within these, is how late a rotation may be.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How often it is looked for versions that nothing needs any more.
const TRIM_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// Rotates what is older than `period`, and deletes what neither a tenant nor the trail as it is `kept` needs, until `end` says
/// true.
pub async fn rotate_when_due(keys: Keys, period: Duration, kept: Retention, mut end: watch::Receiver<bool>) {
    let pause = period.checked_div(100).unwrap_or(period).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut trimmed_at = None;
    loop {
        if trimmed_at.is_none_or(|at| monotonic().saturating_duration_since(at) >= TRIM_PAUSE) {
            trimmed_at = Some(monotonic());
            trim(&keys, &kept).await;
        }
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

async fn trim(keys: &Keys, kept: &Retention) {
    match keys.trim_all(kept).await {
        Ok(0) => {}
        Ok(deleted) => {
            tracing::info!(category = "security", deleted, "old versions of tenants' keys were deleted");
        }
        Err(error) => {
            keys.counts().trim_errors.add(1);
            tracing::error!(category = "application", %error, "old versions of keys were not looked for");
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
