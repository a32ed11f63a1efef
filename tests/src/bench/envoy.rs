//! An Envoy with one worker and one listener, for one variant.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Variant;

/// A running Envoy; killed when dropped.
pub struct Envoy {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Envoy {
    /// Starts one and waits until it listens.
    #[expect(clippy::disallowed_methods, reason = "a deadline of the tests, not of a policy")]
    pub fn start(binary: &Path, variant: &Variant, upstream: u16) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("portcullis-bench-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let bootstrap = folder.join("envoy.json");
        fs::write(&bootstrap, bootstrap_json(variant, port, upstream).to_string())?;
        let log = fs::File::create(folder.join("envoy.log"))?;
        let child = Command::new(binary)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning", "-c"])
            .arg(&bootstrap)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| {
                format!(
                    "{}: cannot be started; `make tools` installs it, ENVOY= names your own",
                    binary.display()
                )
            })?;
        let mut envoy = Self { child, port, folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = envoy.child.try_wait()? {
                bail!("ended with {status}: {}", envoy.log());
            }
            if Instant::now() > deadline {
                bail!("does not listen: {}", envoy.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(envoy)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// CPU time of all its threads so far.
    pub fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            sum += text.split(' ').next().unwrap_or_default().parse::<u64>().context("schedstat")?;
        }
        Ok(sum)
    }

    /// Resident memory.
    pub fn memory_mib(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn bootstrap_json(variant: &Variant, port: u16, upstream: u16) -> serde_json::Value {
    let mut filters = variant.filters.clone();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    }));
    let endpoint = |port: u16| json!({"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}]});
    let cluster = |name: &str| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [endpoint(upstream)]}
        })
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
                        "route_config": {"virtual_hosts": [{
                            "name": "all", "domains": ["*"],
                            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]
                        }]},
                        "http_filters": filters
                    }
                }]}]
            }],
            // Records go to the same upstream, whose small answer acknowledges them.
            "clusters": [cluster("upstream"), cluster("portcullis_ingest")]
        }
    })
}
