use std::time::Duration;

use portcullis_policy::{Fact, Facts, Header, LocalSlots, Moment, Request, Tenant, config};
use serde_json::json;

use super::*;

pub(crate) fn policy(wire: serde_json::Value) -> Result<Headers, String> {
    let mut errors = ConfigErrors::default();
    let site = Site::root().key("headers");
    let compiled = config::read::<Wire>(wire, &site, &mut errors)
        .and_then(|wire| Headers::compile(wire, &site, &Vocabulary::default(), &mut errors));
    compiled.ok_or_else(|| errors.to_string())
}

/// A host that can change bodies.
struct Bodies;

impl Facts for Bodies {
    fn fact(&mut self, _: Fact<'_>) -> Option<Vec<u8>> {
        None
    }

    fn rewrites_responses(&self) -> bool {
        true
    }

    fn entropy(&mut self) -> Option<[u8; 32]> {
        Some([0; 32])
    }
}

fn request(scheme: &[u8]) -> Request {
    Request { scheme: scheme.to_vec(), started: Duration::from_millis(1), ..Request::of(Tenant::public()) }
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
        facts: &mut Bodies,
    };
    policy.on(
        &mut context,
        &mut State::default(),
        &Event::ResponseHeaders { headers: &headers },
        &mut effects,
    );
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
            Effect::Count(..) | Effect::Decide(_) | Effect::SubstituteInResponseBody(_) => {}
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
    for profile in ["required", "web", "api", "strict"] {
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
fn what_tells_of_the_stack_on_purpose_stays() {
    let told = policy(json!({"profile": "none", "process_time": false, "set": {"Server": "mine"}})).unwrap();
    for sent in ["mine", "nginx/1.27.1"] {
        let (left, _) = respond(&told, "http", &[(b"server", sent.as_bytes())]);
        assert_eq!(values(&left, "server"), ["mine"], "{sent}");
    }
}

#[test]
fn only_what_a_response_has_is_replaced() {
    let web = policy(json!({"profile": "web"})).unwrap();
    let replaced = |sent: &[Header<'_>]| -> Vec<String> {
        let name = |effect: Effect| match effect {
            Effect::SetResponseHeader(name, _) => Some(name.to_string()),
            _ => None,
        };
        respond(&web, "https", sent).1.into_iter().filter_map(name).collect()
    };
    assert_eq!(replaced(&[(b"date", b"today"), (b"content-type", b"text/css")]), [""; 0]);
    // Of another case, and beside another name of that length.
    let sent: &[Header<'_>] =
        &[(b"X-Frame-Options", b"SAMEORIGIN"), (b"x-abcde-options", b"1"), (b"X-Process-Time", b"9")];
    assert_eq!(replaced(sent), ["x-frame-options", "x-process-time"]);
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

pub(crate) const PLACEHOLDER: &str = "0123456789abcdef01234567";

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let all = values(headers, name);
    assert_eq!(all.len(), 1, "{name}: {all:?}");
    all[0]
}

#[test]
fn directives_are_laid_over_the_profiles() {
    let wire = json!({"profile": "strict",
        "csp": {"img-src": ["'self'", "https://cdn.example"], "manifest-src": false, "media-src": ["'none'"]},
        "permissions_policy": {"camera": ["self", "https://meet.example"], "usb": false, "battery": []}});
    let (left, _) = respond(&policy(wire).unwrap(), "https", &[]);
    let csp = header(&left, "content-security-policy");
    assert!(csp.starts_with(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https://cdn.example; "
    ));
    assert!(
        csp.ends_with("; upgrade-insecure-requests; media-src 'none'") && !csp.contains("manifest"),
        "{csp}"
    );
    let permissions = header(&left, "permissions-policy");
    assert!(
        permissions.contains("camera=(self \"https://meet.example\"), ")
            && permissions.ends_with(", battery=()")
    );
    assert!(!permissions.contains("usb="));
}

#[test]
fn a_second_policy_is_tried_beside_the_enforced_one_and_both_are_reported() {
    let wire = json!({"profile": "web", "csp_report_only": {"style-src": ["'none'"]},
        "reporting": {"endpoints": {"main": "https://app.example/reports"}, "csp": "main", "nel": "7d"}});
    let (left, _) = respond(&policy(wire).unwrap(), "https", &[]);
    let end = "; report-uri https://app.example/reports; report-to main";
    assert!(header(&left, "content-security-policy").ends_with(end));
    let tried = header(&left, "content-security-policy-report-only");
    assert!(
        tried.ends_with(end) && tried.contains("style-src 'none'") && tried.contains("script-src 'self'")
    );
    assert_eq!(header(&left, "reporting-endpoints"), "main=\"https://app.example/reports\"");
    assert_eq!(header(&left, "nel"), r#"{"report_to":"main","max_age":604800,"include_subdomains":true}"#);
    assert_eq!(
        header(&left, "report-to"),
        r#"{"group":"main","max_age":604800,"endpoints":[{"url":"https://app.example/reports"}]}"#
    );
}

#[test]
fn a_private_page_gets_a_nonce_and_its_placeholder_gives_way() {
    let strict = policy(json!({"profile": "strict", "nonce": PLACEHOLDER})).unwrap();
    let page: &[Header<'_>] = &[(b":status", b"200"), (b"content-type", b"text/html"), (b"etag", b"x")];
    let (left, effects) = respond(&strict, "https", page);
    let csp = header(&left, "content-security-policy");
    assert!(csp.contains("script-src 'nonce-AAAAAAAAAAAAAAAAAAAAAA==' 'strict-dynamic'; "), "{csp}");
    assert!(values(&left, "etag").is_empty());
    let put =
        Substitution::new(PLACEHOLDER.as_bytes().into(), b"AAAAAAAAAAAAAAAAAAAAAA=="[..].into()).unwrap();
    assert!(effects.contains(&Effect::SubstituteInResponseBody(put)));

    let web = policy(json!({"profile": "web", "nonce": PLACEHOLDER})).unwrap();
    let (left, _) = respond(&web, "https", page);
    assert_eq!(header(&left, "cache-control"), "no-store");
    let shared: &[Header<'_>] = &[page[0], page[1], (b"cache-control", b"public, max-age=60")];
    let packed: &[Header<'_>] = &[page[0], page[1], (b"content-encoding", b"gzip")];
    let other: &[Header<'_>] = &[page[0], (b"content-type", b"application/json")];
    let filler =
        Substitution::new(PLACEHOLDER.as_bytes().into(), b"no-nonce-for-this-answer"[..].into()).unwrap();
    for (sent, put) in [(shared, Some(&filler)), (packed, None), (other, None)] {
        let (left, effects) = respond(&web, "https", sent);
        assert!(header(&left, "content-security-policy").contains("script-src 'self'; "));
        let found = effects.iter().find_map(|effect| match effect {
            Effect::SubstituteInResponseBody(put) => Some(put),
            _ => None,
        });
        assert_eq!(found, put);
    }
}

#[test]
fn without_a_nonce_the_fallback_of_old_browsers_lets_nothing_run() {
    let page: &[Header<'_>] = &[(b":status", b"200"), (b"content-type", b"application/json")];
    for (sources, wanted) in [
        (json!(["'nonce-{nonce}'", "'strict-dynamic'", "'unsafe-inline'"]), "script-src 'none'"),
        (json!(["'unsafe-inline'"]), "script-src 'unsafe-inline'"),
    ] {
        let wire = json!({"profile": "web", "nonce": PLACEHOLDER, "csp": {"script-src": sources}});
        let (left, _) = respond(&policy(wire).unwrap(), "https", page);
        let csp = header(&left, "content-security-policy");
        assert!(csp.contains(wanted), "{csp}");
    }
}

#[test]
fn what_is_static_may_be_kept_and_what_is_a_sessions_may_not() {
    let web = policy(json!({"profile": "web"})).unwrap();
    let control = |path: &str, sent: &[Header<'_>]| {
        let cache = &web.cache;
        let headers = HeaderList::new([&[(&b":status"[..], &b"200"[..])][..], sent].concat());
        format!("{:?}", cache.decide(path.as_bytes(), false, &headers))
    };
    let css: Header<'_> = (b"content-type", b"text/css; charset=utf-8");
    let cookie: Header<'_> = (b"set-cookie", b"a=b");
    for (path, sent, wanted) in [
        ("/static/app.css", &[css][..], "Static(\"public, max-age=86400\")"),
        ("/static/app.css", &[css, cookie], "Session"),
        ("/static/app.css", &[css, (b"cache-control", b"max-age=5")], "Open"),
        ("/static/page", &[(b"content-type", b"text/html")], "Open"),
        ("/static/../account.css", &[css], "Open"),
        ("/static/%2e%2e/account", &[css], "Open"),
        ("/account/x.css", &[css], "Open"),
        ("/", &[cookie], "Session"),
        ("/", &[cookie, (b"cache-control", b"private, max-age=60")], "Open"),
        ("/", &[cookie, (b"cache-control", b"public, max-age=60")], "Session"),
    ] {
        assert_eq!(control(path, sent), wanted, "{path} {sent:?}");
    }
}
