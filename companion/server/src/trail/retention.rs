//! What goes of the trail, and when.
//!
//! AUDIT_RETENTION is every tenant's age, AUDIT_TENANT_MAX_BYTES its newest bytes, and AUDIT_RETENTION_OF says otherwise for
//! some: `acme=30d,globex=365d/2GiB`. Whole segments are the unit, and the one that is being written stays. What the
//! tables do not show yet stays, and what a consumer with a cursor in the folder has not released.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit_log::cursor::Cursor;
use portcullis_audit_log::retention::{Retained, Retention, Rule};
use tokio::sync::watch;

use super::Trail;
use crate::clock::Clock;
use crate::tenant::TenantId;
use crate::units;

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(60);
/// The most tenants with a rule of their own.
const MAX_RULES: usize = 1_000;
const WRONG: &str = "write TENANT=AGE or TENANT=AGE/BYTES, like acme=30d,globex=365d/2147483648";

/// A tenant's own rule, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRule {
    /// Whose.
    pub tenant: TenantId,
    /// What.
    pub rule: Rule,
}

impl FromStr for TenantRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, limits) = text.rsplit_once('=').ok_or(WRONG)?;
        let tenant = TenantId::new(tenant.trim()).map_err(|error| error.to_string())?;
        let (age, bytes) = match limits.split_once('/') {
            Some((age, bytes)) => (age, Some(bytes)),
            None => (limits, None),
        };
        let age = units::duration(age.trim()).map_err(|error| error.to_string())?;
        let max_bytes = bytes.map(|bytes| bytes.trim().parse().map_err(|_| WRONG)).transpose()?;
        Ok(Self { tenant, rule: Rule { max_age_ms: Some(millis(age)), max_bytes } })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The rules of all tenants.
///
/// # Errors
/// Too many, or one tenant twice.
pub fn rules(age: Duration, max_bytes: Option<u64>, of: &[TenantRule]) -> Result<Retention, String> {
    let default = Rule { max_age_ms: Some(millis(age)), max_bytes };
    let mut retention = Retention { default, ..Retention::default() };
    if of.len() > MAX_RULES {
        return Err(format!("{} rules, must be at most {MAX_RULES}", of.len()));
    }
    for TenantRule { tenant, rule } in of {
        if retention.tenants.insert(tenant.to_string(), *rule).is_some() {
            return Err(format!("{tenant}: stands twice"));
        }
    }
    Ok(retention)
}

impl Trail {
    /// Removes what `rules` say, except what somebody still needs; reads and rewrites segments.
    ///
    /// # Errors
    /// When a file cannot be read or written; the rest is done next time.
    pub fn retain(&self, rules: &Retention, now: u64) -> std::io::Result<Retained> {
        let storage = self.log().storage();
        let mut hold = self.projected();
        for name in storage.list()? {
            if let Some(consumer) = name.strip_prefix("cursor-") {
                hold = hold.min(Cursor::load(&**storage, consumer)?.released);
            }
        }
        let retained = self.log().retain(rules, hold, now);
        self.measure()?;
        retained
    }
}

/// Removes what is too old or too much, until `end` says true.
pub async fn run(trail: Trail, rules: Retention, clock: Clock, mut end: watch::Receiver<bool>) {
    let rules = Arc::new(rules);
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = end.wait_for(|end| *end) => return,
        }
        let (trail, rules) = (trail.clone(), Arc::clone(&rules));
        let now = u64::try_from(clock.now().as_millisecond()).unwrap_or_default();
        let retained = tokio::task::spawn_blocking(move || trail.retain(&rules, now)).await;
        match retained {
            Ok(Ok(done)) if done.erased > 0 => tracing::info!(
                category = "audit",
                records = done.erased,
                segments = done.deleted.saturating_add(done.rewritten),
                "records grew too old, or were too many, and left their hashes in the trail"
            ),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!(category = "audit", %error, "old records were not removed from the trail");
            }
            Err(error) => tracing::error!(category = "application", %error, "the trail's retention ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_whole_or_refused() {
        let day = 86_400_000;
        let read = |text: &str| text.parse::<TenantRule>();
        assert_eq!(read("acme=30d").unwrap().rule, Rule { max_age_ms: Some(30 * day), max_bytes: None });
        assert_eq!(read("a=b=2d / 5").unwrap().rule, Rule { max_age_ms: Some(2 * day), max_bytes: Some(5) });
        assert_eq!(read("a=b=2d/5").unwrap().tenant.as_str(), "a=b");
        for bad in ["", "acme", "acme=", "=1d", "a b=1d", "acme=1d/", "acme=1d/-1", "acme=1d/1e9", "acme=x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let of = ["acme=30d", "acme=31d"].map(|text| read(text).unwrap());
        assert!(rules(Duration::from_secs(1), None, &of).is_err());
        let rules = rules(Duration::from_secs(1), Some(9), &of[..1]).unwrap();
        assert_eq!(rules.default, Rule { max_age_ms: Some(1_000), max_bytes: Some(9) });
    }
}
