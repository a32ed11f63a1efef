//! Messages that two readers may understand differently, as far as a filter behind the proxy's own parser sees them.
//!
//! Methods, hosts, lengths and transfer codings, media types and charsets, ranges, headers that give another reader other
//! instructions. What the proxy has refused or removed before (malformed request lines, `connection`, a length beside
//! chunks) does not arrive here. Percent escapes that decode to other than what they look like are told by [`escapes`].

mod escapes;
pub(crate) mod media_type;

pub(crate) use escapes::detect as escapes;

use portcullis_policy::Headers;

use crate::body::charset::{self, Charset};
use crate::bytes::{at, between, find, from, is_space, starts};
use crate::config::Config;
use crate::finding::{Family, Finding};
use crate::inspector::{Flow, Inspector, Part};
use crate::place::Place;

/// Bytes of an `accept-encoding`. Codings have short names; kernels were crashed with long ones (CVE-2022-21907).
const ACCEPT_ENCODING: usize = 200;
/// Ranges in one request. More: a way to multiply the work (CVE-2011-3192).
const RANGES: usize = 32;

/// What a request's head says of itself, apart from the values in it.
#[derive(Default)]
struct Seen<'h> {
    method: &'h [u8],
    authority: Option<&'h [u8]>,
    host: Option<&'h [u8]>,
    length: Option<&'h [u8]>,
    coding: bool,
    media_type: Option<&'h [u8]>,
    /// Its boundary is odd: how much so, and why.
    boundary: Odd,
}

/// Inspects the headers that carry protocol.
pub(crate) fn inspect(config: &Config, headers: &Headers<'_>, inspector: &mut Inspector<'_>) -> Flow {
    let mut seen = Seen::default();
    for (name, value) in headers.iter() {
        if let Some((confidence, why)) = header(config, &mut seen, name, value) {
            tell(inspector, name, confidence, why)?;
        }
    }
    if !config.allows_method(seen.method) {
        tell(inspector, b":method", 90, "method")?;
    }
    whole(&seen).map_or(Flow::Continue(()), |(name, confidence, why)| tell(inspector, name, confidence, why))
}

fn tell(inspector: &mut Inspector<'_>, name: &[u8], confidence: u8, why: &'static str) -> Flow {
    inspector.report(
        Place::Header,
        Part::Value,
        name,
        Some(Finding::new(Family::Protocol, confidence, why, 0)),
    )
}

type Odd = Option<(u8, &'static str)>;

/// Judges one header, and keeps what is judged together with others.
fn header<'h>(config: &Config, seen: &mut Seen<'h>, name: &[u8], value: &'h [u8]) -> Odd {
    // Told apart by length first: this runs for every header of every request.
    let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
    match name.len() {
        2 if is(b"if") => webdav(config),
        4 if is(b"host") => twice(&mut seen.host, value, "host"),
        5 if is(b"proxy") => Some((85, "proxy-header")),
        5 if is(b"range") => range(value),
        6 if is(b"accept") => accept(value),
        7 if is(b":method") => {
            seen.method = value;
            None
        }
        10 if is(b":authority") => {
            seen.authority = Some(value);
            None
        }
        10 if is(b"lock-token") => webdav(config),
        12 if is(b"content-type") => {
            if seen.media_type.replace(value).is_some() {
                return Some((80, "media-type-twice"));
            }
            let odd = media_type::judge(value);
            if odd.is_none_or(|(_, why)| why != media_type::BOUNDARY) {
                return odd;
            }
            seen.boundary = odd;
            None
        }
        13 if is(b"content-range") => {
            // Only uploads in pieces have one.
            let odd = !value.contains(&b'/');
            let read = matches!(seen.method, b"GET" | b"HEAD");
            (odd || read).then_some((if odd { 72 } else { 60 }, "content-range"))
        }
        13 if is(b"request-range") => Some((75, "request-range")),
        14 if is(b"content-length") => {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit) && value.len() < 20;
            if digits { twice(&mut seen.length, value, "length-twice") } else { Some((88, "length")) }
        }
        15 if is(b"accept-encoding") => (value.len() > ACCEPT_ENCODING).then_some((72, "accept-encoding")),
        17 if is(b"transfer-encoding") => {
            let again = core::mem::replace(&mut seen.coding, true);
            (again || !value.trim_ascii().eq_ignore_ascii_case(b"chunked")).then_some((85, "transfer-coding"))
        }
        13 | 17 | 22 if is(b"x-http-method") || is(b"x-method-override") || is(b"x-http-method-override") => {
            (!config.allows_method(value)).then_some((80, "method-override"))
        }
        _ => None,
    }
}

