//! Who asks: a bearer token becomes a [`Grant`], or the request ends here with 401.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use crate::http::envelope::CallerId;
use crate::http::problem::Problem;
use crate::tenant::{TenantId, records};
use crate::token::{Grant, Scope};

/// The credentials of the only Authorization header, if it is a bearer's.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

/// Lets a request pass that shows a valid token, and hands the grant on.
pub async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let grant = match bearer(request.headers()) {
        Some(token) => match api.tokens.verify(token, api.clock.now()) {
            Ok(grant) => grant,
            Err(error) => {
                tracing::debug!(category = "security", %error, "token refused");
                return Problem::unauthorized().into_response();
            }
        },
        None => return Problem::unauthorized().into_response(),
    };
    let caller = CallerId(grant.id.clone());
    request.extensions_mut().insert(grant);
    let mut response = next.run(request).await;
    response.extensions_mut().insert(caller);
    response
}

/// The tenant in a path, if it is well formed, the grant opens it and it exists; in this order, so that a
/// stranger never learns which tenants exist.
///
/// # Errors
/// 400, 403 or 404.
pub async fn open_tenant(api: &Api, grant: &Grant, name: &str) -> Result<TenantId, Problem> {
    let tenant = TenantId::new(name).map_err(|error| Problem::malformed(format!("tenant_id: {error}")))?;
    if !grant.opens(&tenant) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "this token does not open this tenant"));
    }
    if !api.query(records::exists(&*api.storage, &tenant)).await? {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-tenant",
            "no such tenant; `portcullis tenant add` makes one",
        ));
    }
    Ok(tenant)
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
