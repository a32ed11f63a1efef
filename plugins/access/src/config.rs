//! What an operator writes.

use portcullis_policy::Mode;
use serde::Deserialize;

use crate::{addresses::AddressesWire, cors::CorsWire, csrf::CsrfWire, origin::OriginWire};

/// The section `access`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "access"))]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// `monitor` refuses nothing and records what `enforce` would refuse.
    pub mode: Mode,
    /// From where requests may come. Left out: from anywhere.
    pub addresses: Option<AddressesWire>,
    /// What browsers say of where a request comes from. Left out: it is not looked at.
    pub origin: Option<OriginWire>,
    /// Tokens that only the own pages can send. Left out: none.
    pub csrf: Option<CsrfWire>,
    /// Which foreign pages may read answers. Left out: the application decides.
    pub cors: Option<CorsWire>,
}

#[cfg(test)]
mod tests {
    use portcullis_policy::{ConfigErrors, Policy, Site, Vocabulary, config};
    use serde_json::{Value, json};

    use super::Wire;
    use crate::Access;

    fn compile(wire: Value) -> Result<Access, String> {
        let mut errors = ConfigErrors::default();
        let site = Site::root().key("access");
        config::read::<Wire>(wire, &site, &mut errors)
            .and_then(|wire| Access::compile(wire, &site, &Vocabulary::default(), &mut errors))
            .ok_or_else(|| errors.to_string())
    }

    fn assert_refused(path: &str, wire: &Value) {
        let Err(problems) = compile(wire.clone()) else { panic!("{wire} is taken") };
        let named = problems.lines().any(|line| {
            let rest = line.strip_prefix(path).and_then(|rest| rest.strip_prefix(": "));
            rest.and_then(|rest| rest.split_once("; "))
                .is_some_and(|(problem, remedy)| !problem.is_empty() && !remedy.is_empty())
        });
        assert!(named, "{wire}: no line names {path}: {problems}");
    }

    #[test]
    fn what_would_split_a_header_is_refused() {
        type Place = fn(&str) -> Value;
        let places: [(&str, Place); 8] = [
            ("access.origin.trusted[0]", |bad| json!({"origin": {"trusted": [format!("https://a{bad}b")]}})),
            ("access.cors.origins[0]", |bad| json!({"cors": {"origins": [format!("https://a{bad}b")]}})),
            ("access.cors.methods[0]", |bad| json!({"cors": {"methods": [format!("PU{bad}T")]}})),
            ("access.cors.headers[0]", |bad| json!({"cors": {"headers": [format!("x-{bad}a")]}})),
            ("access.cors.expose[0]", |bad| json!({"cors": {"expose": [format!("x-{bad}a")]}})),
            (
                "access.csrf.cookie",
                |bad| json!({"csrf": {"session_cookie": "s", "cookie": format!("__Host-{bad}a")}}),
            ),
            (
                "access.csrf.header",
                |bad| json!({"csrf": {"session_cookie": "s", "header": format!("x-{bad}a")}}),
            ),
            ("access.csrf.session_cookie", |bad| json!({"csrf": {"session_cookie": format!("s{bad}a")}})),
        ];
        for (path, place) in places {
            for bad in ["\r", "\n", "\0", "\r\nx-injected: 1", ";", ",", " ", "\"", "é"] {
                assert_refused(path, &place(bad));
            }
            assert!(compile(place("")).is_ok(), "{path}: {:?}", compile(place("")).err());
        }
    }

    #[test]
    fn each_wrong_value_names_its_key_and_a_remedy() {
        let many: Vec<String> = (0..300).map(|n| format!("x-{n}")).collect();
        for (path, wire) in [
            ("access.mode", json!({"mode": "block"})),
            ("access.addresses.allow", json!({"addresses": {"allow": []}})),
            ("access.addresses.allow[1]", json!({"addresses": {"allow": ["10.0.0.0/8", "10.0.0.0/33"]}})),
            ("access.addresses.allow[0]", json!({"addresses": {"allow": ["localhost"]}})),
            ("access.addresses.allow[0]", json!({"addresses": {"allow": ["2001:db8::/129"]}})),
            ("access.origin.check", json!({"origin": {"check": "some"}})),
            ("access.origin.missing", json!({"origin": {"missing": "ask"}})),
            ("access.origin.trusted[0]", json!({"origin": {"trusted": ["partner.example"]}})),
            ("access.csrf.lifetime", json!({"csrf": {"session_cookie": "s", "lifetime": "1s"}})),
            ("access.csrf.keys_env", json!({"csrf": {"session_cookie": "s", "keys_env": ""}})),
            ("access.cors.credentials", json!({"cors": {"origins": ["*"], "credentials": true}})),
            ("access.cors.max_age", json!({"cors": {"max_age": "25h"}})),
            ("access.cors.methods", json!({"cors": {"methods": many}})),
            ("access.cors.origins[0]", json!({"cors": {"origins": ["https://a.example/path"]}})),
        ] {
            assert_refused(path, &wire);
        }
    }
}
