//! A text that was decoded, with the place in the original that each of its bytes came from.
//!
//! What is found in a text can so be taken out of the original as it stands there, in whatever encodings, and nothing of
//! the rest is written anew.

use std::ops::Range;

use crate::body::json;
use crate::bytes::{at, between, from};
use crate::decode::{self, Backslash, Decoded, Text, hex};

/// A part of the original, decoded or not.
pub(super) struct View {
    pub bytes: Vec<u8>,
    /// For each byte, the bytes of the original that stand for it.
    spans: Vec<Range<u32>>,
}

impl View {
    /// A part of the original as it is; `start` is its place there.
    pub fn of(part: &[u8], start: usize) -> Self {
        let place = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let spans = (start..).map(|index| place(index)..place(index.saturating_add(1)));
        Self { bytes: part.to_vec(), spans: spans.take(part.len()).collect() }
    }

    /// Without percent escapes; see [`decode::percent`].
    pub fn percent(&self, plus_is_space: bool) -> Self {
        self.decoded(|bytes, index| match at(bytes, index) {
            b'%' => {
                let digits = hex(at(bytes, index + 1))?.checked_mul(16)? + hex(at(bytes, index + 2))?;
                Some((Some(Text::Byte(u8::try_from(digits).ok()?)), 3))
            }
            b'+' if plus_is_space => Some((Some(Text::Byte(b' ')), 1)),
            _ => None,
        })
    }

    /// Without the escapes of JSON (RFC 8259, section 7).
    pub fn json(&self) -> Self {
        self.decoded(|bytes, index| {
            if at(bytes, index) != b'\\' {
                return None;
            }
            let byte = match at(bytes, index + 1) {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                escaped @ (b'"' | b'\\' | b'/') => escaped,
                _ => {
                    let (character, length) = json::code_point(from(bytes, index))?;
                    return Some((Some(Text::Point(character.into())), length));
                }
            };
            Some((Some(Text::Byte(byte)), 2))
        })
    }

    /// Without one layer of whatever applications may undo; `None` when there is none.
    pub fn peeled(&self) -> Option<Self> {
        let peeled = self.decoded(|bytes, index| decode::unit(bytes, index, Backslash::Script));
        (peeled.bytes != self.bytes).then_some(peeled)
    }

    /// A part of it.
    pub fn part(&self, range: Range<usize>) -> Self {
        let spans = self.spans.get(range.clone()).unwrap_or_default().to_vec();
        Self { bytes: between(&self.bytes, range.start, range.end).to_vec(), spans }
    }

    /// Without some ranges, which are in order and apart.
    pub fn without(&self, cuts: &[Range<usize>]) -> Self {
        let mut left = Self { bytes: Vec::new(), spans: Vec::new() };
        let mut index = 0;
        for cut in cuts.iter().chain([&(self.bytes.len()..self.bytes.len())]) {
            left.bytes.extend_from_slice(between(&self.bytes, index, cut.start));
            left.spans.extend_from_slice(self.spans.get(index..cut.start).unwrap_or_default());
            index = cut.end;
        }
        left
    }

    /// The bytes of the original that stand for a range.
    pub fn origin(&self, range: &Range<usize>) -> Option<Range<u32>> {
        let covered = self.spans.get(range.clone())?;
        Some(covered.first()?.start..covered.last()?.end)
    }

    fn decoded(&self, unit: impl Fn(&[u8], usize) -> Decoded) -> Self {
        let mut out = Self { bytes: Vec::with_capacity(self.bytes.len()), spans: Vec::new() };
        let mut index = 0;
        while let Some(byte) = self.bytes.get(index) {
            let (text, taken) = unit(&self.bytes, index).unwrap_or((Some(Text::Byte(*byte)), 1));
            if let Some(text) = text {
                decode::push(&mut out.bytes, text);
            }
            let span = self.origin(&(index..index + taken)).unwrap_or_default();
            out.spans.resize(out.bytes.len(), span);
            index += taken;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_knows_where_it_came_from() {
        let view = View::of(b"a%3Cb+%u003ec", 10).percent(true);
        assert_eq!(view.bytes, b"a<b %u003ec");
        assert_eq!(view.origin(&(1..2)), Some(11..14));
        let peeled = view.peeled().unwrap();
        assert_eq!(peeled.bytes, b"a<b >c");
        assert_eq!(peeled.origin(&(4..5)), Some(16..22));
        assert!(peeled.peeled().is_none());
        let left = peeled.without(&[1..2, 4..6]);
        assert_eq!(left.bytes, b"ab ");
        assert_eq!(left.origin(&(1..3)), Some(14..16));
        assert_eq!(left.origin(&(3..4)), None);
    }

    #[test]
    fn escapes_of_json_are_one_byte_or_several() {
        let view = View::of(br#"\"\u00e9\ud83d\ude00\q"#, 0).json();
        assert_eq!(String::from_utf8_lossy(&view.bytes), "\"\u{e9}\u{1f600}\\q");
        assert_eq!(view.origin(&(1..3)), Some(2..8));
        assert_eq!(view.origin(&(3..7)), Some(8..20));
        assert_eq!(view.part(7..9).bytes, b"\\q");
    }
}
