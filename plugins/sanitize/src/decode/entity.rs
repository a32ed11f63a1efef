//! HTML character references.

use super::{Decoded, Text, hex_run};
use crate::bytes::{at, between, from};

/// Names of the characters that matter to a detector; browsers know two thousand more. Sorted, lower case.
const NAMES: &[(&str, u8)] = &[
    ("amp", b'&'),
    ("apos", b'\''),
    ("ast", b'*'),
    ("bsol", b'\\'),
    ("colon", b':'),
    ("comma", b','),
    ("commat", b'@'),
    ("dollar", b'$'),
    ("equals", b'='),
    ("excl", b'!'),
    ("grave", b'`'),
    ("gt", b'>'),
    ("hat", b'^'),
    ("lbrace", b'{'),
    ("lbrack", b'['),
    ("lcub", b'{'),
    ("lowbar", b'_'),
    ("lpar", b'('),
    ("lsqb", b'['),
    ("lt", b'<'),
    ("nbsp", b' '),
    ("newline", b'\n'),
    ("num", b'#'),
    ("percnt", b'%'),
    ("period", b'.'),
    ("plus", b'+'),
    ("quest", b'?'),
    ("quot", b'"'),
    ("rbrace", b'}'),
    ("rbrack", b']'),
    ("rcub", b'}'),
    ("rpar", b')'),
    ("rsqb", b']'),
    ("semi", b';'),
    ("sol", b'/'),
    ("tab", b'\t'),
    ("verbar", b'|'),
    ("vert", b'|'),
];

/// Digits that a numeric reference may have, leading zeros included.
const DIGITS: usize = 40;

/// `&#60;`, `&#x3c;`, `&lt;`; a semicolon may be missing where browsers forgive that. `bytes` start with `&`.
pub(super) fn reference(bytes: &[u8]) -> Decoded {
    if at(bytes, 1) != b'#' {
        return named(bytes);
    }
    let (point, start, count) = if matches!(at(bytes, 2), b'x' | b'X') {
        let (point, count) = hex_run(from(bytes, 3), DIGITS);
        (point, 3, count)
    } else {
        let (point, count) = decimal(from(bytes, 2));
        (point, 2, count)
    };
    if count == 0 {
        return None;
    }
    let end = start + count;
    let taken = if at(bytes, end) == b';' { end + 1 } else { end };
    Some(((point != 0).then_some(Text::Point(point)), taken))
}

fn decimal(bytes: &[u8]) -> (u32, usize) {
    let mut number: u32 = 0;
    let mut count = 0;
    while count < DIGITS && at(bytes, count).is_ascii_digit() {
        number = number.saturating_mul(10).saturating_add(u32::from(at(bytes, count) - b'0'));
        count += 1;
    }
    (number, count)
}

fn named(bytes: &[u8]) -> Decoded {
    let mut end = 1;
    while end < 9 && at(bytes, end).is_ascii_alphabetic() {
        end += 1;
    }
    let name = between(bytes, 1, end);
    let closed = at(bytes, end) == b';';
    if let Ok(index) = NAMES.binary_search_by(|(entry, _)| crate::bytes::compare(entry.as_bytes(), name)) {
        let (text, byte) = NAMES.get(index)?;
        let legacy = matches!(*text, "amp" | "gt" | "lt" | "quot" | "nbsp");
        if closed || legacy {
            return Some((Some(Text::Byte(*byte)), if closed { end + 1 } else { end }));
        }
    }
    // Browsers take `&ltscript` for `<script`.
    let legacy = [(&b"lt"[..], b'<'), (b"gt", b'>'), (b"quot", b'"')];
    let glued = legacy.iter().find(|(prefix, _)| name.starts_with(prefix) && !closed)?;
    Some((Some(Text::Byte(glued.1)), glued.0.len() + 1))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_sorted() {
        assert!(super::NAMES.is_sorted());
    }
}
