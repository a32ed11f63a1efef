//! A statement as its words: what may be said of it without understanding it.
//!
//! Whatever a statement reads or calls it must name. So every word counts, wherever it stands: a column that is called like a table makes
//! an answer depend on one table too many, and never on one too few. Nothing is nested, so nothing can be nested too deeply.
//!
//! Against: a text that the server reads in another way than this does, so that a call hides in what looks like a literal here. Texts with
//! comments that could be nested, with escapes, with dollar quotes, with backslashes, with signs that are no ASCII outside of quotes are
//! not judged at all ([`Refusal::Unreadable`]).

use std::collections::BTreeSet;

use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::Refusal;

/// The longest text that is judged, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Names are cut off beyond so many bytes by PostgreSQL.
const MAX_NAME: usize = 63;

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A name or a keyword, as the server compares it.
    Word {
        /// The name.
        name: String,
        /// In double quotes: no keyword.
        quoted: bool,
    },
    /// A text in quotes.
    Text(String),
    /// `(`
    Open,
    /// `.`
    Period,
    /// All else.
    Other,
}

/// Whose rules a text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// PostgreSQL's.
    Postgres,
    /// SQLite's.
    Sqlite,
}

/// The pieces of one statement, without blanks and comments.
///
/// # Errors
/// [`Refusal::Unreadable`], [`Refusal::Large`].
pub fn pieces(sql: &str, grammar: Grammar) -> Result<Vec<Piece>, Refusal> {
    if sql.len() > MAX_BYTES {
        return Err(Refusal::Large);
    }
    let odd = |sign: char| sign.is_control() && !matches!(sign, '\t' | '\n' | '\r');
    let spaces = |sign: char| sign.is_whitespace() && !sign.is_ascii();
    // By itself it ends a comment for one and not for the other.
    let lone_return = sql.replace("\r\n", "\n").contains('\r');
    if lone_return
        || sql.chars().any(|sign| odd(sign) || spaces(sign))
        || sql.to_ascii_lowercase().contains("u&")
    {
        return Err(Refusal::Unreadable);
    }
    let dialect: &dyn Dialect = match grammar {
        Grammar::Postgres => &PostgreSqlDialect {},
        Grammar::Sqlite => &SQLiteDialect {},
    };
    let tokens = Tokenizer::new(dialect, sql).tokenize().map_err(|_| Refusal::Unreadable)?;
    let mut pieces = Vec::new();
    let mut ended = false;
    for token in tokens {
        let piece = match token {
            Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => continue,
            Token::Whitespace(
                Whitespace::SingleLineComment { comment, .. } | Whitespace::MultiLineComment(comment),
            ) => {
                // What follows the end of an inner comment may be text for one and comment for the other.
                if comment.contains("/*") || comment.contains("*/") {
                    return Err(Refusal::Unreadable);
                }
                continue;
            }
            Token::SemiColon => {
                ended = true;
                continue;
            }
            Token::EOF => break,
            Token::Word(word) => match word.quote_style {
                None if word.value.is_ascii() => {
                    Piece::Word { name: word.value.to_ascii_lowercase(), quoted: false }
                }
                // In SQLite names are compared without regard to case, in quotes too.
                Some(_) if grammar == Grammar::Sqlite => {
                    Piece::Word { name: word.value.to_ascii_lowercase(), quoted: true }
                }
                Some('"') => Piece::Word { name: word.value.replace("\"\"", "\""), quoted: true },
                _ => return Err(Refusal::Unreadable),
            },
            Token::SingleQuotedString(text) if !text.contains('\\') => Piece::Text(text),
            Token::Number(..) => Piece::Other,
            Token::Placeholder(name) if is_parameter(&name, grammar) => Piece::Other,
            Token::LParen => Piece::Open,
            Token::Period => Piece::Period,
            Token::Char(_) | Token::Placeholder(_) => return Err(Refusal::Unreadable),
            other => {
                let shown = other.to_string();
                if shown.contains(['\'', '"', '$', '`']) || !shown.is_ascii() {
                    return Err(Refusal::Unreadable);
                }
                Piece::Other
            }
        };
        let long = matches!(&piece, Piece::Word { name, .. } if name.len() > MAX_NAME);
        // Two texts in a row are one.
        let continued = matches!((&piece, pieces.last()), (Piece::Text(_), Some(Piece::Text(_))));
        if long || continued {
            return Err(Refusal::Unreadable);
        }
        if ended {
            return Err(Refusal::NotARead);
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

fn is_parameter(name: &str, grammar: Grammar) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (name.split_at_checked(1), grammar) {
        (Some(("$", number)), Grammar::Postgres) => digits(number) && !number.is_empty(),
        (Some(("?", number)), Grammar::Sqlite) => digits(number),
        _ => false,
    }
}

/// Whether a word is in a list of words.
pub(super) fn is_among(word: &str, list: &str) -> bool {
    list.split_ascii_whitespace().any(|one| one == word)
}

/// Words that stand before a parenthesis and call nothing; most cannot name a function. What can is looked for among all words besides.
const NOT_CALLS: &str = "\
    all and any array as between bit by case cast char character check coalesce conflict cross decimal delete desc asc distinct \
    else end except exists extract fetch filter float from full glob greatest group grouping having if ilike in inner insert \
    intersect interval into is isnull join key lateral least left like limit match materialized merge natural not notnull null \
    nullif nullable numeric offset on only or order over partition precision returning right row rows select set sets similar some \
    symmetric then time timestamp to trim union unique update using values varchar varying when where window with within";

/// What the words of a statement tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// All of them.
    pub all: BTreeSet<String>,
    /// Those that are called.
    pub calls: BTreeSet<String>,
}

impl Words {
    /// Of a statement's pieces.
    #[must_use]
    pub fn of(pieces: &[Piece]) -> Self {
        let mut words = Self::default();
        for (at, piece) in pieces.iter().enumerate() {
            let Piece::Word { name, quoted } = piece else { continue };
            words.all.insert(name.clone());
            if is_call(pieces, at, name, *quoted) {
                words.calls.insert(name.clone());
            }
        }
        words
    }

    /// The words of both.
    pub fn join(&mut self, other: Self) {
        self.all.extend(other.all);
        self.calls.extend(other.calls);
    }
}

/// Whether the word at a place is called.
pub(super) fn is_call(pieces: &[Piece], at: usize, name: &str, quoted: bool) -> bool {
    let before = at.checked_sub(1).and_then(|before| pieces.get(before));
    // `AS t (a, b)` names columns.
    let named = matches!(before, Some(Piece::Word { name, quoted: false }) if name == "as");
    pieces.get(at + 1) == Some(&Piece::Open) && !named && (quoted || !is_among(name, NOT_CALLS))
}

/// Words that are the session or the time, without any parenthesis.
const SESSION: &[&str] = &[
    "current_user",
    "session_user",
    "system_user",
    "user",
    "current_role",
    "current_schema",
    "current_catalog",
];
const TIME: &[&str] = &["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];
/// What a text may say that PostgreSQL's types of date and time take for a moment that moves.
const MOVING: &[&str] = &["now", "today", "tomorrow", "yesterday"];
/// What tells of storage, and of the catalog.
const STORAGE: &str = "\
    ctid xmin xmax cmin cmax regclass regproc regprocedure regoper regoperator regtype regrole regnamespace regconfig \
    regdictionary regcollation information_schema";

/// Whether a text is a moment that moves.
#[must_use]
pub fn moves(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.split(|sign: char| !sign.is_ascii_alphabetic()).any(|word| MOVING.contains(&word))
}

/// Whether these pieces may be a read at all, whatever their functions do.
///
/// # Errors
/// Why they are none. With `session` the words that tell of the session pass: where all that they tell is part of the key.
pub fn judge(pieces: &[Piece], grammar: Grammar, session: bool) -> Result<(), Refusal> {
    for piece in pieces {
        match piece {
            Piece::Text(text) if moves(text) => return Err(Refusal::Time),
            Piece::Word { name, quoted } => {
                let name = name.as_str();
                if !quoted && TIME.contains(&name) {
                    return Err(Refusal::Time);
                }
                if !quoted && !session && SESSION.contains(&name) {
                    return Err(Refusal::Session);
                }
                let hidden = match grammar {
                    Grammar::Postgres => name.starts_with("pg_") || is_among(name, STORAGE),
                    Grammar::Sqlite => name.starts_with("sqlite_") || name.starts_with("pragma_"),
                };
                if hidden {
                    return Err(Refusal::Catalog);
                }
                if !quoted && name == "tablesample" {
                    return Err(Refusal::Volatile);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether it begins as a read and takes no locks.
///
/// # Errors
/// [`Refusal::NotARead`], [`Refusal::Locks`].
pub fn is_read(pieces: &[Piece]) -> Result<(), Refusal> {
    let word = |at: usize| match pieces.get(at) {
        Some(Piece::Word { name, quoted: false }) => Some(name.as_str()),
        _ => None,
    };
    if !matches!(word(0), Some("select" | "with" | "values" | "table")) {
        return Err(Refusal::NotARead);
    }
    for at in 0..pieces.len() {
        match (word(at), word(at + 1)) {
            (Some("for"), Some("update" | "share" | "no" | "key")) => return Err(Refusal::Locks),
            (Some("insert" | "update" | "delete" | "merge" | "into"), _) => return Err(Refusal::NotARead),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
