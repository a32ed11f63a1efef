//! Sealing at the edge through a real Envoy: what the application gets it cannot read, and the companion opens it for who may.

use serde_json::{Value, json};
use xtask::stack::{ModuleConfig, Piece, Upstream};

use crate::support::{
    api::Api,
    application::Application,
    client::Request,
    fresh_id,
    stage::{Stage, layout},
};

/// A companion in which two tenants have keys, and the public key of the first.
fn companion() -> (Stage, String) {
    let stage = Stage::start("seal-companion", |options| options.pieces = vec![Piece::Companion]);
    let admin = Api::admin(&stage.stack);
    for tenant in ["acme", "globex"] {
        assert_eq!(admin.send("PUT", &format!("/api/tenants/{tenant}"), "{}").status, 201);
        assert_eq!(admin.send("POST", &format!("/api/security/keys/{tenant}"), "").status, 201);
    }
    // A tenant's own token is enough.
    let told = Api::of_tenant(&stage.stack, "acme").get("/api/security/keys/acme/public");
    assert_eq!(told.status, 200, "{}", told.text());
    let key = told.json()["public_key"].as_str().unwrap().to_owned();
    (stage, key)
}

fn config(key: &str) -> String {
    let text = std::fs::read(layout().demonstration_config()).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["rate_limit"] = json!({"mode": "off"});
    config["audit"] = json!({"mode": "off"});
    config["seal"] = json!({"keys": {"acme": key}, "headers": ["x-card"], "json": ["/card/number"]});
    config.to_string()
}

/// The status, and what was opened or why it was not.
fn open(stage: &Stage, tenant: &str, text: &str, field: &str) -> (u16, Value) {
    let body = json!({"data": text, "field": field}).to_string();
    let answer = Api::of_tenant(&stage.stack, tenant).send("POST", "/api/security/decrypt", &body);
    let json = answer.json();
    (answer.status, if answer.status == 200 { json["data"].clone() } else { json["reason"].clone() })
}

#[test]
fn a_header_and_a_json_value_arrive_sealed_and_the_companion_opens_them_for_their_tenant() {
    let (companion, key) = companion();
    let application = Application::start();
    let upstream = application.host_port();
    let envoy = Stage::start("seal", |options| {
        options.pieces = vec![Piece::Envoy];
        options.upstream = Upstream::At(upstream);
        options.config = ModuleConfig::Text(config(&key));
        options.module = Some(layout().seal_module().unwrap());
    });
    let id = fresh_id("seal");
    let body = r#"{"card": {"number": "4111 1111", "name": "A. Smith"}, "amount": 12.50}"#;
    let answer = envoy
        .send(&Request::post("/pay", "application/json", body).header("x-card", "5500 0000").of("acme", &id));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = application.seen(&id).unwrap();
    let header = String::from_utf8(seen.header("x-card").unwrap().to_vec()).unwrap();
    let body = String::from_utf8(seen.body).unwrap();
    assert!(!header.contains("5500") && !body.contains("4111"), "{header} {body}");
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&document["card"]["name"], &document["amount"]), (&json!("A. Smith"), &json!(12.5)));
    let number = document["card"]["number"].as_str().unwrap();

    assert_eq!(open(&companion, "acme", &header, "header x-card"), (200, json!("5500 0000")));
    assert_eq!(open(&companion, "acme", number, "json /card/number"), (200, json!("\"4111 1111\"")));
    for (tenant, text, field) in [
        ("globex", header.as_str(), "header x-card"),
        ("acme", header.as_str(), "json /card/number"),
        ("acme", &header[..header.len() - 1], "header x-card"),
    ] {
        assert_eq!(open(&companion, tenant, text, field), (422, json!("not-opened")), "{tenant} {field}");
    }

    // A tenant without a key, with something to seal and with nothing.
    let request = |id: &str| Request::get("/").of("initech", id);
    let id = fresh_id("seal");
    let refused = envoy.send(&request(&id).header("x-card", "1"));
    assert_eq!((refused.status, refused.reason().as_deref()), (503, Some("seal-key-missing")));
    assert!(application.seen(&id).is_none());
    assert_eq!(envoy.send(&request(&fresh_id("seal"))).status, 200);

    // Rotated, it opens all the same; shredded, never again.
    let admin = Api::admin(&companion.stack);
    assert_eq!(admin.send("POST", "/api/security/keys/acme/rotate", "").status, 200);
    assert_eq!(open(&companion, "acme", &header, "header x-card"), (200, json!("5500 0000")));
    assert_eq!(admin.send("DELETE", "/api/security/keys/acme", "").status, 200);
    assert_eq!(open(&companion, "acme", &header, "header x-card"), (410, json!("keys-shredded")));
}
