use serde_json::{Value, json};

use super::compile;

fn rule(patch: Value) -> Value {
    let mut rule = json!({"name": "a", "limit": 5, "window": "1m"});
    portcullis_policy::config::merge(&mut rule, &patch);
    json!({"rules": [rule]})
}

#[test]
fn what_is_wrong_is_named_with_path_and_remedy() {
    let many: Vec<Value> =
        (0..33).map(|n| json!({"name": format!("r{n}"), "limit": 1, "window": "1s"})).collect();
    for (wire, part) in [
        (rule(json!({"window": "0s"})), "rate_limit.rules[0].window: 0s; must be 1s to 24h"),
        (rule(json!({"window": "25h"})), "rate_limit.rules[0].window: 25h; must be 1s to 24h"),
        (rule(json!({"window": "1500ms"})), "rate_limit.rules[0].window: 1500ms; must be whole seconds"),
        (rule(json!({"window": 60})), "rate_limit.rules[0].window: "),
        (rule(json!({"window": null})), "rate_limit.rules[0].window: is missing; add it"),
        (rule(json!({"limit": null})), "rate_limit.rules[0].limit: is missing; add it, or `concurrent`"),
        (
            rule(json!({"limit": 1_000_000_001})),
            "rate_limit.rules[0].limit: 1000000001; must be 0 to 1000000000",
        ),
        (rule(json!({"limit": -1})), "rate_limit.rules[0].limit: "),
        (rule(json!({"limit": 1.5})), "rate_limit.rules[0].limit: "),
        (rule(json!({"burst": 0})), "rate_limit.rules[0].burst: 0; must be 1 to 1000000000"),
        (
            rule(json!({"limit": 1, "window": "24h", "burst": 32})),
            "rate_limit.rules[0].burst: 32 of 1 per 1d take longer than 31d to come back; choose a smaller burst",
        ),
        (rule(json!({"name": ""})), "rate_limit.rules[0].name: \"\" is not a rule's name; 1 to 64 of"),
        (rule(json!({"name": "a\"b"})), "rate_limit.rules[0].name: \"a\\\"b\" is not a rule's name"),
        (rule(json!({"name": "é"})), "is not a rule's name"),
        (rule(json!({"name": "a".repeat(65)})), "is not a rule's name"),
        (rule(json!({"name": null})), "rate_limit.rules[0].name: is missing; add it"),
        (
            rule(json!({"action": "logn"})),
            "rate_limit.rules[0].action: `logn` is not a configured action; did you mean `login`?",
        ),
        (
            rule(json!({"action": ["login", "buy"]})),
            "rate_limit.rules[0].action: `buy` is not a configured action; known here: login",
        ),
        (rule(json!({"action": []})), "rate_limit.rules[0].action: names no action"),
        (
            rule(json!({"per": ["tenat"]})),
            "rate_limit.rules[0].per[0]: `tenat` is not known here; did you mean `tenant`?",
        ),
        (rule(json!({"mode": "shadow"})), "rate_limit.rules[0].mode: `shadow` is not known here"),
        (rule(json!({"costs": 2})), "rate_limit.rules[0].costs: is not a known key; did you mean `cost`?"),
        (rule(json!({"cost": 0})), "rate_limit.rules[0].cost: 0; must be 1 to the burst of 5"),
        (rule(json!({"cost": 6})), "rate_limit.rules[0].cost: 6; must be 1 to the burst of 5"),
        (rule(json!({"cost": {"default": 1}})), "rate_limit.rules[0].cost: must name one header"),
        (
            rule(json!({"cost": {"request_header": "a", "response_header": "b"}})),
            "rate_limit.rules[0].cost: must name one header",
        ),
        (
            rule(json!({"cost": {"request_header": "a", "most": 6}})),
            "rate_limit.rules[0].cost.most: 6; must be 0 to the burst of 5",
        ),
        (
            rule(json!({"cost": {"response_header": "a"}, "scope": "global"})),
            "rate_limit.rules[0].cost: of a global rule stands in a response",
        ),
        (
            rule(json!({"count": {"on_status": []}})),
            "rate_limit.rules[0].count.on_status: has 0 statuses; 1 to 32",
        ),
        (
            rule(json!({"count": {"on_status": [401, 42]}})),
            "rate_limit.rules[0].count.on_status[1]: 42 is not a status",
        ),
        (
            rule(json!({"count": {"on_status": ["6xx"]}})),
            "rate_limit.rules[0].count.on_status[0]: \"6xx\" is not a class of statuses",
        ),
        (rule(json!({"count": "sometimes"})), "rate_limit.rules[0].count"),
        (
            rule(json!({"concurrent": 3})),
            "rate_limit.rules[0].limit: has no meaning beside `concurrent`; remove it",
        ),
        (
            rule(json!({"concurrent": 0, "limit": null, "window": null})),
            "rate_limit.rules[0].concurrent: 0; must be 1 to 65535",
        ),
        (
            rule(json!({"per": [{"header": "x y"}]})),
            "rate_limit.rules[0].per[0].header: \"x y\" is not a header's name",
        ),
        (
            rule(
                json!({"per": [{"header": "a"}, {"header": "b"}, {"header": "c"}, {"header": "d"}, {"header": "e"}]}),
            ),
            "rate_limit.rules[0].per: names 5 headers; at most 4",
        ),
        (
            rule(json!({"policy": "logins_per_minute"})),
            "rate_limit.rules[0].policy: `logins_per_minute` is not a rate of a tenant's policy",
        ),
        (
            rule(json!({"policy": "login_attempts_per_minute", "window": "2m"})),
            "rate_limit.rules[0].policy: is a tenant's rate a minute; set `window` to 1m",
        ),
        (
            rule(json!({"policy": "login_attempts_per_minute", "per": ["user"]})),
            "rate_limit.rules[0].policy: is a tenant's rate a minute",
        ),
        (
            rule(json!({"scope": "global", "on_error": "local_share"})),
            "rate_limit.rules[0].on_error: 10% of 5 among 1 are less than one each",
        ),
        (json!({"share": "60%"}), "rate_limit.share: `60%`; must be \"1%\" to \"50%\""),
        (json!({"proxies": 0}), "rate_limit.proxies: 0; must be 1 to 1000"),
        (json!({"lease_wait": "2s"}), "rate_limit.lease_wait: 2s; must be 0s to 1s"),
        (json!({"scope": "world"}), "rate_limit.scope: `world` is not known here"),
        (json!({"rules": many}), "rate_limit.rules: has 33 rules; at most 32"),
        (json!({"on_eror": "deny"}), "rate_limit.on_eror: is not a known key; did you mean `on_error`?"),
        (json!({"on_error": "local"}), "rate_limit.on_error: `local` is not known here"),
        (json!({"headers": "yes"}), "rate_limit.headers: "),
        (
            json!({"rules": [{"name": "a", "limit": 1, "window": "1s"}, {"name": "a", "limit": 2, "window": "1s"}]}),
            "rate_limit.rules[1].name: `a` is there twice; rename one of them",
        ),
    ] {
        let problems = compile(wire.clone()).unwrap_err();
        assert!(problems.contains(part), "{wire}: {problems}");
    }
}

