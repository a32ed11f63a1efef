//! One pass over a value that says which detectors can matter at all.
//!
//! Most values of ordinary traffic hold nothing that any detector needs: they leave after this pass. It is one table
//! look-up per byte, and looks at words only where one begins with letters that a watched word begins with.

use crate::bytes::{at, is_word};

/// What bytes a value holds, as a set of the constants below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(u32);

/// A single quote, a double quote or a backtick.
pub const QUOTE: u32 = 1;
/// `<` or `>`.
pub const ANGLE: u32 = 1 << 1;
/// `%`.
pub const PERCENT: u32 = 1 << 2;
/// `&`.
pub const AMP: u32 = 1 << 3;
/// A backslash.
pub const BACKSLASH: u32 = 1 << 4;
/// A parenthesis.
pub const PAREN: u32 = 1 << 5;
/// `;`.
pub const SEMI: u32 = 1 << 6;
/// `|`.
pub const PIPE: u32 = 1 << 7;
/// `$`.
pub const DOLLAR: u32 = 1 << 8;
/// `=`.
pub const EQUALS: u32 = 1 << 9;
/// White space within a line.
pub const SPACE: u32 = 1 << 10;
/// A line break.
pub const LINE: u32 = 1 << 11;
/// Any other control character.
pub const CONTROL: u32 = 1 << 12;
/// A byte that is not ASCII.
pub const HIGH: u32 = 1 << 13;
/// `/`.
pub const SLASH: u32 = 1 << 14;
/// `.`.
pub const DOT: u32 = 1 << 15;
/// `:`.
pub const COLON: u32 = 1 << 16;
/// `*`, `#`, `!`, `^`, `~`, `+`, `,`, `@`, `?`.
pub const OPERATOR: u32 = 1 << 17;
/// A brace or bracket.
pub const BRACE: u32 = 1 << 18;
/// A watched word of SQL (see [`SQL_WORDS`]).
pub const SQL_WORD: u32 = 1 << 19;
/// Two dots in a row, or two of their usual escapes.
pub const DOTS: u32 = 1 << 20;

static CLASS: [u32; 256] = classes();

const fn classes() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "a constant table of all bytes, built at compile time")]
        {
            table[byte] = class(byte as u8);
        }
        byte += 1;
    }
    table
}

const fn class(byte: u8) -> u32 {
    match byte {
        b'\'' | b'"' | b'`' => QUOTE,
        b'<' | b'>' => ANGLE,
        b'%' => PERCENT,
        b'&' => AMP,
        b'\\' => BACKSLASH,
        b'(' | b')' => PAREN,
        b';' => SEMI,
        b'|' => PIPE,
        b'$' => DOLLAR,
        b'=' => EQUALS,
        b' ' | b'\t' | 0x0b | 0x0c => SPACE,
        b'\r' | b'\n' => LINE,
        0..=8 | 0x0e..=0x1f | 0x7f => CONTROL,
        0x80..=0xff => HIGH,
        b'/' => SLASH,
        b'.' => DOT,
        b':' => COLON,
        b'*' | b'#' | b'!' | b'^' | b'~' | b'+' | b',' | b'@' | b'?' => OPERATOR,
        b'{' | b'}' | b'[' | b']' => BRACE,
        _ => 0,
    }
}

/// SQL without quotes needs one of these words to be worth a look; sorted.
const SQL_WORDS: &[&str] = &[
    "alter",
    "and",
    "ascii",
    "attach",
    "begin",
    "benchmark",
    "between",
    "call",
    "case",
    "char",
    "chr",
    "concat",
    "copy",
    "create",
    "declare",
    "delete",
    "div",
    "drop",
    "elt",
    "exec",
    "execute",
    "extractvalue",
    "from",
    "grant",
    "group",
    "having",
    "if",
    "iif",
    "in",
    "insert",
    "into",
    "is",
    "length",
    "like",
    "limit",
    "load_file",
    "make_set",
    "merge",
    "or",
    "order",
    "pg_sleep",
    "procedure",
    "regexp",
    "rename",
    "rlike",
    "select",
    "shutdown",
    "sleep",
    "substr",
    "substring",
    "table",
    "truncate",
    "union",
    "update",
    "updatexml",
    "version",
    "waitfor",
    "where",
    "xor",
];

