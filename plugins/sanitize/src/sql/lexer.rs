//! Cuts a value into tokens of SQL, in one of the three contexts in which a value can stand in a statement.

use super::words::{Word, lookup};
use crate::bytes::{at, between, find, is_space, starts};

/// What surrounds the value in the statement that it becomes part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// Nothing: a number or a name is expected.
    Bare,
    /// A string in these quotes: the first such quote in the value ends it.
    In(u8),
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// A string that ends.
    Text,
    /// A string that the value's end leaves open: the statement's own quote will close it.
    Open,
    /// A name.
    Name,
    /// A word with a role.
    Word(Word),
    /// `@x`, `@@x`.
    Variable,
    /// `=`, `<>`, `>=`, ...
    Compare,
    /// `+`, `-`, `*`, ...
    Arith,
    /// `&&`, `||`.
    Logic,
    /// `!`, `~`.
    Bang,
    /// `,`.
    Comma,
    /// `;`.
    Semi,
    /// `(`.
    Left,
    /// `)`.
    Right,
    /// `.`.
    Dot,
    /// `::`, PostgreSQL's cast.
    Cast,
    /// A comment that hides the rest of the statement. `true`: nothing to speak of follows in the value.
    Tail(bool),
    /// What SQL does not know.
    Other,
    /// The end of the value.
    End,
}

/// A token and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
}

/// Yields the tokens of a value; each byte is read a bounded number of times.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    pub(super) value: &'a [u8],
    pub(super) index: usize,
    /// Comments that stood where white space would: `/**/`.
    pub comments: u32,
    /// MySQL's comments that are executed: `/*! ... */`.
    pub conditional: u32,
    /// Bytes between words that no keyboard types: control characters, no-break spaces in Latin 1.
    pub odd: u32,
    /// The value ends in a comment that holds nothing.
    pub bare_tail: bool,
    /// No `*/` is left: do not look for one again.
    pub(super) no_close: bool,
}

impl<'a> Lexer<'a> {
    /// Starts behind the value's break out of its quotes; `None` when it does not break out.
    pub fn new(value: &'a [u8], quote: Quote) -> Option<Self> {
        let index = match quote {
            Quote::Bare => 0,
            Quote::In(quote) => value.iter().position(|b| *b == quote)? + 1,
        };
        Some(Self { value, index, comments: 0, conditional: 0, odd: 0, bare_tail: false, no_close: false })
    }

    /// What is read.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// Where the next token is looked for.
    pub fn position(&self) -> usize {
        self.index
    }

    /// The next token; [`Kind::End`] for ever at the end.
    pub fn next(&mut self) -> Token {
        loop {
            let start = self.index;
            let byte = at(self.value, start);
            if start >= self.value.len() {
                return self.token(Kind::End, start, start);
            }
            if is_space(byte) || byte == 0xa0 || byte < 0x20 {
                if byte == 0 && start + 1 == self.value.len() {
                    return self.token(Kind::Tail(true), start, start + 1);
                }
                self.odd += u32::from(!is_space(byte));
                self.index += 1;
                continue;
            }
            if byte == 0xc2 && at(self.value, start + 1) == 0xa0 {
                self.index += 2;
                continue;
            }
            if byte == b'/' && at(self.value, start + 1) == b'*' {
                if let Some(tail) = self.block_comment(start) {
                    return tail;
                }
                continue;
            }
            if let Some(marker) = self.line_marker(byte, start) {
                if let Some(tail) = self.line_comment(start, marker) {
                    return tail;
                }
                continue;
            }
            // The end of a comment that is executed, of one in another, or of one that began before the value.
            let inside = self.conditional > 0 || self.comments > 0 || start == 0;
            if byte == b'*' && at(self.value, start + 1) == b'/' && inside {
                self.index += 2;
                continue;
            }
            return self.visible(byte, start);
        }
    }

