//! A request's body: what it is, how it is encoded, and what stands in it.
//!
//! The declared type decides how a body is read; if what it begins with looks like something else, it is read that way
//! too, because applications differ in which of the two they believe. A body is collected up to the window and inspected
//! once, so that where it was cut into chunks makes no difference.

pub(crate) mod charset;
pub(crate) mod graphql;
mod inflate;
pub(crate) mod json;
mod multipart;
mod xml;

use std::borrow::Cow;
use std::ops::ControlFlow;

use portcullis_policy::Headers;

use crate::bytes::{at, between, find, starts};
use crate::head::pairs;
use crate::inspector::{Flow, Inspector, Part};
use crate::place::Place;
use crate::upload;
use charset::Charset;
use inflate::End;

/// How a body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Form,
    Json,
    Xml,
    /// With its boundary.
    Multipart(Vec<u8>),
    Text,
    Graphql,
    /// No type is declared: it is what it looks like.
    Undeclared,
    /// Declared as images, archives and other content that is no text: looked at as a file, and as text only if it begins
    /// like JSON, XML or a form after all.
    Opaque,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
    /// Unknown here, or several in a row.
    Unknown,
}

/// A body that is being collected.
#[derive(Debug)]
pub(crate) struct Body {
    kind: Kind,
    encoding: Encoding,
    charset: Charset,
    /// The declared type, for what is looked at as a file; else empty.
    declared: Vec<u8>,
    bytes: Vec<u8>,
    window: usize,
    /// There was more than the window.
    oversize: bool,
}

/// What the inspection of a body says besides what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// There is more than was inspected.
    pub oversize: bool,
    /// It could not be decoded, or not to its end.
    pub undecodable: bool,
}

/// Bytes that tell whether an opaque body is text after all.
const SNIFF: usize = 64;

impl Body {
    /// A body to be collected, if its type is one to look at and it is a body at all.
    pub(crate) fn expected(headers: &Headers<'_>, window: usize) -> Option<Self> {
        // What follows an upgrade or CONNECT is a connection of its own.
        let tunnel = headers.first("upgrade").is_some() || headers.first(":method") == Some(b"CONNECT");
        let content_type = headers.first("content-type").unwrap_or_default().trim_ascii();
        if tunnel
            || starts(content_type, b"application/grpc")
            || headers.first("content-length") == Some(b"0")
        {
            return None;
        }
        let kind = kind(content_type);
        let as_file = kind == Kind::Opaque || starts(content_type, b"image/");
        Some(Self {
            declared: if as_file { between(content_type, 0, SNIFF).to_vec() } else { Vec::new() },
            kind,
            encoding: encoding(headers),
            charset: charset::declared(content_type),
            bytes: Vec::new(),
            window,
            oversize: false,
        })
    }

    /// Adds a chunk. True: nothing that follows will be looked at.
    pub(crate) fn add(&mut self, chunk: &[u8]) -> bool {
        let room = self.window - self.bytes.len();
        self.bytes.extend_from_slice(between(chunk, 0, room));
        self.oversize |= chunk.len() > room;
        self.oversize
    }

    /// Whether it is a file that no length is too much for.
    fn is_file(&self) -> bool {
        self.kind == Kind::Opaque && self.encoding == Encoding::Identity && sniff(&self.bytes) == Kind::Text
    }

    /// Inspects what was collected.
    pub(crate) fn inspect(&self, inspector: &mut Inspector<'_>) -> (Flow, Report) {
        let mut report = Report { oversize: self.oversize && !self.is_file(), undecodable: false };
        let (text, end) = match self.encoding {
            Encoding::Identity => (Cow::Borrowed(&self.bytes[..]), End::Whole),
            Encoding::Unknown => {
                // An empty body has no encoding, and content that is not looked at may have any.
                report.undecodable = !self.bytes.is_empty() && self.kind != Kind::Opaque;
                return (ControlFlow::Continue(()), report);
            }
            Encoding::Gzip => owned(inflate::gzip(&self.bytes, self.window)),
            Encoding::Deflate => owned(inflate::deflate(&self.bytes, self.window)),
        };
        report.oversize |= end == End::Full;
        let failed = end == End::Broken || end == End::Short && !self.oversize;
        report.undecodable = failed && !self.bytes.is_empty() && self.kind != Kind::Opaque;
        if !self.declared.is_empty() {
            let finding = upload::content(&self.declared, b"", &text);
            if inspector.report(Place::Text, Part::Value, b"", finding).is_break() {
                return (ControlFlow::Break(()), report);
            }
        }
        let wide = matches!(text.get(..2), Some(b"\xff\xfe" | b"\xfe\xff")) && self.kind != Kind::Opaque;
        let text = match self.charset {
            Charset::Utf16(order) => charset::utf16(&text, order),
            Charset::Ascii if wide => charset::utf16(&text, None),
            Charset::Ascii => return (read(&self.kind, strip(&text), inspector), report),
            Charset::Unknown => None,
        };
        let Some(text) = text else {
            report.undecodable |= !self.bytes.is_empty() && self.kind != Kind::Opaque;
            return (ControlFlow::Continue(()), report);
        };
        (read(&self.kind, strip(&text), inspector), report)
    }
}

