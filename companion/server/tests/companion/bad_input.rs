//! What a caller can get wrong, at every operation that the description lists: each answer names what was wrong, and nothing
//! in the store is different afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis_server::clock::Timestamp;
use portcullis_server::token::Scope;
use serde_json::{Map, Value, json};

use crate::support::{Answer, Running, Store, on_each_store, record};

const SQL: [&str; 4] = [
    "'; DROP TABLE security_events; --",
    "x' OR '1'='1",
    "1); DELETE FROM tenants; --",
    "\" UNION SELECT tenant_id FROM tenants --",
];

/// An operation of the description.
struct Operation {
    method: String,
    path: String,
    /// Names of its parameters in the query.
    query: Vec<String>,
    /// The fields of the object that it takes, and an example of each one's kind.
    fields: Option<Vec<(String, Value)>>,
}

/// Follows a reference within the document.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

fn kind(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    let of = |name: &Value| match name.as_str() {
        Some("integer" | "number") => Some(json!(1)),
        Some("boolean") => Some(json!(true)),
        Some("object") => Some(json!({})),
        Some("array") => Some(json!([])),
        Some("string") => Some(json!("x")),
        _ => None,
    };
    match &schema["type"] {
        Value::Array(names) => names.iter().find_map(of),
        name => of(name),
    }
    .unwrap_or_else(|| json!("x"))
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap();
    let each = |(path, methods): (&String, &Value)| -> Vec<Operation> {
        let methods = methods.as_object().unwrap().clone();
        let methods = methods.into_iter().filter(|(name, _)| name != "parameters");
        methods
            .map(|(method, operation)| {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let query = parameters.iter().filter(|one| one["in"] == "query");
                let body = &operation["requestBody"]["content"]["application/json"]["schema"];
                let fields = resolved(document, body)["properties"].as_object().map(|fields| {
                    fields.iter().map(|(name, schema)| (name.clone(), kind(document, schema))).collect()
                });
                Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    query: query.map(|one| one["name"].as_str().unwrap().to_owned()).collect(),
                    fields,
                }
            })
            .collect()
    };
    paths.iter().flat_map(each).collect()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

impl Operation {
    /// Whether a tenant stands in its path, and it asks for one that exists.
    fn is_of_tenant(&self) -> bool {
        self.path.contains("{tenant_id}")
            && !(self.path == "/api/tenants/{tenant_id}" && self.method == "PUT")
            && !self.path.starts_with("/reports/")
    }

    fn is_stream(&self) -> bool {
        self.path.ends_with("/stream")
    }

    fn at(&self, tenant: &str) -> String {
        self.path
            .replace("{tenant_id}", tenant)
            .replace("{session_id}", "0123456789abcdef0123456789abcdef")
            .replace("{value_id}", "1")
            // Of a rule of alerts, for whom no other name is known; others may be called that, too.
            .replace("{name}", "slow_statements")
    }

    /// An object with all fields of their kind, and one of them another.
    fn body(&self, name: &str, value: Value) -> String {
        let fields = self.fields.iter().flatten().map(|(name, example)| (name.clone(), example.clone()));
        let mut body: Map<String, Value> = fields.collect();
        body.insert(name.to_owned(), value);
        Value::Object(body).to_string()
    }

    async fn send(&self, running: &Running, path: &str, token: &str, body: &str) -> Answer {
        running.send_json(&self.method, path, token, body).await
    }
}

/// With a tenant, an event, a session, a sealed value and a key.
async fn populated(store: Store) -> (Running, Vec<Operation>) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    running.ingest(&[record("acme", 1, "RATE_LIMIT_EXCEEDED", "WARNING")]).await;
    let (own, admin) = (running.of_tenant("acme"), running.admin());
    let value = json!({"data": "x", "data_type": "iban"});
    assert_eq!(running.post("/api/security/encrypt", &value, &own).await.status, 201);
    let session = running.post("/api/security/sessions/acme", &json!({"user_id": "alice"}), &own).await;
    assert_eq!(session.status, 201, "{}", session.body);
    let document = running.get("/openapi.json", Some(&admin)).await.json();
    let operations = operations(&document);
    assert!(operations.len() > 20, "{}", operations.len());
    (running, operations)
}

/// All rows that a caller could have changed.
async fn contents(running: &Running) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT tenant_id, origin, tenancy_model FROM tenants ORDER BY tenant_id",
        "SELECT tenant_id, event_type, user_id FROM security_events ORDER BY id",
        "SELECT tenant_id, user_id, is_active FROM user_sessions ORDER BY id",
        "SELECT tenant_id, encrypted_value FROM encrypted_data ORDER BY id",
        "SELECT tenant_id, revision FROM tenant_keys ORDER BY tenant_id",
        "SELECT tenant_id, version FROM security_policies ORDER BY tenant_id",
        "SELECT tenant_id, user_id FROM rate_limiting_logs ORDER BY id",
    ] {
        all.extend(running.rows(sql).await.iter().map(|row| format!("{sql}: {row:?}")));
    }
    all
}

