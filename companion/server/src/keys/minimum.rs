//! `min_decrypt_version`: which versions of a tenant's key still open.
//!
//! The trail cannot be sealed anew: its leaves hash the ciphertext. So a version must open for as long as there are records
//! that it sealed: until the retention has passed since its successor was made, and two days more, because the trail drops
//! whole segments of up to a day. Raising the minimum before is refused ([`KeysError::StillNeeded`]), unless it is forced: then
//! what those records tell of people is shown no more, and with `trim` lost.

use std::time::Duration;

use portcullis_audit_log::retention::{Retention, Rule};
use portcullis_keyring::TenantRecord;

use super::{Blocking, KeysError};
use crate::clock::{Timestamp, at_millis, rfc3339};
use crate::tenant::TenantId;

/// How much longer than its age says a record may lie in the trail.
const SLACK: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// What is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minimum {
    /// The least version that opens from now on.
    pub version: u32,
    /// Whether the versions below it are deleted, for good.
    pub trim: bool,
    /// Whether it is done although the trail has records that they sealed.
    pub force: bool,
}

/// Until when the trail may hold records that versions below `version` sealed.
pub(super) fn needed_until(record: &TenantRecord, version: u32, rule: &Rule) -> Option<Timestamp> {
    // The first that stays, for since it was made no earlier one seals.
    record.versions.iter().find(|held| held.version < version)?;
    let successor = record.versions.iter().find(|held| held.version >= version)?;
    let age = rule.max_age_ms.map_or(i64::MAX, |age| i64::try_from(age).unwrap_or(i64::MAX));
    let slack = i64::try_from(SLACK.as_millis()).unwrap_or(i64::MAX);
    let until = successor.created_at.saturating_add(age).saturating_add(slack);
    Some(at_millis(until).unwrap_or(Timestamp::MAX))
}

impl Blocking<'_> {
    /// Says which versions open.
    ///
    /// # Errors
    /// A tenant without keys, a version that does not exist or is still needed, a store that fails.
    pub fn set_minimum(
        &self,
        tenant: &TenantId,
        change: Minimum,
        kept: &Retention,
    ) -> Result<TenantRecord, KeysError> {
        let (keyring, name) = (self.keyring(), tenant.as_tenant());
        let before = keyring.record(name)?;
        let rule = kept.tenants.get(tenant.as_str()).unwrap_or(&kept.default);
        let until = needed_until(&before, change.version, rule);
        if let Some(until) = until.filter(|until| !change.force && until.as_millisecond() > self.now()) {
            let (tenant, until) = (tenant.to_string(), rfc3339(until));
            return Err(KeysError::StillNeeded { tenant, version: change.version, until });
        }
        let record = keyring.set_min_decrypt_version(name, change.version)?;
        Ok(if change.trim { keyring.trim(name, change.version)? } else { record })
    }
}
