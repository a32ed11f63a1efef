//! Nothing dies; then the companion does, then a proxy, then the network between them.

use std::{thread, time::Duration};

use xtask::stack::Piece;

use super::fleet;

/// Percent of what might be admitted that is not, while nothing happens.
const STEADY: f64 = 2.0;
/// The same after a crash: one lease of what was out.
const CRASHED: f64 = 10.0;
/// How long the load goes on when all are there again.
const AFTER: Duration = Duration::from_secs(8);

#[test]
fn two_and_three_proxies_admit_the_limit_of_one() {
    let mut fleet = fleet();
    for proxies in [2, 3] {
        let before = fleet.at_rest();
        let tenant = format!("steady-{proxies}");
        let tally = fleet.storm(proxies, &tenant, Duration::from_secs(6), |_| {});
        tally.keeps(&format!("{proxies} proxies"), STEADY);
        assert_eq!((tally.unleased, tally.broken), (0, 0), "{tally:?}");
        let after = fleet.at_rest();
        // Each request was paid for, by both of its limits, with a token that was granted and did not come back.
        let used = (after.spent + after.expired) - (before.spent + before.expired);
        assert!(u64::from(tally.admitted) * 2 <= used, "{used} tokens for {tally:?}");
    }
}

#[test]
fn a_companion_that_is_killed_under_load_gives_nothing_back() {
    let mut fleet = fleet();
    let tally = fleet.storm(3, "companion-killed", AFTER, |fleet| {
        // By then the burst is used up, and little lies with the proxies, who lose it.
        thread::sleep(Duration::from_secs(3));
        fleet.companion.stack.kill(Piece::Companion).unwrap();
        thread::sleep(Duration::from_millis(500));
        fleet.companion.stack.start_piece(Piece::Companion).unwrap();
    });
    tally.keeps("companion killed and restarted", CRASHED);
    assert!(tally.unleased > 0, "nobody has missed the companion: {tally:?}");
    fleet.at_rest();
}

#[test]
fn a_proxy_that_is_killed_under_load_returns_what_it_held() {
    let mut fleet = fleet();
    fleet.at_rest();
    let tally = fleet.storm(3, "proxy-killed", AFTER, |fleet| {
        thread::sleep(Duration::from_millis(700));
        fleet.proxies[2].stage.stack.kill(Piece::Envoy).unwrap();
        thread::sleep(Duration::from_millis(300));
        // It comes back as a process that nobody knows.
        fleet.proxies[2].stage.stack.start_piece(Piece::Envoy).unwrap();
    });
    tally.keeps("proxy killed and restarted", CRASHED);
    assert!(tally.broken > 0, "it was not killed under load: {tally:?}");
    fleet.at_rest();
}

#[test]
fn a_proxy_that_is_cut_off_admits_nothing_that_it_was_not_granted() {
    let mut fleet = fleet();
    fleet.at_rest();
    let tally = fleet.storm(2, "cut-off", AFTER, |fleet| {
        thread::sleep(Duration::from_millis(1000));
        fleet.link.cut();
        thread::sleep(Duration::from_millis(3500));
        fleet.link.mend();
    });
    tally.keeps("network cut and mended", CRASHED);
    assert!(tally.unleased > 0, "nothing was cut: {tally:?}");
    fleet.at_rest();
}
