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

/// The first place of one of two bytes, eight bytes at a time.
pub fn either(bytes: &[u8], one: u8, other: u8) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (one_8, other_8) = (u64::from_ne_bytes([one; 8]), u64::from_ne_bytes([other; 8]));
    // Marks the first byte that is 0, and maybe some behind it.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let here = zeros(word ^ one_8) | zeros(word ^ other_8);
        if here != 0 {
            return Some(number * 8 + here.trailing_zeros() as usize / 8);
        }
    }
    let place = rest.iter().position(|byte| *byte == one || *byte == other)?;
    Some(words.len() * 8 + place)
}

/// Whether the lower-case `needle` occurs, ASCII case ignored; where. Linear for needles whose first byte is rare.
pub fn find(bytes: &[u8], needle: &[u8], start: usize) -> Option<usize> {
    let first = *needle.first()?;
    let mut index = start;
    if !first.is_ascii_lowercase() {
        while let Some(place) = either(from(bytes, index), first, first) {
            index += place;
            if starts(from(bytes, index), needle) {
                return Some(index);
            }
            index += 1;
        }
        return None;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_bytes_is_found_where_a_plain_search_finds_it() {
        // All that differ from what is sought by a borrow or by the highest bit, at each place of a word and behind words.
        for length in 0..20 {
            for place in 0..length {
                for (filler, sought) in
                    [(b'a', b'"'), (0x80, 0), (1, 0), (0xa2, b'"'), (b'#', b'"'), (0xff, 0xfe)]
                {
                    let mut bytes = vec![filler; length];
                    assert_eq!(either(&bytes, sought, sought), None);
                    bytes[place] = sought;
                    assert_eq!(either(&bytes, sought, b'\\'), Some(place), "{filler} {sought} {length}");
                    assert_eq!(either(&bytes, b'\\', sought), Some(place), "{filler} {sought} {length}");
                    bytes[length - 1] = sought;
                    assert_eq!(either(&bytes, sought, b'\\'), Some(place));
                }
            }
        }
    }

    #[test]
    fn needles_are_found_in_any_case() {
        for (needle, found) in [
            (&b"${"[..], Some(13)),
            (b"b=", None),
            (b"*/", Some(21)),
            (b"end", Some(23)),
            (b"\"", None),
            (b"", None),
        ] {
            assert_eq!(find(b"a text with a${jndi:}*/END", needle, 0), found, "{needle:?}");
        }
        assert_eq!(find(b"//a//", b"//", 1), Some(3));
        assert_eq!(find(b"//", b"//", 9), None);
    }
}
