use proptest::prelude::*;
use serde_json::json;

use super::*;

fn sample() -> Value {
    json!({
        "class_uid": 4002, "class_name": "HTTP Activity", "severity_id": 1, "time": 1_764_000_000_123_i64, "duration": 12,
        "metadata": {"version": "1.5.0", "correlation_uid": "c-1", "tenant_uid": "acme", "sequence": 17},
        "actor": {"user": {"uid": "alice"}}, "src_endpoint": {"ip": "10.0.0.1"},
        "http_request": {"http_method": "GET", "url": {"hostname": "h", "path": "/x", "query_string": "a=1"}, "user_agent": "curl"},
        "http_response": {"code": 403, "length": 120},
        "unmapped": {"portcullis": {"event_type": "ATTACK_BLOCKED", "severity": "WARNING", "epoch": "9f2c00000000abcd", "sequence": 17,
            "action": "login", "policy": "sanitize", "reason": "sql-injection", "decision": "deny",
            "details": {"place": "query", "uid": "forged"}, "durations_us": {"total": 40}}}
    })
}

fn now() -> Timestamp {
    at_millis(1_764_000_100_000).unwrap()
}

fn with(pointer: &str, value: Value) -> Value {
    let mut record = sample();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    record.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    record
}

fn read_value(value: &Value) -> Result<Event, RecordError> {
    read(value.to_string().as_bytes(), now())
}

#[test]
fn a_record_becomes_an_event() {
    let event = read_value(&sample()).unwrap();
    assert_eq!(event.tenant.as_str(), "acme");
    assert_eq!(event.event_type.as_str(), "ATTACK_BLOCKED");
    assert_eq!(event.severity, Severity::Warning);
    assert_eq!(event.user_id.as_deref(), Some("alice"));
    assert_eq!(event.ip_address.as_deref(), Some("10.0.0.1"));
    assert_eq!(event.at.as_millisecond(), 1_764_000_000_123);
    let expected = json!({
        "uid": "9f2c00000000abcd-17", "correlation_id": "c-1", "action": "login", "policy": "sanitize", "reason": "sql-injection",
        "decision": "deny", "method": "GET", "user_agent": "curl", "host": "h", "path": "/x", "query": "a=1", "status": 403,
        "duration_ms": 12, "durations_us": {"total": 40}, "place": "query"
    });
    assert_eq!(Value::Object(event.details), expected);
}

#[test]
fn the_least_record_is_enough() {
    let least = json!({"class_uid": 4002, "time": 0, "metadata": {},
        "unmapped": {"portcullis": {"event_type": "REQUEST", "severity": "INFO", "epoch": "0000000000000001", "sequence": 0}}});
    let event = read_value(&least).unwrap();
    assert_eq!((event.tenant.as_str(), event.at), ("public", now()));
}

#[test]
fn each_bad_field_is_named() {
    for (pointer, value, named) in [
        ("/class_uid", json!(4001), "class_uid"),
        ("/time", json!("now"), "invalid type"),
        ("/metadata/tenant_uid", json!("a".repeat(51)), "tenant_uid"),
        ("/metadata/tenant_uid", json!("a\nb"), "tenant_uid"),
        ("/unmapped/portcullis/epoch", json!("xyz"), "epoch"),
        ("/unmapped/portcullis/sequence", json!(u64::MAX), "sequence"),
        ("/unmapped/portcullis/sequence", json!(-1), "invalid value"),
        ("/unmapped/portcullis/severity", json!("FATAL"), "severity"),
        ("/unmapped/portcullis/event_type", json!("x'; DROP TABLE"), "event_type"),
        ("/unmapped/portcullis/decision", json!("maybe"), "unknown variant"),
    ] {
        let error = read_value(&with(pointer, value)).unwrap_err().to_string();
        assert!(error.contains(named), "{pointer}: {error}");
    }
}

#[test]
fn columns_are_cut_and_cleaned() {
    let event = read_value(&with("/http_request/user_agent", json!("é\u{1b}".repeat(400)))).unwrap();
    let agent = event.user_agent.unwrap();
    assert_eq!(agent.chars().count(), 500);
    assert!(!agent.chars().any(char::is_control));
    let event = read_value(&with("/src_endpoint/ip", json!("' OR 1=1"))).unwrap();
    assert_eq!(event.ip_address, None);
    let event =
        read_value(&with("/unmapped/portcullis/details", json!({"a\0": ["\0", {"b": "\0"}]}))).unwrap();
    assert!(!serde_json::to_string(&event.details).unwrap().contains("\\u0000"));
}

