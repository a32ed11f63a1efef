//! What tells a statement from a sentence that begins with the same word.

use super::lexer::{Kind, Lexer, Token};
use super::words::Word;
use crate::bytes::{between, starts};

/// Whether MySQL's `IN BOOLEAN MODE` follows; it is skipped.
pub(super) fn boolean_mode(lexer: &mut Lexer<'_>) -> bool {
    let mut ahead = lexer.clone();
    let (first, second) = (ahead.next(), ahead.next());
    let words = between(lexer.value(), first.start, second.end);
    let found = starts(words, b"boolean") && words.to_ascii_lowercase().ends_with(b"mode");
    if found {
        *lexer = ahead;
    }
    found
}

/// Whether what follows a statement's first word is a statement rather than prose.
pub(super) fn is_statement(word: &[u8], mut ahead: Lexer<'_>) -> bool {
    let value = ahead.value();
    let (first, second, third) = (ahead.next(), ahead.next(), ahead.next());
    let text = |token: Token| between(value, token.start, token.end);
    let is =
        |token: Token, words: &[&str]| words.iter().any(|w| text(token).eq_ignore_ascii_case(w.as_bytes()));
    let ends =
        |token: Token| matches!(token.kind, Kind::End | Kind::Tail(_) | Kind::Semi | Kind::Word(Word::End));
    let name = |token: Token| matches!(token.kind, Kind::Name | Kind::Word(_));
    let objects = [
        "table",
        "database",
        "view",
        "user",
        "function",
        "index",
        "schema",
        "procedure",
        "trigger",
        "login",
        "role",
        "type",
        "temporary",
        "temp",
        "or",
        "alias",
        "proc",
        "global",
        "column",
        "session",
        "system",
    ];
    match word.to_ascii_lowercase().as_slice() {
        b"insert" | b"merge" => {
            is(first, &["into"]) && name(second) && !name(third)
                || is(first, &["into"]) && is(third, &["values", "select", "set"])
        }
        b"delete" => {
            is(first, &["from"])
                && name(second)
                && (ends(third) || is(third, &["where"]) || third.kind == Kind::Dot)
        }
        b"update" => {
            name(first) && (is(second, &["set"]) || second.kind == Kind::Dot || is(ahead.next(), &["set"]))
        }
        b"drop" | b"create" | b"alter" | b"truncate" | b"rename" => {
            is(first, &objects)
                && name(second)
                && (!name(third) || third.kind != Kind::Name || is(second, &["replace", "if"]))
        }
        b"declare" => first.kind == Kind::Variable,
        b"begin" => matches!(
            first.kind,
            Kind::Word(Word::Verb | Word::Exec | Word::Select | Word::Weapon | Word::Waitfor)
        ),
        b"shutdown" => ends(first) || is(first, &["with", "end"]),
        b"grant" | b"revoke" => is(second, &["to", "on", "from"]) || second.kind == Kind::Comma,
        b"load" => is(first, &["data", "xml"]) || first.kind == Kind::Text,
        b"attach" => is(first, &["database"]),
        b"handler" => is(second, &["open", "read"]),
        b"do" => matches!(first.kind, Kind::Word(Word::Weapon)) && second.kind == Kind::Left,
        b"copy" => is(second, &["from", "to"]) || first.kind == Kind::Left,
        b"show" => {
            is(first, &["tables", "databases", "grants", "variables", "columns"])
                && (ends(second) || is(second, &["from", "like", "for"]))
        }
        b"use" => name(first) && second.kind == Kind::Semi,
        b"exec" | b"execute" | b"call" => {
            starts(text(first), b"xp_")
                || starts(text(first), b"sp_")
                || matches!(first.kind, Kind::Left | Kind::Variable | Kind::Text | Kind::Word(Word::Weapon))
                || is(first, &["as", "immediate"])
                || name(first) && matches!(second.kind, Kind::Dot | Kind::Text | Kind::Left | Kind::Variable)
        }
        b"waitfor" => is(first, &["delay", "time"]) && !name(second),
        b"if" => {
            first.kind == Kind::Left
                && matches!(second.kind, Kind::Left | Kind::Number | Kind::Text | Kind::Word(_))
        }
        _ => false,
    }
}
