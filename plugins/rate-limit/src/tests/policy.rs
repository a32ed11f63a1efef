use std::time::Duration;

use portcullis_policy::{
    ConfigErrors, Headers, LocalSlots, Policy, Request, SharedState, Site, SlotValue, StateError,
    StoreResult, Verdict, Vocabulary,
};
use proptest::prelude::*;
use serde_json::json;

use super::{Answer, ask, policy, request};
use crate::{
    RateLimit, Wire,
    metrics::{ALLOWED, DISCARDED, ERRORS, LIMITED, MONITORED, NEAR_LIMIT},
};

const LOGIN: &[usize] = &[0, 3];
const UPLOAD: &[usize] = &[1, 3];
const REPORT: &[usize] = &[2, 3];
const CALL: &[usize] = &[3];

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// How many of so many requests at that time pass.
fn passing(policy: &RateLimit, shared: &mut LocalSlots, now: Duration, of: u32, request: &Request) -> u32 {
    (0..of).map(|_| u32::from(ask(policy, shared, now, request).passed())).sum()
}

#[test]
fn the_defaults_are_the_required_limits() {
    for (actions, most) in [(LOGIN, 5), (UPLOAD, 20), (REPORT, 10), (CALL, 100)] {
        let (policy, mut shared) = (policy(json!({})), LocalSlots::new(1));
        assert_eq!(passing(&policy, &mut shared, seconds(9.0), 150, &request("acme", "bob", actions)), most);
    }
}

#[test]
fn tenants_and_users_have_quotas_of_their_own() {
    let (policy, mut shared) = (policy(json!({})), LocalSlots::new(1));
    let mut now = |user: (&str, &str), actions| {
        passing(&policy, &mut shared, seconds(9.0), 50, &request(user.0, user.1, actions))
    };
    assert_eq!(now(("acme", "bob"), LOGIN), 5);
    assert_eq!(now(("acme", "eve"), LOGIN), 5);
    assert_eq!(now(("other", "bob"), LOGIN), 5);
    // API calls are the tenant's: 10 logins were 10 of them.
    assert_eq!(now(("acme", "bob"), CALL) + now(("acme", "eve"), CALL), 90);
    assert_eq!(now(("other", "bob"), CALL), 50);
}

#[test]
fn a_refused_request_consumes_nothing() {
    let (policy, mut shared) = (policy(json!({})), LocalSlots::new(1));
    assert_eq!(passing(&policy, &mut shared, seconds(9.0), 80, &request("acme", "bob", LOGIN)), 5);
    assert_eq!(passing(&policy, &mut shared, seconds(9.0), 200, &request("acme", "bob", CALL)), 95);
    // And a login that the tenant's quota refuses is not counted as a login.
    assert!(!ask(&policy, &mut shared, seconds(9.0), &request("acme", "eve", LOGIN)).passed());
    assert_eq!(passing(&policy, &mut shared, seconds(12.0), 9, &request("acme", "eve", LOGIN)), 5);
}

#[test]
fn a_refusal_says_how_long_to_wait_and_it_is_true() {
    let (policy, mut shared) = (policy(json!({})), LocalSlots::new(1));
    let bob = request("acme", "bob", LOGIN);
    assert_eq!(passing(&policy, &mut shared, seconds(9.0), 5, &bob), 5);
    let answer = ask(&policy, &mut shared, seconds(10.5), &bob);
    let refusal = answer.refusal.as_ref().unwrap();
    assert_eq!((refusal.status, refusal.reason), (429, "quota-exceeded"));
    // One of five a minute comes back every 12 s: at 21 s, which is 10.5 s away.
    assert_eq!(answer.header("retry-after"), Some("11"));
    assert_eq!(answer.header("ratelimit"), Some("\"login\";r=0;t=11"));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"api_call\";q=100;w=60, \"login\";q=5;w=60"));
    let [decision] = &answer.decisions[..] else { panic!("{answer:?}") };
    assert_eq!((decision.verdict, decision.event_type), (Verdict::Deny, "RATE_LIMIT_EXCEEDED"));
    let wanted = json!({"rule": "login", "limit": 5, "window_ms": 60_000, "burst": 5, "retry_after_ms": 10_500, "request_count": 6});
    let details: serde_json::Map<_, _> =
        decision.details.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    assert_eq!(serde_json::Value::Object(details), wanted);
    assert_eq!((answer.count(&LIMITED), answer.count(&ALLOWED)), (1, 0));
    assert!(!ask(&policy, &mut shared, seconds(21.0) - Duration::from_nanos(1), &bob).passed());
    assert!(ask(&policy, &mut shared, seconds(21.0), &bob).passed());
    assert!(!ask(&policy, &mut shared, seconds(21.0), &bob).passed());
}

