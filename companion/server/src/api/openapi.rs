//! `/openapi.json`: the API's own description (OpenAPI 3.1). Schemas come from the types that are serialized.

use axum::response::Response;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{monitoring, rate_limit, security};
use crate::http::envelope;
use crate::http::problem::ProblemBody;

/// The description.
pub async fn document() -> Response {
    envelope::json(&describe())
}

fn describe() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut schemas = settings.into_generator();
    let answer = |schema: schemars::Schema, description: &str| json!({"description": description, "content": {"application/json": {"schema": schema}}});
    let status = answer(schemas.subschema_for::<security::Status>(), "What protects the tenants.");
    let events = answer(schemas.subschema_for::<security::Events>(), "Newest first.");
    let metrics = answer(schemas.subschema_for::<security::TenantMetrics>(), "The last 24 hours.");
    let state = answer(schemas.subschema_for::<monitoring::StateBody>(), "The state and nothing else.");
    let version = answer(schemas.subschema_for::<monitoring::Version>(), "The release that runs.");
    let detailed = answer(schemas.subschema_for::<monitoring::Detailed>(), "The state of every part.");
    let verdict = answer(
        schemas.subschema_for::<rate_limit::Verdict>(),
        "Whether it may happen; if so, it has been counted.",
    );
    let question = schemas.subschema_for::<rate_limit::Question>();
    let problem = schemas.subschema_for::<ProblemBody>();

    let tenant = json!({"name": "tenant_id", "in": "path", "required": true,
        "schema": {"type": "string", "minLength": 1, "maxLength": 50}});
    let filter = json!([
        tenant,
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
        {"name": "event_type", "in": "query", "schema": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]{0,99}$"}},
        {"name": "severity", "in": "query", "schema": {"enum": ["INFO", "WARNING", "ERROR"]}},
        {"name": "since", "in": "query", "schema": {"type": "string", "format": "date-time"}},
    ]);
    let get = |summary: &str, ok: &Value, problems: &[&str]| {
        let mut responses = serde_json::Map::from_iter([("200".to_owned(), ok.clone())]);
        for status in problems {
            let reference = json!({"$ref": "#/components/responses/Problem"});
            responses.insert((*status).to_owned(), reference);
        }
        json!({"get": {"summary": summary, "responses": responses}})
    };
    let with = |mut operation: Value, name: &str, value: Value| {
        if let Some(get) = operation.get_mut("get").and_then(Value::as_object_mut) {
            get.insert(name.to_owned(), value);
        }
        operation
    };
    let post = |summary: &str, body: Value, ok: &Value, problems: &[&str]| {
        let mut operation = get(summary, ok, problems);
        let operation = operation.get_mut("get").map(Value::take).unwrap_or_default();
        let body = json!({"required": true, "content": {"application/json": {"schema": body}}});
        let mut post = json!({"post": operation});
        if let Some(post) = post.get_mut("post").and_then(Value::as_object_mut) {
            post.insert("requestBody".to_owned(), body);
        }
        post
    };
    let of_tenant: &[&str] = &["400", "401", "403", "404", "503"];
    let text = json!({"description": "Prometheus text, format 0.0.4.", "content": {"text/plain": {}}});
    let own = json!({"description": "This document.", "content": {"application/json": {}}});
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Portcullis companion", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}],
        "paths": {
            "/api/security/status": get("What protects the tenants", &status, &["401"]),
            "/api/security/events/{tenant_id}": with(get("A tenant's events", &events, of_tenant), "parameters", filter),
            "/api/security/metrics/{tenant_id}":
                with(get("A tenant's figures", &metrics, of_tenant), "parameters", json!([tenant])),
            "/api/security/rate-limit/check":
                post("Count one action of a user", json!(question), &verdict, of_tenant),
            "/monitoring/liveness": with(get("Whether the process answers", &state, &[]), "security", json!([])),
            "/monitoring/readiness": with(get("Whether the store works", &state, &["503"]), "security", json!([])),
            "/monitoring/version": get("The release that runs", &version, &["401"]),
            "/health/detailed": get("The state of every part (admin)", &detailed, &["401", "403"]),
            "/metrics": get("Figures for Prometheus (admin)", &text, &["401", "403"]),
            "/openapi.json": get("This document", &own, &["401"]),
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {
                "description": "What is wrong and what to do (RFC 9457).",
                "content": {"application/problem+json": {"schema": problem}}
            }},
            "schemas": schemas.take_definitions(true),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = describe();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        references += 1;
                        let pointer = target.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{target}");
                    }
                    open.extend(map.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 10);
    }
}
