//! The machine: CPU, memory and the disk of DATA_DIR, as a container sees them.
//!
//! Read from `/proc`, the control group and `statvfs`. A crate for this (sysinfo) brings some thirty others for systems that the
//! companion does not run on. Figures of the processor are means since the sample before, which is at least a second old.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::monotonic;
use crate::metrics::{header, put};

/// A sample counts for so long: a flood of questions reads the files once a second.
const SAMPLE_LIFE: Duration = Duration::from_secs(1);
/// Where a container's limits stand: control groups of version 2, then of version 1.
const MEMORY_LIMITS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
];

/// What the machine has and what of it is used. A figure that could not be read is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// 0 to 100, of all processors.
    pub cpu_percent: Option<f64>,
    /// What this process uses; 100 is one whole processor.
    pub process_cpu_percent: Option<f64>,
    /// Processors that this process may use, quotas counted.
    pub processors: usize,
    /// Processes that wanted to run in the last minute, on average.
    pub load_1m: Option<f64>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Resident memory of this process, in bytes.
    pub process_memory_bytes: Option<u64>,
    /// The disk of DATA_DIR.
    pub disk: Option<Disk>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What may be used.
    pub total: u64,
    /// What may be used still.
    pub available: u64,
    /// Whether a control group sets the limit, not the machine.
    pub limited: bool,
}

/// A disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub total: u64,
    /// What this user may write still.
    pub available: u64,
}

/// Used parts of 100.
#[must_use]
pub fn used_percent(total: u64, available: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let share = total.saturating_sub(available) as f64 / total as f64;
    share * 100.0
}

impl Sample {
    /// The disk, as Prometheus text; nothing when it could not be read.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Some(disk) = self.disk {
            for (name, help, bytes) in [
                ("portcullis_disk_size_bytes", "Size of the disk of DATA_DIR.", disk.total),
                (
                    "portcullis_disk_available_bytes",
                    "What may be written still to the disk of DATA_DIR.",
                    disk.available,
                ),
            ] {
                header(&mut text, name, "gauge", help);
                put(&mut text, format_args!("{name} {bytes}"));
            }
        }
        text
    }
}

/// Ticks of the processors since the machine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

struct Last {
    at: Instant,
    ticks: Option<Ticks>,
    process_ticks: Option<u64>,
    sample: Sample,
}

/// Looks at the machine.
pub struct Machine {
    data_dir: PathBuf,
    last: Mutex<Option<Last>>,
}

impl Machine {
    /// Of the machine that `data_dir` lies on.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let machine = Self { data_dir: data_dir.to_owned(), last: Mutex::default() };
        // So that the first question has something to compare with.
        let _ = machine.sample();
        machine
    }

    /// The present figures; at most a second old.
    #[must_use]
    pub fn sample(&self) -> Sample {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic();
        if let Some(last) = last.as_ref()
            && now.saturating_duration_since(last.at) < SAMPLE_LIFE
        {
            return last.sample.clone();
        }
        let ticks = read("/proc/stat").as_deref().and_then(ticks);
        let process_ticks = read("/proc/self/stat").as_deref().and_then(process_ticks);
        let elapsed = last.as_ref().map(|last| now.saturating_duration_since(last.at));
        let before = last.as_ref();
        let sample = Sample {
            cpu_percent: before.and_then(|last| last.ticks).zip(ticks).and_then(|(a, b)| share(a, b)),
            process_cpu_percent: before
                .and_then(|last| last.process_ticks)
                .zip(process_ticks)
                .zip(elapsed)
                .and_then(|((a, b), elapsed)| process_share(a, b, elapsed)),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load_1m: read("/proc/loadavg").as_deref().and_then(load),
            memory: memory(),
            process_memory_bytes: read("/proc/self/statm").as_deref().and_then(resident),
            disk: disk(&self.data_dir),
        };
        *last = Some(Last { at: now, ticks, process_ticks, sample: sample.clone() });
        sample
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let all = fields.iter().fold(0_u64, |sum, field| sum.saturating_add(*field));
    let idle = fields.get(3)?.saturating_add(*fields.get(4).unwrap_or(&0));
    Some(Ticks { busy: all.saturating_sub(idle), all })
}

fn share(before: Ticks, after: Ticks) -> Option<f64> {
    let all = after.all.checked_sub(before.all).filter(|ticks| *ticks > 0)?;
    let busy = after.busy.saturating_sub(before.busy).min(all);
    Some(used_percent(all, all.saturating_sub(busy)))
}

/// `utime` and `stime` of `/proc/self/stat`, behind the name, which may hold blanks.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

fn process_share(before: u64, after: u64, elapsed: Duration) -> Option<f64> {
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let seconds = after.saturating_sub(before) as f64 / a_second as f64;
    (!elapsed.is_zero()).then(|| seconds / elapsed.as_secs_f64() * 100.0)
}

fn load(loadavg: &str) -> Option<f64> {
    loadavg.split(' ').next()?.parse().ok()
}

fn resident(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

fn memory() -> Option<Memory> {
    let machine = meminfo(&read("/proc/meminfo")?)?;
    let limit = MEMORY_LIMITS.iter().find_map(|(limit, usage)| {
        // `max` is no limit.
        let limit = read(limit)?.trim().parse::<u64>().ok()?;
        Some((limit, read(usage)?.trim().parse::<u64>().ok()?))
    });
    Some(within(machine, limit))
}

/// The tighter of the machine and its control group (limit and usage).
fn within(machine: Memory, limit: Option<(u64, u64)>) -> Memory {
    match limit {
        Some((limit, usage)) if limit < machine.total => Memory {
            total: limit,
            available: limit.saturating_sub(usage).min(machine.available),
            limited: true,
        },
        _ => machine,
    }
}

fn meminfo(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total: field("MemTotal:")?, available: field("MemAvailable:")?, limited: false })
}

fn disk(path: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(Disk {
        total: found.f_blocks.saturating_mul(found.f_frsize),
        available: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let before = ticks("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n").unwrap();
        let after = ticks("cpu  150 0 125 715 110 0 0 0 0 0\n").unwrap();
        assert_eq!((before, share(before, after)), (Ticks { busy: 200, all: 1000 }, Some(75.0)));
        assert_eq!(share(after, after), None, "no time has passed");
        assert_eq!(ticks("intr 5"), None);
        let line = "7 (a (b) c) S 1 1 1 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 9 0 5";
        assert_eq!(process_ticks(line), Some(42));
        assert_eq!(process_ticks("7 (a"), None);
        let text = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     400 kB\n";
        let machine = meminfo(text).unwrap();
        assert_eq!(machine, Memory { total: 1_024_000, available: 409_600, limited: false });
        assert_eq!(within(machine, Some((500_000, 300_000))).available, 200_000);
        assert!(!within(machine, Some((u64::MAX, 5))).limited, "version 1 says so for no limit");
        assert_eq!(load("0.52 0.1 0.0 1/2 3"), Some(0.52));
    }

    #[test]
    fn this_machine_has_figures() {
        let machine = Machine::new(&std::env::temp_dir());
        let sample = machine.sample();
        let (memory, disk) = (sample.memory.unwrap(), sample.disk.unwrap());
        assert!(memory.available <= memory.total && memory.total > 1 << 20, "{memory:?}");
        assert!(disk.available <= disk.total && disk.total > 0, "{disk:?}");
        assert!(sample.process_memory_bytes.unwrap() > 1 << 16 && sample.processors > 0);
        assert_eq!(machine.sample(), sample, "within a second nothing is read again");
    }
}
