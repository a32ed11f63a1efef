//! Percent and backslash escapes, and UTF-8 that is longer than it should be.

use super::{Decoded, Text, best_fit, hex_run};
use crate::bytes::{at, from, is_space};

/// Two hexadecimal digits.
pub(super) fn hex_pair(bytes: &[u8]) -> Option<u8> {
    match hex_run(bytes, 2) {
        (number, 2) => u8::try_from(number).ok(),
        _ => None,
    }
}

/// `%XX` and `%uXXXX`; `bytes` start with the percent sign.
pub(super) fn percent(bytes: &[u8]) -> Decoded {
    if let Some(byte) = hex_pair(from(bytes, 1)) {
        return Some((Some(Text::Byte(byte)), 3));
    }
    match (at(bytes, 1), hex_run(from(bytes, 2), 4)) {
        (b'u' | b'U', (point, 4)) => Some((Some(Text::Point(point)), 6)),
        _ => None,
    }
}

/// `\uXXXX`, `\u{X...}`, `\xXX`; `bytes` start with the backslash.
pub(super) fn backslash(bytes: &[u8]) -> Decoded {
    match at(bytes, 1) {
        b'x' | b'X' => hex_pair(from(bytes, 2)).map(|byte| (Some(Text::Byte(byte)), 4)),
        b'u' | b'U' if at(bytes, 2) == b'{' => {
            let (point, count) = hex_run(from(bytes, 3), 8);
            let closed = count > 0 && at(bytes, 3 + count) == b'}';
            closed.then_some((Some(Text::Point(point)), count + 4))
        }
        b'u' | b'U' => match hex_run(from(bytes, 2), 4) {
            (point, 4) => Some((Some(Text::Point(point)), 6)),
            _ => None,
        },
        b'0'..=b'7' => octal(bytes),
        _ => None,
    }
}

/// `\74`, `\074`: octal digits that spell ASCII, or three that spell any byte above it.
fn octal(bytes: &[u8]) -> Decoded {
    let most = if at(bytes, 1) <= b'3' { 3 } else { 2 };
    let digits = from(bytes, 1).iter().take(most).take_while(|b| matches!(b, b'0'..=b'7'));
    let (number, count) = digits.fold((0_u8, 0), |(n, count), b| ((n << 3) | (b - b'0'), count + 1));
    let byte = count > 2 && (number == 0 || number >= 0x80) && !at(bytes, count + 1).is_ascii_digit();
    let spells = count > 1 && is_ascii(u32::from(number)) || byte;
    spells.then_some((Some(Text::Byte(number)), count + 1))
}

/// `\3c `, `\00003c`: up to six hexadecimal digits that spell ASCII, and one white space.
pub(super) fn style(bytes: &[u8]) -> Decoded {
    let (point, count) = hex_run(from(bytes, 1), 6);
    let byte = u8::try_from(point).ok().filter(|byte| count > 0 && matches!(byte, b' '..=b'~'))?;
    let space = usize::from(is_space(at(bytes, count + 1)));
    Some((Some(Text::Byte(byte)), count + 1 + space))
}

const fn is_ascii(point: u32) -> bool {
    matches!(point, 9..=13 | 0x20..=0x7e)
}

/// A byte above ASCII that stands alone: what is left without its eighth bit, where that makes markup.
pub(super) fn narrow(byte: u8) -> Decoded {
    matches!(byte, 0xa2 | 0xbc | 0xbe).then_some((Some(Text::Byte(byte & 0x7f)), 1))
}

/// Bytes that are not ASCII: overlong forms of an ASCII character, and characters that fold to one. Other text stays.
pub(super) fn wide(bytes: &[u8]) -> Decoded {
    let first = at(bytes, 0);
    let (length, lead) = match first {
        0xc0..=0xdf => (2, first & 0x1f),
        0xe0..=0xef => (3, first & 0x0f),
        0xf0..=0xf7 => (4, first & 0x07),
        0xf8..=0xfb => (5, first & 0x03),
        0xfc..=0xfd => (6, first & 0x01),
        _ => return None,
    };
    let mut point = u32::from(lead);
    for offset in 1..length {
        let byte = at(bytes, offset);
        if byte & 0xc0 != 0x80 {
            return None;
        }
        point = point << 6 | u32::from(byte & 0x3f);
    }
    // Careless decoders take this for a slash, and it would be an `o`: the walk over paths knows it as it is.
    if first == 0xc1 && point == 0x6f {
        return None;
    }
    if point == 0 {
        return Some((None, length));
    }
    best_fit(point).map(|ascii| (Some(Text::Byte(ascii)), length))
}
