//! What the platform knows of a request, as JavaScript says it.

use std::rc::Rc;

use portcullis_policy::{Fact, Facts};

use crate::{
    entropy,
    wire::{self, Form},
};

/// What is known. The names are those of `Facts` in `js/index.d.ts`; a claim's is `jwtClaims.` and its own.
#[derive(Default)]
pub struct Known {
    source: Vec<u8>,
    facts: Form,
    environment: Rc<Form>,
    /// All of the request still waits.
    pub holds: bool,
}

impl Known {
    /// The client's `address:port`, and what is known as `URLSearchParams` writes it; either may be empty.
    pub fn new(source: &str, facts: &str, environment: &Rc<Form>) -> Self {
        let facts = wire::form(facts);
        Self { source: source.as_bytes().to_vec(), facts, environment: Rc::clone(environment), holds: false }
    }

    fn text(&self, name: &str) -> Option<Vec<u8>> {
        value(&self.facts, name.as_bytes())
    }
}

fn value(form: &Form, name: &[u8]) -> Option<Vec<u8>> {
    form.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
}

impl Facts for Known {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        match fact {
            Fact::SourceAddress => (!self.source.is_empty()).then(|| self.source.clone()),
            Fact::RouteName => self.text("routeName"),
            Fact::VirtualHost => self.text("virtualHost"),
            Fact::RouteMetadata => self.text("routeMetadata"),
            Fact::JwtClaim(claim) => value(&self.facts, &[b"jwtClaims.", claim.as_bytes()].concat()),
            Fact::PeerSubject => self.text("peerSubject"),
            Fact::Environment(name) => value(&self.environment, name.as_bytes()),
            Fact::FilterMark(filter) => {
                let ran =
                    |(name, mark): &(Vec<u8>, Vec<u8>)| name == b"verifiedBy" && mark == filter.as_bytes();
                self.facts.iter().any(ran).then(|| b"ran".to_vec())
            }
        }
    }

    fn entropy(&mut self) -> Option<[u8; 32]> {
        entropy::fresh()
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
        let said = "jwtClaims.sub=alice&jwtClaims.n=5&verifiedBy=envoy.filters.http.ext_authz&verifiedBy=b";
        let environment = Rc::new(wire::form("KEY=sec%0Aret"));
        let mut known = Known::new("", said, &environment);
        assert_eq!(known.fact(Fact::JwtClaim("sub")), Some(b"alice".to_vec()));
        assert_eq!(known.fact(Fact::JwtClaim("n")), Some(b"5".to_vec()));
        assert_eq!(known.fact(Fact::Environment("KEY")), Some(b"sec\nret".to_vec()));
        assert!(known.fact(Fact::FilterMark("envoy.filters.http.ext_authz")).is_some());
        assert!(known.fact(Fact::FilterMark("b")).is_some());
        for absent in [Fact::JwtClaim("x"), Fact::RouteName, Fact::SourceAddress, Fact::FilterMark("a")] {
            assert_eq!(known.fact(absent), None);
        }
        assert_eq!(
            Known::new("192.0.2.1:1", "&=&", &environment).fact(Fact::SourceAddress),
            Some(b"192.0.2.1:1".to_vec())
        );
    }
}
