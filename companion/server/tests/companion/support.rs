//! A companion in this process on ports of its own, and a small client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use portcullis_audit_log::note::Signer;
use portcullis_server::alerts;
use portcullis_server::api::Protections;
use portcullis_server::cli::Environment;
use portcullis_server::clock::{Clock, Timestamp};
use portcullis_server::companion::Companion;
use portcullis_server::keys::{Absent, Service};
use portcullis_server::policies::SecurityPolicies;
use portcullis_server::secret::Secret;
use portcullis_server::settings::{IngestPlace, Settings};
use portcullis_server::storage::postgres::Target;
use portcullis_server::storage::{self, Done, Place, Registration, Row, Shape, Statement, Storage};
use portcullis_server::tenant::{TenantId, records};
use portcullis_server::token::{Scope, TokenKey};
use portcullis_server::trail;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

pub const INGEST_TOKEN: &str = "an ingest token of the tests";
pub const EPOCH: &str = "9f2c00000000abcd";

/// Which store a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// Makes of each test two: `sqlite::name` and `postgres::name`.
macro_rules! on_each_store {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::support::Store::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::support::Store::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_each_store;

/// One server for all tests of this program; it ends with the program.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let layout = Layout::of_this_checkout();
    let settings = ["shared_preload_libraries=pg_stat_statements"];
    Server::start_with(&layout, &std::env::temp_dir(), Durability::None, &settings).unwrap()
});

/// A store that nobody has used: a file in `folder`, or a database of its own on a real server.
pub fn new_place(store: Store, folder: &Path) -> Place {
    match store {
        Store::Sqlite => Place::Sqlite(folder.join("companion.db")),
        Store::Postgres => {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
            let url = SERVER.create(&Layout::of_this_checkout(), &name).unwrap();
            Place::Postgres(Box::new(Target::new(&url).unwrap()))
        }
    }
}

/// A tenant's own database on the same server: its address, and the folder of the server's socket.
pub fn tenant_database(name: &str) -> (String, PathBuf) {
    let url = SERVER.create(&Layout::of_this_checkout(), name).unwrap();
    let host = url.split('@').nth(1).unwrap().split('/').next().unwrap().replace("%2F", "/");
    (url, host.into())
}

pub struct Running {
    pub companion: Companion,
    pub clock: Clock,
    pub tokens: TokenKey,
    pub place: Place,
    pub folder: tempfile::TempDir,
    beside: tokio::sync::OnceCell<Arc<dyn Storage>>,
}

pub fn start_time() -> Timestamp {
    "2026-03-01T12:00:30Z".parse().unwrap()
}

fn token_key() -> TokenKey {
    TokenKey::new(Secret::new("SECRET_KEY", "k".repeat(32), 32).unwrap())
}

pub fn trail_settings(folder: &Path) -> trail::Settings {
    trail::Settings {
        folder: folder.join("audit"),
        signer: Signer::from_seed(&[7; 32]),
        redactor: None,
        retention: trail::retention::rules(Duration::from_secs(90 * 86_400), None, &[]).unwrap(),
        max_bytes: 1 << 30,
    }
}

/// What wraps the tenants' keys in a test.
pub const ROOT_KEY: &str = "0123456789abcdef0123456789abcdef";

/// A root key, and the one before it.
pub fn root(current: &str, previous: Option<&str>) -> Service {
    let of = |name: &str| match name {
        "ENCRYPTION_KEY" => Some(current.to_owned()),
        "ENCRYPTION_KEY_PREVIOUS" => previous.map(str::to_owned),
        _ => None,
    };
    Service::new(&of, Path::new("unused"), Absent::Refuse).unwrap()
}

