//! Script that stands where a string, a URL or a template's expression was expected.

use super::markup::{is_nothing, script_url};
use super::mention;
use crate::bytes::{at, between, find, from, is_space, listed, skip_space, starts, word_end};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};

/// Functions that payloads call to show that they run, or that run a string. Sorted.
#[rustfmt::skip]
static CALLS: Lexicon = Lexicon::new(&[
    "alert", "atob", "btoa", "confirm", "eval", "execscript", "expression", "fetch", "function", "import",
    "msgbox", "print", "prompt", "setimmediate", "setinterval", "settimeout", "unescape",
]);

/// Objects whose members payloads reach for, and the members. Sorted pairs.
#[rustfmt::skip]
const MEMBERS: &[(&str, &[&str])] = &[
    ("array", &["from"]),
    ("document", &[
        "all", "baseuri", "body", "cookie", "createelement", "defaultview", "documentelement", "domain",
        "execcommand", "forms", "getelementbyid", "getelementsbytagname", "head", "location", "open",
        "queryselector", "queryselectorall", "referrer", "scripts", "url", "write", "writeln",
    ]),
    ("frames", &["alert"]),
    ("globalthis", &["alert", "eval"]),
    ("localstorage", &["getitem", "setitem"]),
    ("location", &["assign", "hash", "href", "replace", "search"]),
    ("navigation", &["navigate"]),
    ("navigator", &["sendbeacon", "serviceworker"]),
    ("parent", &["alert"]),
    ("reflect", &["apply", "construct", "get", "set"]),
    ("self", &["alert", "eval", "location"]),
    ("sessionstorage", &["getitem", "setitem"]),
    ("string", &["fromcharcode", "fromcodepoint"]),
    ("this", &["alert", "eval"]),
    ("top", &["alert", "eval", "location"]),
    ("window", &[
        "alert", "confirm", "eval", "execscript", "location", "name", "onerror", "open", "prompt", "settimeout",
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
        found = schemes(value, marks);
    }
    if found.is_some_and(|f: Finding| f.confidence >= 90) {
        return found;
    }
    if marks.may_be_script() {
        found = surer(found, calls(value, marks));
    }
    if marks.any(marks::BANG_BRACKET) {
        found = surer(found, spelled(value));
    }
    found
}

/// Script that is spelled with brackets, `!` and `+` alone: `[][(![]+[])[+[]]]`. Markdown has `![](` for an image.
fn spelled(value: &[u8]) -> Option<Finding> {
    let place = value.windows(4).position(|part| {
        matches!(
            part,
            b"!![]" | b"![]+" | b"[![]" | b"(![]" | b"+[]]" | b"[+[]" | b"+[])" | b"+!![" | b"+!+["
        )
    })?;
    let image = find(value, b"![](", place).is_some_and(|image| image <= place + 1);
    if image { None } else { finding(78, "script", place) }
}

/// `javascript:` and its like, at the value's start or inside of a URL's parts.
pub(super) fn schemes(value: &[u8], marks: Marks) -> Option<Finding> {
    let start = value
        .iter()
        .position(|b| !is_space(*b) && *b >= 0x20 && !matches!(b, b'"' | b'\'' | b'('))
        .unwrap_or(0);
    let value = from(value, start);
    if script_url(value) {
        let colon = value.iter().position(|b| *b == b':').unwrap_or(0);
        let code = from(value, colon + 1);
        // A picture as such: what runs in it is found by its own tags.
        if starts(value, b"data:image/svg") {
            return finding(45, "script-url", start);
        }
        // `JavaScript: The Good Parts` is a book.
        let word = at(code, skip_space(code, 0)).is_ascii_alphanumeric();
        let split = between(value, 0, colon).iter().any(|b| *b <= b' ');
        let prose = is_space(at(code, 0)) && word && !split && !is_code(between(code, 0, 200));
        return finding(if prose { 40 } else { 90 }, "script-url", start);
    }
    if marks.any(marks::PAREN)
        && let Some(place) = style_url(value)
    {
        return finding(80, "style", start + place);
    }
    for (colon, _) in value.iter().enumerate().skip(8).filter(|(_, byte)| **byte == b':') {
        let scheme = between(value, colon.saturating_sub(10), colon);
        let script = starts(scheme, b"javascript") || starts(from(scheme, 2), b"vbscript");
        // `[text](data:text/html,..)`
        let page = starts(from(scheme, 5), b"(data") && script_url(between(value, colon - 4, colon + 64));
        let code = from(value, colon + 1);
        let quote = at(value, colon.wrapping_sub(11));
        if page || script && call_at_start(code) && !is_nothing(code, quote) {
            return finding(80, "script-url", start + colon);
        }
    }
    None
}

/// `background:url(javascript...`, `-moz-binding:url(...`: a style that runs script.
fn style_url(value: &[u8]) -> Option<usize> {
    let mut index = 0;
    while let Some(open) = find(value, b"url(", index) {
        let target = from(value, skip_few(value, open + 4));
        let target = target.strip_prefix(b"'").or_else(|| target.strip_prefix(b"\"")).unwrap_or(target);
        let before = between(value, open.saturating_sub(24), open);
        let property = before.rsplit(|b| matches!(b, b';' | b'{' | b'"' | b'\'')).next().unwrap_or(before);
        let runs = ["behavior", "behaviour", "-moz-binding"]
            .iter()
            .any(|name| find(property, name.as_bytes(), 0).is_some());
        let property = property.trim_ascii_end().ends_with(b":");
        if property && (runs || starts(target, b"javascript") || script_url(between(target, 0, 64))) {
            return Some(open);
        }
        index = open + 4;
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

/// White space, comments, and what else may stand between an object and its member: `(document/* */)?.cookie`.
fn skip_loose(value: &[u8], index: usize) -> usize {
    let head = between(value, 0, index + 48);
    let mut index = index;
    while index < head.len() {
        index = match at(head, index) {
            byte if is_space(byte) || byte == b')' => index + 1,
            b'?' if at(head, index + 1) == b'.' => index + 1,
            b'/' if at(head, index + 1) == b'*' => match find(head, b"*/", index + 2) {
                Some(end) => end + 2,
                None => return index,
            },
            _ => return index,
        };
    }
    index
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
        let thrown = word.len() == 7 && find(between(target, 0, 64), b";throw", 0).is_some();
        if script_url(between(target, 0, 64))
            || thrown
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
    if listed(&["apply", "bind", "call"], word) && at(value, start.wrapping_sub(1)) == b'.'
        || listed(&["apply", "bind", "call"], word) && before_word(value, start) == b'.'
    {
        // `[].sort.call`...``: a call that needs no parentheses.
        let open = skip_loose(value, end);
        return (at(value, open) == b'`').then(|| Finding::new(Family::Xss, 78, "script-call", start));
    }
    let made = listed(&["eventsource", "image", "websocket", "worker", "xmlhttprequest"], word)
        && around.marks.any(marks::SEMI | marks::EQUALS)
        && between(value, 0, start).trim_ascii_end().ends_with(b"new")
        && next == b'(';
    if made {
        return finding(75, "script-object", start);
    }
    surer(passed(value, word, start, end, around), member(value, word, start, end))
}

/// The last byte before a word that is not white space.
fn before_word(value: &[u8], start: usize) -> u8 {
    let before = between(value, start.saturating_sub(8), start);
    before.iter().rev().find(|b| !is_space(**b)).copied().unwrap_or(0)
}

/// A known function that is handed on instead of called: `[1].map(alert)`, `(alert)(1)`, `a=alert;a(1)`, `alert?.(1)`.
fn passed(value: &[u8], word: &[u8], start: usize, end: usize, around: Around) -> Option<Finding> {
    if !listed(&["alert", "confirm", "eval", "prompt"], word) {
        return None;
    }
    let (before, after) = (at(value, start.wrapping_sub(1)), at(value, end));
    let next = at(value, end + 1);
    let method = start > 1 && at(value, start - 2).is_ascii_alphabetic();
    let handed = match (before, after) {
        (b'(', b')') => method && around.marks.any(marks::DOT | marks::BRACE) || matches!(next, b'(' | b'`'),
        (b'=', b';' | b',') => around.marks.any(marks::PAREN),
        (b'{', b'}') => start > 2 && at(value, start - 2) == b'$',
        (_, b'?') => next == b'.' && at(value, end + 2) == b'(',
        (_, b'.') => listed(&["apply", "bind", "call"], between(value, end + 1, word_end(value, end + 1))),
        _ => false,
    };
    handed.then(|| Finding::new(Family::Xss, 76, "script-call", start))
}

fn member(value: &[u8], word: &[u8], start: usize, own_end: usize) -> Option<Finding> {
    let after = skip_loose(value, own_end);
    let found = MEMBERS.binary_search_by(|(name, _)| crate::bytes::compare(name.as_bytes(), word)).ok()?;
    let (_, members) = MEMBERS.get(found)?;
    let (open, member_start) = match at(value, after) {
        b'.' => (false, skip_loose(value, after + 1)),
        b'[' => {
            let inside = skip_loose(value, after + 1);
            let quoted = matches!(at(value, inside), b'"' | b'\'' | b'`');
            // `self["al"+"ert"]`: a member whose name is spelled out is hidden.
            if quoted
                && listed(&["document", "frames", "globalthis", "parent", "self", "top", "window"], word)
            {
                return finding(75, "member", start);
            }
            (true, inside + usize::from(quoted))
        }
        _ => return None,
    };
    let end = word_end(value, member_start);
    let name = between(value, member_start, end);
    if !listed(members, name) {
        return open.then(|| Finding::new(Family::Xss, 55, "member", start));
    }
    if mention::name(value, start, own_end) {
        return finding(55, "member", start);
    }
    let used = matches!(before_word(value, start), b'+' | b'=')
        || matches!(
            at(value, skip_few(value, end)),
            b'(' | b'=' | b';' | b'[' | b')' | b'+' | b'"' | b'\'' | b']' | b'`' | b',' | b'/' | b'\\'
        );
    // Names of fields may look like this; those of the page's secrets do not.
    let secret = listed(&["cookie", "domain", "location", "write"], name);
    let apart = after > own_end || !open && between(value, after, end).contains(&b'*');
    let alone = start == 0 && end == value.len() && (secret || apart);
    finding(
        if !secret && mention::is_declaration(value, start) {
            60
        } else if used {
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
    let made = word.eq_ignore_ascii_case(b"function")
        && before.trim_ascii_end().ends_with(b"new")
        && open == start + word.len();
    if made {
        return finding(76, "script-call", start);
    }
    // `function (see there)`; what makes one of a string is told by the string.
    let prose = is_space(at(value, start + word.len())) && word.eq_ignore_ascii_case(b"function");
    let lambda = argument == b'(' || argument == b')' && last != b'=';
    if !plain_argument || prose || lambda && starts(word, b"set") {
        return None;
    }
    // `fetch('//x')`, `import("https://x")`: what they load stands elsewhere.
    let target = from(value, inside + 1);
    let loads = generic
        && matches!(argument, b'\'' | b'"' | b'`')
        && (starts(target, b"http") || starts(target, b"/") || starts(target, b"data:"));
    // `; prompt() asks for ..`: named in a sentence.
    if argument == b')' && is_space(at(value, inside + 1)) && at(value, inside + 2).is_ascii_alphabetic() {
        return None;
    }
    if mention::name(value, start, open) {
        return finding(55, "script-call", start);
    }
    // `'-alert(1)-'`, `";alert(1)//`, `{{alert(1)}}`, `${alert(1)}`, `=alert(1)`.
    let broke = b"'\"`;-+*/^|&={}<>:([,?!%~".contains(&last);
    let confidence = match (generic, broke, start == around.lead) {
        (false, true, _) if around.quoted || last == b'=' || last == b':' => 85,
        (false, true, _) => 75,
        // `confirm (yes/no)` is ordinary text.
        (false, _, true) if open == start + word.len() => 75,
        (true, true, _)
            if around.quoted && around.marks.any(marks::BRACE | marks::SEMI) && word.len() == 8 =>
        {
            75
        }
        (true, true, _) if loads => 76,
        (true, _, true) if loads => 74,
        (true, ..) => return None,
        _ => 50,
    };
    finding(confidence, "script-call", start)
}
