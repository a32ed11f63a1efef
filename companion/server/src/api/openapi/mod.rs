//! `/openapi.json`: the API's own description (OpenAPI 3.1). Schemas come from the types that are read and written, so that they
//! cannot drift; a test asks every path for what it says (`tests/companion/description.rs`).

mod operation;
mod watching;

use axum::response::Response;
use serde_json::{Value, json};

use operation::{Description, Operation, query};

use super::{
    database, encryption, events, keys, limits, monitoring, overview, passwords, performance, policies,
    rate_limit, security, sessions, status, tenants,
};
use crate::http::envelope;
use crate::http::problem::ProblemBody;

/// The description.
pub async fn document() -> Response {
    envelope::json(&describe())
}

/// The filter of lists and streams of events.
fn filter(operation: Operation<'_>) -> Operation<'_> {
    let instant = json!({"type": "string", "format": "date-time"});
    operation
        .parameter(query(
            "limit",
            false,
            &json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        ))
        .parameter(query(
            "event_type",
            false,
            &json!({"type": "string", "pattern": "^[A-Z][A-Z0-9_]{0,99}$"}),
        ))
        .parameter(query("severity", false, &json!({"enum": ["INFO", "WARNING", "ERROR"]})))
        .parameter(query("since", false, &instant))
        .parameter(query("until", false, &instant))
}

fn describe() -> Value {
    let mut all = Description::new();
    describe_security(&mut all);
    describe_keys(&mut all);
    describe_sessions(&mut all);
    describe_databases(&mut all);
    describe_plans(&mut all);
    watching::describe(&mut all);
    describe_tenants(&mut all);
    describe_monitoring(&mut all);
    let problem = all.schemas.subschema_for::<ProblemBody>();
    let problem = json!({"description": "What is wrong and what to do (RFC 9457).",
        "content": {"application/problem+json": {"schema": problem}}});
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Portcullis companion", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}],
        "paths": all.paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": problem},
            "schemas": all.schemas.take_definitions(true),
        },
    })
}

