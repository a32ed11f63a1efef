use portcullis_policy::{ConfigErrors, Effect, Fact, Facts, Header, Headers};
use serde_json::json;

use super::*;

struct Known(Vec<(&'static str, &'static str)>);

impl Facts for Known {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        let name = match fact {
            Fact::SourceAddress => "source".to_owned(),
            Fact::JwtClaim(claim) => format!("jwt:{claim}"),
            Fact::PeerSubject => "subject".to_owned(),
            Fact::FilterMark(filter) => format!("mark:{filter}"),
            _ => return None,
        };
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes().to_vec())
    }
}

fn identity(tenant: serde_json::Value, user: serde_json::Value, client_ip: serde_json::Value) -> Identity {
    let mut errors = ConfigErrors::default();
    let identity = Identity::compile(
        serde_json::from_value(tenant).unwrap(),
        serde_json::from_value(user).unwrap(),
        serde_json::from_value(client_ip).unwrap(),
        &mut errors,
    );
    assert!(!errors.has_errors(), "{errors}");
    identity
}

struct Answer {
    tenant: Result<String, Unidentified>,
    user: Option<String>,
    client_ip: Option<String>,
    stripped: Vec<String>,
}

fn ask(identity: &Identity, pairs: &[Header<'_>], facts: Vec<(&'static str, &'static str)>) -> Answer {
    let headers = Headers::new(pairs.to_vec());
    let mut effects = Vec::new();
    let asker = Asker { headers: &headers, host: b"acme.app.test:443", path: b"/t/globex/x" };
    let resolved = identity.resolve(&asker, &mut Known(facts), ReadsAddress::Always, &mut effects);
    Answer {
        tenant: resolved.tenant.map(|tenant| tenant.as_str().to_owned()),
        user: resolved.user.map(|user| user.as_str().to_owned()),
        client_ip: resolved.client_ip.map(|ip| ip.to_string()),
        stripped: effects
            .into_iter()
            .map(|effect| match effect {
                Effect::RemoveRequestHeader(name) => name.to_string(),
                other => panic!("{other:?}"),
            })
            .collect(),
    }
}

#[test]
fn a_header_is_believed_only_with_its_filters_mark() {
    let identity = identity(
        json!({"from": [{"header": "X-Tenant-ID", "set_by": "jwt_authn"}]}),
        json!({"from": [{"header": "x-user-id", "set_by": "my.auth"}]}),
        json!({}),
    );
    let sent: &[Header<'_>] = &[(b"x-tenant-id", b"acme"), (b"x-user-id", b"eve")];
    let spoofed = ask(&identity, sent, vec![]);
    assert_eq!(spoofed.tenant.unwrap(), "public");
    assert_eq!(spoofed.user, None);
    assert_eq!(spoofed.stripped, ["x-tenant-id", "x-user-id"]);
    let vouched =
        ask(&identity, sent, vec![("mark:envoy.filters.http.jwt_authn", "1"), ("mark:my.auth", "1")]);
    assert_eq!(vouched.tenant.unwrap(), "acme");
    assert_eq!(vouched.user.unwrap(), "eve");
    assert!(vouched.stripped.is_empty());
}

#[test]
fn without_sources_everybody_is_public_and_copies_are_stripped() {
    let identity = identity(json!({}), json!({}), json!({}));
    let answer = ask(
        &identity,
        &[(b"x-tenant-id", b"acme"), (b"x-user-id", b"eve")],
        vec![("source", "[::ffff:9.8.7.6]:5")],
    );
    assert_eq!(answer.tenant.unwrap(), "public");
    assert_eq!(answer.user.unwrap(), "9.8.7.6");
    assert_eq!(answer.stripped, ["x-tenant-id", "x-user-id"]);
}

#[test]
fn names_that_are_not_allowed_are_refused_or_counted_to_the_default() {
    let from = json!([{"header": "x-t", "set_by": "client", "allow": "[a-z]{1,5}"}]);
    let reject = identity(json!({"from": from}), json!({}), json!({}));
    let fold = identity(json!({"from": from, "unknown": "default"}), json!({}), json!({}));
    let strict = identity(json!({"from": from, "default": null}), json!({}), json!({}));
    for _ in 0..2 {
        assert_eq!(ask(&reject, &[(b"x-t", b"acme")], vec![]).tenant.unwrap(), "acme");
        assert_eq!(ask(&reject, &[(b"x-t", b"Acme")], vec![]).tenant, Err(Unidentified::TenantUnknown));
        assert_eq!(ask(&reject, &[(b"x-t", b"\xff")], vec![]).tenant, Err(Unidentified::TenantUnknown));
        assert_eq!(
            ask(&reject, &[(b"x-t", b"a"), (b"x-t", b"b")], vec![]).tenant,
            Err(Unidentified::TenantUnknown)
        );
        assert_eq!(ask(&fold, &[(b"x-t", b"Acme")], vec![]).tenant.unwrap(), "public");
        assert_eq!(ask(&strict, &[], vec![]).tenant, Err(Unidentified::TenantMissing));
    }
}

#[test]
fn other_sources_name_the_tenant() {
    for (source, facts, wanted) in [
        (json!({"host_label": 0}), vec![], "acme"),
        (json!({"path_segment": 1}), vec![], "globex"),
        (json!({"jwt_claim": "org"}), vec![("jwt:org", "initech")], "initech"),
        (json!({"mtls_subject": "O"}), vec![("subject", "CN=app,O=hooli")], "hooli"),
        (json!({"mtls_subject": "O"}), vec![("subject", "CN=app\\,O=evil,O=hooli")], "public"),
        (json!({"fixed": "umbrella"}), vec![], "umbrella"),
        (json!({"path_segment": 9}), vec![], "public"),
    ] {
        let identity = identity(json!({"from": [source.clone()]}), json!({}), json!({}));
        assert_eq!(ask(&identity, &[], facts).tenant.unwrap(), wanted, "{source}");
    }
}

#[test]
fn the_client_address_counts_from_the_trusted_end() {
    let sent: &[Header<'_>] =
        &[(b"x-forwarded-for", b"6.6.6.6, 1.2.3.4"), (b"x-forwarded-for", b"[2001:db8::1]:99")];
    for (hops, wanted) in [(0, Some("2001:db8::1")), (1, Some("1.2.3.4")), (2, Some("6.6.6.6")), (3, None)] {
        let identity =
            identity(json!({}), json!({}), json!({"from": "x-forwarded-for", "trusted_hops": hops}));
        assert_eq!(ask(&identity, sent, vec![("source", "9.9.9.9:1")]).client_ip.as_deref(), wanted);
    }
}

#[test]
fn a_required_user_is_required() {
    let identity = identity(json!({}), json!({"required": true, "from": [{"jwt_claim": "sub"}]}), json!({}));
    assert_eq!(ask(&identity, &[], vec![]).tenant, Err(Unidentified::UserMissing));
    assert_eq!(ask(&identity, &[], vec![("jwt:sub", "bob")]).tenant.unwrap(), "public");
}

#[test]
fn wrong_sources_are_named() {
    let mut errors = ConfigErrors::default();
    let tenant = serde_json::from_value(json!({
        "from": [{"header": "x-t"}, {"fixed": "a", "host_label": 1}, {}, {"client_ip": true}, {"header": "a b", "set_by": "x"}],
        "default": "no spaces"
    }))
    .unwrap();
    Identity::compile(
        tenant,
        UserWire::default(),
        ClientIpWire { trusted_hops: 17, ..Default::default() },
        &mut errors,
    );
    let text = errors.to_string();
    for part in [
        "tenant.from[0].set_by: is missing",
        "tenant.from[1]: names 2 sources",
        "tenant.from[2]: names 0 sources",
        "tenant.from[3].client_ip: does not name a tenant",
        "tenant.from[4].header: \"a b\"",
        "tenant.default: `no spaces`",
        "client_ip.trusted_hops: ",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}
