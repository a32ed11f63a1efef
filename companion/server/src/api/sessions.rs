//! `/api/security/sessions/{tenant_id}`: sessions of a tenant's users, for the application that logs them in.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::paths::{Beside, OpenedTenant};
use super::texts::{self, Width};
use super::{Api, auth, parameters};
use crate::clock::rfc3339;
use crate::http::body;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::sessions::{Opening, Session, Use};
use crate::storage::StorageError;
use crate::tenant::TenantId;

const MAX_BODY_BYTES: usize = 4 * 1024;

/// Whose session begins.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,50}$"))]
    user_id: String,
    /// The user's own address, as the application sees it.
    #[serde(default)]
    #[schemars(extend("anyOf" = [{"type": "null"}, {"format": "ipv4"}, {"format": "ipv6"}]))]
    ip_address: Option<String>,
    #[serde(default)]
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,500}$"))]
    user_agent: Option<String>,
}

/// A token of a session.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{1,200}$"))]
    token: String,
}

/// A session.
#[derive(Serialize, JsonSchema)]
pub struct SessionBody {
    session_id: String,
    user_id: String,
    ip_address: Option<String>,
    user_agent: Option<String>,
    /// RFC 3339, UTC.
    created_at: String,
    /// RFC 3339, UTC; to within half a minute.
    last_activity: String,
    /// RFC 3339, UTC.
    expires_at: String,
}

/// A session that has begun.
#[derive(Serialize, JsonSchema)]
pub struct Begun {
    tenant_id: String,
    /// What the user shows from now on; told once.
    token: String,
    session: SessionBody,
    /// Sessions of the user that ended for it.
    ended_sessions: Vec<String>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// What a token opens.
#[derive(Serialize, JsonSchema)]
pub struct Verified {
    tenant_id: String,
    valid: bool,
    /// Why not: `unknown`, `revoked`, `expired` or `inactive`.
    reason: Option<&'static str>,
    session: Option<SessionBody>,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Sessions of a user that go on, newest first.
#[derive(Serialize, JsonSchema)]
pub struct Sessions {
    tenant_id: String,
    user_id: String,
    sessions: Vec<SessionBody>,
    count: usize,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// How many have ended.
#[derive(Serialize, JsonSchema)]
pub struct Revoked {
    tenant_id: String,
    revoked: u64,
    /// RFC 3339, UTC.
    timestamp: String,
}

impl From<Session> for SessionBody {
    fn from(session: Session) -> Self {
        Self {
            session_id: session.session_id,
            user_id: session.user_id,
            ip_address: session.ip_address,
            user_agent: session.user_agent,
            created_at: rfc3339(session.created_at),
            last_activity: rfc3339(session.last_activity),
            expires_at: rfc3339(session.expires_at),
        }
    }
}

/// Begins one.
pub async fn begin(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let new: NewSession = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let opening = Opening {
        user_id: texts::required("user_id", new.user_id, Width(50))?,
        ip_address: texts::address("ip_address", new.ip_address)?,
        user_agent: texts::optional("user_agent", new.user_agent, Width(500))?,
    };
    let now = api.clock.now();
    let opened = match api.sessions.open(&tenant, opening, now).await {
        // It was removed since it was looked for.
        Err(StorageError::Conflict) => return Err(auth::unknown_tenant()),
        opened => api.query(async { opened }).await?,
    };
    let begun = Begun {
        tenant_id: tenant.to_string(),
        token: opened.token,
        session: opened.session.into(),
        ended_sessions: opened.ended,
        timestamp: rfc3339(now),
    };
    Ok((StatusCode::CREATED, json(&begun)).into_response())
}

/// Looks at one.
pub async fn verify(
    state: State<Api>,
    tenant: OpenedTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    look(state, tenant, headers, body, Use::None).await
}

/// Looks at one and counts it as used.
pub async fn touch(
    state: State<Api>,
    tenant: OpenedTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    look(state, tenant, headers, body, Use::Touched).await
}

async fn look(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    headers: HeaderMap,
    body: Body,
    used: Use,
) -> Result<Response, Problem> {
    let shown: Shown = body::json(&headers, body, MAX_BODY_BYTES).await?;
    let shown_token = texts::required("token", shown.token, Width(200))?;
    let now = api.clock.now();
    let found = api.query(api.sessions.verify(Some(&tenant), &shown_token, used, now)).await?;
    let (session, reason) = match found {
        Ok(session) => (Some(SessionBody::from(session)), None),
        Err(ended) => (None, Some(ended.as_str())),
    };
    Ok(json(&Verified {
        tenant_id: tenant.to_string(),
        valid: session.is_some(),
        reason,
        session,
        timestamp: rfc3339(now),
    }))
}

/// Those of one user.
pub async fn list(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    uri: Uri,
) -> Result<Response, Problem> {
    let user_id = parameters::only(&uri, "user_id")?
        .ok_or_else(|| Problem::malformed("user_id: must be given, as ?user_id=alice"))?;
    let user_id = texts::required("user_id", user_id, Width(50))?;
    let now = api.clock.now();
    let sessions = api.query(api.sessions.of_user(&tenant, &user_id, now)).await?;
    Ok(json(&Sessions {
        tenant_id: tenant.to_string(),
        user_id,
        count: sessions.len(),
        sessions: sessions.into_iter().map(SessionBody::from).collect(),
        timestamp: rfc3339(now),
    }))
}

/// Ends one.
pub async fn revoke(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    Beside(session_id): Beside,
) -> Result<Response, Problem> {
    let session_id = texts::required("session_id", session_id, Width(100))?;
    if !api.query(api.sessions.revoke(&tenant, &session_id)).await? {
        let detail = "the tenant has no session of this name that goes on";
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-session", detail));
    }
    Ok(revoked(&api, &tenant, 1))
}

/// Ends all of a user, or of the tenant.
pub async fn revoke_all(
    State(api): State<Api>,
    OpenedTenant(tenant): OpenedTenant,
    uri: Uri,
) -> Result<Response, Problem> {
    let user_id = texts::optional("user_id", parameters::only(&uri, "user_id")?, Width(50))?;
    let count = api.query(api.sessions.revoke_all(&tenant, user_id.as_deref())).await?;
    Ok(revoked(&api, &tenant, count))
}

fn revoked(api: &Api, tenant: &TenantId, count: u64) -> Response {
    json(&Revoked { tenant_id: tenant.to_string(), revoked: count, timestamp: rfc3339(api.clock.now()) })
}
