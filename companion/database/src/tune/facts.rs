//! What the machine, the server and its counters tell.

use std::fs;
use std::path::Path;

use tokio_postgres::Client;

use super::{Facts, Setting};
use crate::Error;
use crate::proof::same_machine;

const SETTINGS: &str = "
SELECT name, current_setting(name), CASE WHEN vartype IN ('integer', 'real') THEN setting::float8 ELSE (setting = 'on')::int::float8 END,
       coalesce(unit, ''), context, coalesce(sourcefile, '') LIKE '%postgresql.auto.conf'
FROM pg_settings WHERE name = ANY ($1)";

/// What the rules look at.
const NAMES: [&str; 23] = [
    "shared_buffers",
    "effective_cache_size",
    "maintenance_work_mem",
    "work_mem",
    "max_wal_size",
    "checkpoint_completion_target",
    "wal_compression",
    "random_page_cost",
    "effective_io_concurrency",
    "max_worker_processes",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "jit",
    "track_io_timing",
    "log_min_duration_statement",
    "log_lock_waits",
    "fsync",
    "full_page_writes",
    "autovacuum",
    "idle_in_transaction_session_timeout",
    "max_connections",
    "wal_buffers",
    "huge_pages",
];

const COUNTED: &str = "
SELECT current_database()::text, current_setting('server_version_num')::int4,
       (SELECT coalesce(sum(pg_database_size(oid)), 0)::int8 FROM pg_database WHERE datallowconn AND has_database_privilege(oid, 'CONNECT')),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       coalesce(sum(temp_bytes), 0)::int8, coalesce(sum(temp_files), 0)::int8,
       coalesce(sum(blks_hit)::float8 / nullif(sum(blks_hit + blks_read), 0), 1)::float8,
       coalesce(extract(epoch FROM now() - min(stats_reset)), 0)::float8
FROM pg_stat_database";

/// Reads what advice rests on. `memory` and `cpus` are told where the server is on another machine; `solid` is whether its disk has no heads.
///
/// # Errors
/// When the server refuses.
pub async fn facts(
    client: &Client,
    memory: Option<u64>,
    cpus: Option<u32>,
    solid: bool,
) -> Result<Facts, Error> {
    // What this session has set for itself is not what others have.
    client.batch_execute("RESET ALL").await?;
    let row = client.query_one(COUNTED, &[]).await?;
    let count = |place: usize| -> Result<u64, Error> {
        Ok(u64::try_from(row.try_get::<_, i64>(place)?).unwrap_or(0))
    };
    let mut facts = Facts {
        database: row.try_get(0)?,
        version: u32::try_from(row.try_get::<_, i32>(1)?).unwrap_or(0),
        bytes: count(2)?,
        sessions: u32::try_from(count(3)?).unwrap_or(u32::MAX),
        spilled: count(4)?,
        spills: count(5)?,
        hits: row.try_get(6)?,
        seconds: row.try_get(7)?,
        solid,
        ..Facts::default()
    };
    for row in client.query(SETTINGS, &[&NAMES.as_slice()]).await? {
        let (value, unit): (f64, String) = (row.try_get(2)?, row.try_get(3)?);
        facts.settings.push(Setting {
            name: row.try_get(0)?,
            shown: row.try_get(1)?,
            value: value * factor(&unit),
            context: row.try_get(4)?,
            altered: row.try_get(5)?,
        });
    }
    let checkpoints = if facts.version >= 170_000 {
        "SELECT num_timed, num_requested FROM pg_stat_checkpointer"
    } else {
        "SELECT checkpoints_timed, checkpoints_req FROM pg_stat_bgwriter"
    };
    let row = client.query_one(checkpoints, &[]).await?;
    facts.timed_checkpoints = u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
    facts.requested_checkpoints = u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or(0);
    let mean = "SELECT sum(total_exec_time) / nullif(sum(calls), 0) FROM pg_stat_statements";
    facts.mean_ms = match client.query_one(mean, &[]).await {
        Ok(row) => row.try_get(0)?,
        Err(error) if error.is_closed() => return Err(error.into()),
        Err(_) => None,
    };
    let here = same_machine(client).await?;
    let machine = here.map(Machine::of_process);
    facts.memory = memory.or(machine.as_ref().map(|machine| machine.memory)).unwrap_or(0);
    facts.cpus = cpus.or(machine.as_ref().map(|machine| machine.cpus)).unwrap_or(0);
    facts.machine = match (&machine, memory.is_some() && cpus.is_some()) {
        (_, true) => "as told".into(),
        (Some(machine), false) => machine.source.into(),
        (None, false) => "the server is on another machine: tell --memory and --cpus".into(),
    };
    Ok(facts)
}

/// Bytes, or what a number is counted in, of `pg_settings.unit`.
fn factor(unit: &str) -> f64 {
    match unit {
        "B" => 1.0,
        "kB" => 1024.0,
        "8kB" => 8192.0,
        "16MB" => 16.0 * 1_048_576.0,
        "MB" => 1_048_576.0,
        _ => 1.0,
    }
}

/// Memory and CPUs that a process may use.
struct Machine {
    memory: u64,
    cpus: u32,
    source: &'static str,
}

impl Machine {
    fn of_process(pid: i32) -> Self {
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text)).unwrap_or(0);
        let all =
            std::thread::available_parallelism().map_or(1, |number| u32::try_from(number.get()).unwrap_or(1));
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let path = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
        let (mut memory, mut cpus, mut limited) = (total, all, false);
        // Every group above limits it too.
        for folder in Path::new(&path).ancestors() {
            let folder = Path::new("/sys/fs/cgroup").join(folder.strip_prefix("/").unwrap_or(folder));
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
            if let Ok(limit) = read("memory.max").trim().parse::<u64>()
                && limit < memory
            {
                (memory, limited) = (limit, true);
            }
            if let Some(limit) = quota(&read("cpu.max"))
                && limit < cpus
            {
                (cpus, limited) = (limit, true);
            }
        }
        Self { memory, cpus, source: if limited { "its cgroup's limits" } else { "this machine" } }
    }
}

/// `MemTotal:       16314712 kB`.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `150000 100000`: one and a half CPUs, so one; never less than one.
fn quota(text: &str) -> Option<u32> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    u32::try_from(quota.checked_div(period)?.max(1)).ok()
}

/// Bytes for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mut number = bytes as f64 / 1024.0;
    let mut unit = "kB";
    for larger in UNITS.iter().skip(1) {
        if number < 1024.0 {
            break;
        }
        number /= 1024.0;
        unit = larger;
    }
    format!("{number:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(meminfo("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(
            (quota("150000 100000"), quota("50000 100000"), quota("max 100000"), quota("")),
            (Some(1), Some(1), None, None)
        );
        assert_eq!(size(3 << 30), "3.0 GB");
        assert!((factor("8kB") - 8192.0).abs() < 1e-9);
    }
}
