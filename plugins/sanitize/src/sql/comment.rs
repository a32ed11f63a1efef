//! Comments of SQL's dialects: within a line, to its end, and those that are executed.

use super::lexer::{Kind, Lexer, Token};
use crate::bytes::{at, find, from, is_space};

impl Lexer<'_> {
    /// Notes whether a comment that hides the rest holds nothing. `12.--` and `12,--` are prices.
    fn note_tail(&mut self, start: usize, content: usize) {
        let price = start > 0 && matches!(at(self.value, start - 1), b'.' | b',');
        self.bare_tail = !price && !from(self.value, content).iter().any(u8::is_ascii_alphanumeric);
    }

    /// Whether nothing follows but a comment that holds nothing: `';--`.
    pub fn ends_bare(&self) -> bool {
        matches!(from(self.value, self.index).trim_ascii(), b"--" | b"#" | b"/*" | b"-- -" | b"--+")
    }

    /// Skips a block comment; the token when it never ends and so hides the rest.
    pub(super) fn block_comment(&mut self, start: usize) -> Option<Token> {
        if at(self.value, start + 2) == b'!' {
            self.conditional += 1;
            self.index = start + 3;
            while at(self.value, self.index).is_ascii_digit() && self.index < start + 9 {
                self.index += 1;
            }
            return None;
        }
        let close = if self.no_close { None } else { find(self.value, b"*/", start + 2) };
        match close {
            Some(close) => {
                self.comments += 1;
                self.index = close + 2;
                None
            }
            None => {
                self.no_close = true;
                let short = self.value.len() - start <= 24;
                self.note_tail(start, start + 2);
                Some(self.token(Kind::Tail(short), start, self.value.len()))
            }
        }
    }

    /// How long the marker of a comment to the line's end is, if one starts here. MySQL wants white space behind `--`
    /// and reads two minus signs otherwise.
    pub(super) fn line_marker(&self, byte: u8, start: usize) -> Option<usize> {
        if byte == b'#' {
            return Some(1);
        }
        if byte != b'-' || at(self.value, start + 1) != b'-' {
            return None;
        }
        let rest = from(self.value, start + 2);
        let next = at(rest, 0);
        if rest.is_empty()
            || is_space(next)
            || matches!(next, 0 | b'+' | b'-' | b'%' | b'/' | b')' | b'\'' | b'"' | b';')
        {
            return Some(2);
        }
        // With little behind it, it is a comment in every other dialect and was meant as one.
        let little = rest.len() <= 8 && rest.iter().all(u8::is_ascii_alphanumeric);
        little.then_some(2)
    }

    /// Skips a comment that a line break ends; the token when it hides the rest.
    pub(super) fn line_comment(&mut self, start: usize, marker: usize) -> Option<Token> {
        let rest = from(self.value, start + marker);
        if let Some(line) = rest.iter().position(|b| *b == b'\n')
            && line + 1 < rest.len()
        {
            self.comments += 1;
            self.index = start + marker + line + 1;
            return None;
        }
        if marker > 1 {
            self.note_tail(start, start + marker);
        }
        let words = rest.split(|b| is_space(*b)).filter(|word| word.iter().any(u8::is_ascii_alphanumeric));
        let quiet = rest.len() <= 24 && words.take(2).count() < 2;
        Some(self.token(Kind::Tail(quiet), start, self.value.len()))
    }
}
