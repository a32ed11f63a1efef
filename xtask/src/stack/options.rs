//! What a stack is started with.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Piece;
use crate::{
    layout::Layout,
    ports::{self, Wanted},
    process::Lifetime,
};

/// Where the pieces listen. 0 means: choose a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ports {
    /// Envoy's public listener.
    pub envoy: u16,
    /// Envoy's administration.
    pub admin: u16,
    /// The companion's API.
    pub companion: u16,
    /// The companion's listener for records.
    pub ingest: u16,
    /// The demonstration upstream.
    pub upstream: u16,
}

impl Ports {
    /// Puts a free port wherever there is 0.
    ///
    /// # Errors
    /// When none is free.
    pub fn choose_free(&mut self) -> Result<()> {
        for port in
            [&mut self.envoy, &mut self.admin, &mut self.companion, &mut self.ingest, &mut self.upstream]
        {
            if *port == 0 {
                *port = ports::free()?;
            }
        }
        Ok(())
    }
}

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || format!("`{text}` is not host:port, like localhost:3000");
        let (host, port) = text.rsplit_once(':').with_context(expected)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let named = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        };
        let host = match bare {
            Some(bare) if bare.parse::<std::net::Ipv6Addr>().is_ok() => bare,
            None if named(host) => host,
            _ => bail!(expected()),
        };
        let port = port.parse().ok().filter(|port| *port > 0).with_context(expected)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What stands behind Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// [`crate::upstream`], started with the stack.
    Demonstration,
    /// An application that runs already.
    At(HostPort),
}

/// The module's configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum ModuleConfig {
    /// `envoy/demonstration.json`.
    Demonstration,
    /// Another file.
    File(PathBuf),
    /// A text; Envoy is handed it as it is.
    Text(String),
}

impl ModuleConfig {
    /// Its text.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn text(&self, layout: &Layout) -> Result<String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("CONFIG={}: cannot be read", path.display()))
        };
        match self {
            Self::Demonstration => read(&layout.demonstration_config()),
            Self::File(path) => read(path),
            Self::Text(text) => Ok(text.clone()),
        }
    }
}

/// A change to the rendered bootstrap before Envoy gets it: further listeners, other filters.
#[derive(Clone)]
pub struct Edit(Arc<dyn Fn(&mut Value) + Send + Sync>);

impl Edit {
    /// From a function.
    pub fn new(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(edit))
    }

    /// Changes a bootstrap.
    pub fn apply(&self, bootstrap: &mut Value) {
        (self.0)(bootstrap);
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Edit")
    }
}

/// What a stack is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The checkout.
    pub layout: Layout,
    /// Where all state lies: secrets, database, logs, the rendered bootstrap.
    pub data_dir: PathBuf,
    /// Where the pieces listen.
    pub ports: Ports,
    /// The address of Envoy's public listener; everything else stays on loopback.
    pub listen: IpAddr,
    /// The module's configuration.
    pub config: ModuleConfig,
    /// The module; `None` is `dist/portcullis.wasm`.
    pub module: Option<PathBuf>,
    /// What stands behind Envoy.
    pub upstream: Upstream,
    /// Envoy's worker threads.
    pub concurrency: usize,
    /// Whether the pieces outlive this process.
    pub lifetime: Lifetime,
    /// The pieces to start; others can be started later.
    pub pieces: Vec<Piece>,
    /// Whether the companion lets tenants register themselves.
    pub demonstration: bool,
    /// Changes to the bootstrap, in order.
    pub edits: Vec<Edit>,
    /// Further variables for the companion, over those of this process.
    pub companion_variables: Vec<(String, String)>,
    /// Envoy's `--component-log-level`.
    pub envoy_log: String,
    /// How long a piece may take until it answers.
    pub patience: Duration,
}

impl Options {
    /// What `make run` uses when no variable is set.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        /// More workers than that help nobody in a demonstration, and each has its own virtual machine.
        const WORKERS: usize = 4;
        Self {
            layout: Layout::of_this_checkout(),
            data_dir: data_dir.into(),
            ports: Ports { envoy: 10_000, admin: 9901, companion: 8000, ingest: 8001, upstream: 0 },
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            config: ModuleConfig::Demonstration,
            module: None,
            upstream: Upstream::Demonstration,
            concurrency: thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS)),
            lifetime: Lifetime::Ours,
            pieces: Piece::ALL.to_vec(),
            demonstration: true,
            edits: Vec::new(),
            companion_variables: Vec::new(),
            envoy_log: "wasm:info".to_owned(),
            patience: Duration::from_secs(60),
        }
    }

    /// The same with free ports, so that tests run side by side.
    pub fn for_tests(data_dir: impl Into<PathBuf>) -> Self {
        Self { ports: Ports::default(), concurrency: 2, ..Self::new(data_dir) }
    }

    /// Whether a piece is to be started.
    pub fn starts(&self, piece: Piece) -> bool {
        self.pieces.contains(&piece) && (piece != Piece::Upstream || self.upstream == Upstream::Demonstration)
    }

    /// The application behind Envoy.
    pub fn upstream_address(&self) -> HostPort {
        match &self.upstream {
            Upstream::Demonstration => {
                HostPort { host: Ipv4Addr::LOCALHOST.to_string(), port: self.ports.upstream }
            }
            Upstream::At(address) => address.clone(),
        }
    }

    /// The folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    /// A piece's log.
    pub fn log(&self, piece: Piece) -> PathBuf {
        self.logs().join(format!("{}.log", piece.name()))
    }

    /// Envoy's access log.
    pub fn access_log(&self) -> PathBuf {
        self.logs().join("access.log")
    }

    /// Checks that every port that will be needed is free.
    ///
    /// # Errors
    /// Names the port, its variable, and the remedy.
    pub fn check_ports(&self) -> Result<()> {
        let Ports { envoy, admin, companion, ingest, upstream } = self.ports;
        let all = [
            (Piece::Envoy, envoy, "ENVOY_PORT", "Envoy"),
            (Piece::Envoy, admin, "ADMIN_PORT", "Envoy's administration"),
            (Piece::Companion, companion, "COMPANION_PORT", "the companion"),
            (Piece::Companion, ingest, "INGEST_PORT", "the companion's ingest"),
            (Piece::Upstream, upstream, "UPSTREAM_PORT", "the demonstration upstream"),
        ];
        let wanted: Vec<Wanted> = all
            .into_iter()
            .filter(|(piece, ..)| self.starts(*piece))
            .map(|(_, port, variable, what)| Wanted { port, variable, what })
            .collect();
        ports::check_all(&wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["localhost:3000", "127.0.0.1:80", "[::1]:80", "my_app.internal:1"] {
            assert_eq!(good.parse::<HostPort>().unwrap().to_string(), good);
        }
        for bad in
            ["localhost", ":80", "::1:80", "x:0", "x:70000", "http://x:80", "[x]:80", "a b:1", "x:80/path"]
        {
            let error = bad.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains("like localhost:3000"), "{bad}: {error}");
        }
    }

    #[test]
    fn no_port_is_needed_for_what_is_not_started() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut options = Options::for_tests("/nowhere");
        options.ports.choose_free().unwrap();
        options.ports.upstream = held.local_addr().unwrap().port();
        assert!(options.check_ports().unwrap_err().to_string().contains("UPSTREAM_PORT="));
        options.upstream = Upstream::At("localhost:1".parse().unwrap());
        options.check_ports().unwrap();
    }
}