fn describe_security(all: &mut Description) {
    all.add("get", "/api/security/status", "What protects the tenants")
        .answers::<security::Status>("200", "What is switched on.")
        .done();
    all.add("get", "/api/security/metrics/{tenant_id}", "A tenant's figures")
        .answers::<security::TenantMetrics>("200", "The last 24 hours.")
        .done();
    filter(all.add("get", "/api/security/events/{tenant_id}", "A tenant's events"))
        .parameter(query("cursor", false, &json!({"type": "string", "maxLength": 64})))
        .answers::<events::Events>("200", "Newest first.")
        .done();
    all.add("post", "/api/security/events/{tenant_id}", "Report an application's own event")
        .takes::<events::NewEvent>()
        .answers::<events::Stored>("201", "It is durable.")
        .done();
    filter(all.add("get", "/api/security/events/{tenant_id}/stream", "Follow a tenant's events"))
        .parameter(json!({"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}))
        .answers_as("text/event-stream", "Events as they are stored; each `data` is one event of the list.")
        .done();
    all.add("get", "/api/security/policies/{tenant_id}", "A tenant's policies")
        .answers::<policies::PoliciesBody>("200", "What holds: its own, and the defaults for the rest.")
        .done();
    all.add("put", "/api/security/policies/{tenant_id}", "Change what is named of a tenant's policies")
        .takes_schema(crate::policies::patch_schema())
        .answers::<policies::PoliciesBody>("200", "What holds now.")
        .also(&["409"])
        .done();
    all.add("post", "/api/security/rate-limit/check", "Count one action of a user")
        .takes::<rate_limit::Question>()
        .answers::<rate_limit::Verdict>("200", "Whether it may happen; if so, it has been counted.")
        .done();
    let most = json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 50});
    all.add("get", "/api/security/rate-limit/usage", "Limits near their end (admin)")
        .parameter(query("limit", false, &most))
        .answers::<limits::UsageBody>("200", "Those that are used most first.")
        .done();
    all.add("get", "/api/security/rate-limit/usage/{tenant_id}", "A tenant's limits near their end")
        .parameter(query("limit", false, &most))
        .answers::<limits::UsageBody>("200", "Those that are used most first.")
        .done();
    all.add("post", "/api/security/password/check", "Judge a password by a tenant's policy")
        .takes::<passwords::Candidate>()
        .answers::<passwords::Judgement>("200", "Each rule.")
        .done();
}

fn describe_keys(all: &mut Description) {
    all.add("post", "/api/security/encrypt", "Seal a value under its tenant's key")
        .takes::<encryption::Plain>()
        .answers::<encryption::SealedBody>("200", "It is sealed, and not kept.")
        .answers::<encryption::SealedBody>("201", "It is sealed and kept.")
        .also(&["410"])
        .done();
    all.add("post", "/api/security/decrypt", "Open a sealed value")
        .takes::<encryption::Ciphered>()
        .answers::<encryption::Opened<'_>>("200", "The value.")
        .also(&["410"])
        .done();
    all.add("delete", "/api/security/encrypted/{tenant_id}/{value_id}", "Remove a kept value")
        .answers::<encryption::Discarded>("200", "It is gone.")
        .done();
    all.add("get", "/api/security/keys", "Tenants' keys (admin)")
        .parameter(query("after", false, &json!({"type": "string", "pattern": "^[!-~]{1,50}$"})))
        .answers::<keys::KeyList>("200", "By tenant, 100 at a time.")
        .done();
    let one = "/api/security/keys/{tenant_id}";
    all.add("get", one, "A tenant's keys (admin)").answers::<keys::KeyBody>("200", "Their versions.").done();
    all.add("post", one, "Make a tenant's key (admin)")
        .answers::<keys::KeyBody>("201", "It is there.")
        .also(&["409"])
        .done();
    all.add("put", one, "Say which versions of a tenant's key open (admin)")
        .takes::<keys::KeyChange>()
        .answers::<keys::KeyBody>("200", "As it is now.")
        .also(&["409", "410"])
        .done();
    all.add("delete", one, "Delete a tenant's keys for good (admin)")
        .answers::<keys::Shredded>(
            "200",
            "What they sealed cannot be read again, and events show nothing of its people.",
        )
        .done();
    all.add("get", "/api/security/keys/{tenant_id}/public", "What a proxy seals a tenant's values to")
        .answers::<keys::PublicKeyBody>("200", "The public key of the newest version.")
        .also(&["410"])
        .done();
    all.add("post", "/api/security/keys/{tenant_id}/rotate", "Make a new version of a tenant's key (admin)")
        .answers::<keys::KeyBody>("200", "It seals from now on.")
        .also(&["409", "410"])
        .done();
    all.add("post", "/api/security/keys/{tenant_id}/rewrap", "Seal a tenant's kept values anew (admin)")
        .answers::<keys::Rewrapped>("200", "They are sealed under the newest version.")
        .also(&["410"])
        .done();
}

fn describe_sessions(all: &mut Description) {
    let of_tenant = "/api/security/sessions/{tenant_id}";
    let user = json!({"type": "string", "pattern": r"^[^\x00-\x1f\x7f-\x9f]{1,50}$"});
    all.add("get", of_tenant, "A user's sessions")
        .parameter(query("user_id", true, &user))
        .answers::<sessions::Sessions>("200", "Those that go on, newest first.")
        .also(&["422"])
        .done();
    all.add("post", of_tenant, "Begin a session")
        .takes::<sessions::NewSession>()
        .answers::<sessions::Begun>("201", "It has begun; beyond the maximum the oldest has ended.")
        .done();
    all.add("delete", of_tenant, "End all sessions of a user, or of the tenant")
        .parameter(query("user_id", false, &user))
        .answers::<sessions::Revoked>("200", "How many have ended.")
        .also(&["422"])
        .done();
    all.add("post", "/api/security/sessions/{tenant_id}/verify", "Look at a session")
        .takes::<sessions::Shown>()
        .answers::<sessions::Verified>("200", "Whether it goes on, and if not, why.")
        .done();
    all.add("post", "/api/security/sessions/{tenant_id}/touch", "Look at a session and count it as used")
        .takes::<sessions::Shown>()
        .answers::<sessions::Verified>("200", "Whether it goes on, and if not, why.")
        .done();
    all.add("delete", "/api/security/sessions/{tenant_id}/{session_id}", "End a session")
        .answers::<sessions::Revoked>("200", "It has ended.")
        .also(&["422"])
        .done();
}

fn describe_databases(all: &mut Description) {
    all.add("get", "/api/database/performance/{tenant_id}", "How a tenant's database fares")
        .answers::<database::Performance>("200", "Its figures, and where they come from.")
        .done();
    all.add("get", "/api/database/slow-queries/{tenant_id}", "A tenant's slow statements")
        .parameter(query(
            "limit",
            false,
            &json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 10}),
        ))
        .answers::<database::SlowQueries>("200", "Newest first.")
        .done();
    all.add("post", "/api/database/optimize/{tenant_id}", "Look a tenant's database through")
        .answers::<database::optimize::Optimized>("200", "What was found.")
        .answers::<database::optimize::Optimized>("202", "It goes on as a job.")
        .done();
    all.add("post", "/api/database/optimize-all", "Look all tenants' databases through (admin)")
        .answers::<database::optimize::OptimizedAll>(
            "200",
            "What became of each; as text/event-stream one after the other.",
        )
        .answers::<database::optimize::OptimizedAll>("202", "It goes on as a job.")
        .done();
    all.add("get", "/api/database/jobs/{job_id}", "How far a job is")
        .answers::<database::optimize::OptimizedAll>("200", "It is done.")
        .answers::<database::optimize::OptimizedAll>("202", "It goes on.")
        .done();
}

