//! The texts of a JSON document, without building it.
//!
//! A scan from string to string: nesting costs nothing, and a document that is cut off or broken yields what it holds.

use std::borrow::Cow;
use std::ops::ControlFlow;

use crate::bytes::{at, between, from, is_space, skip_space};
use crate::decode::hex_run;
use crate::inspector::{Flow, Part};

/// What a scan saw.
pub(crate) struct Read {
    /// Whether the caller wanted no more.
    pub flow: Flow,
    /// Nothing but JSON tokens was there; brackets and strings were closed.
    pub sound: bool,
    /// Nothing but JSON tokens was there, as far as it goes.
    pub beginning: bool,
}

/// Takes a key (given twice), or the key that a text stands under and the text.
pub(crate) type Each<'e> = dyn FnMut(Part, &[u8], &[u8]) -> Flow + 'e;

/// Calls `each` with every key and every text, unescaped; with a text comes the key that it stands under.
pub(crate) fn walk(text: &[u8], each: &mut Each<'_>) -> Read {
    let mut key: Cow<'_, [u8]> = Cow::Borrowed(b"");
    let (mut tokens, mut open) = (true, false);
    let mut depth = 0_i64;
    let mut index = 0;
    while let Some(byte) = text.get(index) {
        match byte {
            b'"' => {
                let (end, closed) = string_end(text, index + 1);
                let inside = unescape(between(text, index + 1, end));
                index = end + 1;
                open |= !closed;
                let is_key = at(text, skip_space(text, index)) == b':';
                let flow = if is_key {
                    each(Part::Name, &inside, &inside)
                } else {
                    each(Part::Value, &key, &inside)
                };
                if flow.is_break() {
                    return Read { flow, sound: false, beginning: false };
                }
                if is_key {
                    key = inside;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' | b':' | b'-' | b'+' | b'.' | b'0'..=b'9' => {}
            b't' | b'f' | b'n' | b'e' | b'E' => {
                let rest = from(text, index);
                let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word));
                let exponent = index > 0 && at(text, index - 1).is_ascii_digit();
                tokens &= word.is_some() || exponent;
                index += word.map_or(0, |word| word.len() - 1);
            }
            byte => tokens &= is_space(*byte),
        }
        index += 1;
    }
    let sound = tokens && !open && depth == 0;
    Read { flow: ControlFlow::Continue(()), sound, beginning: tokens && depth >= 0 }
}

/// Whether the text is a whole document, as far as [`walk`] can tell.
pub(crate) fn is_document(text: &[u8]) -> bool {
    walk(text, &mut |_, _, _| Flow::Continue(())).sound
}

/// The place of the quote that ends a string, and whether there is one.
fn string_end(text: &[u8], start: usize) -> (usize, bool) {
    let mut index = start;
    while let Some(byte) = text.get(index) {
        match byte {
            b'"' => return (index, true),
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    (text.len(), false)
}

/// Undoes the escapes of RFC 8259, section 7. What is no escape stays.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = text.iter().position(|b| *b == b'\\') else { return Cow::Borrowed(text) };
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
fn code_point(text: &[u8]) -> Option<(char, usize)> {
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
