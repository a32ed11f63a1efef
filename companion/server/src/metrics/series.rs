//! Counters and histograms, and how Prometheus is told of them (exposition format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in buckets from 0.5 ms to 5 s.
#[derive(Default)]
pub struct Histogram {
    buckets: [Counter; Self::BOUNDS.len()],
    count: Counter,
    sum_us: Counter,
}

impl Histogram {
    /// Upper bounds in microseconds, and as Prometheus writes them.
    const BOUNDS: [(u64, &'static str); 12] = [
        (500, "0.0005"),
        (1_000, "0.001"),
        (2_500, "0.0025"),
        (5_000, "0.005"),
        (10_000, "0.01"),
        (25_000, "0.025"),
        (50_000, "0.05"),
        (100_000, "0.1"),
        (250_000, "0.25"),
        (500_000, "0.5"),
        (1_000_000, "1"),
        (5_000_000, "5"),
    ];

    /// Counts one duration.
    pub fn observe(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        for (bucket, (bound, _)) in self.buckets.iter().zip(Self::BOUNDS) {
            if micros <= bound {
                bucket.add(1);
            }
        }
        self.count.add(1);
        self.sum_us.add(micros);
    }

    /// The mean; `None` when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_us.value().checked_div(self.count.value()).map(Duration::from_micros)
    }

    /// Appends its series.
    pub fn render(&self, text: &mut String, name: &str, help: &str) {
        header(text, name, "histogram", help);
        for (bucket, (_, bound)) in self.buckets.iter().zip(Self::BOUNDS) {
            put(text, format_args!("{name}_bucket{{le=\"{bound}\"}} {}", bucket.value()));
        }
        put(text, format_args!("{name}_bucket{{le=\"+Inf\"}} {}", self.count.value()));
        let sum = Duration::from_micros(self.sum_us.value()).as_secs_f64();
        put(text, format_args!("{name}_sum {sum}"));
        put(text, format_args!("{name}_count {}", self.count.value()));
    }
}

/// Appends a counter with a label.
pub fn labelled(
    out: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
    counters: &[&Counter],
) {
    header(out, name, "counter", help);
    for (value, counter) in values.iter().zip(counters) {
        put(out, format_args!("{name}{{{label}=\"{value}\"}} {}", counter.value()));
    }
}

/// Appends what a series is.
pub fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    put(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

/// Appends a line.
pub fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = out.write_fmt(line);
    out.push('\n');
}
