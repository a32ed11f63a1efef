//! What Envoy and its kin know of a stream, as properties. Current names first, then those of older hosts.

use std::cell::Cell;

use portcullis_policy::{Fact, Facts};

use crate::abi;

/// Which names a host uses, once a stream has shown it; until then both are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// No stream with a route was seen yet.
    #[default]
    Unknown,
    /// `xds.route_name` and its like: Envoy since 1.24.
    Current,
    /// `route_name` and its like.
    Former,
}

/// The host's properties of the stream whose callback runs.
pub struct Properties<'a> {
    /// What the host calls its properties.
    pub dialect: &'a Cell<Dialect>,
    /// All of the request still waits.
    pub holds: bool,
    /// More of the request can be held.
    pub may_wait: bool,
}

impl Properties<'_> {
    /// A property of the route under its current or former name. A lookup that fails costs as much as one that does
    /// not, so the wrong name is not tried twice.
    fn of_route(&self, current: &[u8], former: &[u8]) -> Option<Vec<u8>> {
        if self.dialect.get() == Dialect::Unknown {
            if first(&[b"xds\0virtual_host_name"]).is_some() {
                self.dialect.set(Dialect::Current);
            } else if first(&[b"route_name"]).is_some() {
                self.dialect.set(Dialect::Former);
            }
        }
        match self.dialect.get() {
            Dialect::Unknown => first(&[current, former]),
            Dialect::Current => first(&[current]),
            Dialect::Former => first(&[former]),
        }
    }
}

impl Facts for Properties<'_> {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        match fact {
            Fact::SourceAddress => first(&[b"source\0address"]),
            Fact::RouteName => self.of_route(b"xds\0route_name", b"route_name"),
            Fact::VirtualHost => self.of_route(b"xds\0virtual_host_name", b"virtual_host_name"),
            Fact::RouteMetadata => self.of_route(
                b"xds\0route_metadata\0filter_metadata\0portcullis\0config",
                b"route_metadata\0filter_metadata\0portcullis\0config",
            ),
            Fact::JwtClaim(claim) => {
                let mut path =
                    b"metadata\0filter_metadata\0envoy.filters.http.jwt_authn\0jwt_payload\0".to_vec();
                path.extend_from_slice(claim.as_bytes());
                first(&[&path])
            }
            Fact::PeerSubject => first(&[b"connection\0subject_peer_certificate"]),
            Fact::Environment(name) => std::env::var(name).ok().map(String::into_bytes),
            Fact::FilterMark(filter) => {
                let mut path = b"metadata\0filter_metadata\0".to_vec();
                path.extend_from_slice(filter.as_bytes());
                first(&[&path])
            }
        }
    }

    fn entropy(&mut self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok().map(|()| bytes)
    }

    fn holds_request(&self) -> bool {
        self.holds
    }

    fn may_wait(&self) -> bool {
        self.may_wait
    }

    fn rewrites_responses(&self) -> bool {
        true
    }
}

fn first(paths: &[&[u8]]) -> Option<Vec<u8>> {
    paths.iter().find_map(|path| abi::property(path).ok()).filter(|bytes| !bytes.is_empty())
}
