//! Tags and script that a sentence is about: `use the <script> tag to ..`, `document.cookie is read by ..`.
//!
//! No guess at meaning: a tag without attributes does nothing but for what it holds, and what a sentence goes on with is no
//! script, because two names side by side on a line are none.

use crate::bytes::{at, between, from, is_space, is_word, listed, starts, word_end};

/// Bytes of an expression that are read. More: it counts as script.
const EXPRESSION: usize = 256;
/// Bytes in front of a name or a tag that are looked at.
const BEFORE: usize = 48;
/// Bytes behind a tag that are read to the value's end. More: it is no mention.
const SHEET: usize = 4096;

/// Words of script behind which a name may stand.
#[rustfmt::skip]
const KEYWORDS: [&str; 25] = [
    "async", "await", "case", "class", "const", "default", "delete", "do", "else", "export", "extends", "function", "get",
    "import", "in", "instanceof", "let", "new", "of", "return", "static", "throw", "typeof", "var", "void",
];
/// Operators that are spelled in letters.
const OPERATORS: [&str; 3] = ["in", "instanceof", "of"];
/// Operators and beginnings of expressions that are spelled in letters: another word may follow.
#[rustfmt::skip]
const PREFIXES: [&str; 12] = [
    "async", "await", "case", "class", "delete", "function", "new", "return", "throw", "typeof", "void", "yield",
];

/// Whether the bare tag there (`<name>`, `</name>`) is one that a sentence names. `end`: behind its name.
pub(super) fn tag(value: &[u8], start: usize, end: usize) -> bool {
    let before = between(value, start.saturating_sub(BEFORE), start);
    let apart = before.last().is_none_or(|b| is_space(*b) || matches!(b, b'(' | b'"' | b'`' | b'>'));
    if at(value, end) != b'>' || !apart {
        return false;
    }
    let rest = from(value, end + 1);
    let closes = at(value, start + 1) == b'/';
    let name = between(value, start + 1 + usize::from(closes), end);
    if closes {
        return words_before(before) + words(rest) > 2 && words_before(before) > 0
            || words_before(before) > 1;
    }
    match name {
        _ if name.eq_ignore_ascii_case(b"script") => holds_words(rest),
        _ if name.eq_ignore_ascii_case(b"style") => {
            words(rest) > 0 && rest.len() <= SHEET && !rest.iter().any(|b| matches!(b, b'{' | b'@' | b'\\'))
        }
        _ if listed(
            &["base", "embed", "frame", "iframe", "link", "math", "meta", "object", "param", "svg"],
            name,
        ) =>
        {
            words(rest) > 1 || words_before(before) > 1
        }
        _ => false,
    }
}

/// Whether what stands in an element of script is none: words side by side, one word alone, or markup.
fn holds_words(rest: &[u8]) -> bool {
    // `name <go()` compares, and in SVG `</b>` within a script is passed over: only where nothing is called or set behind it.
    let inert =
        || rest.len() <= SHEET && !rest.iter().any(|b| matches!(b, b'(' | b'=' | b'`' | b'{' | b'[' | b'\\'));
    if starts(rest, b"</") {
        return !starts(rest, b"</script") && inert();
    }
    let first = word_end(between(rest, 0, 32), 1);
    let word = between(rest, 1, first);
    at(rest, 0) == b' '
        && word.len() > 1
        && word.iter().all(u8::is_ascii_lowercase)
        && !listed(&KEYWORDS, word)
        && at(rest, first) == b' '
        && (at(rest, first + 1) == b'<' && inert() || starts_word(from(rest, first + 1)))
}

/// Whether a word begins there that is no operator.
fn starts_word(text: &[u8]) -> bool {
    let word = between(text, 0, word_end(between(text, 0, 32), 0));
    !word.is_empty() && word.iter().all(u8::is_ascii_alphabetic) && !listed(&OPERATORS, word)
}

/// How many words follow, each behind a space.
fn words(text: &[u8]) -> usize {
    let mut parts = between(text, 0, BEFORE).split(|b| *b == b' ');
    if parts.next().is_none_or(|first| !first.is_empty()) {
        return 0;
    }
    parts.take_while(|part| is_plain(part)).count()
}

/// How many words stand right before.
fn words_before(text: &[u8]) -> usize {
    let text = text.strip_suffix(b"(").or_else(|| text.strip_suffix(b"`")).unwrap_or(text);
    text.trim_ascii_end().rsplit(|b| *b == b' ').take_while(|part| is_plain(part)).count()
}

fn is_plain(word: &[u8]) -> bool {
    let word = word.strip_suffix(b",").or_else(|| word.strip_suffix(b".")).unwrap_or(word);
    !word.is_empty()
        && word.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'\'' | b'-') || *b >= 0x80)
}

/// Whether the name there cannot be a part of script, because a word that is none of script's stands before it, or because the
/// expression that begins with it goes on in words.
pub(super) fn name(value: &[u8], start: usize, end: usize) -> bool {
    follows_word(between(value, start.saturating_sub(BEFORE), start)) || runs_into_words(value, end)
}

fn follows_word(before: &[u8]) -> bool {
    let text = before.strip_suffix(b" ").unwrap_or_default();
    let word = text.iter().rev().take_while(|b| b.is_ascii_alphabetic()).count();
    let (lead, word) = text.split_at(text.len() - word);
    // A word of its own; what begins with a sign may be an attribute, or the end of a string.
    word.len() > 1 && lead.last().is_none_or(|b| *b == b' ') && !listed(&KEYWORDS, word)
}

