//! The client's address: the other end of the connection, or an entry of `x-forwarded-for` behind trusted proxies.

use std::net::IpAddr;

use portcullis_policy::{Fact, Facts, Headers};

use crate::identity::{AddressFrom, ClientIpWire};
use crate::matching::without_port;

/// The client's address, once somebody has asked for it.
pub(crate) struct Client {
    wire: ClientIpWire,
    /// Whether it was asked for, and what came of it.
    pub known: Option<Option<IpAddr>>,
}

impl Client {
    /// Nobody has asked yet.
    pub const fn new(wire: ClientIpWire) -> Self {
        Self { wire, known: None }
    }

    /// Asks the host the first time.
    pub fn address(&mut self, headers: &Headers<'_>, facts: &mut dyn Facts) -> Option<IpAddr> {
        let wire = self.wire;
        *self.known.get_or_insert_with(|| wire.address(headers, facts))
    }
}

impl ClientIpWire {
    fn address(self, headers: &Headers<'_>, facts: &mut dyn Facts) -> Option<IpAddr> {
        if self.from == AddressFrom::XForwardedFor {
            let mut entries: Vec<&[u8]> =
                headers.all("x-forwarded-for").flat_map(|value| value.split(|b| *b == b',')).collect();
            for _ in 0..self.trusted_hops {
                entries.pop();
            }
            return entries.last().and_then(|entry| address(entry));
        }
        facts.fact(Fact::SourceAddress).and_then(|source| address(&source))
    }
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`. A mapped IPv4 address is that IPv4 address.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let bare = without_port(bytes.trim_ascii());
    let bare = bare.strip_prefix(b"[").and_then(|b| b.strip_suffix(b"]")).unwrap_or(bare);
    let address: IpAddr = std::str::from_utf8(bare).ok()?.parse().ok()?;
    Some(address.to_canonical())
}
