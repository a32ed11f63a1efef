//! Hexadecimal digits, tried on values that are nothing else.

use super::escape::hex_pair;

/// Shorter text is not worth an attempt.
const SHORTEST: usize = 16;

/// Decodes a value that consists of pairs of hexadecimal digits, with or without `0x`, when what comes out is text. The
/// first bytes turn away almost every identifier.
pub(super) fn decode(value: &[u8]) -> Option<Vec<u8>> {
    let digits = value.strip_prefix(b"0x").or_else(|| value.strip_prefix(b"0X")).unwrap_or(value);
    // Numbers are digits alone.
    let number = || digits.len() == value.len() && digits.iter().all(u8::is_ascii_digit);
    let even = digits.len() >= SHORTEST && digits.len().is_multiple_of(2);
    if !even || !matches!(digits, [b'2'..=b'7' | b'0', ..]) || number() {
        return None;
    }
    let pairs = digits.chunks_exact(2);
    let text = |byte: &u8| matches!(byte, 0x20..=0x7e | b'\t' | b'\r' | b'\n');
    let sound = pairs.clone().take(8).all(|pair| hex_pair(pair).as_ref().is_some_and(text));
    if !sound {
        return None;
    }
    let decoded: Vec<u8> = pairs.map(hex_pair).collect::<Option<_>>()?;
    let odd = decoded.iter().filter(|byte| !text(byte)).count();
    (odd * 10 <= decoded.len()).then_some(decoded)
}
