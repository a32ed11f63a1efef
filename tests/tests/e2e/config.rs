//! Configurations through a real Envoy: refused with all that is wrong with them, and applied where they say.

use std::{net::TcpStream, time::Duration};

use serde_json::{Value, json};
use xtask::stack::{ModuleConfig, Piece};

use crate::{
    stages::configurations,
    support::{
        client::{Request, Response},
        fresh_id,
        listeners::Listener,
        stage::Stage,
        statistics::wait_for_counters,
    },
};

const ATTACK: &str = "q=1'+UNION+SELECT+password+FROM+users--";

/// The configurations that these tests are about.
pub fn listeners() -> Vec<Listener> {
    let set = |value: &str| json!({"set": {"x-route": value}});
    let config = json!({
        "rate_limit": {"mode": "off"},
        "routes": [
            {"name": "by-name", "match": {"route_name": "checkout"}, "headers": set("name")},
            {"name": "by-virtual-host", "match": {"virtual_host": "shop"}, "headers": set("virtual host")},
            {"name": "by-host", "match": {"host": "*.partner.test"}, "headers": set("host")},
            {"name": "by-path", "match": {"path": "/exact"}, "headers": set("path")},
            {"name": "by-prefix", "match": {"path_prefix": "/under", "method": ["POST", "PUT"]}, "headers": set("prefix and method"),
                "sanitize": {"mode": "off"}},
            {"name": "by-regex", "match": {"path_regex": "/v[0-9]+/.*"}, "headers": set("regex")}
        ]
    });
    let route = |name: &str, prefix: &str, text: Option<&str>| {
        let mut route = json!({"name": name, "match": {"prefix": prefix}, "route": {"cluster": "upstream"}});
        if let Some(text) = text {
            route["metadata"] = json!({"filter_metadata": {"portcullis": {"config": text}}});
        }
        route
    };
    let mut listener = Listener::new("config-routes", config);
    listener.virtual_hosts = Some(json!([
        {"name": "shop", "domains": ["shop.test"], "routes": [
            route("checkout", "/checkout", None),
            route("shelf", "/", None)
        ]},
        {"name": "rest", "domains": ["*"], "routes": [
            route("lenient", "/lenient", Some(r#"{"sanitize": {"mode": "off"}, "headers": {"set": {"x-route": "metadata"}}}"#)),
            route("broken", "/broken", Some(r#"{"sanitise": {"mode": "off"}}"#)),
            route("all", "/", None)
        ]}
    ]));
    vec![listener]
}

fn refused(name: &str, config: &str) -> (String, String) {
    let mut ports = None;
    let started = Stage::try_start(name, |options| {
        options.pieces = vec![Piece::Envoy];
        options.config = ModuleConfig::Text(config.to_owned());
        options.ports.choose_free().unwrap();
        ports = Some((options.ports, options.log(Piece::Envoy)));
    });
    let error = started.err().expect("Envoy must not start").to_string();
    let (ports, log) = ports.unwrap();
    for port in [ports.envoy, ports.admin] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "something listens on {port}");
    }
    (error, std::fs::read_to_string(log).unwrap())
}

#[test]
fn envoy_refuses_what_is_wrong_and_says_all_of_it() {
    let config = json!({
        "sanitise": {"mode": "enforce"},
        "tenant": {"from": [{"header": "x-tenant-id"}], "default": "two words"},
        "headers": {"set": {"x-split": "a\r\nb"}},
        "rate_limit": {"rules": [
            {"name": "a", "limit": 0, "window": "1m"},
            {"name": "b", "limit": 1, "window": "5 parsecs"}
        ]},
        "routes": [{"match": {"path": "relative"}, "headers": {"profile": "requird"}}]
    });
    let (error, log) = refused("refused", &config.to_string());
    assert!(error.contains("ended with status"), "Envoy must end by itself: {error}");
    for part in [
        "sanitise: is not a known key; did you mean `sanitize`?",
        "tenant.from[0].set_by: ",
        "tenant.default: `two words` cannot name a tenant; ",
        "headers.set.x-split: holds a control character",
        "rate_limit.rules[1].window: `5 parsecs` is not a length of time; ",
        "routes[0].match.path: `relative` does not start with `/`; write the path from its root",
        "routes[0].headers.profile: `requird` is not known here; did you mean `required`?",
    ] {
        assert!(log.contains(part), "`{part}` is not in Envoy's log:\n{log}");
        assert!(error.contains(part), "`{part}` is not in what `make run` says:\n{error}");
    }
}

#[test]
fn envoy_refuses_what_is_no_json_and_a_rule_without_a_window() {
    let (_, log) = refused("refused-json", r#"{"headers": {"#);
    assert!(log.contains("configuration: (document): is not JSON: "), "{log}");
    let (_, log) =
        refused("refused-rule", r#"{"rate_limit": {"rules": [{"name": "a", "limit": 1, "window": "0s"}]}}"#);
    assert!(log.contains("rate_limit.rules[0].window: 0s; must be 1s to 24h"), "{log}");
}

fn ask(request: Request) -> (Response, String) {
    let id = fresh_id("route");
    (request.header("x-request-id", &id).send(configurations().listener("config-routes")), id)
}

fn route_of(request: Request) -> (Option<String>, Value) {
    let (answer, id) = ask(request);
    assert_eq!(answer.status, 200, "{answer:?}");
    let record = configurations().capture.record(&id);
    (answer.header("x-route"), record["unmapped"]["portcullis"]["route"].clone())
}

#[test]
fn overrides_apply_where_they_match() {
    for (request, header, route) in [
        (Request::get("/checkout/1").header("host", "shop.test"), "name", "by-name"),
        (Request::get("/x").header("host", "shop.test"), "virtual host", "by-virtual-host"),
        (Request::get("/x").header("host", "api.partner.test:8443"), "host", "by-host"),
        (Request::get("/exact?x=1"), "path", "by-path"),
        (Request::get("/%65xact"), "path", "by-path"),
        (Request::new("POST", "/under/x"), "prefix and method", "by-prefix"),
        (Request::get("/v2/x"), "regex", "by-regex"),
    ] {
        assert_eq!(route_of(request), (Some(header.to_owned()), json!(route)));
    }
    // Near misses.
    for request in [
        Request::get("/exact/"),
        Request::get("/under/x"),
        Request::new("POST", "/underneath"),
        Request::get("/v/x"),
    ] {
        assert_eq!(route_of(request).0, None);
    }
    // What an override leaves out stays as it is, and what it says is for its route alone.
    let (answer, _) = ask(Request::new("POST", format!("/under/x?{ATTACK}")));
    assert_eq!((answer.status, answer.header("x-frame-options").as_deref()), (200, Some("DENY")));
    assert_eq!(ask(Request::get(format!("/under/x?{ATTACK}"))).0.status, 403);
}

#[test]
fn the_routes_metadata_overrides_once_more() {
    let (answer, _) = ask(Request::get(format!("/lenient?{ATTACK}")));
    assert_eq!((answer.status, answer.header("x-route").as_deref()), (200, Some("metadata")));
    assert_eq!(ask(Request::get(format!("/strict?{ATTACK}"))).0.status, 403);
}

#[test]
fn metadata_that_is_wrong_is_counted_and_changes_nothing() {
    let shared = configurations();
    assert_eq!(ask(Request::get(format!("/broken?{ATTACK}"))).0.status, 403);
    assert_eq!(ask(Request::get("/broken")).0.status, 200);
    wait_for_counters(shared.stage.stack.admin(), "wrong metadata is counted", |counters| {
        counters.get("portcullis_route_metadata_invalid_total").is_some_and(|count| *count >= 2)
    });
    let said = xtask::clock::Deadline::after(Duration::from_secs(5)).poll(|| {
        let log = shared.stage.envoy_log();
        log.contains(
            "route metadata is ignored: route_metadata.sanitise: is not a known key; did you mean `sanitize`?",
        )
        .then_some(())
    });
    assert!(said.is_some(), "Envoy's log must say what is wrong");
}
