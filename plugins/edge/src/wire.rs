//! Headers as JavaScript has them: texts of which each character stands for a byte (`ByteString`, Web IDL).

use std::borrow::Cow;

use portcullis_policy::Headers;

/// The bytes that a text stands for. A character that stands for none becomes `?`; no `Headers` object holds one.
pub fn bytes(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect())
}

/// Appends bytes as the text that stands for them.
pub fn push(out: &mut String, bytes: &[u8]) {
    match bytes.is_ascii().then(|| std::str::from_utf8(bytes)) {
        Some(Ok(text)) => out.push_str(text),
        _ => out.extend(bytes.iter().map(|byte| char::from(*byte))),
    }
}

/// Reads lines of names and values in turn. No name or value holds a line's end: `Headers` refuses them.
pub fn headers(lines: &[u8]) -> Headers<'_> {
    let mut pairs = Vec::with_capacity(32);
    let mut lines = lines.split(|byte| *byte == b'\n');
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        pairs.push((name, value));
    }
    Headers::new(pairs)
}

/// Appends an edit: an operation with a name, and a value.
pub fn edit(out: &mut String, operation: char, name: &str, value: &[u8]) {
    out.push(operation);
    out.push_str(name);
    out.push('\n');
    push(out, value);
    out.push('\n');
}

/// Appends the number of an edit.
pub fn number(out: &mut String, number: usize) {
    out.push('#');
    out.push_str(&number.to_string());
    out.push('\n');
}

/// Ends a part of a text whose parts may hold lines.
pub const END: char = '\u{1e}';

/// Names and values, in order.
pub type Form = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads what `URLSearchParams` writes (`application/x-www-form-urlencoded`, URL Standard, 5.1).
pub fn form(text: &str) -> Form {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        out.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    u8::try_from(high * 16 + low).unwrap_or_default()
                }
                _ => b'%',
            },
            _ => *byte,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_it_was_written() {
        let read = form("a=b&c+d=%C3%A4%26%3D%0A&e&f=%zz%4&=&a=2");
        let wanted: [(&[u8], &[u8]); 6] = [
            (b"a", b"b"),
            (b"c d", "\u{e4}&=\n".as_bytes()),
            (b"e", b""),
            (b"f", b"%zz%4"),
            (b"", b""),
            (b"a", b"2"),
        ];
        let read: Vec<(&[u8], &[u8])> = read.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(read, wanted);
        assert!(form("").is_empty());
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        push(&mut text, &all);
        assert_eq!(bytes(&text).as_ref(), all);
        assert_eq!(bytes("\u{100}a").as_ref(), b"?a");
    }

    #[test]
    fn lines_are_pairs_and_half_a_pair_is_none() {
        let read = headers(b":method\nGET\na\n\na\n\xff\n");
        let pairs: Vec<_> = read.iter().collect();
        let wanted: [(&[u8], &[u8]); 3] = [(b":method", b"GET"), (b"a", b""), (b"a", b"\xff")];
        assert_eq!(pairs, wanted);
        assert_eq!(headers(b"").len(), 0);
    }
}
