use std::time::Duration;

use portcullis_hpke::{Place, SecretKey, TenantKey, envelope, open};
use portcullis_policy::{Actions, CorrelationId, Fact, Facts, Header, LocalSlots, Moment, Request, Tenant};
use serde_json::json;

use super::*;

/// A host with randomness that counts, or none.
struct Host {
    draws: Option<u8>,
    holds: bool,
}

impl Facts for Host {
    fn fact(&mut self, _: Fact<'_>) -> Option<Vec<u8>> {
        None
    }

    fn entropy(&mut self) -> Option<[u8; 32]> {
        let drawn = self.draws?;
        self.draws = Some(drawn.wrapping_add(1));
        Some([drawn; 32])
    }

    fn holds_request(&self) -> bool {
        self.holds
    }
}

fn secret() -> SecretKey {
    SecretKey::derive(&[9; 32])
}

fn policy(section: serde_json::Value) -> Seal {
    let mut errors = ConfigErrors::default();
    let mut whole =
        json!({"keys": {"acme": TenantKey { version: 4, public: secret().public() }.to_string()}});
    portcullis_policy::config::merge(&mut whole, &section);
    let wire = serde_json::from_value(whole).unwrap();
    let policy = Seal::compile(wire, &Site::root().key("seal"), &Vocabulary::default(), &mut errors);
    policy.unwrap_or_else(|| panic!("{errors}"))
}

fn problems(section: serde_json::Value) -> String {
    let mut errors = ConfigErrors::default();
    let wire = serde_json::from_value(section).unwrap();
    let policy = Seal::compile(wire, &Site::root().key("seal"), &Vocabulary::default(), &mut errors);
    assert_eq!(policy.is_none(), errors.has_errors());
    errors.to_string()
}

fn request() -> Request {
    Request {
        tenant: Tenant::new(b"acme").unwrap(),
        user: None,
        client_ip: None,
        actions: Actions::default(),
        action: String::new(),
        route: String::new(),
        correlation_id: CorrelationId::make([0, 0]),
        method: b"POST".to_vec(),
        path: b"/".to_vec(),
        host: Vec::new(),
        scheme: Vec::new(),
        user_agent: Vec::new(),
        started: Duration::ZERO,
        started_wall_ns: 0,
    }
}

/// What comes of a request at a time, after effects of policies before.
fn play(
    policy: &Seal,
    host: &mut Host,
    now: Duration,
    (pairs, body): (&[Header<'_>], &[u8]),
    before: Effects,
) -> Effects {
    let (mut slots, request, mut state) = (LocalSlots::new(1), request(), State::default());
    let headers = Headers::new(pairs.to_vec());
    let mut effects = before;
    let mut tell = |event: &Event<'_>, effects: &mut Effects| {
        let moment = Moment { now, ..Moment::default() };
        let mut context =
            Context { moment, request: &request, decisions: &[], shared: &mut slots, facts: &mut *host };
        policy.on(&mut context, &mut state, event, effects);
    };
    tell(&Event::RequestHeaders { headers: &headers, end_of_stream: body.is_empty() }, &mut effects);
    if !body.is_empty() {
        tell(&Event::RequestBody { chunk: body, end_of_stream: true }, &mut effects);
    }
    effects
}

fn host() -> Host {
    Host { draws: Some(0), holds: true }
}

fn sealed_headers(effects: &Effects) -> Vec<String> {
    let text = |value: &Rc<[u8]>| String::from_utf8(value.to_vec()).unwrap();
    let value = |effect: &Effect| match effect {
        Effect::SetRequestHeader(_, value) | Effect::AddRequestHeader(_, value) => Some(text(value)),
        _ => None,
    };
    effects.iter().filter_map(value).filter(|value| value.starts_with(envelope::MARK)).collect()
}

fn opened(text: &str, field: &str) -> Option<Vec<u8>> {
    let bytes = Envelope::from_text(text)?;
    let tenant = Tenant::new(b"acme")?;
    let place = Place { tenant: &tenant, field, purpose: "edge" };
    open(&secret(), &Envelope::parse(&bytes)?, &place).map(|message| message.to_vec())
}

fn refusal(effects: &Effects) -> Option<(u16, &'static str)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Refuse(refusal) => Some((refusal.status, refusal.reason)),
        _ => None,
    })
}

