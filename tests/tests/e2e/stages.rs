//! Stacks that several tests share: starting an Envoy costs seconds of CPU time.
//!
//! They end with this process.

use std::{net::SocketAddr, sync::OnceLock};

use serde_json::json;
use xtask::{
    ports,
    stack::{Edit, Piece, Upstream},
};

use crate::{
    access, bans, browser, config, headers, identity,
    support::{
        application::Application,
        capture::Capture,
        listeners::{self, Listener},
        stage::Stage,
    },
};

/// What `make run` starts, with an application of the tests' own and a real companion.
pub struct Demonstration {
    /// The stack.
    pub stage: Stage,
    /// What is behind Envoy.
    pub application: Application,
    /// A listener that lets WebSocket upgrades through.
    pub sockets: Listener,
    /// A listener for a browser that sends reports to `report-uri`.
    pub browser: Listener,
    /// A listener for a browser that sends them by the Reporting API.
    pub reporting: Listener,
}

/// The shared demonstration. Tests keep to tenants of their own.
pub fn demonstration() -> &'static Demonstration {
    static SHARED: OnceLock<Demonstration> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let application = Application::start();
        let config = std::fs::read(crate::support::stage::layout().demonstration_config()).unwrap();
        let mut sockets = Listener::new("sockets", serde_json::from_slice(&config).unwrap());
        sockets.upgrades = true;
        let [browser, reporting] = browser::listeners();
        let added = vec![sockets.clone(), browser.clone(), reporting.clone()];
        let upstream = application.host_port();
        let stage = Stage::start("demonstration", |options| {
            options.upstream = Upstream::At(upstream);
            options.edits.push(listeners::add(added));
        });
        Demonstration { stage, application, sockets, browser, reporting }
    });
    shared.stage.watched();
    shared
}

/// An Envoy with a listener for each configuration that some test is about.
pub struct Configurations {
    /// The stack: Envoy alone.
    pub stage: Stage,
    /// What is behind Envoy.
    pub application: Application,
    /// Where records go.
    pub capture: Capture,
    listeners: Vec<Listener>,
}

impl Configurations {
    /// Where the listener of that name is.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|listener| listener.name == name);
        found.unwrap_or_else(|| panic!("there is no listener {name}")).address()
    }
}

/// The cluster behind which nothing listens.
pub const NOWHERE: &str = "nowhere";

/// The shared Envoy of many configurations.
pub fn configurations() -> &'static Configurations {
    static SHARED: OnceLock<Configurations> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let (application, capture) = (Application::start(), Capture::start());
        let all = [
            access::listeners(),
            identity::listeners(),
            headers::listeners(),
            config::listeners(),
            bans::listeners(),
        ]
        .concat();
        let added = all.clone();
        let (upstream, ingest, closed) = (application.host_port(), capture.port(), ports::free().unwrap());
        let stage = Stage::start("configurations", |options| {
            options.pieces = vec![Piece::Envoy];
            options.upstream = Upstream::At(upstream);
            options.ports.ingest = ingest;
            options.edits.push(listeners::add(added));
            options.edits.push(Edit::new(move |bootstrap| {
                let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
                let mut nowhere = clusters[0].clone();
                nowhere["name"] = json!(NOWHERE);
                nowhere["load_assignment"]["cluster_name"] = json!(NOWHERE);
                let endpoint = &mut nowhere["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
                endpoint["address"]["socket_address"]["port_value"] = json!(closed);
                clusters.push(nowhere);
            }));
        });
        Configurations { stage, application, capture, listeners: all }
    });
    shared.stage.watched();
    shared
}
