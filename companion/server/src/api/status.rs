//! `/monitoring/status`, `/monitoring/database/status`, `/monitoring/metrics`: figures of the machine, of the store and of what was counted.
//! For the admin scope: they are about all tenants.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, auth};
use crate::clock::rfc3339;
use crate::http::envelope::json;
use crate::http::problem::Problem;
use crate::monitoring::machine::{Sample, used_percent};
use crate::token::Grant;

/// From here on a figure of the machine is worth a warning.
const WARN_PERCENT: f64 = 90.0;

/// The machine.
#[derive(Serialize, JsonSchema)]
pub struct MachineStatus {
    /// `healthy`, or `degraded` when memory or disk is used to 90 % and more.
    status: &'static str,
    cpu: Cpu,
    memory: Memory,
    disk: Disk,
    uptime_seconds: u64,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Processors. What could not be read is null.
#[derive(Serialize, JsonSchema)]
pub struct Cpu {
    /// 0 to 100, of the whole machine, since the sample before.
    used_percent: Option<f64>,
    /// What this process uses; 100 is one whole processor.
    process_percent: Option<f64>,
    /// Processors that this process may use.
    processors: usize,
    load_1m: Option<f64>,
}

/// Memory.
#[derive(Serialize, JsonSchema)]
pub struct Memory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    used_percent: Option<f64>,
    /// `machine`, or `cgroup` when a container's limit is tighter.
    limited_by: Option<&'static str>,
    /// Resident memory of this process.
    process_bytes: Option<u64>,
}

/// The disk of DATA_DIR.
#[derive(Serialize, JsonSchema)]
pub struct Disk {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    used_percent: Option<f64>,
}

/// The databases.
#[derive(Serialize, JsonSchema)]
pub struct DatabaseStatus {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    store: Store,
    tenants: TenantDatabases,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// The companion's own store.
#[derive(Serialize, JsonSchema)]
pub struct Store {
    /// `sqlite` or `postgresql`.
    kind: &'static str,
    /// How long it took to write and read, at most a second ago.
    probe_ms: f64,
    /// Batches that wait for the writer.
    queue_depth: usize,
    queue_capacity: usize,
    errors: u64,
    /// The mean of the queries since the start; null when there were none.
    query_average_ms: Option<f64>,
    /// Events that the tables do not show yet.
    behind: u64,
}

/// The tenants' own databases.
#[derive(Serialize, JsonSchema)]
pub struct TenantDatabases {
    /// DATABASE_OPTIMIZATION_ENABLED.
    optimization_enabled: bool,
    /// Pools that are known.
    pools: usize,
    /// Connections that are open, of all together.
    connections: usize,
    connections_max: usize,
    /// Who waits for one.
    waiting: usize,
    timeouts: u64,
    slow_statements: u64,
}

/// What was counted since the start.
#[derive(Serialize, JsonSchema)]
pub struct Figures {
    uptime_seconds: u64,
    /// Records from modules.
    records: Records,
    /// Events by type, and in it by severity.
    events: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    audit_trail: TrailFigures,
    store_errors: u64,
    log_lines_lost: u64,
    /// RFC 3339, UTC.
    timestamp: String,
}

/// Records from modules.
#[derive(Serialize, JsonSchema)]
pub struct Records {
    stored: u64,
    duplicate: u64,
    rejected: u64,
}

/// The audit trail.
#[derive(Serialize, JsonSchema)]
pub struct TrailFigures {
    records: u64,
    behind: u64,
    bytes: u64,
}

/// A duration in milliseconds, to the microsecond.
pub fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Looks at the machine on a thread that may wait for a disk.
pub async fn sample(api: &Api) -> Sample {
    let api = api.clone();
    tokio::task::spawn_blocking(move || api.machine.sample()).await.unwrap_or_default()
}

/// Processor, memory, disk.
pub async fn machine(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let sample = sample(&api).await;
    let used = |total, available| tenth(used_percent(total, available));
    let memory = Memory {
        total_bytes: sample.memory.map(|memory| memory.total),
        available_bytes: sample.memory.map(|memory| memory.available),
        used_percent: sample.memory.map(|memory| used(memory.total, memory.available)),
        limited_by: sample.memory.map(|memory| if memory.limited { "cgroup" } else { "machine" }),
        process_bytes: sample.process_memory_bytes,
    };
    let disk = Disk {
        total_bytes: sample.disk.map(|disk| disk.total),
        available_bytes: sample.disk.map(|disk| disk.available),
        used_percent: sample.disk.map(|disk| used(disk.total, disk.available)),
    };
    let full =
        [memory.used_percent, disk.used_percent].into_iter().flatten().any(|used| used >= WARN_PERCENT);
    Ok(json(&MachineStatus {
        status: if full { "degraded" } else { "healthy" },
        cpu: Cpu {
            used_percent: sample.cpu_percent.map(tenth),
            process_percent: sample.process_cpu_percent.map(tenth),
            processors: sample.processors,
            load_1m: sample.load_1m,
        },
        memory,
        disk,
        uptime_seconds: api.started.elapsed().as_secs(),
        timestamp: rfc3339(api.clock.now()),
    }))
}

/// The store.
pub async fn databases(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let probe = api.readiness.check(&api).await;
    let queue = api.storage.queue();
    Ok(json(&DatabaseStatus {
        status: if probe.ready { "healthy" } else { "unhealthy" },
        store: Store {
            kind: api.storage.kind(),
            probe_ms: millis(probe.took),
            queue_depth: queue.depth,
            queue_capacity: queue.capacity,
            errors: api.metrics.storage_errors.value(),
            query_average_ms: api.metrics.query_latency.mean().map(millis),
            behind: api.trail.size().saturating_sub(api.trail.projected()),
        },
        tenants: tenants(&api),
        timestamp: rfc3339(api.clock.now()),
    }))
}

fn tenants(api: &Api) -> TenantDatabases {
    let pools = api.databases.pools().all();
    let (connections, connections_max) = api.databases.pools().open();
    TenantDatabases {
        optimization_enabled: api.databases.enabled(),
        pools: pools.len(),
        connections,
        connections_max,
        waiting: pools.iter().map(|(_, pool)| pool.waiting).sum(),
        timeouts: pools.iter().map(|(_, pool)| pool.timeouts).sum(),
        slow_statements: pools.iter().map(|(_, pool)| pool.slow).sum(),
    }
}

/// What was counted.
pub async fn figures(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, Problem> {
    auth::require_admin(&grant)?;
    let mut events: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (name, severity, count) in api.metrics.events() {
        events.entry(name).or_default().insert(severity.as_str(), count);
    }
    let [stored, duplicate, rejected] = api.metrics.records();
    Ok(json(&Figures {
        uptime_seconds: api.started.elapsed().as_secs(),
        records: Records { stored, duplicate, rejected },
        events,
        audit_trail: TrailFigures {
            records: api.trail.size(),
            behind: api.trail.size().saturating_sub(api.trail.projected()),
            bytes: api.trail.bytes(),
        },
        store_errors: api.metrics.storage_errors.value(),
        log_lines_lost: crate::logging::lost_lines(),
        timestamp: rfc3339(api.clock.now()),
    }))
}
