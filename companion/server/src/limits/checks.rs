//! Counts single actions of users, for programs: by the same counts as the modules.
//!
//! An action that is allowed has counted; one that is not has not, and is stored as an event and in `rate_limiting_logs`.
//! Actions are those of the module's default rules. Not for: asking without counting.

use std::sync::Arc;

use portcullis_limits::key::Name;
use portcullis_limits::step::Spent;
use portcullis_policy::User;
use serde_json::json;

use super::{Cost, Limits, LimitsError, Rule};
use crate::clock::{Clock, Timestamp, at_millis};
use crate::event::{Event, EventType, Numbering, RateLimitExcess, Severity, What};
use crate::tenant::TenantId;
use crate::trail::Trail;

const WINDOW_MS: i64 = 60_000;

/// Why an action was not counted; nothing may be taken as allowed then.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nobody does it.
    #[error("user: must name somebody")]
    User,
    /// No rule counts it.
    #[error("action: must be one of {}", Rule::ALL.map(Rule::name).join(", "))]
    Action,
    /// The numbers of the tenant's policy.
    #[error("the tenant's policy has a rate that cannot be counted")]
    Rate,
    /// The names together.
    #[error("{0}")]
    Name(String),
    /// The store of the limits.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

/// The checks.
pub struct Checks {
    limits: Arc<Limits>,
    trail: Trail,
    clock: Clock,
    numbering: Numbering,
}

impl Checks {
    /// Counted by `limits`; what is refused is stored in `trail`.
    #[must_use]
    pub fn new(limits: Arc<Limits>, trail: Trail, clock: Clock) -> Self {
        Self { limits, trail, clock, numbering: Numbering::default() }
    }

    /// Counts one `action` of a user of a tenant that exists. A user's name that is too long for a record is shortened as the
    /// module does. `correlation_id` is that of the request that asked, if one did.
    ///
    /// # Errors
    /// [`CheckError`].
    pub async fn count(
        &self,
        tenant: &TenantId,
        user: &str,
        action: &str,
        correlation_id: Option<&str>,
    ) -> Result<Spent, CheckError> {
        let user = User::new(user.as_bytes()).ok_or(CheckError::User)?;
        let rule = Rule::of_action(action).ok_or(CheckError::Action)?;
        let quota = self.limits.policies.quota(tenant, rule).await?.ok_or(CheckError::Rate)?;
        let subject = rule.subject(user.as_str());
        let name = Name::new(tenant.as_str(), rule.name(), &subject)
            .map_err(|error| CheckError::Name(error.to_string()))?;
        let (allowed, said) = self.limits.spend(&[Cost { name, quota, hits: 1 }]).await?;
        let spent = said.first().copied().unwrap_or(Spent { allowed, remaining: 0, retry_after_ns: 0 });
        let spent = Spent { allowed, ..spent };
        if !allowed {
            self.report(tenant, &user, rule, quota.limit(), &spent, correlation_id).await;
        }
        Ok(spent)
    }

    /// Stores what was refused. A trail that does not take it changes no answer; it is counted and logged.
    async fn report(
        &self,
        tenant: &TenantId,
        user: &User,
        rule: Rule,
        limit: u32,
        spent: &Spent,
        correlation_id: Option<&str>,
    ) {
        let (Some(key), Some(event_type)) =
            (self.numbering.next(), EventType::new(EventType::RATE_LIMIT_EXCEEDED))
        else {
            tracing::error!(category = "audit", "an exceeded limit was not stored: it has no number");
            return;
        };
        let at = self.clock.now();
        let start = at_millis(at.as_millisecond().saturating_sub(WINDOW_MS)).unwrap_or(Timestamp::UNIX_EPOCH);
        let details = json!({
            "rule": rule.name(), "limit": limit, "window_ms": WINDOW_MS, "reason": "quota-exceeded",
            "retry_after_ms": spent.retry_after_ns.div_ceil(1_000_000), "correlation_id": correlation_id,
            "source": "check",
        });
        let details = details.as_object().cloned().unwrap_or_default();
        let what = What { tenant: tenant.clone(), event_type, severity: Severity::Warning, at };
        let event = Event {
            user_id: Some(user.as_str().to_owned()),
            rate_limit: Some(RateLimitExcess {
                action: rule.name().to_owned(),
                request_count: limit.saturating_add(1),
                window_start: start,
                window_end: at,
            }),
            ..Event::own(key, what, details)
        };
        if let Err(error) = self.trail.append(vec![event]).await {
            tracing::error!(category = "audit", %error, "an exceeded limit was not stored");
        }
    }
}
