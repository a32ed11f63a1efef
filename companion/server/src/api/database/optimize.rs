//! Optimizing databases: one, or all; at once, or as a job that is asked after.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::plans::{PlanBody, asked};
use crate::api::paths::{Beside, OpenedTenant};
use crate::api::{Api, auth};
use crate::clock::rfc3339;
use crate::databases::jobs::{Job, Outcome, TooMany};
use crate::http::envelope;
use crate::http::problem::Problem;
use crate::tenant::{TenantId, records};
use crate::token::Grant;

/// Tenants of one page.
const PAGE: u32 = 1000;

/// What came of optimizing a tenant's database.
#[derive(Serialize, JsonSchema)]
pub struct Optimized {
    tenant_id: String,
    /// Null while it goes on.
    optimization_success: Option<bool>,
    /// Why not, and what to do.
    problem: Option<String>,
    /// What was found.
    plan: Option<Value>,
    /// Plans of indexes that came of it: what the tenant's policy permits is applied, the rest waits for an approval.
    plans: Vec<PlanBody>,
    /// `GET /api/database/jobs/{job_id}` tells how far it is.
    job_id: String,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What came of a job: of optimizing databases, or of what was done to a plan.
#[derive(Serialize, JsonSchema)]
pub struct OptimizedAll {
    /// Of those that are done.
    optimization_results: BTreeMap<String, bool>,
    /// Why not, by tenant.
    problems: BTreeMap<String, String>,
    /// The plans that came of it, by tenant; `GET /api/database/plans/{tenant_id}` tells them.
    plans: BTreeMap<String, Vec<String>>,
    total_tenants: usize,
    successful_optimizations: usize,
    finished: bool,
    /// `GET /api/database/jobs/{job_id}` tells how far it is.
    job_id: String,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Optimizes a tenant's database.
pub async fn optimize(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    OpenedTenant(tenant): OpenedTenant,
) -> Result<Response, Problem> {
    let job =
        api.databases.optimize(vec![tenant.clone()], &asked(&grant, &correlation_id)).map_err(too_many)?;
    await_job(&api, &job).await;
    one(&api, &job, &tenant).await
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
    let job = api.databases.optimize(tenants, &asked(&grant, &correlation_id)).map_err(too_many)?;
    let streamed = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if streamed {
        return Ok(stream(api, job));
    }
    await_job(&api, &job).await;
    Ok(all(&api, &job))
}

/// How far a job is.
pub async fn job(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Beside(id): Beside,
) -> Result<Response, Problem> {
    let gone = || {
        let detail = "no such job here; the newest 64 are remembered, until the companion ends";
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    };
    let job = api.databases.jobs().find(&id).ok_or_else(gone)?;
    if auth::require_admin(&grant).is_err() {
        if job.tenants.is_empty() {
            return Err(gone());
        }
        // Not by name alone: the token may be of a tenant that was removed.
        for name in job.tenants.iter() {
            auth::open_tenant(&api, &grant, name).await.map_err(|_| gone())?;
        }
    }
    Ok(all(&api, &job))
}

pub(super) fn too_many(error: TooMany) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string())
}

/// Waits for a job as long as who asks is kept waiting; in vain when it takes longer.
pub(super) async fn await_job(api: &Api, job: &Job) {
    let _ = tokio::time::timeout(api.databases.patience(), job.finished()).await;
}

pub(super) fn status(finished: bool) -> StatusCode {
    if finished { StatusCode::OK } else { StatusCode::ACCEPTED }
}

async fn one(api: &Api, job: &Job, tenant: &TenantId) -> Result<Response, Problem> {
    let outcome = job.progress().done.remove(tenant.as_str());
    let finished = outcome.is_some();
    let Outcome { success, problem, plan, plans } = outcome.unwrap_or_default();
    let mut bodies = Vec::new();
    for id in &plans {
        bodies.extend(api.query(api.databases.plan(tenant, id)).await?.map(PlanBody::from));
    }
    let body = Optimized {
        tenant_id: tenant.to_string(),
        optimization_success: finished.then_some(success),
        problem,
        plan,
        plans: bodies,
        job_id: job.id.clone(),
        timestamp: rfc3339(api.clock.now()),
    };
    Ok((status(finished), envelope::json(&body)).into_response())
}

fn summed(api: &Api, job: &Job) -> OptimizedAll {
    let progress = job.progress();
    let problem = |(tenant, outcome): (&String, &Outcome)| Some((tenant.clone(), outcome.problem.clone()?));
    OptimizedAll {
        optimization_results: progress.done.iter().map(|(name, done)| (name.clone(), done.success)).collect(),
        problems: progress.done.iter().filter_map(problem).collect(),
        plans: progress.done.iter().map(|(name, done)| (name.clone(), done.plans.clone())).collect(),
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
                "problem": outcome.problem, "plans": outcome.plans, "total_tenants": told.job.tenants.len()});
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