async fn unknown_tenants_expired_tokens_and_broken_json_are_told_apart_everywhere(store: Store) {
    let (running, operations) = populated(store).await;
    let before = contents(&running).await;
    let admin = running.admin();
    let expired =
        running.tokens.issue(&Scope::Admin, Timestamp::UNIX_EPOCH, Duration::from_secs(60)).unwrap();
    let (mut tenants, mut bodies) = (0, 0);
    for operation in &operations {
        let named = format!("{} {}", operation.method, operation.path);
        let open = ["/monitoring/liveness", "/monitoring/readiness", "/reports/{tenant_id}"];
        if !open.contains(&operation.path.as_str()) {
            let answer = operation.send(&running, &operation.at("acme"), &expired, "{}").await;
            assert_eq!((answer.status, &answer.json()["reason"]), (401, &json!("unauthorized")), "{named}");
        }
        if operation.is_of_tenant() {
            tenants += 1;
            let mut path = operation.at("nobody");
            if operation.query.contains(&"user_id".to_owned()) {
                path.push_str("?user_id=alice");
            }
            let answer = operation.send(&running, &path, &admin, "{}").await;
            assert_eq!(answer.status, 404, "{named}: {}", answer.body);
            assert_eq!(answer.json()["reason"], "unknown-tenant", "{named}");
        }
        // Browsers are told nothing of what is wrong with their reports.
        if operation.fields.is_some() && !operation.path.starts_with("/reports/") {
            bodies += 1;
            for (broken, place) in [("{\n  : 1}", "line 2 column 3"), ("{", "line 1 column 1")] {
                let answer = operation.send(&running, &operation.at("acme"), &admin, broken).await;
                assert_eq!(answer.status, 400, "{named}: {}", answer.body);
                assert!(
                    answer.json()["detail"].as_str().unwrap().contains(place),
                    "{named}: {}",
                    answer.body
                );
            }
        }
    }
    assert!(tenants >= 12 && bodies >= 8, "{tenants} operations of tenants, {bodies} with a body");
    assert_eq!(contents(&running).await, before);
}

async fn statements_in_any_parameter_are_only_text(store: Store) {
    let (running, operations) = populated(store).await;
    let before = contents(&running).await;
    let admin = running.admin();
    let mut asked = 0;
    for operation in operations.iter().filter(|operation| !operation.is_stream()) {
        for sql in SQL {
            let text = encoded(sql);
            let mut paths = Vec::new();
            for place in ["{tenant_id}", "{session_id}", "{value_id}"] {
                if operation.path.contains(place) {
                    let path = operation.path.replace(place, &text);
                    paths.push(
                        Operation { path, method: String::new(), query: Vec::new(), fields: None }.at("acme"),
                    );
                }
            }
            for name in &operation.query {
                paths.push(format!("{}?{name}={text}", operation.at("acme")));
            }
            for path in paths {
                asked += 1;
                // What takes a body gets one that it refuses, so that only the parameter could do harm.
                let answer = operation.send(&running, &path, &admin, "{\"no such field\": 1}").await;
                // A name that is nobody's is no error where a list is asked for, or an end of all that there is.
                let fits = [200, 204].contains(&answer.status) || (400..500).contains(&answer.status);
                assert!(fits, "{} {path}: {} {}", operation.method, answer.status, answer.body);
            }
        }
    }
    assert!(asked > 100, "{asked}");
    assert_eq!(contents(&running).await, before);
}

async fn statements_and_giants_in_any_field_are_refused_or_only_text(store: Store) {
    let (running, operations) = populated(store).await;
    let (own, admin) = (running.of_tenant("acme"), running.admin());
    let tables = |rows: &[String]| -> BTreeSet<String> {
        rows.iter().map(|row| row.split(" ORDER").next().unwrap().to_owned()).collect()
    };
    let before = contents(&running).await;
    let mut sent = 0;
    for operation in &operations {
        let named = format!("{} {}", operation.method, operation.path);
        for (name, example) in operation.fields.iter().flatten() {
            sent += 1;
            for token in [&own, &admin] {
                // 100 kB are too large for every body; 60 kB for every field but the value that is sealed.
                let giant = operation.body(name, json!("x".repeat(100_000)));
                let answer = operation.send(&running, &operation.at("acme"), token, &giant).await;
                assert!(
                    [403, 413].contains(&answer.status),
                    "{named} {name}: {} {}",
                    answer.status,
                    answer.body
                );
                if example.is_string() && name != "data" {
                    let long = operation.body(name, json!("x".repeat(60_000)));
                    let answer = operation.send(&running, &operation.at("acme"), token, &long).await;
                    assert!(
                        [400, 403, 404, 413, 422].contains(&answer.status),
                        "{named} {name}: {} {}",
                        answer.status,
                        answer.body
                    );
                }
                for sql in SQL {
                    let body = operation.body(name, json!(sql));
                    let answer = operation.send(&running, &operation.at("acme"), token, &body).await;
                    assert!(answer.status < 500, "{named} {name}: {} {}", answer.status, answer.body);
                }
            }
        }
    }
    assert!(sent > 30, "{sent}");
    let after = contents(&running).await;
    assert!(tables(&after).is_superset(&tables(&before)), "{before:?}\n{after:?}");
    let there = running.get("/api/security/events/acme", Some(&admin)).await;
    assert!(there.json()["count"].as_u64().unwrap() >= 1, "{}", there.body);
}

on_each_store![
    unknown_tenants_expired_tokens_and_broken_json_are_told_apart_everywhere,
    statements_in_any_parameter_are_only_text,
    statements_and_giants_in_any_field_are_refused_or_only_text,
];
