//! What Envoy and its kin know of a stream, as properties. Current names first, then those of older hosts.

use portcullis_policy::{Fact, Facts};

use crate::abi;

/// The host's properties of the stream whose callback runs.
pub struct Properties;

impl Facts for Properties {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        match fact {
            Fact::SourceAddress => first(&[b"source\0address"]),
            Fact::RouteName => first(&[b"xds\0route_name", b"route_name"]),
            Fact::VirtualHost => first(&[b"xds\0virtual_host_name", b"virtual_host_name"]),
            Fact::RouteMetadata => first(&[
                b"xds\0route_metadata\0filter_metadata\0portcullis\0config",
                b"route_metadata\0filter_metadata\0portcullis\0config",
            ]),
            Fact::JwtClaim(claim) => {
                let mut path =
                    b"metadata\0filter_metadata\0envoy.filters.http.jwt_authn\0jwt_payload\0".to_vec();
                path.extend_from_slice(claim.as_bytes());
                first(&[&path])
            }
            Fact::PeerSubject => first(&[b"connection\0subject_peer_certificate"]),
            Fact::FilterMark(filter) => {
                let mut path = b"metadata\0filter_metadata\0".to_vec();
                path.extend_from_slice(filter.as_bytes());
                first(&[&path])
            }
        }
    }
}

fn first(paths: &[&[u8]]) -> Option<Vec<u8>> {
    paths.iter().find_map(|path| abi::property(path).ok()).filter(|bytes| !bytes.is_empty())
}