fn exchanges(effects: &Effects) -> usize {
    effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Count(metric, 1) if metric.name == EXCHANGES.name))
        .count()
}

#[test]
fn what_is_sealed_opens_with_the_tenants_key_as_that_field_alone() {
    let policy = policy(json!({"headers": ["x-card"], "json": ["/card/number"], "form": ["iban"]}));
    let effects = play(&policy, &mut host(), Duration::ZERO, (&[(b"X-Card", b"4111 \xff")], b""), Vec::new());
    let [text] = &sealed_headers(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(opened(text, "header x-card").unwrap(), b"4111 \xff");
    assert_eq!(opened(text, "form iban"), None);
    let json: (&[Header<'_>], &[u8]) =
        (&[(b"content-type", b"application/json")], br#"{"card": {"number": "41\u0031"}}"#);
    let effects = play(&policy, &mut host(), Duration::ZERO, json, Vec::new());
    let body = effects.iter().find_map(|effect| match effect {
        Effect::ReplaceRequestBody(body) => Some(String::from_utf8(body.clone()).unwrap()),
        _ => None,
    });
    let body: serde_json::Value = serde_json::from_str(&body.unwrap()).unwrap();
    let text = body["card"]["number"].as_str().unwrap();
    assert_eq!(opened(text, "json /card/number").unwrap(), br#""41\u0031""#, "as it stood");
}

#[test]
fn a_key_exchange_serves_256_values_or_ten_minutes() {
    let policy = policy(json!({"headers": ["x-card"]}));
    let mut host = host();
    let mut made = 0;
    for _ in 0..300 {
        let effects = play(&policy, &mut host, Duration::ZERO, (&[(b"x-card", b"1")], b""), Vec::new());
        assert_eq!(opened(&sealed_headers(&effects)[0], "header x-card").unwrap(), b"1");
        made += exchanges(&effects);
    }
    assert_eq!(made, 2);
    for (seconds, more) in [(599, 0), (601, 1), (700, 0)] {
        let now = Duration::from_secs(seconds);
        let effects = play(&policy, &mut host, now, (&[(b"x-card", b"1")], b""), Vec::new());
        assert_eq!(exchanges(&effects), more, "{seconds} s");
    }
}

#[test]
fn without_randomness_nothing_is_sealed_and_nothing_passes() {
    let policy = policy(json!({"headers": ["x-card"]}));
    let mut host = Host { draws: None, holds: true };
    let effects = play(&policy, &mut host, Duration::ZERO, (&[(b"x-card", b"1")], b""), Vec::new());
    assert_eq!(refusal(&effects), Some((503, "seal-randomness-missing")));
    let effects = play(&policy, &mut host, Duration::ZERO, (&[(b"x-cart", b"1")], b""), Vec::new());
    assert_eq!(refusal(&effects), None);
}

#[test]
fn what_policies_before_have_asked_for_is_what_is_sealed() {
    let policy = policy(json!({"headers": ["x-card"], "form": ["iban"]}));
    let set = |value: &[u8]| Effect::SetRequestHeader("X-Card".into(), value.into());
    for (before, expected) in [
        (vec![set(b"clean")], vec!["clean"]),
        (
            vec![set(b"clean"), Effect::AddRequestHeader("x-card".into(), b"more"[..].into())],
            vec!["clean", "more"],
        ),
        (vec![Effect::RemoveRequestHeader("x-card".into())], vec![]),
    ] {
        let effects = play(&policy, &mut host(), Duration::ZERO, (&[(b"x-card", b"came")], b""), before);
        let opened: Vec<Vec<u8>> =
            sealed_headers(&effects).iter().map(|text| opened(text, "header x-card").unwrap()).collect();
        assert_eq!(opened, expected.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
    }
    let form: (&[Header<'_>], &[u8]) =
        (&[(b"content-type", b"application/x-www-form-urlencoded")], b"iban=1&x=<script>");
    let cleaned = vec![Effect::ReplaceRequestBody(b"iban=1&x=".to_vec())];
    let effects = play(&policy, &mut host(), Duration::ZERO, form, cleaned);
    let bodies: Vec<&Vec<u8>> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::ReplaceRequestBody(body) => Some(body),
            _ => None,
        })
        .collect();
    let [body] = &bodies[..] else { panic!("{effects:?}") };
    assert!(body.starts_with(b"iban=pcse1.") && body.ends_with(b"&x="), "{effects:?}");
}

#[test]
fn a_failure_is_logged_once_a_minute_and_counted_each_time() {
    let policy = policy(json!({"headers": ["x-card"], "value_max_bytes": 1}));
    let (mut lines, mut counted) = (0, 0);
    for second in 0..61 {
        let now = Duration::from_secs(second);
        let effects = play(&policy, &mut host(), now, (&[(b"x-card", b"12")], b""), Vec::new());
        lines += effects.iter().filter(|effect| matches!(effect, Effect::Log(..))).count();
        counted += effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Count(metric, 1) if metric.name == FAILED.name))
            .count();
        assert_eq!(refusal(&effects), Some((413, "seal-value-too-large")));
    }
    assert_eq!((lines, counted), (2, 61));
}

#[test]
fn a_body_is_read_as_what_it_says_it_is_and_no_other_way() {
    let of = |pairs: &[Header<'_>]| kind(&Headers::new(pairs.to_vec()));
    let content_type = |value: &'static [u8]| of(&[(b"content-type", value)]);
    for json in [
        &b"application/json"[..],
        b"Application/JSON ; charset=\"UTF-8\"",
        b"application/a.b+json",
        b"text/json",
    ] {
        assert_eq!(content_type(json), Ok(Kind::Json));
    }
    assert_eq!(content_type(b"application/x-www-form-urlencoded;charset=utf8"), Ok(Kind::Form));
    for other in [
        &b"application/json; charset=utf-16"[..],
        b"text/plain",
        b"multipart/form-data; boundary=x",
        b"",
        b"\xff",
    ] {
        assert_eq!(content_type(other), Err(Cause::MediaType));
    }
    assert_eq!(of(&[]), Err(Cause::MediaType));
    let json: Header<'_> = (b"content-type", b"application/json");
    assert_eq!(of(&[json, json]), Err(Cause::MediaType));
    assert_eq!(of(&[json, (b"content-encoding", b"br")]), Err(Cause::MediaType));
    assert_eq!(of(&[json, (b"content-encoding", b"Identity")]), Ok(Kind::Json));
}

#[test]
fn a_section_that_cannot_be_is_told_with_place_and_remedy() {
    assert_eq!(problems(json!({})), "");
    assert_eq!(problems(json!({"headers": ["x-card"], "mode": "off"})), "");
    let said = problems(json!({"headers": ["x-card"]}));
    assert!(said.contains("seal.keys: is empty") && said.contains("portcullis keys public TENANT"), "{said}");
    let many: Vec<String> = (0..33).map(|number| format!("x-{number}")).collect();
    for (section, named) in [
        (json!({"keys": {"acme": "pcpk1.0.x"}}), "seal.keys.acme: is no public key"),
        (json!({"headers": ["content-length"]}), "seal.headers[0]: `content-length` is needed as it is"),
        (json!({"headers": ["a b"]}), "seal.headers[0]: `a b` is no header's name"),
        (json!({"headers": ["x-a", "X-A"]}), "seal.headers[1]: `X-A` stands here twice"),
        (json!({"headers": many}), "seal.headers: has 33; at most 32"),
        (json!({"json": ["card"]}), "seal.json[0]: `card` is no JSON Pointer"),
        (json!({"form": [""]}), "seal.form[0]: cannot be a field's name"),
        (json!({"body_max_bytes": 1_000_000}), "seal.body_max_bytes: 1000000; must be 1 to 524288"),
        (json!({"values_max": 0}), "seal.values_max: 0; must be 1 to 1000"),
        (json!({"purpose": "a\n"}), "seal.purpose: cannot be one"),
    ] {
        let said = problems(section);
        assert!(said.contains(named), "{named}: {said}");
    }
}
