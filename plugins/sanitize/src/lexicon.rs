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
        let Some(first) = word.first() else { return false };
        let (start, end) = self.ranges.get(usize::from(first & 31)).copied().unwrap_or_default();
        let range = self.words.get(usize::from(start)..usize::from(end)).unwrap_or_default();
        range.iter().any(|known| known.len() == word.len() && known.as_bytes().eq_ignore_ascii_case(word))
    }

    /// Adds the words to a filter.
    pub const fn filter(&self, mut filter: Filter) -> Filter {
        let mut index = 0;
        while index < self.words.len() {
            #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
            {
                filter = filter.with(self.words[index]);
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

/// Turns away most words that are in none of several lists, by their first two letters and their length.
pub struct Filter([u64; 128]);

impl Filter {
    /// A filter that turns everything away.
    pub const EMPTY: Self = Self([0; 128]);

    /// The filter and this lower-case word.
    pub const fn with(mut self, word: &str) -> Self {
        let word = word.as_bytes();
        #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
        {
            let (cell, bit) = place(word[0], if word.len() > 1 { word[1] } else { 0 }, word.len());
            self.0[cell] |= bit;
        }
        self
    }

    /// Whether one of the lists may have the word.
    #[inline]
    pub fn admits(&self, word: &[u8]) -> bool {
        let (first, second) = match word {
            [first, second, ..] => (*first, *second),
            [first] => (*first, 0),
            [] => return false,
        };
        let (cell, bit) = place(first, second, word.len());
        self.0.get(cell).is_some_and(|bits| bits & bit != 0)
    }
}

/// Where a word stands in a [`Filter`]; case makes no difference.
const fn place(first: u8, second: u8, length: usize) -> (usize, u64) {
    let key = (first as usize & 31) << 8 | (second as usize & 31) << 3 | length & 7;
    (key >> 6, 1 << (key & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case() {
        static LIST: Lexicon = Lexicon::new(&["a", "cat", "cattle"]);
        assert!(LIST.has(b"A") && LIST.has(b"cAt") && LIST.has(b"cattle"));
        static FILTER: Filter = LIST.filter(Filter::EMPTY);
        assert!(FILTER.admits(b"A") && FILTER.admits(b"CATTLE"));
        assert!(
            !FILTER.admits(b"") && !FILTER.admits(b"b") && !FILTER.admits(b"ox") && !FILTER.admits(b"ca")
        );
        assert!(!LIST.has(b"") && !LIST.has(b"ca") && !LIST.has(b"catt") && !LIST.has(b"dog"));
    }
}
