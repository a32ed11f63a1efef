//! How long events are kept, and with them the keys that sealed them.

use std::ops::RangeInclusive;
use std::time::Duration;

use portcullis_audit_log::retention::Retention;

use super::{DAY, SettingsError};
use crate::cli::RetentionArgs;
use crate::trail;

/// How long events may be kept.
const RETENTION: RangeInclusive<Duration> = DAY..=DAY.saturating_mul(3660);

/// How old a tenant's key may become.
const ROTATION: RangeInclusive<Duration> = Duration::from_secs(3600)..=DAY.saturating_mul(3660);

/// What of the trail is kept.
///
/// # Errors
/// [`SettingsError::Retention`], [`SettingsError::RetentionOf`].
pub fn retention(args: &RetentionArgs) -> Result<Retention, SettingsError> {
    if !RETENTION.contains(&args.audit_retention) {
        return Err(SettingsError::Retention);
    }
    trail::retention::rules(args.audit_retention, args.audit_tenant_max_bytes, &args.audit_retention_of)
        .map_err(SettingsError::RetentionOf)
}

/// Whether the period makes sense, and the versions of a key are enough for as long as the trail needs the first of them.
///
/// # Errors
/// [`SettingsError::Rotation`], [`SettingsError::TooManyRotations`].
pub(super) fn check_rotation(period: Duration, kept: &Retention) -> Result<(), SettingsError> {
    if !ROTATION.contains(&period) {
        return Err(SettingsError::Rotation);
    }
    let rules = kept.tenants.values().chain([&kept.default]);
    let longest = Duration::from_millis(rules.filter_map(|rule| rule.max_age_ms).max().unwrap_or(0));
    let versions = u32::try_from(portcullis_keyring::MAX_VERSIONS).unwrap_or(u32::MAX);
    if period.saturating_mul(versions) > longest.saturating_add(DAY * 3) {
        return Ok(());
    }
    let hours = (longest + DAY * 3).as_secs().div_ceil(u64::from(versions) * 3600).saturating_add(1);
    Err(SettingsError::TooManyRotations { least: format!("{hours}h") })
}
