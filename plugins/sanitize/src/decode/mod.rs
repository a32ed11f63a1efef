//! The forms in which an application may come to see a value.
//!
//! A value arrives encoded in the way its place prescribes (percent escapes in a query) and often in further ways that
//! applications, templates and browsers undo later. [`peel`] undoes them all in one pass: percent escapes, `%uXXXX`,
//! HTML character references, `\uXXXX`, `\xXX` and `\74`, UTF-7, overlong UTF-8, full-width letters, and NUL bytes. Passes
//! are repeated [`ROUNDS`] times at most; no pass makes a value longer, so decoding is linear and ends. A backslash with
//! digits means one thing in script and another in a style sheet, so [`peel_style`] reads those on their own.
//!
//! [`whole`] tries what a value could be as a whole: base64 or hexadecimal digits.

mod base64;
mod entity;
mod escape;
mod hex;
mod utf7;

use std::borrow::Cow;

use crate::bytes::{at, between, either, find, from};
use crate::marks::{self, Marks};

/// How often a value is decoded again while that changes it.
pub const ROUNDS: usize = 4;

/// Undoes percent escapes once, as the query and form parsers of applications do. What is no escape stays.
pub fn percent(value: &[u8], plus_is_space: bool) -> Cow<'_, [u8]> {
    let plus = if plus_is_space { b'+' } else { b'%' };
    let Some(first) = either(value, b'%', plus) else { return Cow::Borrowed(value) };
    let mut out = Vec::with_capacity(value.len());
    out.extend_from_slice(between(value, 0, first));
    let mut index = first;
    while let Some(byte) = value.get(index) {
        match (byte, escape::hex_pair(from(value, index + 1))) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                index += 3;
            }
            (b'+', _) if plus_is_space => {
                out.push(b' ');
                index += 1;
            }
            _ => {
                out.push(*byte);
                index += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// What is shorter is never decoded as a whole.
pub const SHORTEST: usize = base64::SHORTEST;

/// What a value that is encoded as a whole holds, if that is text: base64, also behind `data:...;base64,`, or hexadecimal
/// digits. `marks` are those of the value.
pub fn whole(value: &[u8], marks: Marks) -> Option<Vec<u8>> {
    if base64::plausible(value, marks) {
        return base64::decode(value, marks).or_else(|| hex::decode(value));
    }
    if !marks.any(marks::SEMI) || !marks.any(marks::COLON) {
        return None;
    }
    let data = find(between(value, 0, MIME), b";base64,", 0)?;
    base64::decode(from(value, data + 8), marks)
}

/// Bytes in which a `data:` URL names its type.
const MIME: usize = 128;

/// Undoes every encoding that is known here, until nothing changes or [`ROUNDS`] are over. `None` when there was
/// nothing to undo.
pub fn peel(value: &[u8]) -> Option<Vec<u8>> {
    let mut current = pass(value, Backslash::Script)?;
    for _ in 1..ROUNDS {
        match pass(&current, Backslash::Script) {
            Some(next) => current = next,
            None => break,
        }
    }
    Some(current)
}

/// Undoes the escapes of style sheets (CSS Syntax 3, 4.3.7) where they spell ASCII; `None` when there are none.
pub fn peel_style(value: &[u8]) -> Option<Vec<u8>> {
    let escaped = value.windows(2).any(|pair| matches!(pair, [b'\\', digit] if digit.is_ascii_hexdigit()));
    if escaped { pass(value, Backslash::Style) } else { None }
}

/// Takes comments out of words: `un/**/ion`. `None` when there are none in words.
pub fn without_comments(value: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut index = 0;
    while let Some(start) = find(value, b"/*", index) {
        let Some(end) = find(value, b"*/", start + 2).map(|end| end + 2) else { break };
        let in_word = start > 0 && at(value, start - 1).is_ascii_alphabetic();
        if in_word && at(value, end).is_ascii_alphabetic() {
            out.get_or_insert_default().extend_from_slice(between(value, copied, start));
            copied = end;
        }
        index = end;
    }
    let mut out = out?;
    out.extend_from_slice(from(value, copied));
    Some(out)
}

/// What a backslash with digits stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backslash {
    /// `\u003c`, `\x3c`, `\74`.
    Script,
    /// `\3c `, `\00003c`.
    Style,
}

