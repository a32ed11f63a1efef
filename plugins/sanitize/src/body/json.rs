//! The texts of a JSON document, without building it.
//!
//! A scan from string to string: nesting costs nothing, and a document that is cut off or broken yields what it holds.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::window::{Next, Window};
use crate::bytes::{at, between, either, from, is_space, skip_space};
use crate::decode::hex_run;
use crate::inspector::{Flow, Part};

/// What a scan saw.
pub(crate) struct Read {
    /// Whether the caller wanted no more.
    pub flow: Flow,
    /// Nothing but JSON tokens was there; brackets and strings were closed.
    pub sound: bool,
}

/// Takes a key (given twice), or the key that a text stands under and the text.
pub(crate) type Each<'e> = dyn FnMut(Part, &[u8], &[u8]) -> Flow + 'e;

/// A document that is being read.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    /// The key that a text stands under.
    key: Vec<u8>,
    /// The window begins in a text.
    inside: bool,
    /// It begins behind a digit.
    digit: bool,
    tokens: bool,
    open: bool,
    depth: i64,
}

impl Default for Scan {
    fn default() -> Self {
        Self { key: Vec::new(), inside: false, digit: false, tokens: true, open: false, depth: 0 }
    }
}

/// Bytes of the longest token but texts, and one more.
const TOKEN: usize = 6;

impl Scan {
    /// Nothing but JSON tokens was there, so far.
    pub(crate) fn is_json(&self) -> bool {
        self.tokens && self.depth >= 0
    }

    /// Calls `each` with every key and every text, unescaped; with a text comes the key that it stands under.
    pub(crate) fn read(&mut self, window: Window<'_>, each: &mut Each<'_>) -> Next {
        let text = window.text;
        let mut key: Cow<'_, [u8]> = Cow::Owned(std::mem::take(&mut self.key));
        let mut index = 0;
        let next = loop {
            let Some(byte) = text.get(index) else { break index };
            if *byte == b'"' || self.inside {
                let start = if self.inside { index } else { index + 1 };
                let (end, closed) = string_end(text, start);
                let behind = skip_space(text, end + 1);
                let cut_off = behind >= text.len() && !window.last;
                if cut_off && !self.inside && window.leaves(index) {
                    break index;
                }
                let inside = unescape(between(text, start, end));
                let is_key = !self.inside && at(text, behind) == b':';
                match is_key {
                    true => each(Part::Name, &inside, &inside)?,
                    false => each(Part::Value, &key, &inside)?,
                }
                self.inside = !closed && !window.last;
                if self.inside {
                    break before_escape(text, window.cut());
                }
                self.open |= !closed;
                if is_key {
                    key = inside;
                }
                index = end + 1;
                continue;
            }
            if !window.last && index + TOKEN > text.len() {
                break index;
            }
            index += self.token(text, index);
        };
        if !window.last {
            self.key = key.into_owned();
            self.digit = next > 0 && at(text, next - 1).is_ascii_digit();
        }
        ControlFlow::Continue(next.min(text.len()))
    }

    /// The length of what is no text.
    fn token(&mut self, text: &[u8], index: usize) -> usize {
        match at(text, index) {
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' | b':' | b'-' | b'+' | b'.' | b'0'..=b'9' => {}
            b't' | b'f' | b'n' | b'e' | b'E' => {
                let rest = from(text, index);
                let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word));
                let exponent = if index > 0 { at(text, index - 1).is_ascii_digit() } else { self.digit };
                self.tokens &= word.is_some() || exponent;
                return word.map_or(1, <[u8]>::len);
            }
            byte => self.tokens &= is_space(byte),
        }
        1
    }
}

/// That place, or the backslash before it, if that begins an escape.
fn before_escape(text: &[u8], place: usize) -> usize {
    let backslashes = between(text, 0, place).iter().rev().take_while(|b| **b == b'\\').count();
    place - backslashes % 2
}

