//! What would split a header, a policy or a message is refused wherever it is written; what only looks like it passes.

use portcullis_policy::config;
use serde_json::{Value, json};

use super::*;
use crate::tests::{PLACEHOLDER, policy};

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

#[test]
fn policies_that_cannot_be_meant_are_errors() {
    for (wire, part) in [
        (
            json!({"csp": {"scrip-src": ["'self'"]}}),
            "headers.csp.scrip-src: is not a directive of CSP; did you mean `script-src`?",
        ),
        (
            json!({"csp": {"img-src": ["self"]}}),
            "headers.csp.img-src[0]: `self` without single quotes names a host; write \"'self'\"",
        ),
        (json!({"csp": {"img-src": []}}), "headers.csp.img-src: has no source"),
        (json!({"csp": {"img-src": "'self'"}}), "headers.csp.img-src: is not a list"),
        (
            json!({"csp": {"img-src": ["a; script-src *"]}}),
            "headers.csp.img-src[0]: \"a; script-src *\" would split the policy",
        ),
        (
            json!({"csp": {"img-src": ["a\r\nb"]}}),
            "headers.csp.img-src[0]: \"a\\r\\nb\" would split the policy",
        ),
        (json!({"csp": {"img-src": ["a\u{0}"]}}), "would split the policy"),
        (json!({"csp": {"img-src": ["a,b"]}}), "would split the policy"),
        (
            json!({"csp": {"script-src": ["'nonce-abc'"]}}),
            "headers.csp.script-src[0]: a nonce that is always the same is no secret",
        ),
        (
            json!({"csp": {"img-src": ["'self'"]}, "set": {"Content-Security-Policy": "x"}}),
            "headers.csp: stands beside the same header in `set`",
        ),
        (
            json!({"permissions_policy": {"camera": ["meet.example"]}}),
            "headers.permissions_policy.camera[0]: `meet.example` is no origin",
        ),
        (
            json!({"permissions_policy": {"Camera": []}}),
            "headers.permissions_policy.Camera: is not the name of a feature",
        ),
        (json!({"nonce": "short"}), "headers.nonce: has 5 characters"),
        (
            json!({"clear_site_data": ["cokies"]}),
            "headers.clear_site_data[0]: `cokies` is not known here; did you mean `cookies`?",
        ),
        (
            json!({"reporting": {"endpoints": {"a": "http://x"}}}),
            "headers.reporting.endpoints.a: is not a URL that takes reports",
        ),
        (
            json!({"reporting": {"endpoints": {"a": "https://x\"; b"}}}),
            "headers.reporting.endpoints.a: is not a URL",
        ),
        (json!({"reporting": {"csp": "a"}}), "headers.reporting.csp: `a` is not an endpoint"),
        (
            json!({"reporting": {"nel": "1d", "endpoints": {"a": "/reports"}}}),
            "headers.reporting.nel: has no endpoint",
        ),
        (
            json!({"cache": {"static": [{"paths": ["static"], "value": "x"}]}}),
            "headers.cache.static[0].paths[0]: `static` is no path",
        ),
        (
            json!({"cache": {"static": [{"paths": ["/"], "value": "a\nb"}]}}),
            "headers.cache.static[0].value: holds a control character",
        ),
        (
            json!({"cookies": {"same_site": "laxx"}}),
            "headers.cookies.same_site: `laxx` is not known here; did you mean `lax`?",
        ),
        (json!({"cookies": {"except": {"a": {"httponly": false}}}}), "did you mean `http_only`?"),
    ] {
        let problems = policy(wire.clone()).unwrap_err();
        assert!(problems.contains(part), "{wire}: {problems}");
    }
}

#[cfg(feature = "lint")]
#[test]
fn the_lint_names_what_is_weak_and_the_better_line() {
    let warnings = |wire: serde_json::Value| {
        let mut errors = ConfigErrors::default();
        let site = Site::root().key("headers");
        let wire = config::read::<Wire>(wire, &site, &mut errors).unwrap();
        Headers::compile(wire, &site, &Vocabulary::default(), &mut errors).unwrap();
        errors.to_string()
    };
    for (wire, part) in [
        (
            json!({}),
            "headers.csp.script-src: `'unsafe-inline'` runs an injected script like your own; mark your own",
        ),
        (json!({}), "headers.set.x-xss-protection: browsers have dropped it"),
        (
            json!({"set": {"Content-Security-Policy": "script-src *"}}),
            "headers.csp.script-src: `*` lets scripts from anywhere run",
        ),
        (
            json!({"set": {"Content-Security-Policy": "img-src 'self'"}}),
            "headers.csp.script-src: is missing, and default-src too",
        ),
        (
            json!({"set": {"Content-Security-Policy": "script-src 'self'"}}),
            "headers.csp.object-src: is missing",
        ),
        (
            json!({"set": {"Content-Security-Policy": "script-src 'self'"}}),
            "headers.csp.base-uri: is missing",
        ),
        (
            json!({"set": {"Content-Security-Policy": "script-scr 'self'"}}),
            "headers.csp.script-scr: is no directive that browsers know; did you mean `script-src`?",
        ),
        (
            json!({"set": {"Content-Security-Policy": "script-src 'nonce-abc'"}}),
            "`'nonce-abc'` is always the same",
        ),
        (
            json!({"profile": "web", "csp": {"script-src": ["https://*.example"]}}),
            "`https://*.example` trusts every host",
        ),
        (
            json!({"profile": "web", "csp": {"script-src": ["https://cdnjs.cloudflare.com/x"]}}),
            "get around this policy",
        ),
        (json!({"profile": "web", "csp": {"img-src": ["http://a.example"]}}), "comes unencrypted"),
        (
            json!({"profile": "web", "set": {"Cross-Origin-Opener-Policy": "noopener-allow-popup"}}),
            "did you mean `noopener-allow-popups`?",
        ),
        (
            json!({"profile": "web", "set": {"Strict-Transport-Security": "max-age=60"}}),
            "less than half a year",
        ),
        (
            json!({"profile": "web", "permissions_policy": {"camera": ["*"]}}),
            "headers.permissions_policy.camera: every page in a frame may use it",
        ),
        (json!({"profile": "web", "set": {"Integrity-Policy": "sources=(inline)"}}), "blocks nothing"),
    ] {
        assert!(warnings(wire.clone()).contains(part), "{wire}: {}", warnings(wire.clone()));
    }
    for sound in [
        json!({"profile": "web"}),
        json!({"profile": "api"}),
        json!({"profile": "strict", "nonce": PLACEHOLDER}),
        json!({"profile": "web", "set": {"Cross-Origin-Opener-Policy": "noopener-allow-popups",
            "Document-Isolation-Policy": "isolate-and-credentialless", "Integrity-Policy": "blocked-destinations=(script)"}}),
    ] {
        assert_eq!(warnings(sound.clone()), "", "{sound}");
    }
}
