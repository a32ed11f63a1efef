//! A session becomes names that the application may trust: the companion answers a real Envoy's `ext_authz`, over HTTP and
//! gRPC, and the module believes what that filter has set.

use serde_json::{Value, json};
use xtask::stack::{Edit, Upstream};

use crate::support::{
    api::{Api, is_about},
    application::Application,
    client::Request,
    fresh_id,
    listeners::{self, Listener, type_url},
    stage::Stage,
};

const GRPC_CLUSTER: &str = "companion_grpc";

fn config() -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "ext_authz"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "ext_authz"}], "required": true},
        "rate_limit": {"mode": "off"}
    })
}

/// As the companion's README says.
fn over_http() -> Value {
    let names =
        json!({"patterns": [{"exact": "x-tenant-id"}, {"exact": "x-user-id"}, {"exact": "x-session-id"}]});
    filter(json!({
        "failure_mode_allow": false,
        "allowed_headers": {"patterns": [{"exact": "authorization"}, {"exact": "cookie"}]},
        "http_service": {
            "server_uri": {"uri": "http://companion", "cluster": "portcullis_ingest", "timeout": "5s"},
            "path_prefix": "/v1/ext-authz",
            "authorization_response": {"allowed_upstream_headers": names, "dynamic_metadata_from_headers": names}
        }
    }))
}

fn over_grpc() -> Value {
    filter(json!({
        "failure_mode_allow": false,
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": GRPC_CLUSTER}, "timeout": "5s"}
    }))
}

fn filter(mut config: Value) -> Value {
    config["@type"] = json!(type_url("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"));
    json!({"name": "envoy.filters.http.ext_authz", "typed_config": config})
}

/// The companion's ingest listener, spoken to in HTTP/2.
fn grpc_cluster() -> Edit {
    Edit::new(|bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        let mut grpc =
            clusters.iter().find(|cluster| cluster["name"] == "portcullis_ingest").unwrap().clone();
        grpc["name"] = json!(GRPC_CLUSTER);
        grpc["load_assignment"]["cluster_name"] = json!(GRPC_CLUSTER);
        grpc["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": type_url("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {}}
            }
        });
        clusters.push(grpc);
    })
}

#[test]
fn a_session_names_tenant_and_user_and_nothing_else_does() {
    let application = Application::start();
    let upstream = application.host_port();
    let mut all = vec![Listener::new("authz-http", config()), Listener::new("authz-grpc", config())];
    all[0].filters.push(over_http());
    all[1].filters.push(over_grpc());
    let added = all.clone();
    let stage = Stage::start("ext-authz", |options| {
        options.upstream = Upstream::At(upstream);
        options.edits.push(listeners::add(added));
        options.edits.push(grpc_cluster());
    });
    let api = Api::admin(&stage.stack);
    // A tenant that is known: in the demonstration, by its first event.
    api.send("PUT", "/api/tenants/acme", "{}");
    for listener in &all {
        let name = listener.name.as_str();
        let begun = api.send("POST", "/api/security/sessions/acme", r#"{"user_id": "alice"}"#);
        assert_eq!(begun.status, 201, "{}", begun.text());
        let (token, session) = (begun.json()["token"].clone(), begun.json()["session"]["session_id"].clone());
        let (token, session) = (token.as_str().unwrap(), session.as_str().unwrap());
        let bearer = format!("Bearer {token}");
        let cookie = format!("theme=dark; portcullis_session={token}");
        for (header, value) in [("authorization", &bearer), ("cookie", &cookie)] {
            let id = fresh_id("authz");
            // What the client says of itself counts for nothing.
            let request =
                Request::get("/").of("globex", &id).header("x-user-id", "root").header("x-session-id", "s");
            let answer = request.header(header, value).send(listener.address());
            assert_eq!(answer.status, 200, "{name}, {header}: {}", answer.text());
            let seen = application.seen(&id).expect("the application is reached");
            for (header, value) in
                [("x-tenant-id", "acme"), ("x-user-id", "alice"), ("x-session-id", session)]
            {
                assert_eq!(seen.header(header), Some(value.as_bytes()), "{name}: {header}");
                let named =
                    seen.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(header.as_bytes()));
                assert_eq!(named.count(), 1, "{name}: {header}");
            }
            let events = api.wait_for("acme", 1, std::time::Duration::from_secs(10), is_about(&id));
            assert_eq!(events[0]["user_id"], "alice", "{name}");
        }
        for forged in [None, Some("Bearer wrong"), Some("Bearer pcs1.AAAA")] {
            let id = fresh_id("forged");
            let mut request = Request::get("/").of("acme", &id).header("x-user-id", "alice");
            if let Some(forged) = forged {
                request = request.header("authorization", forged);
            }
            let answer = request.send(listener.address());
            assert_eq!(answer.status, 401, "{name}: {forged:?}");
            assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"), "{name}");
            assert_eq!(
                answer.header("x-frame-options").as_deref(),
                Some("DENY"),
                "{name}: as on every response"
            );
            assert!(application.seen(&id).is_none(), "{name}: {forged:?}");
        }
        let gone = api.send("DELETE", &format!("/api/security/sessions/acme/{session}"), "");
        assert!(gone.status < 300, "{}", gone.text());
        let revoked = Request::get("/").header("authorization", &bearer).send(listener.address());
        assert_eq!(revoked.status, 401, "{name}: revoked");
    }
}
