//! Hexadecimal digits, tried on values that are nothing else.

use super::base64::{may_climb, odd};
use super::escape::hex_pair;

/// Shorter text is not worth an attempt.
const SHORTEST: usize = 8;

/// From so many digits on, some may be no text.
const CERTAIN: usize = 16;

/// Decodes a value that consists of pairs of hexadecimal digits, with or without `0x`, when what comes out is text. The
/// first bytes turn away almost every identifier.
pub(super) fn decode(value: &[u8]) -> Option<Vec<u8>> {
    let digits = value.strip_prefix(b"0x").or_else(|| value.strip_prefix(b"0X")).unwrap_or(value);
    // Numbers are digits alone.
    let number = || digits.len() == value.len() && digits.iter().all(u8::is_ascii_digit);
    if digits.len() < SHORTEST || !digits.len().is_multiple_of(2) || number() {
        return None;
    }
    // Most identifiers leave at their first byte.
    if !matches!(hex_pair(digits)?, 9..=13 | 0x20..=0x7e | 0xc0..=0xf4) {
        return None;
    }
    let mut head = [b' '; 8];
    for (slot, pair) in head.iter_mut().zip(digits.chunks_exact(2)) {
        *slot = hex_pair(pair)?;
    }
    // So few digits are an identifier, unless all of them spell something.
    let short = digits.len() < CERTAIN
        && !digits.chunks_exact(2).map(hex_pair).all(|b| matches!(b, Some(0x20..=0x7e)));
    if short {
        return None;
    }
    let climbs = may_climb(&head);
    if !climbs && odd(&head) > 0 {
        return None;
    }
    let decoded: Vec<u8> = digits.chunks_exact(2).map(hex_pair).collect::<Option<_>>()?;
    (climbs || odd(&decoded) * 10 <= decoded.len()).then_some(decoded)
}
