use std::time::Duration;

use portcullis_policy::{
    Actions, CorrelationId, Decision, Header, LocalSlots, Moment, NoFacts, Outcome, Request, Tenant, User,
    Verdict, config, json::Value,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn policy(wire: Value) -> Result<Audit, String> {
    let mut errors = ConfigErrors::default();
    let site = Site::root().key("audit");
    let compiled = config::read::<Wire>(wire, &site, &mut errors)
        .and_then(|wire| Audit::compile(wire, &site, &Vocabulary::default(), &mut errors));
    compiled.ok_or_else(|| errors.to_string())
}

fn request() -> Request {
    Request {
        tenant: Tenant::new(b"acme").unwrap(),
        user: User::new(b"alice"),
        client_ip: Some("203.0.113.7".parse().unwrap()),
        actions: Actions::default(),
        action: "login".into(),
        route: String::new(),
        correlation_id: CorrelationId::accept(b"0123456789").unwrap(),
        method: b"POST".to_vec(),
        path: b"/login?next=/a&token=Zq7".to_vec(),
        host: b"app.test".to_vec(),
        scheme: b"https".to_vec(),
        user_agent: b"curl/8".to_vec(),
        started: Duration::from_millis(1000),
        started_wall_ns: 1_764_000_000_123_456_789,
    }
}

fn decision(verdict: Verdict, event_type: &'static str, details: Vec<portcullis_policy::Detail>) -> Decision {
    Decision { policy: "sanitize", verdict, event_type, reason: "sql-injection", details }
}

fn text(
    audit: &Audit,
    request: &Request,
    decisions: &[Decision],
    outcome: &Outcome,
    pairs: &[Header<'_>],
) -> Vec<u8> {
    let headers = Headers::new(pairs.to_vec());
    let mut seen = Seen::default();
    let mut effects = Effects::new();
    let mut slots = LocalSlots::new(1);
    let events = [
        Event::RequestHeaders { headers: &headers, end_of_stream: true },
        Event::ResponseHeaders { headers: &headers },
        Event::Done { outcome },
    ];
    for (number, event) in events.iter().enumerate() {
        let moment =
            Moment { now: Duration::from_micros(1_000_000 + 1500 * number as u64), ..Moment::default() };
        let mut context = Context { moment, request, decisions, shared: &mut slots, facts: &mut NoFacts };
        audit.on(&mut context, &mut seen, event, &mut effects);
    }
    match effects.as_slice() {
        [Effect::Count(metric, 1), Effect::Record(text)] if **metric == RECORDS => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn record(decisions: &[Decision], status: Option<u16>) -> Value {
    let outcome = Outcome { status, ..Outcome::default() };
    serde_json::from_slice(&text(&policy(json!({})).unwrap(), &request(), decisions, &outcome, &[])).unwrap()
}

#[test]
fn a_record_is_an_ocsf_http_activity() {
    let expected = json!({
        "class_uid": 4002, "class_name": "HTTP Activity", "category_uid": 4, "category_name": "Network Activity",
        "activity_id": 6, "type_uid": 400_206, "severity_id": 1, "status_id": 1, "time": 1_764_000_000_123_u64, "duration": 3,
        "metadata": {
            "version": "1.5.0", "correlation_uid": "0123456789", "tenant_uid": "acme",
            "product": {"name": "Portcullis", "vendor_name": "Portcullis", "version": env!("CARGO_PKG_VERSION")}
        },
        "actor": {"user": {"uid": "alice"}},
        "src_endpoint": {"ip": "203.0.113.7"},
        "http_request": {
            "http_method": "POST", "user_agent": "curl/8",
            "url": {"scheme": "https", "hostname": "app.test", "path": "/login", "query_string": "next=/a&token=***"}
        },
        "http_response": {"code": 200},
        "unmapped": {"portcullis": {
            "event_type": "REQUEST", "severity": "INFO", "decision": "allow", "action": "login",
            "durations_us": {"total": 3000, "response": 1500}
        }}
    });
    assert_eq!(record(&[], Some(200)), expected);
}

#[test]
fn the_first_refusal_decides_and_then_the_first_that_would_have_been_one() {
    let allowed = decision(Verdict::Allow, "ODD", vec![]);
    let monitored = decision(Verdict::Monitor, "ATTACK_DETECTED", vec![("place", json!("query"))]);
    let denied = decision(Verdict::Deny, "ATTACK_BLOCKED", vec![]);
    for (decisions, status, event_type, verdict, severity, success) in [
        (vec![], Some(200), "REQUEST", "allow", "INFO", 1),
        (vec![], Some(404), "REQUEST", "allow", "INFO", 2),
        (vec![], Some(500), "REQUEST", "allow", "ERROR", 2),
        (vec![], None, "REQUEST", "allow", "ERROR", 2),
        (vec![allowed.clone()], Some(200), "REQUEST", "allow", "INFO", 1),
        (vec![allowed, monitored.clone()], Some(200), "ATTACK_DETECTED", "monitor", "INFO", 1),
        (vec![monitored, denied.clone()], Some(403), "ATTACK_BLOCKED", "deny", "WARNING", 2),
        (vec![denied], Some(503), "ATTACK_BLOCKED", "deny", "WARNING", 2),
    ] {
        let record = record(&decisions, status);
        let ours = &record["unmapped"]["portcullis"];
        assert_eq!(
            (&ours["event_type"], &ours["decision"], &ours["severity"], &record["status_id"]),
            (&json!(event_type), &json!(verdict), &json!(severity), &json!(success))
        );
        assert_eq!(record["http_response"]["code"], json!(status));
    }
}

#[test]
fn what_the_proxy_refused_before_we_saw_it_is_recorded_so() {
    let audit = policy(json!({})).unwrap();
    let mut request = request();
    (request.method, request.scheme, request.host) = (Vec::new(), Vec::new(), Vec::new());
    let mut effects = Effects::new();
    let mut slots = LocalSlots::new(1);
    let outcome =
        Outcome { status: Some(431), details: b"http1.headers_too_large".to_vec(), ..Outcome::default() };
    let mut context = Context {
        moment: Moment::default(),
        request: &request,
        decisions: &[],
        shared: &mut slots,
        facts: &mut NoFacts,
    };
    audit.on(&mut context, &mut Seen::default(), &Event::Done { outcome: &outcome }, &mut effects);
    let Some(Effect::Record(text)) = effects.pop() else { panic!("no record") };
    let record: Value = serde_json::from_slice(&text).unwrap();
    let ours = &record["unmapped"]["portcullis"];
    assert_eq!((&ours["severity"], &ours["decision"]), (&json!("WARNING"), &json!("deny")));
    assert_eq!(ours["response_details"], "http1.headers_too_large");
    assert_eq!(record["http_request"]["url"], json!({"path": "/login", "query_string": "next=/a&token=***"}));
}

#[test]
fn credentials_are_in_no_record() {
    let audit = policy(json!({"headers": ["Referer", "X-Api-Key", "X-Licence", "X-Team", "x-empty"], "redact": ["X-Licence"]})).unwrap();
    let mut request = request();
    request.path = b"/a;jsessionid=Zq7/b?PASS%57ORD=Zq7&x=1".to_vec();
    request.host = b"bob:Zq7@app.test".to_vec();
    let pairs: &[Header<'_>] = &[
        (b"authorization", b"Bearer Zq7"),
        (b"Cookie", b"sid=Zq7"),
        (b"referer", b"https://app.test/?code=Zq7"),
        (b"x-api-key", b"Zq7"),
        (b"x-licence", b"Zq7"),
        (b"x-team", b"blue\xff"),
    ];
    let text = text(&audit, &request, &[], &Outcome::default(), pairs);
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("Zq7"), "{text}");
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["http_request"]["url"]["hostname"], "app.test");
    assert_eq!(
        record["http_request"]["http_headers"],
        json!([
            {"name": "referer", "value": "***"}, {"name": "x-api-key", "value": "***"}, {"name": "x-licence", "value": "***"},
            {"name": "x-team", "value": "blue\u{fffd}"}
        ])
    );
}

#[test]
fn credentials_cannot_be_asked_for_and_bounds_hold() {
    for (wire, expected) in [
        (
            json!({"headers": ["a", "Cookie"]}),
            "audit.headers[1]: `cookie` carries credentials and is never recorded; remove it",
        ),
        (
            json!({"delivery": "exact"}),
            "audit.delivery: `exact` is not known here; known here: batched, strict",
        ),
        (json!({"strict_wait": "1ms"}), "audit.strict_wait: 1ms; must be 10ms to 30s"),
        (json!({"queue_max_bytes": 1}), "audit.queue_max_bytes: 1; must be 65536 to 67108864"),
        (json!({"queue_max_bytes": 65536}), "audit.batch_max_bytes: is more than `queue_max_bytes`"),
        (json!({"batch_max_bytes": 2_000_000}), "audit.batch_max_bytes: 2000000; must be 16384 to 1048576"),
        (json!({"retry_min": "10ms"}), "audit.retry_min: 10ms; must be 100ms to 1m"),
        (json!({"retry_max": "1h"}), "audit.retry_max: 1h; must be `retry_min` to 10m"),
        (json!({"redact": [""]}), "audit.redact[0]: \"\" is not a name; 1 to 128 characters"),
        (json!({"redacted": []}), "audit.redacted: is not a known key; did you mean `redact`?"),
    ] {
        let errors = policy(wire).unwrap_err();
        assert!(errors.contains(expected), "{expected} not in\n{errors}");
    }
    assert!(policy(json!({"mode": "monitor", "delivery": "batched"})).is_ok());
}

#[test]
fn details_that_have_no_room_are_left_out_and_said_to_be() {
    let long = json!("x".repeat(600));
    let details = (0..6).map(|_| ("a", long.clone())).collect();
    let record = record(&[decision(Verdict::Deny, "ATTACK_BLOCKED", details)], Some(403));
    assert_eq!(record["unmapped"]["portcullis"]["details"]["cut"], true);
    let first = vec![("a", json!((0..2000).collect::<Vec<_>>()))];
    let record = super::tests::record(&[decision(Verdict::Deny, "ATTACK_BLOCKED", first)], Some(403));
    assert_eq!(record["unmapped"]["portcullis"]["details"], json!({"cut": true}));
}

#[test]
fn the_longest_record_fits_a_line() {
    let audit = policy(json!({"headers": (0..16).map(|n| format!("h{n}")).collect::<Vec<_>>()})).unwrap();
    let mut request = request();
    let long = b"\x01".repeat(300_000);
    request.path = [b"/", long.as_slice(), b"?", long.as_slice()].concat();
    (request.host, request.user_agent) = (long.clone(), long.clone());
    (request.method, request.scheme) = (long.clone(), long.clone());
    (request.route, request.action) = ("\u{1}".repeat(5000), "\u{1}".repeat(5000));
    request.tenant = Tenant::new(&[b'"'; 50]).unwrap();
    let names: Vec<String> = (0..16).map(|n| format!("h{n}")).collect();
    let pairs: Vec<Header<'_>> = names.iter().map(|name| (name.as_bytes(), long.as_slice())).collect();
    let details = (0..9).map(|_| ("a", json!("\u{1}".repeat(5000)))).collect();
    let outcome = Outcome { details: long.clone(), ..Outcome::default() };
    let text =
        text(&audit, &request, &[decision(Verdict::Deny, "ATTACK_BLOCKED", details)], &outcome, &pairs);
    // The queue adds epoch and sequence.
    assert!(text.len() + 70 < LINE_BYTES, "{}", text.len());
    let record: Value = serde_json::from_slice(&text).unwrap();
    assert!(record["http_request"]["url"]["path"].as_str().unwrap().ends_with('…'));
}

proptest! {
    #[test]
    fn any_request_becomes_one_line_of_json(
        path: Vec<u8>, host: Vec<u8>, agent: Vec<u8>, method: Vec<u8>, value: Vec<u8>, details: Vec<u8>, status: Option<u16>,
    ) {
        let audit = policy(json!({"headers": ["x"]})).unwrap();
        let mut request = request();
        (request.path, request.host, request.user_agent, request.method) = (path, host, agent, method);
        let outcome = Outcome { status, details, ..Outcome::default() };
        let text = text(&audit, &request, &[], &outcome, &[(b"x", &value)]);
        let whole = text.ends_with(trail::BRACES) && !text.contains(&b'\n');
        prop_assert!(whole);
        let record: Value = serde_json::from_slice(&text).unwrap();
        prop_assert!(record["unmapped"]["portcullis"].is_object());
    }
}

/// A journal that says what it is told to.
struct Says(Option<portcullis_policy::Fate>, Vec<Vec<u8>>);

impl portcullis_policy::Journal for Says {
    fn write(&mut self, line: &[u8]) -> Option<portcullis_policy::Ticket> {
        self.0?;
        self.1.push(line.to_vec());
        Some(portcullis_policy::Ticket(1))
    }

    fn fate(&mut self, _: portcullis_policy::Ticket) -> portcullis_policy::Fate {
        self.0.unwrap()
    }

    fn withdraw(&mut self, _: portcullis_policy::Ticket) {
        self.1.push(b"withdrawn".to_vec());
    }
}

struct Slots(LocalSlots, Says);

impl portcullis_policy::SharedState for Slots {
    fn load(&mut self, slot: u32) -> Result<portcullis_policy::SlotValue, portcullis_policy::StateError> {
        self.0.load(slot)
    }

    fn store(
        &mut self,
        slot: u32,
        bytes: &[u8],
        version: u32,
    ) -> Result<portcullis_policy::StoreResult, portcullis_policy::StateError> {
        self.0.store(slot, bytes, version)
    }

    fn seed(&mut self) -> u64 {
        self.0.seed()
    }

    fn journal(&mut self) -> Option<&mut dyn portcullis_policy::Journal> {
        Some(&mut self.1)
    }
}

#[test]
fn a_strict_request_waits_passes_or_is_refused() {
    use portcullis_policy::Fate;
    let headers = Headers::new(Vec::new());
    let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
    let request = request();
    for (mode, refuses) in [("enforce", true), ("monitor", false)] {
        let audit = policy(json!({"mode": mode, "delivery": "strict", "strict_wait": "1s"})).unwrap();
        let ask = |seen: &mut Seen, slots: &mut Slots, ms: u64| {
            let moment = Moment { now: Duration::from_millis(ms), ..Moment::default() };
            let mut effects = Effects::new();
            let mut context =
                Context { moment, request: &request, decisions: &[], shared: slots, facts: &mut NoFacts };
            audit.on(&mut context, seen, &event, &mut effects);
            let waits = effects.contains(&Effect::Wait);
            let refused = effects
                .iter()
                .any(|effect| matches!(effect, Effect::Refuse(refusal) if refusal.status == 503));
            let told = effects.iter().any(|effect| matches!(effect, Effect::Decide(_)));
            (waits, refused, told)
        };
        let mut seen = Seen::default();
        let mut slots = Slots(LocalSlots::new(1), Says(Some(Fate::Pending), Vec::new()));
        assert_eq!(ask(&mut seen, &mut slots, 0), (true, false, false));
        assert_eq!(ask(&mut seen, &mut slots, 999), (true, false, false));
        slots.1.0 = Some(Fate::Durable);
        assert_eq!(ask(&mut seen, &mut slots, 2000), (false, false, false), "late, but stored");
        assert_eq!(slots.1.1.len(), 1, "handed over once");
        let intent: Value = serde_json::from_slice(&slots.1.1[0]).unwrap();
        assert_eq!(intent["metadata"]["correlation_uid"], "0123456789");
        assert_eq!(intent["http_request"]["url"]["query_string"], "next=/a&token=***");
        let ours = json!({"event_type": "REQUEST_INTENT", "severity": "INFO", "action": "login"});
        assert_eq!(intent["unmapped"]["portcullis"], ours);
        assert!(slots.1.1[0].ends_with(b"}}}"));

        let (mut seen, mut slots) =
            (Seen::default(), Slots(LocalSlots::new(1), Says(Some(Fate::Pending), Vec::new())));
        assert!(ask(&mut seen, &mut slots, 0).0);
        assert_eq!(ask(&mut seen, &mut slots, 1000), (false, refuses, true), "in time, or not");
        assert_eq!(slots.1.1[1], b"withdrawn");
        for fate in [None, Some(Fate::Failed)] {
            let (mut seen, mut slots) = (Seen::default(), Slots(LocalSlots::new(1), Says(fate, Vec::new())));
            assert_eq!(ask(&mut seen, &mut slots, 0), (false, refuses, true));
        }
    }
}
