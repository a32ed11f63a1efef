//! Envoy's `ext_authz`, answered from the sessions of tenants' users: over HTTP at `/v1/ext-authz/...`, over gRPC in [`grpc`].
//!
//! Envoy sends the head of each request here, with `path_prefix: /v1/ext-authz`. The session's token is in
//! `Authorization: Bearer pcs1...` or in the cookie `portcullis_session`. 200 lets the request pass and names `x-tenant-id`,
//! `x-user-id` and `x-session-id`, which Envoy writes over what the client sent (`allowed_upstream_headers`); anything
//! else is the client's answer, 401 as `application/problem+json`. A store that does not answer is 503: Envoy then does
//! what `failure_mode_allow` says, and should say false.
//!
//! It stands on the ingest listener, which only proxies reach, and asks for no ingest token: whoever shows a session's token
//! learns whose it is, and nothing else. A use is written down at most every half minute.

pub mod grpc;
pub mod messages;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::Ingest;
use crate::http::problem::Problem;
use crate::sessions::{Session, Use};

const COOKIE: &str = "portcullis_session";

/// Why a request does not pass.
pub(super) enum Refused {
    /// Nothing that it shows opens a session.
    NoSession(Problem),
    /// Nobody could look.
    Away(Problem),
}

/// Answers for one request of a client.
pub async fn check(State(ingest): State<Ingest>, headers: HeaderMap) -> Result<Response, Problem> {
    match judge(&ingest, &headers).await {
        Ok(session) => Ok(allow(&session)),
        Err(Refused::NoSession(problem) | Refused::Away(problem)) => Err(problem),
    }
}

/// Whose session a client's headers show.
pub(super) async fn judge(ingest: &Ingest, headers: &HeaderMap) -> Result<Session, Refused> {
    let refused =
        || Refused::NoSession(Problem::unauthorized_as("log in: no session goes on for what was shown"));
    let token = token(headers).ok_or_else(refused)?;
    let found = ingest.sessions.verify(None, token, Use::Counted, ingest.clock.now()).await;
    match found.map_err(|error| Refused::Away(Problem::storage(&error)))? {
        // A user's name that no header can carry lets nobody pass.
        Ok(session) if HeaderValue::from_str(&session.user_id).is_ok() => Ok(session),
        Ok(_) => Err(refused()),
        Err(ended) => {
            tracing::info!(category = "security", reason = ended.as_str(), "a session was refused");
            Err(refused())
        }
    }
}

/// The token in the only Authorization header, else in the only cookie of its name.
fn token(headers: &HeaderMap) -> Option<&str> {
    if headers.contains_key(header::AUTHORIZATION) {
        return crate::api::auth::bearer(headers);
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut named = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE);
    let (first, None) = (named.next()?, named.next()) else { return None };
    Some(first.1.trim_matches('"'))
}

/// What an application may trust.
pub(super) fn names(session: &Session) -> [(&'static str, String); 3] {
    [
        ("x-tenant-id", session.tenant.to_string()),
        ("x-user-id", session.user_id.clone()),
        ("x-session-id", session.session_id.clone()),
    ]
}

fn allow(session: &Session) -> Response {
    let mut response = Body::empty().into_response();
    for (name, value) in names(session) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
