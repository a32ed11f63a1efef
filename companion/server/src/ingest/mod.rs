//! The ingest listener: modules deliver their audit records and ask for leases here, and nobody else.
//!
//! `POST /v1/ingest` takes JSON lines and answers when what can be stored is durable in the audit trail:
//! `{"stored", "duplicates", "rejected", "errors"}`. A batch may be delivered twice; its records are shown once. A line
//! that is no record is counted and named, and must not be sent again. A trail that takes nothing, because its disk is
//! full or fails, is answered 503: the module keeps its records and comes again. It stands on a socket of its own, so
//! that the public API's port never takes records.
//!
//! Against: whoever reaches the port without the token; a sender that is broken or lies. Not against: a
//! holder of the token, who can write records of any tenant. Limits: 1 MiB a batch, 16 KiB a line, 10 seconds
//! for a body to arrive.

pub mod batch;
pub mod ext_authz;
pub mod record;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{any, post};
use axum::{Extension, Router};
use portcullis_policy::CorrelationId;
use serde::Serialize;

use crate::clock::Clock;
use crate::event::Severity;
use crate::http::envelope::{self, Envelope, json};
use crate::http::problem::Problem;
use crate::limits::{Limits, leases, policies};
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::sessions::Sessions;
use crate::trail::{Appended, Trail};
use batch::{Batch, LineError};

/// The shortest ingest token.
pub const MIN_TOKEN_BYTES: usize = 16;

/// What the ingest listener needs.
#[derive(Clone)]
pub struct Ingest {
    /// Where records go.
    pub trail: Trail,
    /// The time of arrival.
    pub clock: Clock,
    /// Counted here.
    pub metrics: Arc<Metrics>,
    /// Leases come from here.
    pub limits: Arc<Limits>,
    /// Asked by `ext_authz`.
    pub sessions: Sessions,
    /// What a sender must show; `None` only on a Unix socket, whose file mode says who may send.
    pub token: Option<Secret>,
}

#[derive(Serialize)]
struct Receipt {
    stored: u64,
    duplicates: u64,
    rejected: u64,
    errors: Vec<LineError>,
}

/// The listener's routes.
pub fn router(ingest: Ingest) -> Router {
    let envelope = Envelope {
        listener: "ingest",
        max_body_bytes: u64::try_from(batch::MAX_BYTES).unwrap_or(u64::MAX),
        metrics: Arc::clone(&ingest.metrics),
    };
    Router::new()
        .route("/v1/ingest", post(receive))
        .route("/v1/leases", post(leases::grant))
        .route("/v1/policies", post(policies::pull))
        .fallback(async || Problem::of_status(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::of_status(StatusCode::METHOD_NOT_ALLOWED))
        .layer(middleware::from_fn_with_state(ingest.clone(), authenticate))
        // Behind the layer: Envoy forwards the client's own Authorization.
        .route("/v1/ext-authz", any(ext_authz::check))
        // A wildcard stands for at least a character, and a client may ask for `/`.
        .route("/v1/ext-authz/", any(ext_authz::check))
        .route("/v1/ext-authz/{*path}", any(ext_authz::check))
        .route(ext_authz::grpc::METHOD, post(ext_authz::grpc::check))
        .layer(middleware::from_fn_with_state(envelope, envelope::wrap))
        .with_state(ingest)
}

/// Before anything else, the body included, so that a stranger costs nothing.
async fn authenticate(State(ingest): State<Ingest>, request: Request, next: middleware::Next) -> Response {
    use axum::response::IntoResponse;
    if let Some(token) = &ingest.token {
        let offered = crate::api::auth::bearer(request.headers()).unwrap_or_default();
        if !token.matches(offered.as_bytes()) {
            ingest.metrics.batches_refused.add(1);
            return Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "send Authorization: Bearer with the token in PORTCULLIS_INGEST_TOKEN",
            )
            .into_response();
        }
    }
    next.run(request).await
}

async fn receive(
    State(ingest): State<Ingest>,
    Extension(correlation_id): Extension<CorrelationId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let refused = |problem| {
        ingest.metrics.batches_refused.add(1);
        problem
    };
    check_type(&headers).map_err(refused)?;
    let body = crate::http::body::bytes(body, batch::MAX_BYTES).await.map_err(refused)?;
    let Batch { events, rejected, errors } = Batch::read(&body, ingest.clock.now());
    drop(body);
    ingest.metrics.rejected(rejected);
    if let Some(first) = errors.first() {
        tracing::warn!(
            category = "application",
            correlation_id = correlation_id.as_str(),
            rejected,
            line = first.line,
            error = first.error,
            "records rejected"
        );
    }

    let threats = events.iter().filter(|event| event.severity != Severity::Info).count();
    let Appended { stored, duplicates, .. } = ingest.trail.append(events).await.map_err(|error| {
        ingest.metrics.batches_failed.add(1);
        Problem::trail(&error)
    })?;
    ingest.metrics.duplicates(duplicates);
    if threats > 0 {
        // Each stands in the events; the log says that there were any.
        tracing::info!(
            category = "security",
            events = threats,
            "requests were refused or failed; the events of their tenants tell which"
        );
    }
    ingest.metrics.batches_stored.add(1);
    Ok(json(&Receipt { stored, duplicates, rejected, errors }))
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", detail);
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-ndjson") {
        return Err(unsupported("Content-Type must be application/x-ndjson"));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported("Content-Encoding must be left out"));
    }
    Ok(())
}