/// Reads on behind an operand. Where a string, a regular expression, a comment or a tag may begin, all may be script that follows.
fn runs_into_words(value: &[u8], end: usize) -> bool {
    let text = between(value, end, end + EXPRESSION);
    let (mut index, mut operand, mut spaced) = (0, true, false);
    while index < text.len() {
        let byte = at(text, index);
        match byte {
            b' ' | b'\t' => spaced = true,
            b'(' | b'[' => match closing(text, index) {
                Some(close) => (index, operand) = (close, true),
                None => return false,
            },
            b'\'' | b'"' if !operand => match string_end(text, index) {
                Some(end) => (index, operand) = (end, true),
                None => return false,
            },
            b'.' | b'=' | b'+' | b'-' | b'*' | b'&' | b'|' | b'!' | b'?' | b':' | b'>' | b',' => {
                operand = false
            }
            _ if is_word(byte) => {
                let word = between(text, index, word_end(text, index));
                let operator = operand && spaced && listed(&OPERATORS, word);
                if operand && spaced && !operator {
                    return word.len() > 1 && word.iter().all(u8::is_ascii_lowercase);
                }
                if !operator && listed(&PREFIXES, word) {
                    return false;
                }
                index += word.len() - 1;
                operand = !operator;
            }
            _ => return false,
        }
        if !matches!(byte, b' ' | b'\t') {
            spaced = false;
        }
        index += 1;
    }
    false
}

/// Where the bracket that opens there is closed; brackets in strings do not count.
fn closing(text: &[u8], open: usize) -> Option<usize> {
    let (mut depth, mut index) = (0_u32, open);
    while index < text.len() {
        match at(text, index) {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(index);
                }
            }
            b'\'' | b'"' | b'`' => index = string_end(text, index)?,
            // A slash may begin a regular expression, or a comment.
            b'/' | b'\\' => return None,
            _ => {}
        }
        index += 1;
    }
    None
}

/// Where a string ends that holds no escape and no expression.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let length = from(text, start + 1).iter().position(|b| *b == at(text, start))?;
    let plain = !between(text, start + 1, start + 1 + length).iter().any(|b| matches!(b, b'\\' | b'$'));
    plain.then_some(start + 1 + length)
}

/// Whether an attribute outside of any tag stands in a sentence: `the button's onclick="go()" does nothing`.
pub(super) fn attribute(before: &[u8], content: &[u8]) -> bool {
    let quote = at(content, 0);
    if !matches!(quote, b'"' | b'\'') {
        return false;
    }
    let close = between(content, 1, EXPRESSION).iter().position(|b| *b == quote);
    let before = between(before, before.len().saturating_sub(BEFORE), before.len());
    // `go()`: what reaches for anything, or sets anything, is an attack's.
    let plain = |length: usize| {
        let code = between(content, 1, length + 1);
        code.iter().all(|b| is_word(*b) || matches!(b, b'(' | b')' | b';' | b',' | b' '))
    };
    close.is_some_and(|length| {
        plain(length) && words_before(before) > 1 && words(from(content, length + 2)) > 1
    })
}

/// The same for the attribute that begins there.
pub(super) fn attribute_at(value: &[u8], index: usize) -> bool {
    let equals = between(value, index, index + 64).iter().position(|b| *b == b'=');
    equals.is_some_and(|equals| attribute(between(value, 0, index), from(value, index + equals + 1)))
}

/// `const el = document.querySelector(..)`: a statement of a page's own script, which reaches for an element.
pub(super) fn is_declaration(value: &[u8], start: usize) -> bool {
    if start >= BEFORE {
        return false;
    }
    let lead = between(value, 0, start).trim_ascii();
    lead.iter().all(|b| is_word(*b) || matches!(b, b' ' | b'=' | b'$'))
        && [&b"const "[..], b"let ", b"var "].iter().any(|word| starts(lead, word))
        && lead.ends_with(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_sentences() {
        let of = |value: &str| {
            let start = value.find('<').unwrap();
            let end = value[start..].find(['>', ' ']).unwrap() + start;
            tag(value.as_bytes(), start, end)
        };
        for named in [
            "use the <script> tag to include it",
            "between <script> and </script>",
            "where does the <style> tag go?",
            "my <iframe> is not showing",
            "stands before </body> or </script>",
            "written as <script></code>",
        ] {
            assert!(of(named), "{named}");
        }
        for meant in [
            "<script>go()</script>",
            "use the <script> go()</script>",
            "x <script> return go()</script>",
            "x <script> a in go()</script>",
            "x <script> a\ngo()</script>",
            "x <script> a, go()</script>",
            "x <style> a { b: url(x) }",
            "<iframe>",
            "the<script> tag to include it",
            "</script>",
            "x <script> name <go()</script>",
            "x <script></b>a=b</script>",
        ] {
            assert!(!of(meant), "{meant}");
        }
    }

    #[test]
    fn names_in_sentences() {
        let of = |value: &str| {
            let start = value.find("doc").unwrap();
            name(value.as_bytes(), start, start + 8)
        };
        for named in [
            "you can use document.cookie for it",
            "document.cookie is read",
            "document.querySelector('.a').classList.toggle(\"b\") throws null",
            "document.title = 'x y' does nothing",
            "document.a, document.b and others",
        ] {
            assert!(of(named), "{named}");
        }
        for meant in [
            "document.cookie",
            "return document.cookie",
            "';document.cookie//is read",
            "'+document.cookie+' is read",
            "document.cookie;x y",
            "document.write('a') <b> c",
            "new document.a(1) in x",
            "document.a(')",
            "x=document.cookie",
            "document.a-/aa bb/",
            "document.a+typeof aa",
            "document.a('\\') aa bb')",
        ] {
            assert!(!of(meant), "{meant}");
        }
    }
}
