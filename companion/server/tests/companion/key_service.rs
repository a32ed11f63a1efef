//! The root key in a real OpenBao: what is sealed and opened while its key is rotated, while it is sealed, stopped and refused.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use portcullis_export::http::Client;
use portcullis_keyring::ServiceError;
use portcullis_server::clock::{Clock, monotonic};
use portcullis_server::keys::{Absent, Service};
use portcullis_server::storage::Place;
use serde_json::{Value, json};
use xtask::layout::Layout;
use xtask::ports;

use crate::support::{ROOT_KEY, Running, Store, eventually, start_time};

const ADMIN: &str = "the root token of a test";

/// A development server of OpenBao: all in memory, unsealed, alone.
struct Bao {
    child: Child,
    url: String,
    unseal_key: String,
    authorities: Option<PathBuf>,
    folder: tempfile::TempDir,
}

impl Bao {
    /// With a key named `portcullis`, and a token that may use it and nothing else in the file `token`.
    async fn start(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", ports::free().unwrap());
        let mut command = Command::new(Layout::of_this_checkout().openbao().unwrap());
        command.args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id", ADMIN]);
        command.args(["-dev-listen-address", &address]);
        if tls {
            command.args(["-dev-tls", "-dev-tls-cert-dir"]).arg(folder.path());
        }
        let mut child =
            command.env("HOME", folder.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, tells) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(key) = line.strip_prefix("Unseal Key: ") {
                    let _ = told.send(key.trim().to_owned());
                }
            }
        });
        let unseal_key = tells.recv_timeout(Duration::from_secs(60)).expect("OpenBao does not start");
        let scheme = if tls { "https" } else { "http" };
        let authorities = tls.then(|| {
            let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            let mut files: Vec<_> = files.filter(|path| path.to_string_lossy().contains("ca.pem")).collect();
            files.pop().unwrap()
        });
        let bao = Self { child, url: format!("{scheme}://{address}"), unseal_key, authorities, folder };
        bao.admin(Method::POST, "/v1/sys/mounts/transit", json!({"type": "transit"})).await;
        bao.admin(Method::POST, "/v1/transit/keys/portcullis", json!({})).await;
        let policy = r#"path "transit/encrypt/portcullis" { capabilities = ["update"] }
            path "transit/decrypt/portcullis" { capabilities = ["update"] }
            path "transit/keys/portcullis" { capabilities = ["read"] }"#;
        bao.admin(Method::POST, "/v1/sys/policies/acl/portcullis", json!({"policy": policy})).await;
        bao.new_token().await;
        bao
    }

    /// Asks with the token that may do everything.
    async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let headers = [("x-vault-token".to_owned(), ADMIN.to_owned())];
        let mut client = Client::new(&self.url, 8200, &headers).unwrap();
        if let Some(file) = &self.authorities {
            client = client.trusting(file);
        }
        let sent =
            client.send(method, path, "application/json", Bytes::from(body.to_string())).await.unwrap();
        assert!((200..300).contains(&sent.status), "{path}: {} {:?}", sent.status, sent.body);
        serde_json::from_slice(&sent.body).unwrap_or_default()
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn write_token(&self, token: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.token_file(), format!("{token}\n")).unwrap();
        std::fs::set_permissions(self.token_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    async fn new_token(&self) {
        let made =
            self.admin(Method::POST, "/v1/auth/token/create", json!({"policies": ["portcullis"]})).await;
        self.write_token(made["auth"]["client_token"].as_str().unwrap());
    }

    async fn rotate(&self) {
        self.admin(Method::POST, "/v1/transit/keys/portcullis/rotate", json!({})).await;
    }

    async fn seal(&self) {
        self.admin(Method::PUT, "/v1/sys/seal", json!({})).await;
    }

    async fn unseal(&self) {
        self.admin(Method::PUT, "/v1/sys/unseal", json!({"key": self.unseal_key})).await;
        let working = async || {
            let mut client = Client::new(&self.url, 8200, &[]).unwrap();
            let sent = client.send(Method::GET, "/v1/sys/health", "", Bytes::new()).await;
            sent.is_ok_and(|answer| answer.status == 200)
        };
        eventually(working).await;
    }

    /// What the variables of a companion are.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut set = vec![
            ("ENCRYPTION_KEY_SERVICE", format!("{}/transit/portcullis", self.url)),
            ("ENCRYPTION_KEY_SERVICE_TOKEN_FILE", self.token_file().display().to_string()),
        ];
        if let Some(file) = &self.authorities {
            set.push(("ENCRYPTION_KEY_SERVICE_CA_FILE", file.display().to_string()));
        }
        set
    }

    fn root(&self) -> Service {
        root(&self.variables())
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root(set: &[(&'static str, String)]) -> Service {
    let of = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    Service::new(&of, Path::new("unused"), Absent::Refuse).unwrap()
}

async fn companion(place: Option<Place>, root: Service) -> Running {
    match place {
        None => Running::started_with(Store::Sqlite, |settings| settings.root = root).await,
        Some(place) => Running::on(place, Clock::manual(start_time()), |settings| settings.root = root).await,
    }
}

async fn encrypt(running: &Running, tenant: &str) -> (u16, Value) {
    let body = json!({"data": "DE02 1203", "data_type": "iban", "store": false});
    let answer = running.post("/api/security/encrypt", &body, &running.of_tenant(tenant)).await;
    (answer.status, answer.json())
}

async fn decrypt(running: &Running, sealed: &Value) -> (u16, Value) {
    let body = json!({"data": sealed["encrypted_value"], "data_type": "iban"});
    let tenant = sealed["tenant_id"].as_str().unwrap();
    let answer = running.post("/api/security/decrypt", &body, &running.of_tenant(tenant)).await;
    let body = answer.json();
    (answer.status, if answer.status == 200 { body["data"].clone() } else { body["reason"].clone() })
}

async fn rewrap(running: &Running, tenant: &str) -> Value {
    let path = format!("/api/security/keys/{tenant}/rewrap");
    running.send_json("POST", &path, &running.admin(), "").await.json()
}

/// Which version of the service's key wrapped the tenants' keys.
async fn wrapped_under(running: &Running) -> Vec<String> {
    use base64::Engine as _;
    let rows = running.rows("SELECT versions, index_key FROM tenant_keys ORDER BY tenant_id").await;
    let text = |base64: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
        String::from_utf8_lossy(&bytes).chars().take(9).collect::<String>()
    };
    rows.iter()
        .flat_map(|row| {
            let versions = row.json(0).unwrap();
            let versions: Vec<String> = versions
                .as_array()
                .unwrap()
                .iter()
                .map(|held| text(held["wrapped"].as_str().unwrap()))
                .collect();
            versions.into_iter().chain([text(&row.text(1).unwrap())])
        })
        .collect()
}

async fn available(running: &Running) -> bool {
    let status = running.get("/api/security/status", Some(&running.admin())).await.json();
    status["encryption_available"].as_bool().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_sealed_over_tls_and_open_through_a_rotation_of_the_services_key() {
    let bao = Bao::start(true).await;
    let running = companion(None, bao.root()).await;
    running.add_tenant("acme").await;
    running.add_tenant("globex").await;
    let (status, sealed) = encrypt(&running, "acme").await;
    assert_eq!(status, 200, "{sealed}");
    let (_, other) = encrypt(&running, "globex").await;
    assert_eq!(wrapped_under(&running).await, ["vault:v1:"; 4]);
    // Nothing but the service can unwrap: a companion that has the store alone cannot.
    let local = companion(Some(running.place.clone()), crate::support::root(ROOT_KEY, None)).await;
    assert_eq!(decrypt(&local, &sealed).await, (503, json!("keys-unavailable")));

    bao.rotate().await;
    assert_eq!(rewrap(&running, "acme").await["root_changed"], true);
    assert_eq!(rewrap(&running, "acme").await["root_changed"], false);
    assert_eq!(wrapped_under(&running).await, ["vault:v2:", "vault:v2:", "vault:v1:", "vault:v1:"]);
    bao.admin(Method::POST, "/v1/transit/keys/portcullis/config", json!({"min_decryption_version": 2})).await;
    // One that has nothing in memory.
    let fresh = companion(Some(running.place.clone()), bao.root()).await;
    assert_eq!(decrypt(&fresh, &sealed).await, (200, json!("DE02 1203")));
    assert_eq!(decrypt(&fresh, &other).await, (503, json!("keys-unavailable")), "not wrapped anew in time");
    assert_eq!(decrypt(&running, &other).await, (200, json!("DE02 1203")), "in memory");
    assert!(available(&fresh).await, "one key that is too old is no outage");
    bao.admin(Method::POST, "/v1/transit/keys/portcullis/config", json!({"min_decryption_version": 1})).await;
    assert_eq!(rewrap(&fresh, "globex").await["root_changed"], true);
    assert_eq!(decrypt(&fresh, &other).await, (200, json!("DE02 1203")));
    let metrics = running.get("/metrics", Some(&running.admin())).await.body;
    assert!(
        metrics.contains("portcullis_keys_root_calls_total{call=\"wrap\",result=\"done\"} 6\n"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_service_is_away_keys_in_memory_go_on_and_others_are_told() {
    let bao = Bao::start(false).await;
    let running = companion(None, bao.root()).await;
    for tenant in ["acme", "globex"] {
        running.add_tenant(tenant).await;
    }
    let (_, sealed) = encrypt(&running, "acme").await;
    assert!(available(&running).await);
    bao.seal().await;
    for _ in 0..3 {
        assert_eq!(decrypt(&running, &sealed).await, (200, json!("DE02 1203")));
        let (status, answer) = encrypt(&running, "globex").await;
        assert_eq!((status, &answer["reason"]), (503, &json!("keys-unavailable")));
        assert_eq!(encrypt(&running, "acme").await.0, 200);
    }
    let rotate = running.send_json("POST", "/api/security/keys/acme/rotate", &running.admin(), "").await;
    assert_eq!(rotate.status, 503);
    assert!(!available(&running).await);
    let metrics = running.get("/metrics", Some(&running.admin())).await.body;
    assert!(
        metrics.contains("portcullis_keys_root_calls_total{call=\"wrap\",result=\"failed\"} 4\n"),
        "{metrics}"
    );
    // A companion that starts meanwhile serves; it notices by itself that the service is back.
    let started = companion(Some(running.place.clone()), bao.root()).await;
    assert_eq!(decrypt(&started, &sealed).await.0, 503);
    bao.unseal().await;
    eventually(async || available(&started).await).await;
    assert_eq!(decrypt(&started, &sealed).await, (200, json!("DE02 1203")));
    assert_eq!(encrypt(&running, "globex").await.0, 200);
    assert!(available(&running).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_costs_its_deadline_and_no_more() {
    let bao = Bao::start(false).await;
    let running = companion(None, bao.root()).await;
    running.add_tenant("acme").await;
    let stopped = |signal: &str| {
        let done = Command::new("kill").args([signal, &bao.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    };
    stopped("-STOP");
    let began = monotonic();
    let (status, answer) = encrypt(&running, "acme").await;
    assert_eq!((status, &answer["reason"]), (503, &json!("keys-unavailable")));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    stopped("-CONT");
    assert_eq!(encrypt(&running, "acme").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_read_anew_and_one_that_may_not_is_named_at_the_start() {
    let bao = Bao::start(false).await;
    let running = companion(None, bao.root()).await;
    running.add_tenant("acme").await;
    running.add_tenant("globex").await;
    assert_eq!(encrypt(&running, "acme").await.0, 200);
    bao.write_token("s.not-a-token");
    let (status, answer) = encrypt(&running, "globex").await;
    assert_eq!((status, &answer["reason"]), (503, &json!("keys-unavailable")));
    let verified = |root: Service| tokio::task::spawn_blocking(move || root.0.verify());
    match verified(bao.root()).await.unwrap() {
        Err(ServiceError::Denied(said)) => {
            assert!(said.contains("403") && said.contains("transit/decrypt/portcullis"), "{said}");
            assert!(!said.contains("s.not-a-token"), "{said}");
        }
        other => panic!("{other:?}"),
    }
    bao.new_token().await;
    assert_eq!(encrypt(&running, "globex").await.0, 200);
    let mut other = bao.variables();
    other[0].1 = format!("{}/transit/another", bao.url);
    assert!(matches!(verified(root(&other)).await.unwrap(), Err(ServiceError::Denied(_))));
    other[0].1 = format!("http://127.0.0.1:{}/transit/portcullis", ports::free().unwrap());
    assert!(matches!(verified(root(&other)).await.unwrap(), Err(ServiceError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrapped_key_that_changes_places_is_refused_by_the_service() {
    let bao = Bao::start(false).await;
    let running = companion(None, bao.root()).await;
    for tenant in ["acme", "globex"] {
        running.add_tenant(tenant).await;
    }
    let (_, sealed) = encrypt(&running, "acme").await;
    encrypt(&running, "globex").await;
    running
        .execute("UPDATE tenant_keys SET versions = (SELECT versions FROM tenant_keys WHERE tenant_id = 'globex') WHERE tenant_id = 'acme'")
        .await;
    let fresh = companion(Some(running.place.clone()), bao.root()).await;
    assert_eq!(decrypt(&fresh, &sealed).await, (503, json!("keys-unavailable")));
    let metrics = fresh.get("/metrics", Some(&fresh.admin())).await.body;
    assert!(
        metrics.contains("portcullis_keys_root_calls_total{call=\"unwrap\",result=\"refused\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_key_moves_into_a_service_and_out_again_by_command() {
    let bao = Bao::start(false).await;
    let running = Running::start(Store::Sqlite, false).await;
    running.add_tenant("acme").await;
    let (_, sealed) = encrypt(&running, "acme").await;
    let Place::Sqlite(path) = &running.place else { panic!("a file") };
    let rewrap = |set: Vec<(&'static str, String)>| {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["keys", "rewrap", "--all"])
            .env_clear()
            .env("DATA_DIR", running.folder.path())
            .env("DATABASE_URL", path)
            .envs(set)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1 tenants rewrapped\n");
    };
    let mut into = bao.variables();
    into.push(("ENCRYPTION_KEY_PREVIOUS", ROOT_KEY.to_owned()));
    rewrap(into);
    assert_eq!(wrapped_under(&running).await, ["vault:v1:"; 2]);
    let moved = companion(Some(running.place.clone()), bao.root()).await;
    assert_eq!(decrypt(&moved, &sealed).await, (200, json!("DE02 1203")));
    let mut out = bao.variables();
    out[0].0 = "ENCRYPTION_KEY_PREVIOUS_SERVICE";
    out.push(("ENCRYPTION_KEY", ROOT_KEY.to_owned()));
    rewrap(out);
    let back = companion(Some(running.place.clone()), crate::support::root(ROOT_KEY, None)).await;
    assert_eq!(decrypt(&back, &sealed).await, (200, json!("DE02 1203")));
}
