//! The trail to a collector, as it grows: through outages, refusals and kills, everything arrives; and figures.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use portcullis_export::proto::metrics::{Data, MetricsRequest};
use portcullis_export::proto::{Any, AnyValue, ExportRequest, KeyValue, LogRecord};
use portcullis_server::clock::Clock;
use portcullis_server::export::Places;
use prost::Message;

use crate::commands::{Serving, portcullis};
use crate::support::{Running, Store, eventually, record, start_time, try_send};

/// A collector that remembers records by their uid, and how often each came.
#[derive(Clone, Default)]
struct Collector {
    seen: Arc<Mutex<BTreeMap<String, (usize, LogRecord)>>>,
    /// What it answers instead of 200.
    status: Arc<AtomicU16>,
    /// A record of this path makes it refuse the whole request.
    poison: Arc<Mutex<Option<String>>>,
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/v1/logs", post(Self::take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (collector, url)
    }

    async fn take(State(collector): State<Self>, body: Bytes) -> StatusCode {
        let request = ExportRequest::decode(body).unwrap();
        let records = request.resource_logs.into_iter().flat_map(|logs| logs.scope_logs);
        let records: Vec<LogRecord> = records.flat_map(|logs| logs.log_records).collect();
        let nothing = records.is_empty();
        match collector.status.load(Ordering::Relaxed) {
            // What a proxy before it may say to anything, a request without records too.
            status @ 300..=599 => return StatusCode::from_u16(status).unwrap(),
            // Reads requests, and refuses each record.
            picky @ 1 if !nothing => return StatusCode::from_u16(399 + picky).unwrap(),
            _ => {}
        }
        let poison = collector.poison.lock().unwrap().clone();
        if poison.is_some_and(|poison| records.iter().any(|record| uid(record) == poison)) {
            return StatusCode::BAD_REQUEST;
        }
        let mut seen = collector.seen.lock().unwrap();
        for record in records {
            seen.entry(uid(&record)).or_insert((0, record)).0 += 1;
        }
        StatusCode::OK
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn uids(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().keys().cloned().collect()
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Any> {
    attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}

fn uid(record: &LogRecord) -> String {
    match attribute(&record.attributes, "log.record.uid") {
        Some(Any::String(uid)) => uid.clone(),
        other => panic!("{other:?}"),
    }
}

/// Down a path of names.
fn at<'a>(value: &'a AnyValue, path: &[&str]) -> Option<&'a Any> {
    let any = value.value.as_ref()?;
    let Some((first, rest)) = path.split_first() else { return Some(any) };
    let Any::Object(object) = any else { return None };
    at(object.values.iter().find(|pair| pair.key == *first)?.value.as_ref()?, rest)
}

async fn started(url: &str) -> Running {
    let places = Places { otlp_url: Some(url.to_owned()), ..Places::default() };
    Running::started_with(Store::Sqlite, |settings| settings.exports = places).await
}

