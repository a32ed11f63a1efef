//! Who is kept out, for what, and for how long.

use std::time::Duration;

use portcullis_policy::{Decision, Event, Headers, LocalSlots, Request, Verdict};
use serde_json::{Value, json};

use super::{Answer, begin, exchange, policy, request};
use crate::{
    RateLimit,
    metrics::{BANNED, BANS, LIMITED, MONITORED},
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn banning(patch: Value) -> RateLimit {
    let mut ban = json!({"name": "b", "strikes": 2, "window": "10s", "first": "60s", "maximum": "3m"});
    portcullis_policy::config::merge(&mut ban, &patch);
    policy(
        json!({"rules": [{"name": "one", "limit": 1, "window": "1s", "per": ["client_ip"]}], "bans": [ban]}),
    )
}

fn from(ip: &str) -> Request {
    Request { client_ip: ip.parse().ok(), ..request("acme", "bob", &[]) }
}

fn ask(policy: &RateLimit, shared: &mut LocalSlots, now: u64, request: &Request) -> Answer {
    exchange(policy, shared, at(now), request, 200, &[])
}

#[test]
fn who_exceeds_a_limit_again_and_again_is_kept_out() {
    let policy = banning(json!({"on_limited": true}));
    let mut shared = LocalSlots::new(1);
    let (bad, good) = (from("192.0.2.1"), from("192.0.2.2"));
    assert!(ask(&policy, &mut shared, 9, &bad).passed() && ask(&policy, &mut shared, 9, &good).passed());
    assert_eq!(ask(&policy, &mut shared, 9, &bad).count(&LIMITED), 1);
    let last = ask(&policy, &mut shared, 9, &bad);
    assert_eq!((last.count(&LIMITED), last.count(&BANS)), (1, 1));
    let banned = ask(&policy, &mut shared, 30, &bad);
    let refusal = banned.refusal.as_ref().unwrap();
    assert_eq!((refusal.status, refusal.reason), (429, "banned"));
    assert!(refusal.problem.ends_with("#abnormal-usage-detected"));
    assert_eq!(banned.header("retry-after"), Some("39"));
    assert_eq!((banned.count(&BANNED), banned.count(&LIMITED)), (1, 0));
    let [decision] = &banned.decisions[..] else { panic!("{banned:?}") };
    assert_eq!((decision.event_type, decision.verdict), ("RATE_LIMIT_EXCEEDED", Verdict::Deny));
    let details: Vec<String> = decision.details.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(details, ["ban=\"b\"", "times=1", "retry_after_ms=39000"]);
    assert!(ask(&policy, &mut shared, 30, &good).passed());
    assert!(!ask(&policy, &mut shared, 68, &bad).passed() && ask(&policy, &mut shared, 69, &bad).passed());
    // And twice as long the next time.
    (0..2).for_each(|_| assert!(!ask(&policy, &mut shared, 69, &bad).passed()));
    assert_eq!(ask(&policy, &mut shared, 70, &bad).header("retry-after"), Some("119"));
}

#[test]
fn one_strike_too_few_or_too_late_bans_nobody() {
    let policy = banning(json!({"on_limited": true}));
    let mut shared = LocalSlots::new(1);
    let bob = from("192.0.2.1");
    for start in [10, 30, 50] {
        assert!(ask(&policy, &mut shared, start, &bob).passed());
        assert_eq!(ask(&policy, &mut shared, start, &bob).count(&LIMITED), 1);
    }
    assert!(ask(&policy, &mut shared, 52, &bob).passed());
}

#[test]
fn only_the_named_rules_strike() {
    let mut shared = LocalSlots::new(1);
    let other = policy(json!({
        "rules": [
            {"name": "one", "limit": 1, "window": "1s", "per": ["client_ip"]},
            {"name": "two", "limit": 50, "window": "1s", "per": ["client_ip"], "burst": 9},
        ],
        "bans": [{"name": "b", "on_limited": ["two"], "strikes": 1, "window": "10s", "first": "60s", "maximum": "3m"}],
    }));
    let bob = from("192.0.2.1");
    (0..9).for_each(|_| {
        ask(&other, &mut shared, 9, &bob);
    });
    assert!(ask(&other, &mut shared, 11, &bob).passed());
}

#[test]
fn attacks_and_statuses_are_strikes() {
    let attack = |verdict, event_type| Decision {
        policy: "sanitize",
        verdict,
        event_type,
        reason: "sql-injection",
        details: Vec::new(),
    };
    let refused = attack(Verdict::Deny, "ATTACK_BLOCKED");
    let reported = attack(Verdict::Monitor, "ATTACK_DETECTED");
    let other = attack(Verdict::Deny, "REQUEST");
    for (patch, decision, status, strikes) in [
        (json!({"on_attacks": "refused"}), Some(&refused), 403, true),
        (json!({"on_attacks": "refused"}), Some(&reported), 200, false),
        (json!({"on_attacks": "reported"}), Some(&reported), 200, true),
        (json!({"on_attacks": "reported"}), Some(&refused), 403, true),
        (json!({"on_attacks": "reported"}), Some(&other), 403, false),
        (json!({"on_attacks": "reported"}), None, 403, false),
        (json!({"on_status": [401, 404]}), None, 404, true),
        (json!({"on_status": ["4xx"]}), None, 499, true),
        (json!({"on_status": ["4xx"]}), None, 200, false),
        (json!({"on_status": ["4xx"], "on_attacks": "refused"}), Some(&refused), 403, true),
    ] {
        let policy = banning(patch.clone());
        let mut shared = LocalSlots::new(1);
        let bob = from("192.0.2.1");
        let decisions: Vec<Decision> = decision.into_iter().cloned().collect();
        for now in [10, 12] {
            let mut under_way = begin(&policy, &mut shared, at(now), &bob, &[]);
            assert!(under_way.answer.passed(), "one strike, whatever it has of both: {patch}");
            under_way.end(&policy, &mut shared, at(now), &bob, Some(status), &decisions);
        }
        assert_eq!(!ask(&policy, &mut shared, 14, &bob).passed(), strikes, "{patch} {status}");
    }
}

#[test]
fn a_request_that_is_decided_on_again_is_one_strike() {
    let policy = banning(json!({"on_status": [401]}));
    let (mut shared, bob) = (LocalSlots::new(1), from("192.0.2.1"));
    let fail = |shared: &mut LocalSlots, times: [u64; 3]| {
        let mut under_way = begin(&policy, shared, at(times[0]), &bob, &[]);
        // Tokens that it waited for have come.
        let again = Event::RequestHeaders { headers: &Headers::default(), end_of_stream: true };
        under_way.on(&policy, shared, at(times[1]), &bob, &again, &[]);
        under_way.on(&policy, shared, at(times[2]), &bob, &again, &[]);
        under_way.end(&policy, shared, at(times[2]), &bob, Some(401), &[]);
    };
    fail(&mut shared, [10, 12, 14]);
    assert!(ask(&policy, &mut shared, 16, &bob).passed(), "two strikes are a ban, one is none");
    fail(&mut shared, [18, 20, 22]);
    assert!(!ask(&policy, &mut shared, 23, &bob).passed());
}

#[test]
fn a_ban_may_only_watch_and_may_answer_403() {
    let policy = banning(json!({"on_status": [404], "strikes": 1, "mode": "monitor"}));
    let mut shared = LocalSlots::new(1);
    let bob = from("192.0.2.1");
    assert!(exchange(&policy, &mut shared, at(9), &bob, 404, &[]).passed());
    let answer = ask(&policy, &mut shared, 11, &bob);
    assert!(answer.passed());
    assert_eq!((answer.verdicts(), answer.count(&MONITORED)), (vec![Verdict::Monitor], 1));
    let policy = banning(json!({"on_status": [404], "strikes": 1, "status": 403, "per": ["tenant", "user"]}));
    let mut shared = LocalSlots::new(1);
    assert!(exchange(&policy, &mut shared, at(9), &bob, 404, &[]).passed());
    assert_eq!(
        ask(&policy, &mut shared, 11, &from("192.0.2.9")).refusal.map(|refusal| refusal.status),
        Some(403)
    );
    assert!(ask(&policy, &mut shared, 11, &Request { user: None, ..from("192.0.2.9") }).passed());
}
