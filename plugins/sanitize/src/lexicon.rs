//! Sets of words, with tables made at compile time that turn away most others without a comparison.

/// A sorted list of lower-case words, at most 255.
pub struct Lexicon {
    words: &'static [&'static str],
    /// For each first letter (its low five bits), where its words begin and end.
    ranges: [(u8, u8); 32],
}

impl Lexicon {
    /// Takes sorted lower-case words.
    pub const fn new(words: &'static [&'static str]) -> Self {
        let mut ranges = [(0, 0); 32];
        let mut index = 0;
        while index < words.len() {
            #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
            {
                let range = &mut ranges[(words[index].as_bytes()[0] & 31) as usize];
                if range.1 == 0 {
                    range.0 = index as u8;
                }
                range.1 = index as u8 + 1;
            }
            index += 1;
        }
        Self { words, ranges }
    }

    /// Whether the word is in the list, ASCII case ignored.
    #[inline]
    pub fn has(&self, word: &[u8]) -> bool {
        let (Some(first), Some(last)) = (word.first(), word.last()) else { return false };
        let (start, end) = self.ranges.get(usize::from(first & 31)).copied().unwrap_or_default();
        let range = self.words.get(usize::from(start)..usize::from(end)).unwrap_or_default();
        let last = last.to_ascii_lowercase();
        range.iter().any(|known| {
            known.len() == word.len()
                && known.as_bytes().last() == Some(&last)
                && known.as_bytes().eq_ignore_ascii_case(word)
        })
    }

    /// Adds the words to a filter, as those of list `number` (0 to 15).
    pub const fn filter(&self, mut filter: Filter, number: u32) -> Filter {
        let mut index = 0;
        while index < self.words.len() {
            #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
            {
                filter = filter.with(self.words[index], number);
            }
            index += 1;
        }
        filter
    }

    /// The words.
    #[cfg(test)]
    pub fn words(&self) -> &'static [&'static str] {
        self.words
    }
}

/// Turns away most words that are in none of up to 16 lists, and says which of them may have a word, by its first two
/// letters, its last one and its length.
pub struct Filter([u16; CELLS]);

/// So many that nine of ten words that are in no list meet an empty cell.
const CELLS: usize = 1 << CELL_BITS;
const CELL_BITS: u32 = 13;

impl Filter {
    /// A filter that turns everything away.
    pub const EMPTY: Self = Self([0; CELLS]);

    /// The filter and this lower-case word, of list `number`.
    pub const fn with(mut self, word: &str, number: u32) -> Self {
        let word = word.as_bytes();
        #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
        {
            let second = if word.len() > 1 { word[1] } else { 0 };
            self.0[cell(word[0], second, word[word.len() - 1], word.len())] |= 1 << number;
        }
        self
    }

    /// The lists that may have the word, a bit for each.
    #[inline]
    pub fn lists(&self, word: &[u8]) -> u16 {
        let (first, second, last) = match word {
            [first, second] => (*first, *second, *second),
            [first, second, .., last] => (*first, *second, *last),
            [first] => (*first, 0, *first),
            [] => return 0,
        };
        self.0.get(cell(first, second, last, word.len())).copied().unwrap_or(0)
    }
}

/// Where a word stands in a [`Filter`]; case makes no difference.
const fn cell(first: u8, second: u8, last: u8, length: usize) -> usize {
    let letters = (first as u32 & 31) | (second as u32 & 31) << 5 | (last as u32 & 31) << 10;
    let mixed = (letters | (length as u32 & 31) << 15).wrapping_mul(0x9e37_79b1);
    (mixed >> (32 - CELL_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case() {
        static LIST: Lexicon = Lexicon::new(&["a", "cat", "cattle"]);
        assert!(LIST.has(b"A") && LIST.has(b"cAt") && LIST.has(b"cattle"));
        static FILTER: Filter = LIST.filter(Filter::EMPTY, 3);
        assert!(FILTER.lists(b"A") == 8 && FILTER.lists(b"CATTLE") == 8);
        assert!([&b""[..], b"b", b"ox", b"ca"].iter().all(|word| FILTER.lists(word) == 0));
        assert!(!LIST.has(b"") && !LIST.has(b"ca") && !LIST.has(b"catt") && !LIST.has(b"dog"));
    }
}