/// For each first letter, which second letters a watched word may have.
static PAIRS: [u32; 32] = pairs();

const fn pairs() -> [u32; 32] {
    let mut table = [0; 32];
    let mut index = 0;
    while index < SQL_WORDS.len() {
        #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
        {
            let word = SQL_WORDS[index].as_bytes();
            table[(word[0] & 31) as usize] |= 1 << (word[1] & 31);
        }
        index += 1;
    }
    table
}

impl Marks {
    /// Reads a value once.
    pub fn of(value: &[u8]) -> Self {
        let mut marks = 0;
        let mut in_word = false;
        let mut before = 0;
        for (index, byte) in value.iter().enumerate() {
            let class = CLASS.get(usize::from(*byte)).copied().unwrap_or(0);
            marks |= class;
            if byte.is_ascii_alphabetic() {
                if !in_word && marks & SQL_WORD == 0 && is_sql_word(value, index) {
                    marks |= SQL_WORD;
                }
                in_word = true;
            } else {
                // After a digit a word may begin: `1or`.
                in_word = *byte == b'_';
                if *byte == b'.' && before == b'.' {
                    marks |= DOTS;
                }
            }
            before = *byte;
        }
        Self(marks)
    }

    /// Whether any of these is there.
    #[inline]
    pub const fn any(self, set: u32) -> bool {
        self.0 & set != 0
    }

    /// Whether nothing is there but letters, digits, `-` and `_`.
    pub const fn is_plain(self) -> bool {
        self.0 & !(SQL_WORD) == 0
    }

    /// Whether the value may hold an encoding that applications undo.
    pub const fn may_be_encoded(self) -> bool {
        self.any(PERCENT | AMP | BACKSLASH | HIGH | CONTROL)
    }

    /// Whether SQL can be there: a quote to break out of, or a word with something around it.
    pub const fn may_be_sql(self) -> bool {
        self.any(QUOTE)
            || self.any(SQL_WORD)
                && self.any(
                    SPACE
                        | LINE
                        | CONTROL
                        | PAREN
                        | OPERATOR
                        | SEMI
                        | EQUALS
                        | PIPE
                        | AMP
                        | ANGLE
                        | SLASH
                        | BACKSLASH,
                )
    }

    /// Whether markup or script can be there.
    pub const fn may_be_markup(self) -> bool {
        self.any(ANGLE | QUOTE | COLON | PAREN | EQUALS)
    }

    /// Whether a path worth a walk can be there.
    pub const fn may_be_path(self) -> bool {
        self.any(SLASH | BACKSLASH | DOTS | COLON | PERCENT | HIGH | DOT)
    }

    /// Whether a shell's syntax can be there.
    pub const fn may_be_shell(self) -> bool {
        self.any(SEMI | PIPE | AMP | DOLLAR | QUOTE | LINE | SLASH | PAREN | BACKSLASH)
    }
}

fn is_sql_word(value: &[u8], start: usize) -> bool {
    let first = at(value, start) & 31;
    let second = at(value, start + 1) & 31;
    if PAIRS.get(usize::from(first)).copied().unwrap_or(0) & (1 << second) == 0 {
        return false;
    }
    let mut end = start;
    while end - start <= 12 && value.get(end).is_some_and(|b| is_word(*b)) {
        end += 1;
    }
    value.get(start..end).is_some_and(|word| crate::bytes::listed(SQL_WORDS, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_values_leave_at_once() {
        for plain in ["", "abc", "550e8400-e29b-41d4-a716-446655440000", "user_name", "42"] {
            assert!(Marks::of(plain.as_bytes()).is_plain(), "{plain}");
        }
        assert!(SQL_WORDS.is_sorted());
    }

    #[test]
    fn sql_needs_a_quote_or_a_word() {
        assert!(Marks::of(b"1 or 1=1").may_be_sql());
        assert!(Marks::of(b"1or 1").may_be_sql());
        assert!(Marks::of(b"'").may_be_sql());
        assert!(!Marks::of(b"Mozilla/5.0 (X11; Linux x86_64)").may_be_sql());
        assert!(!Marks::of(b"oregano and-ish").any(SQL_WORD) || Marks::of(b"and-ish").any(SQL_WORD));
    }
}
