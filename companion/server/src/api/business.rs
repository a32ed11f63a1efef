//! `/api/tenants/{tenant_id}/business-metrics`: what is measured of a tenant's own database. For the admin scope alone: a statement runs
//! in the tenant's database.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::paths::{OpenedTenant, PlainName};
use super::{Api, auth};
use crate::business::{self, MOST, Metric, Outcome, ROLE};
use crate::clock::rfc3339;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::tenant::TenantId;
use crate::token::Grant;

const MAX_BODY_BYTES: usize = 16 * 1024;

/// A metric as it is declared.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricDeclaration {
    /// What the number counts, as `users` or `EUR`: 1 to 20 letters, digits and `_ % / .`
    #[schemars(regex(pattern = r"^[A-Za-z%][A-Za-z0-9_%/.]{0,19}$"))]
    unit: String,
    /// One SELECT that gives one number in one row, at most 8192 bytes; of functions only those that compute.
    #[schemars(length(min = 1, max = 8192))]
    statement: String,
    /// How often it is measured; 60 when left out.
    #[serde(default = "interval")]
    #[schemars(range(min = 10, max = 86400))]
    interval_seconds: u32,
    /// How long it may take; 2000 when left out.
    #[serde(default = "time_limit")]
    #[schemars(range(min = 10, max = 30000))]
    time_limit_ms: u32,
    /// The role of PostgreSQL that it runs as; `portcullis_metrics` when left out. It may do no more than read.
    #[serde(default = "role")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"))]
    role: String,
}

fn interval() -> u32 {
    60
}

fn time_limit() -> u32 {
    2000
}

fn role() -> String {
    ROLE.to_owned()
}

/// A metric, and what was measured.
#[derive(Serialize, JsonSchema)]
pub struct MetricBody {
    tenant_id: String,
    name: String,
    unit: String,
    statement: String,
    interval_seconds: u64,
    time_limit_ms: u64,
    role: String,
    /// The newest number; null before the first run, and when the last one gave none.
    value: Option<f64>,
    /// When the last run ended; RFC 3339, UTC.
    measured_at: Option<String>,
    /// How long it took.
    took_ms: f64,
    /// Why the last run gave no number, and what to do.
    problem: Option<String>,
    /// The newest numbers, oldest first, since the companion has started.
    history: Vec<Point>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A number that was measured.
#[derive(Serialize, JsonSchema)]
pub struct Point {
    /// RFC 3339, UTC.
    at: String,
    value: f64,
}

/// A tenant's metrics.
#[derive(Serialize, JsonSchema)]
pub struct MetricList {
    tenant_id: String,
    /// By name.
    business_metrics: Vec<MetricBody>,
    count: usize,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A metric is gone.
#[derive(Serialize, JsonSchema)]
pub struct MetricRemoved {
    tenant_id: String,
    name: String,
    removed: bool,
    /// RFC 3339, UTC.
    timestamp: String,
}

fn shown(api: &Api, tenant: &TenantId, (metric, outcome): (Metric, Outcome)) -> MetricBody {
    MetricBody {
        tenant_id: tenant.to_string(),
        name: metric.name,
        unit: metric.unit,
        statement: metric.statement,
        interval_seconds: metric.interval.as_secs(),
        time_limit_ms: u64::try_from(metric.time_limit.as_millis()).unwrap_or(u64::MAX),
        role: metric.role,
        value: outcome.value,
        measured_at: outcome.at.map(rfc3339),
        took_ms: super::status::millis(outcome.took),
        problem: outcome.problem,
        history: outcome.history.into_iter().map(|(at, value)| Point { at: rfc3339(at), value }).collect(),
        timestamp: rfc3339(api.clock.now()),
    }
}

fn unknown() -> Problem {
    let detail = "the tenant has no business metric of this name; PUT declares one";
    Problem::new(StatusCode::NOT_FOUND, "unknown-metric", detail)
}

/// All of a tenant.
pub async fn list(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    OpenedTenant(tenant): OpenedTenant,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let all = api.query(api.business.of(&tenant)).await?;
    let all: Vec<MetricBody> = all.into_iter().map(|metric| shown(&api, &tenant, metric)).collect();
    Ok(json(&MetricList {
        tenant_id: tenant.to_string(),
        count: all.len(),
        business_metrics: all,
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// One.
pub async fn read(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    OpenedTenant(tenant): OpenedTenant,
    PlainName(name): PlainName,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let metric = api.query(api.business.find(&tenant, &name)).await?.ok_or_else(unknown)?;
    Ok(json(&shown(&api, &tenant, metric)))
}

/// Declares or changes one.
pub async fn put(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    OpenedTenant(tenant): OpenedTenant,
    PlainName(name): PlainName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let metric = checked(name, body::json(&headers, body, MAX_BODY_BYTES).await?)?;
    let before = api.query(api.business.find(&tenant, &metric.name)).await?;
    if !api.query(api.business.put(&tenant, &metric)).await? {
        let detail = format!("a tenant has at most {MOST} business metrics; remove one first");
        return Err(Problem::new(StatusCode::CONFLICT, "too-many", detail));
    }
    tracing::info!(
        category = "audit",
        correlation_id = correlation_id.as_str(),
        tenant = tenant.as_str(),
        token_id = grant.id,
        metric = metric.name,
        "business metric declared"
    );
    let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let outcome = before.filter(|(known, _)| *known == metric).map(|(_, outcome)| outcome);
    let body = shown(&api, &tenant, (metric, outcome.unwrap_or_default()));
    Ok((status, json(&body)).into_response())
}

fn checked(name: String, declared: MetricDeclaration) -> Result<Metric, Problem> {
    let within = |value: u32, least: u32, most: u32, field: &str| match (least..=most).contains(&value) {
        true => Ok(u64::from(value)),
        false => Err(Problem::unprocessable(format!("{field}: must be {least} to {most}"))),
    };
    let named = |text: &str, first: fn(u8) -> bool, rest: fn(u8) -> bool, most: usize| {
        let mut letters = text.bytes();
        text.len() <= most && letters.next().is_some_and(first) && letters.all(rest)
    };
    let unit = named(
        &declared.unit,
        |first| first.is_ascii_alphabetic() || first == b'%',
        |byte| byte.is_ascii_alphanumeric() || b"_%/.".contains(&byte),
        20,
    );
    if !unit {
        return Err(Problem::unprocessable(
            "unit: 1 to 20 letters, digits and _ % / . with a letter or % first",
        ));
    }
    let role = named(
        &declared.role,
        |first| first.is_ascii_alphabetic() || first == b'_',
        |byte| byte.is_ascii_alphanumeric() || byte == b'_',
        63,
    );
    if !role {
        return Err(Problem::unprocessable("role: 1 to 63 letters, digits and underscores, no digit first"));
    }
    business::check(&declared.statement)
        .map_err(|error| Problem::unprocessable(format!("statement: {error}")))?;
    Ok(Metric {
        name,
        interval: Duration::from_secs(within(declared.interval_seconds, 10, 86_400, "interval_seconds")?),
        time_limit: Duration::from_millis(within(declared.time_limit_ms, 10, 30_000, "time_limit_ms")?),
        unit: declared.unit,
        statement: declared.statement,
        role: declared.role,
    })
}

/// Forgets one.
pub async fn remove(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    OpenedTenant(tenant): OpenedTenant,
    PlainName(name): PlainName,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    if !api.query(api.business.remove(&tenant, &name)).await? {
        return Err(unknown());
    }
    let timestamp = rfc3339(api.clock.now());
    Ok(json(&MetricRemoved { tenant_id: tenant.to_string(), name, removed: true, timestamp }))
}