/// One pass over all encodings; `None` when it changes nothing.
fn pass(value: &[u8], backslash: Backslash) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut index = 0;
    while let Some(byte) = value.get(index) {
        if *byte == b'+' && at(value, index + 1) == b'A' {
            let out = out.get_or_insert_with(|| between(value, 0, index).to_vec());
            index += utf7::run(from(value, index), out);
            continue;
        }
        match unit(value, index, backslash) {
            Some((text, taken)) => {
                let out = out.get_or_insert_with(|| between(value, 0, index).to_vec());
                if let Some(text) = text {
                    push(out, text);
                }
                index += taken;
            }
            None => {
                if let Some(out) = &mut out {
                    out.push(*byte);
                }
                index += 1;
            }
        }
    }
    out
}

/// What is encoded at a place of a value, in any encoding but UTF-7; `None` when nothing is.
#[inline]
pub(crate) fn unit(value: &[u8], index: usize, backslash: Backslash) -> Decoded {
    let rest = from(value, index);
    match at(value, index) {
        b'%' => escape::percent(rest),
        b'&' => entity::reference(rest),
        b'\\' if backslash == Backslash::Script => escape::backslash(rest),
        b'\\' => escape::style(rest),
        0 => Some((None, 1)),
        // Alone, behind ASCII: of Latin 1, or of ASCII with the eighth bit set.
        byte @ 0x80..=0xbf if index == 0 || at(value, index - 1) < 0x80 => escape::narrow(byte),
        0x80..=0xff => escape::wide(rest),
        _ => None,
    }
}

/// What a decoder yields: the character (none for what vanishes) and how many bytes it took.
pub(crate) type Decoded = Option<(Option<Text>, usize)>;

/// A decoded character: a byte as such, or a code point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// A byte of whatever charset the application uses.
    Byte(u8),
    /// A Unicode code point.
    Point(u32),
}

