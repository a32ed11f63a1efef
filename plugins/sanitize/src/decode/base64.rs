//! Base64, tried on values that could be nothing else.

use crate::marks::{self, Marks};

/// Shorter text is not worth an attempt: an attack of eight bytes has eleven letters and more.
const SHORTEST: usize = 11;

/// Decodes a value that is base64 or base64url as a whole, when what comes out is text. The first bytes decide about
/// almost every identifier that only looks the part, so the attempt costs little.
pub fn decode(value: &[u8]) -> Option<Vec<u8>> {
    let body = strip_padding(value);
    if body.len() < SHORTEST || body.len() % 4 == 1 {
        return None;
    }
    let mut head = [0; 9];
    let mut quads = body.chunks(4);
    for (slot, quad) in head.chunks_mut(3).zip(quads.by_ref()) {
        let (bytes, count) = quad_bytes(quad)?;
        if !bytes.iter().take(count).all(|b| is_text(*b)) {
            return None;
        }
        slot.copy_from_slice(&bytes);
    }
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 3);
    let mut odd = 0_usize;
    for quad in body.chunks(4) {
        let (bytes, count) = quad_bytes(quad)?;
        for byte in bytes.iter().take(count) {
            odd += usize::from(!is_text(*byte));
            out.push(*byte);
        }
    }
    (odd * 10 <= out.len()).then_some(out)
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

fn digit(byte: u8) -> Option<u32> {
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

const fn is_text(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\t' | b'\r' | b'\n')
}

/// Whether the value may be base64: a cheap test before [`decode`]. Anything but letters, digits and the four signs of
/// the two alphabets rules it out.
pub fn plausible(value: &[u8], marks: Marks) -> bool {
    let other = marks::QUOTE
        | marks::ANGLE
        | marks::PERCENT
        | marks::AMP
        | marks::BACKSLASH
        | marks::PAREN
        | marks::SEMI
        | marks::PIPE
        | marks::DOLLAR
        | marks::LINE
        | marks::CONTROL
        | marks::HIGH
        | marks::DOT
        | marks::COLON
        | marks::BRACE;
    value.len() >= SHORTEST && !marks.any(other)
}

#[cfg(test)]
mod tests {
    use super::decode;

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
