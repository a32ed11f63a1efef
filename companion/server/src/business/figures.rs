//! Business metrics as Prometheus text: so many series as a server can keep, and what was left out is told.

use std::sync::atomic::Ordering;

use super::Business;
use crate::metrics::{header, put};

/// Metrics that have series of their own, in order of tenant and name.
const SERIES: usize = 500;

impl Business {
    /// The Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        let counters = [
            ("portcullis_business_metric_runs_total", "Runs of business metrics.", self.0.measured.value()),
            (
                "portcullis_business_metric_failures_total",
                "Runs of business metrics that gave no number.",
                self.0.failed.value(),
            ),
        ];
        for (name, help, value) in counters {
            header(out, name, "counter", help);
            put(out, format_args!("{name} {value}"));
        }
        let (values, failing, more) = self.outcomes(|outcomes| {
            let values: Vec<_> = outcomes
                .iter()
                .filter_map(|((tenant, name), (metric, outcome))| {
                    Some((tenant.clone(), name.clone(), metric.unit.clone(), outcome.value?))
                })
                .take(SERIES)
                .collect();
            let failing = outcomes.values().filter(|(_, outcome)| outcome.problem.is_some()).count();
            let numbers = outcomes.values().filter(|(_, outcome)| outcome.value.is_some()).count();
            let more = numbers.saturating_sub(values.len());
            (values, failing, more)
        });
        let gauges = [
            (
                "portcullis_business_metrics_failing",
                "Business metrics whose last run gave no number.",
                failing,
            ),
            (
                "portcullis_business_metrics_without_series",
                "Business metrics beyond those with series.",
                more,
            ),
            (
                "portcullis_business_metrics_unmeasured",
                "Business metrics beyond those that are measured.",
                usize::try_from(self.0.beyond.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
            ),
        ];
        for (name, help, value) in gauges {
            header(out, name, "gauge", help);
            put(out, format_args!("{name} {value}"));
        }
        let name = "portcullis_business_metric";
        header(out, name, "gauge", "What a tenant's business metric gave last.");
        for (tenant, metric, unit, value) in values {
            // A tenant's name has visible ASCII characters only; two of them need an escape here. Other names have none.
            let tenant = tenant.replace('\\', "\\\\").replace('"', "\\\"");
            put(out, format_args!("{name}{{tenant=\"{tenant}\",name=\"{metric}\",unit=\"{unit}\"}} {value}"));
        }
        text
    }
}
