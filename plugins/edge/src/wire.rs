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
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => out.push_str(text),
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

#[cfg(test)]
mod tests {
    use super::*;

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
