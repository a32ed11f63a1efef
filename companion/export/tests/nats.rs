//! JetStream on a real NATS server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(
    clippy::disallowed_methods,
    clippy::type_complexity,
    reason = "tests wait, and remember what they saw"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_export::nats::JetStream;
use portcullis_export::{Collector, Delivered, DeliveryError, Record, Severity};
use serde_json::{Value, json};
use xtask::{layout::Layout, ports};

/// A server of its own; it ends with the test.
struct Server {
    child: Child,
    port: u16,
    monitor: u16,
    folder: tempfile::TempDir,
    sync: &'static str,
}

impl Server {
    fn start(sync: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, monitor) = (ports::free().unwrap(), ports::free().unwrap());
        let child = Self::spawn(folder.path(), port, monitor, sync);
        Self { child, port, monitor, folder, sync }
    }

    fn spawn(folder: &Path, port: u16, monitor: u16, sync: &str) -> Child {
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             authorization {{ user: export, password: \"s3cret\" }}\n\
             jetstream {{ store_dir: \"{}\", {sync} }}\n",
            folder.display()
        );
        Self::spawn_with(folder, port, monitor, &config)
    }

    fn spawn_with(folder: &Path, port: u16, monitor: u16, config: &str) -> Child {
        let file = folder.join("nats.conf");
        std::fs::write(&file, config).unwrap();
        let program = Layout::of_this_checkout().nats_server().unwrap_or_else(|error| panic!("{error}"));
        let child = Command::new(program)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
            || std::net::TcpStream::connect(("127.0.0.1", monitor)).is_err()
        {
            assert!(since.elapsed() < Duration::from_secs(30), "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(self.folder.path(), self.port, self.monitor, self.sync);
    }

    fn collector(&self, monitored: bool) -> JetStream {
        let monitor = format!("http://127.0.0.1:{}", self.monitor);
        let url = format!("nats://export:s3cret@127.0.0.1:{}", self.port);
        JetStream::new(&url, "AUDIT", monitored.then_some(monitor.as_str())).unwrap()
    }

    /// What the server says of its streams.
    fn streams(&self) -> Value {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.monitor)).unwrap();
        stream.write_all(b"GET /jsz?streams=1&config=1 HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn messages(&self) -> u64 {
        self.streams()["account_details"][0]["stream_detail"][0]["state"]["messages"].as_u64().unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn record(index: u64) -> Record {
    Record {
        uid: format!("00000000000000e1-{index}"),
        index,
        time_ms: 1_764_000_000_123,
        tenant: "acme.eu".to_owned(),
        event_type: "REQUEST".to_owned(),
        severity: Severity::Info,
        correlation_id: None,
        body: json!({"class_uid": 4002, "metadata": {"sequence": index}, "text": "é".repeat(100)}),
    }
}

fn records(range: std::ops::Range<u64>) -> Vec<Record> {
    range.map(record).collect()
}

/// As whoever drives it does: again, until they are taken.
async fn insist(collector: &mut JetStream, records: &[Record]) -> Delivered {
    let since = Instant::now();
    loop {
        match collector.deliver(records).await {
            Ok(done) => return done,
            Err(DeliveryError::Unavailable { reason, .. }) => {
                assert!(since.elapsed() < Duration::from_secs(30), "{reason}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn records_are_stored_once_and_kept_only_where_the_server_syncs() {
    for (sync, monitored, kept) in [
        ("sync_interval: always", true, true),
        ("sync_interval: always", false, false),
        ("sync_interval: 2m", true, false),
    ] {
        let server = Server::start(sync);
        let mut collector = server.collector(monitored);
        let done = collector.deliver(&records(0..200)).await.unwrap();
        assert_eq!(done, Delivered { rejected: 0, kept }, "{sync}, monitored: {monitored}");
        // A repetition is known by its ID.
        collector.deliver(&records(100..300)).await.unwrap();
        assert_eq!(server.messages(), 300);
        let subjects =
            server.streams()["account_details"][0]["stream_detail"][0]["config"]["subjects"].clone();
        assert_eq!(subjects, json!(["portcullis.audit.>"]));
    }
}

#[tokio::test]
async fn another_servers_word_counts_for_nothing() {
    let (server, other) = (Server::start("sync_interval: 2m"), Server::start("sync_interval: always"));
    let url = format!("nats://export:s3cret@127.0.0.1:{}", server.port);
    let monitor = format!("http://127.0.0.1:{}", other.monitor);
    let mut collector = JetStream::new(&url, "AUDIT", Some(&monitor)).unwrap();
    assert!(!collector.deliver(&records(0..1)).await.unwrap().kept);
}

#[tokio::test]
async fn a_server_that_is_killed_has_what_it_acknowledged() {
    let mut server = Server::start("sync_interval: always");
    let mut collector = server.collector(true);
    let mut next = 0;
    for _ in 0..5 {
        insist(&mut collector, &records(next..next + 50)).await;
        next += 50;
        server.kill();
        assert!(matches!(
            collector.deliver(&records(next..next + 50)).await,
            Err(DeliveryError::Unavailable { .. })
        ));
        server.start_again();
    }
    insist(&mut collector, &records(next..next + 50)).await;
    assert_eq!(server.messages(), next + 50);
}

#[tokio::test]
async fn what_is_too_large_is_rejected_and_who_is_not_known_is_told() {
    let server = Server::start("sync_interval: always");
    let mut large = record(1);
    large.body = json!({"text": "x".repeat(2 << 20)});
    let done = server.collector(true).deliver(&[record(0), large, record(2)]).await.unwrap();
    assert_eq!((done.rejected, server.messages()), (1, 2));
    let wrong = format!("nats://export:wrong@127.0.0.1:{}", server.port);
    match JetStream::new(&wrong, "AUDIT", None).unwrap().deliver(&records(0..1)).await {
        Err(DeliveryError::Unavailable { reason, .. }) => {
            assert!(reason.contains("Authorization") && !reason.contains("wrong"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// A certificate of `localhost` and its key, signed by those, or by itself to sign others.
fn certificate(folder: &Path, name: &str, issuer: Option<&(PathBuf, PathBuf)>) -> (PathBuf, PathBuf) {
    let (key, certificate) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pem")));
    let mut command = Command::new("openssl");
    command
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    if let Some((issuer, issuer_key)) = issuer {
        command.arg("-CA").arg(issuer).arg("-CAkey").arg(issuer_key);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    let output = command.output().expect("openssl is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

#[tokio::test]
async fn over_tls_with_a_token_records_arrive_and_no_other_way() {
    let folder = tempfile::tempdir().unwrap();
    let authority = certificate(folder.path(), "authority", None);
    let (other, _) = certificate(folder.path(), "other", None);
    let (own, key) = certificate(folder.path(), "server", Some(&authority));
    let trusted = authority.0;
    let (port, monitor) = (ports::free().unwrap(), ports::free().unwrap());
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\nhttps: \"127.0.0.1:{monitor}\"\nauthorization {{ token: \"s3cret-token\" }}\n\
         tls {{ cert_file: \"{}\", key_file: \"{}\" }}\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
        own.display(),
        key.display(),
        folder.path().display()
    );
    let server = Server {
        child: Server::spawn_with(folder.path(), port, monitor, &config),
        port,
        monitor,
        folder,
        sync: "",
    };
    let collector = |url: &str, authorities: &Path| {
        let monitor = format!("https://localhost:{}", server.monitor);
        JetStream::new(url, "AUDIT", Some(&monitor)).unwrap().trusting(authorities)
    };
    let url = format!("tls://s3cret-token@localhost:{port}");
    let done = collector(&url, &trusted).deliver(&records(0..50)).await.unwrap();
    assert_eq!(done, Delivered { rejected: 0, kept: true }, "and what the monitor says over TLS counts");
    for (url, authorities, named) in [
        (url.clone(), &other, "certificate"),
        (format!("tls://wrong@localhost:{port}"), &trusted, "Authorization"),
        (format!("tls://localhost:{port}"), &trusted, "Authorization"),
        (format!("nats://s3cret-token@localhost:{port}"), &trusted, "tls://"),
        (url.clone(), &key, "certificates of"),
    ] {
        match collector(&url, authorities).deliver(&records(50..51)).await {
            Err(DeliveryError::Unavailable { reason, .. }) => {
                assert!(reason.contains(named) && !reason.contains("s3cret"), "{url}: {reason}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}
