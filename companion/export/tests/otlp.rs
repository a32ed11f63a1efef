//! OTLP against a server; what arrives there is also decoded by the published schema, in Python.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(
    clippy::disallowed_methods,
    clippy::type_complexity,
    reason = "tests wait, and remember what they saw"
)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use portcullis_export::otlp::Otlp;
use portcullis_export::otlp::metrics::{MOST, Pushed, Pusher, Span};
use portcullis_export::proto::metrics::MetricsRequest;
use portcullis_export::proto::{ExportRequest, ExportResponse, PartialSuccess};
use portcullis_export::{Collector, Delivered, DeliveryError, Record, Severity};
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use xtask::layout::Layout;

/// What a collector got, and what it answers next: a status, and how many it rejects.
#[derive(Clone, Default)]
struct Seen {
    requests: Arc<Mutex<Vec<(String, Option<String>, Bytes)>>>,
    answers: Arc<Mutex<Vec<(u16, i64)>>>,
}

impl Seen {
    async fn start() -> (Self, String) {
        let seen = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let seen = shared.clone();
                let service = service_fn(move |request| seen.clone().answer(request));
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        (seen, url)
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
        let path = request.uri().path().to_owned();
        let key = request.headers().get("api-key").map(|value| value.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await?.to_bytes();
        match path.ends_with("/v1/metrics") {
            true => drop(MetricsRequest::decode(body.clone()).unwrap()),
            false => drop(ExportRequest::decode(body.clone()).unwrap()),
        }
        self.requests.lock().unwrap().push((path, key, body));
        let (status, rejected) = self.answers.lock().unwrap().pop().unwrap_or((200, 0));
        let partial =
            (rejected > 0).then(|| PartialSuccess { rejected, error_message: "too old".to_owned() });
        let body = ExportResponse { partial_success: partial }.encode_to_vec();
        Ok(Response::builder()
            .status(status)
            .header("retry-after", "7")
            .body(Full::new(Bytes::from(body)))
            .unwrap())
    }
}

fn record(index: u64) -> Record {
    Record {
        uid: format!("00000000000000e1-{index}"),
        index,
        time_ms: 1_764_000_000_123,
        tenant: "acme".to_owned(),
        event_type: "ATTACK_BLOCKED".to_owned(),
        severity: Severity::Warning,
        correlation_id: Some("request-1".to_owned()),
        body: json!({"class_uid": 4002, "http_response": {"code": 403}, "list": [1, 2.5, true, null, "é\u{1b}"]}),
    }
}

/// Decodes with the messages that OpenTelemetry publishes, as JSON.
const DECODE: &str = "
import sys
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
request = {'logs': ExportLogsServiceRequest, 'metrics': ExportMetricsServiceRequest}[sys.argv[1]]
print(MessageToJson(request.FromString(sys.stdin.buffer.read()), preserving_proto_field_name=True))
";

fn decoded(kind: &str, bytes: &[u8]) -> Value {
    let python = Layout::of_this_checkout().tools().join("venv/bin/python3");
    let mut child = Command::new(python)
        .args(["-c", DECODE, kind])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python in the virtual environment: `make test` installs it");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the published schema does not read it");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn attribute<'a>(attributes: &'a Value, key: &str) -> &'a Value {
    attributes.as_array().unwrap().iter().find(|pair| pair["key"] == key).map(|pair| &pair["value"]).unwrap()
}

#[tokio::test]
async fn records_arrive_as_the_published_schema_has_them() {
    let (seen, url) = Seen::start().await;
    let headers = [("api-key".to_owned(), "s3cret".to_owned())];
    let mut collector = Otlp::new(&url, &headers, || 42).unwrap();
    let done = collector.deliver(&[record(1), record(2)]).await.unwrap();
    assert_eq!(done, Delivered { rejected: 0, kept: true });
    let (path, key, body) = seen.requests.lock().unwrap()[0].clone();
    assert_eq!((path.as_str(), key.as_deref()), ("/v1/logs", Some("s3cret")));
    let logs = decoded("logs", &body)["resource_logs"][0].clone();
    let service = attribute(&logs["resource"]["attributes"], "service.name");
    assert_eq!(service["string_value"], "portcullis");
    let records = &logs["scope_logs"][0]["log_records"];
    assert_eq!(logs["scope_logs"][0]["scope"]["name"], "portcullis.audit");
    assert_eq!(records.as_array().unwrap().len(), 2);
    let first = &records[0];
    assert_eq!(
        (&first["time_unix_nano"], &first["observed_time_unix_nano"]),
        (&json!("1764000000123000000"), &json!("42"))
    );
    assert_eq!(
        (&first["severity_number"], &first["severity_text"]),
        (&json!("SEVERITY_NUMBER_WARN"), &json!("WARN"))
    );
    for (key, value) in [
        ("event.name", json!({"string_value": "ATTACK_BLOCKED"})),
        ("log.record.uid", json!({"string_value": "00000000000000e1-1"})),
        ("portcullis.tenant", json!({"string_value": "acme"})),
        ("portcullis.correlation_id", json!({"string_value": "request-1"})),
        ("portcullis.index", json!({"int_value": "1"})),
    ] {
        assert_eq!(*attribute(&first["attributes"], key), value, "{key}");
    }
    let body = &first["body"]["kvlist_value"]["values"];
    assert_eq!(*attribute(body, "class_uid"), json!({"int_value": "4002"}));
    let list = &attribute(body, "list")["array_value"]["values"];
    let expected = json!([
        {"int_value": "1"}, {"double_value": 2.5}, {"bool_value": true}, {}, {"string_value": "é\u{1b}"}
    ]);
    assert_eq!(*list, expected);
}

