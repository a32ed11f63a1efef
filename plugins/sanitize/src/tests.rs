mod bodies;
mod exclusions;

use portcullis_policy::{Decision, Header, LocalSlots, Moment, NoFacts, Request, Tenant, Verdict, config};
use proptest::prelude::*;
use serde_json::json;

use super::*;

pub(crate) fn policy(wire: serde_json::Value) -> Sanitize {
    let mut errors = ConfigErrors::default();
    let site = Site::root().key("sanitize");
    config::read::<Wire>(wire, &site, &mut errors)
        .and_then(|wire| Sanitize::compile(wire, &site, &Vocabulary::default(), &mut errors))
        .unwrap_or_else(|| panic!("{errors}"))
}

fn request() -> Request {
    Request::of(Tenant::public())
}

/// Plays a request; all effects, in order.
pub(crate) fn play(policy: &Sanitize, headers: &[Header<'_>], chunks: &[&[u8]]) -> Effects {
    play_on(&mut NoFacts, policy, headers, chunks)
}

/// Plays a request on a host.
pub(crate) fn play_on(
    facts: &mut dyn portcullis_policy::Facts,
    policy: &Sanitize,
    headers: &[Header<'_>],
    chunks: &[&[u8]],
) -> Effects {
    let request = request();
    let mut shared = LocalSlots::new(0);
    let mut context =
        Context { moment: Moment::default(), request: &request, decisions: &[], shared: &mut shared, facts };
    let mut stream = Stream::default();
    let mut effects = Effects::new();
    let headers = Headers::new(headers.to_vec());
    let event = Event::RequestHeaders { headers: &headers, end_of_stream: chunks.is_empty() };
    policy.on(&mut context, &mut stream, &event, &mut effects);
    for (index, chunk) in chunks.iter().enumerate() {
        let event = Event::RequestBody { chunk, end_of_stream: index + 1 == chunks.len() };
        policy.on(&mut context, &mut stream, &event, &mut effects);
    }
    effects
}

pub(crate) fn status(effects: &Effects) -> u16 {
    let refusal = effects.iter().find_map(|effect| match effect {
        Effect::Refuse(refusal) => Some(refusal.status),
        _ => None,
    });
    refusal.unwrap_or(200)
}

pub(crate) fn decision(effects: &Effects) -> Option<&Decision> {
    effects.iter().find_map(|effect| match effect {
        Effect::Decide(decision) => Some(decision),
        _ => None,
    })
}

pub(crate) fn count(effects: &Effects, metric: &'static Metric) -> u64 {
    effects
        .iter()
        .map(|effect| {
            if let Effect::Count(m, n) = effect
                && *m == metric
            {
                *n
            } else {
                0
            }
        })
        .sum()
}

const BAD: &str = "x' or 1=1 -- ";

#[test]
fn an_attack_is_refused_counted_and_explained_without_its_text() {
    let effects = play(&policy(json!({})), &[(b":path", b"/a?user<id>=1&q=x'%20or%201=1%20--%20")], &[]);
    assert_eq!(status(&effects), 403);
    let decision = decision(&effects).unwrap();
    assert_eq!((decision.verdict, decision.event_type), (Verdict::Deny, "ATTACK_BLOCKED"));
    assert_eq!(decision.reason, "sql-injection");
    let text = format!("{:?}", decision.details);
    for part in ["\"query\"", "\"q\"", "\"value\"", "confidence"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("x' ** 1=1 --") && !text.contains(" or "), "{text}");
    assert_eq!(
        (count(&effects, &BLOCKED), count(&effects, &report::SQL), count(&effects, &DETECTED)),
        (1, 1, 0)
    );
    assert!(count(&effects, &INSPECTED) >= 2);
}

#[test]
fn monitor_decides_and_lets_pass() {
    for wire in [json!({"mode": "monitor"}), json!({"families": {"sql-injection": "monitor"}})] {
        let effects = play(&policy(wire), &[(b":path", b"/?q=x'%20or%201=1%20--%20")], &[]);
        assert_eq!(status(&effects), 200);
        let decision = decision(&effects).unwrap();
        assert_eq!((decision.verdict, decision.event_type), (Verdict::Monitor, "ATTACK_DETECTED"));
        assert_eq!((count(&effects, &BLOCKED), count(&effects, &DETECTED)), (0, 1));
    }
}

#[test]
fn an_enforced_finding_is_preferred_to_a_monitored_one() {
    let policy = policy(json!({"families": {"sql-injection": "monitor"}}));
    let effects = play(&policy, &[(b":path", b"/?q=x'%20or%201=1%20--%20&r=<script>go()</script>")], &[]);
    assert_eq!((status(&effects), decision(&effects).unwrap().reason), (403, "xss"));
}

#[test]
fn every_place_is_inspected_unless_it_is_switched_off() {
    let bad = BAD.as_bytes();
    let cookie = format!("a=b; c={BAD}");
    for (key, headers, body) in [
        ("path", vec![(&b":path"[..], &b"/a/x'%20or%201=1%20--%20"[..])], &b""[..]),
        ("query", vec![(b":path", b"/?x'%20or%201=1%20--%20")], b""),
        ("cookies", vec![(b"cookie", cookie.as_bytes())], b""),
        ("headers", vec![(b"x-name", bad)], b""),
        ("body", vec![(b"content-type", b"text/plain")], bad),
    ] {
        let chunks = if body.is_empty() { vec![] } else { vec![body] };
        assert_eq!(status(&play(&policy(json!({})), &headers, &chunks)), 403, "{key}");
        let off = policy(json!({"places": {key: false}}));
        assert_eq!(status(&play(&off, &headers, &chunks)), 200, "{key}");
    }
}

#[test]
fn protocol_headers_are_inspected_where_they_hold_what_no_protocol_has() {
    let judge = |name: &str, value: &str| {
        status(&play(&policy(json!({})), &[(name.as_bytes(), value.as_bytes())], &[]))
    };
    for name in ["accept", "accept-language", "if-none-match", "authorization", "te", "x-request-id"] {
        assert_eq!(judge(name, BAD), 403, "{name}");
        assert_eq!(judge(name, "${jndi:ldap://x.test/a}"), 403, "{name}");
        // Words alone are what protocols are made of.
        assert_eq!(judge(name, "1 or 1=1; q=0.9, a/b"), 200, "{name}");
    }
    for fine in ["Bearer it's.a.token", "Digest username=\"O'Brien\", realm=\"x\"", "Basic YW5uOm8nYnJpZW4="]
    {
        assert_eq!(judge("authorization", fine), 200, "{fine}");
    }
    for bad in
        ["Bearer ${jndi:ldap://x.test/a}", "basic eCcgb3IgMT0xIC0tIDp5", "Basic YW5uOngnIG9yIDE9MSAtLSA="]
    {
        assert_eq!(judge("authorization", bad), 403, "{bad}");
    }
    assert_eq!(judge(":authority", "it's"), 200);
    for name in ["user-agent", "referer", "x-forwarded-for", "x-anything"] {
        assert_eq!(
            status(&play(&policy(json!({})), &[(name.as_bytes(), BAD.as_bytes())], &[])),
            403,
            "{name}"
        );
    }
}

#[test]
fn a_body_is_asked_for_only_when_one_is_to_come() {
    let asks = |wire, headers: &[Header<'_>], chunks: &[&[u8]]| {
        play(&policy(wire), headers, chunks).contains(&Effect::InspectRequestBody)
    };
    assert!(asks(json!({}), &[(b":method", b"POST")], &[b"a=1"]));
    assert!(!asks(json!({}), &[(b":method", b"GET")], &[]));
    assert!(!asks(json!({"places": {"body": false}}), &[(b":method", b"POST")], &[b"a=1"]));
    assert!(!asks(json!({}), &[(b":path", b"/?q=x'%20or%201=1%20--%20")], &[b"a=1"]));
}

#[test]
fn odd_requests_get_a_decision() {
    let many: Vec<String> = (0..1000).map(|n| format!("x-h-{n}")).collect();
    let many: Vec<Header<'_>> =
        many.iter().map(|name| (name.as_bytes(), &b"some value; of=a header"[..])).collect();
    assert_eq!(status(&play(&policy(json!({})), &many, &[])), 200);
    let long = vec![b'a'; 1 << 20];
    assert_eq!(status(&play(&policy(json!({})), &[(b"x-long", &long)], &[])), 200);
    for headers in [
        &[(&b":path"[..], &b""[..])][..],
        &[(b":path", b"\xff\xfe?\xff=\xff")],
        &[(b"\xff", b"\xff\xff\xff\xff")],
        &[],
    ] {
        assert_eq!(status(&play(&policy(json!({})), headers, &[])), 200);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_get_a_decision(
        path in proptest::collection::vec(any::<u8>(), 0..200),
        value in proptest::collection::vec(any::<u8>(), 0..200),
        body in proptest::collection::vec(any::<u8>(), 0..600),
        encoding in 0_usize..4,
    ) {
        let policy = policy(json!({"body_max_bytes": 8192}));
        let encoding = [&b"identity"[..], b"gzip", b"deflate", b"br"][encoding];
        let headers: &[Header<'_>] = &[(b":path", &path), (b"cookie", &value), (b"x-any", &value), (b"content-encoding", encoding)];
        let effects = play(&policy, headers, &[&body]);
        prop_assert!(effects.len() < 16);
        if let Some(decision) = decision(&effects) {
            let details = format!("{:?}", decision.details);
            prop_assert!(details.len() < 1000);
        }
    }
}

#[test]
fn doubtful_findings_in_several_places_add_up() {
    // Each of these alone is let pass.
    let (one, other) = ("java.io.File%20in%20a%20text", "x=%24%7Bf(a)%7D");
    let policy = policy(json!({}));
    let judge = |query: &str, body: Option<&str>| {
        let path = format!("/a?{query}");
        let headers: Vec<Header<'_>> =
            vec![(b":path", path.as_bytes()), (b"content-type", b"application/x-www-form-urlencoded")];
        let chunks: Vec<&[u8]> = body.iter().map(|body| body.as_bytes()).collect();
        status(&play(&policy, &headers, &chunks))
    };
    assert_eq!(judge(&format!("a={one}"), None), 200);
    assert_eq!(judge(other, None), 200);
    let many = "a=%24%7Bf(a)%7D&b=%24%7Bf(a)%7D&c=%24%7Bf(a)%7D";
    assert_eq!(judge(&format!("{other}&{many}"), None), 403);
    // Head and body are one request.
    assert_eq!(judge(other, Some(many)), 403);
    assert_eq!(judge(other, Some("a=1")), 200);
}

#[test]
fn patterns_of_the_operator_are_families_like_others() {
    let wire = json!({
        "patterns": [{"name": "internal-id", "regex": "(?i)int-[0-9]{4}", "places": ["query"], "confidence": 95}],
        "exclusions": [{"name": "free", "families": ["custom-pattern"]}]
    });
    let policy = policy(wire);
    let effects = play(&policy, &[(b":path", b"/?q=see%20INT-1234")], &[]);
    assert_eq!((status(&effects), count(&effects, &report::CUSTOM)), (403, 1));
    let text = format!("{:?}", decision(&effects).unwrap().details);
    assert!(text.contains("internal-id") && !text.contains("1234"), "{text}");
    assert_eq!(status(&play(&policy, &[(b":path", b"/?free=INT-1234")], &[])), 200);
    assert_eq!(status(&play(&policy, &[(b":path", b"/?q=1"), (b"x-a", b"INT-1234")], &[])), 200);
}

#[test]
fn a_session_that_another_site_chose() {
    let play = |path: &'static [u8], referer: &'static [u8]| {
        let headers: Vec<Header<'_>> =
            vec![(b":path", path), (b":authority", b"shop.test"), (b"referer", referer)];
        status(&play(&policy(json!({})), &headers, &[]))
    };
    assert_eq!(play(b"/login?PHPSESSID=abc", b"https://evil.example/"), 403);
    assert_eq!(play(b"/login?PHPSESSID=abc", b"https://shop.test/a"), 200);
    assert_eq!(play(b"/login?session=abc", b"https://evil.example/"), 200);
}

#[test]
fn more_parameters_than_allowed() {
    let policy = policy(json!({"max_parameters": 3}));
    assert_eq!(status(&play(&policy, &[(b":path", b"/?a=1&b=2&c=3")], &[])), 200);
    assert_eq!(status(&play(&policy, &[(b":path", b"/?a=1&b=2&c=3&d=4")], &[])), 403);
}

#[test]
fn a_body_of_which_the_head_said_nothing() {
    let policy = policy(json!({}));
    let play = |head: &[Header<'_>], chunks: &[&[u8]]| status(&play(&policy, head, chunks));
    let get: Header<'_> = (b":method", b"GET");
    let path: Header<'_> = (b":path", b"/");
    assert_eq!(play(&[get, path], &[b"", b"a=1"]), 403);
    assert_eq!(play(&[(b":method", b"HEAD"), path], &[b"a=1"]), 403);
    // A stream may end with an empty frame; search engines read JSON; POST is what bodies are for.
    assert_eq!(play(&[get, path], &[b""]), 200);
    assert_eq!(play(&[get, path, (b"content-type", b"application/json")], &[b"{\"query\":{}}"]), 200);
    assert_eq!(play(&[(b":method", b"POST"), path], &[b"a=1"]), 200);
}
