//! SQL injection, by reading the value as the statement's parser would.
//!
//! A value stands in a statement bare, in single or in double quotes, or in the backticks of a name. For each of these contexts that the value can
//! break out of, the text behind the break is read as a continuation of an expression: operand and operator in turn,
//! clauses where clauses may stand. Prose breaks that grammar after a word or two; an attack keeps it, or the statement
//! would not run. What the grammatical part does ([`grammar`]) decides the confidence.
//!
//! Not found on purpose: values that are a bare name or number, a lone quote, or a comparison without a break and
//! without a logical operator (`a=1`), which ordinary filters use.

mod clause;
mod comment;
mod grammar;
mod lexer;
mod operand;
mod run;
mod score;
mod statement;
mod words;

use crate::bytes::{at, between, find, from, is_word, skip_space, starts};
use crate::finding::{Family, Finding, surer};
use crate::marks::{self, Marks};
use lexer::{Lexer, Quote};
use run::{Entry, Run};

/// Looks for SQL that would run. Linear in the value's length.
pub fn detect(value: &[u8], marks: Marks) -> Option<Finding> {
    let mut found = None;
    for quote in [Quote::Bare, Quote::In(b'\''), Quote::In(b'"'), Quote::In(b'`')] {
        if quote == Quote::Bare && !may_be_bare(value, marks) {
            continue;
        }
        // Asked of what was found alone: most values hold nothing.
        let is_quoted = || match quote {
            Quote::Bare => false,
            Quote::In(b'`') => is_span(value),
            Quote::In(quote) => is_quotation(value, quote),
        };
        found = surer(found, context(value, quote, marks).filter(|_| !is_quoted()));
        if found.is_some_and(|f: Finding| f.confidence >= 95) {
            break;
        }
    }
    found
}

/// Whether the first backtick stands behind words: it quotes code in a sentence, and closes no name.
fn is_span(value: &[u8]) -> bool {
    let before = value.split(|b| *b == b'`').next().unwrap_or_default();
    before.split(|b| *b == b' ').filter(|word| word.iter().all(u8::is_ascii_alphabetic)).count() > 2
}

/// Whether the only two of these quotes stand around what a sentence quotes: `what does "or 1=1" mean?`. It would have to go on
/// behind them as SQL does.
fn is_quotation(value: &[u8], quote: u8) -> bool {
    let mut parts = value.split(|b| *b == quote);
    let (Some(before), Some(inside), Some(behind), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let words = |text: &[u8]| {
        text.split(|b| *b == b' ')
            .filter(|word| word.len() > 1 && word.iter().all(u8::is_ascii_alphabetic))
            .count()
    };
    let next = between(behind, 1, crate::bytes::word_end(between(behind, 0, 32), 1));
    before.ends_with(b" ")
        && !joins(inside)
        && words(before) > 2
        && (behind.first() == Some(&b' ') && !next.is_empty() && !goes_on(next)
            || matches!(behind, [b'?' | b'.' | b'!' | b','] | [b'?' | b'.' | b'!' | b',', b' ', ..]))
}

/// Whether a string may stand behind that in a statement: behind an operator, a word (`date '..'`, an alias), or a comment. It may
/// not behind a number, but for the alias of a column; and a string is followed by no `SELECT`.
fn joins(inside: &[u8]) -> bool {
    let inside = inside.trim_ascii();
    let hides = inside.contains(&b';')
        || [&b"--"[..], b"#", b"/*"].iter().any(|sign| find(inside, sign, 0).is_some());
    let word = inside.iter().rev().take_while(|b| is_word(**b)).count();
    let last = from(inside, inside.len() - word);
    let number = word > 0 && last.iter().all(u8::is_ascii_digit) && find(inside, b"select", 0).is_none();
    hides || !(number || starts(inside, b"select "))
}

/// Whether a statement goes on with that word behind a string.
fn goes_on(word: &[u8]) -> bool {
    use words::Word;
    let role = words::lookup(word);
    role.is_some_and(|role| {
        !matches!(role, Word::Compare | Word::As | Word::When | Word::Function | Word::Thing)
    })
}

/// Whether the value can go on with a statement without a break: by a word, by `&&` and `||`, or by a comment behind an
/// expression.
fn may_be_bare(value: &[u8], marks: Marks) -> bool {
    let start = at(value, skip_space(value, 0));
    marks.any(marks::SQL_WORD | marks::DOUBLED)
        || marks.any(marks::COMMENT) && (start.is_ascii_digit() || matches!(start, b'(' | b'@' | b'-'))
}

fn context(value: &[u8], quote: Quote, marks: Marks) -> Option<Finding> {
    let mut lexer = Lexer::new(value, quote)?;
    let mut found = None;
    let mut entry = if quote == Quote::Bare { Entry::Bare } else { Entry::Broke };
    loop {
        let start = lexer.position();
        let run = Run::read(&mut lexer, entry);
        let (confidence, why) = run.score(&lexer);
        if confidence > 0 {
            found = surer(found, Some(Finding::new(Family::Sql, confidence, why, start)));
        }
        // Without the first word of a statement, nothing further on can count.
        let next = if marks.any(marks::STATEMENT) { run.next_entry(&mut lexer) } else { None };
        entry = match next {
            Some(entry) => entry,
            None => return found,
        };
    }
}

#[cfg(test)]
mod tests;
