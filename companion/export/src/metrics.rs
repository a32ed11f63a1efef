//! Figures to a collector over OTLP (`POST /v1/metrics`, protobuf): what `/metrics` tells, pushed instead of asked for.
//!
//! The Prometheus text is read and sent on, so that both say the same: gauges, counters (cumulative, monotonic) and histograms. A line that is
//! none of these is passed over. It deliberately keeps nothing: figures that a collector did not take are told anew the next time, and
//! cumulative ones lose nothing by that. Limits: [`MOST`] series of one push; the rest is counted by whoever pushes.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use prost::{Message, Oneof};

use crate::http::Client;
use crate::proto::{Any, AnyValue, KeyValue, Resource, Scope};
use crate::{AddressError, DeliveryError};

const PORT: u16 = 4318;
const PATH: &str = "/v1/metrics";
const MEDIA_TYPE: &str = "application/x-protobuf";
/// Series of one push.
pub const MOST: usize = 20_000;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// `ExportMetricsServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct MetricsRequest {
    /// By where they come from.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// `ResourceMetrics`.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceMetrics {
    /// Where they come from.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By what measured them.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

/// `ScopeMetrics`.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeMetrics {
    /// What measured them.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// The figures.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// `Metric`.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it counts.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Its points.
    #[prost(oneof = "Data", tags = "5, 7, 9")]
    pub data: Option<Data>,
}

/// `Metric.data`.
#[derive(Clone, PartialEq, Oneof)]
pub enum Data {
    /// What goes up and down.
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    /// What only grows.
    #[prost(message, tag = "7")]
    Sum(Sum),
    /// What is spread.
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

/// `Gauge`.
#[derive(Clone, PartialEq, Message)]
pub struct Gauge {
    /// By attributes.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberPoint>,
}

/// `Sum`.
#[derive(Clone, PartialEq, Message)]
pub struct Sum {
    /// By attributes.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberPoint>,
    /// Since when.
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
    /// Whether it only grows.
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// `Histogram`.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// By attributes.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramPoint>,
    /// Since when.
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
}

/// `NumberDataPoint`.
#[derive(Clone, PartialEq, Message)]
pub struct NumberPoint {
    /// When counting began.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was read.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// The number.
    #[prost(double, optional, tag = "4")]
    pub as_double: Option<f64>,
    /// Of what.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// `HistogramDataPoint`.
#[derive(Clone, PartialEq, Message)]
pub struct HistogramPoint {
    /// When counting began.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was read.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Together.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// In each bucket; one more than bounds.
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    /// Upper bounds.
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
    /// Of what.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
}

/// When counting began and when it was read, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When the process began.
    pub start: u64,
    /// Now.
    pub now: u64,
}

/// Pushes figures to a collector.
pub struct Pusher {
    client: Client,
    path: String,
}

impl Pusher {
    /// To `http(s)://HOST[:4318][/PATH]`, with headers such as an API key's.
    ///
    /// # Errors
    /// The address or a header cannot be.
    pub fn new(url: &str, headers: &[(String, String)]) -> Result<Self, AddressError> {
        let client = Client::new(url, PORT, headers)?;
        let path = match client.address().path.trim_end_matches('/') {
            "" => PATH.to_owned(),
            path if path.ends_with(PATH) => path.to_owned(),
            path => format!("{path}{PATH}"),
        };
        Ok(Self { client, path })
    }

    /// The same, with a file of certificates in PEM that the collector's own must go back to, in place of the system's.
    #[must_use]
    pub fn trusting(mut self, authorities: &Path) -> Self {
        self.client = self.client.trusting(authorities);
        self
    }

    /// Sends a Prometheus text; tells how many series were left out.
    ///
    /// # Errors
    /// The collector did not take it.
    pub async fn push(&mut self, text: &str, span: Span) -> Result<usize, DeliveryError> {
        let (request, left_out) = request(text, span);
        let body = Bytes::from(request.encode_to_vec());
        let sent = self.client.send(Method::POST, &self.path, MEDIA_TYPE, body).await;
        let answer = sent.map_err(DeliveryError::unavailable)?;
        match answer.status {
            200..=299 => Ok(left_out),
            status => Err(DeliveryError::Unavailable {
                reason: format!("the collector answered {status}"),
                retry_after: answer.retry_after,
            }),
        }
    }
}

/// What is known of a name.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    /// Labels as they are written, and what belongs to them.
    points: Vec<(String, Point)>,
}

#[derive(Default)]
struct Point {
    value: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

/// The request for a Prometheus text, and how many series were left out.
#[must_use]
pub fn request(text: &str, span: Span) -> (MetricsRequest, usize) {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut series, mut left_out) = (0_usize, 0_usize);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            if let (Some(what), Some(name), Some(said)) = (words.next(), words.next(), words.next()) {
                let family = families.entry(name.to_owned()).or_default();
                match what {
                    "HELP" => said.clone_into(&mut family.help),
                    "TYPE" => said.clone_into(&mut family.kind),
                    _ => {}
                }
            }
            continue;
        }
        let Some((name, labels, value)) = sample(line) else { continue };
        if series >= MOST {
            left_out = left_out.saturating_add(1);
            continue;
        }
        series = series.saturating_add(1);
        take(&mut families, name, labels, value);
    }
    let metrics = families.into_iter().filter_map(|(name, family)| metric(name, family, span)).collect();
    let scope = Scope { name: "portcullis".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let resource = Resource { attributes: vec![attribute("service.name", "portcullis")] };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics }];
    let all = ResourceMetrics { resource: Some(resource), scope_metrics };
    (MetricsRequest { resource_metrics: vec![all] }, left_out)
}

