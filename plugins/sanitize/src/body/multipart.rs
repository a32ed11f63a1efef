//! Fields and file names of a multipart form (RFC 7578), without copying them.
//!
//! The content of files is not looked at: it is what users upload.

use std::ops::ControlFlow;

use crate::bytes::{at, between, find, from, starts};
use crate::decode::percent;
use crate::inspector::{Flow, Inspector};
use crate::place::Place;

/// Parts that are read. More: the rest of the body is one text.
const PARTS: usize = 1000;

/// The boundary in a content type; empty when there is none.
pub(crate) fn boundary(content_type: &[u8]) -> &[u8] {
    let Some(start) = find(content_type, b"boundary=", 0) else { return b"" };
    quoted_or_token(from(content_type, start + 9))
}

/// Inspects the parts between the boundaries.
pub(crate) fn inspect(body: &[u8], boundary: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    let mut delimiter = b"--".to_vec();
    delimiter.extend_from_slice(boundary);
    let mut index = match position(body, &delimiter) {
        Some(first) if !boundary.is_empty() => first + delimiter.len(),
        // Not what it is said to be, or cut off: whoever reads it may read it otherwise.
        _ => return inspector.look(Place::Text, crate::inspector::Part::Value, b"", body),
    };
    for _ in 0..PARTS {
        if starts(from(body, index), b"--") || index >= body.len() {
            return ControlFlow::Continue(());
        }
        let rest = from(body, index);
        let length = position(rest, &delimiter).unwrap_or(rest.len());
        part(between(rest, 0, length), inspector)?;
        index += length + delimiter.len();
    }
    inspector.look(Place::Text, crate::inspector::Part::Value, b"", from(body, index))
}

/// Where a delimiter starts.
fn position(body: &[u8], delimiter: &[u8]) -> Option<usize> {
    let first = *delimiter.first()?;
    let mut index = 0;
    loop {
        index += from(body, index).iter().position(|b| *b == first)?;
        if from(body, index).starts_with(delimiter) {
            return Some(index);
        }
        // A run of dashes is read once: only its last two can begin the delimiter.
        let dashes = from(body, index).iter().take_while(|b| **b == first).count();
        let own = delimiter.iter().take_while(|b| **b == first).count();
        index += dashes.saturating_sub(own).max(1);
    }
}

fn part(part: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    let (head, content) = match (find(part, b"\r\n\r\n", 0), find(between(part, 0, 4096), b"\n\n", 0)) {
        (Some(crlf), None) => (between(part, 0, crlf), from(part, crlf + 4)),
        (Some(crlf), Some(lf)) if crlf < lf => (between(part, 0, crlf), from(part, crlf + 4)),
        (_, Some(lf)) => (between(part, 0, lf), from(part, lf + 2)),
        (None, None) => (part, &b""[..]),
    };
    let name = parameter(head, b"name");
    let name = name.unwrap_or_default();
    inspector.name(Place::Multipart, name)?;
    let plain = parameter(head, b"filename");
    let extended = parameter(head, b"filename*");
    if plain.is_none() && extended.is_none() {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        return inspector.value(Place::Multipart, name, content);
    }
    for file in [plain, extended].into_iter().flatten() {
        inspector.value(Place::Multipart, name, &percent(file, false))?;
    }
    ControlFlow::Continue(())
}

/// A parameter of `content-disposition`, by its lower-case name.
fn parameter<'a>(head: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut index = 0;
    while let Some(offset) = from(head, index).iter().position(|b| *b == b';') {
        index += offset + 1;
        while matches!(at(head, index), b' ' | b'\t' | b'\r' | b'\n') {
            index += 1;
        }
        let rest = from(head, index);
        if starts(rest, wanted) && at(rest, wanted.len()) == b'=' {
            return Some(quoted_or_token(from(rest, wanted.len() + 1)));
        }
    }
    None
}

fn quoted_or_token(text: &[u8]) -> &[u8] {
    if let [b'"', inside @ ..] = text {
        return between(inside, 0, inside.iter().position(|b| *b == b'"').unwrap_or(inside.len()));
    }
    let end = text.iter().position(|b| matches!(b, b';' | b' ' | b'\r' | b'\n')).unwrap_or(text.len());
    between(text, 0, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_they_are_sent() {
        let head = b"Content-Disposition: form-data; name=\"a b\"; filename=x.png\r\nContent-Type: image/png";
        assert_eq!(parameter(head, b"name"), Some(&b"a b"[..]));
        assert_eq!(parameter(head, b"filename"), Some(&b"x.png"[..]));
        assert_eq!(parameter(head, b"filename*"), None);
        assert_eq!(boundary(b"multipart/form-data; boundary=\"x y\""), b"x y");
        assert_eq!(boundary(b"multipart/form-data; Boundary=abc; charset=utf-8"), b"abc");
        assert_eq!(boundary(b"multipart/form-data"), b"");
    }

    #[test]
    fn delimiters_are_found_behind_dashes() {
        assert_eq!(position(b"-----xy", b"--xy"), Some(3));
        assert_eq!(position(b"a-b--x--xy", b"--xy"), Some(6));
        assert_eq!(position(b"------", b"--xy"), None);
    }
}
