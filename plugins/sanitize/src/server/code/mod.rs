//! Source text of server-side languages: PHP, Java, Node, Python, Ruby, Perl.
//!
//! One walk yields the chains of names in a value (`java.lang.Runtime`, `$_GET`, `os.system`) with what stands before and
//! behind them; each language judges them. A name alone is no attack: it is called, reached into, or the whole value.
//!
//! Not found on purpose: code that only computes, and the names of functions in prose.

mod java;
mod php;
mod script;

use crate::bytes::{at, between, find, from, is_space, is_word, starts};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};

/// A value with this much prose in it talks about code.
const PROSE_WORDS: usize = 5;

/// Names in a row, and what is around them.
#[derive(Clone, Copy)]
struct Chain<'a> {
    /// All of the value.
    value: &'a [u8],
    /// The names with what joins them.
    text: &'a [u8],
    /// The first and the last of the names.
    first: &'a [u8],
    last: &'a [u8],
    start: usize,
    /// The place of what follows, white space and comments left out.
    after: usize,
    /// What stands directly before; 0 at the start.
    before: u8,
    /// The value has several words in a row.
    prose: bool,
}

impl Chain<'_> {
    /// What follows, white space and comments left out.
    fn next(&self) -> u8 {
        at(self.value, self.after)
    }

    fn is_called(&self) -> bool {
        self.next() == b'('
    }

    /// Called without white space before the parenthesis, as code has it and prose has not.
    fn is_called_tight(&self) -> bool {
        self.is_called() && self.start + self.text.len() == self.after
    }

    /// Nothing else is in the value but quotes and brackets.
    fn is_alone(&self) -> bool {
        let edge = |b: &u8| is_space(*b) || matches!(b, b'"' | b'\'' | b'(' | b')' | b';');
        between(self.value, 0, self.start).iter().all(edge)
            && from(self.value, self.start + self.text.len()).iter().all(edge)
    }

    /// Names that stand where a statement or an expression may begin.
    fn begins_code(&self) -> bool {
        !is_word(self.before)
            && !matches!(self.before, b'-' | b'/' | b'#')
            && (self.start == 0 || !is_space(self.before) || !self.prose)
    }

    /// The bytes behind the parenthesis.
    fn argument(&self) -> &[u8] {
        let inside = from(self.value, self.after + 1);
        inside.trim_ascii_start()
    }

    /// The parenthesis holds a string, a number, a variable, a call or nothing; and is closed.
    fn has_plain_argument(&self) -> bool {
        let argument = self.argument();
        let Some(close) = between(argument, 0, 256).iter().position(|b| *b == b')') else { return false };
        match at(argument, 0) {
            b'"' | b'\'' | b'$' | b'0'..=b'9' | b')' | b'(' | b'[' | b'@' | b'`' => true,
            _ => !between(argument, 0, close).iter().any(|b| is_space(*b)),
        }
    }

    fn has(&self, list: &Lexicon) -> bool {
        list.has(self.last)
    }

    fn found(&self, confidence: u8, why: &'static str) -> Option<Finding> {
        Some(Finding::new(Family::Code, confidence, why, self.start))
    }
}

/// Looks for code. Linear in the value's length.
pub(super) fn detect(value: &[u8], marks: Marks) -> Option<Finding> {
    // `(f)(x)`, with nothing else that would hide a name, has its parentheses back to back.
    let hidden = marks.any(marks::DOLLAR | marks::QUOTE | marks::BRACE);
    let mut found = if hidden || marks.any(marks::PAREN) && value.windows(2).any(|pair| pair == b")(") {
        php::computed(value, marks)
    } else {
        None
    };
    if marks.any(marks::ANGLE | marks::BRACE) {
        found = surer(found, php::tags(value));
    }
    if !marks.any(marks::CODE_WORD) {
        return found;
    }
    let prose = is_prose(value);
    let mut index = 0;
    while index < value.len() {
        if !begins_name(at(value, index)) {
            index += 1;
            continue;
        }
        let chain = chain(value, index, prose);
        if chain.text.len() > 2 {
            found = surer(found, php::judge(&chain));
            found = surer(found, java::judge(&chain));
            found = surer(found, script::judge(&chain));
            if found.is_some_and(|finding| finding.confidence >= 85) {
                break;
            }
        }
        index += chain.text.len().max(1);
    }
    found
}

const fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// What joins two names: `.`, `::`, `->`, `?.`, `\`; its length.
fn joint(value: &[u8], index: usize) -> usize {
    match (at(value, index), at(value, index + 1)) {
        (b'.' | b'\\', next) if begins_name(next) => 1,
        (b':', b':') | (b'-', b'>') | (b'?', b'.') if begins_name(at(value, index + 2)) => 2,
        _ => 0,
    }
}

fn chain(value: &[u8], start: usize, prose: bool) -> Chain<'_> {
    let (mut last_start, mut end) = (start, start);
    let mut first_end = None;
    loop {
        while is_word(at(value, end)) {
            end += 1;
        }
        first_end = first_end.or(Some(end));
        match joint(value, end) {
            0 => break,
            length => {
                end += length;
                last_start = end;
            }
        }
    }
    Chain {
        value,
        text: between(value, start, end),
        first: between(value, start, first_end.unwrap_or(end)),
        last: between(value, last_start, end),
        start,
        after: skip_blank(value, end),
        before: if start == 0 { 0 } else { at(value, start - 1) },
        prose,
    }
}

/// White space and comments that stand between a name and its parenthesis; at most 64 bytes.
fn skip_blank(value: &[u8], start: usize) -> usize {
    let window = between(value, 0, start.saturating_add(64));
    let mut index = start;
    loop {
        let rest = from(window, index);
        if is_space(at(rest, 0)) {
            index += 1;
        } else if starts(rest, b"/*") {
            match find(rest, b"*/", 2) {
                Some(end) => index += end + 2,
                None => return index,
            }
        } else if starts(rest, b"//") || starts(rest, b"#") {
            match rest.iter().position(|b| *b == b'\n') {
                Some(end) => index += end + 1,
                None => return index,
            }
        } else {
            return index;
        }
    }
}

/// Whether several words of letters follow each other.
fn is_prose(value: &[u8]) -> bool {
    let mut run = 0;
    for word in value.split(|b| is_space(*b) || *b == b'+') {
        let word = word.strip_suffix(b",").or_else(|| word.strip_suffix(b".")).unwrap_or(word);
        run = if !word.is_empty() && word.iter().all(|b| b.is_ascii_alphabetic() || *b == b'\'' || *b >= 0x80)
        {
            run + 1
        } else {
            0
        };
        if run >= PROSE_WORDS {
            return true;
        }
    }
    false
}

/// The words that make a value worth a walk.
pub(crate) static WORDS: [&Lexicon; 7] = [
    &php::FUNCTIONS,
    &php::SHORT,
    &php::VARIABLES,
    &php::SETTINGS,
    &java::WORDS,
    &java::GADGETS,
    &script::WORDS,
];

#[cfg(test)]
mod tests;
