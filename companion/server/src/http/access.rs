//! Who connects: the peer's address, which addresses may use the admin scope, and how often an address may guess.
//!
//! Against: tokens that were stolen and are used from elsewhere; guessing. A valid token always passes, so that guessing from
//! an address that others share locks nobody out. Limits: [`GUESSES`] refused tokens a minute of an address (of IPv6, of a
//! /64), then 429 for the refused ones; [`ADDRESSES`] addresses are remembered, the one seen longest ago goes first.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Refused tokens a minute of one address.
pub const GUESSES: u32 = 100;
/// Addresses that are remembered.
pub const ADDRESSES: usize = 10_000;
const WINDOW: Duration = Duration::from_secs(60);

/// Where a connection comes from; `None` through a Unix socket.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<SocketAddr>);

impl Peer {
    /// The address; an IPv4 address that came as IPv6 is IPv4.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        self.0.map(|address| address.ip().to_canonical())
    }
}

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Not a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a range of addresses; write 10.0.0.0/8, 2001:db8::/32 or one address, several with commas")]
pub struct MalformedNetwork;

impl FromStr for Network {
    type Err = MalformedNetwork;

    fn from_str(text: &str) -> Result<Self, MalformedNetwork> {
        let (address, prefix) =
            text.trim().split_once('/').map_or((text.trim(), None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| MalformedNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| MalformedNetwork)?;
        (prefix <= most).then_some(Self { address, prefix }).ok_or(MalformedNetwork)
    }
}

impl Network {
    /// Whether an address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |bits: u8| u32::from(bits.saturating_sub(self.prefix));
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Which addresses may use the admin scope. An empty list is everybody; a Unix socket always may.
#[derive(Clone, Debug, Default)]
pub struct AllowList(pub Vec<Network>);

impl AllowList {
    /// Whether the peer may.
    #[must_use]
    pub fn allows(&self, peer: Peer) -> bool {
        let listed = |address| self.0.iter().any(|network| network.contains(address));
        self.0.is_empty() || peer.ip().is_none_or(listed)
    }
}

/// Refused tokens, by address.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Guesses {
    /// Counts one more; `false` when it is one too many.
    pub fn count(&self, peer: Peer, now: Instant) -> bool {
        let Some(address) = peer.ip().map(network) else { return true };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES && !known.contains_key(&address) {
            known.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
            let oldest = known.iter().min_by_key(|(_, (since, _))| *since).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| known.len() >= ADDRESSES) {
                known.remove(&oldest);
            }
        }
        let (since, count) = known.entry(address).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= GUESSES
    }
}

/// Who has one IPv6 address has its /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    fn peer(address: &str) -> Peer {
        Peer(Some(SocketAddr::new(address.parse().unwrap(), 1)))
    }

    #[test]
    fn ranges() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::1"),
        ] {
            let list = AllowList(vec![range.parse().unwrap()]);
            assert!(list.allows(peer(inside)) && !list.allows(peer(outside)), "{range}");
        }
        assert!(AllowList(vec!["0.0.0.0/0".parse().unwrap()]).allows(peer("203.0.113.9")));
        assert!(AllowList::default().allows(peer("203.0.113.9")));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/-1"] {
            assert_eq!(bad.parse::<Network>(), Err(MalformedNetwork), "{bad}");
        }
    }

    #[test]
    fn an_address_may_guess_so_often_a_minute() {
        let (guesses, now) = (Guesses::default(), monotonic());
        let allowed = (0..GUESSES * 2).filter(|_| guesses.count(peer("192.0.2.1"), now)).count();
        assert_eq!(allowed, usize::try_from(GUESSES).unwrap());
        assert!(guesses.count(peer("192.0.2.2"), now));
        assert!(guesses.count(peer("192.0.2.1"), now + WINDOW));
        let neighbours =
            (0..100_u32).filter(|n| guesses.count(peer(&format!("2001:db8::{n:x}")), now)).count();
        assert_eq!(neighbours, usize::try_from(GUESSES).unwrap(), "of one /64");
        for n in 0..30_000_u32 {
            guesses.count(Peer(Some((std::net::Ipv4Addr::from(n), 1).into())), now);
        }
        assert!(guesses.0.lock().unwrap().len() <= ADDRESSES);
    }
}
