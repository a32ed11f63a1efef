use portcullis_policy::{Effect, Fact, Facts, Verdict};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::tests::{count, decision, play_on, policy, status};
use crate::{BLOCKED, CLEANED, Sanitize, TAGGED};

/// A host, and whether it holds requests back.
struct Host(bool);

impl Facts for Host {
    fn fact(&mut self, _: Fact<'_>) -> Option<Vec<u8>> {
        None
    }

    fn holds_request(&self) -> bool {
        self.0
    }
}

/// Headers and body.
type Request = (Vec<(String, String)>, Vec<u8>);

fn get(path: &str) -> Request {
    (vec![(":path".to_owned(), path.to_owned())], Vec::new())
}

fn with(name: &str, value: &str) -> Request {
    (vec![(":path".to_owned(), "/".to_owned()), (name.to_owned(), value.to_owned())], Vec::new())
}

fn post(kind: &str, body: &str) -> Request {
    (with("content-type", kind).0, body.as_bytes().to_vec())
}

/// The request as it leaves; the status if it does not.
fn sent(policy: &Sanitize, host: bool, request: &Request) -> Result<Request, u16> {
    let pairs: Vec<(&[u8], &[u8])> =
        request.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let chunks: Vec<&[u8]> = request.1.chunks(7).collect();
    let effects = play_on(&mut Host(host), policy, &pairs, &chunks);
    let (mut headers, mut body) = request.clone();
    for effect in &effects {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        match effect {
            Effect::SetRequestHeader(name, value) => {
                headers.retain(|(known, _)| **known != **name);
                headers.push((name.to_string(), text(value)));
            }
            Effect::AddRequestHeader(name, value) => headers.push((name.to_string(), text(value))),
            Effect::RemoveRequestHeader(name) => headers.retain(|(known, _)| **known != **name),
            Effect::ReplaceRequestBody(replaced) => body.clone_from(replaced),
            _ => {}
        }
    }
    headers.sort();
    match status(&effects) {
        200 => Ok((headers, body)),
        refused => Err(refused),
    }
}

fn cleaning() -> Sanitize {
    policy(json!({"action": "clean"}))
}

