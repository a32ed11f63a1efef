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
        (
            rule(json!({"limit": 0})),
            "rate_limit.rules[0].limit: 0; must be 1 to 1000000000; to allow nothing, refuse",
        ),
        (
            rule(json!({"limit": 1_000_000_001})),
            "rate_limit.rules[0].limit: 1000000001; must be 1 to 1000000000",
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
        (rule(json!({"cost": 2})), "rate_limit.rules[0].cost: is not a known key"),
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

#[test]
fn all_problems_are_told_at_once() {
    let wire = json!({"rules": [
        {"name": "", "limit": 0, "window": "0s", "burst": 0, "action": "x"},
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
