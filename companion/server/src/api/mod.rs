//! The public API: JSON for people and programs, scoped by bearer tokens.
//!
//! Open to everyone: liveness and readiness, which tell nothing but the state, browsers' reports, which are told nothing, and
//! the dashboard's page, which holds nothing.
//! Everything else, paths that do
//! not exist included, asks for a token first. Against: strangers, tenants who ask for other tenants' data,
//! malformed parameters. Limits: 64 to 128 KiB a head, 8 KiB a path and query, 64 KiB a body, 1000 events a page.

mod alerts;
pub mod auth;
mod bouncer;
mod business;
mod cursor;
mod dashboard;
mod database;
mod encryption;
mod events;
mod keys;
mod limits;
mod monitoring;
mod openapi;
mod overview;
mod parameters;
mod passwords;
mod paths;
mod performance;
mod policies;
mod rate_limit;
mod reports;
mod security;
mod sessions;
mod status;
mod stream;
mod tenants;
pub mod texts;

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use axum::{Router, middleware};
use tokio::sync::{Semaphore, watch};

use crate::alerts::Alerts;
use crate::bouncer::Bouncer;
use crate::business::Business;
use crate::clock::{Clock, monotonic};
use crate::databases::Databases;
use crate::event::Numbering;
use crate::export::Export;
use crate::export::figures::Pushes;
use crate::http::access::{AllowList, Guesses};
use crate::http::envelope::{self, Envelope};
use crate::http::problem::Problem;
use crate::keys::{Keys, KeysError};
use crate::limits::{Checks, Limits, grpc};
use crate::metrics::Metrics;
use crate::monitoring::machine::Machine;
use crate::policies::Policies;
use crate::sessions::Sessions;
use crate::storage::{Storage, StorageError};
use crate::token::TokenKey;
use crate::trail::Trail;

const MAX_BODY_BYTES: u64 = 64 * 1024;
/// A query of the store that took so long is told of by itself.
const SLOW_QUERY: Duration = Duration::from_secs(1);

/// What `GET /api/security/status` tells.
#[derive(Clone, Copy, Debug)]
pub struct Protections {
    /// SECURITY_ENABLED.
    pub security: bool,
    /// Values are sealed under keys of their tenants.
    pub encryption: bool,
    /// Rate limits are set.
    pub rate_limiting: bool,
    /// Records are taken and stored.
    pub audit_logging: bool,
    /// DATABASE_OPTIMIZATION_ENABLED: tenants' databases are watched, and looked through on request.
    pub database_optimization: bool,
}

/// What the API is put together of.
pub struct Parts {
    /// What it reads.
    pub storage: Arc<dyn Storage>,
    /// Where events go.
    pub trail: Trail,
    /// What tenants have set for themselves.
    pub policies: Policies,
    /// Sessions of tenants' users.
    pub sessions: Sessions,
    /// Seals and opens.
    pub keys: Keys,
    /// The present.
    pub clock: Clock,
    /// Counted here.
    pub metrics: Arc<Metrics>,
    /// Tells its counts, if it is served.
    pub grpc: Option<grpc::Service>,
    /// Tell their counts.
    pub exports: Vec<Export>,
    /// Tells how pushes of figures fare.
    pub pushes: Arc<Pushes>,
    /// The tenants' own.
    pub databases: Databases,
    /// In front of them, if one is managed.
    pub bouncer: Option<Bouncer>,
    /// What fires.
    pub alerts: Alerts,
    /// What is measured of them.
    pub business: Business,
    /// Asked how it fares.
    pub machine: Machine,
    /// Tells its counts.
    pub limits: Arc<Limits>,
    /// Counts actions for programs.
    pub checks: Arc<Checks>,
    /// Whether it speaks TLS: then cookies are for TLS alone.
    pub tls: bool,
    /// Verifies tokens.
    pub tokens: TokenKey,
    /// Told by status.
    pub protections: Protections,
    /// Where the admin scope may be used from.
    pub admin_allow: AllowList,
    /// Says true when the companion ends.
    pub ended: watch::Receiver<bool>,
}

