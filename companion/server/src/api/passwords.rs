//! `POST /api/security/password/check`: what a password fails of what a tenant asks for. The password is read, judged and
//! wiped; it is in no log and no answer.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Api, auth};
use crate::clock::rfc3339;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::password::{Finding, MAX_CHARS, Rule, check, is_valid};
use crate::token::{Grant, Scope};

const MAX_BODY_BYTES: usize = 8 * 1024;

/// A password, and by whose policy.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    #[schemars(length(max = 1024))]
    password: String,
    /// The tenant; left out, the token's own, or for an admin's the defaults.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[!-~]{1,50}$"))]
    tenant_id: Option<String>,
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
pub struct Judgement {
    tenant_id: Option<String>,
    /// Whether everything that is required is so, or SECURITY_ENABLED is false.
    valid: bool,
    /// Each rule.
    rules: Vec<Finding>,
    /// Whether it is one of the commonest.
    common: bool,
    /// In so many days it must be changed; 0 is never.
    max_age_days: u32,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Judges a password.
pub async fn judge(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let candidate: Candidate = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let password = Zeroizing::new(candidate.password);
    if password.chars().count() > MAX_CHARS {
        return Err(Problem::unprocessable("password: must have at most 1024 characters"));
    }
    let tenant = match (&candidate.tenant_id, &grant.scope) {
        (Some(name), _) => Some(auth::open_tenant(&api, &grant, name).await?),
        (None, Scope::Tenant(own)) => Some(auth::open_tenant(&api, &grant, own.as_str()).await?),
        (None, Scope::Admin) => None,
    };
    let policy = match &tenant {
        Some(tenant) => api.query(api.policies.of(tenant)).await?.policies.password,
        None => api.policies.defaults().password.clone(),
    };
    let findings = check(&password, &policy);
    Ok(json(&Judgement {
        tenant_id: tenant.map(|tenant| tenant.to_string()),
        valid: !api.protections.security || is_valid(&findings),
        common: findings.iter().any(|finding| finding.rule == Rule::NotCommon && !finding.passed),
        rules: findings.to_vec(),
        max_age_days: policy.max_age_days,
        timestamp: rfc3339(api.clock.now()),
    }))
}
