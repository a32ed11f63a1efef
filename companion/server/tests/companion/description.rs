//! The API against its own description: schemathesis asks every operation for what the document promises, with values that
//! fit it and values that do not.

use std::path::Path;
use std::process::Command;

use portcullis_server::clock::Clock;
use serde_json::Value;
use xtask::layout::Layout;

use crate::support::{Running, Store, new_place, on_each_store};

async fn the_server_is_what_it_says(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let place = new_place(store, folder.path());
    // Tokens of this moment: the run takes some seconds.
    let running = Running::reopen(folder, place, Clock::System, false).await;
    running.add_tenant("acme").await;
    let token = running.admin();
    let document = running.get("/openapi.json", Some(&token)).await.body;
    let file = running.folder.path().join("openapi.json");
    std::fs::write(&file, &document).unwrap();
    let operations = operations(&serde_json::from_str(&document).unwrap());

    let url = format!("http://{}", running.companion.api_address.unwrap());
    // A stream does not end, and what removes a tenant would end the run for all others.
    let never = ["--exclude-path", STREAM, "--exclude-name", REMOVE];
    let never_asked = never.len() / 2;
    let but: Vec<&str> =
        never.into_iter().chain(OPAQUE.into_iter().flat_map(|name| ["--exclude-name", name])).collect();
    let all = format!("Tested: {}", operations - never_asked - OPAQUE.len());
    ask(&file, &url, &token, &but, &all).await;
    let only: Vec<&str> = OPAQUE.into_iter().flat_map(|name| ["--include-name", name]).collect();
    ask(
        &file,
        &url,
        &token,
        &[&only[..], &["--exclude-checks", "positive_data_acceptance"]].concat(),
        &format!("Tested: {}", OPAQUE.len()),
    )
    .await;
    // What was taken can be read.
    running.events("acme", "?limit=1000").await;
}

const STREAM: &str = "/api/security/events/{tenant_id}/stream";
const REMOVE: &str = "DELETE /api/tenants/{tenant_id}";
/// Operations with values that fit the schema and are wrong all the same: cursors are made by the server; of two limits of
/// a session one must not be longer than the other, and a version may be the present one or not; no made-up text is an
/// envelope, an administrator's token names no tenant, a key is made once and may be shredded, few texts are the
/// address of a database, and fewer are statements, or
/// names of rules.
const OPAQUE: [&str; 13] = [
    "GET /api/security/events/{tenant_id}",
    "PUT /api/security/policies/{tenant_id}",
    "PUT /api/tenants/{tenant_id}",
    "PUT /api/tenants/{tenant_id}/business-metrics/{name}",
    "PUT /api/alerts/rules/{name}",
    "PUT /api/alerts/webhooks/{name}",
    "POST /api/security/encrypt",
    "POST /api/security/decrypt",
    "GET /api/security/keys/{tenant_id}/public",
    "POST /api/security/keys/{tenant_id}",
    "PUT /api/security/keys/{tenant_id}",
    "POST /api/security/keys/{tenant_id}/rotate",
    "POST /api/security/keys/{tenant_id}/rewrap",
];

/// How many the document has.
fn operations(document: &Value) -> usize {
    let methods = |path: &Value| {
        let known = |name: &&String| matches!(name.as_str(), "get" | "put" | "post" | "delete" | "options");
        path.as_object().unwrap().keys().filter(known).count()
    };
    document["paths"].as_object().unwrap().values().map(methods).sum()
}

async fn ask(file: &Path, url: &str, token: &str, which: &[&str], expected: &str) {
    let program = Layout::of_this_checkout().tools().join("venv/bin/schemathesis");
    assert!(program.exists(), "{} is missing: `make test` installs it", program.display());
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/companion/schemathesis.toml"))
        .arg("run")
        .arg(file)
        .args(["--url", url, "-H", &format!("Authorization: Bearer {token}")])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--mode",
            "all",
            "--max-examples",
            "5",
            "--seed",
            "1",
        ])
        .args([
            "--suppress-health-check",
            "all",
            "--request-timeout",
            "10",
            "--no-shrink",
            "--continue-on-failure",
        ])
        .args(which)
        .current_dir(file.parent().unwrap());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(expected), "{expected}: {said}");
}

on_each_store![the_server_is_what_it_says];