fn settings(folder: &Path, place: Place, demonstration: bool) -> Settings {
    Settings {
        api: ([127, 0, 0, 1], 0).into(),
        ingest: IngestPlace::Port(([127, 0, 0, 1], 0).into()),
        api_tls: None,
        ingest_tls: None,
        admin_allow: Default::default(),
        database: place,
        shape: Shape {
            registration: match demonstration {
                true => Registration::ByTraffic { max_tenants: 10_000 },
                false => Registration::Operator,
            },
            max_bytes: 1 << 30,
            connections: 4,
            ..Shape::default()
        },
        retention: Duration::from_secs(90 * 24 * 3600),
        trail: trail_settings(folder),
        tokens: token_key(),
        root: root(ROOT_KEY, None),
        key_rotation: None,
        ingest_token: Some(Secret::new("t", INGEST_TOKEN.to_owned(), 16).unwrap()),
        data_dir: folder.to_owned(),
        redis_url: None,
        limits_share: Default::default(),
        grpc: None,
        policies: SecurityPolicies::default(),
        protections: Protections {
            security: true,
            encryption: true,
            rate_limiting: true,
            audit_logging: true,
            database_optimization: true,
        },
        environment: Environment::Development,
        log_file: None,
        databases: Default::default(),
        alerts: alerts::Options {
            file: folder.join("alerts.json"),
            kept: folder.join("alerts-kept.json"),
            environment: None,
            guard: Default::default(),
            interval: Duration::from_secs(15),
            window: Duration::from_secs(300),
            retry: Duration::from_millis(50),
        },
        bouncer: None,
        exports: Default::default(),
        demonstration,
    }
}

impl Running {
    pub async fn start(store: Store, demonstration: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = new_place(store, folder.path());
        Self::reopen(folder, place, Clock::manual(start_time()), demonstration).await
    }

    pub async fn reopen(folder: tempfile::TempDir, place: Place, clock: Clock, demonstration: bool) -> Self {
        let settings = settings(folder.path(), place.clone(), demonstration);
        Self::with(folder, place, clock, settings).await
    }

    /// The same in a demonstration, with settings that a test has changed.
    pub async fn reopen_with(
        folder: tempfile::TempDir,
        place: Place,
        clock: Clock,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = settings(folder.path(), place.clone(), true);
        change(&mut settings);
        Self::with(folder, place, clock, settings).await
    }

    /// Ends it; what it leaves behind.
    pub async fn stopped(self) -> (tempfile::TempDir, Place, Clock) {
        self.companion.stop().await.unwrap();
        (self.folder, self.place, self.clock)
    }

    /// With settings that a test has changed.
    pub async fn started_with(store: Store, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = new_place(store, folder.path());
        let mut settings = settings(folder.path(), place.clone(), true);
        change(&mut settings);
        Self::with(folder, place, Clock::manual(start_time()), settings).await
    }