    pub(super) fn token(&mut self, kind: Kind, start: usize, end: usize) -> Token {
        self.index = end;
        Token { kind, start, end }
    }

    fn visible(&mut self, byte: u8, start: usize) -> Token {
        match byte {
            b'\'' | b'"' => self.string(byte, start),
            b'`' => self.backtick(start),
            b'0'..=b'9' => self.number(start),
            b'.' if at(self.value, start + 1).is_ascii_digit() => self.number(start),
            b'@' if at(self.value, start + 1) != b'>' => self.variable(start),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => self.word(start),
            b'[' => self.bracket(start),
            b'$' => self.dollar(start),
            // MySQL's other name for NULL.
            b'\\' if at(self.value, start + 1) == b'N' => {
                self.token(Kind::Word(Word::Constant), start, start + 2)
            }
            _ => self.operator(byte, start),
        }
    }

    fn string(&mut self, quote: u8, start: usize) -> Token {
        let mut end = start + 1;
        while let Some(byte) = self.value.get(end) {
            if *byte == b'\\' {
                end += 2;
            } else if *byte == quote {
                if at(self.value, end + 1) != quote {
                    return self.token(Kind::Text, start, end + 1);
                }
                end += 2;
            } else {
                end += 1;
            }
        }
        self.token(Kind::Open, start, self.value.len())
    }

    fn backtick(&mut self, start: usize) -> Token {
        let rest = between(self.value, start + 1, start + 66);
        match rest.iter().position(|b| *b == b'`') {
            Some(length) => self.quoted_name(start, length),
            None => self.token(Kind::Other, start, start + 1),
        }
    }

    /// A name in backticks or brackets has no role, except that of a catalogue.
    fn quoted_name(&mut self, start: usize, length: usize) -> Token {
        let kind = match lookup(between(self.value, start + 1, start + 1 + length)) {
            Some(Word::Catalogue) => Kind::Word(Word::Catalogue),
            _ => Kind::Name,
        };
        self.token(kind, start, start + length + 2)
    }

