//! Where a host's name or address leads, in each spelling that libraries accept.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::bytes::{between, starts};

/// Where a host leads that is not an ordinary site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The metadata service of a cloud.
    Metadata,
    /// An address that is spelled so that filters do not see it.
    Disguised,
    /// A name that resolves to whatever it says, or that tells somebody that it was asked for.
    Callback,
    LinkLocal,
    Loopback,
    Private,
    /// An address in plain spelling.
    Address,
}

/// Names by their ends, dot included or whole.
const NAMES: [(&[u8], Reach); 32] = [
    (b"localhost", Reach::Loopback),
    (b"localhost.localdomain", Reach::Loopback),
    (b"ip6-localhost", Reach::Loopback),
    (b".localhost", Reach::Loopback),
    (b"host.docker.internal", Reach::Loopback),
    (b"metadata.google.internal", Reach::Metadata),
    (b"metadata.tencentyun.com", Reach::Metadata),
    (b"instance-data", Reach::Metadata),
    (b"metadata", Reach::Metadata),
    (b"kubernetes.default", Reach::Private),
    (b".svc", Reach::Private),
    (b".cluster.local", Reach::Private),
    (b".internal", Reach::Private),
    (b".consul", Reach::Private),
    (b".nip.io", Reach::Callback),
    (b".xip.io", Reach::Callback),
    (b".sslip.io", Reach::Callback),
    (b"localtest.me", Reach::Loopback),
    (b".lvh.me", Reach::Callback),
    (b".vcap.me", Reach::Callback),
    (b".1u.ms", Reach::Callback),
    (b".rbndr.us", Reach::Callback),
    (b".burpcollaborator.net", Reach::Callback),
    (b".oastify.com", Reach::Callback),
    (b".oast.pro", Reach::Callback),
    (b".oast.live", Reach::Callback),
    (b".oast.site", Reach::Callback),
    (b".oast.fun", Reach::Callback),
    (b".oast.me", Reach::Callback),
    (b".interact.sh", Reach::Callback),
    (b".dnslog.cn", Reach::Callback),
    (b".requestbin.net", Reach::Callback),
];

/// Where the host leads; `None` for an ordinary name.
pub(super) fn reach(host: &[u8]) -> Option<Reach> {
    let host = host.strip_suffix(b".").unwrap_or(host);
    if let Some(inside) = host.strip_prefix(b"[") {
        return v6(inside.strip_suffix(b"]").unwrap_or(inside));
    }
    if host.first().is_some_and(u8::is_ascii_digit)
        && let Some(reach) = v4(host)
    {
        return Some(reach);
    }
    // Digits in circles and full stops of other scripts, which resolvers fold.
    if host.first().is_some_and(u8::is_ascii_digit) && host.windows(3).any(|part| part == b"\xe3\x80\x82") {
        return Some(Reach::Disguised);
    }
    if host.windows(2).any(|pair| matches!(pair, [0xe2, 0x91..=0x93])) {
        return Some(Reach::Disguised);
    }
    let ends = |name: &[u8]| {
        host.len().checked_sub(name.len()).is_some_and(|cut| starts(crate::bytes::from(host, cut), name))
    };
    NAMES
        .iter()
        .find(|(name, _)| if name.starts_with(b".") { ends(name) } else { host.eq_ignore_ascii_case(name) })
        .map(|(_, reach)| *reach)
}

fn v6(text: &[u8]) -> Option<Reach> {
    let text = between(text, 0, text.iter().position(|b| *b == b'%').unwrap_or(text.len()));
    let address: Ipv6Addr = core::str::from_utf8(text).ok()?.parse().ok()?;
    if address.is_loopback() || address.is_unspecified() {
        return Some(Reach::Loopback);
    }
    if address.to_ipv4().is_some() {
        return Some(Reach::Disguised);
    }
    let first = address.segments().first().copied().unwrap_or(0);
    // An address of version 4 behind a translator (RFC 6052) or a tunnel (RFC 3056).
    if matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, ..]) || first == 0x2002 {
        return Some(Reach::Disguised);
    }
    if address.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] {
        return Some(Reach::Metadata);
    }
    Some(match first {
        0xfe80..=0xfebf => Reach::LinkLocal,
        0xfc00..=0xfdff => Reach::Private,
        _ => Reach::Address,
    })
}

