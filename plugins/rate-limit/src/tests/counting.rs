//! What counts and what it costs; what is held while a request is under way; and limits for whatever a header says.

use std::time::Duration;

use portcullis_policy::{LocalSlots, Request};
use serde_json::json;

use super::{begin, exchange, policy, request};
use crate::{RateLimit, held::EPOCH_NS, metrics::OVERCOUNTED};

const AT: Duration = Duration::from_secs(9);

fn bob() -> Request {
    request("acme", "bob", &[0, 3])
}

fn statuses(policy: &RateLimit, shared: &mut LocalSlots, now: Duration, statuses: &[u16]) -> Vec<bool> {
    statuses.iter().map(|status| exchange(policy, shared, now, &bob(), *status, &[]).passed()).collect()
}

#[test]
fn only_failures_count_where_only_failures_shall() {
    let policy = policy(json!({"rules": [{"name": "r", "limit": 2, "window": "1h", "count": "on_failure"}]}));
    let mut shared = LocalSlots::new(1);
    assert!(statuses(&policy, &mut shared, AT, &[200; 50]).iter().all(|passed| *passed));
    assert_eq!(statuses(&policy, &mut shared, AT, &[401, 302, 500, 200]), [true, true, true, false]);
    let listed =
        json!({"rules": [{"name": "r", "limit": 1, "window": "1h", "count": {"on_status": [401, "5xx"]}}]});
    for (status, counts) in [(401, true), (503, true), (403, false), (200, false)] {
        let (policy, mut shared) = (super::policy(listed.clone()), LocalSlots::new(1));
        assert_eq!(statuses(&policy, &mut shared, AT, &[status, 200]), [true, !counts], "{status}");
    }
}

#[test]
fn requests_under_way_hold_their_units() {
    let policy = policy(json!({"rules": [{"name": "r", "limit": 2, "window": "1h", "count": "on_failure"}]}));
    let mut shared = LocalSlots::new(1);
    let mut first = begin(&policy, &mut shared, AT, &bob(), &[]);
    let mut second = begin(&policy, &mut shared, AT, &bob(), &[]);
    assert!(first.answer.passed() && second.answer.passed());
    // However many guesses come at once, no more are let in than may fail.
    assert!(!exchange(&policy, &mut shared, AT, &bob(), 200, &[]).passed());
    first.respond(&policy, &mut shared, AT, &bob(), Some(200), &[]);
    assert!(exchange(&policy, &mut shared, AT, &bob(), 200, &[]).passed());
    second.respond(&policy, &mut shared, AT, &bob(), Some(401), &[]);
    let third = begin(&policy, &mut shared, AT, &bob(), &[]);
    assert!(third.answer.passed());
    assert!(!exchange(&policy, &mut shared, AT, &bob(), 200, &[]).passed());
    // One whose end alone is seen counts by its status; one that ends without any counts.
    let mut third = third;
    third.end(&policy, &mut shared, AT, &bob(), Some(200), &[]);
    let mut fourth = begin(&policy, &mut shared, AT, &bob(), &[]);
    assert!(fourth.answer.passed());
    fourth.end(&policy, &mut shared, AT, &bob(), None, &[]);
    assert!(!exchange(&policy, &mut shared, AT, &bob(), 200, &[]).passed());
}

#[test]
fn a_failure_that_comes_too_late_counts_when_it_is_given_up_and_when_it_comes() {
    let policy =
        policy(json!({"rules": [{"name": "r", "limit": 2, "window": "24h", "count": "on_failure"}]}));
    let mut shared = LocalSlots::new(1);
    let mut slow = begin(&policy, &mut shared, AT, &bob(), &[]);
    let late = AT + Duration::from_nanos(4 * EPOCH_NS);
    // Nobody has renewed it: it is spent when somebody looks.
    let mut next = begin(&policy, &mut shared, late, &bob(), &[]);
    assert!(next.answer.passed());
    slow.respond(&policy, &mut shared, late, &bob(), Some(401), &[]);
    next.respond(&policy, &mut shared, late, &bob(), Some(200), &[]);
    assert_eq!(statuses(&policy, &mut shared, late, &[200]), [false]);
}

