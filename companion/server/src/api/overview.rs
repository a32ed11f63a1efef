//! `/security`: what happened to all tenants, at a glance. For the admin scope.
//!
//! Read from the counts that are kept a minute, so that a day costs the same however many events it had; whole minutes, so that the edge
//! of the window is right to a minute (`/api/security/metrics/{tenant_id}` is exact). Limits: the 1000 tenants with most refusals.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, auth};
use crate::clock::rfc3339;
use crate::event::EventType;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::storage::{Row, Statement, StorageError};
use crate::token::Grant;

const WINDOW_HOURS: i64 = 24;
/// Tenants that are told by name.
const TENANTS: u32 = 1000;

/// All tenants at a glance.
#[derive(Serialize, JsonSchema)]
pub struct Security {
    security_enabled: bool,
    rate_limiting_enabled: bool,
    encryption_available: bool,
    /// False when the audit trail refused the last events.
    audit_logging_enabled: bool,
    window_hours: i64,
    totals: Totals,
    /// Events by type.
    event_types: BTreeMap<String, u64>,
    /// Tenants with events in the window: most refusals and failures first.
    tenants: Vec<TenantRow>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Sums over all tenants.
#[derive(Default, Serialize, JsonSchema)]
pub struct Totals {
    events: u64,
    warning_events: u64,
    error_events: u64,
    rate_limit_violations: u64,
    unauthorized_access: u64,
    attacks_blocked: u64,
    attacks_detected: u64,
}

/// A tenant.
#[derive(Serialize, JsonSchema)]
pub struct TenantRow {
    tenant_id: String,
    events: u64,
    warning_events: u64,
    error_events: u64,
}

fn count(row: &Row, column: usize) -> Result<u64, StorageError> {
    Ok(u64::try_from(row.int(column)?).unwrap_or(0))
}

/// Sums what each row (type, severity, events) counts.
fn summed(rows: &[Row]) -> Result<(Totals, BTreeMap<String, u64>), StorageError> {
    let (mut totals, mut types) = (Totals::default(), BTreeMap::<String, u64>::new());
    for row in rows {
        let (name, events) = (row.text(0)?, count(row, 2)?);
        let of_severity = match row.text(1)?.as_str() {
            "WARNING" => Some(&mut totals.warning_events),
            "ERROR" => Some(&mut totals.error_events),
            _ => None,
        };
        let add = |sum: &mut u64| *sum = sum.saturating_add(events);
        of_severity.into_iter().for_each(add);
        match name.as_str() {
            EventType::RATE_LIMIT_EXCEEDED => add(&mut totals.rate_limit_violations),
            EventType::UNAUTHORIZED_ACCESS => add(&mut totals.unauthorized_access),
            "ATTACK_BLOCKED" => add(&mut totals.attacks_blocked),
            "ATTACK_DETECTED" => add(&mut totals.attacks_detected),
            _ => {}
        }
        add(&mut totals.events);
        add(types.entry(name).or_default());
    }
    Ok((totals, types))
}

fn tenant(row: &Row) -> Result<TenantRow, StorageError> {
    Ok(TenantRow {
        tenant_id: row.text(0)?,
        events: count(row, 1)?,
        warning_events: count(row, 2)?,
        error_events: count(row, 3)?,
    })
}

/// The last 24 hours of all tenants.
pub async fn security(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    api.trail.caught_up().await;
    let now = api.clock.now();
    let first = now.as_second().div_euclid(60).saturating_sub(WINDOW_HOURS * 60);
    // An event of a tenant that nobody registered stays unreadable until the tenant exists.
    let by_type = Statement::new(
        "SELECT event_type, severity, CAST(sum(events) AS BIGINT) FROM security_event_counts \
         WHERE minute > ?1 AND tenant_id IN (SELECT tenant_id FROM tenants) GROUP BY event_type, severity",
    );
    let by_tenant = Statement::new(
        "SELECT tenant_id, CAST(sum(events) AS BIGINT) AS events, \
         CAST(sum(CASE severity WHEN 'WARNING' THEN events ELSE 0 END) AS BIGINT) AS warnings, \
         CAST(sum(CASE severity WHEN 'ERROR' THEN events ELSE 0 END) AS BIGINT) AS errors \
         FROM security_event_counts WHERE minute > ?1 AND tenant_id IN (SELECT tenant_id FROM tenants) \
         GROUP BY tenant_id ORDER BY errors DESC, warnings DESC, events DESC, tenant_id LIMIT ?2",
    );
    let types = api.query(api.storage.read(by_type.bind(first))).await?;
    let tenants = api.query(api.storage.read(by_tenant.bind(first).bind(TENANTS))).await?;
    let failed = |error: StorageError| api.storage_problem(&error);
    let (totals, event_types) = summed(&types).map_err(failed)?;
    Ok(json(&Security {
        security_enabled: api.protections.security,
        rate_limiting_enabled: api.protections.rate_limiting,
        encryption_available: api.protections.encryption,
        audit_logging_enabled: api.protections.audit_logging && api.trail.takes_events(),
        window_hours: WINDOW_HOURS,
        totals,
        event_types,
        tenants: tenants.iter().map(tenant).collect::<Result<_, _>>().map_err(failed)?,
        timestamp: rfc3339(now),
    }))
}
