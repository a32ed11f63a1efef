//! What the platform knows of a request, as JavaScript says it.

use std::rc::Rc;

use portcullis_policy::{Fact, Facts};
use serde_json::Value;

/// What is known. The names in the JSON object are those of `Facts` in `js/index.d.ts`.
#[derive(Default)]
pub struct Known {
    source: Vec<u8>,
    facts: Value,
    environment: Rc<Value>,
    /// All of the request still waits.
    pub holds: bool,
}

impl Known {
    /// The client's `address:port`, and a JSON object; either may be empty. The environment is an object of texts.
    pub fn new(source: &str, facts: &str, environment: &Rc<Value>) -> Self {
        let facts =
            if facts.is_empty() { Value::Null } else { serde_json::from_str(facts).unwrap_or_default() };
        Self { source: source.as_bytes().to_vec(), facts, environment: Rc::clone(environment), holds: false }
    }

    fn text(&self, pointer: &[&str]) -> Option<Vec<u8>> {
        let found = pointer.iter().try_fold(&self.facts, |value, key| value.get(key))?;
        match found {
            Value::Null => None,
            Value::String(text) => Some(text.clone().into_bytes()),
            other => Some(other.to_string().into_bytes()),
        }
    }
}

impl Facts for Known {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        match fact {
            Fact::SourceAddress => (!self.source.is_empty()).then(|| self.source.clone()),
            Fact::RouteName => self.text(&["routeName"]),
            Fact::VirtualHost => self.text(&["virtualHost"]),
            Fact::RouteMetadata => self.text(&["routeMetadata"]),
            Fact::JwtClaim(claim) => self.text(&["jwtClaims", claim]),
            Fact::PeerSubject => self.text(&["peerSubject"]),
            Fact::Environment(name) => {
                self.environment.get(name).and_then(Value::as_str).map(|text| text.as_bytes().to_vec())
            }
            Fact::FilterMark(filter) => {
                let marks = self.facts.get("verifiedBy").and_then(Value::as_array)?;
                marks.iter().any(|mark| mark.as_str() == Some(filter)).then(|| b"ran".to_vec())
            }
        }
    }

    fn holds_request(&self) -> bool {
        self.holds
    }

    fn rewrites_responses(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_known() {
        let said = r#"{"jwtClaims": {"sub": "alice", "n": 5}, "verifiedBy": ["envoy.filters.http.ext_authz"], "routeName": null}"#;
        let environment = Rc::new(serde_json::json!({"KEY": "secret", "n": 1}));
        let mut known = Known::new("", said, &environment);
        assert_eq!(known.fact(Fact::JwtClaim("sub")), Some(b"alice".to_vec()));
        assert_eq!(known.fact(Fact::JwtClaim("n")), Some(b"5".to_vec()));
        assert_eq!(known.fact(Fact::Environment("KEY")), Some(b"secret".to_vec()));
        assert_eq!(known.fact(Fact::Environment("n")), None);
        assert!(known.fact(Fact::FilterMark("envoy.filters.http.ext_authz")).is_some());
        for absent in [Fact::JwtClaim("x"), Fact::RouteName, Fact::SourceAddress, Fact::FilterMark("a")] {
            assert_eq!(known.fact(absent), None);
        }
        assert_eq!(
            Known::new("192.0.2.1:1", "no JSON", &environment).fact(Fact::SourceAddress),
            Some(b"192.0.2.1:1".to_vec())
        );
    }
}
