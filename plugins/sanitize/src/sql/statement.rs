//! What tells a statement from a sentence that begins with the same word.

use super::lexer::{Kind, Lexer, Token};
use super::words::Word;
use crate::bytes::{at, between, from, listed, starts};

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

/// Whether a name of ordinary text follows rather than a table's: `from the menu`, `from your list`.
pub(super) fn names_in_prose(lexer: &Lexer<'_>) -> bool {
    let token = lexer.clone().next();
    let articles = [
        "a", "an", "her", "his", "its", "my", "our", "that", "the", "their", "these", "this", "those", "your",
    ];
    listed(&articles, between(lexer.value(), token.start, token.end))
}

/// Whether a word that the grammar has no place for, and the next, are words of a sentence: `.. gives duplicates`.
pub(super) fn is_prose(lexer: &Lexer<'_>, token: Token) -> bool {
    let value = lexer.value();
    let letters = |token: Token| {
        between(value, token.start, token.end).iter().all(|b| b.is_ascii_lowercase() || *b >= 0x80)
    };
    // Before the next token is read: one that is no word may be as long as the rest of the value.
    let behind = from(value, token.end);
    let begins = |b: Option<&u8>| b.is_none_or(|b| b.is_ascii_lowercase() || *b >= 0x80);
    let follows = begins(behind.first()) || behind.first() == Some(&b' ') && begins(behind.get(1));
    if !follows || !letters(token) {
        return false;
    }
    let next = lexer.clone().next();
    matches!(next.kind, Kind::Name | Kind::Word(_) | Kind::End)
        && letters(next)
        && between(value, token.end, next.start).len() < 2
}

/// `@@version` and what else tells an attacker where they are.
pub(super) fn tells_of_server(variable: &[u8]) -> bool {
    let known =
        ["basedir", "datadir", "hostname", "servername", "version", "version_comment", "version_compile_os"];
    starts(variable, b"@@") && listed(&known, from(variable, 2))
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
                || is(first, &["into"]) && name(second) && is(third, &["using"])
                || is(first, &["into"]) && is(third, &["values", "select", "set"])
        }
        b"delete" => {
            let modified = is(first, &["quick", "ignore", "low_priority"]) && is(second, &["from"]);
            modified && name(third)
                || is(first, &["from"])
                    && name(second)
                    && (ends(third) || is(third, &["where"]) || third.kind == Kind::Dot)
        }
        b"update" => {
            let (third, fourth) = (name(third), ahead.next());
            name(first)
                && (is(second, &["set"])
                    || second.kind == Kind::Dot && third
                    || name(second) && third && is(fourth, &["set"]))
        }
        // A table is made of columns.
        b"create" if is(first, &["table", "view", "index", "function", "procedure"]) && ends(third) => false,
        b"drop" | b"create" | b"alter" | b"truncate" | b"rename" => {
            is(first, &objects)
                && name(second)
                && !is(third, &["for", "is", "at", "of"])
                && (!name(third)
                    || third.kind != Kind::Name
                    || is(second, &["replace", "if"])
                    || is(third, &["with", "identified", "password"]))
        }
        b"declare" | b"set" => first.kind == Kind::Variable,
        b"pragma" => name(first) && matches!(second.kind, Kind::Left | Kind::Compare),
        b"prepare" => name(first) && is(second, &["from", "as"]),
        b"begin" => matches!(
            first.kind,
            Kind::Word(Word::Verb | Word::Exec | Word::Select | Word::Weapon | Word::Waitfor)
        ),
        b"shutdown" => ends(first) || is(first, &["with", "end"]),
        b"grant" | b"revoke" => {
            let role =
                matches!(first.kind, Kind::Word(_)) || is(first, &["connect", "dba", "resource", "sysadmin"]);
            is(second, &["on"]) || second.kind == Kind::Comma || role && is(second, &["to", "from"])
        }
        b"load" => is(first, &["data", "xml"]) || first.kind == Kind::Text,
        b"attach" => is(first, &["database"]),
        b"handler" => is(second, &["open", "read"]),
        b"do" => {
            matches!(first.kind, Kind::Word(Word::Weapon)) && second.kind == Kind::Left
                || first.kind == Kind::Left
                    && matches!(second.kind, Kind::Number | Kind::Word(Word::Weapon | Word::Select))
        }
        b"copy" => {
            is(second, &["from", "to"])
                || first.kind == Kind::Left && is(second, &["select", "values", "with"])
        }
        b"show" => {
            is(first, &["tables", "databases", "grants", "variables", "columns"])
                && (ends(second) || is(second, &["from", "like", "for"]))
        }
        b"use" => {
            name(first)
                && (second.kind == Kind::Semi || matches!(second.kind, Kind::Word(Word::Exec | Word::Verb)))
        }
        b"exec" | b"execute" | b"call" => {
            starts(text(first), b"xp_")
                || starts(text(first), b"sp_")
                || first.kind == Kind::Left && second.kind != Kind::End
                || matches!(first.kind, Kind::Variable | Kind::Text | Kind::Word(Word::Weapon))
                || is(first, &["as", "immediate"])
                || name(first) && matches!(second.kind, Kind::Dot | Kind::Text | Kind::Left | Kind::Variable)
        }
        b"waitfor" => is(first, &["delay", "time"]) && !name(second),
        b"if" => {
            matches!(first.kind, Kind::Word(Word::Not | Word::Prefix)) && second.kind == Kind::Left
                || matches!(first.kind, Kind::Number | Kind::Variable) && second.kind == Kind::Compare
                || first.kind == Kind::Left
                    && matches!(second.kind, Kind::Left | Kind::Number | Kind::Text | Kind::Word(_))
        }
        _ => false,
    }
}