#[test]
fn what_is_dangerous_is_taken_from_where_it_stands() {
    let (policy, form, kind) = (cleaning(), "application/x-www-form-urlencoded", "application/json");
    for (from, to) in [
        (get("/s?a=1&q=x%3Cscript%3Ego()%3C/script%3E%20y&b=%41"), get("/s?a=1&q=x%20y&b=%41")),
        (get("/s?q=%3Cb+onclick=go(1)%3Ehi%3C/b%3E"), get("/s?q=%3Cb%3Ehi%3C/b%3E")),
        (get("/s?q=a%253Cscript%253Ego()%253C/script%253Eb"), get("/s?q=ab")),
        (get("/s?q=%26lt;script%26gt;go()%26lt;/script%26gt;"), get("/s?q=")),
        (get("/s?to=javascript:alert(document.domain)&x=1"), get("/s?to=&x=1")),
        (get("/s?q=%7B%22a%22:%22%3Cscript%3Ego()%3C/script%3Eb%22%7D"), get("/s?q=%7B%22a%22:%22b%22%7D")),
        (with("cookie", "a=1; t=\"><svg/onload=go()>; c=\"x\""), with("cookie", "a=1; t=\">; c=\"x\"")),
        (with("referer", "http://x.test/?a=<script>go()</script>"), with("referer", "http://x.test/?a=")),
        (post(form, "a=1&q=%3Cscript%3Ego()%3C/script%3E+b"), post(form, "a=1&q=+b")),
        (
            post(
                kind,
                "{\"n\": 1.50, \"t\": \"\\u003cscript>go()</script>\\u00e9 \\\"x\\\"\", \"l\": [\"<!--\"]}",
            ),
            post(kind, "{\"n\": 1.50, \"t\": \"\\u00e9 \\\"x\\\"\", \"l\": [\"<!--\"]}"),
        ),
        (
            post(kind, r#"{"a": "<a href=\"java\u0073cript:go()\" title=\"t\">x</a>"}"#),
            post(kind, r#"{"a": "<a title=\"t\">x</a>"}"#),
        ),
    ] {
        let mut to = to;
        to.0.sort();
        assert_eq!(sent(&policy, true, &from), Ok(to), "{from:?}");
    }
}

#[test]
fn what_cannot_be_cleaned_is_refused() {
    let policy = cleaning();
    for request in [
        get("/s?q=x'%20or%201=1%20--%20"),
        get("/s?q=%3Cscript%3Ego()%3C/script%3E&r=x'%20or%201=1%20--%20"),
        get("/%3Cscript%3Ego()%3C/script%3E"),
        get("/s?%3Cscript%3Ego()%3C/script%3E=1"),
        get("/s?q='-alert(1)-'"),
        get("/s?q=PHNjcmlwdD5nbygpPC9zY3JpcHQ%2B"),
        post("text/plain", "<script>go()</script>"),
        post("application/xml", "<a>&lt;script&gt;go()&lt;/script&gt;</a>"),
        post("application/json", r#"{"<script>go()</script>": 1}"#),
        post("application/json", &format!("{{\"a\": \"<script>go()</script>{}\"}}", "x".repeat(70_000))),
    ] {
        assert_eq!(sent(&policy, true, &request), Err(403), "{:?}", request.0);
    }
    let text = r#"{"a": "<script>go()</script>"}"#;
    let wide = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(sent(&policy, true, &(post("application/json; charset=utf-16le", "").0, wide)), Err(403));
    // As a whole, or not at all.
    let body = post("application/json", r#"{"a": "<script>go()</script>"}"#);
    assert!(sent(&policy, true, &body).is_ok());
    assert_eq!(sent(&policy, false, &body), Err(403));
    assert!(sent(&policy, false, &get("/s?q=%3Cscript%3Ego()%3C/script%3E")).is_ok());
}

#[test]
fn the_record_names_what_was_cleaned() {
    let path = b"/s?q=%3Cscript%3Ego()%3C/script%3E&r=%3Cb+onclick=go(1)%3E";
    let effects = play_on(&mut Host(true), &cleaning(), &[(b":path", path)], &[]);
    assert_eq!((status(&effects), count(&effects, &CLEANED), count(&effects, &BLOCKED)), (200, 1, 0));
    let decision = decision(&effects).unwrap();
    assert_eq!((decision.verdict, decision.event_type), (Verdict::Monitor, "ATTACK_DETECTED"));
    let detail =
        |name: &str| decision.details.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    assert_eq!(detail("action"), Some(&json!("cleaned")));
    assert_eq!(detail("cleaned"), Some(&json!("query q, query r")));
    let effects = play_on(&mut Host(true), &cleaning(), &[(b":path", b"/?q='-alert(1)-'")], &[]);
    let text = format!("{:?}", crate::tests::decision(&effects));
    assert!(text.contains("blocked_because") && text.contains("not-cleanable"), "{text}");
}

#[test]
fn each_value_under_a_name_stays_one_and_what_is_taken_away_stays_away() {
    let headers: &[(&[u8], &[u8])] = &[
        (b":path", b"/"),
        (b"x-a", b"one"),
        (b"x-b", b"<script>go()</script>"),
        (b"x-a", b"<svg onload=go()>two"),
    ];
    let effects = play_on(&mut Host(true), &cleaning(), headers, &[]);
    let changes: Vec<String> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::SetRequestHeader(name, value) => {
                Some(format!("{name}={}", String::from_utf8_lossy(value)))
            }
            Effect::AddRequestHeader(name, value) => {
                Some(format!("{name}+{}", String::from_utf8_lossy(value)))
            }
            _ => None,
        })
        .collect();
    assert_eq!(changes, ["x-b=", "x-a=one", "x-a+two"]);
    let own = b"x-portcullis-findings";
    let effects =
        play_on(&mut Host(true), &cleaning(), &[(b":path", b"/"), (own, b"<script>go()</script>")], &[]);
    assert!(effects.contains(&Effect::RemoveRequestHeader("x-portcullis-findings".into())));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SetRequestHeader(..))));
}

