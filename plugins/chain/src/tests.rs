use portcullis_policy::{
    Effect, Effects, Event, Fact, Facts, Header, Headers, LocalSlots, Moment, Outcome, Refusal, limits,
};
use serde_json::json;

use super::*;

struct Route(&'static str);

impl Facts for Route {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        match fact {
            Fact::RouteMetadata => Some(self.0.as_bytes().to_vec()),
            Fact::RouteName => Some(b"r1".to_vec()),
            _ => None,
        }
    }
}

fn chain(configuration: serde_json::Value) -> Chain {
    match Chain::from_json(configuration.to_string().as_bytes()) {
        Ok((chain, _)) => chain,
        Err(errors) => panic!("{errors}"),
    }
}

fn problems(configuration: &str) -> String {
    match Chain::from_json(configuration.as_bytes()) {
        Ok(_) => panic!("accepted"),
        Err(errors) => errors.to_string(),
    }
}

struct Run {
    stream: Stream,
    effects: Effects,
}

impl Run {
    fn refusal(&self) -> Option<&Refusal> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Refuse(refusal) => Some(refusal),
            _ => None,
        })
    }
}

fn request(chain: &Chain, metadata: &'static str, pairs: &[Header<'_>]) -> Run {
    let headers = Headers::new(pairs.to_vec());
    let mut run = Run { stream: Stream::default(), effects: Effects::new() };
    let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
    tell(chain, metadata, &mut run, &event);
    run
}

fn tell(chain: &Chain, metadata: &'static str, run: &mut Run, event: &Event<'_>) {
    let mut slots = LocalSlots::new(1);
    let mut ports = Ports { facts: &mut Route(metadata), shared: &mut slots };
    let moment = Moment { random: [7, 9], ..Moment::default() };
    chain.on(&mut run.stream, &mut ports, moment, event, &mut run.effects);
}