#[test]
fn an_allowed_response_tells_what_is_left() {
    let (limits, mut shared) = (policy(json!({})), LocalSlots::new(1));
    let answer = ask(&limits, &mut shared, seconds(9.0), &request("acme", "bob", CALL));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"api_call\";q=100;w=60"));
    assert_eq!(answer.header("ratelimit"), Some("\"api_call\";r=99;t=1"));
    let answer = ask(&limits, &mut shared, seconds(9.0), &request("acme", "bob", LOGIN));
    assert_eq!(answer.header("ratelimit"), Some("\"api_call\";r=98;t=1, \"login\";r=4;t=12"));
    assert_eq!(answer.header("retry-after"), None);
    let quiet = policy(json!({"headers": false}));
    let answer = ask(&quiet, &mut shared, seconds(9.0), &request("acme", "bob", LOGIN));
    assert!(answer.passed() && answer.headers.is_empty());
    assert_eq!(passing(&quiet, &mut shared, seconds(9.0), 3, &request("acme", "bob", LOGIN)), 3);
    let answer = ask(&quiet, &mut shared, seconds(9.0), &request("acme", "bob", LOGIN));
    assert_eq!((answer.header("retry-after"), answer.header("ratelimit")), (Some("12"), None));
}

#[test]
fn monitor_lets_pass_reports_and_announces_nothing() {
    let (monitor, mut shared) = (policy(json!({"mode": "monitor"})), LocalSlots::new(1));
    let bob = request("acme", "bob", LOGIN);
    let answers: Vec<Answer> = (0..7).map(|_| ask(&monitor, &mut shared, seconds(9.0), &bob)).collect();
    assert!(answers.iter().all(|answer| answer.passed() && answer.headers.is_empty()));
    let reported: Vec<u64> = answers.iter().map(|answer| answer.count(&MONITORED)).collect();
    assert_eq!(reported, [0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(answers[4].verdicts(), []);
    assert_eq!(answers[5].verdicts(), [Verdict::Monitor]);
}

#[test]
fn one_rule_may_be_monitored_while_another_is_enforced() {
    let (policy, mut shared) = (
        policy(json!({"rules": [
            {"name": "soft", "limit": 2, "window": "1m", "mode": "monitor"},
            {"name": "hard", "limit": 4, "window": "1m"},
            {"name": "none", "limit": 1, "window": "1m", "mode": "off"},
        ]})),
        LocalSlots::new(1),
    );
    let answers: Vec<Answer> =
        (0..6).map(|_| ask(&policy, &mut shared, seconds(9.0), &request("a", "b", CALL))).collect();
    let passed: Vec<bool> = answers.iter().map(Answer::passed).collect();
    assert_eq!(passed, [true, true, true, true, false, false]);
    assert_eq!(answers[1].verdicts(), []);
    assert_eq!(answers[2].verdicts(), [Verdict::Monitor]);
    assert_eq!(answers[4].verdicts(), [Verdict::Deny]);
    assert_eq!(answers[2].header("ratelimit"), Some("\"hard\";r=1;t=15"));
    assert_eq!(answers[3].count(&NEAR_LIMIT), 1);
}

#[test]
fn default_limits_of_unknown_actions_do_not_apply() {
    let mut errors = ConfigErrors::default();
    let vocabulary = Vocabulary { actions: vec!["api_call".to_owned()] };
    let policy = RateLimit::compile(Wire::default(), &Site::root(), &vocabulary, &mut errors).unwrap();
    let mut shared = LocalSlots::new(1);
    assert_eq!(passing(&policy, &mut shared, seconds(9.0), 150, &request("acme", "bob", &[0])), 100);
    assert_eq!(passing(&policy, &mut shared, seconds(9.0), 150, &request("acme", "bob", &[1])), 150);
    assert!(!errors.has_errors());
}

#[test]
fn quotas_are_per_whatever_is_configured() {
    let with_ip =
        |user: &str, ip: &str| Request { client_ip: ip.parse().ok(), ..request("acme", user, CALL) };
    let people = [
        with_ip("bob", "192.0.2.1"),
        with_ip("eve", "192.0.2.1"),
        with_ip("bob", "2001:db8:0:1::1"),
        with_ip("bob", "2001:db8:0:1:ffff::2"),
        with_ip("bob", "2001:db8:0:2::1"),
        with_ip("bob", "::ffff:192.0.2.1"),
        Request { user: None, ..with_ip("-", "192.0.2.1") },
        Request { user: None, ..with_ip("-", "192.0.2.2") },
        Request { tenant: portcullis_policy::Tenant::new(b"other").unwrap(), ..with_ip("bob", "192.0.2.1") },
    ];
    for (per, wanted) in [
        (json!([]), 1),
        (json!(["tenant"]), 2),
        (json!(["user"]), 4),
        (json!(["tenant", "user"]), 5),
        (json!(["client_ip"]), 4),
        (json!(["user", "client_ip"]), 6),
        (json!(["tenant", "user", "client_ip"]), 7),
    ] {
        let policy = policy(json!({"rules": [{"name": "r", "per": per, "limit": 1, "window": "1h"}]}));
        let mut shared = LocalSlots::new(1);
        let passed =
            people.iter().filter(|person| ask(&policy, &mut shared, seconds(9.0), person).passed()).count();
        assert_eq!(passed, wanted, "{per}");
    }
}

#[test]
fn another_configuration_keeps_the_counts() {
    let mut shared = LocalSlots::new(1);
    let limits = |limit: u32, more| {
        let mut rules = vec![json!({"name": "r", "limit": limit, "window": "1m"})];
        if more {
            rules.insert(0, json!({"name": "new", "limit": 1000, "window": "1m", "action": "api_call"}));
        }
        policy(json!({"rules": rules}))
    };
    let bob = request("acme", "bob", CALL);
    assert_eq!(passing(&limits(10, false), &mut shared, seconds(9.0), 20, &bob), 10);
    assert_eq!(passing(&limits(10, true), &mut shared, seconds(9.0), 20, &bob), 0);
    // Half of a minute's debt is half of any limit a minute.
    assert_eq!(passing(&limits(40, true), &mut shared, seconds(39.0), 30, &bob), 20);
}

#[test]
fn another_window_counts_anew() {
    let mut shared = LocalSlots::new(1);
    let limits = |window: &str| policy(json!({"rules": [{"name": "r", "limit": 3, "window": window}]}));
    let bob = request("acme", "bob", CALL);
    for (window, wanted) in [("1m", 3), ("2m", 3), ("1m", 0)] {
        assert_eq!(passing(&limits(window), &mut shared, seconds(9.0), 9, &bob), wanted);
    }
}

#[test]
fn coarse_quotas_come_first_and_limits_of_the_same_one_share_a_slot() {
    let rule = |name: &str, per: &[&str], action: &str| json!({"name": name, "per": per, "action": action, "limit": 9, "window": "1m"});
    let policy = policy(json!({"rules": [
        rule("fine", &["tenant", "user"], "login"),
        rule("coarse", &["tenant"], "login"),
        rule("other", &["tenant"], "api_call"),
        rule("coarse-too", &["tenant"], "login"),
    ]}));
    let claims = policy.claims(7, &request("acme", "bob", LOGIN), &Headers::default(), false, None);
    let slot = |name: &str| claims.iter().find(|claim| policy.rules[claim.rule].name == name).unwrap().slot;
    assert_eq!(slot("coarse"), slot("coarse-too"));
    assert_ne!(slot("coarse"), slot("fine"));
    let all = policy.claims(7, &request("acme", "bob", &[0, 3]), &Headers::default(), false, None);
    let mut slots: Vec<u32> = all.iter().map(|claim| claim.slot).collect();
    slots.dedup();
    assert_eq!((all.len(), slots.len()), (4, 2), "one of the tenant, one of the user");
    let tags: std::collections::BTreeSet<_> = all.iter().map(|claim| (claim.slot, claim.tag)).collect();
    assert_eq!(tags.len(), all.len(), "each has an entry of its own");
    assert_eq!(policy.rules[claims[3].rule].name, "fine");
}

/// A host that refuses, or that keeps what another program wrote.
struct Broken(Result<Vec<u8>, StateError>, u32);

impl SharedState for Broken {
    fn load(&mut self, _: u32) -> Result<SlotValue, StateError> {
        self.0.clone().map(|bytes| SlotValue { bytes, version: 3 })
    }
    fn store(&mut self, _: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        assert_eq!(version, 3);
        self.1 += 1;
        self.0 = Ok(bytes.to_vec());
        Ok(StoreResult::Stored)
    }
    fn seed(&mut self) -> u64 {
        0
    }
}

#[test]
fn a_host_that_refuses_gets_the_configured_answer() {
    let bob = request("acme", "bob", CALL);
    for (wire, status) in [
        (json!({}), Some(503)),
        (json!({"on_error": "deny"}), Some(503)),
        (json!({"on_error": "allow"}), None),
        (json!({"mode": "monitor"}), None),
    ] {
        let policy = policy(wire.clone());
        let answer = ask(&policy, &mut Broken(Err(StateError::Refused), 0), seconds(9.0), &bob);
        assert_eq!(answer.refusal.as_ref().map(|refusal| refusal.status), status, "{wire}");
        assert_eq!((answer.count(&ERRORS), answer.logs.len()), (1, 1));
        assert!(answer.headers.is_empty());
        // It is counted each time, and logged once a minute.
        let again = ask(&policy, &mut Broken(Err(StateError::Refused), 0), seconds(68.9), &bob);
        assert_eq!((again.count(&ERRORS), again.logs.len()), (1, 0));
        assert_eq!(ask(&policy, &mut Broken(Err(StateError::Refused), 0), seconds(69.0), &bob).logs.len(), 1);
    }
}

#[test]
fn content_of_another_format_is_replaced_and_counted() {
    let policy = policy(json!({}));
    let mut shared = Broken(Ok(b"left by an older module".to_vec()), 0);
    let answer = ask(&policy, &mut shared, seconds(9.0), &request("acme", "bob", CALL));
    assert!(answer.passed() && answer.count(&DISCARDED) == 1 && shared.1 == 1);
    let answer = ask(&policy, &mut shared, seconds(9.0), &request("acme", "bob", CALL));
    assert!(answer.header("ratelimit").unwrap().contains("r=98") && answer.count(&DISCARDED) == 0);
}

#[test]
fn a_request_that_no_rule_names_costs_nothing() {
    let policy = policy(json!({"rules": [{"name": "r", "action": "login", "limit": 1, "window": "1s"}]}));
    let answer =
        ask(&policy, &mut Broken(Err(StateError::Refused), 0), seconds(9.0), &request("acme", "bob", CALL));
    assert!(answer.passed() && answer.counts.is_empty() && answer.headers.is_empty());
}

proptest! {
    /// `r` requests pass at once, one more does not, and after `Retry-After` it does.
    #[test]
    fn fields_tell_the_truth(limit in 1..20_u32, window in 1..200_u64, burst in 1..20_u32, before in 1..20_u32, gap in 0..3_000_u64) {
        let policy = policy(json!({"rules": [{"name": "r", "limit": limit, "window": format!("{window}s"), "burst": burst}]}));
        let mut shared = LocalSlots::new(1);
        let bob = request("acme", "bob", CALL);
        passing(&policy, &mut shared, seconds(9.0), before, &bob);
        let now = seconds(9.0) + Duration::from_millis(gap);
        let number = |answer: &Answer, key: &str| -> u64 {
            let text = answer.header("ratelimit").unwrap().to_owned();
            text.split(';').find_map(|part| part.strip_prefix(key)).unwrap().parse().unwrap()
        };
        let mut answer = ask(&policy, &mut shared, now, &bob);
        if answer.passed() {
            let left = number(&answer, "r=");
            prop_assert_eq!(u64::from(passing(&policy, &mut shared, now, 30, &bob)), left);
            answer = ask(&policy, &mut shared, now, &bob);
        }
        prop_assert_eq!(number(&answer, "r="), 0);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        prop_assert_eq!(number(&answer, "t="), wait);
        let early = Duration::from_secs(wait.saturating_sub(1));
        let refused_a_second_early = !ask(&policy, &mut shared, now + early, &bob).passed();
        prop_assert!(wait == 1 || refused_a_second_early);
        prop_assert!(ask(&policy, &mut shared, now + Duration::from_secs(wait), &bob).passed());
    }
}
