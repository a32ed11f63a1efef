//! Who asks: a bearer token, or without one the dashboard's cookie, becomes a [`Grant`], or the request ends here with 401.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use portcullis_policy::CorrelationId;

use super::{Api, dashboard};
use crate::clock::{Timestamp, monotonic};
use crate::http::access::Peer;
use crate::http::envelope::CallerId;
use crate::http::problem::Problem;
use crate::tenant::{TenantId, records};
use crate::token::{Grant, Scope, TokenError};
use crate::units::bounded;

/// How much of a path a log line shows.
const MAX_LOGGED_PATH: usize = 200;

/// The credentials of the only Authorization header, if it is a bearer's.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

/// Lets a request pass that shows a valid token, hands the grant on, and writes down who reached what.
pub async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer(None));
    let bearer = bearer(request.headers());
    let session = dashboard::cookie(request.headers()).filter(|_| bearer.is_none());
    let token = bearer.or(session);
    let now = api.clock.now();
    let verified = match (bearer, session) {
        (Some(token), _) => api.tokens.verify(token, now),
        (None, Some(session)) => api.tokens.verify_session(session, now),
        (None, None) => Err(TokenError::Invalid),
    };
    let grant = match verified {
        Ok(grant) => grant,
        Err(error) => {
            tracing::debug!(category = "security", %error, "token refused");
            // Who shows none, or one that was good, is not guessing.
            let guess = token.is_some() && error == TokenError::Invalid;
            let refused = match !guess || api.guesses.count(peer, monotonic()) {
                true => Problem::unauthorized(),
                false => Problem::too_many("too many tokens that are not valid came from this address"),
            };
            return refused.into_response();
        }
    };
    if let Some(session) = session
        && let Err(problem) = dashboard::guard(&api, session, request.method(), request.headers())
    {
        return problem.into_response();
    }
    if grant.scope == Scope::Admin && !api.admin_allow.allows(peer) {
        let detail = "the admin scope is not for this address; see ADMIN_ALLOW";
        return Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).into_response();
    }
    let caller = CallerId(grant.id.clone());
    let (method, path) = (request.method().clone(), bounded(request.uri().path(), MAX_LOGGED_PATH));
    let correlation_id = request.extensions().get::<CorrelationId>().cloned();
    let scope = match &grant.scope {
        Scope::Admin => "admin".to_owned(),
        Scope::Tenant(tenant) => tenant.to_string(),
    };
    request.extensions_mut().insert(grant);
    let mut response = next.run(request).await;
    if path.starts_with("/api/") {
        tracing::info!(
            category = "audit",
            correlation_id = correlation_id.as_ref().map(CorrelationId::as_str),
            %method,
            path,
            status = response_status(&response),
            token_id = caller.0,
            scope,
            address = peer.ip().map(tracing::field::display),
            "data reached"
        );
    }
    response.extensions_mut().insert(caller);
    response
}

/// A problem is rendered by the envelope, but its status is settled.
fn response_status(response: &Response) -> u16 {
    response.extensions().get::<Problem>().map_or(response.status(), |problem| problem.status).as_u16()
}

/// The tenant of that name, if it is well formed, the grant opens it and it exists; in this order, so that a
/// stranger never learns which tenants exist.
///
/// # Errors
/// 400, 403 or 404.
pub async fn open_tenant(api: &Api, grant: &Grant, name: &str) -> Result<TenantId, Problem> {
    let tenant = TenantId::new(name).map_err(|error| Problem::malformed(format!("tenant_id: {error}")))?;
    Ok(open(api, grant, tenant).await?.0)
}

/// The same of a name that is well formed; and from when on what happened to the tenant is the grant's to see: a tenant's own token
/// shows nothing of another one that had its name before and was removed.
///
/// # Errors
/// 403 or 404.
pub async fn open(
    api: &Api,
    grant: &Grant,
    tenant: TenantId,
) -> Result<(TenantId, Option<Timestamp>), Problem> {
    if !grant.opens(&tenant) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "this token does not open this tenant"));
    }
    // What was acknowledged before the question is in the answer.
    api.trail.caught_up().await;
    let standing = api.query(records::standing(&*api.storage, &tenant)).await?.ok_or_else(unknown_tenant)?;
    match (&grant.scope, standing.removed_at) {
        (Scope::Tenant(_), Some(removed)) if grant.issued <= removed => {
            let detail = "this token was issued for a tenant of this name that was removed; \
                          `portcullis token` makes one for the present one";
            Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
        }
        (Scope::Tenant(_), removed) => Ok((tenant, removed.and_then(just_after))),
        (Scope::Admin, _) => Ok((tenant, None)),
    }
}

/// Stores keep instants to the millisecond.
fn just_after(at: Timestamp) -> Option<Timestamp> {
    at.checked_add(Duration::from_millis(1)).ok()
}

/// 404.
#[must_use]
pub fn unknown_tenant() -> Problem {
    let detail = "no such tenant; `portcullis tenant add` or PUT /api/tenants/{tenant_id} makes one";
    Problem::new(StatusCode::NOT_FOUND, "unknown-tenant", detail)
}

/// Lets only the admin scope pass.
///
/// # Errors
/// 403.
pub fn require_admin(grant: &Grant) -> Result<(), Problem> {
    match grant.scope {
        Scope::Admin => Ok(()),
        Scope::Tenant(_) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "this needs a token of the admin scope"))
        }
    }
}
