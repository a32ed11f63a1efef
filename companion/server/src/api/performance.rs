//! `/performance` and `/monitoring/performance/summary`: how long answers take, and a score with reasons and remedies.
//! For the admin scope: they are about all tenants.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::status::{millis, sample};
use super::{Api, auth};
use crate::clock::rfc3339;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::monitoring::machine::used_percent;
use crate::monitoring::score::{Figure, Part, RESPONSE_GOAL_MS, Score, part, whole};
use crate::monitoring::window::{self, MINUTES};
use crate::token::Grant;

/// Durations of the last minutes.
#[derive(Serialize, JsonSchema)]
pub struct Durations {
    /// `within_goal`, `too_slow`, or `no_traffic`.
    status: &'static str,
    /// What an average response of the guarded applications is to stay under.
    goal_ms: f64,
    window_seconds: u64,
    /// Responses of the guarded applications, as the modules report them.
    responses: Times,
    /// Answers of the companion's own API.
    api: Times,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Durations, in milliseconds; null when there were none.
#[derive(Serialize, JsonSchema)]
pub struct Times {
    count: u64,
    /// Answered with 500 or more.
    failed: u64,
    average_ms: Option<f64>,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl From<window::Summary> for Times {
    fn from(summary: window::Summary) -> Self {
        let some = |duration| (summary.count > 0).then(|| millis(duration));
        Self {
            count: summary.count,
            failed: summary.failed,
            average_ms: some(summary.average),
            p50_ms: some(summary.p50),
            p95_ms: some(summary.p95),
            p99_ms: some(summary.p99),
        }
    }
}

/// The score.
#[derive(Serialize, JsonSchema)]
pub struct Summary {
    #[serde(flatten)]
    score: Score,
    window_seconds: u64,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Whether an average response keeps its goal.
pub async fn durations(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let responses = api.metrics.responses_window.summary();
    let status = match responses.count {
        0 => "no_traffic",
        _ if millis(responses.average) <= RESPONSE_GOAL_MS => "within_goal",
        _ => "too_slow",
    };
    Ok(json(&Durations {
        status,
        goal_ms: RESPONSE_GOAL_MS,
        window_seconds: MINUTES * 60,
        responses: responses.into(),
        api: api.metrics.answers_window.summary().into(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// The score, its parts, their reasons, and what to do.
pub async fn summary(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let score = score(&api).await;
    Ok(json(&Summary { score, window_seconds: MINUTES * 60, timestamp: rfc3339(api.clock.now()) }))
}

/// The score as it is now.
pub async fn score(api: &Api) -> Score {
    whole(vec![responses(api), errors(api), store(api).await, databases(api), machine(api).await])
}

fn responses(api: &Api) -> Part {
    let seen = api.metrics.responses_window.summary();
    let mut figures = Vec::new();
    if seen.count > 0 {
        let (average, p95) = (millis(seen.average), millis(seen.p95));
        figures.push((
            Figure { value: average, good: RESPONSE_GOAL_MS, bad: RESPONSE_GOAL_MS * 5.0 },
            format!("an average response took {average:.0} ms, the goal is {RESPONSE_GOAL_MS:.0} ms"),
        ));
        figures.push((
            Figure { value: p95, good: 1000.0, bad: 5000.0 },
            format!("95 of 100 responses took at most {p95:.0} ms, the goal is 1000 ms"),
        ));
    }
    part(
        "responses",
        30,
        figures,
        "look at the slowest paths in the events (details.duration_ms), and at the tenants' slow queries",
        "no response was reported in the last minutes",
    )
}

fn errors(api: &Api) -> Part {
    let mut figures = Vec::new();
    for (what, seen) in [
        ("of the guarded applications' responses", api.metrics.responses_window.summary()),
        ("of the companion's own answers", api.metrics.answers_window.summary()),
    ] {
        if seen.count > 0 {
            let percent = used_percent(seen.count, seen.count.saturating_sub(seen.failed));
            let figure = Figure { value: percent, good: 0.1, bad: 5.0 };
            figures.push((figure, format!("{percent:.2} % {what} were errors (500 and more)")));
        }
    }
    part(
        "errors",
        25,
        figures,
        "look for severity ERROR in the events and for lines of level ERROR in the companion's log",
        "nothing was answered in the last minutes",
    )
}

async fn store(api: &Api) -> Part {
    let probe = api.readiness.check(api).await;
    let queue = api.storage.queue();
    let waiting = used_percent(
        u64::try_from(queue.capacity).unwrap_or(u64::MAX),
        u64::try_from(queue.capacity.saturating_sub(queue.depth)).unwrap_or(0),
    );
    let behind = api.trail.size().saturating_sub(api.trail.projected());
    let took = millis(probe.took);
    #[expect(clippy::cast_precision_loss, reason = "a figure of a score")]
    let figures = vec![
        (
            Figure { value: if probe.ready { took } else { f64::INFINITY }, good: 100.0, bad: 3000.0 },
            match probe.ready {
                true => format!("the store took {took:.1} ms to write and read, the goal is 100 ms"),
                false => "the store does not take writes or does not answer reads".to_owned(),
            },
        ),
        (
            Figure { value: waiting, good: 50.0, bad: 100.0 },
            format!("{} of {} places for batches are taken", queue.depth, queue.capacity),
        ),
        (
            Figure { value: behind as f64, good: 10_000.0, bad: 1_000_000.0 },
            format!("{behind} events are in the audit trail and not yet in the tables"),
        ),
        (
            Figure { value: f64::from(u8::from(!api.trail.takes_events())), good: 0.0, bad: 1.0 },
            match api.trail.takes_events() {
                true => "the audit trail takes events".to_owned(),
                false => "the audit trail refuses events".to_owned(),
            },
        ),
    ];
    part(
        "store",
        15,
        figures,
        "look at /monitoring/database/status and the log: the store or its disk is too slow, full or away",
        "",
    )
}

/// The tenants' databases: their connections, and who waits for them.
fn databases(api: &Api) -> Part {
    let pools = api.databases.pools().all();
    let (open, cap) = api.databases.pools().open();
    let lent: usize = pools.iter().map(|(_, pool)| pool.checked_out).sum();
    let waiting: usize = pools.iter().map(|(_, pool)| pool.waiting).sum();
    let mut figures = Vec::new();
    if !pools.is_empty() {
        #[expect(clippy::cast_precision_loss, reason = "a figure of a score")]
        let (used, waiting_for) = (lent as f64 / cap.max(1) as f64 * 100.0, waiting as f64);
        figures.push((
            Figure { value: used, good: 70.0, bad: 100.0 },
            format!("{lent} of {cap} connections to tenants' databases are in use, {open} are open"),
        ));
        figures.push((
            Figure { value: waiting_for, good: 0.0, bad: 100.0 },
            format!("{waiting} wait for a connection"),
        ));
        if let Some((tenant, pool)) = pools.iter().max_by(|a, b| a.1.usage().total_cmp(&b.1.usage())) {
            let percent = pool.usage() * 100.0;
            figures.push((
                Figure { value: percent, good: 80.0, bad: 200.0 },
                format!("{tenant} uses {percent:.0} % of the connections that it may have"),
            ));
        }
    }
    part(
        "databases",
        15,
        figures,
        "find what holds the connections: GET /api/database/slow-queries/{tenant_id}; or raise DATABASE_POOL_SIZE and \
         DATABASE_CONNECTIONS_MAX",
        "no tenant has a database of its own here",
    )
}

async fn machine(api: &Api) -> Part {
    let sample = sample(api).await;
    let mut figures = Vec::new();
    if let Some(percent) = sample.cpu_percent {
        let figure = Figure { value: percent, good: 80.0, bad: 100.0 };
        figures.push((figure, format!("the processors are busy for {percent:.0} % of the time")));
    }
    if let Some(memory) = sample.memory {
        let percent = used_percent(memory.total, memory.available);
        let whose = if memory.limited { "the container's" } else { "the machine's" };
        let figure = Figure { value: percent, good: 85.0, bad: 98.0 };
        figures.push((figure, format!("{percent:.0} % of {whose} memory are used")));
    }
    if let Some(disk) = sample.disk {
        let percent = used_percent(disk.total, disk.available);
        let figure = Figure { value: percent, good: 80.0, bad: 98.0 };
        figures.push((figure, format!("{percent:.0} % of the disk of DATA_DIR are used")));
    }
    part(
        "machine",
        15,
        figures,
        "give it more of what is used up, or less to do: shorten AUDIT_RETENTION for the disk",
        "this system does not tell",
    )
}
