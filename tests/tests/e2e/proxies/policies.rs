//! A tenant's policy, changed by the API, in force at every proxy; and the same counts for programs that ask the API.

use std::{thread, time::Duration};

use serde_json::json;
use xtask::clock::Deadline;

use super::{Fleet, fleet};
use crate::support::client::{Connection, Request, Response};

/// Within which a change must be in force.
const SOON: Duration = Duration::from_secs(5);

fn ask(connection: &mut Connection, tenant: &str) -> Response {
    let answer = connection.exchange(&Request::get("/").header("x-tenant-id", tenant)).unwrap();
    assert!(matches!(answer.status, 200 | 429), "{answer:?}");
    answer
}

/// The limit that an answer names, of `"api_call";q=100;w=60`.
fn limit(answer: &Response) -> Option<u32> {
    let policy = answer.header("ratelimit-policy")?;
    policy.split(';').find_map(|part| part.trim().strip_prefix("q=")?.parse().ok())
}

impl Fleet {
    fn connections(&self) -> Vec<Connection> {
        self.proxies.iter().map(|proxy| Connection::open(proxy.usual)).collect()
    }

    fn set_rate(&self, tenant: &str, api_calls: u32) {
        let body = json!({"rate": {"api_calls_per_minute": api_calls}});
        let answer = self.api().send("PUT", &format!("/api/security/policies/{tenant}"), &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn add_tenant(&self, tenant: &str) {
        let answer = self.api().send("PUT", &format!("/api/tenants/{tenant}"), "{}");
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    }
}

/// What requests have taken of a tenant's minute, by the limit that each was told.
#[derive(Default)]
struct Spent {
    seconds: f64,
}

impl Spent {
    fn pay(&mut self, answer: &Response) -> Option<u32> {
        let limit = limit(answer);
        if answer.status == 200 {
            self.seconds += 60.0 / f64::from(limit.expect("an admitted request is told its limit"));
        }
        limit
    }
}

#[test]
fn a_changed_policy_reaches_every_proxy_within_five_seconds_and_keeps_the_counts() {
    const EARLIER: u32 = 100;
    const LATER: u32 = 50;
    let fleet = fleet();
    let tenant = "policy-changed";
    fleet.add_tenant(tenant);
    let whole = Deadline::after(Duration::MAX);
    let mut connections = fleet.connections();
    let mut spent = Spent::default();
    for turn in 0..30 {
        let answer = ask(&mut connections[turn % 3], tenant);
        assert_eq!((answer.status, spent.pay(&answer)), (200, Some(EARLIER)));
    }
    fleet.set_rate(tenant, LATER);
    let (changed, mut early) = (Deadline::after(SOON), Spent::default());
    let in_force = changed.poll(|| {
        // A pause between the questions: they are counted like all others.
        thread::sleep(Duration::from_millis(250));
        let answers = connections.iter_mut().map(|connection| ask(connection, tenant));
        let told: Vec<Option<u32>> = answers.map(|answer| early.pay(&answer)).collect();
        told.iter().all(|limit| *limit == Some(LATER)).then(|| changed.elapsed())
    });
    let in_force = in_force.expect("every proxy knows the new limit in time");
    println!("a changed policy was in force at three proxies after {in_force:?}");
    // Tokens in hand were leased by the limit of before.
    fleet.at_rest();
    for turn in 0..150 {
        spent.pay(&ask(&mut connections[turn % 3], tenant));
    }
    let most = 60.0 + whole.elapsed().as_secs_f64();
    let (least, known) = (spent.seconds + early.seconds / 2.0, spent.seconds + early.seconds);
    println!("{least:.1} to {known:.1} s of {most:.1} s were spent");
    assert!(least <= most, "counts were lost: {least} of {most}");
    assert!(known >= most * 0.85, "too few were admitted: {known} of {most}");
}

#[test]
fn programs_and_proxies_share_one_count() {
    let fleet = fleet();
    let tenant = "program";
    fleet.add_tenant(tenant);
    fleet.set_rate(tenant, 30);
    let mut connection = Connection::open(fleet.proxies[1].usual);
    let known = Deadline::after(SOON).poll(|| {
        thread::sleep(Duration::from_millis(250));
        (limit(&ask(&mut connection, tenant)) == Some(30)).then_some(())
    });
    assert!(known.is_some(), "the proxy does not know the limit");
    let rest = fleet.at_rest();
    let exhausted = Deadline::after(Duration::MAX);
    let question = json!({"tenant": tenant, "user": "alice", "action": "api_call"}).to_string();
    let check = || fleet.api().send("POST", "/api/security/rate-limit/check", &question).json();
    let mut allowed = 0;
    let refused = loop {
        let verdict = check();
        if verdict["allowed"] != true {
            break verdict;
        }
        allowed += 1;
        assert!(allowed <= 40, "{verdict}");
    };
    assert_eq!(refused["remaining"], 0);
    assert!(refused["retry_after"].as_u64().is_some_and(|wait| (1..=2).contains(&wait)), "{refused}");
    // What the program has used up is gone for the proxies: there is what came back meanwhile.
    let admitted = (0..30).filter(|_| ask(&mut connection, tenant).status == 200).count();
    let refilled = (exhausted.elapsed().as_secs_f64() / 2.0).ceil() as usize;
    println!("{rest:?}: {allowed} checks, then {admitted} requests of at most {refilled}");
    assert!(allowed > 0 && admitted <= refilled, "{admitted} were admitted after {allowed} checks");
}
