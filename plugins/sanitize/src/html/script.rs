//! Script that stands where a string, a URL or a template's expression was expected.

use super::markup::script_url;
use crate::bytes::{at, between, find, from, is_space, listed, skip_space, starts, word_end};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};

/// Functions that payloads call to show that they run, or that run a string. Sorted.
#[rustfmt::skip]
static CALLS: Lexicon = Lexicon::new(&[
    "alert", "atob", "confirm", "eval", "execscript", "expression", "fetch", "function", "import",
    "msgbox", "print", "prompt", "setimmediate", "setinterval", "settimeout", "unescape",
]);

/// Objects whose members payloads reach for, and the members. Sorted pairs.
#[rustfmt::skip]
const MEMBERS: &[(&str, &[&str])] = &[
    ("array", &["from"]),
    ("document", &[
        "body", "cookie", "createelement", "defaultview", "documentelement", "domain", "execcommand",
        "getelementbyid", "location", "queryselector", "referrer", "url", "write", "writeln",
    ]),
    ("frames", &["alert"]),
    ("globalthis", &["alert", "eval"]),
    ("localstorage", &["getitem", "setitem"]),
    ("location", &["assign", "hash", "href", "replace", "search"]),
    ("parent", &["alert"]),
    ("reflect", &["apply", "construct"]),
    ("self", &["alert", "location"]),
    ("string", &["fromcharcode", "fromcodepoint"]),
    ("top", &["alert", "location"]),
    ("window", &[
        "alert", "confirm", "eval", "execscript", "location", "name", "open", "prompt", "settimeout",
    ]),
];

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Xss, confidence, why, at))
}

/// Whether text that stands where code is expected (an event handler, a script URL) is code.
pub(super) fn is_code(text: &[u8]) -> bool {
    text.iter().any(|b| matches!(b, b'(' | b'`' | b'=' | b'&'))
        || find(text, b"javascript", 0).is_some()
        || find(text, b"location", 0).is_some()
        || find(text, b"throw", 0).is_some()
}

/// Looks for script without a tag.
pub(super) fn detect(value: &[u8], marks: Marks) -> Option<Finding> {
    let mut found = None;
    if marks.any(marks::COLON) {
        found = schemes(value);
    }
    if found.is_some_and(|f: Finding| f.confidence >= 90) {
        return found;
    }
    if marks.may_be_script() {
        found = surer(found, calls(value, marks));
    }
    found
}

/// `javascript:` and its like, at the value's start or inside of a URL's parts.
fn schemes(value: &[u8]) -> Option<Finding> {
    let start = value
        .iter()
        .position(|b| !is_space(*b) && *b >= 0x20 && !matches!(b, b'"' | b'\'' | b'('))
        .unwrap_or(0);
    let value = from(value, start);
    if script_url(value) {
        let colon = value.iter().position(|b| *b == b':').unwrap_or(0);
        let code = from(value, colon + 1);
        // `JavaScript: The Good Parts` is a book.
        let prose = is_space(at(code, 0)) && !is_code(between(code, 0, 200));
        return finding(if prose { 40 } else { 90 }, "script-url", start);
    }
    let mut index = 0;
    while let Some(colon) = find(value, b"script:", index) {
        let code = from(value, colon + 7);
        let scheme = between(value, colon.saturating_sub(4), colon);
        if (starts(scheme, b"java") || scheme.to_ascii_lowercase().ends_with(b"vb")) && call_at_start(code) {
            return finding(80, "script-url", colon);
        }
        index = colon + 7;
    }
    None
}

fn call_at_start(code: &[u8]) -> bool {
    let end = word_end(code, 0);
    end > 0 && matches!(at(code, end), b'(' | b'`' | b'.' | b'[')
        || matches!(at(code, 0), b'/' | b'"' | b'\'' | b'`')
}

/// What is known of the text before a word.
#[derive(Clone, Copy)]
struct Around {
    /// The first byte that is not white space.
    lead: usize,
    /// A quote, a brace or a semicolon stands before.
    quoted: bool,
    marks: Marks,
}

/// White space between a word and what belongs to it.
fn skip_few(value: &[u8], index: usize) -> usize {
    skip_space(between(value, 0, index + 16), index)
}

