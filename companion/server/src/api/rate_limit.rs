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
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Api, auth};
use crate::http::envelope;
use crate::http::problem::Problem;
use crate::limits::CheckError;
use crate::limits::leases::away;
use crate::token::Grant;

const SECOND_NS: u64 = 1_000_000_000;

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
    let asked =
        api.checks.count(&tenant, &question.user, &question.action, Some(correlation_id.as_str())).await;
    let spent = asked.map_err(|error| match error {
        CheckError::Limits(error) => away(&error),
        error => Problem::malformed(error.to_string()),
    })?;
    let retry_after = spent.retry_after_ns.div_ceil(SECOND_NS);
    Ok(envelope::json(&Verdict { allowed: spent.allowed, remaining: spent.remaining, retry_after }))
}
