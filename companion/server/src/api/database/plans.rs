//! `/api/database/plans/*`: plans of indexes. A tenant's token reads its own; the admin scope approves, applies and takes back.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::Serialize;

use super::optimize::{await_job, status, too_many};
use crate::api::paths::{Beside, OpenedTenant};
use crate::api::{Api, auth};
use crate::clock::rfc3339;
use crate::databases::apply::{Asked, PlanError};
use crate::databases::jobs::Job;
use crate::databases::plans::{Entry, Plan, State as PlanState, Step};
use crate::http::envelope;
use crate::http::problem::Problem;
use crate::tenant::TenantId;
use crate::token::{Grant, Scope};

/// A plan of indexes.
#[derive(Serialize, JsonSchema)]
pub struct PlanBody {
    /// The digest of the schema and of all statements: who approves it approves these statements.
    plan_id: String,
    state: PlanState,
    /// Those that save most first.
    steps: Vec<Step>,
    /// Bytes that all of it is foreseen to take.
    size_bytes: u64,
    /// What has happened, in order.
    timeline: Vec<Entry>,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC.
    updated_at: String,
}

impl From<Plan> for PlanBody {
    fn from(plan: Plan) -> Self {
        Self {
            plan_id: plan.id,
            state: plan.state,
            size_bytes: plan.document.steps.iter().map(|step| step.size_bytes).fold(0, u64::saturating_add),
            steps: plan.document.steps,
            timeline: plan.document.timeline,
            created_at: rfc3339(plan.created_at),
            updated_at: rfc3339(plan.updated_at),
        }
    }
}

/// A tenant's plans.
#[derive(Serialize, JsonSchema)]
pub struct Plans {
    tenant_id: String,
    /// What happened to last comes first.
    plans: Vec<PlanBody>,
    count: usize,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What was done to a plan.
#[derive(Serialize, JsonSchema)]
pub struct Acted {
    tenant_id: String,
    plan: PlanBody,
    /// Whether it is done: approved; built; taken back. Null while it goes on.
    success: Option<bool>,
    /// Why not, and what to do.
    problem: Option<String>,
    /// `GET /api/database/jobs/{job_id}` tells how far it is; null when there was nothing to wait for.
    job_id: Option<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Who asks.
pub(super) fn asked(grant: &Grant, correlation_id: &CorrelationId) -> Asked {
    let scope = match grant.scope {
        Scope::Admin => "administrator",
        Scope::Tenant(_) => "tenant",
    };
    Asked { by: format!("{scope}, token {}", grant.id), correlation_id: correlation_id.as_str().to_owned() }
}

fn problem(api: &Api, error: PlanError) -> Problem {
    match error {
        PlanError::Unknown => Problem::new(StatusCode::NOT_FOUND, "unknown-plan", error.to_string()),
        PlanError::State { .. } => Problem::new(StatusCode::CONFLICT, "plan-state", error.to_string()),
        PlanError::Busy(_) => Problem::new(StatusCode::CONFLICT, "plan-busy", error.to_string()),
        PlanError::Crowded => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string()),
        PlanError::Jobs(error) => too_many(error),
        PlanError::Storage(error) => api.storage_problem(&error),
    }
}

/// The plan's digest; for the admin scope alone.
fn named(grant: &Grant, id: String) -> Result<String, Problem> {
    auth::require_admin(grant)?;
    match id.len() == 12 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        true => Ok(id),
        false => Err(Problem::malformed("plan_id: must be 12 hexadecimal digits, as a plan's plan_id says")),
    }
}

/// A tenant's plans.
pub async fn list(State(api): State<Api>, OpenedTenant(tenant): OpenedTenant) -> Result<Response, Problem> {
    let plans = api.query(api.databases.plans(&tenant)).await?;
    Ok(envelope::json(&Plans {
        tenant_id: tenant.to_string(),
        count: plans.len(),
        plans: plans.into_iter().map(PlanBody::from).collect(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Approves a plan.
pub async fn approve(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    OpenedTenant(tenant): OpenedTenant,
    Beside(id): Beside,
) -> Result<Response, Problem> {
    let id = named(&grant, id)?;
    let approved = api.databases.approve(&tenant, &id, &asked(&grant, &correlation_id)).await;
    let plan = approved.map_err(|error| problem(&api, error))?;
    Ok(envelope::json(&Acted {
        tenant_id: tenant.to_string(),
        plan: plan.into(),
        success: Some(true),
        problem: None,
        job_id: None,
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Applies an approved plan.
pub async fn apply(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    OpenedTenant(tenant): OpenedTenant,
    Beside(id): Beside,
) -> Result<Response, Problem> {
    let id = named(&grant, id)?;
    let begun = api.databases.begin_apply(&tenant, &id, &asked(&grant, &correlation_id)).await;
    let job = begun.map_err(|error| problem(&api, error))?;
    acted(&api, &tenant, &id, &job).await
}

/// Takes a plan back.
pub async fn rollback(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    OpenedTenant(tenant): OpenedTenant,
    Beside(id): Beside,
) -> Result<Response, Problem> {
    let id = named(&grant, id)?;
    let begun = api.databases.begin_rollback(&tenant, &id, &asked(&grant, &correlation_id)).await;
    let job = begun.map_err(|error| problem(&api, error))?;
    acted(&api, &tenant, &id, &job).await
}

async fn acted(api: &Api, tenant: &TenantId, id: &str, job: &Job) -> Result<Response, Problem> {
    await_job(api, job).await;
    let outcome = job.progress().done.remove(tenant.as_str());
    let plan = api.query(api.databases.plan(tenant, id)).await?.ok_or_else(auth::unknown_tenant)?;
    let body = Acted {
        tenant_id: tenant.to_string(),
        plan: plan.into(),
        success: outcome.as_ref().map(|outcome| outcome.success),
        problem: outcome.and_then(|outcome| outcome.problem),
        job_id: Some(job.id.clone()),
        timestamp: rfc3339(api.clock.now()),
    };
    Ok((status(body.success.is_some()), envelope::json(&body)).into_response())
}
