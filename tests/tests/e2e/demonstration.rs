//! The limits of `make up CONCURRENCY=4`: what the demonstration says everybody has, to the request, over all of its workers.

use std::{collections::BTreeSet, time::Duration};

use xtask::{clock::Deadline, stack::Upstream};

use crate::{
    limits::{CONNECTIONS, storm},
    support::{application::Application, client::Request, stage::Stage},
};

#[test]
fn four_workers_keep_the_limits_of_the_demonstration() {
    let application = Application::start();
    let upstream = application.host_port();
    let stage = Stage::start("demonstration-limits", |options| {
        options.concurrency = 4;
        options.upstream = Upstream::At(upstream);
    });
    let to = stage.envoy();
    let burst = |request: &Request, limit: usize, each: usize| {
        let whole = Deadline::after(Duration::MAX);
        let (admitted, refused) = storm(to, request, |sent| sent < each);
        let most =
            limit + usize::try_from(whole.elapsed().as_nanos() * limit as u128 / 60_000_000_000).unwrap();
        println!("{admitted} of {} admitted, {limit} to {most} should have been", admitted + refused);
        assert!((limit..=most).contains(&admitted), "{admitted} of {limit} to {most}");
    };
    burst(&Request::get("/").header("x-tenant-id", "calls"), 100, 10);
    let of_alice = |request: Request| request.header("x-tenant-id", "users").header("x-user-id", "alice");
    burst(&of_alice(Request::post("/login", "text/plain", "x")), 5, 2);
    burst(&of_alice(Request::get("/reports/monthly")), 10, 2);
    burst(&of_alice(Request::post("/upload", "text/plain", "x")), 20, 2);
    let workers: BTreeSet<String> = Request::get("/stats?filter=worker_.*downstream_cx_total")
        .send(stage.stack.admin())
        .text()
        .lines()
        .filter(|line| !line.ends_with(": 0"))
        .filter_map(|line| Some(line.split_once(".worker_")?.1.split('.').next()?.to_owned()))
        .collect();
    assert!(workers.len() >= 2 && CONNECTIONS > 4, "one worker has done it all: {workers:?}");
}
