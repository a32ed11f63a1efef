//! `/api/security/rate-limit/usage`: which limits are near their end, as the companion has counted them in the last minute.

use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::paths::OpenedTenant;
use super::{Api, auth, parameters};
use crate::clock::{monotonic, rfc3339};
use crate::http::envelope;
use crate::http::problem::Problem;
use crate::limits::usage::Line;
use crate::token::Grant;

const DEFAULT_LIMIT: u32 = 50;

/// Limits, those that are used most first.
#[derive(Serialize, JsonSchema)]
pub struct UsageBody {
    limits: Vec<LimitBody>,
    count: usize,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// How much of a limit is used.
#[derive(Serialize, JsonSchema)]
pub struct LimitBody {
    /// `*` for a limit that all tenants share.
    tenant_id: String,
    rule: String,
    /// 0 to 1, of the user (or address) of the tenant that has used most; what is out on leases counts as used.
    used: f64,
    /// Requests that are left now.
    remaining: u64,
    /// Requests that may come at once.
    burst: u32,
    /// Seconds since it was counted.
    age_seconds: u64,
}

fn body(line: Line, now: Instant) -> LimitBody {
    LimitBody {
        tenant_id: line.tenant,
        rule: line.rule,
        used: line.used.share,
        remaining: line.used.remaining,
        burst: line.used.burst,
        age_seconds: now.saturating_duration_since(line.used.at).as_secs(),
    }
}

fn answer(api: &Api, tenant: Option<&str>, uri: &Uri) -> Result<Response, Problem> {
    let limit = parameters::limit(uri, DEFAULT_LIMIT)?;
    let now = monotonic();
    let lines = api.limits.usage().nearest(tenant, usize::try_from(limit).unwrap_or(usize::MAX), now);
    Ok(envelope::json(&UsageBody {
        count: lines.len(),
        limits: lines.into_iter().map(|line| body(line, now)).collect(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Of all tenants.
pub async fn all(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    uri: Uri,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    answer(&api, None, &uri)
}

/// Of one.
pub async fn of_tenant(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    uri: Uri,
) -> Result<Response, Problem> {
    answer(&api, Some(tenant.as_str()), &uri)
}
