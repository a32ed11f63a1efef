//! A real Prometheus on the companion's figures, with the rules and the dashboard that ship.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use xtask::layout::Layout;
use xtask::prometheus::program;

use crate::support::{Running, Store, eventually, record, send};

const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../monitoring");

fn promtool(arguments: &[&str]) -> Output {
    let promtool = program(&Layout::of_this_checkout(), "promtool").unwrap();
    Command::new(promtool).args(arguments).current_dir(MONITORING).output().unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

fn names(rules: &Value) -> BTreeSet<String> {
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

/// Each rule fires where it should, and not at a near miss.
#[test]
fn rules_fire_when_they_should() {
    for command in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]] {
        let output = promtool(&command);
        let status = output.status;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(status.success(), "{command:?}: {said}");
    }
    let rules = yaml(include_str!("../../../monitoring/alerts.yaml"));
    let tests = yaml(include_str!("../../../monitoring/alerts.test.yaml"));
    let (mut fired, mut silent) = (BTreeSet::new(), 0);
    for expected in tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["promql_expr_test"].as_array().unwrap())
    {
        match expected["exp_samples"][0]["labels"].as_str() {
            Some(labels) => drop(fired.insert(labels.split('"').nth(1).unwrap().to_owned())),
            None => silent += 1,
        }
    }
    assert_eq!(fired, names(&rules), "a test in which it fires for each rule");
    assert!(silent >= fired.len(), "and a near miss");
}

/// Ends with the test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// One that asks `target` every second.
    fn start(folder: &Path, target: SocketAddr, token: &str) -> Self {
        std::fs::write(folder.join("token"), token).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}\n\
             rule_files: ['{MONITORING}/alerts.yaml']\n\
             scrape_configs:\n- job_name: portcullis\n  authorization: {{credentials_file: token}}\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        std::fs::write(folder.join("prometheus.yaml"), config).unwrap();
        let mut child = Command::new(program(&Layout::of_this_checkout(), "prometheus").unwrap())
            .arg("--config.file=prometheus.yaml")
            .args(["--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let address = lines.find_map(|line| {
            said.push_str(&line);
            line.split_once("msg=\"Listening on\" address=")
                .map(|(_, address)| address.trim().parse().unwrap())
        });
        let address = address.unwrap_or_else(|| panic!("Prometheus did not start: {said}"));
        // It goes on talking, and stops when nobody listens.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    async fn ask(&self, path: &str) -> Value {
        let request = format!("GET {path} HTTP/1.0\r\nHost: t\r\n\r\n");
        let answer = send(self.address, request.as_bytes()).await;
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    /// The value of an expression that gives one.
    async fn value(&self, expression: &str) -> Option<f64> {
        let answer = self.query(expression).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// Whether it answers questions: it listens before it does.
    async fn is_ready(&self) -> bool {
        self.query("1").await["status"] == "success"
    }

    async fn query(&self, expression: &str) -> Value {
        self.ask(&format!("/api/v1/query?query={}", encoded(expression))).await
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_takes_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let outside = crate::pgbouncer::outside_in(folder.path());
    let running = Running::started_with(Store::Sqlite, |settings| settings.bouncer = Some(outside)).await;
    let (target, token) = (running.companion.api_address.unwrap(), running.admin());
    let path = folder.path().to_owned();
    let prometheus =
        tokio::task::spawn_blocking(move || Prometheus::start(&path, target, &token)).await.unwrap();
    eventually(async || prometheus.is_ready().await).await;
    running.ingest(&[record("acme", 1, "ATTACK_BLOCKED", "WARNING")]).await;
    let attacks = "sum(portcullis_events_total{type=\"ATTACK_BLOCKED\",severity=\"WARNING\"})";
    eventually(async || prometheus.value(attacks).await == Some(1.0)).await;
    assert_eq!(prometheus.value("up{job=\"portcullis\"}").await, Some(1.0));
    let targets = prometheus.ask("/api/v1/targets").await;
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");

    // Nothing is the matter with a rule, and none fires of a companion that is well.
    let rules = || async { prometheus.ask("/api/v1/rules").await["data"]["groups"][0]["rules"].clone() };
    eventually(async || {
        rules().await.as_array().is_some_and(|rules| rules.iter().all(|rule| rule["health"] == "ok"))
    })
    .await;
    let told = rules().await;
    assert_eq!(
        told.as_array().unwrap().len(),
        names(&yaml(include_str!("../../../monitoring/alerts.yaml"))).len()
    );
    assert!(told.as_array().unwrap().iter().all(|rule| rule["state"] != "firing"), "{told}");

    // Every question of the dashboard is one.
    let dashboard: Value = serde_json::from_str(include_str!("../../../monitoring/grafana.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            let answer = prometheus.query(&expression).await;
            assert_eq!(answer["status"], "success", "{}: {answer}", panel["title"]);
        }
    }

    // It is missed when it goes.
    running.companion.stop().await.unwrap();
    let down = |rule: &Value| rule["name"] == "PortcullisDown" && rule["state"] == "pending";
    eventually(async || rules().await.as_array().unwrap().iter().any(down)).await;
}

/// What Prometheus's own linter says of the text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_linter_has_nothing_to_say() {
    let running = Running::start(Store::Sqlite, true).await;
    let text = running.get("/metrics", Some(&running.admin())).await.body;
    let promtool = program(&Layout::of_this_checkout(), "promtool").unwrap();
    let lint = move || {
        use std::io::Write;
        let mut child = Command::new(promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(lint).await.unwrap();
    let status = output.status;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(status.success() && said.trim().is_empty(), "{said}");
}
