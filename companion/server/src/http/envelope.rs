//! The envelope of every answer: correlation ID, security headers, the shape of errors, one line in the log.
//!
//! It is the outermost layer, so that no answer leaves without it, whoever made it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use portcullis_policy::CorrelationId;

use super::problem::Problem;
use crate::clock::monotonic;
use crate::logging;
use crate::metrics::Metrics;
use crate::units::bounded;

/// The header that carries the correlation ID.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest path and query together; more is answered 414.
const MAX_URI_BYTES: usize = 8 * 1024;
/// An answer that took so long is told of by itself.
const SLOW: Duration = Duration::from_secs(1);
/// How much of a path a log line shows.
const MAX_LOGGED_PATH: usize = 200;

/// What the envelope of one listener knows.
#[derive(Clone)]
pub struct Envelope {
    /// For the log.
    pub listener: &'static str,
    /// The largest `Content-Length`; more is answered 413 before the body is read.
    pub max_body_bytes: u64,
    /// Where answers are counted.
    pub metrics: std::sync::Arc<Metrics>,
}

/// Set by the layer that knows the caller, for the log: the token's ID, never the token.
#[derive(Clone, Debug)]
pub struct CallerId(pub String);

/// Wraps one request and its answer.
pub async fn wrap(State(envelope): State<Envelope>, mut request: Request, next: Next) -> Response {
    let started = monotonic();
    let correlation_id = correlation_id(request.headers());
    let method = request.method().clone();
    let path = bounded(request.uri().path(), MAX_LOGGED_PATH);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    request.extensions_mut().insert(correlation_id.clone());

    let response = match refuse_size(&envelope, &request) {
        Some(problem) => problem.into_response(),
        None => logging::correlated(correlation_id.clone(), next.run(request)).await,
    };
    let caller = response.extensions().get::<CallerId>().map(|caller| caller.0.clone());
    let cause = response.extensions().get::<Problem>().and_then(|problem| problem.cause.clone());
    let response = finish(response, &correlation_id);

    let (status, elapsed) = (response.status(), started.elapsed());
    envelope.metrics.answered(envelope.listener, route.as_deref(), status.as_u16(), elapsed);
    let category = match status.as_u16() {
        401 | 403 => "security",
        _ => "application",
    };
    let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                category, listener = envelope.listener, correlation_id = correlation_id.as_str(), %method, path,
                status = status.as_u16(), duration_ms, token_id = caller, cause, "answered"
            )
        };
    }
    if elapsed >= SLOW {
        tracing::warn!(
            category = "performance",
            listener = envelope.listener,
            correlation_id = correlation_id.as_str(),
            route,
            duration_ms,
            "slow answer"
        );
    }
    match status.as_u16() {
        500.. => line!(error),
        401 | 403 => line!(warn),
        // The module's batches and the probes come by the second.
        200..=299
            if envelope.listener == "ingest" || path.starts_with("/monitoring/") || path == "/metrics" =>
        {
            line!(debug)
        }
        _ => line!(info),
    }
    response
}

fn refuse_size(envelope: &Envelope, request: &Request) -> Option<Problem> {
    if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > MAX_URI_BYTES) {
        return Some(Problem::new(
            StatusCode::URI_TOO_LONG,
            "too-large",
            "path and query have at most 8192 bytes",
        ));
    }
    let length = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    (length > envelope.max_body_bytes).then(|| {
        let most = envelope.max_body_bytes;
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("a body has at most {most} bytes here"),
        )
    })
}

fn finish(mut response: Response, correlation_id: &CorrelationId) -> Response {
    let problem = response.extensions_mut().remove::<Problem>();
    let status = response.status();
    if let Some(problem) = problem {
        response = problem.render(correlation_id);
    } else if status.is_client_error() || status.is_server_error() {
        let is_json = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        if !is_json {
            let allow = response.headers().get(header::ALLOW).cloned();
            response = Problem::of_status(status).render(correlation_id);
            if let Some(allow) = allow {
                response.headers_mut().insert(header::ALLOW, allow);
            }
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(correlation_id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        // The dashboard's page has a policy of its own.
        if name != header::CONTENT_SECURITY_POLICY || !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// The request's own ID if it sent exactly one that is well formed, else a new one.
fn correlation_id(headers: &HeaderMap) -> CorrelationId {
    let mut sent = headers.get_all(X_REQUEST_ID).iter();
    let only = match (sent.next(), sent.next()) {
        (Some(only), None) => CorrelationId::accept(only.as_bytes()),
        _ => None,
    };
    only.unwrap_or_else(|| CorrelationId::make(random()))
}

/// Without random bytes an ID is merely not unique; that is no reason to refuse a request.
fn random() -> [u64; 2] {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        return [0, 0];
    }
    let number = u128::from_le_bytes(bytes);
    [u64::try_from(number >> 64).unwrap_or(0), u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0)]
}

/// A JSON answer.
pub fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(_) => Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
    }
}
