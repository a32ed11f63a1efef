use std::time::Duration;

use portcullis_policy::{
    Actions, CorrelationId, Header, LocalSlots, Moment, NoFacts, Request, Tenant, config,
};
use serde_json::json;

use super::*;

fn policy(wire: serde_json::Value) -> Result<Headers, String> {
    let mut errors = ConfigErrors::default();
    let site = Site::root().key("headers");
    let compiled = config::read::<Wire>(wire, &site, &mut errors)
        .and_then(|wire| Headers::compile(wire, &site, &Vocabulary::default(), &mut errors));
    compiled.ok_or_else(|| errors.to_string())
}

fn request(scheme: &[u8]) -> Request {
    Request {
        tenant: Tenant::public(),
        user: None,
        client_ip: None,
        actions: Actions::default(),
        action: String::new(),
        route: String::new(),
        correlation_id: CorrelationId::make([0, 0]),
        method: Vec::new(),
        path: Vec::new(),
        host: Vec::new(),
        scheme: scheme.to_vec(),
        user_agent: Vec::new(),
        started: Duration::from_millis(1),
        started_wall_ns: 0,
    }
}

/// The response's headers as a host would leave them.
fn respond(policy: &Headers, scheme: &str, sent: &[Header<'_>]) -> (Vec<(String, String)>, Effects) {
    let headers = HeaderList::new(sent.to_vec());
    let request = request(scheme.as_bytes());
    let mut effects = Effects::new();
    let mut shared = LocalSlots::new(0);
    let mut context = Context {
        moment: Moment { now: Duration::from_micros(2_234_567), ..Moment::default() },
        request: &request,
        decisions: &[],
        shared: &mut shared,
        facts: &mut NoFacts,
    };
    policy.on(&mut context, &mut (), &Event::ResponseHeaders { headers: &headers }, &mut effects);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut left: Vec<(String, String)> = sent.iter().map(|(n, v)| (text(n), text(v))).collect();
    for effect in &effects {
        match effect {
            Effect::SetResponseHeader(name, value) => {
                left.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
                left.push((name.to_string(), text(value)));
            }
            Effect::AddResponseHeader(name, value) => left.push((name.to_string(), text(value))),
            Effect::RemoveResponseHeader(name) => left.retain(|(n, _)| !n.eq_ignore_ascii_case(name)),
            Effect::Count(..) => {}
            other => panic!("{other:?}"),
        }
    }
    (left, effects)
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
}

#[test]
fn the_list_of_leaks_is_sorted_and_lower_case() {
    assert!(leaks::LEAKS.is_sorted());
    assert!(leaks::LEAKS.iter().all(|name| *name == name.to_ascii_lowercase()));
    assert!(leaks::LEAKS.len() >= 85);
}

#[test]
fn every_profile_consists_of_valid_headers() {
    for profile in ["required", "web"] {
        let full = policy(json!({"profile": profile})).unwrap();
        let set: serde_json::Map<String, serde_json::Value> = full
            .fields
            .iter()
            .map(|f| (f.name.to_string(), json!(String::from_utf8(f.value.to_vec()).unwrap())))
            .collect();
        assert!(policy(json!({"profile": "none", "set": set})).is_ok());
    }
}

#[test]
fn the_required_set_is_on_every_response_and_leaks_are_gone() {
    let sent: &[Header<'_>] = &[
        (b":status", b"200"),
        (b"server", b"nginx/1.2"),
        (b"X-Powered-By", b"PHP/5"),
        (b"x-powered-by", b"again"),
        (b"x-process-time", b"forged"),
    ];
    let (left, effects) = respond(&policy(json!({})).unwrap(), "http", sent);
    for (name, value) in [
        ("x-xss-protection", "1; mode=block"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-process-time", "2.233567"),
    ] {
        assert_eq!(values(&left, name), [value]);
    }
    assert!(
        values(&left, "content-security-policy")[0]
            .starts_with("default-src 'self'; script-src 'self' 'unsafe-inline' https://js.stripe.com; ")
    );
    assert!(
        values(&left, "permissions-policy")[0]
            .starts_with("geolocation=(), microphone=(), camera=(), payment=(self), ")
    );
    assert!(values(&left, "server").is_empty() && values(&left, "x-powered-by").is_empty());
    assert!(effects.contains(&Effect::Count(&REMOVED, 2)));
}

#[test]
fn the_web_profile_promises_https_only_over_https() {
    let web = policy(json!({"profile": "web"})).unwrap();
    assert!(values(&respond(&web, "http", &[]).0, "strict-transport-security").is_empty());
    assert_eq!(values(&respond(&web, "https", &[]).0, "strict-transport-security").len(), 1);
    assert!(values(&respond(&web, "https", &[]).0, "x-xss-protection").is_empty());
}

#[test]
fn existing_values_are_kept_replaced_or_joined() {
    let sent: &[Header<'_>] = &[(b"x-frame-options", b"SAMEORIGIN")];
    for (existing, wanted) in
        [("replace", vec!["DENY"]), ("keep", vec!["SAMEORIGIN"]), ("append", vec!["SAMEORIGIN", "DENY"])]
    {
        for wire in [
            json!({"existing": existing}),
            json!({"set": {"X-Frame-Options": {"existing": existing}}}),
            json!({"existing": "keep", "set": {"X-Frame-Options": {"value": "DENY", "existing": existing}}}),
        ] {
            let (left, _) = respond(&policy(wire).unwrap(), "http", sent);
            assert_eq!(values(&left, "x-frame-options"), wanted, "{existing}");
        }
    }
}

#[test]
fn a_right_value_is_not_set_again() {
    let only = policy(json!({"profile": "none", "process_time": false, "set": {"x-a": "b"}})).unwrap();
    assert!(respond(&only, "http", &[(b"x-a", b"b")]).1.is_empty());
    assert_eq!(respond(&only, "http", &[(b"x-a", b"b"), (b"x-a", b"c")]).0, [("x-a".into(), "b".into())]);
}

#[test]
fn names_can_be_unset_kept_and_removed() {
    let wire = json!({"unset": ["X-XSS-Protection"], "keep": ["Server"], "remove": ["X-Internal"]});
    let sent: &[Header<'_>] = &[(b"server", b"mine"), (b"x-internal", b"1")];
    let (left, _) = respond(&policy(wire).unwrap(), "http", sent);
    assert!(values(&left, "x-xss-protection").is_empty() && values(&left, "x-internal").is_empty());
    assert_eq!(values(&left, "server"), ["mine"]);
}

#[test]
fn monitor_changes_nothing_and_counts() {
    let monitor = policy(json!({"mode": "monitor"})).unwrap();
    let (left, effects) = respond(&monitor, "http", &[(b"server", b"x")]);
    assert_eq!(left, [("server".into(), "x".into())]);
    assert_eq!(effects, [Effect::Count(&WOULD, 1)]);
}

#[test]
fn what_would_split_a_message_is_an_error() {
    for (wire, part) in [
        (json!({"set": {"x-a": "b\r\nset-cookie: c"}}), "headers.set.x-a: holds a control character"),
        (json!({"set": {"x-a": "b\n"}}), "headers.set.x-a: holds a control character"),
        (json!({"set": {"x-a": "b\u{0}"}}), "headers.set.x-a: holds a control character"),
        (json!({"set": {"x-a": " b"}}), "headers.set.x-a: begins or ends"),
        (json!({"set": {"x a": "b"}}), "headers.set.x a: \"x a\" is not a header name"),
        (json!({"set": {"": "b"}}), "is not a header name"),
        (json!({"set": {"x-a\r": "b"}}), "is not a header name"),
        (json!({"set": {"x-a": {"existing": "keep"}}}), "headers.set.x-a.value: is missing"),
        (json!({"set": {"Content-Length": "5"}}), "frames the message"),
        (json!({"remove": ["x\n"]}), "headers.remove[0]: \"x\\n\" is not a header name"),
        (json!({"remove": ["x-frame-options"]}), "headers.remove: `x-frame-options` is set and removed"),
        (json!({"profle": "web"}), "headers.profle: is not a known key; did you mean `profile`?"),
        (json!({"profile": "webb"}), "did you mean `web`?"),
    ] {
        let problems = policy(wire.clone()).unwrap_err();
        assert!(problems.contains(part), "{wire}: {problems}");
    }
}