/// What a statement looks like that nobody needs to inject, since it is all there is: `Delete from cart`, `drop table
/// lamp, two chairs`, `exec summary (draft)`.
pub(super) fn is_phrase(word: &[u8], mut ahead: Lexer<'_>) -> bool {
    let (first, second, third) = (ahead.next(), ahead.next(), ahead.next());
    // `if 1=1 then ..`: what a sentence says of a condition.
    if word.eq_ignore_ascii_case(b"if") {
        let then = ahead.next();
        return starts(from(ahead.value(), then.start), b"then ");
    }
    // A name of three words: `Drop Table Lounge`.
    let title = [(first.start, first.end), (second.start, second.end)].iter().all(|(start, end)| {
        let (initial, rest) = between(ahead.value(), *start, *end).split_at_checked(1).unwrap_or_default();
        initial.iter().all(u8::is_ascii_uppercase) && rest.iter().all(u8::is_ascii_lowercase)
    });
    if starts(word, b"drop") && word.starts_with(b"Dr") && title && third.kind == Kind::End {
        return true;
    }
    let delete = word.eq_ignore_ascii_case(b"delete") && third.kind == Kind::End;
    let exec =
        starts(word, b"exec") && second.kind == Kind::Left && at(ahead.value(), second.start - 1) == b' ';
    delete || exec || third.kind == Kind::Comma && starts(word, b"drop")
}

/// `a '<>' b`: an operator that ordinary text does not quote, in the quotes of the statement, between two words. Such
/// text is valid where it stands; `trick 'or' treat` is as well, and is left to ordinary text.
pub(super) fn splices(value: &[u8], open: usize) -> bool {
    let Some(quote) = value.iter().position(|b| *b == b'\'') else { return false };
    let (left, right) = (between(value, 0, quote).trim_ascii(), from(value, open + 1).trim_ascii());
    let operator = between(value, quote + 1, open);
    let word = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric);
    at(value, open) == b'\''
        && word(left)
        && word(right)
        && !listed(&["and", "between", "in", "is", "like", "not", "or"], operator)
        && (word(operator.split(|b| *b == b' ').next().unwrap_or_default())
            || operator.iter().all(u8::is_ascii_punctuation))
}

/// `ascii(substring(`: how a text is probed letter by letter.
pub(super) fn takes_apart(lexer: &Lexer<'_>, token: Token) -> bool {
    let mut ahead = lexer.clone();
    ahead.next();
    let inner = ahead.next();
    let text = |token: Token| between(lexer.value(), token.start, token.end);
    listed(&["ascii", "bin", "hex", "length", "ord", "unicode"], text(token))
        && listed(&["left", "mid", "right", "substr", "substring"], text(inner))
}