#[test]
fn a_changed_body_has_no_digest() {
    let headers: &[(&[u8], &[u8])] = &[(b":path", b"/"), (b"content-type", b"application/json")];
    let digest = Effect::RemoveRequestHeader("content-digest".into());
    let changed = play_on(&mut Host(true), &cleaning(), headers, &[b"{\"a\": \"<script>go()</script>\"}"]);
    assert!(changed.contains(&digest));
    let kept = play_on(&mut Host(true), &cleaning(), headers, &[b"{\"a\": \"a script\"}"]);
    assert!(!kept.contains(&digest));
}

#[test]
fn the_application_is_told_and_nobody_else_tells_it() {
    let policy = policy(json!({"action": "tag"}));
    let tag = |request: &Request, host: bool| {
        sent(&policy, host, request).map(|(headers, _)| {
            headers.into_iter().find(|(name, _)| name == "x-portcullis-findings").map(|(_, value)| value)
        })
    };
    let told = |text: &str| Ok(Some(text.to_owned()));
    let two = get("/?q=%3Cscript%3Ego()%3C/script%3E&r=x'%20or%201=1%20--%20");
    let found = tag(&two, true).unwrap().unwrap();
    assert!(found.starts_with("score=9") && found.ends_with(", families=(sql-injection xss)"), "{found}");
    assert_eq!(tag(&get("/?q=fine"), true), Ok(None));
    assert_eq!(tag(&with("x-portcullis-findings", "score=1"), true), Ok(None));
    assert_eq!(sent(&policy, true, &with("X_Portcullis-Findings", "score=1")).unwrap().0.len(), 1);
    let body = post("application/json", r#"{"a": "<script>go()</script>"}"#);
    assert_eq!(tag(&body, true), told("score=92, families=(xss)"));
    assert_eq!(tag(&body, false), Err(403));
    let effects = play_on(&mut Host(true), &policy, &[(b":path", b"/?q=%3Cscript%3Ego()%3C/script%3E")], &[]);
    assert_eq!((count(&effects, &TAGGED), count(&effects, &BLOCKED)), (1, 0));
}

#[test]
fn families_may_have_actions_of_their_own() {
    let policy = policy(json!({"actions": {"xss": "clean", "sql-injection": "tag"}}));
    assert!(sent(&policy, true, &get("/?q=%3Cscript%3Ego()%3C/script%3E&r=x'%20or%201=1%20--%20")).is_ok());
    assert_eq!(sent(&policy, true, &get("/?q=../../../etc/passwd")), Err(403));
}

/// The texts of a JSON value that are no keys become empty.
fn hollow(value: &mut Value) {
    match value {
        Value::String(text) => text.clear(),
        Value::Array(list) => list.iter_mut().for_each(hollow),
        Value::Object(map) => map.values_mut().for_each(hollow),
        _ => {}
    }
}

const PIECES: &str =
    "([a-c '\"=;-]|<|>|/|<script>|</script>|<b |onload=|go\\(1\\)|javascript:|<!--|-->|&lt;|\u{e9}){0,24}";

proptest! {
    #[test]
    fn cleaning_twice_is_cleaning_once_and_nothing_new_appears(values in proptest::collection::vec(PIECES, 1..4)) {
        let policy = cleaning();
        let encoded = |text: &String| text.bytes().map(|b| match b {
            b'a'..=b'z' | b'0'..=b'9' => char::from(b).to_string(),
            other => format!("%{other:02x}"),
        }).collect::<String>();
        let query: Vec<String> = values.iter().enumerate().map(|(n, text)| format!("p{n}={}", encoded(text))).collect();
        let body = Value::from(values.clone()).to_string();
        for request in [get(&format!("/s?{}", query.join("&"))), post("application/json", &body)] {
            let Ok(once) = sent(&policy, true, &request) else { continue };
            let again = sent(&policy, true, &once).unwrap();
            prop_assert_eq!(&again, &once);
            // Only bytes are missing, and the framing is what it was.
            let parts = |request: &Request| request.0.iter().find(|(name, _)| name == ":path").unwrap().1.matches(['&', '=']).count();
            prop_assert_eq!(parts(&once), parts(&request));
            if !request.1.is_empty() {
                let (mut before, mut after): (Value, Value) =
                    (serde_json::from_slice(&request.1).unwrap(), serde_json::from_slice(&once.1).unwrap());
                hollow(&mut before);
                hollow(&mut after);
                prop_assert_eq!(before, after);
            }
        }
    }
}
