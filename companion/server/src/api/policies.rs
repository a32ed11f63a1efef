//! `/api/security/policies/{tenant_id}`: what a tenant has set for itself.
//!
//! A tenant's token reads all of it and changes `password` and `session`; `rate` is what the tenant is held to and `database` what is
//! done without asking, so that only the admin scope changes these.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use portcullis_policy::CorrelationId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Api;
use super::paths::OpenedTenant;
use crate::clock::rfc3339;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::policies::{ChangeError, SecurityPolicies, TenantPolicies};
use crate::token::{Grant, Scope};

const MAX_BODY_BYTES: usize = 16 * 1024;
/// Sections that no tenant changes for itself.
const OF_OPERATORS: [&str; 2] = ["rate", "database"];

/// The policies of a tenant.
#[derive(Serialize, JsonSchema)]
pub struct PoliciesBody {
    tenant_id: String,
    #[serde(flatten)]
    policies: SecurityPolicies,
    /// Grows with each change; 0 when nothing was ever changed.
    version: u64,
    /// RFC 3339, UTC.
    timestamp: String,
}

fn answer(api: &Api, policies: TenantPolicies) -> Response {
    json(&PoliciesBody {
        tenant_id: policies.tenant.to_string(),
        policies: policies.policies,
        version: policies.version,
        timestamp: rfc3339(api.clock.now()),
    })
}

/// What holds for a tenant.
pub async fn read(State(api): State<Api>, OpenedTenant(tenant): OpenedTenant) -> Result<Response, Problem> {
    let policies = api.query(api.policies.of(&tenant)).await?;
    Ok(answer(&api, policies))
}

/// Changes what the body names.
pub async fn change(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    Extension(correlation_id): Extension<CorrelationId>,
    OpenedTenant(tenant): OpenedTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut patch: Map<String, Value> = body::json(&headers, body, MAX_BODY_BYTES).await?;
    patch.remove("timestamp");
    if patch.remove("tenant_id").is_some_and(|name| name != tenant.as_str()) {
        return Err(Problem::unprocessable("tenant_id: is not the one in the path"));
    }
    let expected = match patch.remove("version") {
        None => None,
        Some(version) => Some(
            version
                .as_u64()
                .ok_or_else(|| Problem::unprocessable("version: must be a whole number, as it was read"))?,
        ),
    };
    let of_operators = OF_OPERATORS.into_iter().find(|section| patch.contains_key(*section));
    if let (Some(section), Scope::Tenant(_)) = (of_operators, &grant.scope) {
        let detail = format!("{section}: only a token of the admin scope changes it; leave it out");
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    let sections: Vec<&str> = patch.keys().map(String::as_str).collect();
    let sections = crate::units::bounded(&sections.join(","), 100);
    let changed = api.policies.change(&tenant, &Value::Object(patch), expected, api.clock.now()).await;
    let policies = changed.map_err(|error| match error {
        ChangeError::Patch(error) => Problem::unprocessable(error.to_string()),
        ChangeError::Outdated { .. } => Problem::new(StatusCode::CONFLICT, "outdated", error.to_string()),
        ChangeError::Storage(error) => api.storage_problem(&error),
    })?;
    tracing::info!(
        category = "audit",
        correlation_id = correlation_id.as_str(),
        tenant = tenant.as_str(),
        token_id = grant.id,
        sections,
        version = policies.version,
        "policies changed"
    );
    Ok(answer(&api, policies))
}
