//! What a body is, by its declared type and by its first bytes.

use super::multipart;
use crate::bytes::{at, between, find, from, skip_space, starts};

/// How a body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
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

/// Bytes behind white space that tell whether an opaque body is text after all.
const SNIFF: usize = 64;
impl Kind {
    /// What a content type declares.
    pub(crate) fn declared(content_type: &[u8]) -> Self {
        let end = content_type.iter().position(|b| matches!(b, b';' | b',')).unwrap_or(content_type.len());
        let essence = between(content_type, 0, end).trim_ascii_end();
        let ends = |suffix: &[u8]| {
            essence.len().checked_sub(suffix.len()).is_some_and(|cut| starts(from(essence, cut), suffix))
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

    /// What a body looks like by its first bytes.
    pub(crate) fn sniffed(text: &[u8]) -> Self {
        let start = skip_space(text, 0);
        let head = between(text, start, start + SNIFF);
        match (at(head, 0), at(head, 1)) {
            (b'{' | b'[', _) => Kind::Json,
            (b'<', second) if second.is_ascii_alphabetic() || matches!(second, b'?' | b'!') => Kind::Xml,
            (b'-', b'-') if find(between(text, start, start + 512), b"content-disposition", 0).is_some() => {
                let rest = from(text, start + 2);
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
}
