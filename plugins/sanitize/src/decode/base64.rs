//! Base64, tried on values that could be nothing else.

use crate::bytes::between;
use crate::marks::{self, Marks};

/// Shorter text is not worth an attempt.
pub(super) const SHORTEST: usize = 8;

/// Decodes a value that is base64 or base64url as a whole, when what comes out is text. The first bytes decide about
/// almost every identifier that only looks the part, so the attempt costs little.
pub(super) fn decode(value: &[u8], marks: Marks) -> Option<Vec<u8>> {
    // Mail breaks the lines of base64.
    let joined: Vec<u8>;
    let value = if marks.any(marks::LINE) {
        joined = value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        &joined
    } else {
        value
    };
    let body = strip_padding(value);
    if value.len() < SHORTEST || body.len() % 4 == 1 {
        return None;
    }
    // Most identifiers leave at their first byte.
    let (first, _) = quad_bytes(between(body, 0, 4))?;
    let climbs = may_climb(&first);
    if odd(&first) > 0 && !climbs {
        return None;
    }
    let mut head = [0; 9];
    for (slot, quad) in head.chunks_mut(3).zip(body.chunks(4)) {
        let (bytes, _) = quad_bytes(quad)?;
        slot.copy_from_slice(&bytes);
    }
    let head = between(&head, 0, body.len() / 4 * 3);
    if !climbs && odd(head) > 0 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 3);
    for quad in body.chunks(4) {
        let (bytes, count) = quad_bytes(quad)?;
        out.extend_from_slice(between(&bytes, 0, count));
    }
    (climbs || odd(&out) * 10 <= out.len()).then_some(out)
}

/// Whether a path that climbs may start with these bytes: such a path may go on in bytes that are no text.
pub(super) fn may_climb(first: &[u8]) -> bool {
    matches!(first, [b'.', b'.' | 0..=0x1f | 0x80.., ..] | [b'/' | b'\\', b'.' | 0xc0 | 0xc1, ..])
        || matches!(first, [0xc0 | 0xc1, ..] | [0xe0, 0x80, ..])
}

/// How many bytes are no text: neither ASCII nor part of a character in UTF-8. NUL counts as text, as UTF-16 and some
/// attacks have it. A character that is cut off at the end counts as whole.
pub(super) fn odd(text: &[u8]) -> usize {
    let mut odd = 0;
    let mut index = 0;
    while let Some(byte) = text.get(index) {
        let more = match byte {
            // The last two begin overlong ASCII, and nothing else.
            0 | 9..=13 | 0x20..=0x7e | 0xc0 | 0xc1 => 0,
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => {
                odd += 1;
                0
            }
        };
        let rest = between(text, index + 1, index + 1 + more);
        if rest.iter().any(|b| b & 0xc0 != 0x80) {
            odd += 1;
            index += 1;
        } else {
            index += 1 + more;
        }
    }
    odd
}

fn strip_padding(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"=").unwrap_or(value);
    value.strip_suffix(b"=").unwrap_or(value)
}

fn quad_bytes(quad: &[u8]) -> Option<([u8; 3], usize)> {
    let mut bits: u32 = 0;
    for index in 0..4 {
        let digit = match quad.get(index) {
            Some(byte) => digit(*byte)?,
            None => 0,
        };
        bits = bits << 6 | digit;
    }
    let [_, a, b, c] = bits.to_be_bytes();
    Some(([a, b, c], quad.len().saturating_sub(1)))
}

pub(super) fn digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        // A form parser has made spaces of plus signs.
        b'+' | b'-' | b' ' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Whether the value may be base64: a cheap test before [`decode`]. Anything but letters, digits and the four signs of
/// the two alphabets rules it out.
pub(super) fn plausible(value: &[u8], marks: Marks) -> bool {
    let other = marks::QUOTE
        | marks::ANGLE
        | marks::PERCENT
        | marks::AMP
        | marks::BACKSLASH
        | marks::PAREN
        | marks::SEMI
        | marks::PIPE
        | marks::DOLLAR
        | marks::CONTROL
        | marks::HIGH
        | marks::DOT
        | marks::COLON
        | marks::BRACE;
    value.len() >= SHORTEST && !marks.any(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(value: &[u8]) -> Option<Vec<u8>> {
        super::decode(value, Marks::of(value))
    }

    #[test]
    fn text_comes_out_and_identifiers_do_not() {
        assert_eq!(decode(b"PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==").unwrap(), b"<script>alert(1)</script>");
        assert_eq!(decode(b"PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg").unwrap(), b"<script>alert(1)</script>");
        assert_eq!(decode(b"Li4vLi4vZXRjL3Bhc3N3ZA==").unwrap(), b"../../etc/passwd");
        for no in [
            "",
            "abc",
            "0a1b2c3d4e5f60718293a4b5",
            "administrator",
            "Internationalization",
            "d41d8cd98f00b204",
        ] {
            assert!(decode(no.as_bytes()).is_none(), "{no}");
        }
    }
}
