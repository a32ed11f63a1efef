//! Counters of the companion, as Prometheus text (exposition format 0.0.4).
//!
//! Label sets are fixed at compile time: no tenant, user or path of a client becomes a label, so that the
//! number of series has a bound whatever arrives.

mod series;

use std::time::Duration;

use crate::event::{EventType, Severity};
use crate::monitoring::window::Window;
use crate::storage::{Outcome, QueueState};
pub use series::{Counter, Histogram, header, labelled, put};

/// Routes that have a series of their own; every other path is `other`.
const ROUTES: [&str; 25] = [
    "/api/security/status",
    "/api/security/events/{tenant_id}",
    "/api/security/metrics/{tenant_id}",
    "/api/security/policies/{tenant_id}",
    "/api/security/encrypt",
    "/api/security/decrypt",
    "/api/security/keys/{tenant_id}",
    "/monitoring/liveness",
    "/monitoring/readiness",
    "/monitoring/version",
    "/health/detailed",
    "/monitoring/performance/summary",
    "/api/database/performance/{tenant_id}",
    "/api/database/slow-queries/{tenant_id}",
    "/api/database/optimize/{tenant_id}",
    "/metrics",
    "/openapi.json",
    "/api/security/rate-limit/check",
    "/reports/{tenant_id}",
    "/v1/ingest",
    "/v1/leases",
    "/v1/policies",
    "/v1/ext-authz/{*path}",
    "/envoy.service.auth.v3.Authorization/Check",
    "other",
];
const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
const GAP_CAUSES: [&str; 2] = ["overflow", "vm-died"];
const TYPES: usize = EventType::KNOWN.len() + 1;

/// All counters. Shared by every part; cheap to count on.
#[derive(Default)]
pub struct Metrics {
    /// Batches stored.
    pub batches_stored: Counter,
    /// Batches refused as a whole: token, size, shape.
    pub batches_refused: Counter,
    /// Batches that the store did not take; the sender comes again.
    pub batches_failed: Counter,
    stored: Counter,
    duplicates: Counter,
    rejected: Counter,
    events: [[Counter; 3]; TYPES],
    gaps: [Counter; 2],
    missing: [Counter; 2],
    /// How long a query took.
    pub query_latency: Histogram,
    /// Rows that grew older than the retention and were removed.
    pub expired: Counter,
    /// Answers of the store that were errors.
    pub storage_errors: Counter,
    /// Browsers' reports that were stored.
    pub browser_reports_stored: Counter,
    /// Browsers' reports that were told before.
    pub browser_reports_repeated: Counter,
    /// Browsers' reports beyond what a tenant may have, or what can be remembered.
    pub browser_reports_excess: Counter,
    /// Browsers' reports of tenants that do not exist.
    pub browser_reports_refused: Counter,
    /// Browsers' reports that the audit trail did not take.
    pub browser_reports_failed: Counter,
    answers: [[Counter; 4]; ROUTES.len()],
    answer_latency: Histogram,
    /// The API's answers of the last minutes; those of 500 and more failed.
    pub answers_window: Window,
    /// The guarded applications' responses of the last minutes, as modules report them; those of 500 and more failed.
    pub responses_window: Window,
}

/// What a counter must know of an event after the event is gone.
#[derive(Clone, Copy)]
pub struct EventLabels {
    event_type: usize,
    severity: Severity,
    gap: Option<usize>,
    /// How long the guarded application took, in milliseconds, and whether it failed.
    response: Option<(u64, bool)>,
}

impl EventLabels {
    /// The labels of `event`.
    #[must_use]
    pub fn of(event: &crate::event::Event) -> Self {
        let known = EventType::KNOWN.iter().position(|name| *name == event.event_type.as_str());
        let gap =
            event.gap.as_ref().and_then(|gap| GAP_CAUSES.iter().position(|cause| *cause == gap.cause()));
        let number = |name: &str| event.details.get(name).and_then(serde_json::Value::as_u64);
        let is_response = event.event_type.as_str() == EventType::REQUEST;
        let response = number("duration_ms")
            .filter(|_| is_response)
            .map(|millis| (millis, number("status").is_some_and(|status| status >= 500)));
        Self { event_type: known.unwrap_or(EventType::KNOWN.len()), severity: event.severity, gap, response }
    }
}

