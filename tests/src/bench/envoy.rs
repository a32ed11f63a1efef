//! An Envoy with one worker and one listener, for one variant.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use xtask::{
    clock::Deadline,
    ports,
    process::{Lifetime, Process},
};

use super::{Variant, processors};

/// How long an Envoy may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// CPU time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// Of the worker thread, in nanoseconds.
    pub serving_ns: u64,
    /// Of the threads on which V8 compiles what is called often, in nanoseconds.
    pub compiling_ns: u64,
}

/// What stands behind Envoy.
#[derive(Debug, Clone, Copy)]
pub struct Behind {
    /// The port of the application; `None`: Envoy answers itself (`direct_response`).
    pub upstream: Option<u16>,
    /// The port to which records go.
    pub records: u16,
    /// The port of a rate limit service.
    pub service: u16,
}

/// A running Envoy; killed when dropped, and when this process ends.
pub struct Envoy {
    process: Process,
    port: u16,
    folder: PathBuf,
}

impl Envoy {
    /// Starts one, on that processor if one is named, and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time.
    pub fn start(
        binary: &Path,
        variant: &Variant,
        behind: &Behind,
        processor: Option<usize>,
    ) -> Result<Self> {
        let port = ports::free()?;
        let folder = std::env::temp_dir().join(format!("portcullis-bench-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let bootstrap = folder.join("envoy.json");
        fs::write(&bootstrap, bootstrap_json(variant, port, behind).to_string())?;
        let log = fs::File::create(folder.join("envoy.log"))?;
        let mut command = processors::command(binary, processor);
        command
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
            .arg(&bootstrap)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = Process::start(command, Lifetime::Ours).with_context(|| {
            format!(
                "{}: cannot be started; `make tools` installs it, ENVOY= names your own",
                binary.display()
            )
        })?;
        let mut envoy = Self { process, port, folder };
        let listens = Deadline::after(PATIENCE).poll(|| match envoy.process.ended() {
            Some(how) => Some(Err(how)),
            None => TcpStream::connect(("127.0.0.1", port)).ok().map(|_| Ok(())),
        });
        match listens {
            Some(Ok(())) => Ok(envoy),
            Some(Err(how)) => bail!("{how}: {}", envoy.log()),
            None => bail!("does not listen: {}", envoy.log()),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// CPU time so far of its worker thread, which serves the requests, and of V8's threads, which compile.
    pub fn cpu(&self) -> Result<Cpu> {
        let mut cpu = Cpu::default();
        for task in fs::read_dir(format!("/proc/{}/task", self.process.identity().pid))? {
            let path = task?.path();
            // A thread may end while it is looked at.
            let (Ok(name), Ok(text)) =
                (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
            else {
                continue;
            };
            let spent = text.split(' ').next().unwrap_or_default().parse::<u64>().context("schedstat")?;
            match &name {
                name if name.starts_with("wrk:worker") => cpu.serving_ns += spent,
                name if name.starts_with("V8 ") => cpu.compiling_ns += spent,
                _ => {}
            }
        }
        Ok(cpu)
    }

    /// Resident memory.
    pub fn memory_mib(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.identity().pid))?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // What is left is ended with this process, and the folder is the system's to clean.
        drop(self.process.kill());
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn bootstrap_json(variant: &Variant, port: u16, behind: &Behind) -> serde_json::Value {
    let mut filters = variant.filters.clone();
    let filter = |name: &str, kind: &str, settings: serde_json::Value| {
        let mut typed = json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}")});
        if let (Some(typed), Some(settings)) = (typed.as_object_mut(), settings.as_object()) {
            typed.extend(settings.clone());
        }
        json!({"name": format!("envoy.filters.http.{name}"), "typed_config": typed})
    };
    if behind.upstream.is_none() {
        // An answer of Envoy's own would else not wait for a body.
        filters.push(filter("buffer", "buffer.v3.Buffer", json!({"max_request_bytes": 1 << 20})));
    }
    filters.push(filter("router", "router.v3.Router", json!({})));
    let endpoint = |port: u16| json!({"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}]});
    let cluster = |name: &str, port: u16| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [endpoint(port)]}
        })
    };
    let mut limits = cluster("limits", behind.service);
    if let Some(cluster) = limits.as_object_mut() {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let http2 = json!({"@type": format!("type.googleapis.com/{options}"), "explicit_http_config": {"http2_protocol_options": {}}});
        cluster.insert("typed_extension_protocol_options".to_owned(), json!({options: http2}));
    }
    // Records go to an upstream whose small answer acknowledges them.
    let mut clusters = vec![cluster("portcullis_ingest", behind.records), limits];
    let route = match behind.upstream {
        Some(port) => {
            clusters.push(cluster("upstream", port));
            json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}})
        }
        None => json!({
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "{\"ok\":true}"}},
            "response_headers_to_add": [{
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"
            }]
        }),
    };
    json!({
        "static_resources": {
            "listeners": [{
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "bench",
                        "use_remote_address": true,
                        "preserve_external_request_id": true,
                        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
                        "http_filters": filters
                    }
                }]}]
            }],
            "clusters": clusters
        }
    })
}