#[tokio::test]
async fn an_answer_says_what_becomes_of_a_delivery() {
    let (seen, url) = Seen::start().await;
    let mut collector = Otlp::new(&format!("{url}/tenant-7"), &[], || 0).unwrap();
    for status in [401, 404, 429, 500, 503] {
        seen.answers.lock().unwrap().push((status, 0));
        match collector.deliver(&[record(1)]).await {
            Err(DeliveryError::Unavailable { retry_after, .. }) => {
                assert_eq!(retry_after, Some(Duration::from_secs(7)))
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    seen.answers.lock().unwrap().push((400, 0));
    assert!(matches!(collector.deliver(&[record(1)]).await, Err(DeliveryError::Refused(_))));
    seen.answers.lock().unwrap().push((200, 1));
    assert_eq!(collector.deliver(&[record(1), record(2)]).await.unwrap().rejected, 1);
    seen.answers.lock().unwrap().push((200, i64::MAX));
    assert_eq!(collector.deliver(&[record(1)]).await.unwrap().rejected, 1, "never more than there are");
    assert!(seen.requests.lock().unwrap().iter().all(|(path, ..)| path == "/tenant-7/v1/logs"));
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_and_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut collector = Otlp::new(&url, &[], || 0).unwrap();
    assert!(matches!(collector.deliver(&[record(1)]).await, Err(DeliveryError::Unavailable { .. })));
    let (_seen, url) = Seen::start().await;
    let mut collector = Otlp::new(&url, &[], || 0).unwrap();
    for _ in 0..3 {
        assert!(collector.deliver(&[record(1)]).await.is_ok(), "over one connection");
    }
}

#[tokio::test]
async fn figures_arrive_as_the_published_schema_has_them() {
    const TEXT: &str = "# HELP up Whether it runs.\n# TYPE up gauge\nup 1\n\
        # HELP events_total Events.\n# TYPE events_total counter\n\
        events_total{type=\"A\",tenant=\"a\\\"b\\\\,c\"} 7\nevents_total{type=\"B\"} 0\n\
        # HELP wait_seconds Waits.\n# TYPE wait_seconds histogram\n\
        wait_seconds_bucket{le=\"0.1\"} 2\nwait_seconds_bucket{le=\"1\"} 5\nwait_seconds_bucket{le=\"+Inf\"} 6\n\
        wait_seconds_sum 4.5\nwait_seconds_count 6\nno sample\n";
    let (seen, url) = Seen::start().await;
    let mut pusher = Pusher::new(&url, &[("api-key".to_owned(), "s3cret".to_owned())]).unwrap();
    let pushed = pusher.push(TEXT, Span { start: 1, now: 2 }).await.unwrap();
    assert_eq!(pushed, Pushed { taken: 4, rejected: 0, left_out: 0 });
    let (path, key, body) = seen.requests.lock().unwrap().pop().unwrap();
    assert_eq!((path.as_str(), key.as_deref()), ("/v1/metrics", Some("s3cret")));
    let told = decoded("metrics", &body);
    let all = &told["resource_metrics"][0];
    assert_eq!(attribute(&all["resource"]["attributes"], "service.name")["string_value"], "portcullis");
    let times = json!({"start_time_unix_nano": "1", "time_unix_nano": "2"});
    let point = |more: Value| {
        let mut point = times.clone();
        point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        point
    };
    let pair = |key: &str, value: &str| json!({"key": key, "value": {"string_value": value}});
    let expected = json!([
        {"name": "up", "description": "Whether it runs.", "gauge": {"data_points": [point(json!({"as_double": 1.0}))]}},
        {"name": "events_total", "description": "Events.", "sum": {
            "data_points": [
                point(json!({"as_double": 7.0, "attributes": [pair("type", "A"), pair("tenant", "a\"b\\,c")]})),
                point(json!({"as_double": 0.0, "attributes": [pair("type", "B")]})),
            ],
            "aggregation_temporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "is_monotonic": true}},
        {"name": "wait_seconds", "description": "Waits.", "histogram": {
            "data_points": [point(json!({
                "count": "6", "sum": 4.5, "bucket_counts": ["2", "3", "1"], "explicit_bounds": [0.1, 1.0]}))],
            "aggregation_temporality": "AGGREGATION_TEMPORALITY_CUMULATIVE"}},
    ]);
    assert_eq!(all["scope_metrics"][0]["metrics"], expected);
}

#[tokio::test]
async fn a_push_is_bounded_and_tells_what_was_not_taken() {
    let (seen, url) = Seen::start().await;
    let mut pusher = Pusher::new(&url, &[]).unwrap();
    let span = Span { start: 0, now: 0 };
    let lines: String = (0..MOST + 5).map(|number| format!("a{{n=\"{number}\"}} 1\n")).collect();
    seen.answers.lock().unwrap().push((200, 3));
    let pushed = pusher.push(&format!("# TYPE a gauge\n{lines}"), span).await.unwrap();
    assert_eq!(pushed, Pushed { taken: u64::try_from(MOST).unwrap() - 3, rejected: 3, left_out: 5 });
    seen.answers.lock().unwrap().push((429, 0));
    match pusher.push("# TYPE a gauge\na 1\n", span).await {
        Err(DeliveryError::Unavailable { retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        other => panic!("{other:?}"),
    }
}
