//! Records of the npm package, from a real JavaScript runtime into a real companion.

use std::process::Command;

use portcullis_server::clock::Clock;
use xtask::commands::{edge, install};
use xtask::layout::Layout;

use crate::support::{INGEST_TOKEN, Running, Store, new_place};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_edge_records_is_stored_once_each_also_after_a_refusal() {
    // Of the day, as the records are.
    let folder = tempfile::tempdir().unwrap();
    let place = new_place(Store::Sqlite, folder.path());
    let running = Running::reopen(folder, place, Clock::System, true).await;
    let layout = Layout::of_this_checkout();
    let mut script = Command::new(install::node(&layout).unwrap());
    script.arg(edge::stage(&layout).unwrap().join("records.mjs"));
    script.arg(format!("http://{}", running.companion.ingest_address.unwrap())).arg(INGEST_TOKEN);
    let output = tokio::task::spawn_blocking(move || script.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut types: Vec<String> = running
        .events("acme", "")
        .await
        .iter()
        .map(|event| event["event_type"].as_str().unwrap().to_owned())
        .collect();
    types.sort();
    assert_eq!(types, ["ATTACK_BLOCKED", "REQUEST", "REQUEST"]);
}
