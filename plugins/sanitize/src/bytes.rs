//! Reading bytes without a panic: what lies beyond the end reads as 0.

/// The byte at that place, 0 beyond the end.
#[inline]
pub fn at(bytes: &[u8], index: usize) -> u8 {
    bytes.get(index).copied().unwrap_or(0)
}

/// What starts at that place, empty beyond the end.
#[inline]
pub fn from(bytes: &[u8], index: usize) -> &[u8] {
    bytes.get(index..).unwrap_or_default()
}

/// The bytes between two places, empty when there are none.
#[inline]
pub fn between(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end.min(bytes.len())).unwrap_or_default()
}

/// Whether `bytes` start with the lower-case `prefix`, ASCII case ignored.
#[inline]
pub fn starts(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// White space as shells, SQL and HTML know it.
#[inline]
pub const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

/// The first place at or after `index` that is not white space.
pub fn skip_space(bytes: &[u8], mut index: usize) -> usize {
    while bytes.get(index).is_some_and(|b| is_space(*b)) {
        index += 1;
    }
    index
}

/// Without white space at both ends.
pub fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// Whether the lower-case `needle` occurs, ASCII case ignored; where. Linear for needles whose first byte is rare.
pub fn find(bytes: &[u8], needle: &[u8], start: usize) -> Option<usize> {
    let first = *needle.first()?;
    let mut index = start;
    while let Some(byte) = bytes.get(index) {
        if byte.to_ascii_lowercase() == first && starts(from(bytes, index), needle) {
            return Some(index);
        }
        index += 1;
    }
    None
}

/// Whether a byte belongs to a word: letter, digit, underscore or not ASCII.
#[inline]
pub const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The end of the word that starts at `index`.
#[inline]
pub fn word_end(bytes: &[u8], mut index: usize) -> usize {
    while bytes.get(index).is_some_and(|b| is_word(*b)) {
        index += 1;
    }
    index
}

/// Whether the word, ASCII case ignored, stands in a sorted list of lower-case words.
pub fn listed(list: &[&str], word: &[u8]) -> bool {
    list.binary_search_by(|entry| compare(entry.as_bytes(), word)).is_ok()
}

/// Orders a lower-case word against another whose case does not matter.
pub fn compare(lower: &[u8], word: &[u8]) -> core::cmp::Ordering {
    lower.iter().copied().cmp(word.iter().map(u8::to_ascii_lowercase))
}
