//! Who asks: what a client may say of itself, and what only a filter may.

use serde_json::json;

use crate::{
    stages::{configurations, demonstration},
    support::{
        api::{Api, is_about},
        client::Request,
        fresh_id,
        listeners::{Listener, set_metadata},
    },
};

const MARK: &str = "envoy.filters.http.ext_authz";

/// The configurations that these tests are about.
pub fn listeners() -> Vec<Listener> {
    let vouched = json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "ext_authz", "allow": "[a-z]+"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "ext_authz"}]}
    });
    let mut marked = Listener::new("identity-marked", vouched.clone());
    marked.filters.push(set_metadata(MARK, json!({"ran": true})));
    let mut other_mark = Listener::new("identity-other-mark", vouched.clone());
    other_mark.filters.push(set_metadata("envoy.filters.http.ext_authz_", json!({"ran": true})));
    let claims = json!({"tenant": {"from": [{"jwt_claim": "org"}]}, "user": {"from": [{"jwt_claim": "sub"}], "required": true}});
    let mut token = Listener::new("identity-token", claims);
    token.filters.push(set_metadata(
        "envoy.filters.http.jwt_authn",
        json!({"jwt_payload": {"org": "acme", "sub": "alice"}}),
    ));
    let required = json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}], "default": null},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}], "required": true}
    });
    vec![
        Listener::new("identity-default", json!({})),
        Listener::new("identity-unmarked", vouched),
        marked,
        other_mark,
        token,
        Listener::new("identity-required", required),
    ]
}

#[test]
fn the_demonstration_believes_the_client() {
    let shared = demonstration();
    let api = Api::admin(&shared.stage.stack);
    let patience = std::time::Duration::from_secs(5);
    let (named, unnamed) = (fresh_id("named"), fresh_id("unnamed"));
    let request = Request::get("/").of("who-acme", &named).header("x-user-id", "alice");
    assert_eq!(shared.stage.send(&request).status, 200);
    let seen = shared.application.seen(&named).expect("the application is reached");
    assert_eq!(seen.header("x-tenant-id"), Some(&b"who-acme"[..]));
    assert_eq!(seen.header("x-user-id"), Some(&b"alice"[..]));
    let event = api.wait_for("who-acme", 1, patience, is_about(&named)).remove(0);
    assert_eq!((&event["user_id"], &event["ip_address"]), (&json!("alice"), &json!("127.0.0.1")));

    // Nobody named: tenant `public`, and the client's address for a user; what a client writes into
    // X-Forwarded-For is not that address.
    let request = Request::get("/").header("x-request-id", &unnamed).header("x-forwarded-for", "203.0.113.9");
    assert_eq!(shared.stage.send(&request).status, 200);
    let event = api.wait_for("public", 1, patience, is_about(&unnamed)).remove(0);
    assert_eq!((&event["user_id"], &event["ip_address"]), (&json!("127.0.0.1"), &json!("127.0.0.1")));
}

#[test]
fn the_demonstration_refuses_a_tenant_that_is_none() {
    let shared = demonstration();
    for wrong in ["Not-Allowed", "a b", "../x", &"a".repeat(51)] {
        let answer = shared.stage.send(&Request::get("/").of(wrong, &fresh_id("wrong")));
        assert_eq!((answer.status, answer.reason().as_deref()), (403, Some("tenant-unknown")), "{wrong}");
        assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
        assert_eq!(answer.json()["correlation_id"], answer.id());
    }
    let twice = Request::get("/").of("acme", &fresh_id("twice")).header("x-tenant-id", "globex");
    assert_eq!(shared.stage.send(&twice).reason().as_deref(), Some("tenant-unknown"));
}

#[test]
fn a_spoofed_name_never_reaches_the_application() {
    let shared = configurations();
    for name in ["identity-default", "identity-unmarked", "identity-other-mark"] {
        let id = fresh_id("spoofed");
        // Envoy's own rule (headers with underscores are dropped) closes the way through CGI's names.
        let request =
            Request::get("/").of("acme", &id).header("X-User-Id", "root").header("x_tenant_id", "acme");
        let answer =
            request.header("x-user-id", "admin").header("x-other", "kept").send(shared.listener(name));
        assert_eq!(answer.status, 200, "{name}");
        let seen = shared.application.seen(&id).expect("the application is reached");
        for gone in ["x-tenant-id", "x-user-id", "x_tenant_id"] {
            assert_eq!(seen.header(gone), None, "{name}: {gone}");
        }
        assert_eq!(seen.header("x-other"), Some(&b"kept"[..]));
        let record = shared.capture.record(&id);
        assert_eq!(record["metadata"]["tenant_uid"], "public", "{name}");
        assert_ne!(record["actor"]["user"]["uid"], "root", "{name}");
    }
}

#[test]
fn a_name_is_believed_where_the_filter_that_sets_it_has_run() {
    let shared = configurations();
    let id = fresh_id("vouched");
    let answer = Request::get("/")
        .of("acme", &id)
        .header("x-user-id", "alice")
        .send(shared.listener("identity-marked"));
    assert_eq!(answer.status, 200);
    let seen = shared.application.seen(&id).expect("the application is reached");
    assert_eq!(
        (seen.header("x-tenant-id"), seen.header("x-user-id")),
        (Some(&b"acme"[..]), Some(&b"alice"[..]))
    );
    let record = shared.capture.record(&id);
    assert_eq!(
        (&record["metadata"]["tenant_uid"], &record["actor"]["user"]["uid"]),
        (&json!("acme"), &json!("alice"))
    );
    // Its mark makes it believed, not allowed.
    let refused = Request::get("/").of("ACME", &fresh_id("vouched")).send(shared.listener("identity-marked"));
    assert_eq!((refused.status, refused.reason().as_deref()), (403, Some("tenant-unknown")));
}

#[test]
fn a_verified_token_names_tenant_and_user() {
    let shared = configurations();
    let id = fresh_id("token");
    let request = Request::get("/").of("globex", &id).header("x-user-id", "root");
    assert_eq!(request.send(shared.listener("identity-token")).status, 200);
    let seen = shared.application.seen(&id).expect("the application is reached");
    assert_eq!((seen.header("x-tenant-id"), seen.header("x-user-id")), (None, None));
    let record = shared.capture.record(&id);
    assert_eq!(
        (&record["metadata"]["tenant_uid"], &record["actor"]["user"]["uid"]),
        (&json!("acme"), &json!("alice"))
    );
}

#[test]
fn what_is_required_and_missing_is_401() {
    let shared = configurations();
    let listener = shared.listener("identity-required");
    let send = |request: Request| {
        let answer = request.header("x-request-id", fresh_id("required")).send(listener);
        (answer.status, answer.reason())
    };
    let missing = |reason: &str| (401, Some(reason.to_owned()));
    assert_eq!(send(Request::get("/")), missing("tenant-missing"));
    assert_eq!(send(Request::get("/").header("x-tenant-id", "acme")), missing("user-missing"));
    assert_eq!(send(Request::get("/").header("x-tenant-id", "acme").header("x-user-id", "alice")).0, 200);
}