async fn metric(running: &Running, name: &str) -> u64 {
    let text = running.get("/metrics", Some(&running.admin())).await.body;
    let line =
        text.lines().find(|line| line.starts_with(&format!("portcullis_export_{name}{{export=\"otlp\"}}")));
    line.unwrap_or_else(|| panic!("{name}\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_a_collector_through_its_outage_and_the_lag_is_told() {
    let (collector, url) = Collector::start().await;
    collector.answer(503);
    let running = started(&url).await;
    let batch: Vec<_> = (0..50).map(|n| record("acme", n, "ATTACK_BLOCKED", "WARNING")).collect();
    assert_eq!(running.ingest(&batch).await.status, 200);
    eventually(async || metric(&running, "failures_total").await > 1).await;
    assert!(metric(&running, "lag_records").await >= 50 && metric(&running, "held_records").await >= 50);
    collector.answer(0);
    eventually(async || collector.uids().len() >= 50).await;
    eventually(async || metric(&running, "lag_records").await == 0).await;
    assert_eq!((metric(&running, "held_records").await, metric(&running, "rejected_total").await), (0, 0));
    let seen = collector.seen.lock().unwrap();
    let (_, first) = seen.values().find(|(_, record)| record.severity_number == 13).unwrap();
    let body = first.body.as_ref().unwrap();
    let text = |path: &[&str]| match at(body, path) {
        Some(Any::String(text)) => text.clone(),
        other => panic!("{path:?}: {other:?}"),
    };
    assert_eq!(at(body, &["class_uid"]), Some(&Any::Int(4002)));
    assert_eq!(at(body, &["http_response", "code"]), Some(&Any::Int(403)));
    assert_eq!(text(&["metadata", "tenant_uid"]), "acme");
    assert!(text(&["metadata", "correlation_uid"]).starts_with("corr-"));
    assert_eq!(text(&["http_request", "url", "path"]), "/login");
    assert_eq!(text(&["unmapped", "portcullis", "event_type"]), "ATTACK_BLOCKED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_left_out_or_go_along_as_ciphertext_that_their_tenants_key_opens() {
    let folder = tempfile::tempdir().unwrap();
    let serve = ["serve", "--demonstration", "--port", "0", "--ingest-port", "0"];
    let sealed = async |variables: &[(&str, &str)], number: u64| {
        let (collector, url) = Collector::start().await;
        let variables = [&[("EXPORT_OTLP_URL", url.as_str())], variables].concat();
        let serving = Serving::start(portcullis(folder.path(), &serve).envs(variables));
        let ingest = serving.ready["ingest"].as_str().unwrap().parse().unwrap();
        let token = std::fs::read_to_string(folder.path().join("ingest-token")).unwrap();
        let line = record("acme", number, "REQUEST", "INFO").to_string();
        assert_eq!(deliver(ingest, &token, &line).await.status, 200);
        let uid = format!("{}-{number}", crate::support::EPOCH);
        eventually(async || collector.uids().contains(&uid)).await;
        let seen = collector.seen.lock().unwrap();
        let (_, record) = &seen[&uid];
        let shown = format!("{record:?}");
        assert!(["alice", "10.0.0.1", "curl/8"].iter().all(|person| !shown.contains(person)), "{shown}");
        match at(record.body.as_ref().unwrap(), &["unmapped", "portcullis", "personal_sealed"]) {
            Some(Any::String(sealed)) => Some((uid, sealed.clone())),
            None => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(sealed(&[], 1).await, None);
    let (uid, envelope) = sealed(&[("EXPORT_PERSONAL", "ciphertext")], 2).await.unwrap();
    let open = |record: &str| {
        let mut command = portcullis(folder.path(), &["keys", "open", "acme", "--record", record]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(envelope.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.success().then(|| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    };
    let opened = open(&uid).unwrap();
    assert_eq!(
        (&opened["user_id"], &opened["ip_address"]),
        (&"alice".into(), &"10.0.0.1".into()),
        "{opened}"
    );
    assert_eq!(open(&format!("{}-3", crate::support::EPOCH)), None, "it is that record's alone");
}

async fn deliver(ingest: std::net::SocketAddr, token: &str, body: &str) -> crate::support::Answer {
    let request = format!(
        "POST /v1/ingest HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    try_send(ingest, request.as_bytes()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_refused_is_passed_over_and_the_others_are_not() {
    let (collector, url) = Collector::start().await;
    let batch: Vec<_> = (0..40).map(|n| record("acme", n, "REQUEST", "INFO")).collect();
    let poison = format!("{}-17", crate::support::EPOCH);
    *collector.poison.lock().unwrap() = Some(poison.clone());
    let running = started(&url).await;
    running.ingest(&batch).await;
    eventually(async || metric(&running, "rejected_total").await == 1).await;
    eventually(async || metric(&running, "lag_records").await == 0).await;
    let uids = collector.uids();
    assert_eq!((uids.len(), uids.contains(&poison)), (39, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_at_all_burns_no_record() {
    let batch: Vec<_> = (0..40).map(|n| record("acme", n, "REQUEST", "INFO")).collect();
    // What stands before a collector says, what it says itself to anything, and one that reads requests and refuses each record.
    for status in [308, 405, 415, 400, 1] {
        let (collector, url) = Collector::start().await;
        collector.answer(status);
        let running = started(&url).await;
        running.ingest(&batch).await;
        eventually(async || metric(&running, "failures_total").await > 1).await;
        let told = (metric(&running, "rejected_total").await, metric(&running, "held_records").await);
        assert!(told.0 == 0 && told.1 >= 40, "{status}: {told:?}");
        collector.answer(0);
        eventually(async || collector.uids().len() == 40).await;
        eventually(async || metric(&running, "held_records").await == 0).await;
        assert_eq!(metric(&running, "rejected_total").await, 0, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trail_that_was_taken_back_is_exported_again_whole() {
    let (collector, url) = Collector::start().await;
    collector.answer(503);
    let folder = tempfile::tempdir().unwrap();
    let batch =
        |from: u64| (from..from + 20).map(|n| record("acme", n, "REQUEST", "INFO")).collect::<Vec<_>>();
    let place = crate::support::new_place(Store::Sqlite, folder.path());
    let running = Running::reopen(folder, place, Clock::manual(start_time()), true).await;
    running.ingest(&batch(0)).await;
    let (folder, place, clock) = running.stopped().await;
    // As a backup has it that was taken while records were exported.
    std::fs::write(folder.path().join("audit/cursor-otlp"), "30 30\n").unwrap();
    let places = Places { otlp_url: Some(url), ..Places::default() };
    let running = Running::reopen_with(folder, place, clock, |settings| settings.exports = places).await;
    running.ingest(&batch(20)).await;
    eventually(async || metric(&running, "failures_total").await > 0).await;
    assert!(metric(&running, "held_records").await >= 40);
    collector.answer(0);
    eventually(async || collector.uids().len() == 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_that_is_killed_goes_on_where_it_was() {
    let (collector, url) = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    let serve = ["serve", "--demonstration", "--port", "0", "--ingest-port", "0"];
    let (mut acknowledged, mut next) = (BTreeSet::new(), 0_u64);
    for kill in 0..6_u64 {
        // Every other time the collector is away when the companion dies.
        collector.answer(if kill % 2 == 0 { 503 } else { 0 });
        let serving = Serving::start(portcullis(folder.path(), &serve).env("EXPORT_OTLP_URL", &url));
        let ingest = serving.ready["ingest"].as_str().unwrap().parse().unwrap();
        let token = std::fs::read_to_string(folder.path().join("ingest-token")).unwrap();
        for _ in 0..10 {
            let lines: Vec<String> =
                (next..next + 20).map(|n| record("acme", n, "REQUEST", "INFO").to_string()).collect();
            assert_eq!(deliver(ingest, &token, &lines.join("\n")).await.status, 200);
            acknowledged.extend((next..next + 20).map(|n| format!("{}-{n}", crate::support::EPOCH)));
            next += 20;
        }
        tokio::time::sleep(Duration::from_millis(kill * 53 % 200)).await;
        drop(serving);
    }
    collector.answer(0);
    let serving = Serving::start(portcullis(folder.path(), &serve).env("EXPORT_OTLP_URL", &url));
    eventually(async || acknowledged.is_subset(&collector.uids())).await;
    drop(serving);
    let seen = collector.seen.lock().unwrap();
    let repeated = seen.values().filter(|(times, _)| *times > 1).count();
    println!(
        "{} records acknowledged, {} arrived, {repeated} more than once",
        acknowledged.len(),
        seen.len()
    );
}

/// A collector of figures that remembers what it was sent.
#[derive(Clone, Default)]
struct Figures {
    pushes: Arc<Mutex<Vec<MetricsRequest>>>,
    status: Arc<AtomicU16>,
}

impl Figures {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/v1/metrics", post(Self::take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (collector, url)
    }

    async fn take(State(collector): State<Self>, body: Bytes) -> StatusCode {
        if let status @ 400..=599 = collector.status.load(Ordering::Relaxed) {
            return StatusCode::from_u16(status).unwrap();
        }
        collector.pushes.lock().unwrap().push(MetricsRequest::decode(body).unwrap());
        StatusCode::OK
    }

    /// The newest value of a series without attributes.
    fn value(&self, name: &str) -> Option<f64> {
        let pushes = self.pushes.lock().unwrap();
        let metrics = &pushes.last()?.resource_metrics[0].scope_metrics[0].metrics;
        match metrics.iter().find(|metric| metric.name == name)?.data.as_ref()? {
            Data::Gauge(gauge) => gauge.data_points[0].as_double,
            Data::Sum(sum) => sum.data_points[0].as_double,
            Data::Histogram(histogram) => Some(histogram.data_points[0].count as f64),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_pushed_through_an_outage() {
    let (collector, url) = Figures::start().await;
    collector.status.store(503, Ordering::Relaxed);
    let running = Running::started_with(Store::Sqlite, |settings| {
        settings.exports.metrics = Some((url, Duration::from_millis(200)));
    })
    .await;
    running.add_tenant("acme").await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    let admin = running.admin();
    eventually(async || {
        let text = running.get("/metrics", Some(&admin)).await.body;
        text.lines().any(|line| {
            line.starts_with("portcullis_export_pushes_total{result=\"failed\"}") && !line.ends_with(" 0")
        })
    })
    .await;
    collector.status.store(0, Ordering::Relaxed);
    eventually(async || collector.value("portcullis_trail_records") == Some(1.0)).await;
    assert!(collector.value("portcullis_uptime_seconds").is_some());
    assert!(collector.value("portcullis_api_request_seconds").is_some_and(|count| count >= 1.0));
}
