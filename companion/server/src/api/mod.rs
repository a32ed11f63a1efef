//! The public API: JSON for people and programs, scoped by bearer tokens.
//!
//! Open to everyone: liveness and readiness, which tell nothing but the state. Everything else, paths that do
//! not exist included, asks for a token first. Against: strangers, tenants who ask for other tenants' data,
//! malformed parameters. Limits: 64 to 128 KiB a head, 8 KiB a path and query, 64 KiB a body, 1000 events a page.

pub mod auth;
mod monitoring;
mod openapi;
mod parameters;
mod paths;
mod policies;
mod rate_limit;
mod security;

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Router, middleware};

use crate::clock::{Clock, monotonic};
use crate::http::envelope::{self, Envelope};
use crate::http::problem::Problem;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::storage::{Storage, StorageError};
use crate::token::TokenKey;

const MAX_BODY_BYTES: u64 = 64 * 1024;

/// What `GET /api/security/status` tells.
#[derive(Clone, Copy, Debug)]
pub struct Protections {
    /// SECURITY_ENABLED.
    pub security: bool,
    /// A valid ENCRYPTION_KEY is there.
    pub encryption: bool,
    /// Rate limits are set.
    pub rate_limiting: bool,
    /// Records are taken and stored.
    pub audit_logging: bool,
}

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    /// What it reads.
    pub storage: Arc<dyn Storage>,
    /// What tenants have set for themselves.
    pub policies: Policies,
    /// The present.
    pub clock: Clock,
    /// Counted here.
    pub metrics: Arc<Metrics>,
    /// Asked by checks.
    pub limits: Arc<Limits>,
    /// Numbers the events that checks store.
    pub numbering: Arc<rate_limit::Numbering>,
    /// Verifies tokens.
    pub tokens: TokenKey,
    /// Told by status.
    pub protections: Protections,
    /// When the process began.
    pub started: Instant,
    /// Spares the store from readiness checks in a flood.
    pub readiness: Arc<monitoring::Readiness>,
}

impl Api {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        storage: Arc<dyn Storage>,
        policies: Policies,
        clock: Clock,
        metrics: Arc<Metrics>,
        limits: Arc<Limits>,
        tokens: TokenKey,
        protections: Protections,
    ) -> Self {
        let readiness = Arc::default();
        let numbering = Arc::default();
        Self {
            storage,
            policies,
            clock,
            metrics,
            limits,
            numbering,
            tokens,
            protections,
            started: monotonic(),
            readiness,
        }
    }

    /// Waits for the store, measures it, and turns its errors into 503.
    async fn query<T>(&self, pending: impl Future<Output = Result<T, StorageError>>) -> Result<T, Problem> {
        let started = monotonic();
        let answer = pending.await;
        self.metrics.query_latency.observe(started.elapsed());
        answer.map_err(|error| self.storage_problem(&error))
    }

    /// 503, counted.
    fn storage_problem(&self, error: &StorageError) -> Problem {
        self.metrics.storage_errors.add(1);
        Problem::storage(error)
    }
}

/// The API's routes.
pub fn router(api: Api) -> Router {
    let envelope =
        Envelope { listener: "api", max_body_bytes: MAX_BODY_BYTES, metrics: Arc::clone(&api.metrics) };
    let open = Router::new()
        .route("/monitoring/liveness", get(monitoring::liveness))
        .route("/monitoring/readiness", get(monitoring::readiness));
    let closed = Router::new()
        .route("/api/security/status", get(security::status))
        .route("/api/security/events/{tenant_id}", get(security::events))
        .route("/api/security/metrics/{tenant_id}", get(security::metrics))
        .route("/api/security/rate-limit/check", post(rate_limit::check))
        .route("/api/security/policies/{tenant_id}", get(policies::read).put(policies::change))
        .route("/monitoring/version", get(monitoring::version))
        .route("/health/detailed", get(monitoring::detailed))
        .route("/metrics", get(monitoring::prometheus))
        .route("/openapi.json", get(openapi::document))
        .fallback(async || Problem::of_status(StatusCode::NOT_FOUND))
        .layer(middleware::from_fn_with_state(api.clone(), auth::authenticate));
    open.merge(closed)
        .method_not_allowed_fallback(async || Problem::of_status(StatusCode::METHOD_NOT_ALLOWED))
        .layer(middleware::from_fn_with_state(envelope, envelope::wrap))
        .with_state(api)
}