/// Without the mark that some editors put in front of UTF-8.
fn strip(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn owned((text, end): (Vec<u8>, End)) -> (Cow<'static, [u8]>, End) {
    (Cow::Owned(text), end)
}

fn kind(content_type: &[u8]) -> Kind {
    let end = content_type.iter().position(|b| matches!(b, b';' | b',')).unwrap_or(content_type.len());
    let essence = between(content_type, 0, end).trim_ascii_end();
    let ends = |suffix: &[u8]| {
        essence
            .len()
            .checked_sub(suffix.len())
            .is_some_and(|cut| starts(crate::bytes::from(essence, cut), suffix))
    };
    if essence.is_empty() {
        Kind::Undeclared
    } else if ends(b"json") {
        Kind::Json
    } else if ends(b"xml") {
        Kind::Xml
    } else if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        Kind::Form
    } else if starts(essence, b"multipart/") {
        Kind::Multipart(multipart::boundary(content_type).to_vec())
    } else if ends(b"graphql") {
        Kind::Graphql
    } else if starts(essence, b"text/") || ends(b"javascript") {
        Kind::Text
    } else {
        Kind::Opaque
    }
}

fn encoding(headers: &Headers<'_>) -> Encoding {
    let mut found = Encoding::Identity;
    for name in headers.all("content-encoding").flat_map(|value| value.split(|b| *b == b',')) {
        let name = name.trim_ascii();
        let own = if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
            continue;
        } else if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            Encoding::Gzip
        } else if name.eq_ignore_ascii_case(b"deflate") {
            Encoding::Deflate
        } else {
            Encoding::Unknown
        };
        found = if found == Encoding::Identity { own } else { Encoding::Unknown };
    }
    found
}

/// What a body looks like by its first bytes.
fn sniff(text: &[u8]) -> Kind {
    let start = crate::bytes::skip_space(between(text, 0, SNIFF), 0);
    let head = between(text, start, SNIFF);
    match (at(head, 0), at(head, 1)) {
        (b'{' | b'[', _) => Kind::Json,
        (b'<', second) if second.is_ascii_alphabetic() || matches!(second, b'?' | b'!') => Kind::Xml,
        (b'-', b'-') if find(between(text, start, 512), b"content-disposition", 0).is_some() => {
            let rest = crate::bytes::from(text, start + 2);
            let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
            Kind::Multipart(between(rest, 0, end).to_vec())
        }
        _ => {
            let plain = |b: &u8| {
                b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'[' | b']' | b'%' | b'+')
            };
            let name = head.iter().take_while(|b| plain(b)).count();
            if name > 0 && matches!(at(head, name), b'=' | b'&') { Kind::Form } else { Kind::Text }
        }
    }
}

/// Reads a body as what it is declared to be, and as what it looks like where that is something else.
fn read(kind: &Kind, text: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    let looks = sniff(text);
    read_as(kind, text, inspector)?;
    let declared = !matches!(kind, Kind::Undeclared | Kind::Opaque);
    match (&looks, kind) {
        (looks, kind) if looks == kind => ControlFlow::Continue(()),
        // Text of its own kind says nothing against the declaration; a boundary was declared elsewhere.
        (Kind::Text, Kind::Opaque) => ControlFlow::Continue(()),
        (Kind::Text, _) if declared && *kind != Kind::Xml => ControlFlow::Continue(()),
        (Kind::Multipart(_), Kind::Multipart(_)) => ControlFlow::Continue(()),
        (looks, _) => read_as(looks, text, inspector),
    }
}

fn read_as(kind: &Kind, text: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    match kind {
        Kind::Form => pairs(text, Place::Form, inspector),
        Kind::Json => {
            let read = json::walk(text, &mut |part, name, text| {
                if part == Part::Value && graphql::is_document(text) {
                    return inspector.graphql(Place::Graphql, name, text);
                }
                inspector.look(Place::Json, part, name, text)
            });
            read.flow?;
            // Not JSON after all: what stands between the strings counts as well.
            if read.beginning {
                return ControlFlow::Continue(());
            }
            inspector.look(Place::Text, Part::Value, b"", text)
        }
        Kind::Xml => xml::inspect(text, inspector),
        Kind::Multipart(boundary) => multipart::inspect(text, boundary, inspector),
        Kind::Graphql if graphql::is_document(text) => inspector.graphql(Place::Graphql, b"", text),
        Kind::Text | Kind::Graphql => inspector.look(Place::Text, Part::Value, b"", text),
        Kind::Undeclared | Kind::Opaque => ControlFlow::Continue(()),
    }
}

#[cfg(test)]
mod tests;