#[test]
fn a_cost_is_fixed_or_told_by_a_header_and_nonsense_costs_most() {
    let rules = |cost| policy(json!({"rules": [{"name": "r", "limit": 10, "window": "1h", "cost": cost}]}));
    let passing = |policy: &RateLimit, headers: &[(&str, &str)]| {
        let mut shared = LocalSlots::new(1);
        (0..20).filter(|_| exchange(policy, &mut shared, AT, &bob(), 200, headers).passed()).count()
    };
    assert_eq!(passing(&rules(json!(3)), &[]), 3);
    let told = rules(json!({"request_header": "X-Cost", "default": 2, "most": 5}));
    for (value, wanted) in [
        ("4", 2),
        ("1", 10),
        (" 5 ", 2),
        ("6", 2),
        ("99999999999999999999999", 2),
        ("4294967297", 2),
        ("-1", 2),
        ("1.5", 2),
        ("", 2),
        ("ten", 2),
        ("0", 20),
    ] {
        assert_eq!(passing(&told, &[("x-cost", value)]), wanted, "{value}");
    }
    assert_eq!(passing(&told, &[]), 5);
}

#[test]
fn what_a_response_costs_beyond_is_waited_for() {
    let policy = policy(
        json!({"rules": [{"name": "r", "limit": 10, "window": "10s", "cost": {"response_header": "x-tokens"}}]}),
    );
    let mut shared = LocalSlots::new(1);
    assert!(exchange(&policy, &mut shared, AT, &bob(), 200, &[("x-tokens", "0")]).passed());
    let first = exchange(&policy, &mut shared, AT, &bob(), 200, &[("x-tokens", "8")]);
    assert_eq!(first.header("ratelimit"), Some("\"r\";r=9;t=1"));
    // Two are left; it is admitted for one, and costs nine.
    assert!(exchange(&policy, &mut shared, AT, &bob(), 200, &[("x-tokens", "9")]).passed());
    let refused = exchange(&policy, &mut shared, AT, &bob(), 200, &[]);
    assert_eq!(refused.header("retry-after"), Some("8"));
    assert!(!exchange(&policy, &mut shared, AT + Duration::from_millis(7_999), &bob(), 200, &[]).passed());
    assert!(exchange(&policy, &mut shared, AT + Duration::from_secs(8), &bob(), 200, &[]).passed());
}

#[test]
fn a_limit_of_nothing_allows_nothing_and_says_so() {
    let policy = policy(json!({"rules": [{"name": "none", "action": "login", "limit": 0, "window": "1m"}]}));
    let mut shared = LocalSlots::new(1);
    let answer = exchange(&policy, &mut shared, AT, &bob(), 200, &[]);
    assert_eq!(answer.refusal.as_ref().map(|refusal| refusal.status), Some(429));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"none\";q=0;w=60"));
    assert_eq!(
        (answer.header("ratelimit"), answer.header("retry-after")),
        (Some("\"none\";r=0;t=60"), Some("60"))
    );
    assert!(exchange(&policy, &mut shared, AT, &request("acme", "bob", &[3]), 200, &[]).passed());
}

#[test]
fn so_many_at_the_same_time_and_one_more_when_one_ends() {
    let policy = policy(json!({"rules": [{"name": "r", "per": ["tenant"], "concurrent": 2}]}));
    let mut shared = LocalSlots::new(1);
    let mut first = begin(&policy, &mut shared, AT, &bob(), &[]);
    let mut second = begin(&policy, &mut shared, AT, &bob(), &[]);
    assert!(first.answer.passed() && second.answer.passed());
    let refused = exchange(&policy, &mut shared, AT, &bob(), 200, &[]);
    assert_eq!(refused.header("ratelimit"), Some("\"r\";r=0"));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"r\";q=2;qu=\"concurrent-requests\""));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(exchange(&policy, &mut shared, AT, &request("other", "bob", &[]), 200, &[]).passed());
    // A response does not end it; its end does, with a response or without.
    first.respond(&policy, &mut shared, AT, &bob(), Some(200), &[]);
    assert!(!exchange(&policy, &mut shared, AT, &bob(), 200, &[]).passed());
    first.end(&policy, &mut shared, AT, &bob(), Some(200), &[]);
    assert!(exchange(&policy, &mut shared, AT, &bob(), 200, &[]).passed());
    second.end(&policy, &mut shared, AT, &bob(), None, &[]);
    second.end(&policy, &mut shared, AT, &bob(), None, &[]);
    let held: Vec<_> = (0..5).map(|_| begin(&policy, &mut shared, AT, &bob(), &[])).collect();
    assert_eq!(held.iter().filter(|under_way| under_way.answer.passed()).count(), 2);
    // Those that hold them are never heard of again: they come back.
    let later = AT + Duration::from_nanos(4 * EPOCH_NS);
    assert!(exchange(&policy, &mut shared, later, &bob(), 200, &[]).passed());
}

