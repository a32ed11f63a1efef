//! What is measured beside each other.

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{levels, noop};

/// A filter chain and the request that goes through it.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Its name in the table.
    pub name: String,
    /// The filters before the router.
    pub filters: Vec<Value>,
    /// Its requests go on to an upstream in any case: Envoy's `ratelimit` filter asks for nothing on a route that answers by itself.
    pub proxied: bool,
    /// The requests that are sent in turn, as bytes on the wire.
    pub requests: Vec<Vec<u8>>,
    /// The name of the variant that it is compared with.
    pub baseline: &'static str,
    /// The name of the variant whose module does nothing, for the same request.
    pub noop: &'static str,
    /// What it may cost.
    pub goal: Goal,
}

/// The most CPU time that a variant may add, in microseconds a request.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Goal {
    /// To Envoy alone.
    pub added_us: Option<f64>,
    /// To a module that does nothing.
    pub beyond_noop_us: Option<f64>,
}

const GET_ALONE: &str = "Envoy alone";
/// As many headers, set by Envoy itself.
pub const NATIVE_HEADERS: &str = "native header_mutation, 11 headers";
/// The policy that sets them in the module.
pub const HEADERS: &str = "portcullis, headers";
const GET_NOOP: &str = "a no-op module";
const POST_ALONE: &str = "POST 2 KB: Envoy alone";
const POST_NOOP: &str = "POST 2 KB: a no-op module";
const ALL: &[&str] = &["headers", "access", "rate_limit", "sanitize", "audit"];

/// Envoy alone, native filters, a module that does nothing, each policy, the chain; and what a body costs. What is measured
/// of the module in `dist` is measured of each of `beside` too.
///
/// # Errors
/// When the demonstration's configuration is no JSON object.
pub fn variants(dist: &Path, beside: &[PathBuf]) -> Result<Vec<Variant>> {
    let mut all = of_module(&dist.join("portcullis.wasm"))?;
    for module in beside {
        let name = module.with_extension("").file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = of_module(module)?.into_iter().filter(|variant| variant.name.contains("portcullis"));
        all.extend(ours.map(|variant| Variant { name: format!("{} ({name})", variant.name), ..variant }));
    }
    Ok(all)
}

fn of_module(module: &Path) -> Result<Vec<Variant>> {
    let configuration = demonstration()?;
    let chain = |policies: &[&str]| {
        let mut configuration = configuration.clone();
        configuration.insert("policies".to_owned(), json!(policies));
        vec![wasm(&json!({"filename": module}), &Value::Object(configuration))]
    };
    let noop = || vec![wasm(&json!({"inline_bytes": STANDARD.encode(noop::module())}), &json!({}))];
    let get = |name: &str, filters| Variant {
        name: name.to_owned(),
        filters,
        proxied: false,
        requests: vec![small_get()],
        baseline: GET_ALONE,
        noop: GET_NOOP,
        goal: Goal::default(),
    };
    let post = |name: &str, filters| Variant {
        requests: vec![json_post()],
        baseline: POST_ALONE,
        noop: POST_NOOP,
        ..get(name, filters)
    };
    let added = |us: f64| Goal { added_us: Some(us), beyond_noop_us: None };
    let mut all = vec![
        get(GET_ALONE, vec![]),
        get(NATIVE_HEADERS, vec![header_mutation()]),
        get("native local_ratelimit", vec![local_ratelimit(&[], &json!([]))]),
        get("native both", vec![header_mutation(), local_ratelimit(&[], &json!([]))]),
        get(GET_NOOP, noop()),
        get("portcullis, no policy", chain(&[])),
        get(HEADERS, chain(&["headers"])),
        get("portcullis, rate_limit", chain(&["rate_limit"])),
        Variant { goal: added(15.0), ..get("portcullis, sanitize", chain(&["sanitize"])) },
        get("portcullis, audit", chain(&["audit"])),
        get("portcullis, the chain", chain(ALL)),
        post(POST_ALONE, vec![]),
        post(POST_NOOP, noop()),
        post("POST 2 KB: portcullis, no policy", chain(&[])),
        Variant { goal: added(60.0), ..post("POST 2 KB: portcullis, sanitize", chain(&["sanitize"])) },
        post("POST 2 KB: portcullis, the chain", chain(ALL)),
    ];
    all.extend(levels::variants(module, &configuration)?);
    Ok(all)
}

/// A small GET with three parameters and a browser's headers.
pub(super) fn small_get() -> Vec<u8> {
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

/// An order of 2 KB, with the same headers.
fn json_post() -> Vec<u8> {
    let item = |n: u32| {
        json!({
            "sku": format!("SHOE-{n:05}"), "name": "Running shoe, blue & white", "quantity": n % 3 + 1,
            "price": {"amount": 89.9, "currency": "EUR"}, "note": "Please don't fold the box; leave it at the door."
        })
    };
    let mut items = Vec::new();
    let mut body = String::new();
    while body.len() < 2048 {
        items.push(item(u32::try_from(items.len()).unwrap_or(0)));
        body =
            json!({"customer": {"name": "Siobhan O'Brien", "email": "s.obrien@example.com"}, "items": items})
                .to_string();
    }
    let get = String::from_utf8_lossy(&small_get()).into_owned();
    let head = get.replacen("GET /api/items?page=2&sort=name&q=blue+shoes", "POST /api/orders", 1);
    let framed =
        format!("\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    (head.trim_end().to_owned() + &framed).into_bytes()
}

/// The demonstration's configuration, with limits that the load does not reach.
fn demonstration() -> Result<Map<String, Value>> {
    let mut configuration: Map<String, Value> =
        serde_json::from_str(include_str!("../../../envoy/demonstration.json"))?;
    let rules = json!([
        {"name": "api_call", "action": "api_call", "per": ["tenant"], "limit": 1_000_000, "window": "1s"},
        {"name": "login", "action": "login", "per": ["tenant", "user"], "limit": 1_000_000, "window": "1s"},
        {"name": "file_upload", "action": "file_upload", "per": ["tenant", "user"], "limit": 1_000_000, "window": "1s"},
        {"name": "report_generation", "action": "report_generation", "per": ["tenant", "user"], "limit": 1_000_000, "window": "1s"}
    ]);
    configuration.insert("rate_limit".to_owned(), json!({"rules": rules}));
    Ok(configuration)
}

pub(super) fn wasm(code: &Value, configuration: &Value) -> Value {
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
                    "code": {"local": code}
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

/// A bucket that the load does not empty.
pub(super) fn bucket() -> Value {
    json!({"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"})
}

/// Envoy's own limits within one process, for everybody and for each of these descriptors, which come of those actions.
pub(super) fn local_ratelimit(descriptors: &[Value], actions: &Value) -> Value {
    let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limit",
            "token_bucket": bucket(),
            "rate_limits": actions,
            "descriptors": descriptors,
            // Of each descriptor without a value: one bucket a value that comes.
            "max_dynamic_descriptors": 100_000,
            "filter_enabled": always,
            "filter_enforced": always
        }
    })
}
