use std::sync::Arc;

use getrandom::SysRng;
use portcullis_keyring::{Keyring, MemoryStore, RootKey, RootKeys};
use serde_json::json;

use super::*;

fn keyring() -> Keyring {
    let root = RootKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
    let keyring =
        Keyring::new(Arc::new(RootKeys::new(root, Vec::new())), Arc::new(MemoryStore::default()), 10);
    keyring.generate_tenant_key(acme().as_tenant(), 0, &mut SysRng).unwrap();
    keyring
}

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn seals(keyring: &Keyring) -> Seals {
    [(acme(), Some(keyring.sealing_key(acme().as_tenant()).unwrap()))].into_iter().collect()
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
    let keyring = keyring();
    let seals = seals(&keyring);
    for seals in [None, Some(&seals)] {
        let overflow = Event { gap: Some(Gap::Overflow { count: 5 }), rate_limit: None, ..event() };
        for event in [event(), overflow] {
            let Encoded { entry, unkept } = encode(event.clone(), seals).unwrap();
            assert_eq!((entry.sealed.is_empty(), unkept), (seals.is_none(), false));
            let mut opener = Opener::new(keyring.session());
            assert_eq!(decode(&stored(entry), Some(&mut opener)).unwrap(), event);
        }
    }
}

#[test]
fn what_tells_of_a_person_is_sealed_and_gone_with_the_key() {
    let keyring = keyring();
    let entry = encode(event(), Some(&seals(&keyring))).unwrap().entry;
    let public = String::from_utf8(entry.public.clone()).unwrap();
    for secret in ["alice", "10.0.0.1", "curl/8", "a@b.c", "'a=a"] {
        assert!(!public.contains(secret), "{secret} in {public}");
    }
    keyring.shred(acme().as_tenant(), 1).unwrap();
    let mut opener = Opener::new(keyring.session());
    for _ in 0..2 {
        let after = decode(&stored(entry.clone()), Some(&mut opener)).unwrap();
        assert_eq!((after.user_id, after.ip_address, after.user_agent), (None, None, None));
        assert_eq!(after.details.keys().collect::<Vec<_>>(), ["method", "path", "uid"]);
        assert_eq!(after.event_type.as_str(), "REQUEST");
    }
    assert_eq!(opener.unreadable(), 0);
}

#[test]
fn what_is_sealed_belongs_to_its_tenant_and_its_event() {
    let keyring = keyring();
    let globex = TenantId::new("globex").unwrap();
    keyring.generate_tenant_key(globex.as_tenant(), 0, &mut SysRng).unwrap();
    let entry = encode(event(), Some(&seals(&keyring))).unwrap().entry;
    let other = encode(Event { user_id: Some("bob".to_owned()), ..event() }, Some(&seals(&keyring))).unwrap();
    let mut public: Value = serde_json::from_slice(&entry.public).unwrap();
    public["sequence"] = json!(8);
    let mut opener = Opener::new(keyring.session());
    let mut read = |entry: Entry| decode(&stored(entry), Some(&mut opener)).unwrap().user_id;
    assert_eq!(read(Entry { tenant: "globex".to_owned(), ..entry.clone() }), None);
    assert_eq!(read(Entry { public: public.to_string().into_bytes(), ..entry.clone() }), None);
    let mut altered = entry.sealed.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(read(Entry { sealed: altered, ..entry.clone() }), None);
    // The envelope of another record of the same event is none of another place.
    assert_eq!(read(Entry { sealed: other.entry.sealed, ..entry }), Some("bob".to_owned()));
    assert_eq!(opener.unreadable(), 3);
}

#[test]
fn of_an_applications_event_all_that_it_told_is_personal() {
    let details = json!({"uid": "x", "source": "application", "token_id": "t", "patient": {"name": "Ann"}});
    let event = Event { details: details.as_object().unwrap().clone(), ..event() };
    let entry = encode(event, Some(&seals(&keyring()))).unwrap().entry;
    assert!(!String::from_utf8(entry.public).unwrap().contains("Ann"));
}

#[test]
fn without_the_tenants_key_nothing_of_its_people_is_kept_and_without_an_answer_nothing_is_stored() {
    let none: Seals = [(acme(), None)].into_iter().collect();
    let Encoded { entry, unkept } = encode(event(), Some(&none)).unwrap();
    assert!(unkept && entry.sealed.is_empty());
    assert!(!String::from_utf8(entry.public).unwrap().contains("alice"));
    assert!(matches!(encode(event(), Some(&Seals::default())), Err(RecordError::Sealing(_))));
}

#[test]
fn what_is_no_event_is_refused() {
    let good = encode(event(), None).unwrap().entry;
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
