//! The texts of a JSON document, without building it.
//!
//! A scan from string to string: nesting costs nothing, and a document that is cut off or broken yields what it holds.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::window::{Next, Window};
use crate::bytes::{at, between, either, from, is_space, is_word, skip_space};
use crate::decode::hex_run;
use crate::inspector::{Flow, Part};

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
    depth: i64,
}

impl Default for Scan {
    fn default() -> Self {
        Self { key: Vec::new(), inside: false, digit: false, tokens: true, depth: 0 }
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
                let End { place: end, closed, escapes } = string_end(text, start);
                let behind = skip_space(text, end + 1);
                let cut_off = behind >= text.len() && !window.last;
                if cut_off && !self.inside && window.leaves(index) {
                    break index;
                }
                let inside = between(text, start, end);
                let inside = if escapes { unescape(inside) } else { Cow::Borrowed(inside) };
                let is_key = !self.inside && at(text, behind) == b':';
                match is_key {
                    true => each(Part::Name, &inside, &inside)?,
                    false => each(Part::Value, &key, &inside)?,
                }
                self.inside = !closed && !window.last;
                if self.inside {
                    break before_escape(text, window.cut());
                }
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
pub(crate) fn walk(text: &[u8], each: &mut Each<'_>) -> Flow {
    match Scan::default().read(Window::whole(text), each) {
        ControlFlow::Continue(_) => ControlFlow::Continue(()),
        ControlFlow::Break(()) => ControlFlow::Break(()),
    }
}

/// Levels of a value that is taken for a document. What nests deeper is read as any other text.
const LEVELS: u32 = 64;

/// What may come next in a document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Value,
    /// The first of a list, or its end.
    Item,
    Key,
    /// The first of an object, or its end.
    Member,
    Colon,
    /// A comma, or the end of what is open.
    More,
}

/// Whether the text is one document of RFC 8259. What is taken for one is inspected text by text, without what stands around
/// them, so that in doubt a text is none: `{{7+7}}` has tokens of JSON alone.
pub(crate) fn is_document(text: &[u8]) -> bool {
    // What is open, the innermost as the lowest bit: 1 is an object.
    let (mut open, mut depth) = (0_u64, 0_u32);
    let (mut wants, mut index) = (Wants::Value, skip_space(text, 0));
    while let Some(byte) = text.get(index) {
        (wants, index) = match (wants, *byte) {
            (Wants::Value | Wants::Item, b'{' | b'[') if depth < LEVELS => {
                let object = *byte == b'{';
                (open, depth) = (open << 1 | u64::from(object), depth + 1);
                (if object { Wants::Member } else { Wants::Item }, index + 1)
            }
            (Wants::Member | Wants::More, b'}') if depth > 0 && open & 1 == 1 => {
                (open, depth) = (open >> 1, depth - 1);
                (Wants::More, index + 1)
            }
            (Wants::Item | Wants::More, b']') if depth > 0 && open & 1 == 0 => {
                (open, depth) = (open >> 1, depth - 1);
                (Wants::More, index + 1)
            }
            (Wants::More, b',') if depth > 0 => {
                (if open & 1 == 1 { Wants::Key } else { Wants::Value }, index + 1)
            }
            (Wants::Colon, b':') => (Wants::Value, index + 1),
            (Wants::Value | Wants::Item | Wants::Key | Wants::Member, b'"') => {
                let End { place, closed, .. } = string_end(text, index + 1);
                if !closed {
                    return false;
                }
                let is_key = matches!(wants, Wants::Key | Wants::Member);
                (if is_key { Wants::Colon } else { Wants::More }, place + 1)
            }
            (Wants::Value | Wants::Item, _) => match scalar(text, index) {
                Some(end) => (Wants::More, end),
                None => return false,
            },
            _ => return false,
        };
        index = skip_space(text, index);
    }
    wants == Wants::More && depth == 0
}

/// Where a number or a word ends.
fn scalar(text: &[u8], start: usize) -> Option<usize> {
    let rest = from(text, start);
    let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word));
    word.map_or_else(|| number(text, start), |word| Some(start + word.len()))
}

/// Where a number ends (RFC 8259, 6; GraphQL has the same).
pub(super) fn number(text: &[u8], start: usize) -> Option<usize> {
    let digits = |start: usize| start + from(text, start).iter().take_while(|b| b.is_ascii_digit()).count();
    let first = start + usize::from(at(text, start) == b'-');
    let mut end = digits(first);
    if end == first {
        return None;
    }
    if at(text, end) == b'.' {
        end = digits(end + 1);
    }
    if matches!(at(text, end), b'e' | b'E') {
        end = digits(end + 1 + usize::from(matches!(at(text, end + 1), b'+' | b'-')));
    }
    (!is_word(at(text, end)) && at(text, end) != b'.').then_some(end)
}

/// Where a string ends.
pub(crate) struct End {
    /// The quote that ends it; the text's end if there is none.
    pub place: usize,
    closed: bool,
    /// There is a backslash in it.
    escapes: bool,
}

pub(crate) fn string_end(text: &[u8], start: usize) -> End {
    let (mut index, mut escapes) = (start, false);
    while let Some(place) = either(from(text, index), b'"', b'\\') {
        index += place;
        if at(text, index) == b'"' {
            return End { place: index, closed: true, escapes };
        }
        (index, escapes) = (index + 2, true);
    }
    End { place: text.len(), closed: false, escapes }
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

    fn texts(text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let _ = walk(text.as_bytes(), &mut |part, key, text| {
            let text = String::from_utf8_lossy(text).into_owned();
            let key = String::from_utf8_lossy(key).into_owned();
            seen.push(if part == Part::Name { format!("{text}:") } else { format!("{key}={text}") });
            Flow::Continue(())
        });
        seen
    }

    #[test]
    fn keys_and_texts_are_yielded_unescaped() {
        let seen =
            texts(r#"{"a": "x\n\"\u003c\ud83d\ude00", "b" : [1, -2.5e3, "c", {"d": null}], "e": true}"#);
        assert_eq!(seen, ["a:", "a=x\n\"<😀", "b:", "b=c", "d:", "e:"]);
        assert_eq!(texts(r#""\q\u12\ud800x""#), ["=\\q\\u12\u{fffd}x"]);
    }

    #[test]
    fn what_is_broken_is_read_all_the_same() {
        for (text, count) in
            [("{\"a\": \"b", 2), ("[1] or 1=1", 0), ("{\"a\": 1", 1), ("[\"a\", tru]", 1), ("[\"a\\", 1)]
        {
            assert_eq!(texts(text).len(), count, "{text}");
        }
    }

    #[test]
    fn a_document_is_one_by_its_grammar() {
        for document in [
            r#"{}"#,
            r#" [ ] "#,
            r#"{"a": [1, -2.5e3, "c", {"d": null}], "e": true}"#,
            r#"[[], {}, [{"a": []}]]"#,
        ] {
            assert!(is_document(document.as_bytes()), "{document}");
        }
        for other in [
            "",
            "{",
            "{{7+7}}",
            r#"{{""["__class__"]}}"#,
            "[1+1]",
            "[1 2]",
            "[1,]",
            r#"{"a"}"#,
            r#"{"a": 1,}"#,
            r#"{"a": 1]"#,
            "[1]]",
            "[1] [2]",
            r#"["a]"#,
            "[true1]",
        ] {
            assert!(!is_document(other.as_bytes()), "{other}");
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(is_document(deep(64).as_bytes()) && !is_document(deep(65).as_bytes()));
    }
}
