//! The same three limits for a thousand tenants: a tenant's, each of its users', and each user's of one action. Native
//! filters, our service asked by Envoy's own filter, and the module, beside Envoy alone and a module that does nothing.

use std::path::Path;

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    noop,
    variants::{Goal, Variant, bucket, local_ratelimit, small_get, wasm},
};

/// The variant that asks the companion.
pub const SERVICE: &str = "3 limits, 1,000 tenants: our gRPC service";
/// The service's own limits; see [`configuration`].
pub const DOMAIN: &str = "bench";

const ALONE: &str = "3 limits, 1,000 tenants: Envoy alone";
const PROXIED: &str = "3 limits, 1,000 tenants: Envoy alone, with an upstream";
const NOOP: &str = "3 limits, 1,000 tenants: a no-op module";
const TENANTS: usize = 1_000;

/// The variants of one module; `base` is its configuration but for its policies and limits.
///
/// # Errors
/// When the no-op module cannot be put together.
pub fn variants(module: &Path, base: &Map<String, Value>) -> Result<Vec<Variant>> {
    let requests = requests();
    let variant = |name: &str, filters: Vec<Value>| Variant {
        name: name.to_owned(),
        filters,
        proxied: false,
        requests: requests.clone(),
        baseline: ALONE,
        noop: NOOP,
        goal: Goal::default(),
    };
    let mut configuration = base.clone();
    configuration.insert("policies".to_owned(), json!(["rate_limit"]));
    configuration.insert("rate_limit".to_owned(), json!({"rules": rules()}));
    let code = json!({"filename": module});
    let ours = vec![wasm(&code, &Value::Object(configuration))];
    let nothing = vec![wasm(&json!({"inline_bytes": STANDARD.encode(noop::module())}), &json!({}))];
    Ok(vec![
        variant(ALONE, vec![]),
        variant(
            "3 limits, 1,000 tenants: native local_ratelimit",
            vec![local_ratelimit(&descriptors(), &actions())],
        ),
        Variant { proxied: true, baseline: PROXIED, ..variant(PROXIED, vec![]) },
        Variant { proxied: true, baseline: PROXIED, ..variant(SERVICE, vec![ratelimit()]) },
        variant(NOOP, nothing),
        Variant {
            goal: Goal { added_us: Some(12.0), beyond_noop_us: Some(4.0) },
            ..variant("3 limits, 1,000 tenants: portcullis", ours)
        },
    ])
}

/// A limit for each user that stays in use for hours, whose requests are [`small_get`].
///
/// # Errors
/// When the configuration cannot be put together.
pub fn daily(dist: &Path) -> Result<Variant> {
    let configuration = json!({
        "policies": ["rate_limit"],
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}]},
        "rate_limit": {"rules": [{"name": "daily", "per": ["tenant", "user"], "limit": 20, "window": "24h"}]}
    });
    Ok(Variant {
        name: "a daily limit".to_owned(),
        filters: vec![wasm(&json!({"filename": dist.join("portcullis.wasm")}), &configuration)],
        proxied: false,
        requests: vec![small_get()],
        baseline: ALONE,
        noop: NOOP,
        goal: Goal::default(),
    })
}

/// A request of a user of each tenant.
fn requests() -> Vec<Vec<u8>> {
    let get = String::from_utf8_lossy(&small_get()).into_owned();
    let of = |number: usize| {
        let tenant = format!("x-tenant-id: tenant-{number}\r\n");
        get.replacen("x-tenant-id: acme\r\n", &tenant, 1).into_bytes()
    };
    (0..TENANTS).map(of).collect()
}

/// The module's, which the load does not reach.
fn rules() -> Value {
    let rule = |name: &str, per: Value| json!({"name": name, "per": per, "limit": 1_000_000, "window": "1s"});
    let mut action = rule("api_call", json!(["tenant", "user"]));
    if let Some(action) = action.as_object_mut() {
        action.insert("action".to_owned(), json!("api_call"));
    }
    json!([rule("tenant", json!(["tenant"])), rule("user", json!(["tenant", "user"])), action])
}

/// What Envoy is to count: the same three.
fn actions() -> Value {
    let header =
        |name: &str, key: &str| json!({"request_headers": {"header_name": name, "descriptor_key": key}});
    let (tenant, user) = (header("x-tenant-id", "tenant"), header("x-user-id", "user"));
    let action = json!({"generic_key": {"descriptor_key": "action", "descriptor_value": "api_call"}});
    json!([{"actions": [tenant]}, {"actions": [tenant, user]}, {"actions": [tenant, user, action]}])
}

/// `local_ratelimit`'s buckets: a key without a value has one for each value.
fn descriptors() -> Vec<Value> {
    let (tenant, user) = (json!({"key": "tenant"}), json!({"key": "user"}));
    let action = json!({"key": "action", "value": "api_call"});
    let of = |entries: Value| json!({"entries": entries, "token_bucket": bucket()});
    vec![of(json!([tenant])), of(json!([tenant, user])), of(json!([tenant, user, action]))]
}

/// Envoy's filter that asks a service.
fn ratelimit() -> Value {
    json!({
        "name": "envoy.filters.http.ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": DOMAIN,
            // A call that fails must not pass for one that was cheap.
            "failure_mode_deny": true,
            "rate_limits": actions(),
            "timeout": "2s",
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}}
            }
        }
    })
}

/// The service's configuration (`LIMITS_CONFIG`).
pub fn configuration() -> Value {
    let limit = json!({"unit": "second", "requests_per_unit": 1_000_000});
    let action = json!({"key": "action", "value": "api_call", "rate_limit": limit});
    let user = json!({"key": "user", "rate_limit": limit, "descriptors": [action]});
    json!({"domain": DOMAIN, "descriptors": [{"key": "tenant", "rate_limit": limit, "descriptors": [user]}]})
}
