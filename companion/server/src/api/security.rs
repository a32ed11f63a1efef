//! `/api/security/*`: what happened to a tenant, and what protects it.

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::paths::{TenantPath, tenant_name};
use super::{Api, auth, parameters};
use crate::clock::{Timestamp, rfc3339};
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::storage::StoredEvent;
use crate::token::Grant;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What protects the tenants.
#[derive(Serialize, JsonSchema)]
pub struct Status {
    security_enabled: bool,
    encryption_available: bool,
    rate_limiting_enabled: bool,
    audit_logging_enabled: bool,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// The newest events of a tenant, newest first.
#[derive(Serialize, JsonSchema)]
pub struct Events {
    tenant_id: String,
    events: Vec<EventBody>,
    count: usize,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// One event.
#[derive(Serialize, JsonSchema)]
pub struct EventBody {
    /// RFC 3339, UTC.
    timestamp: String,
    event_type: String,
    /// `INFO`, `WARNING` or `ERROR`.
    severity: String,
    user_id: Option<String>,
    ip_address: Option<String>,
    details: Map<String, Value>,
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

impl From<StoredEvent> for EventBody {
    fn from(event: StoredEvent) -> Self {
        let StoredEvent { position, event_type, severity, user_id, ip_address, details } = event;
        Self { timestamp: rfc3339(position.at), event_type, severity, user_id, ip_address, details }
    }
}

/// Any valid token may ask.
pub async fn status(State(api): State<Api>) -> Response {
    json(&Status {
        security_enabled: api.protections.security,
        encryption_available: api.protections.encryption,
        rate_limiting_enabled: api.protections.rate_limiting,
        audit_logging_enabled: api.protections.audit_logging,
        timestamp: rfc3339(api.clock.now()),
    })
}

/// Events that fit the filter.
pub async fn events(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    path: TenantPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let tenant = auth::open_tenant(&api, &grant, &tenant_name(path)?).await?;
    let query = parameters::event_query(tenant.clone(), &uri)?;
    let events = api.query(api.storage.events(query)).await?;
    tracing::info!(
        category = "audit",
        correlation_id = correlation_id.as_str(),
        tenant = tenant.as_str(),
        token_id = grant.id,
        events = events.len(),
        "events read"
    );
    Ok(json(&Events {
        tenant_id: tenant.to_string(),
        count: events.len(),
        events: events.into_iter().map(EventBody::from).collect(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Figures of the last 24 hours.
pub async fn metrics(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = auth::open_tenant(&api, &grant, &tenant_name(path)?).await?;
    let now = api.clock.now();
    let since = Timestamp::from_millisecond(now.as_millisecond().saturating_sub(DAY_MS))
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let counts = api.query(api.storage.counts(tenant.clone(), since)).await?;
    Ok(json(&TenantMetrics {
        tenant_id: tenant.to_string(),
        metrics: Figures {
            total_events_24h: counts.total,
            warning_events: counts.warning,
            error_events: counts.error,
            rate_limit_violations: counts.rate_limit_exceeded,
            unauthorized_access: counts.unauthorized_access,
            last_security_event: counts.last_event.map(rfc3339),
        },
        timestamp: rfc3339(now),
    }))
}
