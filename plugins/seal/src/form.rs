//! Where the values to seal stand in a form (`application/x-www-form-urlencoded`).

use std::ops::Range;

use crate::config::Named;

/// A value to seal: where it stands as it came, the number of its field, and what it says.
pub type Found = (Range<usize>, usize, Vec<u8>);

/// Finds the values of those fields, in order; of a field that stands there several times, each.
pub fn find(body: &[u8], fields: &[Named]) -> Vec<Found> {
    let (mut found, mut at) = (Vec::new(), 0_usize);
    for pair in body.split(|byte| *byte == b'&') {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let name = decoded(pair.get(..equals.unwrap_or(pair.len())).unwrap_or_default());
        let field = fields.iter().position(|field| field.name.as_bytes() == name);
        if let (Some(equals), Some(field)) = (equals, field) {
            let start = at.saturating_add(equals).saturating_add(1);
            let end = at.saturating_add(pair.len());
            let value = decoded(body.get(start..end).unwrap_or_default());
            found.push((start..end, field, value));
        }
        at = at.saturating_add(pair.len()).saturating_add(1);
    }
    found
}

/// Undoes `+` and percent escapes; what is no escape stands for itself (WHATWG URL, 5.1).
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let escaped = match (byte, behind) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        if escaped.is_some() {
            rest = behind.get(2..).unwrap_or_default();
        }
        bytes.push(escaped.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_however_it_is_written() {
        let fields = ["iban", "a b"].map(|name| Named { name: name.into(), field: String::new() });
        let of = |body: &str| -> Vec<(String, usize, String)> {
            let found = find(body.as_bytes(), &fields).into_iter();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            found.map(|(range, field, value)| (body[range].to_owned(), field, text(value))).collect()
        };
        let one = |raw: &str, field: usize, value: &str| (raw.to_owned(), field, value.to_owned());
        assert_eq!(of("x=1&iban=DE02+12%3d&y=2"), [one("DE02+12%3d", 0, "DE02 12=")]);
        assert_eq!(of("%69ban=1&iban=2&iban="), [one("1", 0, "1"), one("2", 0, "2"), one("", 0, "")]);
        assert_eq!(of("a+b=%zz%4&a%20b=="), [one("%zz%4", 1, "%zz%4"), one("=", 1, "=")]);
        for none in ["", "&&", "iban", "ibans=1", "xiban=1", "IBAN=1", "=iban"] {
            assert_eq!(of(none), [], "{none}");
        }
    }
}
