//! `/api/database/*`: the tenants' own databases. A tenant's token asks for its own; all at once are for the admin scope.

pub mod optimize;
pub mod plans;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::paths::OpenedTenant;
use super::{Api, parameters};
use crate::clock::{Timestamp, rfc3339};
use crate::databases::SlowStatement;
use crate::http::envelope;
use crate::http::problem::Problem;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const DEFAULT_LIMIT: u32 = 10;

/// How a tenant's database fares.
#[derive(Serialize, JsonSchema)]
pub struct Performance {
    tenant_id: String,
    performance_metrics: Figures,
    /// What PgBouncer counts; null when the tenant is not reached through it.
    pgbouncer: Option<super::bouncer::BouncerFigures>,
    /// `postgresql` or `sqlite`; null when the tenant has no database of its own.
    database: Option<&'static str>,
    /// What hinders, and what to do; null when nothing does.
    problem: Option<String>,
    sources: Sources,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Figures of a tenant's database.
#[derive(Serialize, JsonSchema)]
pub struct Figures {
    /// Statements; see `sources`.
    query_count: u64,
    /// Slow ones that were written down in the last 24 hours.
    slow_queries: u64,
    /// 0 to 1: connections in use of those that may be.
    connection_usage: f64,
    /// Connections that are open.
    pool_size: usize,
    /// Of these, idle.
    checked_in: usize,
    /// Of these, in use.
    checked_out: usize,
    /// Who waits for one.
    waiting: usize,
    /// The most there may be.
    pool_max: usize,
    /// How many are kept open, by the measured use.
    pool_kept: usize,
    /// Loans a second, lately.
    arrivals_per_second: f64,
    /// How long a loan lasts, lately.
    service_ms: f64,
    /// How long a loan was waited for, on average.
    wait_ms: f64,
    /// Loans that were not to be had in time.
    timeouts: u64,
    /// RFC 3339, UTC; null when it never was.
    last_optimization: Option<String>,
}

/// Where figures come from.
#[derive(Serialize, JsonSchema)]
pub struct Sources {
    /// `pg_stat_statements` when the server counts, since its last reset; else `library pool`: what went through the companion.
    query_count: &'static str,
    /// `library pool`: the companion's own.
    pool: &'static str,
    /// `database_performance_logs`.
    slow_queries: &'static str,
}

/// Slow statements of a tenant.
#[derive(Serialize, JsonSchema)]
pub struct SlowQueries {
    tenant_id: String,
    /// Newest first.
    slow_queries: Vec<SlowQuery>,
    count: usize,
    /// Statements that have become slower than they were, newest first.
    regressions: Vec<Regression>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A slow statement.
#[derive(Serialize, JsonSchema)]
pub struct SlowQuery {
    /// Without its literals.
    statement: String,
    /// Seconds.
    execution_time: f64,
    /// When it was noticed; RFC 3339, UTC.
    timestamp: String,
    /// The same for all that differ in literals alone.
    fingerprint: String,
    /// Rows that it read or changed, where that is known.
    rows: Option<i64>,
    /// `postgres:PID`, `sqlite:N`, or `pg_stat_statements`.
    connection: Option<String>,
    /// What its plan does, from the top; empty where that is not known.
    plan: Vec<String>,
}

/// A statement that has become slower than it was.
#[derive(Serialize, JsonSchema)]
pub struct Regression {
    /// Without its literals.
    statement: String,
    /// Seconds of a call lately, on average.
    execution_time: f64,
    /// Seconds of a call in its past, on average.
    usual_time: f64,
    /// When it was noticed; RFC 3339, UTC.
    timestamp: String,
    /// The same for all that differ in literals alone.
    fingerprint: String,
    /// What its plan does now, from the top; empty where that is not known.
    plan: Vec<String>,
}

impl From<SlowStatement> for Regression {
    fn from(slower: SlowStatement) -> Self {
        Self {
            statement: slower.statement,
            execution_time: slower.execution_time,
            usual_time: slower.usual_time.unwrap_or_default(),
            timestamp: rfc3339(slower.at),
            fingerprint: slower.fingerprint,
            plan: slower.plan,
        }
    }
}

impl From<SlowStatement> for SlowQuery {
    fn from(slow: SlowStatement) -> Self {
        Self {
            statement: slow.statement,
            execution_time: slow.execution_time,
            timestamp: rfc3339(slow.at),
            fingerprint: slow.fingerprint,
            rows: slow.rows,
            connection: slow.connection,
            plan: slow.plan,
        }
    }
}

/// A tenant's figures.
pub async fn performance(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
) -> Result<Response, Problem> {
    let now = api.clock.now();
    let since = Timestamp::from_millisecond(now.as_millisecond().saturating_sub(DAY_MS))
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let state = api.databases.state(&tenant).await.map_err(|error| api.keys_problem(&error))?;
    let slow = api.query(api.databases.slow_count(&tenant, since)).await?;
    let last = api.query(api.databases.last_optimization(&tenant)).await?;
    let (query_count, pool) = (state.query_count(), state.pool);
    let bouncer = api.bouncer.as_ref().and_then(|bouncer| bouncer.of(tenant.as_str()));
    Ok(envelope::json(&Performance {
        tenant_id: tenant.to_string(),
        performance_metrics: Figures {
            query_count,
            slow_queries: slow,
            connection_usage: pool.usage(),
            pool_size: pool.size,
            checked_in: pool.checked_in,
            checked_out: pool.checked_out,
            waiting: pool.waiting,
            pool_max: pool.most,
            pool_kept: pool.kept,
            arrivals_per_second: pool.arrivals_per_second,
            service_ms: crate::api::status::millis(pool.service),
            wait_ms: crate::api::status::millis(pool.wait),
            timeouts: pool.timeouts,
            last_optimization: last.map(rfc3339),
        },
        pgbouncer: bouncer.map(|(figures, size)| super::bouncer::BouncerFigures::new(figures, size)),
        database: state.kind,
        problem: state.problem,
        sources: Sources {
            query_count: if state.calls.is_some() { "pg_stat_statements" } else { "library pool" },
            pool: "library pool",
            slow_queries: "database_performance_logs",
        },
        timestamp: rfc3339(now),
    }))
}

/// A tenant's slow statements.
pub async fn slow_queries(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    uri: Uri,
) -> Result<Response, Problem> {
    let limit = parameters::limit(&uri, DEFAULT_LIMIT)?;
    let slow = api.query(api.databases.slow_queries(&tenant, limit)).await?;
    let slower = api.query(api.databases.slower_queries(&tenant, limit)).await?;
    Ok(envelope::json(&SlowQueries {
        tenant_id: tenant.to_string(),
        count: slow.len(),
        slow_queries: slow.into_iter().map(SlowQuery::from).collect(),
        regressions: slower.into_iter().map(Regression::from).collect(),
        timestamp: rfc3339(api.clock.now()),
    }))
}
