//! Envoy's statistics.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use xtask::clock::Deadline;

use super::client::Request;

/// How long a counter may take to arrive: the module hands counts over every half second.
const PATIENCE: Duration = Duration::from_secs(5);

/// All counters of ours in Envoy's Prometheus text.
pub fn counters(admin: SocketAddr) -> BTreeMap<String, u64> {
    let answer = Request::get("/stats/prometheus").send(admin);
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let samples = text.lines().filter(|line| line.starts_with("portcullis_"));
    samples
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let name = series.split('{').next()?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Waits until a condition on our counters holds; panics with the last state of them.
pub fn wait_for_counters(admin: SocketAddr, what: &str, holds: impl Fn(&BTreeMap<String, u64>) -> bool) {
    let mut last = BTreeMap::new();
    let met = Deadline::after(PATIENCE).poll(|| {
        last = counters(admin);
        holds(&last).then_some(())
    });
    assert!(met.is_some(), "{what}; the counters say {last:#?}");
}

/// How many virtual machines Envoy has made, and how many were made anew because one had died.
pub fn machines(admin: SocketAddr) -> BTreeMap<String, u64> {
    let answer = Request::get("/stats?filter=wasm").send(admin);
    let text = answer.text();
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .filter(|(name, _): &(String, u64)| !name.contains("portcullis_"))
        .collect()
}