/// Adds a decoded character, as the ASCII character that it may become.
pub(crate) fn push(out: &mut Vec<u8>, text: Text) {
    match text {
        Text::Byte(byte) => out.push(byte),
        Text::Point(point) => match best_fit(point) {
            Some(ascii) => out.push(ascii),
            None => {
                let mut buffer = [0; 4];
                let character = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
        },
    }
}

/// What a character becomes when a component maps it to the nearest one of ASCII: full-width forms and the slashes,
/// dots and quotes that Windows code pages fold (Microsoft's bestfit1252 and its like).
pub(crate) fn best_fit(point: u32) -> Option<u8> {
    match point {
        1..=0x7f => u8::try_from(point).ok(),
        0xff01..=0xff5e => u8::try_from(point - 0xff01 + 0x21).ok(),
        0x2215 | 0x2044 | 0x29f8 => Some(b'/'),
        0x2216 | 0x29f5 | 0xfe68 => Some(b'\\'),
        0x2024 | 0xfe52 => Some(b'.'),
        0x02b9 | 0x02bc | 0x2032 => Some(b'\''),
        0x2033 | 0x02ba => Some(b'"'),
        // As ASCII with the eighth bit set: `<` and `>` to browsers of old.
        0xbc => Some(b'<'),
        0xbe => Some(b'>'),
        0x2039 | 0x3008 | 0xfe64 => Some(b'<'),
        0x203a | 0x3009 | 0xfe65 => Some(b'>'),
        _ => None,
    }
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

/// Reads up to `most` hexadecimal digits; the number and how many there were.
pub(crate) fn hex_run(bytes: &[u8], most: usize) -> (u32, usize) {
    let mut number: u32 = 0;
    let mut count = 0;
    while count < most {
        let Some(digit) = hex(at(bytes, count)) else { break };
        number = number.saturating_mul(16).saturating_add(digit);
        count += 1;
    }
    (number, count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peeled(text: &[u8]) -> String {
        String::from_utf8_lossy(&peel(text).unwrap_or_else(|| text.to_vec())).into_owned()
    }

    #[test]
    fn every_encoding_is_undone() {
        for encoded in [
            &b"<a>"[..],
            b"%3Ca%3e",
            b"%253Ca%25253E",
            b"%u003ca%U003E",
            b"&lt;a&gt;",
            b"&#60;a&#x3e;",
            b"&#0000060a&#62",
            b"&LT;a&gt",
            b"\\u003ca\\u003E",
            b"\\x3ca\\x3E",
            b"\\u{3c}a\\u{00003e}",
            b"\xc0\xbca\xc0\xbe",
            b"\xe0\x80\xbca\xe0\x80\xbe",
            b"%c0%bca%e0%80%be",
            "\u{ff1c}a\u{ff1e}".as_bytes(),
            b"%uff1ca%uff1e",
            b"<\0a%00>",
            b"%26lt%3Ba%26%2362%3B",
            b"\\74a\\076",
            b"+ADw-a+AD4-",
            b"+ADwAYQA+-",
            b"\xbca\xbe",
            b"\\xbca\\xbe",
        ] {
            assert_eq!(peeled(encoded), "<a>", "{}", String::from_utf8_lossy(encoded));
        }
    }

    #[test]
    fn what_is_no_encoding_stays() {
        for text in [
            "100%",
            "50% off",
            "a&b",
            "AT&T",
            "&notaname;",
            "\\u12",
            "\\xz",
            "C:\\users",
            "Grüße 世界 🙂",
            "%zz",
            "C:\\2024\\99",
            "a+ABC+A",
            "+A1",
            "\u{43c}\u{43e}",
        ] {
            assert_eq!(peeled(text.as_bytes()), text);
        }
        assert_eq!(&*percent(b"a+b%20c%2", true), b"a b c%2");
        assert_eq!(&*percent(b"a+b", false), b"a+b");
    }

    #[test]
    fn style_sheets_have_escapes_of_their_own() {
        assert_eq!(peel_style(b"\\3c a\\00003e").unwrap(), b"<a>");
        assert_eq!(peel_style(b"C:\\feb\\data"), None);
    }

    #[test]
    fn comments_leave_words() {
        assert_eq!(without_comments(b"un/**/ion sel/*x*/ect").unwrap(), b"union select");
        assert_eq!(without_comments(b"1/**/union /* a */ b /*"), None);
    }

    #[test]
    fn a_value_may_be_encoded_as_a_whole() {
        let of = |text: &str| whole(text.as_bytes(), Marks::of(text.as_bytes()));
        for text in [
            "PHNjcmlwdD5nbygpPC9zY3JpcHQ+",
            "3c7363726970743e676f28293c2f7363726970743e",
            "0x3C7363726970743E676F28293C2F7363726970743E",
            "data:text/plain;base64,PHNjcmlwdD5nbygpPC9zY3JpcHQ+",
        ] {
            assert_eq!(of(text).unwrap(), b"<script>go()</script>", "{text}");
        }
        for text in
            ["0123456789abcdef0123456789abcdef", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "data:,x"]
        {
            assert_eq!(of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn decoding_ends_and_never_grows(value in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(decoded) = peel(&value) {
                prop_assert!(decoded.len() <= value.len());
            }
            prop_assert!(percent(&value, true).len() <= value.len());
            for decoded in [whole(&value, Marks::of(&value)), peel_style(&value), without_comments(&value)] {
                prop_assert!(decoded.is_none_or(|decoded| decoded.len() <= value.len()));
            }
        }

        #[test]
        fn a_value_that_is_percent_encoded_comes_back(value in proptest::collection::vec(1_u8..0x80, 0..80)) {
            let mut encoded = String::new();
            for byte in &value {
                encoded.push_str(&format!("%{byte:02x}"));
            }
            prop_assert_eq!(&*percent(encoded.as_bytes(), true), &value[..]);
        }
    }
}
