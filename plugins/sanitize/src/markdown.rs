//! Code that Markdown marks as such: fenced blocks and spans in a sentence.
//!
//! Who writes about commands and code writes them so, and nobody runs what stands there. What looks for programs of a
//! shell or a language, and for addresses of the own network, leaves such code out; SQL, markup, paths, templates and all
//! else are looked for all the same, because a string or a page that holds the value does not care for backticks.
//!
//! Limits: an opening line of 64 bytes, a span of 256; a span counts only in a value with [`WORDS`] words in a row.

use crate::bytes::{at, between, find, from, is_space, starts};

/// Bytes of the line that opens a block.
const OPENING: usize = 64;
/// Bytes of a span.
const SPAN: usize = 256;
/// Words in a row, outside of spans, that make a sentence.
const WORDS: usize = 3;

/// The value without what stands in fenced blocks: as long as before. `None` where there are none.
pub(crate) fn without_blocks(value: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut index = 0;
    while let Some(start) = fence(value, index) {
        let mark = between(value, start, start + 3);
        let Some(line) = opening(value, start) else {
            index = start + 3;
            continue;
        };
        let mut end = line;
        while let Some(close) = find(value, mark, end) {
            end = close + 3;
            if begins_line(value, close) {
                break;
            }
        }
        // One that is never closed hides all that follows.
        if end == line || !begins_line(value, end - 3) {
            break;
        }
        blank(out.get_or_insert_with(|| value.to_vec()), start, end);
        index = end;
    }
    out
}

/// The value without what stands in spans of sentences: as long as before. `None` where there are none.
pub(crate) fn without_spans(value: &[u8]) -> Option<Vec<u8>> {
    if !value.contains(&b'`') {
        return None;
    }
    let mut out: Option<Vec<u8>> = None;
    let (mut index, mut words, mut sentence) = (0, 0, false);
    while index < value.len() {
        if at(value, index) != b'`' {
            // Whether words are between the last span and here.
            let begins =
                at(value, index).is_ascii_alphabetic() && (index == 0 || is_space(at(value, index - 1)));
            words = if begins { words + 1 } else { words };
            sentence |= words >= WORDS;
            if matches!(at(value, index), b';' | b'|' | b'&' | b'$' | b'(') {
                words = 0;
            }
            index += 1;
            continue;
        }
        let inside = between(value, index + 1, index + 1 + SPAN);
        let Some(length) = inside.iter().position(|b| *b == b'`').filter(|length| *length > 0) else {
            index += 1;
            continue;
        };
        let end = index + length + 2;
        let apart = index == 0
            || is_space(at(value, index - 1))
            || matches!(at(value, index - 1), b'(' | b'[' | b'/');
        let ends = matches!(at(value, end), 0 | b'.' | b',' | b':' | b')' | b']' | b'/' | b'?' | b'!')
            || is_space(at(value, end));
        if apart && ends {
            blank(out.get_or_insert_with(|| value.to_vec()), index, end);
        }
        index = end;
    }
    out.filter(|_| sentence)
}

fn blank(out: &mut [u8], start: usize, end: usize) {
    for byte in out.get_mut(start..end).into_iter().flatten() {
        *byte = b' ';
    }
}

/// Where the next fence stands.
fn fence(value: &[u8], index: usize) -> Option<usize> {
    let mut start = index;
    loop {
        start += from(value, start).iter().position(|b| matches!(b, b'`' | b'~'))?;
        let rest = from(value, start);
        if (starts(rest, b"```") || starts(rest, b"~~~")) && begins_line(value, start) {
            return Some(start);
        }
        let byte = at(rest, 0);
        start += rest.iter().take_while(|b| **b == byte).count();
    }
}

/// Whether nothing but a little white space, or the mark of a quotation, stands before it on its line.
fn begins_line(value: &[u8], place: usize) -> bool {
    let before = between(value, place.saturating_sub(16), place);
    let line = before.iter().rev().take_while(|b| !matches!(b, b'\n' | b'\r'));
    let length = line.clone().count();
    (length < before.len() || place == length) && line.into_iter().all(|b| matches!(b, b' ' | b'\t' | b'>'))
}

/// The end of the line that opens a block: a language's name, or nothing.
fn opening(value: &[u8], start: usize) -> Option<usize> {
    let line = between(value, start + 3, start + 3 + OPENING);
    let length = line.iter().position(|b| matches!(b, b'\n' | b'\r'))?;
    let named = between(line, 0, length).iter().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(b, b' ' | b',' | b'-' | b'_' | b'.' | b'+' | b'#' | b'{' | b'}' | b'=')
    });
    named.then_some(start + 3 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(value: &str) -> Option<String> {
        without_blocks(value.as_bytes())
            .map(|text| String::from_utf8(text).unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn blocks_are_left_out() {
        assert_eq!(blocks("Run:\n\n```bash\nnpm install\n```\n\nthen wait").unwrap(), "Run: then wait");
        assert_eq!(blocks("```\nid\n``` x").unwrap(), "x");
        assert_eq!(blocks("> ~~~ toml\n> a\n> ~~~\nb").unwrap(), "> b");
        for none in [
            "```sh\nno end",
            "~~~\nid",
            "```id```",
            "a ```\nid\n```",
            "``` $(id) \nx",
            "`id`",
            "~~struck~~",
            "```",
        ] {
            assert_eq!(blocks(none), None, "{none}");
        }
    }

    #[test]
    fn spans_in_sentences_are_left_out() {
        let spans =
            |value: &str| without_spans(value.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(spans("Call it with `a(b)`.").unwrap(), "Call it with       .");
        assert_eq!(spans("a`id`b and so on it goes"), None);
        for none in ["`id`", "x `id`", "1; `id`", "no spans in this one", "an odd one ` here"] {
            assert_eq!(spans(none), None, "{none}");
        }
    }
}
