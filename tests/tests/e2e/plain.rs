//! The files for plain Envoy: each is validated by Envoy itself, and serves requests, with nothing replaced but what its head
//! says is to be replaced.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use xtask::{
    clock::Deadline,
    ports,
    process::{Lifetime, Process},
};

use crate::support::{
    application::Application,
    capture::Capture,
    client::{Request, Response},
    stage::{folder, layout},
};

const ATTACK: &str = "/search?q=1'+UNION+SELECT+password+FROM+users--";

/// A file of `envoy/plain` in service.
struct Plain {
    process: Process,
    address: SocketAddr,
    application: Application,
    capture: Capture,
}

impl Plain {
    fn start(name: &str) -> Self {
        let (application, capture) = (Application::start(), Capture::start());
        let (port, admin) = (ports::free().unwrap(), ports::free().unwrap());
        let file = layout().root().join("envoy/plain").join(name);
        let mut bootstrap: Value = serde_yaml_ng::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let places = [
            (("0.0.0.0", 10000), port),
            (("127.0.0.1", 9901), admin),
            (("application", 8080), application.host_port().port),
            (("companion", 8001), capture.port()),
        ];
        for ((host, from), to) in places {
            let found = replace_address(&mut bootstrap, host, from, to);
            assert_eq!(found, 1, "{name}: {host}:{from} stands in it once");
        }
        assert!(replace_modules(&mut bootstrap) > 0, "{name}: no module");
        let here = folder("plain");
        fs::create_dir_all(&here).unwrap();
        let adapted = here.join(name).with_extension("json");
        fs::write(&adapted, bootstrap.to_string()).unwrap();
        let envoy = || {
            let mut command = Command::new(layout().envoy().unwrap());
            command
                .env("PORTCULLIS_INGEST_TOKEN", "a token for the tests of plain files")
                .args(["-c"])
                .arg(&adapted);
            command
        };

        let checked = envoy().args(["--mode", "validate"]).output().unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
        let wrong = bootstrap.to_string().replace("failure_policy", "failure_polity");
        fs::write(adapted.with_extension("wrong.json"), wrong).unwrap();
        let refused = Command::new(layout().envoy().unwrap())
            .args(["--mode", "validate", "-c"])
            .arg(adapted.with_extension("wrong.json"))
            .output()
            .unwrap();
        assert!(!refused.status.success(), "{name}: Envoy takes any key");

        let log = fs::File::create(adapted.with_extension("log")).unwrap();
        let mut command = envoy();
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = Process::start(command, Lifetime::Ours).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ready = Deadline::after(Duration::from_secs(60)).poll(|| {
            let ended = process.ended();
            assert_eq!(ended, None, "{name}: see {}", adapted.with_extension("log").display());
            TcpStream::connect(address).ok().map(drop)
        });
        assert!(ready.is_some(), "{name}: does not listen");
        let plain = Self { process, address, application, capture };
        // The upstream's name is looked up meanwhile.
        let serves =
            Deadline::after(Duration::from_secs(30)).poll(|| (plain.get("/").status == 200).then_some(()));
        assert!(serves.is_some(), "{name}: does not serve: {:?}", plain.get("/"));
        plain.application.take_seen();
        plain
    }

    fn get(&self, path: &str) -> Response {
        Request::get(path).header("connection", "close").send(self.address)
    }

    /// Paths that reached the application since this was last asked.
    fn reached(&self) -> usize {
        self.application.take_seen().len()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // It ends with this process at the latest.
        drop(self.process.kill());
    }
}

/// Puts our own place where a socket address names another one; how often it does.
fn replace_address(value: &mut Value, host: &str, from: u16, to: u16) -> usize {
    match value {
        Value::Object(map)
            if map.get("address") == Some(&json!(host)) && map.get("port_value") == Some(&json!(from)) =>
        {
            map.insert("address".to_owned(), json!("127.0.0.1"));
            map.insert("port_value".to_owned(), json!(to));
            1
        }
        Value::Object(map) => map.values_mut().map(|value| replace_address(value, host, from, to)).sum(),
        Value::Array(list) => list.iter_mut().map(|value| replace_address(value, host, from, to)).sum(),
        _ => 0,
    }
}

/// Puts the built modules where files name installed ones.
fn replace_modules(value: &mut Value) -> usize {
    match value {
        Value::String(text) => match text.strip_prefix("/etc/portcullis/") {
            Some(module) => {
                *text = layout().dist().join(module).display().to_string();
                1
            }
            None => 0,
        },
        Value::Object(map) => map.values_mut().map(replace_modules).sum(),
        Value::Array(list) => list.iter_mut().map(replace_modules).sum(),
        _ => 0,
    }
}

/// The profile `web`: what it sets, and what it takes away.
fn is_hardened(answer: &Response) -> bool {
    answer.header("server").is_none()
        && answer.header("x-frame-options").as_deref() == Some("DENY")
        && answer.header("content-security-policy").is_some_and(|policy| policy.contains("object-src 'none'"))
}

#[test]
fn the_whole_chain_guards_every_route() {
    let plain = Plain::start("whole-chain.yaml");
    let answer = plain.get("/search?q=shoes");
    assert_eq!((answer.status, plain.reached()), (200, 1));
    assert!(is_hardened(&answer), "{answer:?}");
    let answer = plain.get(ATTACK);
    assert_eq!((answer.status, answer.reason().as_deref(), plain.reached()), (403, Some("sql-injection"), 0));
    assert!(is_hardened(&answer), "{answer:?}");
    let id = answer.json()["correlation_id"].as_str().unwrap().to_owned();
    assert_eq!(plain.capture.record(&id)["unmapped"]["portcullis"]["reason"], "sql-injection");
}

#[test]
fn single_policies_do_their_own_part() {
    let plain = Plain::start("single-policies.yaml");
    let answer = plain.get("/search?q=shoes");
    assert_eq!((answer.status, plain.reached()), (200, 1));
    assert!(is_hardened(&answer), "{answer:?}");
    let answer = plain.get(ATTACK);
    assert_eq!((answer.status, answer.reason().as_deref(), plain.reached()), (403, Some("sql-injection"), 0));
    assert!(is_hardened(&answer), "the refusal of one module passes the other: {answer:?}");
}

#[test]
fn per_route_only_where_it_is_switched_on() {
    let plain = Plain::start("per-route.yaml");
    let answer = plain.get(ATTACK);
    assert_eq!((answer.status, plain.reached()), (200, 1), "a route without the filter");
    assert_eq!(answer.header("x-frame-options"), None, "{answer:?}");
    let answer = plain.get(&format!("/admin{ATTACK}"));
    assert_eq!((answer.status, plain.reached()), (200, 1), "its metadata says monitor");
    assert!(is_hardened(&answer), "{answer:?}");
}
