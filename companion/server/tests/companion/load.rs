//! What watchers are told, under load and with many tenants: fast enough to be asked often.
//!
//! `make bench-pools` (`PORTCULLIS_POOLS=full`) asks more often, and prints the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{INGEST_TOKEN, Running, Store, on_each_store, record, tenant_database};

fn is_full() -> bool {
    std::env::var("PORTCULLIS_POOLS").is_ok_and(|size| size == "full")
}

fn millis(mut times: Vec<Duration>, percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0
}

async fn figures_of_a_thousand_tenants_are_told_at_once(store: Store) {
    const TENANTS: usize = 1000;
    let (url, sockets) = tenant_database(if store == Store::Sqlite { "many_s" } else { "many_p" });
    let running = Running::started_with(store, |settings| {
        settings.databases.enabled = false;
        settings.databases.sockets = vec![sockets];
    })
    .await;
    let pools = running.companion.databases().pools().clone();
    for tenant in 1..=TENANTS {
        running.add_tenant(&format!("tenant{tenant}")).await;
        pools.put(&format!("tenant{tenant}"), &url).unwrap();
    }
    for tenant in 1..=20 {
        let lease = pools.lend(&format!("tenant{tenant}"), None).await.unwrap();
        lease.query("SELECT 1", &[]).await.unwrap();
    }
    let admin = running.admin();
    let mut times = Vec::new();
    for _ in 0..(if is_full() { 300 } else { 30 }) {
        let since = Instant::now();
        let answer = running.get("/metrics", Some(&admin)).await;
        times.push(since.elapsed());
        assert!(answer.status == 200 && answer.body.contains("portcullis_pools 1000"), "{}", answer.body);
        let series =
            answer.body.lines().filter(|line| line.starts_with("portcullis_pool_tenant_usage_ratio{"));
        assert_eq!(series.count(), 20, "however many tenants there are");
    }
    let (half, most) = (millis(times.clone(), 50), millis(times, 99));
    println!(
        "/metrics with {TENANTS} tenants on {store:?}: {half:.1} ms (median), {most:.1} ms (p99); the goal is below 50 ms"
    );
    assert!(half < 50.0, "{half}");
}

/// How batches come: so many records in each, and the pause of a sender.
#[derive(Clone, Copy)]
struct Load {
    batch: u64,
    pause: Duration,
}

/// As modules send them that are little used, and the largest that a module sends.
const LOADS: [Load; 2] = [
    Load { batch: 20, pause: Duration::from_millis(20) },
    Load { batch: 1300, pause: Duration::from_millis(1500) },
];

async fn readiness_is_told_at_once_while_others_work(store: Store) {
    for load in LOADS {
        readiness_under(load, store).await;
    }
}

async fn readiness_under(Load { batch, pause }: Load, store: Store) {
    let running = Arc::new(Running::start(store, true).await);
    running.add_tenant("acme").await;
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..2_u64)
        .map(|sender| {
            // What is sent is put together before: it is the sender's work.
            let batches: Vec<Vec<u8>> = (0..if is_full() { 30_000 / batch } else { 6_000 / batch })
                .map(|number| {
                    let first = sender * 10_000_000 + number * batch;
                    let lines: Vec<String> = (first + 1..=first + batch)
                        .map(|sequence| record("acme", sequence, "REQUEST", "INFO").to_string())
                        .collect();
                    lines.join("\n").into_bytes()
                })
                .collect();
            let (running, stop) = (Arc::clone(&running), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut sent = 0;
                for body in batches {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = running.ingest_bytes(&body, INGEST_TOKEN).await;
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    sent += batch;
                    tokio::time::sleep(pause).await;
                }
                sent
            })
        })
        .collect();
    let mut times = Vec::new();
    let until = Instant::now() + Duration::from_secs(if is_full() { 15 } else { 3 });
    while Instant::now() < until {
        let since = Instant::now();
        assert_eq!(running.get("/monitoring/readiness", None).await.status, 200);
        times.push(since.elapsed());
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut records = 0;
    for sender in senders {
        records += sender.await.unwrap();
    }
    let (asked, half, most) = (times.len(), millis(times.clone(), 50), millis(times, 99));
    println!(
        "readiness on {store:?}, asked {asked} times while {records} records came in batches of {batch}: {half:.2} ms (median), {most:.2} ms \
         (p99); the goal is below 5 ms"
    );
    assert!(records > 0 && half < 50.0, "{half}");
}

on_each_store![figures_of_a_thousand_tenants_are_told_at_once, readiness_is_told_at_once_while_others_work];
