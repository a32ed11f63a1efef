//! Base64 with the alphabet for URLs, without padding (RFC 4648, section 5), in both directions. The crate for it makes a module
//! larger than these lines do.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends the text of `bytes`.
pub fn append(text: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let mut word = [0; 3];
        word.iter_mut().zip(group).for_each(|(to, from)| *to = *from);
        let [a, b, c] = word;
        let digits = [a >> 2, (a << 4 | b >> 4) & 63, (b << 2 | c >> 6) & 63, c & 63];
        for digit in digits.iter().take(group.len().saturating_add(1)) {
            text.push(char::from(ALPHABET.get(usize::from(*digit)).copied().unwrap_or(b'A')));
        }
    }
}

/// The bytes of a text; `None` when it is none of ours: padding, other characters, or bits beyond the last byte.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len().saturating_mul(3) / 4);
    for group in text.as_bytes().chunks(4) {
        let mut digits = [0_u8; 4];
        for (to, from) in digits.iter_mut().zip(group) {
            *to = match from {
                b'A'..=b'Z' => from.wrapping_sub(b'A'),
                b'a'..=b'z' => from.wrapping_sub(b'a').wrapping_add(26),
                b'0'..=b'9' => from.wrapping_sub(b'0').wrapping_add(52),
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
        }
        let [a, b, c, d] = digits;
        let word = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
        let whole = match group.len() {
            4 => 3,
            3 if c & 3 == 0 => 2,
            2 if b & 15 == 0 => 1,
            _ => return None,
        };
        bytes.extend(word.iter().take(whole));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_text_is_that_of_everybody(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut text = String::new();
            super::append(&mut text, &bytes);
            prop_assert_eq!(&text, &URL_SAFE_NO_PAD.encode(&bytes));
            prop_assert_eq!(super::decode(&text), Some(bytes));
        }

        #[test]
        fn what_others_refuse_is_refused(text in "[A-D9_=+/-]{0,9}") {
            prop_assert_eq!(super::decode(&text), URL_SAFE_NO_PAD.decode(&text).ok());
        }
    }
}
