//! What stands in a path, by its name: as extractors, so that no operation reads it in a way of its own.
//!
//! A path has at most two parameters: a tenant, and something beside it.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::{Api, auth};
use crate::clock::Timestamp;
use crate::http::problem::Problem;
use crate::tenant::TenantId;
use crate::token::Grant;
use crate::units::is_plain_name;

const TENANT: &str = "tenant_id";

/// A tenant that is well formed; whether it exists, and who may ask for it, is not looked at.
pub struct NamedTenant(pub TenantId);

/// A tenant that exists, and that the token of who asks opens.
pub struct OpenedTenant(pub TenantId);

/// The same, and from when on what happened is for that token; without an instant all of it is.
pub struct OpenedHistory(pub TenantId, pub Option<Timestamp>);

/// What stands beside the tenant, as it came.
pub struct Beside(pub String);

/// A name that is ours to shape: 1 to 50 lower-case letters, digits and underscores, a letter first.
pub struct PlainName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for NamedTenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = parameter(parts, state, |name| name == TENANT).await?;
        let tenant = TenantId::new(&name);
        Ok(Self(tenant.map_err(|error| Problem::malformed(format!("tenant_id: {error}")))?))
    }
}

impl FromRequestParts<Api> for OpenedTenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let OpenedHistory(tenant, _) = OpenedHistory::from_request_parts(parts, api).await?;
        Ok(Self(tenant))
    }
}

impl FromRequestParts<Api> for OpenedHistory {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        // Without one the middleware has let nobody pass.
        let grant = parts.extensions.get::<Grant>().cloned().ok_or_else(Problem::unauthorized)?;
        let NamedTenant(tenant) = NamedTenant::from_request_parts(parts, api).await?;
        let (tenant, from) = auth::open(api, &grant, tenant).await?;
        Ok(Self(tenant, from))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Beside {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Self(parameter(parts, state, |name| name != TENANT).await?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PlainName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Beside(name) = Beside::from_request_parts(parts, state).await?;
        match is_plain_name(&name) {
            true => Ok(Self(name)),
            false => Err(Problem::malformed(
                "name: 1 to 50 lower-case letters, digits and underscores, a letter first",
            )),
        }
    }
}

async fn parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    wanted: fn(&str) -> bool,
) -> Result<String, Problem> {
    let all = RawPathParams::from_request_parts(parts, state).await;
    let all = all.map_err(|_| Problem::malformed("the path: must be percent-encoded UTF-8"))?;
    let found = all.iter().find(|(name, _)| wanted(name)).map(|(_, text)| text.to_owned());
    found.ok_or_else(|| Problem::malformed("the path: lacks a parameter"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use axum::routing::get;
    use tower_service::Service;

    use super::*;

    async fn asked(path: &str) -> StatusCode {
        let both = async |NamedTenant(tenant): NamedTenant, Beside(rest): Beside| format!("{tenant} {rest}");
        let mut router: Router = Router::new()
            .route("/of/{tenant_id}/{value_id}", get(both))
            .route("/named/{name}", get(async |PlainName(name): PlainName| name));
        let request = Request::get(path).body(Body::empty()).unwrap();
        router
            .call(request)
            .await
            .unwrap()
            .extensions()
            .get::<Problem>()
            .map_or(StatusCode::OK, |problem| problem.status)
    }

    #[tokio::test]
    async fn what_is_malformed_ends_in_400() {
        for good in ["/of/acme/1", "/of/a%20b/%2F", "/named/slow_statements"] {
            let expected = if good.contains("%20") { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            assert_eq!(asked(good).await, expected, "{good}");
        }
        for bad in ["/of/%ff/1", "/of/acme/%ff", "/of/a%00b/1", "/named/Big", "/named/1a", "/named/%ff"] {
            assert_eq!(asked(bad).await, StatusCode::BAD_REQUEST, "{bad}");
        }
        assert_eq!(asked(&format!("/named/{}", "a".repeat(51))).await, StatusCode::BAD_REQUEST);
    }
}
