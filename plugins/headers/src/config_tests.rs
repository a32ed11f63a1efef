//! What would split a header, a policy or a message is refused wherever it is written; what only looks like it passes.

use serde_json::{Value, json};

use crate::tests::policy;

/// CR, LF and NUL split a message, or end a text in other programs.
const CONTROLS: [&str; 5] = ["\r", "\n", "\0", "\r\nx-injected: 1", "\u{7f}"];
/// What ends a directive or an entry of a policy.
const SEPARATORS: [&str; 4] = [";", ",", " ", "\""];

/// A text with something in its middle.
type Place = fn(&str) -> Value;

/// Each value that becomes part of a header, and how its error begins.
const PLACES: [(&str, Place); 12] = [
    ("headers.set.x-team", |bad| json!({"set": {"x-team": format!("a{bad}b")}})),
    (
        "headers.set.x-team",
        |bad| json!({"set": {"x-team": {"value": format!("a{bad}b"), "existing": "keep"}}}),
    ),
    (
        "headers.set.content-security-policy",
        |bad| json!({"set": {"content-security-policy": format!("img-src 'self'{bad}x")}}),
    ),
    ("headers.csp.img-src[1]", |bad| json!({"csp": {"img-src": ["'self'", format!("https://a{bad}b")]}})),
    ("headers.csp.report-to[0]", |bad| json!({"csp": {"report-to": [format!("a{bad}b")]}})),
    (
        "headers.csp_report_only.style-src[0]",
        |bad| json!({"csp_report_only": {"style-src": [format!("a{bad}b")]}}),
    ),
    (
        "headers.permissions_policy.camera[0]",
        |bad| json!({"permissions_policy": {"camera": [format!("https://a{bad}b")]}}),
    ),
    (
        "headers.reporting.endpoints.main",
        |bad| json!({"reporting": {"endpoints": {"main": format!("https://a{bad}b")}}}),
    ),
    (
        "headers.cache.static[0].value",
        |bad| json!({"cache": {"static": [{"paths": ["/"], "value": format!("private{bad}x")}]}}),
    ),
    ("headers.nonce", |bad| json!({"nonce": format!("0123456789ab{bad}0123456789a")})),
    ("headers.clear_site_data[0]", |bad| json!({"clear_site_data": [format!("cache{bad}")]})),
    (
        "headers.reporting.csp",
        |bad| json!({"reporting": {"endpoints": {"main": "/reports"}, "csp": format!("main{bad}")}}),
    ),
];

fn assert_refused(path: &str, wire: &Value) {
    let Err(problems) = policy(wire.clone()) else { panic!("{wire} is taken") };
    let named = problems.lines().any(|line| {
        let rest = line.strip_prefix(path).and_then(|rest| rest.strip_prefix(": "));
        // What is wrong, and what to do.
        rest.and_then(|rest| rest.split_once("; "))
            .is_some_and(|(problem, remedy)| !problem.is_empty() && !remedy.is_empty())
    });
    assert!(named, "{wire}: no line names {path}: {problems}");
}

#[test]
fn control_characters_are_refused_everywhere() {
    for (path, place) in PLACES {
        for bad in CONTROLS {
            assert_refused(path, &place(bad));
        }
    }
}

#[test]
fn separators_are_refused_where_they_split() {
    for (path, place) in PLACES.iter().filter(|(path, _)| path.ends_with(']') || path.contains("endpoints")) {
        for bad in SEPARATORS {
            assert_refused(path, &place(bad));
        }
    }
    // In a whole header they are what it consists of.
    for value in ["max-age=31536000; includeSubDomains", "a, b", "say \"x\""] {
        policy(json!({"set": {"x-team": value}})).unwrap();
    }
}

#[test]
fn names_that_would_split_are_refused() {
    for bad in ["\r", "\n", "\0", ";", ":", " ", ",", "\"", "é", ""] {
        let name = if bad.is_empty() { String::new() } else { format!("x{bad}y") };
        for wire in [
            json!({"set": {name.clone(): "a"}}),
            json!({"unset": [name]}),
            json!({"remove": [name]}),
            json!({"keep": [name]}),
            json!({"csp": {name.clone(): ["'self'"]}}),
            json!({"csp_report_only": {name.clone(): ["'self'"]}}),
            json!({"permissions_policy": {name.clone(): []}}),
            json!({"reporting": {"endpoints": {name.clone(): "/reports"}}}),
        ] {
            assert!(policy(wire.clone()).is_err(), "{wire} is taken");
        }
    }
    policy(json!({"set": {"x-y": "a"}, "remove": ["x-z"], "permissions_policy": {"x-y": []}})).unwrap();
}

#[test]
fn each_wrong_value_names_its_key_and_a_remedy() {
    let many = |count: usize| (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>();
    let entries: Vec<String> = (0..300).map(|n| format!("https://h{n}.example")).collect();
    for (path, wire) in [
        ("headers.mode", json!({"mode": "on"})),
        ("headers.profile", json!({"profile": "webb"})),
        ("headers.existing", json!({"existing": "overwrite"})),
        ("headers.process_time", json!({"process_time": "yes"})),
        ("headers.remove", json!({"remove": many(65)})),
        ("headers.remove", json!({"remove": ["x-frame-options"]})),
        ("headers.remove[0]", json!({"remove": ["content-length"]})),
        ("headers.set.x-a", json!({"set": {"x-a": "b".repeat(9000)}})),
        ("headers.set.x-a", json!({"set": {"x-a": " b"}})),
        ("headers.set.x-a.value", json!({"set": {"x-a": {"existing": "keep"}}})),
        ("headers.csp.img-src", json!({"csp": {"img-src": entries}})),
        ("headers.csp.img-src[0]", json!({"csp": {"img-src": [1]}})),
        (
            "headers.csp.require-trusted-types-for[0]",
            json!({"csp": {"require-trusted-types-for": ["script"]}}),
        ),
        ("headers.permissions_policy.camera", json!({"permissions_policy": {"camera": true}})),
        ("headers.nonce", json!({"nonce": "0123456789abcdef0123456789abcdef"})),
        (
            "headers.reporting.endpoints",
            json!({"reporting": {"endpoints": (0..17).map(|n| (format!("e{n}"), "/r")).collect::<std::collections::BTreeMap<_, _>>()}}),
        ),
        (
            "headers.reporting.nel",
            json!({"reporting": {"endpoints": {"a": "https://r.example/"}, "nel": "soon"}}),
        ),
        ("headers.cookies.secure", json!({"cookies": {"secure": "yes"}})),
        (
            "headers.cookies.except",
            json!({"cookies": {"except": many(65).into_iter().map(|name| (name, json!({}))).collect::<serde_json::Map<_, _>>()}}),
        ),
        (
            "headers.cache.static",
            json!({"cache": {"static": vec![json!({"paths": ["/"], "value": "private"}); 65]}}),
        ),
        ("headers.cache.static[0]", json!({"cache": {"static": [{"paths": [], "value": "private"}]}})),
        (
            "headers.cache.static[0].existing",
            json!({"cache": {"static": [{"paths": ["/"], "value": "private", "existing": "kept"}]}}),
        ),
        ("headers.cache.session_cookies", json!({"cache": {"session_cookies": many(65)}})),
    ] {
        assert_refused(path, &wire);
    }
}
