//! `POST /api/security/rate-limit/check`: a program counts one action of a user, by the same counts as the modules.
//!
//! The body is `{"tenant", "user", "action"}`; the answer `{"allowed", "remaining", "retry_after"}`, in whole seconds,
//! rounded up, 0 when allowed. A check that is allowed has counted; one that is not has not, and is stored as an event
//! and in `rate_limiting_logs`. Actions are those of the module's default rules. Not for: asking without counting.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use portcullis_limits::key::Name;
use portcullis_limits::step::Spent;
use portcullis_policy::{CorrelationId, User};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::{Api, auth};
use crate::clock::{Timestamp, at_millis};
use crate::event::{Event, EventType, RateLimitExcess, Severity};
use crate::http::envelope;
use crate::http::problem::Problem;
use crate::limits::leases::away;
use crate::limits::{Cost, Rule};
use crate::tenant::TenantId;
use crate::token::Grant;

const SECOND_NS: u64 = 1_000_000_000;
const WINDOW_MS: i64 = 60_000;

/// What is to be counted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Whose.
    #[schemars(regex(pattern = r"^[!-~]{1,50}$"))]
    tenant: String,
    /// Who; a name that is too long for a record is shortened as the module does.
    #[schemars(length(min = 1))]
    user: String,
    /// `api_call`, `login`, `file_upload` or `report_generation`.
    #[schemars(regex(pattern = r"^(api_call|login|file_upload|report_generation)$"))]
    action: String,
}

/// Whether it may happen.
#[derive(Serialize, JsonSchema)]
pub struct Verdict {
    /// It has been counted.
    allowed: bool,
    /// How many more would be allowed now.
    remaining: u64,
    /// Seconds until it would be, rounded up; 0 when it is.
    retry_after: u64,
}

/// Counts one action.
pub async fn check(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    body: Result<Json<Question>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(question) = body.map_err(|error| Problem::malformed(error.body_text()))?;
    let tenant = auth::open_tenant(&api, &grant, &question.tenant).await?;
    let user =
        User::new(question.user.as_bytes()).ok_or_else(|| Problem::malformed("user: must name somebody"))?;
    let rule = Rule::of_action(&question.action).ok_or_else(|| {
        let known = Rule::ALL.map(Rule::name).join(", ");
        Problem::malformed(format!("action: must be one of {known}"))
    })?;
    let quota = api.limits.policies.quota(&tenant, rule).await.map_err(|error| away(&error))?;
    let quota =
        quota.ok_or_else(|| Problem::malformed("the tenant's policy has a rate that cannot be counted"))?;
    let subject = rule.subject(user.as_str());
    let name = Name::new(tenant.as_str(), rule.name(), &subject)
        .map_err(|error| Problem::malformed(error.to_string()))?;
    let (allowed, said) =
        api.limits.spend(&[Cost { name, quota, hits: 1 }]).await.map_err(|error| away(&error))?;
    let spent = said.first().copied().unwrap_or(Spent { allowed, remaining: 0, retry_after_ns: 0 });
    if !allowed {
        report(&api, &tenant, &user, rule, quota.limit(), &spent, &correlation_id).await;
    }
    let retry_after = spent.retry_after_ns.div_ceil(SECOND_NS);
    Ok(envelope::json(&Verdict { allowed, remaining: spent.remaining, retry_after }))
}

/// Stores what was refused. A trail that does not take it changes no answer; it is counted and logged.
async fn report(
    api: &Api,
    tenant: &TenantId,
    user: &User,
    rule: Rule,
    limit: u32,
    spent: &Spent,
    correlation_id: &CorrelationId,
) {
    let (Some(key), Some(event_type)) =
        (api.numbering.next(), EventType::new(EventType::RATE_LIMIT_EXCEEDED))
    else {
        return;
    };
    let at = api.clock.now();
    let start = at_millis(at.as_millisecond().saturating_sub(WINDOW_MS)).unwrap_or(Timestamp::UNIX_EPOCH);
    let details = json!({
        "rule": rule.name(), "limit": limit, "window_ms": WINDOW_MS, "reason": "quota-exceeded",
        "retry_after_ms": spent.retry_after_ns.div_ceil(1_000_000), "correlation_id": correlation_id.as_str(),
        "source": "check",
    });
    let event = Event {
        key,
        tenant: tenant.clone(),
        event_type,
        severity: Severity::Warning,
        user_id: Some(user.as_str().to_owned()),
        ip_address: None,
        user_agent: None,
        details: details.as_object().cloned().unwrap_or_else(Map::new),
        at,
        at_arrival: false,
        rate_limit: Some(RateLimitExcess {
            action: rule.name().to_owned(),
            request_count: limit.saturating_add(1),
            window_start: start,
            window_end: at,
        }),
        gap: None,
    };
    if let Err(error) = api.trail.append(vec![event]).await {
        tracing::error!(category = "audit", %error, "an exceeded limit was not stored");
    }
}
