//! Figures to a collector over OTLP (`POST /v1/metrics`): what Prometheus would be told, pushed instead of asked for.
//!
//! The text for Prometheus is read and sent on, so that both say the same: gauges, counters (cumulative, monotonic) and histograms. It
//! deliberately keeps nothing: figures that a collector did not take are told anew the next time, and cumulative ones lose nothing by that. Limits:
//! [`MOST`] points of one push; who pushes is told how many were left out.

use std::path::Path;

use super::exposition::{self, Family, Point};
use super::{Endpoint, attribute, resource, scope};
use crate::proto::KeyValue;
use crate::proto::metrics::{
    Data, Gauge, Histogram, HistogramPoint, Metric, MetricsRequest, NumberPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use crate::{AddressError, DeliveryError};

const METRICS: &str = "/v1/metrics";
/// Points of one push.
pub const MOST: usize = 20_000;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// When counting began and when it was read, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When the process began.
    pub start: u64,
    /// Now.
    pub now: u64,
}

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Points that were sent and taken.
    pub taken: u64,
    /// Points that the collector will not take.
    pub rejected: u64,
    /// Points, or lines of points, beyond [`MOST`].
    pub left_out: u64,
}

/// Pushes figures to a collector.
pub struct Pusher(Endpoint);

impl Pusher {
    /// To `http(s)://HOST[:4318][/PATH]`, with headers such as an API key's.
    ///
    /// # Errors
    /// The address or a header cannot be.
    pub fn new(url: &str, headers: &[(String, String)]) -> Result<Self, AddressError> {
        Ok(Self(Endpoint::new(url, headers, METRICS)?))
    }

    /// The same, with a file of certificates in PEM that the collector's own must go back to, in place of the system's.
    #[must_use]
    pub fn trusting(self, authorities: &Path) -> Self {
        Self(self.0.trusting(authorities))
    }

    /// Sends the text for Prometheus.
    ///
    /// # Errors
    /// The collector did not take it.
    pub async fn push(&mut self, text: &str, span: Span) -> Result<Pushed, DeliveryError> {
        let (families, left_out) = exposition::read(text, MOST);
        let count = families.iter().map(|family| family.points.len()).sum();
        let rejected = self.0.post(&request(families, span), count).await?;
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Pushed { taken: number(count).saturating_sub(rejected), rejected, left_out: number(left_out) })
    }
}

fn request(families: Vec<Family<'_>>, span: Span) -> MetricsRequest {
    let told = families.into_iter().filter(|family| !family.points.is_empty());
    let metrics = told.map(|family| metric(family, span)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope("portcullis.metrics")), metrics }];
    MetricsRequest { resource_metrics: vec![ResourceMetrics { resource: Some(resource()), scope_metrics }] }
}

fn metric(family: Family<'_>, span: Span) -> Metric {
    let points = family.points.into_iter();
    let data = match family.kind {
        "histogram" => Data::Histogram(Histogram {
            data_points: points.map(|point| spread(point, span)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
        "counter" => Data::Sum(Sum {
            data_points: points.map(|point| number(&point, span)).collect(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        _ => Data::Gauge(Gauge { data_points: points.map(|point| number(&point, span)).collect() }),
    };
    Metric { name: family.name.to_owned(), description: family.help.to_owned(), data: Some(data) }
}

fn number(point: &Point<'_>, span: Span) -> NumberPoint {
    NumberPoint {
        start_time_unix_nano: span.start,
        time_unix_nano: span.now,
        as_double: Some(point.value),
        attributes: attributes(point.labels),
    }
}

/// Buckets of Prometheus hold all that is no larger; those of OTLP what is between two bounds.
fn spread(mut point: Point<'_>, span: Span) -> HistogramPoint {
    point.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut before = 0;
    let mut bucket_counts = Vec::with_capacity(point.buckets.len());
    for (_, so_far) in &point.buckets {
        bucket_counts.push(so_far.saturating_sub(before));
        before = before.max(*so_far);
    }
    HistogramPoint {
        start_time_unix_nano: span.start,
        time_unix_nano: span.now,
        // Counters move while they are written down: what the buckets hold is what makes a point whole.
        count: before,
        sum: Some(point.value),
        bucket_counts,
        explicit_bounds: point
            .buckets
            .iter()
            .map(|(bound, _)| *bound)
            .filter(|bound| bound.is_finite())
            .collect(),
        attributes: attributes(point.labels),
    }
}

fn attributes(labels: &str) -> Vec<KeyValue> {
    exposition::labels(labels).iter().map(|(name, value)| attribute(name, value)).collect()
}
