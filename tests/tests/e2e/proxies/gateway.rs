//! An Envoy without the module that asks the companion's rate limit service, beside Envoys with it: one limit.

use std::time::Duration;

use serde_json::{Value, json};
use xtask::{
    clock::Deadline,
    stack::{Edit, Piece, Upstream},
};

use super::{
    fleet,
    storm::{Tally, arrived, most, storm},
};
use crate::support::{listeners::type_url, stage::Stage};

/// Replaces the module by Envoy's own filter, which asks the service at that port.
fn without_the_module(port: u16) -> Edit {
    Edit::new(move |bootstrap| {
        let manager = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        let filters = manager["http_filters"].as_array_mut().unwrap();
        filters.retain(|filter| filter["name"] != "envoy.filters.http.wasm");
        filters.insert(0, filter());
        let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
        let application = routes.iter_mut().find(|route| route["name"] == "application").unwrap();
        application["route"]["rate_limits"] = json!([{"actions": [
            {"request_headers": {"header_name": "x-tenant-id", "descriptor_key": "tenant"}},
            {"generic_key": {"descriptor_key": "action", "descriptor_value": "api_call"}}
        ]}]);
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        clusters.push(cluster(port));
    })
}

fn filter() -> Value {
    json!({
        "name": "envoy.filters.http.ratelimit",
        "typed_config": {
            "@type": type_url("envoy.extensions.filters.http.ratelimit.v3.RateLimit"),
            "domain": "portcullis",
            "failure_mode_deny": true,
            "timeout": "2s",
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}}
            }
        }
    })
}

fn cluster(port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let protocol = type_url("envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    json!({
        "name": "limits", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
                {"@type": protocol, "explicit_http_config": {"http2_protocol_options": {}}}
        },
        "load_assignment": {"cluster_name": "limits", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    })
}

#[test]
fn an_envoy_without_the_module_shares_the_limit() {
    let fleet = fleet();
    let variables = &fleet.companion.stack.options().companion_variables;
    let port = variables.iter().find(|(name, _)| name == "LIMITS_GRPC_PORT").unwrap().1.parse().unwrap();
    let upstream = fleet.application.host_port();
    let gateway = Stage::start(&format!("{}-gateway", fleet.name), |options| {
        options.pieces = vec![Piece::Envoy];
        options.upstream = Upstream::At(upstream);
        options.edits.push(without_the_module(port));
    });
    let before = fleet.figures();
    let whole = Deadline::after(Duration::MAX);
    let tally = storm(&[gateway.envoy(), fleet.proxies[1].usual], "gateway", Duration::from_secs(5), || {});
    let most = most(100, Duration::from_secs(60), whole.elapsed());
    let tally = Tally { admitted: arrived(&fleet.application, "gateway"), most, ..tally };
    tally.keeps("an Envoy with the module and one without", 2.0);
    let after = fleet.figures();
    let (direct, leased) = (after.direct - before.direct, after.granted - before.granted);
    println!("{direct} asked for one by one, {leased} leased");
    assert!(direct > 0 && leased > 0, "one of them has done it all: {direct} and {leased}");
}