impl Metrics {
    /// Counts what became of one event when it reached the tables.
    pub fn ingested(&self, labels: EventLabels, outcome: Outcome) {
        let missing = match outcome {
            Outcome::Duplicate => return self.duplicates.add(1),
            Outcome::Stored => None,
            Outcome::GapStored { missing } => Some(missing),
        };
        self.stored.add(1);
        if let Some((millis, failed)) = labels.response {
            self.responses_window.observe(Duration::from_millis(millis), failed);
        }
        let severity = Severity::ALL.iter().position(|severity| *severity == labels.severity);
        let series = self.events.get(labels.event_type).zip(severity).and_then(|(row, at)| row.get(at));
        if let Some(counter) = series {
            counter.add(1);
        }
        if let (Some(missing), Some(cause)) = (missing, labels.gap) {
            if let Some(counter) = self.gaps.get(cause) {
                counter.add(1);
            }
            if let Some(counter) = self.missing.get(cause) {
                counter.add(missing);
            }
        }
    }

    /// Counts records that came a short while ago already.
    pub fn duplicates(&self, records: u64) {
        self.duplicates.add(records);
    }

    /// Counts lines that were not records.
    pub fn rejected(&self, lines: u64) {
        self.rejected.add(lines);
    }

    /// Counts an answer. `route` is the route's pattern, never the client's path.
    pub fn answered(&self, listener: &'static str, route: Option<&str>, status: u16, elapsed: Duration) {
        let route = route
            .and_then(|route| ROUTES.iter().position(|known| *known == route))
            .unwrap_or(ROUTES.len() - 1);
        let class = usize::from(status / 100).saturating_sub(2).min(STATUS_CLASSES.len() - 1);
        if let Some(counter) = self.answers.get(route).and_then(|row| row.get(class)) {
            counter.add(1);
        }
        if listener == "api" {
            self.answer_latency.observe(elapsed);
            self.answers_window.observe(elapsed, status >= 500);
        }
    }

