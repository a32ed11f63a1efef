//! Alerts to a real receiver: once each, through outages, and nowhere they must not go.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use portcullis_server::alerts::webhook::{Resolve, Resolving, SigningSecret};
use portcullis_server::http::listener::{IDLE, Listener, Terms, serve};
use portcullis_server::settings::Settings;
use portcullis_server::tenant::TenantId;
use serde_json::{Value, json};

use crate::access::certificate;
use crate::support::{Running, Store, eventually, record, tenant_database};

/// A message as it came: headers and body.
type Message = (HeaderMap, Value, Bytes);

/// Somebody who is told.
#[derive(Clone, Default)]
struct Receiver {
    taken: Arc<Mutex<Vec<Message>>>,
    asked: Arc<AtomicUsize>,
    redirected: Arc<AtomicUsize>,
    /// What it answers instead of 200.
    status: Arc<AtomicU16>,
}

impl Receiver {
    fn router(&self) -> axum::Router {
        axum::Router::new()
            .route("/hook", post(Self::take))
            .route("/other", post(Self::elsewhere))
            .with_state(self.clone())
    }

    async fn start(address: &str) -> (Self, SocketAddr) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let at = listener.local_addr().unwrap();
        let router = receiver.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (receiver, at)
    }

    async fn take(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> Response {
        receiver.asked.fetch_add(1, Ordering::Relaxed);
        match receiver.status.load(Ordering::Relaxed) {
            0 => {}
            status @ 300..=399 => {
                return (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, "/other")])
                    .into_response();
            }
            status => return StatusCode::from_u16(status).unwrap().into_response(),
        }
        let read = serde_json::from_slice(&body).unwrap();
        receiver.taken.lock().unwrap().push((headers, read, body));
        StatusCode::NO_CONTENT.into_response()
    }

    async fn elsewhere(State(receiver): State<Self>) -> StatusCode {
        receiver.redirected.fetch_add(1, Ordering::Relaxed);
        StatusCode::OK
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Type, name of the alert, and name of the message, of all that it took.
    fn told(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let taken = self.taken.lock().unwrap();
        taken
            .iter()
            .map(|(headers, body, _)| {
                let id = headers["webhook-id"].to_str().unwrap().to_owned();
                (text(&body["type"]), text(&body["data"]["alert_id"]), id)
            })
            .collect()
    }

    fn types(&self) -> Vec<String> {
        self.told().into_iter().map(|(kind, _, _)| kind).collect()
    }
}

async fn start(change: impl FnOnce(&mut Settings)) -> Running {
    let running = Running::started_with(Store::Sqlite, |settings| {
        settings.alerts.interval = Duration::from_millis(50);
        settings.alerts.window = Duration::from_secs(1);
        settings.alerts.guard.networks = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        without_the_disk(&settings.alerts.file);
        change(settings);
    })
    .await;
    running.add_tenant("acme").await;
    running
}

/// How full the disk of this machine is is no matter of these tests.
fn without_the_disk(file: &Path) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).unwrap();
    file.write_all(br#"{"rules": {"disk_nearly_full": {"enabled": false}}}"#).unwrap();
}

async fn put(running: &Running, path: &str, body: &Value) -> Value {
    let answer = running.send_json("PUT", path, &running.admin(), &body.to_string()).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.body);
    answer.json()
}

async fn rule(running: &Running, name: &str, threshold: f64) {
    let body = json!({"threshold": threshold, "hold_seconds": 0});
    let holds = put(running, &format!("/api/alerts/rules/{name}"), &body).await;
    assert_eq!((&holds["threshold"], &holds["enabled"]), (&threshold.into(), &true.into()));
}

async fn webhook(running: &Running, url: &str) -> String {
    let body = put(running, "/api/alerts/webhooks/ops", &json!({"url": url})).await;
    body["secret"].as_str().unwrap().to_owned()
}

async fn alerts(running: &Running) -> Value {
    running.get("/api/alerts", Some(&running.admin())).await.json()
}