/// An address in one to four parts, each decimal, octal or hexadecimal, as `inet_aton` reads it.
fn v4(host: &[u8]) -> Option<Reach> {
    let mut parts = [0_u64; 4];
    let (mut count, mut odd) = (0, false);
    for part in host.split(|b| *b == b'.') {
        let (radix, digits) = match part {
            [b'0', b'x' | b'X', rest @ ..] => (16, rest),
            [b'0', rest @ ..] if !rest.is_empty() => (8, rest),
            _ => (10, part),
        };
        odd |= radix != 10;
        let text = core::str::from_utf8(digits).ok().filter(|text| !text.is_empty() && text.len() <= 16)?;
        *parts.get_mut(count)? = u64::from_str_radix(text, radix).ok()?;
        count += 1;
    }
    let mut address = 0_u64;
    for (index, part) in parts.iter().take(count).enumerate() {
        let last = index + 1 == count;
        let bytes = if last { 5 - count } else { 1 };
        if *part >> (8 * bytes) != 0 && !(last && count == 4) {
            return None;
        }
        odd |= *part > 255 && count == 4;
        address = address << (8 * bytes) | part & ((1 << (8 * bytes)) - 1);
    }
    if odd || count != 4 {
        return Some(Reach::Disguised);
    }
    let address = Ipv4Addr::from(u32::try_from(address).ok()?);
    Some(match address.octets() {
        [169, 254, 169, 254] | [169, 254, 170, 2] | [100, 100, 100, 200] | [192, 0, 0, 192] => {
            Reach::Metadata
        }
        [127, ..] | [0, ..] => Reach::Loopback,
        [169, 254, ..] => Reach::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private,
        _ => Reach::Address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address() {
        for (host, expected) in [
            ("127.0.0.1", Reach::Loopback),
            ("2130706433", Reach::Disguised),
            ("0x7f000001", Reach::Disguised),
            ("0x7f.0.0.1", Reach::Disguised),
            ("0177.0.0.1", Reach::Disguised),
            ("127.1", Reach::Disguised),
            ("[::1]", Reach::Loopback),
            ("[::ffff:127.0.0.1]", Reach::Disguised),
            ("[0:0:0:0:0:ffff:7f00:1]", Reach::Disguised),
            ("[fd00:ec2::254]", Reach::Metadata),
            ("[64:ff9b::7f00:1]", Reach::Disguised),
            ("[2002:7f00:1::]", Reach::Disguised),
            ("127\u{3002}0\u{3002}0\u{3002}1", Reach::Disguised),
            ("db.service.consul", Reach::Private),
            ("[fe80::1%25eth0]", Reach::LinkLocal),
            ("169.254.169.254", Reach::Metadata),
            ("169.254.1.1", Reach::LinkLocal),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("192.168.0.1.", Reach::Private),
            ("LOCALHOST", Reach::Loopback),
            ("a.b.10.0.0.1.nip.io", Reach::Callback),
            ("127.0.0.1.nip.io", Reach::Callback),
            ("203.0.113.7", Reach::Address),
            ("api.default.svc", Reach::Private),
        ] {
            assert_eq!(reach(host.as_bytes()), Some(expected), "{host}");
        }
        for fine in
            ["shop.example", "172.example", "1and1.example", "localhost.example", "3.14", "[zz]", "internal"]
        {
            let reached = reach(fine.as_bytes());
            assert!(reached.is_none() || fine == "3.14", "{fine}: {reached:?}");
        }
    }
}