/// The API, as every request has it.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// What all requests share.
pub struct Shared {
    parts: Parts,
    /// Numbers the events that are stored here.
    pub numbering: Numbering,
    /// When the process began.
    pub started: Instant,
    /// Spares the store from readiness checks in a flood.
    pub readiness: monitoring::Readiness,
    /// Tokens that were refused.
    pub guesses: Guesses,
    /// Browsers' reports that were told.
    pub reports: reports::Recent,
    /// Places for live streams.
    pub streams: Arc<Semaphore>,
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Api {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared {
            parts,
            numbering: Numbering::default(),
            started: monotonic(),
            readiness: monitoring::Readiness::default(),
            guesses: Guesses::default(),
            reports: reports::Recent::default(),
            streams: Arc::new(Semaphore::new(stream::STREAMS)),
        }))
    }

    /// Waits for the store, measures it, and turns its errors into 503.
    async fn query<T>(&self, pending: impl Future<Output = Result<T, StorageError>>) -> Result<T, Problem> {
        let started = monotonic();
        let answer = pending.await;
        let elapsed = started.elapsed();
        self.metrics.query_latency.observe(elapsed);
        if elapsed >= SLOW_QUERY {
            let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(category = "performance", duration_ms, "slow query of the companion's own store");
        }
        answer.map_err(|error| self.storage_problem(&error))
    }

    /// What a client is told when keys were not to be had.
    fn keys_problem(&self, error: &KeysError) -> Problem {
        match error {
            KeysError::Storage(error) => self.storage_problem(error),
            KeysError::Busy => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "many use keys at once; try again in a second",
            ),
            KeysError::StillNeeded { .. } => {
                Problem::new(StatusCode::CONFLICT, "still-needed", error.to_string())
            }
            KeysError::Keyring(error) => keys::problem(error),
        }
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
        .route("/", get(dashboard::page))
        .route("/dashboard/sign-in", post(dashboard::sign_in))
        .route("/monitoring/liveness", get(monitoring::liveness))
        .route("/monitoring/readiness", get(monitoring::readiness))
        .route("/reports/{tenant_id}", post(reports::collect).options(reports::preflight));
    let closed = Router::new()
        .route("/dashboard/session", get(dashboard::session).delete(dashboard::sign_out))
        .route("/api/security/status", get(security::status))
        .route("/api/security/events/{tenant_id}", get(events::list).post(events::report))
        .route("/api/security/events/{tenant_id}/stream", get(stream::follow))
        .route("/api/security/metrics/{tenant_id}", get(security::metrics))
        .route("/api/security/rate-limit/check", post(rate_limit::check))
        .route("/api/security/rate-limit/usage", get(limits::all))
        .route("/api/security/rate-limit/usage/{tenant_id}", get(limits::of_tenant))
        .route("/api/security/policies/{tenant_id}", get(policies::read).put(policies::change))
        .route("/api/security/password/check", post(passwords::judge))
        .route("/api/security/encrypt", post(encryption::encrypt))
        .route("/api/security/decrypt", post(encryption::decrypt))
        .route("/api/security/encrypted/{tenant_id}/{value_id}", delete(encryption::discard))
        .route("/api/security/keys", get(keys::list))
        .route(
            "/api/security/keys/{tenant_id}",
            get(keys::read).post(keys::create).put(keys::change).delete(keys::shred),
        )
        .route("/api/security/keys/{tenant_id}/public", get(keys::public))
        .route("/api/security/keys/{tenant_id}/rotate", post(keys::rotate))
        .route("/api/security/keys/{tenant_id}/rewrap", post(keys::rewrap))
        .route(
            "/api/security/sessions/{tenant_id}",
            get(sessions::list).post(sessions::begin).delete(sessions::revoke_all),
        )
        .route("/api/security/sessions/{tenant_id}/verify", post(sessions::verify))
        .route("/api/security/sessions/{tenant_id}/touch", post(sessions::touch))
        .route("/api/security/sessions/{tenant_id}/{session_id}", delete(sessions::revoke))
        .route("/api/database/performance/{tenant_id}", get(database::performance))
        .route("/api/database/slow-queries/{tenant_id}", get(database::slow_queries))
        .route("/api/database/optimize/{tenant_id}", post(database::optimize::optimize))
        .route("/api/database/optimize-all", post(database::optimize::optimize_all))
        .route("/api/database/jobs/{job_id}", get(database::optimize::job))
        .route("/api/database/plans/{tenant_id}", get(database::plans::list))
        .route("/api/database/plans/{tenant_id}/{plan_id}/approve", post(database::plans::approve))
        .route("/api/database/plans/{tenant_id}/{plan_id}/apply", post(database::plans::apply))
        .route("/api/database/plans/{tenant_id}/{plan_id}/rollback", post(database::plans::rollback))
        .route("/api/database/pgbouncer", get(bouncer::read))
        .route("/api/alerts", get(alerts::list))
        .route("/api/alerts/rules/{name}", put(alerts::change_rule))
        .route("/api/alerts/webhooks/{name}", put(alerts::put_webhook).delete(alerts::remove_webhook))
        .route("/api/alerts/webhooks/{name}/test", post(alerts::test_webhook))
        .route("/api/tenants", get(tenants::list))
        .route("/api/tenants/{tenant_id}", get(tenants::read).put(tenants::put).delete(tenants::remove))
        .route("/api/tenants/{tenant_id}/business-metrics", get(business::list))
        .route(
            "/api/tenants/{tenant_id}/business-metrics/{name}",
            get(business::read).put(business::put).delete(business::remove),
        )
        .route("/monitoring/version", get(monitoring::version))
        .route("/monitoring/health", get(monitoring::health))
        .route("/monitoring/health/detailed", get(monitoring::detailed))
        .route("/health/detailed", get(monitoring::detailed))
        .route("/monitoring/status", get(status::machine))
        .route("/monitoring/database/status", get(status::databases))
        .route("/monitoring/metrics", get(status::figures))
        .route("/monitoring/performance/summary", get(performance::summary))
        .route("/performance", get(performance::durations))
        .route("/security", get(overview::security))
        .route("/metrics", get(monitoring::prometheus))
        .route("/openapi.json", get(openapi::document))
        .fallback(async || Problem::of_status(StatusCode::NOT_FOUND))
        .layer(middleware::from_fn_with_state(api.clone(), auth::authenticate));
    open.merge(closed)
        .method_not_allowed_fallback(async || Problem::of_status(StatusCode::METHOD_NOT_ALLOWED))
        .layer(middleware::from_fn_with_state(envelope, envelope::wrap))
        .with_state(api)
}
