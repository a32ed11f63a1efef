//! What is measured beside each other.

use std::path::Path;

use serde_json::{Value, json};

/// A filter chain and the request that goes through it.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Its name in the table.
    pub name: String,
    /// The filters before the router.
    pub filters: Vec<Value>,
    /// The request, as bytes on the wire.
    pub request: Vec<u8>,
}

/// Envoy alone, native filters, each policy, the chain.
pub fn variants(dist: &Path) -> Vec<Variant> {
    let get = small_get();
    let variant =
        |name: &str, filters: Vec<Value>| Variant { name: name.to_owned(), filters, request: get.clone() };
    let chain = |name: &str, policies: &[&str]| {
        let mut configuration = open_limits();
        if let Some(object) = configuration.as_object_mut() {
            object.insert("policies".to_owned(), json!(policies));
        }
        variant(name, vec![wasm(dist, &configuration)])
    };
    vec![
        variant("Envoy alone", vec![]),
        variant("native header_mutation, 11 headers", vec![header_mutation()]),
        variant("native local_ratelimit", vec![local_ratelimit()]),
        variant("native both", vec![header_mutation(), local_ratelimit()]),
        chain("portcullis, no policy", &[]),
        chain("portcullis, headers", &["headers"]),
        chain("portcullis, rate_limit", &["rate_limit"]),
        chain("portcullis, sanitize", &["sanitize"]),
        chain("portcullis, audit", &["audit"]),
        chain("portcullis, the chain", &["headers", "rate_limit", "sanitize", "audit"]),
    ]
}

/// A small GET with three parameters and a browser's headers.
fn small_get() -> Vec<u8> {
    b"GET /api/items?page=2&sort=name&q=blue+shoes HTTP/1.1\r\n\
      host: shop.example.com\r\n\
      user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
      accept: application/json, text/plain, */*\r\n\
      accept-language: en-US,en;q=0.5\r\n\
      accept-encoding: gzip, deflate, br\r\n\
      referer: https://shop.example.com/catalog\r\n\
      cookie: session=7f3a9c1e5b2d48f6a0c4e8b1d5f90723; theme=dark\r\n\
      x-tenant-id: acme\r\n\
      x-user-id: alice\r\n\
      sec-fetch-dest: empty\r\n\
      sec-fetch-mode: cors\r\n\
      sec-fetch-site: same-origin\r\n\r\n"
        .to_vec()
}

/// The demonstration's configuration with limits that the load does not reach.
fn open_limits() -> Value {
    json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client", "allow": "^[a-z0-9_-]{1,50}$"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}, {"client_ip": true}]},
        "client_ip": {"from": "x-forwarded-for"},
        "rate_limit": {"rules": [
            {"name": "api_calls", "action": "api_call", "per": ["tenant"], "limit": 1_000_000, "window": "1s"},
            {"name": "login_attempts", "action": "login", "per": ["tenant", "user"], "limit": 1_000_000, "window": "1s"}
        ]}
    })
}

fn wasm(dist: &Path, configuration: &Value) -> Value {
    json!({
        "name": "portcullis",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "portcullis", "root_id": "portcullis",
                "allow_on_headers_stop_iteration": true,
                "vm_config": {
                    "vm_id": "portcullis", "runtime": "envoy.wasm.runtime.v8",
                    "environment_variables": {"key_values": {"PORTCULLIS_HOLD_HEADERS": "true"}},
                    "code": {"local": {"filename": dist.join("portcullis.wasm")}}
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration.to_string()
                }
            }
        }
    })
}

fn header_mutation() -> Value {
    let names = [
        "x-xss-protection",
        "x-content-type-options",
        "x-frame-options",
        "content-security-policy",
        "strict-transport-security",
        "referrer-policy",
        "permissions-policy",
        "cross-origin-embedder-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "x-process-time",
    ];
    let mutations: Vec<Value> = names
        .iter()
        .map(|name| json!({"append": {"header": {"key": name, "value": "same-origin"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}))
        .collect();
    json!({
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"response_mutations": mutations}
        }
    })
}

fn local_ratelimit() -> Value {
    let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limit",
            "token_bucket": {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
            "filter_enabled": always,
            "filter_enforced": always
        }
    })
}
