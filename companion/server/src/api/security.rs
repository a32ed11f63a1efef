//! `/api/security/*`: what happened to a tenant, and what protects it.

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::paths::OpenedHistory;
use crate::clock::{Timestamp, rfc3339};
use crate::http::envelope::json;
use crate::http::problem::Problem;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What protects the tenants.
#[derive(Serialize, JsonSchema)]
pub struct Status {
    security_enabled: bool,
    /// False while the service that keeps the root key is away; values whose key is in memory are sealed and opened all the same.
    encryption_available: bool,
    rate_limiting_enabled: bool,
    /// Events are taken: false when the last ones found no room in the audit trail, no key of their tenant, or its disk failed.
    audit_logging_enabled: bool,
    /// Tenants' databases are watched, and looked through on request.
    database_optimization_enabled: bool,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A tenant's figures.
#[derive(Serialize, JsonSchema)]
pub struct TenantMetrics {
    tenant_id: String,
    metrics: Figures,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Counts over the last 24 hours.
#[derive(Serialize, JsonSchema)]
pub struct Figures {
    total_events_24h: u64,
    warning_events: u64,
    error_events: u64,
    rate_limit_violations: u64,
    unauthorized_access: u64,
    /// When the newest event happened, however long ago; null when there is none.
    last_security_event: Option<String>,
}

/// Any valid token may ask.
pub async fn status(State(api): State<Api>) -> Response {
    json(&Status {
        security_enabled: api.protections.security,
        encryption_available: api.protections.encryption && api.keys.is_available(),
        rate_limiting_enabled: api.protections.rate_limiting,
        audit_logging_enabled: api.protections.audit_logging && api.trail.takes_events(),
        database_optimization_enabled: api.protections.database_optimization,
        timestamp: rfc3339(api.clock.now()),
    })
}

/// Figures of the last 24 hours.
pub async fn metrics(
    State(api): State<Api>,
    OpenedHistory(tenant, from): OpenedHistory,
) -> Result<Response, Problem> {
    let from = from.unwrap_or(Timestamp::UNIX_EPOCH);
    let now = api.clock.now();
    let since = Timestamp::from_millisecond(now.as_millisecond().saturating_sub(DAY_MS))
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let counts = api.query(api.storage.counts(tenant.clone(), since.max(from))).await?;
    Ok(json(&TenantMetrics {
        tenant_id: tenant.to_string(),
        metrics: Figures {
            total_events_24h: counts.total,
            warning_events: counts.warning,
            error_events: counts.error,
            rate_limit_violations: counts.rate_limit_exceeded,
            unauthorized_access: counts.unauthorized_access,
            last_security_event: counts.last_event.filter(|at| *at >= from).map(rfc3339),
        },
        timestamp: rfc3339(now),
    }))
}