#[test]
fn what_one_rule_refuses_another_does_not_hold() {
    let policy = policy(json!({"rules": [
        {"name": "at-once", "concurrent": 3},
        {"name": "fails", "limit": 5, "window": "1h", "count": "on_failure"},
        {"name": "all", "per": ["tenant", "user"], "limit": 1, "window": "1h"},
    ]}));
    let mut shared = LocalSlots::new(1);
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(begin(&policy, &mut shared, AT, &bob(), &[]));
    }
    assert_eq!(kept.iter().filter(|under_way| under_way.answer.passed()).count(), 1);
    assert!(kept.iter().all(|under_way| under_way.answer.count(&OVERCOUNTED) == 0));
    let alice = request("acme", "alice", &[]);
    let more: Vec<_> = (0..2).map(|n| request("acme", &format!("u{n}"), &[])).collect();
    let more: Vec<_> = more.iter().map(|request| begin(&policy, &mut shared, AT, request, &[])).collect();
    assert!(more.iter().all(|under_way| under_way.answer.passed()));
    assert!(!begin(&policy, &mut shared, AT, &alice, &[]).answer.passed());
}

#[test]
fn a_header_may_tell_quotas_apart() {
    let policy = policy(
        json!({"rules": [{"name": "r", "per": [{"header": "X-Api-Key"}], "limit": 1, "window": "1h"}]}),
    );
    let mut shared = LocalSlots::new(1);
    let mut asks = |key: &[(&str, &str)]| exchange(&policy, &mut shared, AT, &bob(), 200, key).passed();
    assert!(
        asks(&[("x-api-key", "a")]) && asks(&[("X-API-Key", "b")]) && asks(&[]) && asks(&[("x-api-key", "")])
    );
    assert!(!asks(&[("x-api-key", "a")]) && !asks(&[]));
    assert!(asks(&[("x-api-key", &"a".repeat(100_000))]) && !asks(&[("x-api-key", &"a".repeat(100_000))]));
}

#[test]
fn responses_carry_the_fields_that_are_asked_for() {
    let all =
        ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    for (style, draft, older) in [
        (json!("draft-11"), true, false),
        (json!("x-ratelimit"), false, true),
        (json!("both"), true, true),
        (json!("off"), false, false),
        (json!(true), true, false),
        (json!(false), false, false),
    ] {
        let rules = json!([
            {"name": "wide", "limit": 100, "window": "1h"},
            {"name": "narrow", "limit": 4, "window": "1m"},
        ]);
        let policy = policy(json!({"headers": style, "rules": rules}));
        let mut shared = LocalSlots::new(1);
        let answer = exchange(&policy, &mut shared, AT, &bob(), 200, &[]);
        let there = all.map(|name| answer.header(name).is_some());
        assert_eq!(there, [draft, draft, older, older, older], "{style}");
        if older {
            assert_eq!(answer.header("x-ratelimit-limit"), Some("4"));
            assert_eq!(answer.header("x-ratelimit-remaining"), Some("3"));
            assert_eq!(answer.header("x-ratelimit-reset"), Some("15"));
        }
        (0..3).for_each(|_| assert!(exchange(&policy, &mut shared, AT, &bob(), 200, &[]).passed()));
        let refused = exchange(&policy, &mut shared, AT, &bob(), 200, &[]);
        assert_eq!(
            all.map(|name| refused.header(name).is_some()),
            [draft, draft, older, older, older],
            "{style}"
        );
        assert_eq!(refused.header("x-ratelimit-remaining"), older.then_some("0"));
        assert_eq!(refused.header("retry-after"), Some("15"));
    }
}

#[test]
fn rules_have_counters_of_their_own() {
    let policy = policy(json!({"rules": [
        {"name": "my.rule-1", "limit": 5, "window": "1h"},
        {"name": "wide", "limit": 100, "window": "1h"},
    ]}));
    let mut shared = LocalSlots::new(1);
    let answers: Vec<_> = (0..7).map(|_| exchange(&policy, &mut shared, AT, &bob(), 200, &[])).collect();
    let of = |name: &str| -> Vec<u64> {
        answers.iter().map(|a| a.counted(&format!("portcullis_rate_limit_rule_{name}_total"))).collect()
    };
    assert_eq!(of("my_rule_1_near_limit"), [0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(of("my_rule_1_over_limit"), [0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(of("wide_over_limit"), [0; 7]);
}
