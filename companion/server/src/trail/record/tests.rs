use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;

/// Seals by XOR, so that a test can see what was sealed; and forgets the key when told.
#[derive(Default)]
struct Xor {
    shredded: AtomicBool,
}

impl Sealer for Xor {
    fn seal(&self, tenant: &str, _: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        if tenant == "broken" {
            return Err(SealError("no key".to_owned()));
        }
        Ok(plain.iter().map(|byte| byte ^ 0xA5).collect())
    }

    fn open(&self, _: &str, _: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        let plain = sealed.iter().map(|byte| byte ^ 0xA5).collect();
        Ok((!self.shredded.load(Ordering::Relaxed)).then_some(plain))
    }
}

fn event() -> Event {
    let details = json!({"uid": "00000000000000aa-7", "method": "GET", "path": "/a", "query": "mail=a@b.c", "excerpt": "'a=a"});
    Event {
        key: RecordKey {
            epoch: Epoch::new("00000000000000aa").unwrap(),
            sequence: Sequence::new(7).unwrap(),
        },
        tenant: TenantId::new("acme").unwrap(),
        event_type: EventType::new("REQUEST").unwrap(),
        severity: Severity::Warning,
        user_id: Some("alice".to_owned()),
        ip_address: Some("10.0.0.1".to_owned()),
        user_agent: Some("curl/8".to_owned()),
        details: details.as_object().unwrap().clone(),
        at: at_millis(1_764_000_000_123).unwrap(),
        at_arrival: true,
        rate_limit: Some(RateLimitExcess {
            action: "login".to_owned(),
            request_count: 6,
            window_start: at_millis(1_764_000_000_000).unwrap(),
            window_end: at_millis(1_764_000_000_123).unwrap(),
        }),
        gap: Some(Gap::VmDied {
            epoch: Epoch::new("00000000000000bb").unwrap(),
            from: Sequence::new(1).unwrap(),
            to: Sequence::new(9).unwrap(),
        }),
    }
}

fn stored(entry: Entry) -> Stored {
    let Entry { tenant, time, public, sealed } = entry;
    Stored { index: 0, time, tenant, public, sealed }
}

#[test]
fn an_event_is_read_as_it_was_written_sealed_or_not() {
    let sealer = Xor::default();
    for sealer in [None, Some(&sealer as &dyn Sealer)] {
        let overflow = Event { gap: Some(Gap::Overflow { count: 5 }), rate_limit: None, ..event() };
        for event in [event(), overflow] {
            let entry = encode(event.clone(), sealer).unwrap();
            assert_eq!(decode(&stored(entry), sealer).unwrap(), event);
        }
    }
}

#[test]
fn what_tells_of_a_person_is_sealed_and_gone_with_the_key() {
    let sealer = Xor::default();
    let entry = encode(event(), Some(&sealer)).unwrap();
    let public = String::from_utf8(entry.public.clone()).unwrap();
    for secret in ["alice", "10.0.0.1", "curl/8", "a@b.c", "'a=a"] {
        assert!(!public.contains(secret), "{secret} in {public}");
    }
    sealer.shredded.store(true, Ordering::Relaxed);
    let after = decode(&stored(entry), Some(&sealer)).unwrap();
    assert_eq!((after.user_id, after.ip_address, after.user_agent), (None, None, None));
    assert_eq!(after.details.keys().collect::<Vec<_>>(), ["method", "path", "uid"]);
    assert_eq!(after.event_type.as_str(), "REQUEST");
}

#[test]
fn of_an_applications_event_all_that_it_told_is_personal() {
    let details = json!({"uid": "x", "source": "application", "token_id": "t", "patient": {"name": "Ann"}});
    let event = Event { details: details.as_object().unwrap().clone(), ..event() };
    let entry = encode(event, Some(&Xor::default())).unwrap();
    assert!(!String::from_utf8(entry.public).unwrap().contains("Ann"));
}

#[test]
fn without_the_tenants_key_nothing_is_stored() {
    let event = Event { tenant: TenantId::new("broken").unwrap(), ..event() };
    assert!(matches!(encode(event, Some(&Xor::default())), Err(RecordError::Sealing(_))));
}

#[test]
fn what_is_no_event_is_refused() {
    let good = encode(event(), None).unwrap();
    let change = |name: &str, value: Value| {
        let mut public: Value = serde_json::from_slice(&good.public).unwrap();
        public[name] = value;
        decode(&Stored { public: public.to_string().into_bytes(), ..stored(good.clone()) }, None)
    };
    assert!(change("method", json!(1)).is_ok(), "a field that is not known yet is passed over");
    for (name, value) in [
        ("v", json!(2)),
        ("epoch", json!("zz")),
        ("sequence", json!(-1)),
        ("event_type", json!("a b")),
        ("severity", json!("GRAVE")),
        ("gap", json!({"cause": "vm-died", "epoch": "x", "from": 1, "to": 2})),
        ("rate_limit", json!({"action": "a", "request_count": 1, "from": -1, "to": 1})),
    ] {
        assert!(change(name, value).is_err(), "{name}");
    }
    for junk in [&b""[..], b"{}", b"\0\xFF"] {
        assert!(decode(&Stored { public: junk.to_vec(), ..stored(good.clone()) }, None).is_err());
    }
}
