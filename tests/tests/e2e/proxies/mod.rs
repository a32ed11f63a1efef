//! Limits that several proxies share, through real Envoys, a real companion and a real Redis: what all of them admit
//! together, whatever dies or is cut off meanwhile.
//!
//! What is asserted of every storm: no more than B + ⌈L·t/W⌉ requests reached the application; hardly less than that; and the
//! companion's own figures add up, so that no token was made or counted twice. What was seen is printed: run with
//! `--nocapture`.

mod calls;
mod gateway;
mod outages;
mod policies;
mod share;
mod stores;
mod storm;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use xtask::{
    clock::Deadline,
    stack::{ModuleConfig, Piece, Upstream},
};

use crate::support::{
    api::Api,
    application::Application,
    link::Link,
    listeners::{self, Listener},
    stage::{Stage, folder},
};

/// Of a tenant, and so its burst.
const LIMIT: u32 = 200;
const WINDOW: Duration = Duration::from_secs(20);
/// How long leases may take to end.
const REST: Duration = Duration::from_secs(30);

/// A proxy with the module.
struct Proxy {
    stage: Stage,
    /// With the limits that every tenant starts with.
    usual: SocketAddr,
}

/// Several proxies, and the companion that they share.
struct Fleet {
    name: &'static str,
    companion: Stage,
    /// Between the first proxy and the companion.
    link: Link,
    proxies: Vec<Proxy>,
    application: Application,
}

/// The tokens of the companion since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Figures {
    granted: u64,
    spent: u64,
    returned: u64,
    expired: u64,
    outstanding: u64,
    direct: u64,
    failed: u64,
}

fn rules(rules: &Value) -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}, {"client_ip": true}]},
        "sanitize": {"mode": "off"}, "audit": {"mode": "off"},
        "rate_limit": rules,
    })
}

/// An Envoy that the companion of that folder trusts, with listeners of the test's own.
fn envoy(
    name: &str,
    companion: &Path,
    upstream: &Application,
    ingest: u16,
    config: &Value,
    more: Vec<Listener>,
) -> Stage {
    Stage::start(name, |options| {
        fs::create_dir_all(&options.data_dir).unwrap();
        fs::copy(companion.join("ingest-token"), options.data_dir.join("ingest-token")).unwrap();
        options.pieces = vec![Piece::Envoy];
        options.upstream = Upstream::At(upstream.host_port());
        options.ports.ingest = ingest;
        options.config = ModuleConfig::Text(config.to_string());
        options.edits.push(listeners::add(more));
    })
}

impl Proxy {
    /// Its configuration names the fleet's limits; what it trusts is what the companion trusts.
    fn start(name: &str, companion: &Path, upstream: &Application, ingest: u16) -> Self {
        let window = format!("{}s", WINDOW.as_secs());
        // A busy machine answers late: what is late is not what these tests are about.
        let config = rules(&json!({"scope": "global", "on_error": "deny", "lease_wait": "1s", "rules": [
            {"name": "tenant", "per": ["tenant"], "limit": LIMIT, "window": window},
            {"name": "user", "per": ["tenant", "user"], "limit": LIMIT, "window": window},
        ]}));
        let usual = Listener::new(
            &format!("{name}-usual"),
            rules(&json!({"scope": "global", "on_error": "deny", "lease_wait": "1s"})),
        );
        let address = usual.address();
        let stage = envoy(name, companion, upstream, ingest, &config, vec![usual]);
        Self { stage, usual: address }
    }
}

impl Fleet {
    fn start(name: &'static str, proxies: usize, variables: &[(&str, String)]) -> Self {
        let application = Application::start();
        let companion = Stage::start(&format!("{name}-companion"), |options| {
            options.pieces = vec![Piece::Companion];
            let own = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            options.companion_variables.extend(own);
        });
        let ingest = companion.stack.ingest();
        let link = Link::to(ingest);
        let trusted = folder(&format!("{name}-companion"));
        let proxies = (0..proxies).map(|number| {
            let port = if number == 0 { link.port() } else { ingest.port() };
            Proxy::start(&format!("{name}-{number}"), &trusted, &application, port)
        });
        let proxies = proxies.collect();
        Self { name, companion, link, proxies, application }
    }

    fn api(&self) -> Api<'_> {
        Api::admin(&self.companion.stack)
    }

    /// The public listeners of the first proxies.
    fn public(&self, count: usize) -> Vec<SocketAddr> {
        self.proxies.iter().take(count).map(|proxy| proxy.stage.envoy()).collect()
    }

    fn figures(&self) -> Figures {
        let text = self.api().get("/metrics").text();
        let all: BTreeMap<&str, u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("portcullis_limits_")?.split_once(' '))
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        let of = |name: &str| all[name];
        Figures {
            granted: of("tokens_granted_total"),
            spent: of("tokens_spent_total"),
            returned: of("tokens_returned_total"),
            expired: of("tokens_expired_total"),
            outstanding: of("tokens_outstanding"),
            direct: of("tokens_direct_total"),
            failed: of("failed_total"),
        }
    }

    /// Waits until no lease is left; then all that was granted must be accounted for.
    fn at_rest(&self) -> Figures {
        let mut last = Figures::default();
        let rests = Deadline::after(REST).poll(|| {
            last = self.figures();
            (last.outstanding == 0).then_some(())
        });
        assert!(rests.is_some(), "leases do not end: {last:?}");
        assert_eq!(last.granted, last.spent + last.returned + last.expired, "{last:?}");
        last
    }

    /// Starts again what a test has left dead.
    fn repair(&mut self) {
        self.link.mend();
        let proxies = self.proxies.iter_mut().map(|proxy| (&mut proxy.stage, Piece::Envoy));
        for (stage, piece) in proxies.chain([(&mut self.companion, Piece::Companion)]) {
            if !stage.stack.runs(piece) {
                stage.stack.start_piece(piece).unwrap();
            }
            stage.watched();
        }
        self.application.take_seen();
    }
}

/// Three proxies whose companion counts for itself; for one test at a time.
fn fleet() -> MutexGuard<'static, Fleet> {
    static SHARED: OnceLock<Mutex<Fleet>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let port = xtask::ports::free().unwrap();
        Mutex::new(Fleet::start("fleet", 3, &[("LIMITS_GRPC_PORT", port.to_string())]))
    });
    // A test that failed has told so itself.
    let mut fleet = shared.lock().unwrap_or_else(PoisonError::into_inner);
    fleet.repair();
    fleet
}
