//! Further listeners for one Envoy: each with its own module configuration, filters and routes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde_json::{Value, json};
use xtask::{ports, stack::Edit};

/// The type of a filter's configuration.
pub fn type_url(message: &str) -> String {
    format!("type.googleapis.com/{message}")
}

/// A listener as `envoy/bootstrap.yaml` has it, with a few things changed.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name, and the module's `root_id` on it: what the module keeps, it keeps for this listener.
    pub name: String,
    /// Where it listens.
    pub port: u16,
    /// The module's configuration.
    pub config: Value,
    /// Filters before the module.
    pub filters: Vec<Value>,
    /// Virtual hosts instead of the bootstrap's own.
    pub virtual_hosts: Option<Value>,
    /// Whether WebSocket upgrades are let through.
    pub upgrades: bool,
    /// Whether headers can be held back while the body is inspected, and the module is told so.
    pub holds_headers: bool,
    /// Speaks TLS, with `cert.pem` and `key.pem` of this folder.
    pub tls: Option<PathBuf>,
}

impl Listener {
    /// With a configuration, on a free port.
    pub fn new(name: &str, config: Value) -> Self {
        Self {
            name: name.to_owned(),
            port: ports::free().unwrap(),
            config,
            filters: Vec::new(),
            virtual_hosts: None,
            upgrades: false,
            holds_headers: true,
            tls: None,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The listener as Envoy takes it, made from the bootstrap's own.
    pub fn render(&self, template: &Value) -> Value {
        let mut listener = template.clone();
        listener["name"] = json!(self.name);
        listener["address"]["socket_address"]["port_value"] = json!(self.port);
        if let Some(folder) = &self.tls {
            let file = |name: &str| json!({"filename": folder.join(name)});
            listener["filter_chains"][0]["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": type_url("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
                    "common_tls_context": {
                        "tls_certificates": [{"certificate_chain": file("cert.pem"), "private_key": file("key.pem")}]
                    }
                }
            });
        }
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        manager["stat_prefix"] = json!(self.name);
        if let Some(hosts) = &self.virtual_hosts {
            manager["route_config"]["virtual_hosts"] = hosts.clone();
        }
        if self.upgrades {
            manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
        }
        let filters = manager["http_filters"].as_array_mut().unwrap();
        let at = filters.iter().position(is_module).expect("the bootstrap has the module");
        let module = &mut filters[at]["typed_config"]["config"];
        module["name"] = json!(self.name);
        module["root_id"] = json!(self.name);
        module["configuration"]["value"] = json!(self.config.to_string());
        if !self.holds_headers {
            module["allow_on_headers_stop_iteration"] = json!(false);
            let variables = &mut module["vm_config"]["environment_variables"]["key_values"];
            variables.as_object_mut().expect("variables by name").remove("PORTCULLIS_HOLD_HEADERS");
        }
        filters.splice(at..at, self.filters.clone());
        listener
    }
}

fn is_module(filter: &Value) -> bool {
    filter["name"] == "envoy.filters.http.wasm"
}

/// Adds listeners to a bootstrap.
pub fn add(listeners: Vec<Listener>) -> Edit {
    Edit::new(move |bootstrap| {
        let all = bootstrap["static_resources"]["listeners"].as_array_mut().unwrap();
        let template = all[0].clone();
        all.extend(listeners.iter().map(|listener| listener.render(&template)));
    })
}

/// A filter that leaves metadata under a namespace, as the filter of that name would.
pub fn set_metadata(namespace: &str, value: Value) -> Value {
    json!({
        "name": "envoy.filters.http.set_metadata",
        "typed_config": {
            "@type": type_url("envoy.extensions.filters.http.set_metadata.v3.Config"),
            "metadata": [{"metadata_namespace": namespace, "value": value, "allow_overwrite": true}]
        }
    })
}
