//! One pass over a value that says which detectors can matter at all.
//!
//! Most values of ordinary traffic hold nothing that any detector needs: they leave after this pass. It is one table
//! look-up per byte, and looks at words only where one begins with letters that a watched word begins with.

use crate::bytes::between;
use crate::lexicon::{Filter, Lexicon};
use crate::scanner;
use crate::server::code;
use crate::shell;

/// What bytes a value holds, as a set of the constants below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(u64);

/// A single quote, a double quote or a backtick.
pub const QUOTE: u64 = 1;
/// `<` or `>`.
pub const ANGLE: u64 = 1 << 1;
/// `%`.
pub const PERCENT: u64 = 1 << 2;
/// `&`.
pub const AMP: u64 = 1 << 3;
/// A backslash.
pub const BACKSLASH: u64 = 1 << 4;
/// A parenthesis.
pub const PAREN: u64 = 1 << 5;
/// `;`.
pub const SEMI: u64 = 1 << 6;
/// `|`.
pub const PIPE: u64 = 1 << 7;
/// `$`.
pub const DOLLAR: u64 = 1 << 8;
/// `=`.
pub const EQUALS: u64 = 1 << 9;
/// White space within a line.
pub const SPACE: u64 = 1 << 10;
/// A line break.
pub const LINE: u64 = 1 << 11;
/// Any other control character.
pub const CONTROL: u64 = 1 << 12;
/// A byte that is not ASCII.
pub const HIGH: u64 = 1 << 13;
/// `/`.
pub const SLASH: u64 = 1 << 14;
/// `.`.
pub const DOT: u64 = 1 << 15;
/// `:`.
pub const COLON: u64 = 1 << 16;
/// `*`, `#`, `!`, `^`, `~`, `+`, `,`, `@`, `?`.
pub const OPERATOR: u64 = 1 << 17;
/// A brace or bracket.
pub const BRACE: u64 = 1 << 18;
/// A word of [`SQL_WORDS`].
pub const SQL_WORD: u64 = 1 << 19;
/// Two dots in a row, with what filters remove between them or not, or what careless decoders read as dots.
pub const DOTS: u64 = 1 << 20;
/// A word of [`SCRIPT_WORDS`].
pub const SCRIPT_WORD: u64 = 1 << 21;
/// A word of [`FILE_WORDS`].
pub const FILE_WORD: u64 = 1 << 22;
/// The name of a command, or of a folder of commands.
pub const COMMAND_WORD: u64 = 1 << 23;
/// `^`, or a wildcard where a command's name would stand.
pub const GLOB: u64 = 1 << 24;

/// A word of [`STATEMENT_WORDS`].
pub const STATEMENT: u64 = 1 << 25;
/// `&&` or `||`.
pub const DOUBLED: u64 = 1 << 26;
/// What may be UTF-7: a plus sign and what ASCII begins with there.
pub const UTF7: u64 = 1 << 27;
/// `![`, `+[`: script that is spelled without letters.
pub const BANG_BRACKET: u64 = 1 << 28;
/// `/*` or `--`, as comments begin.
pub const COMMENT: u64 = 1 << 29;

/// A word of server-side code ([`code::WORDS`]).
pub const CODE_WORD: u64 = 1 << 32;
/// The name of an attack tool.
pub const TOOL_WORD: u64 = 1 << 33;
/// `&` and what a character reference goes on with.
pub const REFERENCE: u64 = 1 << 35;

/// Set by words alone: they matter only together with another mark.
const WORDS: u64 = SQL_WORD | STATEMENT | SCRIPT_WORD | FILE_WORD | COMMAND_WORD | CODE_WORD;

/// A byte of a word, and one that a word may begin with: only while reading.
const WORD_BYTE: u64 = 1 << 30;
const LETTER: u64 = 1 << 31;
/// What is no byte of a word, and means more behind another byte: only while reading.
const PAIRED: u64 = LETTER;
/// The digits of `x2e` and `x5c`: only while reading.
const DOT_DIGIT: u64 = 1 << 34;

static CLASS: [u64; 256] = classes();