fn describe_plans(all: &mut Description) {
    all.add("get", "/api/database/plans/{tenant_id}", "A tenant's plans of indexes")
        .answers::<database::plans::Plans>("200", "What happened to last comes first.")
        .done();
    all.add("post", "/api/database/plans/{tenant_id}/{plan_id}/approve", "Approve a plan (admin)")
        .answers::<database::plans::Acted>("200", "It may be applied.")
        .also(&["409"])
        .done();
    for (path, summary, done) in [
        (
            "/api/database/plans/{tenant_id}/{plan_id}/apply",
            "Apply an approved plan (admin)",
            "It is built, and watched.",
        ),
        (
            "/api/database/plans/{tenant_id}/{plan_id}/rollback",
            "Take a plan back (admin)",
            "Nothing of it stands.",
        ),
    ] {
        all.add("post", path, summary)
            .answers::<database::plans::Acted>("200", done)
            .answers::<database::plans::Acted>("202", "It goes on as a job.")
            .also(&["409"])
            .done();
    }
}

fn describe_tenants(all: &mut Description) {
    all.add("get", "/api/tenants", "Which tenants there are (admin)")
        .parameter(query("after", false, &json!({"type": "string", "pattern": "^[!-~]{1,50}$"})))
        .answers::<tenants::TenantList>("200", "By name, 1000 at a time.")
        .done();
    let one = "/api/tenants/{tenant_id}";
    all.add("get", one, "A tenant (admin)")
        .answers::<tenants::TenantBody>("200", "What is known of it.")
        .done();
    all.add("put", one, "Add or change a tenant (admin)")
        .takes::<tenants::TenantChange>()
        .answers::<tenants::TenantBody>("200", "It was there, and is as asked for now.")
        .answers::<tenants::TenantBody>("201", "It is there now.")
        .also(&["410"])
        .done();
    all.add("delete", one, "Remove a tenant (admin)")
        .answers::<tenants::Removed>(
            "200",
            "It is gone, with its keys, sessions, sealed values and policies.",
        )
        .done();
}

fn describe_monitoring(all: &mut Description) {
    all.add("get", "/monitoring/liveness", "Whether the process answers")
        .open()
        .answers::<monitoring::StateBody>("200", "It does.")
        .done();
    all.add("get", "/monitoring/readiness", "Whether the store works")
        .open()
        .answers::<monitoring::StateBody>("200", "It takes writes and answers reads.")
        .answers::<monitoring::StateBody>("503", "It does not.")
        .done();
    all.add("post", "/reports/{tenant_id}", "Report what a browser has noticed (Reporting API, report-uri)")
        .open()
        .takes_schema(json!({"type": "object", "required": ["csp-report"],
            "properties": {"csp-report": {"type": "object"}}}))
        .answers_nothing("Taken, or not wanted: nobody is told which.")
        .done();
    all.add("options", "/reports/{tenant_id}", "Ask whether a page of another origin may report (CORS)")
        .open()
        .answers_nothing("It may.")
        .done();
    all.add("get", "/monitoring/version", "The release that runs")
        .answers::<monitoring::Version>("200", "The release.")
        .done();
    all.add("get", "/monitoring/health", "Whether the companion is whole")
        .answers::<monitoring::Health>("200", "It is.")
        .answers::<monitoring::Health>("503", "It is not; /monitoring/health/detailed tells what is missing.")
        .done();
    for path in ["/health/detailed", "/monitoring/health/detailed"] {
        all.add("get", path, "The state of every part (admin)")
            .answers::<monitoring::Detailed>("200", "The state.")
            .done();
    }
    all.add("get", "/monitoring/status", "Processor, memory and disk (admin)")
        .answers::<status::MachineStatus>("200", "As a container sees them.")
        .done();
    all.add("get", "/monitoring/database/status", "The store (admin)")
        .answers::<status::DatabaseStatus>("200", "Its state.")
        .done();
    all.add("get", "/monitoring/metrics", "What was counted since the start (admin)")
        .answers::<status::Figures>("200", "The most useful of /metrics.")
        .done();
    all.add(
        "get",
        "/monitoring/performance/summary",
        "A score of 0 to 100, its parts, and what to do (admin)",
    )
    .answers::<performance::Summary>("200", "The score.")
    .done();
    all.add("get", "/performance", "Durations of the last minutes (admin)")
        .answers::<performance::Durations>("200", "Whether an average response keeps its goal.")
        .done();
    all.add("get", "/security", "What happened to all tenants in the last 24 hours (admin)")
        .answers::<overview::Security>("200", "By type and by tenant.")
        .done();
    all.add("get", "/metrics", "Counters (admin)")
        .answers_as("text/plain", "Prometheus text, format 0.0.4.")
        .done();
    all.add("get", "/openapi.json", "This document").answers_as("application/json", "OpenAPI 3.1.").done();
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