const PLAIN: &[Header<'static>] =
    &[(b":method", b"GET"), (b":path", b"/a?b=c"), (b":authority", b"app.test")];

#[test]
fn nothing_at_all_is_a_whole_configuration() {
    for text in ["", " \n", "{}", r#"{"rate_limit": {"mode": "off"}}"#] {
        assert!(Chain::from_json(text.as_bytes()).is_ok(), "{text:?}");
    }
}

#[test]
fn every_problem_has_path_and_remedy() {
    let text = problems(
        r#"{"tennant": {}, "rate_limitt": {}, "headers": {"mode": "loud"}, "policies": ["header"], "companion": {"timeout": "1m"},
            "routes": [{"name": "x", "match": {"path": "a"}, "headers": {"mode": "of"}}, {"mach": {}}],
            "actions": [{"name": "A B"}, {"name": "a"}, {"name": "a"}]}"#,
    );
    for part in [
        "tennant: is not a known key; did you mean `tenant`?",
        "rate_limitt: is not a known key; did you mean `rate_limit`?",
        "headers.mode: `loud` is not known here",
        "routes[0].headers.mode: `of` is not known here; did you mean `off`?",
        "routes[1].mach: is not a known key; did you mean `match`?",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    let text = problems(
        r#"{"policies": ["header"], "companion": {"timeout": "1m"}, "routes": [{"match": {"path": "a"}}],
            "actions": [{"name": "A B"}, {"name": "a"}, {"name": "a"}]}"#,
    );
    for part in [
        "policies[0]: `header` is not a policy; did you mean `headers`?",
        "companion.timeout: 1m; must be 100ms to 30s",
        "routes[0].match.path: `a` does not start with `/`",
        "actions[0].name: \"A B\" is not an action's name",
        "actions[2].name: `a` is there twice",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    for wrong in ["[]", "{", "7", "\u{0}", r#"{"headers": 5}"#, r#"{"routes": {}}"#, r#"{"routes": [5]}"#] {
        assert!(Chain::from_json(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_problem_of_the_defaults_is_told_once() {
    let text =
        problems(r#"{"headers": {"mode": "of"}, "routes": [{"name": "a"}, {"audit": {"mode": "onn"}}]}"#);
    assert_eq!(text.matches("headers.mode").count(), 1, "{text}");
    assert!(text.contains("routes[1].audit.mode: `onn` is not known here"), "{text}");
}

#[test]
fn a_correlation_id_is_accepted_or_made() {
    let chain = chain(json!({}));
    let run = request(&chain, "", PLAIN);
    let made = run.stream.request().unwrap().correlation_id.as_str().to_owned();
    let expected = Effect::SetRequestHeader("x-request-id".into(), made.as_bytes().to_vec().into());
    assert!(run.effects.contains(&expected));
    let with = |id: &'static [u8]| [PLAIN, &[(&b"x-request-id"[..], id)]].concat();
    let run = request(&chain, "", &with(b"0123456789"));
    assert_eq!(run.stream.request().unwrap().correlation_id.as_str(), "0123456789");
    assert!(!run.effects.iter().any(|effect| matches!(effect, Effect::SetRequestHeader(..))));
    let run = request(&chain, "", &with(b"a b\r\nc: d"));
    assert_eq!(run.stream.request().unwrap().correlation_id.as_str(), made);
}

#[test]
fn actions_and_routes_see_the_path_that_the_application_sees() {
    let chain = chain(json!({"routes": [{"name": "door", "match": {"path": "/login"}}]}));
    for (method, path, action, route) in [
        ("POST", "/login", "login", "door"),
        ("POST", "/x/..//%6cogin?next=/", "login", "door"),
        ("GET", "/login", "api_call", "door"),
        ("POST", "/loginx", "api_call", ""),
        ("PUT", "/upload/a", "file_upload", ""),
        ("GET", "/reports/a", "report_generation", ""),
    ] {
        let pairs: Vec<Header<'_>> = vec![(b":method", method.as_bytes()), (b":path", path.as_bytes())];
        let run = request(&chain, "", &pairs);
        let request = run.stream.request().unwrap();
        assert_eq!((request.action.as_str(), request.route.as_str()), (action, route), "{method} {path}");
        assert!(request.actions.contains(3), "every request is an API call");
    }
}

#[test]
fn too_many_headers_are_refused_and_recorded() {
    let chain = chain(json!({}));
    let mut pairs = PLAIN.to_vec();
    pairs.resize(limits::HEADERS + 1, (b"a", b"b"));
    let mut run = request(&chain, "", &pairs);
    assert_eq!(run.refusal().unwrap().status, 431);
    let outcome = Outcome { status: Some(431), ..Outcome::default() };
    run.effects.clear();
    tell(&chain, "", &mut run, &Event::Done { outcome: &outcome });
    assert!(run.effects.iter().any(|effect| matches!(effect, Effect::Record(_))));
    pairs.truncate(limits::HEADERS);
    assert!(request(&chain, "", &pairs).refusal().is_none());
}

#[test]
fn who_is_not_known_is_refused_as_configured() {
    let from = json!([{"header": "x-t", "set_by": "client", "allow": "[a-z]+"}]);
    let with = |name: &'static [u8]| [PLAIN, &[(&b"x-t"[..], name)]].concat();
    let strict = chain(json!({"tenant": {"from": from, "default": null}}));
    assert!(request(&strict, "", &with(b"acme")).refusal().is_none());
    let unknown = request(&strict, "", &with(b"ACME"));
    assert_eq!(unknown.refusal().map(|r| (r.status, r.reason)), Some((403, "tenant-unknown")));
    let reply = unknown.stream.reply(unknown.refusal().unwrap());
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["correlation_id"], unknown.stream.request().unwrap().correlation_id.as_str());
    assert_eq!((&body["status"], &body["reason"]), (&json!(403), &json!("tenant-unknown")));
    let missing = request(&strict, "", PLAIN);
    assert_eq!(missing.refusal().map(|r| (r.status, r.reason)), Some((401, "tenant-missing")));
}

#[test]
fn route_metadata_overrides_once_more_or_is_said_to_be_wrong() {
    let attack: &[Header<'_>] = &[
        (b":method", b"GET"),
        (b":path", b"/?q=1'%20union%20select%20password%20from%20users--"),
        (b":authority", b"a"),
    ];
    let chain = chain(json!({}));
    for _ in 0..2 {
        assert_eq!(request(&chain, "", attack).refusal().map(|r| r.status), Some(403));
        assert!(request(&chain, r#"{"sanitize": {"mode": "off"}}"#, attack).refusal().is_none());
        for wrong in ["{", "[]", r#"{"sanitise": {}}"#, r#"{"sanitize": {"mode": "no"}}"#] {
            let run = request(&chain, wrong, attack);
            assert_eq!(run.refusal().map(|r| r.status), Some(403), "the base applies");
            assert!(run.effects.iter().any(|effect| matches!(effect, Effect::Log(..))), "{wrong}");
        }
    }
    for number in 0..200 {
        let text = format!("{{\"sanitize\": {{\"mode\": \"off\"}}}}{}", " ".repeat(number));
        let mut effects = Effects::new();
        let mut slots = LocalSlots::new(1);
        let mut facts = Route(Box::leak(text.into_boxed_str()));
        let mut ports = Ports { facts: &mut facts, shared: &mut slots };
        let headers = Headers::new(attack.to_vec());
        let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
        chain.on(&mut Stream::default(), &mut ports, Moment::default(), &event, &mut effects);
    }
    assert!(chain.overrides.kept() <= limits::ROUTE_METADATA_CACHE);
}

#[test]
fn an_end_alone_leaves_a_record() {
    let chain = chain(json!({}));
    let mut run = Run { stream: Stream::default(), effects: Effects::new() };
    let outcome = Outcome { status: Some(400), ..Outcome::default() };
    tell(&chain, "", &mut run, &Event::Done { outcome: &outcome });
    assert_eq!(run.effects.iter().filter(|effect| matches!(effect, Effect::Record(_))).count(), 1);
}

/// What the host is told of the body, piece by piece.
fn about_body(chain: &Chain, content_type: &[u8], pieces: &[&[u8]]) -> Vec<&'static str> {
    let headers = Headers::new(vec![(b":path", b"/"), (b"content-type", content_type)]);
    let mut run = Run { stream: Stream::default(), effects: Effects::new() };
    tell(chain, "", &mut run, &Event::RequestHeaders { headers: &headers, end_of_stream: false });
    for (number, chunk) in pieces.iter().enumerate() {
        let end_of_stream = number + 1 == pieces.len();
        tell(chain, "", &mut run, &Event::RequestBody { chunk, end_of_stream });
    }
    let told = |effect: &Effect| match effect {
        Effect::InspectRequestBody => Some("inspect"),
        Effect::PassRequestBody => Some("pass"),
        Effect::ReleaseRequestBody => Some("release"),
        Effect::Refuse(refusal) => Some(refusal.reason),
        _ => None,
    };
    run.effects.iter().filter_map(told).collect()
}

#[cfg(all(feature = "sanitize", feature = "seal"))]
#[test]
fn a_body_is_let_go_when_no_policy_holds_it_any_more() {
    let key = "pcpk1.3.b8LM0pQCMKyP4XvgAUy7kjvZ0HCOoRgtytwwLc48AGA";
    let of = |sanitize: serde_json::Value, seal: serde_json::Value| {
        chain(
            json!({"rate_limit": {"mode": "off"}, "audit": {"mode": "off"}, "sanitize": sanitize, "seal": seal}),
        )
    };
    let (off, small) = (json!({"mode": "off"}), json!({"on_oversize": "allow", "body_max_bytes": 8192}));
    let sealing =
        json!({"keys": {"public": key}, "json": ["/card"], "on_error": "allow", "body_max_bytes": 30_000});
    let row = format!("[{}", "\"a b c\", ".repeat(1200));
    let (start, more) = (row.as_bytes(), "\"a b c\", ".repeat(1200));
    let pieces: [&[u8]; 5] = [start, more.as_bytes(), more.as_bytes(), more.as_bytes(), b"1]"];
    let kind = b"application/json";
    // Alone each lets go when it has seen enough; together, the later one.
    assert_eq!(about_body(&of(small.clone(), off.clone()), kind, &pieces), ["inspect", "release"]);
    assert_eq!(about_body(&of(off.clone(), sealing.clone()), kind, &pieces), ["inspect", "release"]);
    assert_eq!(about_body(&of(small, sealing.clone()), kind, &pieces), ["inspect", "inspect", "release"]);
    // What streams by in windows is held as long as somebody needs it as a whole.
    let windows = json!({"body_max_bytes": 8192});
    let passed = about_body(&of(windows.clone(), off), kind, &pieces);
    assert!(passed.contains(&"pass"), "{passed:?}");
    let held = about_body(&of(windows.clone(), sealing.clone()), kind, &pieces[..2]);
    assert_eq!(held, ["inspect", "inspect"]);
    let later = about_body(&of(windows, sealing), kind, &pieces);
    assert!(later.contains(&"pass") && !later.contains(&"release"), "{later:?}");
}

/// Counts who asks for the client's address.
struct Counting(u32);

impl Facts for Counting {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        self.0 += u32::from(fact == Fact::SourceAddress);
        Some(b"192.0.2.7:1".to_vec()).filter(|_| fact == Fact::SourceAddress)
    }
}

#[test]
fn a_host_is_asked_only_for_what_somebody_reads() {
    let named = json!({"from": [{"header": "x-user-id", "set_by": "client"}, {"client_ip": true}]});
    for (policies, with_name, asked, hears) in [
        (json!([]), true, 0, false),
        (json!([]), false, 1, false),
        (json!(["sanitize"]), true, 0, false),
        (json!(["headers"]), true, 0, true),
        (json!(["access"]), true, 0, true),
        (json!(["rate_limit"]), true, 0, false),
        (json!(["rate_limit"]), false, 1, false),
        (json!(["audit"]), false, 1, true),
    ] {
        let chain = chain(json!({"policies": policies, "user": named}));
        let name: &[Header<'_>] = if with_name { &[(b"x-user-id", b"ann")] } else { &[] };
        let headers = Headers::new([PLAIN, name].concat());
        let (mut stream, mut slots, mut facts) = (Stream::default(), LocalSlots::new(1), Counting(0));
        let mut ports = Ports { facts: &mut facts, shared: &mut slots };
        assert!(stream.hears_responses());
        let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
        chain.on(&mut stream, &mut ports, Moment::default(), &event, &mut Effects::new());
        assert_eq!((facts.0, stream.hears_responses()), (asked, hears), "{policies}");
        let wanted = if with_name { "ann" } else { "192.0.2.7" };
        let user = stream.request().and_then(|request| request.user.as_ref());
        assert_eq!(user.map(portcullis_policy::User::as_str), Some(wanted));
    }
}