/// Calls `each` with every key and every text of a whole document.
pub(crate) fn walk(text: &[u8], each: &mut Each<'_>) -> Read {
    let mut scan = Scan::default();
    let flow = match scan.read(Window::whole(text), each) {
        ControlFlow::Continue(_) => ControlFlow::Continue(()),
        ControlFlow::Break(()) => ControlFlow::Break(()),
    };
    Read { flow, sound: scan.tokens && !scan.open && scan.depth == 0 }
}

/// Whether the text is a whole document, as far as [`walk`] can tell.
pub(crate) fn is_document(text: &[u8]) -> bool {
    walk(text, &mut |_, _, _| Flow::Continue(())).sound
}

/// The place of the quote that ends a string, and whether there is one.
pub(crate) fn string_end(text: &[u8], start: usize) -> (usize, bool) {
    let mut index = start;
    while let Some(place) = either(from(text, index), b'"', b'\\') {
        index += place;
        if at(text, index) == b'"' {
            return (index, true);
        }
        index += 2;
    }
    (text.len(), false)
}

/// Undoes the escapes of RFC 8259, section 7. What is no escape stays.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = either(text, b'\\', b'\\') else { return Cow::Borrowed(text) };
    let mut out = between(text, 0, first).to_vec();
    let mut index = first;
    while let Some(byte) = text.get(index) {
        if *byte != b'\\' {
            out.push(*byte);
            index += 1;
            continue;
        }
        let single = match at(text, index + 1) {
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'b' => Some(8),
            b'f' => Some(12),
            escaped @ (b'"' | b'\\' | b'/') => Some(escaped),
            _ => None,
        };
        if let Some(single) = single {
            out.push(single);
            index += 2;
        } else if let Some((character, length)) = code_point(from(text, index)) {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            index += length;
        } else {
            out.push(b'\\');
            index += 1;
        }
    }
    Cow::Owned(out)
}

/// `\uXXXX`, a pair of surrogates included: the character and the length of the escape.
pub(crate) fn code_point(text: &[u8]) -> Option<(char, usize)> {
    let unit = |start: usize| match (between(text, start, start + 2), hex_run(from(text, start + 2), 4)) {
        (b"\\u", (unit, 4)) => Some(unit),
        _ => None,
    };
    let first = unit(0)?;
    if let (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) = (first, unit(6)) {
        let point = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Some((char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER), 12));
    }
    Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> (Vec<String>, bool) {
        let mut seen = Vec::new();
        let read = walk(text.as_bytes(), &mut |part, key, text| {
            let text = String::from_utf8_lossy(text).into_owned();
            let key = String::from_utf8_lossy(key).into_owned();
            seen.push(if part == Part::Name { format!("{text}:") } else { format!("{key}={text}") });
            Flow::Continue(())
        });
        (seen, read.sound)
    }

    #[test]
    fn keys_and_texts_are_yielded_unescaped() {
        let (seen, sound) =
            texts(r#"{"a": "x\n\"\u003c\ud83d\ude00", "b" : [1, -2.5e3, "c", {"d": null}], "e": true}"#);
        assert_eq!(seen, ["a:", "a=x\n\"<😀", "b:", "b=c", "d:", "e:"]);
        assert!(sound);
        assert_eq!(texts(r#""\q\u12\ud800x""#).0, ["=\\q\\u12\u{fffd}x"]);
    }

    #[test]
    fn what_is_broken_is_told_and_still_read() {
        for (text, count) in
            [("{\"a\": \"b", 2), ("[1] or 1=1", 0), ("{\"a\": 1", 1), ("[\"a\", tru]", 1), ("[\"a\\", 1)]
        {
            let (seen, sound) = texts(text);
            assert!(!sound, "{text}");
            assert_eq!(seen.len(), count, "{text}");
        }
        assert!(texts("[1]\n[2]\n").1);
    }
}
