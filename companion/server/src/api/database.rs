//! `/api/database/*`: the tenants' own databases. A tenant's token asks for its own; all at once are for the admin scope.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::paths::{TenantPath, tenant_name};
use super::{Api, auth, parameters};
use crate::clock::{Timestamp, rfc3339};
use crate::databases::SlowStatement;
use crate::databases::jobs::{Job, Outcome, TooMany};
use crate::http::envelope;
use crate::http::problem::Problem;
use crate::tenant::{TenantId, records};
use crate::token::Grant;

/// Who asks for an optimization waits so long; what takes longer goes on as a job.
const PATIENCE: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const DEFAULT_LIMIT: u32 = 10;
const MAX_LIMIT: u32 = 1000;
/// Tenants of one page.
const PAGE: u32 = 1000;

/// How a tenant's database fares.
#[derive(Serialize, JsonSchema)]
pub struct Performance {
    tenant_id: String,
    performance_metrics: Figures,
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
        }
    }
}

/// What came of optimizing a tenant's database.
#[derive(Serialize, JsonSchema)]
pub struct Optimized {
    tenant_id: String,
    /// Null while it goes on.
    optimization_success: Option<bool>,
    /// Why not, and what to do.
    problem: Option<String>,
    /// What was found. Nothing of it was applied that changes a table.
    plan: Option<Value>,
    /// `GET /api/database/jobs/{job_id}` tells how far it is.
    job_id: String,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What came of optimizing all databases.
#[derive(Serialize, JsonSchema)]
pub struct OptimizedAll {
    /// Of those that are done.
    optimization_results: BTreeMap<String, bool>,
    /// Why not, by tenant.
    problems: BTreeMap<String, String>,
    total_tenants: usize,
    successful_optimizations: usize,
    finished: bool,
    /// `GET /api/database/jobs/{job_id}` tells how far it is.
    job_id: String,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// A tenant's figures.
pub async fn performance(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = auth::open_tenant(&api, &grant, &tenant_name(path)?).await?;
    let now = api.clock.now();
    let since = Timestamp::from_millisecond(now.as_millisecond().saturating_sub(DAY_MS))
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let state = api.databases.state(&tenant).await.map_err(|error| api.keys_problem(&error))?;
    let slow = api.query(api.databases.slow_count(&tenant, since)).await?;
    let last = api.query(api.databases.last_optimization(&tenant)).await?;
    let (query_count, pool) = (state.query_count(), state.pool);
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
            service_ms: super::status::millis(pool.service),
            wait_ms: super::status::millis(pool.wait),
            timeouts: pool.timeouts,
            last_optimization: last.map(rfc3339),
        },
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
    Extension(grant): Extension<Grant>,
    path: TenantPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let tenant = auth::open_tenant(&api, &grant, &tenant_name(path)?).await?;
    let limit = match parameters::only(&uri, "limit")? {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit) && text.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| Problem::malformed("limit: must be a whole number from 1 to 1000"))?,
    };
    let slow = api.query(api.databases.slow_queries(&tenant, limit)).await?;
    Ok(envelope::json(&SlowQueries {
        tenant_id: tenant.to_string(),
        count: slow.len(),
        slow_queries: slow.into_iter().map(SlowQuery::from).collect(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Optimizes a tenant's database.
pub async fn optimize(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    path: TenantPath,
) -> Result<Response, Problem> {
    let tenant = auth::open_tenant(&api, &grant, &tenant_name(path)?).await?;
    let job = api.databases.optimize(vec![tenant.clone()], correlation_id.as_str()).map_err(too_many)?;
    // Waits in vain when it takes long; then the answer says so.
    let _ = tokio::time::timeout(PATIENCE, job.finished()).await;
    Ok(one(&api, &job, tenant.as_str()))
}

/// Optimizes all databases that are known.
pub async fn optimize_all(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let mut tenants: Vec<TenantId> = Vec::new();
    loop {
        let page = api.query(records::with_database(&*api.storage, tenants.last(), PAGE)).await?;
        let full = u32::try_from(page.len()).is_ok_and(|count| count == PAGE);
        tenants.extend(page);
        if !full {
            break;
        }
    }
    let job = api.databases.optimize(tenants, correlation_id.as_str()).map_err(too_many)?;
    let streamed = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if streamed {
        return Ok(stream(api, job));
    }
    let _ = tokio::time::timeout(PATIENCE, job.finished()).await;
    Ok(all(&api, &job))
}

/// How far an optimization is.
pub async fn job(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Response, Problem> {
    let gone = || {
        let detail = "no such job here; the newest 64 are remembered, until the companion ends";
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    };
    let Path(id) = path.map_err(|_| Problem::malformed("job_id: must be percent-encoded UTF-8"))?;
    let job = api.databases.jobs().find(&id).ok_or_else(gone)?;
    let opens = |name: &String| TenantId::new(name).is_ok_and(|tenant| grant.opens(&tenant));
    if auth::require_admin(&grant).is_err() && (job.tenants.is_empty() || !job.tenants.iter().all(opens)) {
        return Err(gone());
    }
    Ok(all(&api, &job))
}

fn too_many(error: TooMany) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string())
}

fn status(finished: bool) -> StatusCode {
    if finished { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn one(api: &Api, job: &Job, tenant: &str) -> Response {
    let progress = job.progress();
    let outcome = progress.done.get(tenant).cloned();
    let body = Optimized {
        tenant_id: tenant.to_owned(),
        optimization_success: outcome.as_ref().map(|outcome| outcome.success),
        problem: outcome.as_ref().and_then(|outcome| outcome.problem.clone()),
        plan: outcome.and_then(|outcome| outcome.plan),
        job_id: job.id.clone(),
        timestamp: rfc3339(api.clock.now()),
    };
    (status(body.optimization_success.is_some()), envelope::json(&body)).into_response()
}

fn summed(api: &Api, job: &Job) -> OptimizedAll {
    let progress = job.progress();
    let problem = |(tenant, outcome): (&String, &Outcome)| Some((tenant.clone(), outcome.problem.clone()?));
    OptimizedAll {
        optimization_results: progress.done.iter().map(|(name, done)| (name.clone(), done.success)).collect(),
        problems: progress.done.iter().filter_map(problem).collect(),
        total_tenants: job.tenants.len(),
        successful_optimizations: progress.done.values().filter(|outcome| outcome.success).count(),
        finished: progress.finished,
        job_id: job.id.clone(),
        timestamp: rfc3339(api.clock.now()),
    }
}

fn all(api: &Api, job: &Job) -> Response {
    let body = summed(api, job);
    (status(body.finished), envelope::json(&body)).into_response()
}

/// Tells of each database as it is done, and in the end what they add up to.
fn stream(api: Api, job: Job) -> Response {
    struct Told {
        api: Api,
        job: Job,
        done: Vec<String>,
    }
    let told = Told { api, job, done: Vec::new() };
    let events = futures_util::stream::unfold(Some(told), |told| async move {
        let mut told = told?;
        let mut follow = told.job.follow();
        let count = told.done.len();
        // The job's end closes the channel; what it said last stands.
        let _ = follow.wait_for(|progress| progress.finished || progress.done.len() > count).await;
        let progress = told.job.progress();
        let mut text = String::new();
        for (tenant, outcome) in progress.done.iter().filter(|(tenant, _)| !told.done.contains(tenant)) {
            let data = json!({"tenant_id": tenant, "optimization_success": outcome.success,
                "problem": outcome.problem, "total_tenants": told.job.tenants.len()});
            // Writing into a String cannot fail.
            let _ = write!(text, "event: progress\ndata: {data}\n\n");
        }
        told.done = progress.done.keys().cloned().collect();
        if progress.finished {
            let data = serde_json::to_string(&summed(&told.api, &told.job)).unwrap_or_default();
            let _ = write!(text, "event: result\ndata: {data}\n\n");
            return Some((Ok::<_, Infallible>(Bytes::from(text)), None));
        }
        Some((Ok(Bytes::from(text)), Some(told)))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}