/// Keeps a value; a second one that differs is two messages in one.
fn twice<'h>(known: &mut Option<&'h [u8]>, value: &'h [u8], why: &'static str) -> Odd {
    let before = known.replace(value);
    before.is_some_and(|before| before != value).then_some((88, why))
}

/// WebDAV's own headers, where its methods are not allowed.
fn webdav(config: &Config) -> Odd {
    (!config.allows_method(b"LOCK") && !config.allows_method(b"PROPFIND")).then_some((72, "webdav"))
}

/// Judges what several headers say together.
fn whole(seen: &Seen<'_>) -> Option<(&'static [u8], u8, &'static str)> {
    if let Some(authority) = seen.authority {
        if authority.is_empty() {
            return Some((b":authority", 75, "no-host"));
        }
        if authority
            .iter()
            .any(|b| matches!(b, b',' | b'@' | b'/' | b'\\' | b'?' | b'#' | b'<' | b'"') || is_space(*b))
        {
            return Some((b":authority", 85, "host"));
        }
        if seen.host.is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
            return Some((b"host", 85, "host-twice"));
        }
    }
    if seen.coding && seen.length.is_some() {
        return Some((b"content-length", 85, "length-and-coding"));
    }
    let empty = |length: &[u8]| length.iter().all(|digit| *digit == b'0');
    if let Some((confidence, why)) = seen.boundary
        && (seen.coding || !seen.length.is_some_and(empty))
    {
        return Some((b"content-type", confidence, why));
    }
    let body = seen.coding || seen.length.is_some_and(|length| !empty(length));
    if !body {
        return None;
    }
    useless(seen.method, seen.media_type).map(|confidence| (&b":method"[..], confidence, BODY_WITHOUT_USE))
}

const BODY_WITHOUT_USE: &str = "body-without-use";

/// How odd a body is with this method, if it is.
fn useless(method: &[u8], media_type: Option<&[u8]>) -> Option<u8> {
    // Search engines take JSON with GET; nobody takes forms or files.
    let json = media_type.is_some_and(|media_type| find(media_type, b"json", 0).is_some());
    match method {
        b"GET" if json => Some(50),
        b"GET" | b"HEAD" => Some(72),
        _ => None,
    }
}

/// How odd a body would be of which the head says nothing: HTTP/2 needs to tell no length, and proxies take the transfer
/// coding away before filters see the head.
pub(crate) fn untold(headers: &Headers<'_>) -> Option<u8> {
    if headers.first("content-length").is_some() || headers.first("transfer-encoding").is_some() {
        return None;
    }
    useless(headers.first(":method")?, headers.first("content-type"))
}

/// Reports a body that came untold.
pub(crate) fn came(confidence: u8, inspector: &mut Inspector<'_>) -> Flow {
    tell(inspector, b":method", confidence, BODY_WITHOUT_USE)
}

/// `bytes=0-499,-500`: ranges that end before they begin, or too many of them.
fn range(value: &[u8]) -> Odd {
    let list = value.strip_prefix(b"bytes=")?;
    let mut count = 0;
    for part in list.split(|b| *b == b',') {
        count += 1;
        let part = part.trim_ascii();
        let dash = part.iter().position(|b| *b == b'-')?;
        let number =
            |digits: &[u8]| core::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok());
        if let (Some(first), Some(last)) = (number(between(part, 0, dash)), number(from(part, dash + 1)))
            && last < first
        {
            return Some((75, "range"));
        }
        if count > RANGES {
            return Some((75, "ranges"));
        }
    }
    None
}

/// A charset in which markup is not written as markup: answers in it pass by filters.
fn accept(value: &[u8]) -> Odd {
    let mut index = 0;
    while let Some(start) = find(value, b"charset=", index) {
        if charset::named(from(value, start + 8)) != Charset::Ascii {
            return Some((74, "accept-charset"));
        }
        index = start + 8;
    }
    let strange = starts(value, b"${") || at(value, 0) == b'(' || value.contains(&b'<');
    strange.then_some((60, "accept"))
}

#[cfg(test)]
mod tests;
