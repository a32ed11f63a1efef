//! A busy limit asks the companion in the background, for many requests at once.

use std::time::Duration;

use serde_json::json;
use xtask::{
    clock::Deadline,
    stack::{Piece, statistic},
};

use super::{envoy, rules};
use crate::{
    limits::storm,
    support::{
        application::Application,
        client::Request,
        stage::{Stage, folder},
    },
};

/// Requests for each call, at least.
const EACH: u64 = 100;

#[test]
fn a_hot_limit_makes_one_call_for_a_hundred_requests_at_most() {
    let application = Application::start();
    let companion = Stage::start("calls-companion", |options| options.pieces = vec![Piece::Companion]);
    // Never exhausted, and never far from it: leases are a part of what is left.
    let rule = json!({"name": "hot", "per": ["tenant"], "limit": 100_000, "window": "1m"});
    let config = rules(&json!({"scope": "global", "on_error": "deny", "lease_wait": "1s", "rules": [rule]}));
    let ingest = companion.stack.options().ports.ingest;
    let proxy = envoy("calls", &folder("calls-companion"), &application, ingest, &config, Vec::new());
    let calls = || {
        statistic(proxy.stack.admin(), "cluster.portcullis_ingest.upstream_rq_total").unwrap().unwrap_or(0)
    };
    let before = calls();
    let request = Request::get("/").header("x-tenant-id", "hot").header("x-user-id", "alice");
    let over = Deadline::after(Duration::from_secs(10));
    let (admitted, refused) = storm(proxy.envoy(), &request, |_| !over.passed());
    let calls = calls() - before;
    let requests = (admitted + refused) as u64;
    println!("{requests} requests, {refused} of them refused, {calls} calls to the companion");
    assert_eq!(refused, 0, "a limit that is never exhausted refuses");
    assert!(calls > 0 && calls * EACH <= requests, "{calls} calls for {requests} requests");
}