fn ban(patch: Value) -> Value {
    let mut ban = json!({"name": "a", "on_limited": true, "strikes": 3, "window": "1m", "first": "1m", "maximum": "1h"});
    portcullis_policy::config::merge(&mut ban, &patch);
    json!({"bans": [ban]})
}

#[test]
fn what_is_wrong_with_a_ban_is_named() {
    let many: Vec<Value> = (0..9).map(|n| ban(json!({"name": format!("b{n}")}))["bans"][0].clone()).collect();
    for (wire, part) in [
        (ban(json!({"on_limited": null})), "rate_limit.bans[0]: has nothing that is a strike"),
        (
            ban(json!({"on_limited": ["logn"]})),
            "rate_limit.bans[0].on_limited[0]: `logn` is not a rule; did you mean",
        ),
        (ban(json!({"on_status": ["9xx"]})), "rate_limit.bans[0].on_status[0]: \"9xx\" is not a class"),
        (ban(json!({"on_attacks": "all"})), "rate_limit.bans[0].on_attacks: `all` is not known here"),
        (ban(json!({"strikes": 0})), "rate_limit.bans[0].strikes: 0; must be 1 to 1000"),
        (ban(json!({"window": "0s"})), "rate_limit.bans[0].window: 0s; must be 1s to 31d"),
        (ban(json!({"first": "32d"})), "rate_limit.bans[0].first: 32d; must be 1s to 31d"),
        (
            ban(json!({"maximum": "30s"})),
            "rate_limit.bans[0].maximum: 30s; must be at least 1m, the first ban",
        ),
        (ban(json!({"status": 503})), "rate_limit.bans[0].status: 503; must be 429 or 403"),
        (ban(json!({"name": "a b"})), "rate_limit.bans[0].name: \"a b\" is not a ban's name"),
        (json!({"bans": many}), "rate_limit.bans: has 9 bans; at most 8"),
    ] {
        let problems = compile(wire.clone()).unwrap_err();
        assert!(problems.contains(part), "{wire}: {problems}");
    }
    assert!(compile(ban(json!({"on_limited": ["login"], "on_attacks": "reported"}))).is_ok());
}