    /// On a store that another companion may have open.
    pub async fn on(place: Place, clock: Clock, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path(), place.clone(), false);
        change(&mut settings);
        Self::with(folder, place, clock, settings).await
    }

    async fn with(folder: tempfile::TempDir, place: Place, clock: Clock, settings: Settings) -> Self {
        let companion = Companion::start(settings, clock.clone()).await.unwrap();
        Self { companion, clock, tokens: token_key(), place, folder, beside: Default::default() }
    }

    /// The store as another program beside the companion sees it.
    pub async fn beside(&self) -> Arc<dyn Storage> {
        let open = || async { storage::open(&self.place, Shape::default()).await.unwrap() };
        Arc::clone(self.beside.get_or_init(open).await)
    }

    pub async fn rows(&self, sql: &'static str) -> Vec<Row> {
        self.companion.trail().caught_up().await;
        self.beside().await.read(Statement::new(sql)).await.unwrap()
    }

    pub async fn execute(&self, sql: &'static str) -> Vec<Done> {
        self.beside().await.write(Statement::new(sql).into()).await.unwrap()
    }

    pub fn token(&self, scope: &Scope) -> String {
        self.tokens.issue(scope, self.clock.now(), Duration::from_secs(3600)).unwrap()
    }

    pub fn admin(&self) -> String {
        self.token(&Scope::Admin)
    }

    pub fn of_tenant(&self, name: &str) -> String {
        self.token(&Scope::Tenant(TenantId::new(name).unwrap()))
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        self.raw_api(&format!("GET {path} HTTP/1.1\r\nHost: t\r\n{authorization}Connection: close\r\n\r\n"))
            .await
    }

    pub async fn send_json(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        self.raw_api(&format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    /// What Envoy's ext_authz would ask.
    pub async fn ext_authz(&self, head: &str) -> Answer {
        let request = format!(
            "GET /v1/ext-authz/orders/7?x=1 HTTP/1.1\r\nHost: shop\r\n{head}Connection: close\r\n\r\n"
        );
        send(self.companion.ingest_address.unwrap(), request.as_bytes()).await
    }

    pub async fn raw_api(&self, request: &str) -> Answer {
        send(self.companion.api_address.unwrap(), request.as_bytes()).await
    }

    pub async fn ingest(&self, records: &[Value]) -> Answer {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        self.ingest_bytes(lines.join("\n").as_bytes(), INGEST_TOKEN).await
    }

    pub async fn ingest_bytes(&self, body: &[u8], token: &str) -> Answer {
        let mut request = format!(
            "POST /v1/ingest HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        send(self.companion.ingest_address.unwrap(), &request).await
    }

    pub async fn post(&self, path: &str, body: &Value, token: &str) -> Answer {
        send(self.companion.api_address.unwrap(), &json_request("POST", path, body, token)).await
    }

    /// A call of a module, on the ingest listener.
    pub async fn module_call(&self, path: &str, body: &Value, token: &str) -> Answer {
        send(self.companion.ingest_address.unwrap(), &json_request("POST", path, body, token)).await
    }

    /// Adds a tenant as an operator does.
    pub async fn add_tenant(&self, name: &str) {
        let storage = self.companion.storage();
        records::add(&*storage, &TenantId::new(name).unwrap(), self.clock.now()).await.unwrap();
    }

    pub async fn events(&self, tenant: &str, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/security/events/{tenant}{query}"), Some(&self.admin())).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["events"].as_array().unwrap().clone()
    }
}

pub fn json_request(method: &str, path: &str, body: &Value, token: &str) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends bytes as they are, so that tests can break the rules, and reads until the end.
pub async fn send(address: SocketAddr, request: &[u8]) -> Answer {
    try_send(address, request).await.unwrap()
}

/// The same to somebody who may be gone: then there is no answer.
pub async fn try_send(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    // A server that refuses early may close before everything is sent.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// A record as a module sends it.
pub fn record(tenant: &str, sequence: u64, event_type: &str, severity: &str) -> Value {
    json!({
        "class_uid": 4002, "class_name": "HTTP Activity", "category_uid": 4, "activity_id": 3, "type_uid": 400_203,
        "severity_id": 1, "time": start_time().as_millisecond() - 1000 + i64::try_from(sequence % 1000).unwrap(),
        "duration": 12,
        "metadata": {"version": "1.5.0", "product": {"name": "Portcullis"}, "correlation_uid": format!("corr-{sequence:04}"),
            "tenant_uid": tenant, "uid": format!("{EPOCH}-{sequence}"), "sequence": sequence},
        "actor": {"user": {"uid": "alice"}}, "src_endpoint": {"ip": "10.0.0.1"},
        "http_request": {"http_method": "POST", "url": {"hostname": "shop", "path": "/login", "scheme": "https"},
            "user_agent": "curl/8"},
        "http_response": {"code": 403, "length": 120},
        "unmapped": {"portcullis": {"event_type": event_type, "severity": severity, "epoch": EPOCH, "sequence": sequence,
            "action": "login", "policy": "sanitize", "reason": "sql-injection", "decision": "deny", "details": {}}}
    })
}

/// A gap record.
pub fn gap(sequence: u64, details: Value) -> Value {
    let mut record = record("acme", sequence, "AUDIT_GAP", "ERROR");
    record["unmapped"]["portcullis"]["details"] = details;
    record
}

/// Waits for what comes to pass sooner or later.
pub async fn eventually(holds: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it has not come to pass within 30 s");
}