/// What the value does around calls and members.
fn calls(value: &[u8], marks: Marks) -> Option<Finding> {
    let mut found = None;
    let mut around = Around { lead: skip_space(value, 0), quoted: false, marks };
    let mut index = 0;
    while index < value.len() {
        let byte = at(value, index);
        if !(byte.is_ascii_alphabetic() || byte == b'_') {
            around.quoted |= matches!(byte, b'\'' | b'"' | b'`' | b'{' | b';');
            index += 1;
            continue;
        }
        let end = word_end(value, index);
        let word = between(value, index, end);
        if word.len() <= 16 && word.len() >= 3 {
            found = surer(found, word_at(value, word, index, end, around));
            if found.is_some_and(|f| f.confidence >= 85) {
                break;
            }
        }
        index = end;
    }
    found
}

fn word_at(value: &[u8], word: &[u8], start: usize, end: usize, around: Around) -> Option<Finding> {
    let after = skip_few(value, end);
    let next = at(value, after);
    if matches!(next, b'(' | b'`') && (after == end || next == b'(') && CALLS.has(word) {
        return call(value, word, start, after, around);
    }
    if next == b'='
        && at(value, after + 1) != b'='
        && (word.eq_ignore_ascii_case(b"location") || word.eq_ignore_ascii_case(b"onerror"))
    {
        let target = from(value, skip_few(value, after + 1));
        let target = target.strip_prefix(b"'").or_else(|| target.strip_prefix(b"\"")).unwrap_or(target);
        if script_url(between(target, 0, 64))
            || around.quoted && (word.len() == 8 || is_code(between(target, 0, 64)))
        {
            return finding(80, "script", start);
        }
    }
    if word.eq_ignore_ascii_case(b"constructor") || word.eq_ignore_ascii_case(b"__proto__") {
        let reached = matches!(at(value, start.wrapping_sub(1)), b'.' | b'[' | b'\'' | b'"')
            && around.marks.any(marks::PAREN);
        return reached.then(|| Finding::new(Family::Xss, 75, "constructor", start));
    }
    member(value, word, start, after)
}

fn member(value: &[u8], word: &[u8], start: usize, after: usize) -> Option<Finding> {
    let found = MEMBERS.binary_search_by(|(name, _)| crate::bytes::compare(name.as_bytes(), word)).ok()?;
    let (_, members) = MEMBERS.get(found)?;
    let (open, member_start) = match at(value, after) {
        b'.' => (false, skip_few(value, after + 1)),
        b'[' => (
            true,
            skip_few(value, after + 1)
                + usize::from(matches!(at(value, skip_few(value, after + 1)), b'"' | b'\'' | b'`')),
        ),
        _ => return None,
    };
    let end = word_end(value, member_start);
    let name = between(value, member_start, end);
    if !listed(members, name) {
        return open.then(|| Finding::new(Family::Xss, 55, "member", start));
    }
    let used = matches!(
        at(value, skip_few(value, end)),
        b'(' | b'=' | b';' | b'[' | b')' | b'+' | b'"' | b'\'' | b']' | b'`' | b',' | b'/' | b'\\'
    );
    let alone = start == 0 && end == value.len();
    finding(
        if used {
            75
        } else if alone {
            70
        } else {
            45
        },
        "member",
        start,
    )
}

/// A call of a known function: what stands around it tells a payload from text about a payload.
fn call(value: &[u8], word: &[u8], start: usize, open: usize, around: Around) -> Option<Finding> {
    // Names that prose and ordinary code use as well.
    let generic = listed(&["fetch", "function", "import", "print"], word);
    let before = between(value, start.saturating_sub(8), start);
    let last = before.iter().rev().find(|b| !is_space(**b)).copied().unwrap_or(0);
    let inside = skip_few(value, open + 1);
    let argument = at(value, inside);
    let plain_argument =
        matches!(argument, b'0'..=b'9' | b'\'' | b'"' | b'`' | b'/' | b')' | b'\\' | b'$' | b'[' | b'(')
            || argument.is_ascii_alphabetic()
                && !is_space(at(value, word_end(between(value, 0, inside + 40), inside)));
    if !plain_argument {
        return None;
    }
    // `'-alert(1)-'`, `";alert(1)//`, `{{alert(1)}}`, `${alert(1)}`, `=alert(1)`.
    let broke = b"'\"`;-+*/^|&={}>:([,?!%~".contains(&last);
    let confidence = match (generic, broke, start == around.lead) {
        (false, true, _) if around.quoted || last == b'=' || last == b':' => 85,
        (false, true, _) | (false, _, true) => 75,
        (true, true, _)
            if around.quoted && around.marks.any(marks::BRACE | marks::SEMI) && word.len() == 8 =>
        {
            75
        }
        (true, ..) => return None,
        _ => 50,
    };
    finding(confidence, "script-call", start)
}
