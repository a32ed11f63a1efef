//! The values in a request's head: path, query, cookies, headers.

use std::borrow::Cow;

use portcullis_policy::Headers;

use crate::bytes::{from, starts};
use crate::config::Config;
use crate::decode::{self, percent};
use crate::inspector::{Flow, Inspector, Part};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};
use crate::place::Place;
use crate::{protocol, scanner, session, upload};

/// Inspects path, query, cookies and headers, as far as they are switched on.
pub(crate) fn inspect(config: &Config, headers: &Headers<'_>, inspector: &mut Inspector<'_>) -> Flow {
    let places = config.places;
    inspector.carried.foreign = session::foreign(headers);
    protocol::inspect(config, headers, inspector)?;
    for (name, value) in headers.iter() {
        if name == b":path" {
            let mut parts = value.splitn(2, |b| *b == b'?');
            let (path, query) = (parts.next().unwrap_or_default(), parts.next());
            if places.path {
                inspect_path(path, inspector)?;
            }
            if places.query
                && let Some(query) = query
            {
                pairs(query, Place::Query, inspector)?;
            }
            // Last, so that what the escapes hide is what is told.
            inspector.report(Place::Path, Part::Value, b"", protocol::escapes(value))?;
        } else if name.eq_ignore_ascii_case(b"cookie") {
            if places.cookies {
                cookies(value, inspector)?;
            }
        } else if places.headers && value.len() >= SHORTEST && (!is_protocol(name) || is_odd(name, value)) {
            inspector.value(Place::Header, name, value)?;
            if is_file_name(name) {
                inspector.report(Place::Header, Part::Value, name, upload::name(&percent(value, false)))?;
            }
        } else if places.headers && (value.contains(&b'$') || value.starts_with(b"()")) {
            inspector.logged(name, value)?;
        }
        if places.headers && name.eq_ignore_ascii_case(b"authorization") {
            credentials(name, value, inspector)?;
        }
    }
    Flow::Continue(())
}

/// What stands in the credentials of a request: a token's texts; user and password (RFC 7617), which applications look up as
/// those of a form.
fn credentials(name: &[u8], value: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    if starts(value, b"bearer ") {
        return inspector.packed(Place::Header, name, from(value, 7));
    }
    let text = if starts(value, b"basic ") { from(value, 6).trim_ascii() } else { b"" };
    let Some(pair) = decode::whole(text, Marks::of(text)) else { return Flow::Continue(()) };
    for part in pair.splitn(2, |b| *b == b':') {
        inspector.value(Place::Header, name, part)?;
    }
    Flow::Continue(())
}

/// Whether a header that carries only protocol holds a sign that none has, so that it is meant for somebody who logs it, or
/// looks it up.
fn is_odd(name: &[u8], value: &[u8]) -> bool {
    !name.starts_with(b":") && value.iter().any(|b| matches!(b, b'$' | b'<' | b'{' | b'`' | b'\''))
}

/// Headers in which upload scripts are told a file's name.
fn is_file_name(name: &[u8]) -> bool {
    let rest = [b'-', b'_', b'.'].iter().find_map(|joint| name.strip_prefix(&[b'x', *joint]));
    rest.is_some_and(|rest| [&b"filename"[..], b"file-name", b"file_name", b"file.name"].contains(&rest))
}

/// No attack in a header is shorter.
pub(crate) const SHORTEST: usize = 4;

/// The path as a whole, and its segments where one could be an attack by itself.
fn inspect_path(path: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    let decoded = percent(path, false);
    inspector.report(Place::Path, Part::Value, b"", scanner::probe(&decoded))?;
    inspector.look(Place::Path, Part::Value, b"", &decoded)?;
    let marks = Marks::of(&decoded);
    // An escape may hide a separator, so that a segment is a path or a URL of its own.
    if marks.may_be_sql()
        || path.contains(&b'%')
        || marks.any(marks::PERCENT | marks::SEMI | marks::PIPE | marks::AMP | marks::DOLLAR)
    {
        for segment in path.split(|b| *b == b'/').filter(|segment| segment.len() < path.len()) {
            inspector.look(Place::Path, Part::Value, b"", &percent(segment, false))?;
        }
    }
    Flow::Continue(())
}

/// Names and values of a query.
pub(crate) fn pairs(text: &[u8], place: Place, inspector: &mut Inspector<'_>) -> Flow {
    for pair in text.split(|b| *b == b'&') {
        one(pair, place, inspector)?;
    }
    Flow::Continue(())
}

/// A name and its value.
pub(crate) fn one(pair: &[u8], place: Place, inspector: &mut Inspector<'_>) -> Flow {
    if pair.is_empty() {
        return Flow::Continue(());
    }
    inspector.pair(place)?;
    let name = name(pair);
    // Where a name could not have such characters, the equals sign may be part of an attack.
    inspector.name(place, &name)?;
    let marks = Marks::of(&name);
    if name.len() < pair.len()
        && (marks.any(marks::QUOTE | marks::ANGLE | marks::PAREN) || marks.may_be_sql())
    {
        inspector.look(place, Part::Name, &name, &percent(pair, true))?;
    }
    match pair.iter().position(|b| *b == b'=').map(|equals| from(pair, equals + 1)) {
        Some(value) if !value.is_empty() => inspector.value(place, &name, &percent(value, true)),
        _ => Flow::Continue(()),
    }
}

/// A pair's name.
pub(crate) fn name(pair: &[u8]) -> Cow<'_, [u8]> {
    percent(pair.split(|b| *b == b'=').next().unwrap_or_default(), true)
}

/// Names and values of a `cookie` header (RFC 6265, 4.2).
fn cookies(text: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    for pair in text.split(|b| *b == b';') {
        let mut parts = pair.trim_ascii().splitn(2, |b| *b == b'=');
        let name = percent(parts.next().unwrap_or_default(), false);
        inspector.name(Place::Cookie, &name)?;
        if let Some(value) = parts.next() {
            let value = match value {
                [b'"', inner @ .., b'"'] => inner,
                other => other,
            };
            inspector.value(Place::Cookie, &name, &percent(value, false))?;
        }
    }
    Flow::Continue(())
}

/// Headers that carry only protocol, or a secret that applications verify before they read it. Sorted.
#[rustfmt::skip]
static PROTOCOL: Lexicon = Lexicon::new(&[
    "authorization", "cache-control", "connection", "content-encoding", "content-length", "date", "dnt",
    "etag", "expect", "host", "keep-alive", "max-forwards", "pragma", "priority", "proxy-authorization",
    "range", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
    "upgrade-insecure-requests", "via", "x-forwarded-proto", "x-request-id",
]);

/// Prefixes of further such headers: negotiation, conditions, client hints and fetch metadata, pseudo headers, Envoy's
/// own.
const PROTOCOL_PREFIXES: [&[u8]; 5] = [b":", b"accept", b"if-", b"sec-", b"x-envoy-"];

pub(crate) fn is_protocol(name: &[u8]) -> bool {
    PROTOCOL_PREFIXES.iter().any(|prefix| crate::bytes::starts(name, prefix)) || PROTOCOL.has(name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_sorted() {
        assert!(super::PROTOCOL.words().is_sorted());
        assert!(super::is_protocol(b"Sec-Fetch-Mode") && super::is_protocol(b"Range"));
        assert!(!super::is_protocol(b"referer") && !super::is_protocol(b"x-forwarded-for"));
    }
}
