//! Networks from which requests may come (CIDR: RFC 4632, RFC 4291).
//!
//! The client's address is the chain's: `client_ip` says where it stands and how many proxies in front are trusted.

use std::net::IpAddr;

use portcullis_policy::{ConfigErrors, Site};
use serde::Deserialize;

/// From where requests may come.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AddressesWire {
    /// Networks and addresses: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`. A request from elsewhere, or whose address is not
    /// known, is answered 403.
    pub allow: Vec<String>,
}

const NETWORKS: usize = 256;

/// Networks, as first and last address.
#[derive(Debug)]
pub struct Networks(Vec<(u128, u128)>);

impl Networks {
    pub(crate) fn compile(wire: &AddressesWire, site: &Site, errors: &mut ConfigErrors) -> Self {
        let site = site.key("allow");
        if wire.allow.len() > NETWORKS || wire.allow.is_empty() {
            errors.error(&site, "has no network, or too many", "1 to 256");
        }
        let mut list = Vec::new();
        for (index, text) in wire.allow.iter().enumerate() {
            match network(text) {
                Ok(range) => list.push(range),
                Err(remedy) => {
                    errors.error(
                        &site.index(index),
                        ["`", &text.escape_default().to_string(), "` is no network"].concat(),
                        remedy,
                    );
                }
            }
        }
        Self(list)
    }

    /// Whether an address lies in one of them.
    #[must_use]
    pub fn hold(&self, address: Option<IpAddr>) -> bool {
        address
            .map(bits)
            .is_some_and(|bits| self.0.iter().any(|(first, last)| (*first..=*last).contains(&bits)))
    }
}

/// All addresses in the one space of IPv6: an IPv4 client may show as either.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn network(text: &str) -> Result<(u128, u128), &'static str> {
    const SYNTAX: &str = "write an address, and perhaps a length: 10.0.0.0/8, 2001:db8::/32";
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| SYNTAX)?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => width,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| SYNTAX)?
        }
        Some(_) => return Err(SYNTAX),
    };
    let free = width.checked_sub(length).ok_or("an IPv4 length is 0 to 32, an IPv6 length 0 to 128")?;
    let hosts = u128::MAX.checked_shr(128_u32.saturating_sub(free)).unwrap_or(0);
    let first = bits(address);
    if first & hosts != 0 {
        return Err("bits behind the length are set: write the network's first address");
    }
    Ok((first, first | hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        Networks(vec![super::network(network).unwrap()]).hold(Some(address.parse().unwrap()))
    }

    #[test]
    fn networks_hold_what_lies_in_them() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.6/31", "192.0.2.7", "192.0.2.8"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::a01:203"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "1.2.3.4", "2001:db8::1"),
        ] {
            assert!(holds(network, inside) && !holds(network, outside), "{network}");
        }
        assert!(holds("::/0", "1.2.3.4") && holds("::/0", "ffff::"));
        assert!(!Networks(vec![(0, u128::MAX)]).hold(None));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "x",
            "10.0.0.0/8/8",
            "010.0.0.1",
        ] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