const fn classes() -> [u64; 256] {
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

const fn class(byte: u8) -> u64 {
    match byte {
        b'\'' | b'"' | b'`' => QUOTE,
        b'<' | b'>' => ANGLE,
        b'%' => PERCENT,
        b'&' => AMP | PAIRED,
        b'\\' => BACKSLASH,
        b'(' | b')' => PAREN,
        b';' => SEMI,
        b'|' => PIPE | PAIRED,
        b'$' => DOLLAR,
        b'=' => EQUALS,
        b' ' | b'\t' | 0x0b | 0x0c => SPACE,
        b'\r' | b'\n' => LINE,
        0..=8 | 0x0e..=0x1f | 0x7f => CONTROL,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => WORD_BYTE | LETTER,
        b'2' | b'5' => WORD_BYTE | DOT_DIGIT,
        b'0'..=b'9' => WORD_BYTE,
        // A no-break space, in Latin 1 and in UTF-8: MySQL takes it for white space.
        0xa0 | 0xc2 => HIGH,
        0x80..=0xff => HIGH | WORD_BYTE,
        b'/' => SLASH,
        b'.' => DOT | PAIRED,
        b':' => COLON,
        b'*' | b'^' | b'?' | b'#' => OPERATOR | PAIRED,
        b'!' | b'~' | b'+' | b',' | b'@' => OPERATOR,
        b'[' => BRACE | PAIRED,
        b'{' | b'}' | b']' => BRACE,
        b'-' => PAIRED,
    }
}

/// SQL without quotes needs one of these words or of the next to be worth a look; sorted.
#[rustfmt::skip]
static SQL_WORDS: Lexicon = Lexicon::new(&[
    "and", "ascii", "between", "char", "chr", "concat", "div", "from", "group", "having", "in", "is",
    "length", "like", "limit", "or", "order", "regexp", "rlike", "substr", "substring", "table", "version",
    "where", "xor",
]);

/// What a statement of its own begins with, and functions that are called as one.
#[rustfmt::skip]
static STATEMENT_WORDS: Lexicon = Lexicon::new(&[
    "alter", "attach", "begin", "benchmark", "call", "case", "copy", "create", "ctxsys", "dbms_ldap",
    "dbms_lock", "dbms_pipe", "dbms_xmlgen", "declare", "delete", "drop", "elt", "exec", "execute",
    "extractvalue", "grant", "handler", "httpuritype", "if", "iif", "infile", "insert", "into", "load_file",
    "make_set", "merge", "pg_sleep", "pragma", "prepare", "procedure", "reconfigure", "rename", "revoke",
    "select", "shutdown", "sleep", "truncate", "union", "update", "updatexml", "utl_file", "utl_http",
    "utl_inaddr", "utl_smtp", "waitfor",
]);

/// Script without a tag needs one of these: what payloads call, and the objects that they reach for.
#[rustfmt::skip]
static SCRIPT_WORDS: Lexicon = Lexicon::new(&[
    "__proto__", "alert", "apply", "array", "atob", "bind", "btoa", "call", "confirm", "constructor",
    "document", "eval", "eventsource", "execscript", "expression", "fetch", "frames", "function",
    "globalthis", "image", "import", "localstorage", "location", "msgbox", "navigation", "navigator",
    "onerror", "parent", "print", "prompt", "reflect", "self", "sessionstorage", "setimmediate",
    "setinterval", "settimeout", "string", "top", "unescape", "websocket", "window", "worker",
    "xmlhttprequest",
]);

/// A system file's name holds one of these.
#[rustfmt::skip]
pub(crate) static FILE_WORDS: Lexicon = Lexicon::new(&[
    "access_log", "applicationhost", "asa", "asax", "authorized_keys", "autoexec", "bash_history", "bashrc",
    "cmdline", "cnf", "config", "credentials", "crontab", "env", "environ", "error_log", "fstab", "group",
    "gshadow", "hostname", "hosts", "htaccess", "htpasswd", "httpd", "id_dsa", "id_ecdsa", "id_ed25519",
    "id_rsa", "inetd", "ini", "issue", "known_hosts", "log", "motd", "mysql_history", "netrc", "nginx",
    "npmrc", "ntuser", "passwd", "pgpass", "resolv", "sam", "services", "shadow", "sock", "sshd_config",
    "sudoers", "token", "unattend", "version", "xml",
]);

/// Folders in which a shell finds commands and devices, and verbs of PowerShell's cmdlets.
static COMMAND_FOLDERS: Lexicon = Lexicon::new(&["bin", "dev", "get", "invoke", "sbin", "usr"]);

/// All lists, and the mark that a word of theirs sets. The names of commands come first ([`COMMANDS`]).
static LISTS: [(&Lexicon, u64); 16] = [
    (&shell::PLAIN, COMMAND_WORD),
    (&shell::WORDY, COMMAND_WORD),
    (&SQL_WORDS, SQL_WORD),
    (&STATEMENT_WORDS, SQL_WORD | STATEMENT),
    (&SCRIPT_WORDS, SCRIPT_WORD),
    (&FILE_WORDS, FILE_WORD),
    (&shell::RUNNERS, COMMAND_WORD),
    (&COMMAND_FOLDERS, COMMAND_WORD),
    (code::WORDS[0], CODE_WORD),
    (code::WORDS[1], CODE_WORD),
    (code::WORDS[2], CODE_WORD),
    (code::WORDS[3], CODE_WORD),
    (code::WORDS[4], CODE_WORD),
    (code::WORDS[5], CODE_WORD),
    (code::WORDS[6], CODE_WORD),
    (&scanner::TOOLS, TOOL_WORD),
];

/// The bits of the lists that name commands.
const COMMANDS: u16 = 0b11;

/// Whether a word may be in one of the lists of commands; most others are turned away.
pub(crate) fn may_name_command(word: &[u8]) -> bool {
    FILTER.lists(word) & COMMANDS != 0
}

/// What is in none of the lists, mostly.
static FILTER: Filter = filter();

const fn filter() -> Filter {
    let mut filter = Filter::EMPTY;
    let mut index = 0;
    while index < LISTS.len() {
        #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
        {
            filter = LISTS[index].0.filter(filter, index as u32);
        }
        index += 1;
    }
    filter
}

impl Marks {
    /// Reads a value once.
    pub fn of(value: &[u8]) -> Self {
        let mut marks = 0;
        let mut before = 0;
        // A dot, and behind it nothing but what filters remove or servers ignore.
        let mut dot = false;
        let mut index = 0;
        while let Some(byte) = value.get(index) {
            let class = class_of(*byte);
            marks |= class;
            // Behind a digit a word may begin: `1or`.
            if class & (WORD_BYTE | LETTER) == WORD_BYTE | LETTER {
                marks |= beginning(*byte, before);
                let end = Self::word(value, index, &mut marks);
                let word = between(value, index, end);
                marks |= watched(word, marks);
                before = word.last().copied().unwrap_or(0);
                (index, dot) = (end, false);
                continue;
            }
            if class & WORD_BYTE != 0 {
                dot = false;
            } else {
                if class & PAIRED != 0 {
                    marks |= paired(*byte, before, dot);
                }
                dot = *byte == b'.' || dot && matches!(byte, b'?' | b' ' | b'"' | b'\'' | 1..=0x1f);
            }
            before = *byte;
            index += 1;
        }
        Self(marks & !(WORD_BYTE | LETTER | DOT_DIGIT))
    }

    /// Where a word ends.
    #[inline]
    fn word(value: &[u8], start: usize, marks: &mut u64) -> usize {
        let mut index = start + 1;
        while let Some(byte) = value.get(index) {
            let class = class_of(*byte);
            if class & WORD_BYTE == 0 {
                break;
            }
            *marks |= class;
            if class & DOT_DIGIT != 0 && between(value, index - 1, index).eq_ignore_ascii_case(b"x") {
                *marks |= DOTS;
            }
            index += 1;
        }
        index
    }

    /// Whether any of these is there.
    #[inline]
    pub const fn any(self, set: u64) -> bool {
        self.0 & set != 0
    }

    /// Whether nothing is there but letters, digits, `-` and `_`.
    pub const fn is_plain(self) -> bool {
        self.0 & !WORDS == 0
    }

    /// Whether the value may hold an encoding that applications undo.
    pub const fn may_be_encoded(self) -> bool {
        self.any(PERCENT | REFERENCE | BACKSLASH | HIGH | CONTROL | UTF7)
    }

    /// Whether SQL can be there: a quote to break out of, or a word with something around it.
    pub const fn may_be_sql(self) -> bool {
        self.any(QUOTE | COMMENT)
            || self.any(DOUBLED) && self.any(EQUALS | PAREN)
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
        self.any(ANGLE | COLON | EQUALS | BANG_BRACKET) || self.may_be_script()
    }

    /// Whether script without a tag can be there.
    pub const fn may_be_script(self) -> bool {
        self.any(SCRIPT_WORD) && self.any(PAREN | QUOTE | EQUALS | BRACE | DOT)
    }

    /// Whether a path worth a walk can be there.
    pub const fn may_be_path(self) -> bool {
        self.any(DOTS | PERCENT | HIGH) || self.any(FILE_WORD) && self.any(SLASH | BACKSLASH | DOT)
    }

    /// Whether server-side code can be there: a word of it with something around, or a name that is computed.
    pub const fn may_be_code(self) -> bool {
        self.any(CODE_WORD) && self.any(DOT | PAREN | BRACE | DOLLAR | EQUALS | COLON | QUOTE)
            || self.any(DOLLAR) && self.any(PAREN | BRACE)
            || self.any(PAREN) && self.any(QUOTE | BRACE | SEMI | DOT)
    }

    /// Whether a shell's syntax can be there: a command's name, or what hides one.
    pub const fn may_be_shell(self) -> bool {
        self.any(COMMAND_WORD | DOLLAR | BACKSLASH | BRACE)
            || self.any(PERCENT) && self.any(COLON)
            || self.any(QUOTE | GLOB) && self.any(SEMI | PIPE | AMP | LINE | SLASH)
    }
}

#[inline]
fn class_of(byte: u8) -> u64 {
    CLASS.get(usize::from(byte)).copied().unwrap_or(0)
}

/// What a word's first byte means behind another one.
#[inline]
const fn beginning(byte: u8, before: u8) -> u64 {
    match before {
        b'&' => REFERENCE,
        b'+' if byte == b'A' => UTF7,
        _ => 0,
    }
}

/// What a byte means behind another one. `dot`: behind a dot, and what does not count.
#[inline]
const fn paired(byte: u8, before: u8, dot: bool) -> u64 {
    match byte {
        b'.' if dot => DOTS,
        b'*' if before == b'/' => GLOB | DOTS | COMMENT,
        b'?' | b'*' if matches!(before, b'/' | b'?' | b'*') => GLOB | DOTS,
        b'^' => GLOB,
        b'-' if before == b'-' => COMMENT,
        b'&' | b'|' if before == byte => DOUBLED,
        b'[' if matches!(before, b'!' | b'+') => BANG_BRACKET,
        b'#' if before == b'&' => REFERENCE,
        _ => 0,
    }
}

/// The marks of a word, as far as they are not set yet.
#[inline]
fn watched(word: &[u8], marks: u64) -> u64 {
    let lists = FILTER.lists(word);
    if lists == 0 { 0 } else { listed(word, lists, marks) }
}

fn listed(word: &[u8], mut lists: u16, marks: u64) -> u64 {
    let mut found = 0;
    while lists != 0 {
        let number = lists.trailing_zeros() as usize;
        lists &= lists - 1;
        if let Some((list, mark)) = LISTS.get(number)
            && (marks | found) & mark != *mark
            && list.has(word)
        {
            found |= mark;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_values_leave_at_once() {
        for plain in ["", "abc", "550e8400-e29b-41d4-a716-446655440000", "user_name", "42"] {
            assert!(Marks::of(plain.as_bytes()).is_plain(), "{plain}");
        }
        for (list, _) in LISTS {
            assert!(list.words().is_sorted());
        }
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