/// Limits that were exceeded, sixty times at once.
async fn flood(running: &Running, from: u64) {
    let records: Vec<Value> =
        (0..60).map(|number| record("acme", from + number, "RATE_LIMIT_EXCEEDED", "WARNING")).collect();
    assert_eq!(running.ingest(&records).await.status, 200);
}

async fn tried(running: &Running) -> Value {
    running.post("/api/alerts/webhooks/ops/test", &json!({}), &running.admin()).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_told_once_and_its_end_once() {
    let (receiver, at) = Receiver::start("127.0.0.1:0").await;
    let running = start(|_| {}).await;
    let secret = webhook(&running, &format!("http://{at}/hook")).await;
    rule(&running, "limits_exceeded", 5.0).await;
    flood(&running, 0).await;
    eventually(async || receiver.types() == ["alert.firing"]).await;
    // It goes on: the same incident.
    flood(&running, 100).await;
    eventually(async || receiver.types().last().is_some_and(|kind| kind == "alert.resolved")).await;
    let told = receiver.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].1 == told[1].1 && told[0].2 != told[1].2, "{told:?}");
    for (headers, body, bytes) in receiver.taken.lock().unwrap().iter() {
        let header = |name: &str| headers[name].to_str().unwrap();
        let signed = SigningSecret::new(&secret).unwrap().sign(
            header("webhook-id"),
            header("webhook-timestamp").parse().unwrap(),
            bytes,
        );
        assert_eq!(header("webhook-signature"), signed);
        assert_eq!(header("content-type"), "application/json");
        let data = &body["data"];
        assert_eq!((&data["rule"], &data["severity"]), (&"limits_exceeded".into(), &"warning".into()));
        assert!(data["value"].as_f64().unwrap() > 5.0 && data["action"].is_string(), "{body}");
    }
    // A second one is another.
    flood(&running, 200).await;
    eventually(async || receiver.types().len() == 4).await;
    assert_ne!(receiver.told()[2].1, told[0].1);

    let shown = alerts(&running).await;
    assert_eq!(shown["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&shown["alerts"][0]["status"], &shown["webhooks"][0]["delivered"]),
        (&"resolved".into(), &4.into())
    );
    assert!(!shown.to_string().contains("/hook") && !shown.to_string().contains("whsec"), "{shown}");
    let file = running.folder.path().join("alerts.json");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(&secret));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let metrics = running.get("/metrics", Some(&running.admin())).await.body;
    assert!(metrics.contains("portcullis_alert_messages_total{result=\"delivered\"} 4\n"), "{metrics}");
    assert!(metrics.contains("portcullis_alerts_firing{rule=\"limits_exceeded\"} 0\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_in_an_outage_is_told_when_it_is_over() {
    let (receiver, at) = Receiver::start("127.0.0.1:0").await;
    receiver.status.store(503, Ordering::Relaxed);
    let running = start(|_| {}).await;
    webhook(&running, &format!("http://{at}/hook")).await;
    rule(&running, "limits_exceeded", 5.0).await;
    flood(&running, 0).await;
    let open = async || alerts(&running).await["alerts"].as_array().unwrap().len();
    let over = async || {
        let all = alerts(&running).await;
        let over = |one: &&Value| one["status"] == "resolved";
        all["alerts"].as_array().unwrap().iter().filter(over).count()
    };
    eventually(async || open().await == 1 && over().await == 1).await;
    flood(&running, 100).await;
    eventually(async || open().await == 2 && over().await == 2).await;
    // Tried again and again, never taken, and said why.
    eventually(async || receiver.asked() >= 3).await;
    let hook = alerts(&running).await["webhooks"][0].clone();
    assert!(hook["problem"].as_str().unwrap().ends_with("answered 503"), "{hook}");
    assert_eq!((&hook["delivered"], &hook["waiting"]), (&0.into(), &2.into()));
    receiver.status.store(0, Ordering::Relaxed);
    eventually(async || receiver.types().len() == 2).await;
    assert_eq!(receiver.types(), ["alert.resolved", "alert.resolved"]);
    let body = receiver.taken.lock().unwrap()[0].1.clone();
    assert!(body["data"]["fired_at"].is_string() && body["data"]["resolved_at"].is_string(), "{body}");
    eventually(async || alerts(&running).await["webhooks"][0]["waiting"] == 0).await;
    assert_eq!(alerts(&running).await["webhooks"][0]["problem"], Value::Null);
    assert_eq!(receiver.types().len(), 2, "nothing twice");
}

/// Answers each question as the next of a list.
struct Fickle {
    answers: Mutex<VecDeque<SocketAddr>>,
    asked: AtomicUsize,
}

impl Resolve for Fickle {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        Box::pin(async move { Ok(next.into_iter().collect()) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_answers_differently_the_second_time_gains_nothing() {
    let (allowed, at) = Receiver::start("127.0.0.2:0").await;
    let near = SocketAddr::new([127, 0, 0, 1].into(), at.port());
    let (forbidden, _) = Receiver::start(&near.to_string()).await;
    let fickle = Arc::new(Fickle { answers: Mutex::new([at, near].into()), asked: AtomicUsize::new(0) });
    let resolver = Arc::clone(&fickle);
    let running = start(|settings| {
        settings.alerts.guard.networks = vec!["127.0.0.2".parse().unwrap()];
        settings.alerts.guard.resolver = resolver;
    })
    .await;
    webhook(&running, &format!("http://hooks.example:{}/hook", at.port())).await;
    let first = tried(&running).await;
    assert_eq!(
        (&first["delivered"], allowed.types().as_slice()),
        (&true.into(), &["alert.test".to_owned()][..])
    );
    assert_eq!(
        fickle.asked.load(Ordering::Relaxed),
        1,
        "resolved once: what was looked at is what was connected to"
    );
    let second = tried(&running).await;
    assert_eq!(second["delivered"], false);
    assert!(second["problem"].as_str().unwrap().contains("ALERT_TARGETS_ALLOW"), "{second}");
    assert_eq!((allowed.asked(), forbidden.asked()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_nowhere_else() {
    let (receiver, at) = Receiver::start("127.0.0.1:0").await;
    let running = start(|_| {}).await;
    // Elsewhere by a redirect.
    webhook(&running, &format!("http://{at}/hook")).await;
    receiver.status.store(307, Ordering::Relaxed);
    let redirected = tried(&running).await;
    assert!(redirected["problem"].as_str().unwrap().contains("redirects are not followed"), "{redirected}");
    assert_eq!((receiver.asked(), receiver.redirected.load(Ordering::Relaxed)), (1, 0));
    // To where nobody has allowed it.
    for url in [
        "https://169.254.169.254/latest",
        "https://10.0.0.1/",
        "https://[fd00::1]/",
        "http://127.0.0.2/",
        "https://0.0.0.0/",
    ] {
        put(&running, "/api/alerts/webhooks/ops", &json!({"url": url})).await;
        let refused = tried(&running).await;
        assert!(refused["problem"].as_str().unwrap().contains("ALERT_TARGETS_ALLOW"), "{url}: {refused}");
    }
    // Nor for whom it is not.
    for (method, path) in
        [("GET", ""), ("PUT", "/webhooks/ops"), ("DELETE", "/webhooks/ops"), ("PUT", "/rules/attack_wave")]
    {
        let answer =
            running.send_json(method, &format!("/api/alerts{path}"), &running.of_tenant("acme"), "{}").await;
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    let admin = running.admin();
    for (path, body, status) in [
        ("/webhooks/ops", json!({"url": "ftp://a/"}), 422),
        ("/webhooks/ops", json!({"url": "https://user:hunter2@a/"}), 422),
        ("/webhooks/ops", json!({"url": "https://a/", "secret": "short"}), 422),
        ("/webhooks/Ops", json!({"url": "https://a/"}), 400),
        ("/webhooks/environment", json!({"url": "https://a/"}), 422),
        ("/rules/no_such_rule", json!({}), 404),
        ("/rules/attack_wave", json!({"threshold": -1}), 422),
    ] {
        let answer = running.send_json("PUT", &format!("/api/alerts{path}"), &admin, &body.to_string()).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(!answer.body.contains("hunter2"));
    }
    for number in 1..10 {
        put(&running, &format!("/api/alerts/webhooks/w{number}"), &json!({"url": "https://a.invalid/"}))
            .await;
    }
    let eleventh = running
        .send_json("PUT", "/api/alerts/webhooks/w10", &admin, "{\"url\": \"https://a.invalid/\"}")
        .await;
    assert_eq!(eleventh.status, 409);
    assert_eq!(running.send_json("DELETE", "/api/alerts/webhooks/w9", &admin, "").await.status, 200);
    assert_eq!(running.send_json("DELETE", "/api/alerts/webhooks/w9", &admin, "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_other_side_proves_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [issuer, other] = ["issuer", "other"].map(|name| certificate(folder.path(), name, None));
    let files = certificate(folder.path(), "hook", Some(&issuer));
    let receiver = Receiver::default();
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), "TEST").await.unwrap();
    let port = listener.address().unwrap().port();
    let listener = listener.with_tls(Some(files.acceptor().unwrap()));
    let (_end, ended) = tokio::sync::watch::channel(false);
    tokio::spawn(serve(
        listener,
        receiver.router(),
        Terms { connections: 4, http2: false, idle: IDLE },
        ended,
    ));
    for (authorities, delivered) in [(issuer.certificate, true), (other.certificate, false)] {
        let running = start(|settings| settings.alerts.guard.authorities = Some(authorities)).await;
        webhook(&running, &format!("https://localhost:{port}/hook")).await;
        let answer = tried(&running).await;
        assert_eq!(answer["delivered"], delivered, "{answer}");
    }
    assert_eq!(receiver.types(), ["alert.test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_database_in_trouble_is_told_by_name() {
    let (receiver, at) = Receiver::start("127.0.0.1:0").await;
    let (url, sockets) = tenant_database("alerting");
    let running = start(|settings| {
        settings.databases.sockets = vec![sockets];
        settings.databases.watch = Duration::from_millis(200);
        settings.databases.shape.slow = Duration::from_millis(100);
    })
    .await;
    put(&running, "/api/tenants/acme", &json!({"database_url": url})).await;
    webhook(&running, &format!("http://{at}/hook")).await;
    rule(&running, "slow_statements", 0.0).await;
    rule(&running, "replication_slot", 1000.0).await;
    let databases = running.companion.databases();
    let lease = databases.lend(&TenantId::new("acme").unwrap(), None).await.unwrap();
    let fired = async |rule: &str, kind: &str| {
        eventually(async || {
            let taken = receiver.taken.lock().unwrap();
            taken.iter().any(|(_, body, _)| {
                body["type"] == kind && body["data"]["rule"] == rule && body["data"]["tenant_id"] == "acme"
            })
        })
        .await;
    };
    // A slow one before a look, and one after it: a start is no news.
    eventually(async || !alerts(&running).await["rules"].as_array().unwrap().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    lease.query("SELECT pg_sleep(0.2)", &[]).await.unwrap();
    fired("slow_statements", "alert.firing").await;
    // A slot that nobody reads.
    let client = lease.client().unwrap();
    client.batch_execute("SELECT pg_create_physical_replication_slot('alerting', true)").await.unwrap();
    client
        .batch_execute("CREATE TABLE much AS SELECT md5(g::text) FROM generate_series(1, 10000) g")
        .await
        .unwrap();
    fired("replication_slot", "alert.firing").await;
    client.batch_execute("SELECT pg_drop_replication_slot('alerting')").await.unwrap();
    fired("replication_slot", "alert.resolved").await;
    fired("slow_statements", "alert.resolved").await;
}
