//! The texts of a GraphQL document, without building it.
//!
//! A document is told from other text by its first word and by holding nothing but GraphQL's tokens; then its strings are
//! values, and braces, quotes and dollar signs between them are syntax and no attack.

use crate::bytes::{at, between, find, from, is_space, is_word, starts};
use crate::inspector::Flow;

/// Takes an argument's name and its text.
pub(crate) type Each<'e> = dyn FnMut(&[u8], &[u8]) -> Flow + 'e;

/// Whether the text is a document, as far as its tokens tell: it begins with an operation or a selection, brackets close,
/// and between strings there is nothing that GraphQL has not.
pub(crate) fn is_document(text: &[u8]) -> bool {
    let head = text.trim_ascii_start();
    let operation = [&b"query"[..], b"mutation", b"subscription", b"fragment"]
        .iter()
        .any(|word| starts(head, word) && !is_word(at(head, word.len())));
    let selection =
        at(head, 0) == b'{' && from(head, 1).trim_ascii_start().first().is_some_and(u8::is_ascii_alphabetic);
    if !operation && !selection {
        return false;
    }
    let (mut depth, mut deepest, mut index) = (0_i64, 0, 0);
    while index < text.len() {
        match at(text, index) {
            b'"' => {
                let (_, next, closed) = string(text, index);
                if !closed {
                    return false;
                }
                index = next;
                continue;
            }
            b'#' => {
                index += from(text, index).iter().position(|b| *b == b'\n').unwrap_or(text.len());
                continue;
            }
            b':' if at(text, index + 1) == b':' => return false,
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth -= 1,
            b'!' | b'$' | b'&' | b'.' | b':' | b'=' | b'@' | b'|' | b',' | b'-' | b'+' => {}
            byte if is_word(byte) && byte < 0x80 || is_space(byte) => {}
            _ => return false,
        }
        deepest = deepest.max(depth);
        if depth < 0 {
            return false;
        }
        index += 1;
    }
    depth == 0 && deepest > 0
}

/// Calls `each` with every string, under the name of the argument or field that it belongs to.
pub(crate) fn walk(text: &[u8], each: &mut Each<'_>) -> Flow {
    let mut name: &[u8] = b"";
    let mut index = 0;
    while index < text.len() {
        let byte = at(text, index);
        if byte == b'"' {
            let (inside, next, _) = string(text, index);
            each(name, inside)?;
            index = next;
        } else if byte == b'#' {
            let length = from(text, index).iter().position(|b| *b == b'\n').unwrap_or(text.len());
            each(b"", between(text, index, index + length))?;
            index += length;
        } else if is_word(byte) {
            let end = crate::bytes::word_end(text, index);
            if at(text, crate::bytes::skip_space(text, end)) == b':' {
                name = between(text, index, end);
            }
            index = end;
        } else {
            index += 1;
        }
    }
    Flow::Continue(())
}

/// The inside of a string, where it ends, and whether it is closed.
fn string(text: &[u8], start: usize) -> (&[u8], usize, bool) {
    if starts(from(text, start), b"\"\"\"") {
        return match find(text, b"\"\"\"", start + 3) {
            Some(end) => (between(text, start + 3, end), end + 3, true),
            None => (from(text, start + 3), text.len(), false),
        };
    }
    let mut index = start + 1;
    while index < text.len() {
        match at(text, index) {
            b'"' => return (between(text, start + 1, index), index + 1, true),
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    (from(text, start + 1), text.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_values_and_syntax_is_none() {
        let document =
            b"query($id: ID!) { user(id: $id, name: \"O'Brien\") { ...F note(text: \"\"\"x\"\"\") } }";
        assert!(is_document(document));
        let mut seen = Vec::new();
        let _ = walk(document, &mut |name, text| {
            seen.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(text)));
            Flow::Continue(())
        });
        assert_eq!(seen, ["name=O'Brien", "text=x"]);
    }

    #[test]
    fn other_text_is_no_document() {
        for other in [
            "{a",
            "query the database",
            "{{7*7}}",
            "{a} ; id",
            "queries {a}",
            "{A::b(c)}",
            "{ a(b: \"c) }",
            "function() {a}",
            "{}",
            "{ a } }",
        ] {
            assert!(!is_document(other.as_bytes()), "{other}");
        }
        assert!(is_document(b"{ a b { c } }") && is_document(b"mutation { x(y: [1, -2.5]) { z } } # end\n"));
    }
}
