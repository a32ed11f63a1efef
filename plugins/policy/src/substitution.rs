//! A text in a body that gives way to another of the same length, while the body streams by.

use std::rc::Rc;

/// What is replaced by what. Both have the same length, so that the body keeps its own, however it is framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitution {
    find: Rc<[u8]>,
    put: Rc<[u8]>,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Substituted {
    /// Occurrences that were replaced.
    pub replaced: usize,
    /// Bytes at the end that may be the beginning of an occurrence: they are to be shown again, together with what follows.
    pub open: usize,
}

impl Substitution {
    /// `None` unless both have the same length, and one.
    pub fn new(find: Rc<[u8]>, put: Rc<[u8]>) -> Option<Self> {
        (find.len() == put.len() && !find.is_empty()).then_some(Self { find, put })
    }

    /// Replaces what a piece holds whole. Time is linear in its length, for a text of bounded length.
    pub fn apply(&self, bytes: &mut [u8]) -> Substituted {
        let length = self.find.len();
        let mut replaced: usize = 0;
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..) {
            let Some(first) = rest.iter().position(|byte| self.find.first() == Some(byte)) else { break };
            at = at.saturating_add(first);
            let Some(window) = rest.get_mut(first..first.saturating_add(length)) else { break };
            if *window == *self.find {
                window.copy_from_slice(&self.put);
                replaced = replaced.saturating_add(1);
                at = at.saturating_add(length);
            } else {
                at = at.saturating_add(1);
            }
        }
        // What was replaced is not the beginning of anything: `at` is behind it.
        let tail = bytes.get(at..).unwrap_or_default();
        let longest = tail.len().min(length.saturating_sub(1));
        let is_start = |size: &usize| tail.ends_with(self.find.get(..*size).unwrap_or_default());
        Substituted { replaced, open: (1..=longest).rev().find(is_start).unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn substitution() -> Substitution {
        Substitution::new(b"abab"[..].into(), b"WXYZ"[..].into()).unwrap()
    }

    #[test]
    fn whole_occurrences_are_replaced() {
        for (text, wanted, replaced, open) in [
            ("", "", 0, 0),
            ("abab", "WXYZ", 1, 0),
            ("xababababx", "xWXYZWXYZx", 2, 0),
            ("aabab", "aWXYZ", 1, 0),
            ("ababab", "WXYZab", 1, 2),
            ("aba", "aba", 0, 3),
            ("xaab", "xaab", 0, 2),
            ("ABAB", "ABAB", 0, 0),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            let done = substitution().apply(&mut bytes);
            assert_eq!(
                (String::from_utf8(bytes).unwrap().as_str(), done.replaced, done.open),
                (wanted, replaced, open),
                "{text}"
            );
        }
    }

    #[test]
    fn lengths_must_agree() {
        assert!(Substitution::new(b"ab"[..].into(), b"abc"[..].into()).is_none());
        assert!(Substitution::new(b""[..].into(), b""[..].into()).is_none());
    }

    #[test]
    fn however_it_is_cut_the_result_is_the_same() {
        let text = b"abababxaababab-abaabab";
        let mut whole = text.to_vec();
        substitution().apply(&mut whole);
        for first in 0..text.len() {
            for second in first..text.len() {
                let (mut out, mut kept) = (Vec::new(), Vec::new());
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    kept.extend_from_slice(piece);
                    let open = substitution().apply(&mut kept).open;
                    let rest = kept.split_off(kept.len() - open);
                    out.append(&mut kept);
                    kept = rest;
                }
                out.append(&mut kept);
                assert_eq!(out, whole, "{first} {second}");
            }
        }
    }
}