#[test]
fn a_time_that_has_not_come_is_the_time_of_arrival() {
    for time in [0, -5, i64::MAX, i64::MIN, now().as_millisecond() + 300_001] {
        let event = read_value(&with("/time", json!(time))).unwrap();
        assert_eq!((event.at, event.at_arrival), (now(), true), "{time}");
    }
}

#[test]
fn a_clock_that_is_a_little_ahead_is_believed_whenever_the_record_comes() {
    let ahead = serde_json::to_vec(&with("/time", json!(now().as_millisecond() + 50))).unwrap();
    let later = now().checked_add(Duration::from_secs(60)).unwrap();
    let [first, again] = [now(), later].map(|received| read(&ahead, received).unwrap());
    assert_eq!((first.at, first.at_arrival), (again.at, again.at_arrival), "or it would be stored twice");
    assert_eq!(first.at.as_millisecond(), now().as_millisecond() + 50);
}

#[test]
fn an_excess_has_a_window() {
    let mut record = with("/unmapped/portcullis/event_type", json!("RATE_LIMIT_EXCEEDED"));
    let excess = read_value(&record).unwrap().rate_limit.unwrap();
    assert_eq!((excess.action.as_str(), excess.request_count), ("login", 1));
    assert_eq!(excess.window_end.as_millisecond() - excess.window_start.as_millisecond(), 60_000);
    record["unmapped"]["portcullis"]["details"] = json!({"window_ms": u64::MAX, "request_count": u64::MAX});
    assert!(read_value(&record).unwrap().rate_limit.is_some());
}

#[test]
fn a_gap_says_what_it_is() {
    let gap = |details: Value| {
        let mut record = with("/unmapped/portcullis/event_type", json!("AUDIT_GAP"));
        record["unmapped"]["portcullis"]["details"] = details;
        read_value(&record).map(|event| event.gap.unwrap())
    };
    assert_eq!(gap(json!({"cause": "overflow", "count": 29})).unwrap(), Gap::Overflow { count: 29 });
    let died =
        json!({"cause": "vm-died", "lost_epoch": "00000000000000aa", "from": 12, "to": 40, "count": 29});
    assert!(matches!(gap(died).unwrap(), Gap::VmDied { .. }));
    for bad in [
        json!({}),
        json!({"cause": "overflow"}),
        json!({"cause": "vm-died", "lost_epoch": "zz", "from": 1, "to": 2}),
        json!({"cause": "vm-died", "lost_epoch": "00000000000000aa", "from": 3, "to": 2}),
        json!({"cause": "vm-died", "lost_epoch": "00000000000000aa", "from": 3}),
    ] {
        assert!(gap(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn size_and_nesting_are_bounded() {
    let long = with("/http_request/user_agent", json!("a".repeat(MAX_LINE_BYTES)));
    assert!(matches!(read_value(&long), Err(RecordError::TooLong)));
    let deep = format!("{}{}", "[".repeat(8000), "]".repeat(8000));
    assert!(read(deep.as_bytes(), now()).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

const PLACES: [&str; 14] = [
    "/class_uid",
    "/time",
    "/duration",
    "/metadata/tenant_uid",
    "/metadata/correlation_uid",
    "/actor/user",
    "/src_endpoint/ip",
    "/http_request/url",
    "/http_response/code",
    "/unmapped/portcullis/event_type",
    "/unmapped/portcullis/sequence",
    "/unmapped/portcullis/details",
    "/unmapped/portcullis/durations_us",
    "/unmapped/portcullis",
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes, now());
    }

    #[test]
    fn any_value_in_any_place_is_rejected_or_stays_in_bounds(place in prop::sample::select(&PLACES[..]), value in any_json()) {
        if let Ok(event) = read_value(&with(place, value)) {
            prop_assert!(event.tenant.as_str().chars().count() <= 50);
            prop_assert!(event.user_id.is_none_or(|user| user.chars().count() <= 50));
            prop_assert!(event.at <= now() && event.at >= Timestamp::UNIX_EPOCH);
            prop_assert!(!serde_json::to_string(&event.details).unwrap().contains("\\u0000"));
        }
    }
}
