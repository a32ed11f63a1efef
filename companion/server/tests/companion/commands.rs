//! The binary as a person or a script uses it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use portcullis_server::storage::Place;
use serde_json::{Value, json};

use crate::support::{Running, Store, json_request, new_place, record, send, try_send};

pub fn portcullis(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).env_clear().env("DATA_DIR", folder).current_dir(folder);
    command
}

pub fn output(folder: &Path, arguments: &[&str]) -> Output {
    portcullis(folder, arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What DATABASE_URL says of a place.
pub fn url(place: &Place) -> String {
    match place {
        Place::Sqlite(path) => path.display().to_string(),
        Place::Postgres(target) => {
            let variable = |name| target.variables().into_iter().find(|(known, _)| *known == name).unwrap().1;
            let [host, user] =
                ["PGHOST", "PGUSER"].map(|name| variable(name).into_string().unwrap().replace('/', "%2F"));
            format!("postgres://{user}@{host}/{}", target.database())
        }
    }
}

/// Ends the child it started, also when a test fails halfway.
pub struct Serving {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    pub ready: Value,
}

impl Serving {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Self { child, log, ready: Value::Null };
        while serving.ready.is_null() {
            let mut line = String::new();
            assert!(serving.log.read_line(&mut line).unwrap() > 0, "ended before it was ready");
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if value["message"] == "ready" {
                serving.ready = value;
            }
        }
        serving
    }

    pub fn signal(mut self, name: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_a_key_nothing_starts_and_one_line_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let refused = output(folder.path(), &["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    let line = text(&refused.stderr);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("portcullis: SECRET_KEY: not set; make one with"), "{line}");
    let weak = portcullis(folder.path(), &["serve"]).env("SECRET_KEY", "hunter2").output().unwrap();
    assert_eq!(weak.status.code(), Some(1));
    assert!(!text(&weak.stderr).contains("hunter2"));
}

#[test]
fn a_taken_port_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (api, ingest, variable) in
        [(port.as_str(), "0", "COMPANION_PORT"), ("0", port.as_str(), "INGEST_PORT")]
    {
        let refused =
            output(folder.path(), &["serve", "--demonstration", "--port", api, "--ingest-port", ingest]);
        assert_eq!(refused.status.code(), Some(1));
        let last = text(&refused.stderr).lines().last().unwrap().to_owned();
        let expected =
            format!("portcullis: port {port} is taken; stop what holds it, or set {variable} to a free port");
        assert_eq!(last, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_from_start_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let serve = ["serve", "--demonstration", "--port", "0", "--ingest-port", "0"];
    let serving = Serving::start(&mut portcullis(folder.path(), &serve));
    for file in ["secret-key", "encryption-key", "ingest-token", "companion.db", "companion.db-wal"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "a core dump would hold keys: {core}");
    let api = serving.ready["api"].as_str().unwrap().parse().unwrap();
    let token = text(&output(folder.path(), &["token"]).stdout).trim().to_owned();
    let secret = json!({"data": "DE02 1203 0000", "data_type": "iban"});
    let tenant = text(&output(folder.path(), &["tenant", "add", "acme"]).stdout);
    assert_eq!(tenant, "acme: added\n");
    let own = text(&output(folder.path(), &["token", "--tenant", "acme"]).stdout);
    let sealed = send(api, &json_request("POST", "/api/security/encrypt", &secret, own.trim())).await;
    assert_eq!(sealed.status, 201, "{}", sealed.body);
    let get = |path: &str, token: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nx-request-id: find-me-in-the-log\r\nConnection: close\r\n\r\n"
        )
    };
    assert_eq!(send(api, get("/api/security/status", &token).as_bytes()).await.status, 200);
    let of_tenant = text(&output(folder.path(), &["token", "--tenant", "acme", "--ttl", "1h"]).stdout);
    let elsewhere = get("/api/security/events/globex\u{7f}", of_tenant.trim());
    assert!(send(api, elsewhere.as_bytes()).await.status >= 400);
    assert_eq!(send(api, get("/api/security/events/globex", of_tenant.trim()).as_bytes()).await.status, 403);

    let (code, log) = serving.signal("TERM");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"ended\""), "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["category"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(log.contains("\"correlation_id\":\"find-me-in-the-log\""), "{log}");
    let root = std::fs::read_to_string(folder.path().join("encryption-key")).unwrap();
    for secret in [token.as_str(), of_tenant.trim(), root.trim(), "DE02"] {
        assert!(!log.contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_companion_lost_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    // The records are of a day that is long ago.
    let serve =
        ["serve", "--demonstration", "--port", "0", "--ingest-port", "0", "--audit-retention", "3660d"];
    let serving = Serving::start(&mut portcullis(folder.path(), &serve));
    let ingest = serving.ready["ingest"].as_str().unwrap().parse().unwrap();
    let token = std::fs::read_to_string(folder.path().join("ingest-token")).unwrap();
    let deliver = move |body: String| {
        format!(
            "POST /v1/ingest HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    // Batches of 50, one after the other, until the companion is killed under them.
    const BATCH: u64 = 50;
    let (progress, mut seen) = tokio::sync::watch::channel(0_u64);
    let sender = tokio::spawn(async move {
        for batch in 0_u64.. {
            let records = batch * BATCH..(batch + 1) * BATCH;
            let lines: Vec<_> = records.map(|n| record("acme", n, "REQUEST", "INFO").to_string()).collect();
            let answer = try_send(ingest, deliver(lines.join("\n")).as_bytes()).await;
            if answer.is_none_or(|answer| answer.status != 200) {
                return batch;
            }
            progress.send_replace(batch + 1);
        }
        0
    });
    seen.wait_for(|batches| *batches >= 5).await.unwrap();
    drop(serving); // SIGKILL
    let acknowledged = sender.await.unwrap();

    // Ending well, it shows first what the trail has.
    let serving = Serving::start(&mut portcullis(folder.path(), &serve));
    assert_eq!(serving.signal("INT").0, Some(0));
    let file = rusqlite::Connection::open(folder.path().join("companion.db")).unwrap();
    let count = |sql: &str| file.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    let stored = count("SELECT count(*) FROM security_events");
    assert!(stored >= acknowledged * BATCH, "{stored} of {acknowledged} batches");
    assert_eq!(stored % BATCH, 0, "a batch is stored whole or not at all");
    assert_eq!(stored, count("SELECT sum(events) FROM security_event_counts"));
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_may_deliver_through_a_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ingest.sock");
    let serve = ["serve", "--demonstration", "--port", "0", "--ingest-socket", socket.to_str().unwrap()];
    let serving = Serving::start(&mut portcullis(folder.path(), &serve));
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let body = record("acme", 1, "REQUEST", "INFO").to_string();
    let head =
        "POST /v1/ingest HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"stored\":1"), "{answer}");
    assert_eq!(serving.signal("TERM").0, Some(0));
    assert!(!socket.exists());
}

#[test]
fn tokens_need_a_key_a_name_and_a_life() {
    let folder = tempfile::tempdir().unwrap();
    let with_key = |arguments: &[&str]| {
        portcullis(folder.path(), arguments).env("SECRET_KEY", "k".repeat(32)).output().unwrap()
    };
    assert_eq!(output(folder.path(), &["token"]).status.code(), Some(1));
    assert!(with_key(&["token"]).status.success());
    assert_eq!(with_key(&["token", "--ttl", "1s"]).status.code(), Some(1));
    assert_eq!(with_key(&["token", "--ttl", "soon"]).status.code(), Some(2));
    assert_eq!(with_key(&["token", "--tenant", "a b"]).status.code(), Some(1));
}

#[test]
fn an_operator_adds_tenants() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| text(&output(folder.path(), arguments).stdout);
    assert_eq!(run(&["tenant", "add", "globex"]), "globex: added\n");
    assert_eq!(run(&["tenant", "add", "acme"]), "acme: added\n");
    assert_eq!(run(&["tenant", "add", "acme"]), "acme: exists already\n");
    assert_eq!(run(&["tenant", "list"]), "acme\nglobex\n");
    assert_eq!(output(folder.path(), &["tenant", "add", "a b"]).status.code(), Some(1));
}

#[test]
fn an_operator_handles_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let run = |root: &[(&str, &str)], arguments: &[&str], input: &[u8]| {
        let mut command = portcullis(folder.path(), &[&["keys"], arguments].concat());
        command
            .envs(root.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who refuses at once reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(!said.contains(old) && !said.contains(new) && !said.contains("DE02"), "{said}");
        (output.status.code(), text(&output.stdout), said)
    };
    let root = [("ENCRYPTION_KEY", old)];
    output(folder.path(), &["tenant", "add", "acme"]);
    let (code, _, said) = run(&[], &["list"], b"");
    assert!(
        code == Some(1) && said.starts_with("portcullis: ENCRYPTION_KEY: not set; make one with"),
        "{said}"
    );
    assert!(run(&root, &["create", "acme"], b"").1.starts_with("acme: version 1 of "));
    let (code, _, said) = run(&root, &["create", "acme"], b"");
    assert!(code == Some(1) && said.contains("rotate it instead"), "{said}");
    let sealed = run(&root, &["seal", "acme", "--data-type", "iban"], b"DE02 1203").1;
    let open = |root: &[(&str, &str)], kind: &str| {
        run(root, &["open", "acme", "--data-type", kind], sealed.as_bytes())
    };
    assert_eq!(open(&root, "iban").1, "DE02 1203");
    assert_eq!(open(&root, "phone").0, Some(1));
    assert!(run(&root, &["rotate", "acme"], b"").1.starts_with("acme: version 2 of "));
    assert_eq!(run(&root, &["rotate", "--all"], b"").1, "1 tenants rotated\n");
    assert_eq!(run(&root, &["rotate", "--all", "--older-than", "1h"], b"").1, "0 rotated\n");
    assert_eq!(run(&root, &["rotate"], b"").0, Some(2));
    assert_eq!(open(&root, "iban").1, "DE02 1203");
    let list: Value = serde_json::from_str(&run(&root, &["list", "--json"], b"").1).unwrap();
    assert_eq!((&list["current_version"], list["versions"].as_array().unwrap().len()), (&json!(3), 3));

    // A Fernet token of another program: the example of the format's specification.
    let file = folder.path().join("fernet");
    std::fs::write(&file, "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let token = b"gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
    let migrate = ["seal", "acme", "--data-type", "greeting", "--fernet-keys", "fernet"];
    let migrated = run(&root, &migrate, token).1;
    assert_eq!(run(&root, &["open", "acme", "--data-type", "greeting"], migrated.as_bytes()).1, "hello");

    let both = [("ENCRYPTION_KEY", new), ("ENCRYPTION_KEY_PREVIOUS", old)];
    assert_eq!(open(&[("ENCRYPTION_KEY", new)], "iban").0, Some(1));
    assert_eq!(run(&both, &["rewrap", "--all"], b"").1, "1 tenants rewrapped\n");
    assert_eq!(open(&[("ENCRYPTION_KEY", new)], "iban").1, "DE02 1203");
    assert_eq!(open(&root, "iban").0, Some(1));

    let root = [("ENCRYPTION_KEY", new)];
    let (code, _, said) = run(&root, &["minimum", "acme", "3", "--trim"], b"");
    assert!(code == Some(1) && said.contains("the audit trail may hold records"), "{said}");
    let force = run(&root, &["minimum", "acme", "3", "--trim", "--force"], b"").1;
    assert!(force.ends_with("opens from version 3 on\n"), "{force}");
    assert_eq!(open(&root, "iban").0, Some(1));
    let (code, _, said) = run(&root, &["shred", "acme"], b"");
    assert!(code == Some(1) && said.contains("--yes"), "{said}");
    assert_eq!(
        run(&root, &["shred", "acme", "--yes"], b"").1,
        "acme: shredded; 0 events tell nothing of people any more\n"
    );
    assert!(run(&root, &["list"], b"").1.starts_with("acme: shredded 2"));
    assert!(open(&root, "iban").2.contains("shredded"));
}

#[test]
fn a_store_of_a_newer_release_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    output(folder.path(), &["tenant", "add", "acme"]);
    let file = rusqlite::Connection::open(folder.path().join("companion.db")).unwrap();
    file.execute_batch("INSERT INTO schema_migrations (version, name, checksum) VALUES (99, 'x', 'x')")
        .unwrap();
    let refused = output(folder.path(), &["tenant", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("written by a newer release (schema 99"));
    std::fs::write(
        folder.path().join("companion.db"),
        "this is no database, and long enough to be looked at",
    )
    .unwrap();
    assert_eq!(output(folder.path(), &["tenant", "list"]).status.code(), Some(1));
}

#[test]
fn a_configuration_is_checked_as_the_module_would() {
    let folder = tempfile::tempdir().unwrap();
    let check = |document: &str, flags: &[&str]| {
        let file = folder.path().join("config.json");
        std::fs::write(&file, document).unwrap();
        let arguments: Vec<&str> =
            ["check", "config.json"].into_iter().chain(flags.iter().copied()).collect();
        output(folder.path(), &arguments)
    };
    assert_eq!(check("{}", &[]).status.code(), Some(0));
    let bad = check(r#"{"tenants": {}, "companion": {"clutser": "x"}}"#, &[]);
    assert_eq!(bad.status.code(), Some(1));
    let lines = text(&bad.stdout);
    assert!(lines.contains("tenants") && lines.contains("companion.clutser"), "{lines}");
    let bad = check(r#"{"tenants": {}}"#, &["--json"]);
    let report: Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!((bad.status.code(), &report["valid"]), (Some(1), &Value::Bool(false)));
    assert_eq!(report["problems"][0]["path"], "tenants");
    assert_eq!(check("not json \u{1b}[31m", &[]).status.code(), Some(1));
    assert_eq!(output(folder.path(), &["check", "missing.json"]).status.code(), Some(2));
    assert_eq!(output(folder.path(), &["check"]).status.code(), Some(2));

    let mut child = portcullis(folder.path(), &["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{}").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_schema_and_the_check_cover_every_policy() {
    let folder = tempfile::tempdir().unwrap();
    let schema: Value = serde_json::from_slice(&output(folder.path(), &["schema"]).stdout).unwrap();
    for section in ["headers", "access", "rate_limit", "sanitize", "audit"] {
        assert!(schema["properties"][section].is_object(), "{section}");
        let document = format!("{{\"{section}\": {{\"no_such_key\": 1}}}}");
        std::fs::write(folder.path().join("config.json"), document).unwrap();
        let checked = output(folder.path(), &["check", "config.json"]);
        assert_eq!(checked.status.code(), Some(1), "{section}");
        let expected = format!("error: {section}.no_such_key");
        assert!(text(&checked.stdout).starts_with(&expected), "{}", text(&checked.stdout));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_companion_is_restored_whole() {
    for store in [Store::Sqlite, Store::Postgres] {
        let running = Running::start(store, true).await;
        running
            .ingest(&[record("acme", 1, "REQUEST", "INFO"), record("acme", 2, "ATTACK_BLOCKED", "WARNING")])
            .await;
        let session = running
            .post("/api/security/sessions/acme", &json!({"user_id": "a"}), &running.admin())
            .await
            .json();
        let folder = tempfile::tempdir().unwrap();
        let new = new_place(store, folder.path());
        let path = std::env::var("PATH").unwrap();
        let run = |arguments: &[&str], place: &Place| {
            // The state that is copied lies elsewhere than what is restored.
            let data =
                if std::ptr::eq(place, &running.place) { running.folder.path() } else { folder.path() };
            let mut command = portcullis(folder.path(), arguments);
            command.env("DATA_DIR", data);
            command.env("DATABASE_URL", url(place)).env("PATH", &path).output().unwrap()
        };
        let done = run(&["backup", "state.backup"], &running.place);
        assert!(done.status.success(), "{store:?}: {}", text(&done.stderr));
        let mode = std::fs::metadata(folder.path().join("state.backup")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            text(&done.stdout).contains("2 records of the audit trail, verified"),
            "{}",
            text(&done.stdout)
        );
        let again = run(&["backup", "state.backup"], &running.place);
        assert!(text(&again.stderr).contains("a file that does not exist"), "{}", text(&again.stderr));
        // What happens after it is not in it.
        running.ingest(&[record("acme", 3, "REQUEST", "INFO")]).await;

        let done = run(&["restore", "state.backup"], &new);
        assert!(done.status.success(), "{store:?}: {}", text(&done.stderr));
        let again = run(&["restore", "state.backup"], &new);
        assert_eq!(again.status.code(), Some(1), "a store that has something in it is left alone");
        let restored = Running::reopen(folder, new, running.clock.clone(), true).await;
        assert_eq!(restored.events("acme", "").await.len(), 2);
        let metrics = restored.get("/api/security/metrics/acme", Some(&restored.admin())).await.json();
        assert_eq!(metrics["metrics"]["total_events_24h"], 2);
        let token = json!({"token": session["token"]});
        let verified =
            restored.post("/api/security/sessions/acme/verify", &token, &restored.admin()).await.json();
        assert_eq!(verified["valid"], true);
        assert_eq!(restored.companion.trail().size(), 2, "the trail goes on");
        restored.ingest(&[record("acme", 2, "REQUEST", "INFO"), record("acme", 3, "REQUEST", "INFO")]).await;
        assert_eq!(restored.events("acme", "").await.len(), 3, "one was there already");
        let Running { companion, folder, .. } = restored;
        companion.stop().await.unwrap();
        let verified = output(folder.path(), &["audit", "verify"]);
        assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
    }
}

#[test]
fn what_is_no_backup_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("junk"), "this is no database, and long enough to be looked at")
        .unwrap();
    let empty = rusqlite::Connection::open(folder.path().join("other.db")).unwrap();
    empty.execute_batch("CREATE TABLE a (x)").unwrap();
    for file in ["junk", "other.db", "nothing"] {
        let refused = output(folder.path(), &["restore", file]);
        assert_eq!(refused.status.code(), Some(1), "{file}");
        assert!(!folder.path().join("companion.db").exists(), "{file}");
    }
}