    /// Events stored since the start, by type and severity.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, Severity, u64)> {
        let names = EventType::KNOWN.iter().copied().chain(["other"]);
        names.zip(&self.events).flat_map(|(name, row)| {
            let counts = Severity::ALL.into_iter().zip(row);
            counts.map(move |(severity, counter)| (name, severity, counter.value()))
        })
    }

    /// Records from modules since the start: stored, delivered twice, rejected.
    #[must_use]
    pub fn records(&self) -> [u64; 3] {
        [&self.stored, &self.duplicates, &self.rejected].map(Counter::value)
    }

    /// The Prometheus text.
    #[must_use]
    pub fn render(&self, queue: QueueState, uptime: Duration) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let out = &mut text;
        header(out, "portcullis_build_info", "gauge", "The release that runs.");
        put(out, format_args!("portcullis_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        header(out, "portcullis_uptime_seconds", "gauge", "Seconds since the start.");
        put(out, format_args!("portcullis_uptime_seconds {}", uptime.as_secs()));
        const LOST: &str = "portcullis_log_lines_lost_total";
        header(out, LOST, "counter", "Lines that the log's file did not take.");
        put(out, format_args!("{LOST} {}", crate::logging::lost_lines()));

        let batches = [&self.batches_stored, &self.batches_refused, &self.batches_failed];
        labelled(
            out,
            "portcullis_ingest_batches_total",
            "Batches from modules, by result.",
            "result",
            &["stored", "refused", "failed"],
            &batches,
        );
        let records = [&self.stored, &self.duplicates, &self.rejected];
        labelled(
            out,
            "portcullis_ingest_records_total",
            "Records from modules, by result.",
            "result",
            &["stored", "duplicate", "rejected"],
            &records,
        );
        let reports = [
            &self.browser_reports_stored,
            &self.browser_reports_repeated,
            &self.browser_reports_excess,
            &self.browser_reports_refused,
            &self.browser_reports_failed,
        ];
        labelled(
            out,
            "portcullis_browser_reports_total",
            "Reports of browsers, by result.",
            "result",
            &["stored", "repeated", "excess", "refused", "failed"],
            &reports,
        );
        labelled(
            out,
            "portcullis_audit_gaps_total",
            "Reports of lost records, by cause.",
            "cause",
            &GAP_CAUSES,
            &self.gaps.each_ref(),
        );
        labelled(
            out,
            "portcullis_audit_records_missing_total",
            "Records that are really missing, by cause.",
            "cause",
            &GAP_CAUSES,
            &self.missing.each_ref(),
        );
        self.render_events(out);

        self.query_latency.render(out, "portcullis_store_query_seconds", "Time of a query.");
        header(out, "portcullis_store_errors_total", "counter", "Errors of the store.");
        put(out, format_args!("portcullis_store_errors_total {}", self.storage_errors.value()));
        header(out, "portcullis_store_expired_total", "counter", "Rows removed because of their age.");
        put(out, format_args!("portcullis_store_expired_total {}", self.expired.value()));
        header(out, "portcullis_store_queue_depth", "gauge", "Batches that wait for the writer.");
        put(out, format_args!("portcullis_store_queue_depth {}", queue.depth));
        header(out, "portcullis_store_queue_capacity", "gauge", "Batches that may wait.");
        put(out, format_args!("portcullis_store_queue_capacity {}", queue.capacity));
        self.render_answers(out);
        self.answer_latency.render(out, "portcullis_api_request_seconds", "Time of an answer of the API.");
        text
    }

    fn render_events(&self, out: &mut String) {
        header(
            out,
            "portcullis_events_total",
            "counter",
            "Events stored since the start, by type and severity.",
        );
        for (name, severity, value) in self.events() {
            let severity = severity.as_str();
            put(
                out,
                format_args!("portcullis_events_total{{type=\"{name}\",severity=\"{severity}\"}} {value}"),
            );
        }
    }

    fn render_answers(&self, out: &mut String) {
        header(
            out,
            "portcullis_http_answers_total",
            "counter",
            "Answers of both listeners, by route and status.",
        );
        for (route, row) in ROUTES.iter().zip(&self.answers) {
            for (class, counter) in STATUS_CLASSES.iter().zip(row) {
                let value = counter.value();
                put(
                    out,
                    format_args!(
                        "portcullis_http_answers_total{{route=\"{route}\",status=\"{class}\"}} {value}"
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_series_is_fixed() {
        let metrics = Metrics::default();
        let queue = QueueState { depth: 3, capacity: 64 };
        let before = metrics.render(queue, Duration::ZERO);
        for index in 0..1000 {
            metrics.answered("api", Some(&format!("/{index}")), 404, Duration::from_millis(index));
        }
        let after = metrics.render(queue, Duration::from_secs(7));
        assert_eq!(before.lines().count(), after.lines().count());
        assert!(after.contains("portcullis_http_answers_total{route=\"other\",status=\"4xx\"} 1000"));
        assert!(after.contains("portcullis_store_queue_depth 3\n"));
        assert!(after.contains("portcullis_api_request_seconds_bucket{le=\"0.1\"} 101\n"));
        assert!(after.contains("portcullis_api_request_seconds_count 1000\n"));
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let text = Metrics::default().render(QueueState { depth: 0, capacity: 1 }, Duration::ZERO);
        for line in text.lines() {
            let sample = line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
            assert!(line.starts_with("# ") || sample, "{line}");
        }
    }
}
