//! Health and figures of the companion itself.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, auth};
use crate::clock::{monotonic, rfc3339};
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::token::Grant;
use crate::trail::Trail;

/// How long an answer of the store counts: a flood of open requests costs it one write a second.
const PROBE_LIFE: Duration = Duration::from_secs(1);
/// Until then it is told while the next one is asked for, so that nobody waits for the store as long as somebody asks often.
const PROBE_AFTERLIFE: Duration = Duration::from_secs(2);
/// A store that takes longer is not ready.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The last probe of the store.
#[derive(Default)]
pub struct Readiness {
    last: Mutex<Option<Probe>>,
    /// Held by who asks the store.
    asking: tokio::sync::Mutex<()>,
}

/// What a probe of the store said.
#[derive(Clone, Copy)]
pub struct Probe {
    at: Instant,
    /// Whether it takes writes and answers reads.
    pub ready: bool,
    /// How long it took to say so.
    pub took: Duration,
}

impl Readiness {
    /// Whether the store takes writes and answers reads: now, within the last second, or while the next answer is awaited within the last two.
    pub async fn check(&self, api: &Api) -> Probe {
        if let Some(probe) = self.last(PROBE_LIFE) {
            return probe;
        }
        if let Some(probe) = self.last(PROBE_AFTERLIFE).filter(|probe| probe.ready) {
            let api = api.clone();
            tokio::spawn(async move {
                if let Ok(_asking) = api.readiness.asking.try_lock() {
                    api.readiness.ask(&api).await;
                }
            });
            return probe;
        }
        // Who comes meanwhile waits for the same answer.
        let _asking = self.asking.lock().await;
        match self.last(PROBE_LIFE) {
            Some(probe) => probe,
            None => self.ask(api).await,
        }
    }

    /// The last answer, if it is not older.
    fn last(&self, life: Duration) -> Option<Probe> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|probe| probe.at.elapsed() < life)
    }

    async fn ask(&self, api: &Api) -> Probe {
        let started = monotonic();
        let probe = tokio::time::timeout(PROBE_TIMEOUT, api.storage.probe(api.clock.now())).await;
        let ready = match probe {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(category = "application", %error, "the store is not ready");
                false
            }
            Err(_) => {
                tracing::error!(category = "application", "the store did not answer a probe within 3 s");
                false
            }
        };
        let probe = Probe { at: monotonic(), ready, took: started.elapsed() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
        probe
    }
}

/// A state and nothing else.
#[derive(Serialize, JsonSchema)]
pub struct StateBody {
    status: &'static str,
}

/// The release.
#[derive(Serialize, JsonSchema)]
pub struct Version {
    name: &'static str,
    version: &'static str,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// The state of the whole.
#[derive(Serialize, JsonSchema)]
pub struct Health {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// The state of every part.
#[derive(Serialize, JsonSchema)]
pub struct Detailed {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    checks: Checks,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// The parts.
#[derive(Serialize, JsonSchema)]
pub struct Checks {
    storage: StorageCheck,
    audit_trail: TrailCheck,
}

/// The audit trail.
#[derive(Serialize, JsonSchema)]
pub struct TrailCheck {
    /// `healthy`; `refusing`, when the last events found no room, no key of their tenant, or the disk failed; `waiting`, when the store does not take
    /// what the trail has.
    status: &'static str,
    records: u64,
    /// Records that the tables do not show yet.
    behind: u64,
    bytes: u64,
    /// Batches refused since the start.
    refused: u64,
}

impl TrailCheck {
    fn of(trail: &Trail) -> Self {
        let status = match (trail.takes_events(), trail.is_stalled()) {
            (false, _) => "refusing",
            (true, true) => "waiting",
            (true, false) => "healthy",
        };
        let (records, figures) = (trail.size(), trail.figures());
        let refused =
            [&figures.refused_full, &figures.refused_busy, &figures.refused_keys, &figures.refused_failed];
        Self {
            status,
            records,
            behind: records.saturating_sub(trail.projected()),
            bytes: trail.bytes(),
            refused: refused.iter().map(|counter| counter.value()).sum(),
        }
    }
}

/// The store.
#[derive(Serialize, JsonSchema)]
pub struct StorageCheck {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    queue_depth: usize,
    queue_capacity: usize,
    errors: u64,
}

/// The process answers.
pub async fn liveness() -> Response {
    json(&StateBody { status: "alive" })
}

/// The store takes writes and answers reads.
pub async fn readiness(State(api): State<Api>) -> Response {
    if api.readiness.check(&api).await.ready {
        return json(&StateBody { status: "ready" });
    }
    (StatusCode::SERVICE_UNAVAILABLE, json(&StateBody { status: "unavailable" })).into_response()
}

/// `healthy` or `unhealthy`: the whole, and the store.
async fn state(api: &Api) -> (&'static str, &'static str) {
    let word = |healthy| if healthy { "healthy" } else { "unhealthy" };
    let store = api.readiness.check(api).await.ready;
    let trail = api.trail.takes_events() && !api.trail.is_stalled();
    (word(store && trail), word(store))
}

/// Whether the companion is whole, for any valid token: 503 when it is not, so that a check needs no look at the body.
pub async fn health(State(api): State<Api>) -> Response {
    let (status, _) = state(&api).await;
    let body = json(&Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.started.elapsed().as_secs(),
        timestamp: rfc3339(api.clock.now()),
    });
    match status {
        "healthy" => body,
        _ => (StatusCode::SERVICE_UNAVAILABLE, body).into_response(),
    }
}

/// The release that runs.
pub async fn version(State(api): State<Api>) -> Response {
    json(&Version {
        name: "portcullis",
        version: env!("CARGO_PKG_VERSION"),
        timestamp: rfc3339(api.clock.now()),
    })
}

/// The state of every part, for the admin scope.
pub async fn detailed(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let (status, storage_status) = state(&api).await;
    let audit_trail = TrailCheck::of(&api.trail);
    let queue = api.storage.queue();
    let storage = StorageCheck {
        status: storage_status,
        queue_depth: queue.depth,
        queue_capacity: queue.capacity,
        errors: api.metrics.storage_errors.value(),
    };
    Ok(json(&Detailed {
        status,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.started.elapsed().as_secs(),
        checks: Checks { storage, audit_trail },
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// Prometheus text, for the admin scope: it sums over all tenants.
pub async fn prometheus(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let mut response = api.figures().await.into_response();
    let value = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    Ok(response)
}

impl Api {
    /// All figures, as Prometheus text.
    pub async fn figures(&self) -> String {
        self.metrics.render(self.storage.queue(), self.started.elapsed())
            + &self.trail.render()
            + &crate::export::render(&self.exports, self.trail.size())
            + &self.limits.render()
            + &self.keys.render()
            + &self.databases.render()
            + &self.business.render()
            + &self.alerts.render()
            + &self.bouncer.as_ref().map(crate::bouncer::Bouncer::render).unwrap_or_default()
            + &super::status::sample(self).await.render()
            + &super::performance::score(self).await.render()
            + &self.grpc.as_ref().map(crate::limits::grpc::Service::render).unwrap_or_default()
            + &self.pushes.render()
    }
}