/// Name, labels and value of a line.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    match series.split_once('{') {
        Some((name, labels)) => Some((name, labels.strip_suffix('}')?, value)),
        None => Some((series, "", value)),
    }
}

fn take(families: &mut BTreeMap<String, Family>, name: &str, labels: &str, value: f64) {
    if let Some(family) = families.get_mut(name).filter(|family| family.kind != "histogram") {
        family.points.push((labels.to_owned(), Point { value, ..Point::default() }));
        return;
    }
    for part in ["_bucket", "_sum", "_count"] {
        let Some(family) = name.strip_suffix(part).and_then(|base| families.get_mut(base)) else { continue };
        let (bound, labels) = match part {
            "_bucket" => bounded(labels),
            _ => (None, labels.to_owned()),
        };
        let place = family.points.iter().position(|(known, _)| *known == labels);
        let place = place.unwrap_or_else(|| {
            family.points.push((labels, Point::default()));
            family.points.len().saturating_sub(1)
        });
        let Some((_, point)) = family.points.get_mut(place) else { return };
        match (part, bound) {
            ("_bucket", Some(bound)) => point.buckets.push((bound, whole(value))),
            ("_sum", _) => point.value = value,
            ("_count", _) => point.count = whole(value),
            _ => {}
        }
    }
}

/// The bound of a bucket, which stands last, and the other labels.
fn bounded(labels: &str) -> (Option<f64>, String) {
    let (others, bound) = labels.rsplit_once("le=\"").unwrap_or((labels, ""));
    let bound = match bound.trim_end_matches('"') {
        "+Inf" => Some(f64::INFINITY),
        number => number.parse().ok(),
    };
    (bound, others.trim_end_matches(',').to_owned())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

fn metric(name: String, family: Family, span: Span) -> Option<Metric> {
    if family.points.is_empty() {
        return None;
    }
    let number = |(labels, point): (String, Point)| NumberPoint {
        start_time_unix_nano: span.start,
        time_unix_nano: span.now,
        as_double: Some(point.value),
        attributes: attributes(&labels),
    };
    let data = match family.kind.as_str() {
        "histogram" => Data::Histogram(Histogram {
            data_points: family.points.into_iter().map(|(labels, point)| spread(&labels, point, span)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
        "counter" => Data::Sum(Sum {
            data_points: family.points.into_iter().map(number).collect(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        _ => Data::Gauge(Gauge { data_points: family.points.into_iter().map(number).collect() }),
    };
    Some(Metric { name, description: family.help, data: Some(data) })
}

/// Buckets of Prometheus hold all that is no larger; those of OTLP what is between two bounds.
fn spread(labels: &str, mut point: Point, span: Span) -> HistogramPoint {
    point.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut before = 0;
    let mut counts: Vec<u64> = Vec::with_capacity(point.buckets.len());
    for (_, so_far) in &point.buckets {
        counts.push(so_far.saturating_sub(before));
        before = *so_far;
    }
    HistogramPoint {
        start_time_unix_nano: span.start,
        time_unix_nano: span.now,
        count: point.count,
        sum: Some(point.value),
        bucket_counts: counts,
        explicit_bounds: point.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
        attributes: attributes(labels),
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Any::String(value.to_owned())) }) }
}

/// `name="value"`, with commas between them; a backslash keeps what follows it from ending the value.
fn attributes(labels: &str) -> Vec<KeyValue> {
    let mut all = Vec::new();
    let mut rest = labels;
    while let Some((name, value)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut chars = value.char_indices();
        let mut end = value.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, other)) => text.push(other),
                    None => {}
                },
                '"' => {
                    end = at.saturating_add(1);
                    break;
                }
                other => text.push(other),
            }
        }
        all.push(attribute(name.trim_start_matches(','), &text));
        rest = value.get(end..).unwrap_or_default();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP up Whether it runs.\n# TYPE up gauge\nup 1\n\
        # HELP events_total Events.\n# TYPE events_total counter\n\
        events_total{type=\"A\",tenant=\"a\\\"b\\\\,c\"} 7\nevents_total{type=\"B\"} 0\n\
        # HELP wait_seconds Waits.\n# TYPE wait_seconds histogram\n\
        wait_seconds_bucket{le=\"0.1\"} 2\nwait_seconds_bucket{le=\"1\"} 5\nwait_seconds_bucket{le=\"+Inf\"} 6\n\
        wait_seconds_sum 4.5\nwait_seconds_count 6\nno sample\n";

    #[test]
    fn each_kind_becomes_its_own() {
        let (request, left_out) = request(TEXT, Span { start: 1, now: 2 });
        assert_eq!(left_out, 0);
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["events_total", "up", "wait_seconds"]);
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
        assert!(sum.is_monotonic && sum.aggregation_temporality == CUMULATIVE);
        assert_eq!(sum.data_points[0].as_double, Some(7.0));
        assert_eq!(sum.data_points[0].attributes, [attribute("type", "A"), attribute("tenant", "a\"b\\,c")]);
        let Some(Data::Gauge(gauge)) = &metrics[1].data else { panic!("{:?}", metrics[1]) };
        assert_eq!((gauge.data_points[0].as_double, metrics[1].description.as_str()), (Some(1.0), "Whether it runs."));
        let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!("{:?}", metrics[2]) };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (6, Some(4.5)));
        assert_eq!((point.bucket_counts.as_slice(), point.explicit_bounds.as_slice()), (&[2, 3, 1][..], &[0.1, 1.0][..]));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
    }

    #[test]
    fn there_is_a_most() {
        let text: String = std::iter::once("# TYPE a gauge\n".to_owned())
            .chain((0..MOST + 5).map(|number| format!("a{{n=\"{number}\"}} 1\n")))
            .collect();
        assert_eq!(request(&text, Span { start: 0, now: 0 }).1, 5);
    }
}