    fn bracket(&mut self, start: usize) -> Token {
        let rest = between(self.value, start + 1, start + 66);
        let named = rest.iter().position(|b| *b == b']').filter(|length| {
            *length > 0
                && between(rest, 0, *length)
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b' '))
        });
        match named {
            Some(length) => self.quoted_name(start, length),
            None => self.token(Kind::Other, start, start + 1),
        }
    }

    fn number(&mut self, start: usize) -> Token {
        let mut end = start;
        if at(self.value, start) == b'0' && matches!(at(self.value, start + 1), b'x' | b'X') {
            end = start + 2;
            while at(self.value, end).is_ascii_hexdigit() {
                end += 1;
            }
            return self.token(Kind::Number, start, end);
        }
        while at(self.value, end).is_ascii_digit() || at(self.value, end) == b'.' {
            end += 1;
        }
        // MySQL reads `1.e(` like `(`.
        if at(self.value, end.wrapping_sub(1)) == b'.'
            && matches!(at(self.value, end), b'e' | b'E')
            && at(self.value, end + 1) == b'('
        {
            return self.token(Kind::Left, start, end + 2);
        }
        if matches!(at(self.value, end), b'e' | b'E') {
            let sign = usize::from(matches!(at(self.value, end + 1), b'+' | b'-'));
            if at(self.value, end + 1 + sign).is_ascii_digit() {
                end += 1 + sign;
                while at(self.value, end).is_ascii_digit() {
                    end += 1;
                }
            }
        }
        self.token(Kind::Number, start, end)
    }

    fn variable(&mut self, start: usize) -> Token {
        let mut end = start + 1;
        while matches!(at(self.value, end), b'@' | b'`') {
            end += 1;
        }
        while at(self.value, end).is_ascii_alphanumeric() || at(self.value, end) == b'_' {
            end += 1;
        }
        self.token(Kind::Variable, start, end)
    }

    fn dollar(&mut self, start: usize) -> Token {
        // PostgreSQL's `$$text$$` and `$tag$text$tag$`.
        let mut end = start + 1;
        while end < start + 18 && (at(self.value, end).is_ascii_alphanumeric() || at(self.value, end) == b'_')
        {
            end += 1;
        }
        if at(self.value, end) == b'$' {
            let tag = between(self.value, start, end + 1);
            let body = between(self.value, end + 1, end + 257);
            if let Some(close) = find(body, tag, 0) {
                return self.token(Kind::Text, start, end + 1 + close + tag.len());
            }
        }
        self.token(Kind::Other, start, start + 1)
    }

    fn word(&mut self, start: usize) -> Token {
        let mut end = start;
        while is_name(at(self.value, end)) && !self.no_break_space(end) {
            end += 1;
        }
        let word = between(self.value, start, end);
        // N'text', x'41', b'01', q'[text]'.
        if word.len() == 1
            && matches!(at(self.value, end), b'\'')
            && matches!(at(word, 0) | 32, b'n' | b'x' | b'b' | b'e' | b'q')
        {
            return self.string(b'\'', end);
        }
        // MySQL's character sets: _utf8'text'.
        if at(word, 0) == b'_' && word.len() > 1 && at(self.value, end) == b'\'' && is_charset(word) {
            return self.string(b'\'', end);
        }
        let kind = lookup(word).map_or(Kind::Name, Kind::Word);
        self.token(kind, start, end)
    }

    /// A no-break space, which MySQL takes for white space: in UTF-8, or in Latin 1 behind ASCII.
    fn no_break_space(&self, index: usize) -> bool {
        match at(self.value, index) {
            0xc2 => at(self.value, index + 1) == 0xa0,
            0xa0 => index == 0 || at(self.value, index - 1) < 0x80,
            _ => false,
        }
    }

    fn operator(&mut self, byte: u8, start: usize) -> Token {
        let (next, third) = (at(self.value, start + 1), at(self.value, start + 2));
        let (kind, length) = match (byte, next, third) {
            (b'<', b'=', b'>') | (b'!', b'~', b'*') => (Kind::Compare, 3),
            (b'-' | b'#', b'>', b'>') => (Kind::Arith, 3),
            // PostgreSQL's containment, and what LIKE is made of there.
            (b'@', b'>', _) | (b'<', b'@', _) | (b'~', b'~', _) => (Kind::Compare, 2),
            (b'<', b'=' | b'>', _)
            | (b'>' | b'!' | b'=' | b':' | b'^', b'=', _)
            | (b'~', b'*', _)
            | (b'!', b'~' | b'<' | b'>', _) => (Kind::Compare, 2),
            (b'<', b'<', _) | (b'>', b'>', _) | (b'-', b'>', _) => (Kind::Arith, 2),
            (b'&', b'&', _) | (b'|', b'|', _) => (Kind::Logic, 2),
            (b':', b':', _) => (Kind::Cast, 2),
            (b'=' | b'<' | b'>', ..) => (Kind::Compare, 1),
            (b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'&' | b'|', ..) => (Kind::Arith, 1),
            (b'!' | b'~', ..) => (Kind::Bang, 1),
            (b',', ..) => (Kind::Comma, 1),
            (b';', ..) => (Kind::Semi, 1),
            (b'(', ..) => (Kind::Left, 1),
            (b')', ..) => (Kind::Right, 1),
            (b'.', ..) => (Kind::Dot, 1),
            _ => (Kind::Other, 1),
        };
        self.token(kind, start, start + length)
    }
}

/// `_binary`, `_latin1`, `_utf8mb4`, ...
fn is_charset(word: &[u8]) -> bool {
    [&b"_ascii"[..], b"_big5", b"_binary", b"_gbk", b"_latin", b"_ucs2", b"_utf"]
        .iter()
        .any(|set| starts(word, set))
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..=0xff)
}