#[test]
fn a_rule_that_never_refuses_first_is_warned_of() {
    let two = |a: Value, b: Value| {
        let mut rules = vec![
            json!({"name": "a", "limit": 5, "window": "1m"}),
            json!({"name": "b", "limit": 5, "window": "1m"}),
        ];
        portcullis_policy::config::merge(&mut rules[0], &a);
        portcullis_policy::config::merge(&mut rules[1], &b);
        compile(json!({"rules": rules})).unwrap().1.to_string()
    };
    for (a, b, idle) in [
        (
            json!({}),
            json!({"limit": 9}),
            Some("rules[1]: `b` counts the same as `a`, and never refuses first"),
        ),
        (
            json!({"limit": 9}),
            json!({}),
            Some("rules[1]: `a` counts the same as `b`, and never refuses first"),
        ),
        (json!({}), json!({"limit": 50, "window": "1h"}), None),
        (json!({}), json!({"limit": 9, "action": "login"}), None),
        (json!({}), json!({"limit": 9, "per": ["tenant", "user"]}), None),
        (json!({}), json!({"limit": 9, "cost": 2}), None),
        (json!({}), json!({"limit": 9, "count": "on_failure"}), None),
        (json!({"mode": "monitor"}), json!({"limit": 9}), None),
        (
            json!({"limit": 0}),
            json!({"concurrent": 3, "limit": null, "window": null}),
            Some("`b` counts the same as `a`"),
        ),
    ] {
        let warnings = two(a.clone(), b.clone());
        match idle {
            Some(part) => assert!(warnings.contains(part), "{a} {b}: {warnings}"),
            None => assert_eq!(warnings, "", "{a} {b}"),
        }
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let wire = json!({"rules": [
        {"name": "", "limit": 9_999_999_999_u64, "window": "0s", "burst": 0, "action": "x"},
        {"name": "b", "limit": 1, "window": "1s", "per": ["tenant", "user", "client_ip"]},
        {"name": "c", "limit": 1, "window": "2d"},
    ]});
    assert_eq!(compile(wire).unwrap_err().lines().count(), 6);
}

#[test]
fn the_bounds_themselves_are_valid() {
    for patch in [
        json!({"limit": 1, "window": "1s"}),
        json!({"limit": 1_000_000_000, "window": "24h", "burst": 1_000_000_000}),
        json!({"limit": 1, "window": "24h", "burst": 31}),
        json!({"name": "A-z_0.9"}),
        json!({"per": []}),
        json!({"limit": 0}),
        json!({"concurrent": 65535, "limit": null, "window": null}),
        json!({"per": ["tenant", {"header": "X-Api-Key"}], "cost": 5}),
        json!({"cost": {"request_header": "x-cost", "default": 0, "most": 5}}),
        json!({"cost": {"response_header": "x-cost"}, "count": {"on_status": [401, "5xx"]}}),
        json!({"policy": "login_attempts_per_minute", "scope": "global"}),
        json!({"scope": "global", "on_error": "local_share", "limit": 10}),
        json!({"per": ["client_ip"], "action": ["login", "api_call", "login"], "mode": "monitor"}),
    ] {
        assert!(compile(rule(patch)).is_ok());
    }
}

#[test]
fn no_rule_is_a_warning() {
    assert!(compile(json!({"rules": []})).unwrap().1.to_string().contains("nothing is limited"));
    assert!(compile(json!({})).unwrap().1.to_string().is_empty());
    assert!(compile(json!({"mode": "off", "rules": []})).unwrap().1.to_string().is_empty());
}
