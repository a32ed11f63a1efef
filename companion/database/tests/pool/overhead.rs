//! What looking at a server's statements costs the server, beyond `pg_stat_statements`: CPU per transaction of pgbench.
//!
//! `make bench-pools` runs it at length. Rounds with and without a look alternate, pairs are compared, and the interval is a bootstrap's over pairs: what
//! else the machine does is in both.

use std::fs;
use std::time::Duration;

use portcullis_database::monitor;
use portcullis_database::pool::{Pools, Shape};
use tokio::time::{sleep, timeout};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

use crate::{SOON, beside, is_full, pools};

/// Processor time of the server and of all its sessions, ended ones too, in ticks.
fn ticks(first: u32) -> u64 {
    let of = |pid: u32| -> Option<(u32, [u64; 4])> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
        Some((fields.get(1)?.parse().ok()?, [number(11), number(12), number(13), number(14)]))
    };
    let whole = of(first).map_or(0, |(_, times)| times.iter().sum());
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = pids.filter_map(of).filter(|(parent, _)| *parent == first);
    whole + children.map(|(_, [user, system, ..])| user + system).sum::<u64>()
}

/// One round: ticks a transaction.
async fn round(server: &Server, pools: &Pools, url: &str, seconds: u64, looks: bool) -> f64 {
    let first = server.process().unwrap();
    let before = ticks(first);
    let mut bench = server.client("pgbench");
    bench.args(["-n", "-c", "2", "-j", "1", "-M", "prepared", "-T", &seconds.to_string(), "bench"]);
    let bench = tokio::task::spawn_blocking(move || bench.output().unwrap());
    if looks {
        sleep(Duration::from_millis(seconds * 500)).await;
        pools.put("bench", url).unwrap();
        let lease = pools.lend("bench", None).await.unwrap();
        let snapshot = monitor::snapshot(lease.observer().unwrap()).await.unwrap();
        assert!(snapshot.missing.is_none() && snapshot.calls > 0);
        drop(lease);
        pools.remove("bench");
    }
    let output = bench.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
        .unwrap();
    let transactions: f64 = line.split('/').next().unwrap().trim().parse().unwrap();
    // What is counted of a session that ends is counted when it has ended.
    timeout(SOON, async {
        let observer = beside(url).await;
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'bench' AND pid <> pg_backend_pid()";
        while observer.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    sleep(Duration::from_millis(50)).await;
    #[expect(clippy::cast_precision_loss, reason = "ticks of a few seconds")]
    let spent = (ticks(first) - before) as f64;
    spent / transactions
}

/// The mean, and the interval that holds it in 95 of 100 cases: percentiles of means of drawn pairs.
pub fn bootstrap(values: &[f64]) -> (f64, f64, f64) {
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = || {
        // Xorshift: the same draws each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[usize::try_from(state % values.len() as u64).unwrap()]
    };
    let mut means: Vec<f64> =
        (0..10_000).map(|_| mean(&mut (0..values.len()).map(|_| draw()), values.len())).collect();
    means.sort_by(f64::total_cmp);
    (mean(&mut values.iter().copied(), values.len()), means[250], means[9750])
}

#[test]
fn an_interval_holds_what_is_there() {
    let (mean, low, high) = bootstrap(&[1.0, 2.0, 3.0, 4.0]);
    assert!((mean - 2.5).abs() < 1e-9 && low < mean && mean < high && low >= 1.0 && high <= 4.0);
    assert_eq!(bootstrap(&[1.0; 5]), (1.0, 1.0, 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_costs_little() {
    let (pairs, seconds) = if is_full() { (16, 6) } else { (2, 1) };
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &std::env::temp_dir(), Durability::None).unwrap();
    let url = server.create(&layout, "bench").unwrap();
    beside(&url).await.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let filled = server.client("pgbench").args(["-q", "-i", "-s", "2", "bench"]).output().unwrap();
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    // As many statements as a server has that has been up for long.
    let many = beside(&url).await;
    for number in 0..(if is_full() { 3000 } else { 100 }) {
        many.batch_execute(&format!("SELECT 1 AS column_{number}")).await.unwrap();
    }
    drop(many);
    let (pools, _slow) = pools(Shape::default(), &url);
    round(&server, &pools, &url, 1, true).await;
    let mut shares = Vec::new();
    for pair in 0..pairs {
        // Who comes first changes.
        let (looked, plain) = if pair % 2 == 0 {
            let looked = round(&server, &pools, &url, seconds, true).await;
            (looked, round(&server, &pools, &url, seconds, false).await)
        } else {
            let plain = round(&server, &pools, &url, seconds, false).await;
            (round(&server, &pools, &url, seconds, true).await, plain)
        };
        shares.push((looked / plain - 1.0) * 100.0);
    }
    let (mean, low, high) = bootstrap(&shares);
    let default = 60.0 / seconds as f64;
    println!(
        "one look in {seconds} s of pgbench adds {mean:+.2} % CPU a transaction, 95 % interval {low:+.2} to {high:+.2} ({pairs} pairs of rounds); of a look \
         a minute that is {:+.3} % ({:+.3} to {:+.3}); the goal is below 1 %",
        mean / default,
        low / default,
        high / default
    );
    // A short round is mostly noise; a look that took as long as the round would show.
    assert!(mean < 100.0, "{shares:?}");
}
