//! Writes JSON text straight into bytes, from bytes of any kind.
//!
//! A record is written once per request, so there is no tree of values in between. Whatever arrives becomes valid
//! JSON in UTF-8 on one line: control characters are escaped, bytes that are no UTF-8 become U+FFFD, and a text that
//! would take more than its room ends, at a character's border, with `…`.

/// Ends a text that was cut.
const CUT: &str = "…";

/// A JSON text that grows.
#[derive(Debug, Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Punctuation and names that are JSON already.
    pub fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// JSON that somebody else wrote.
    pub fn raw_bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A whole number, without the machinery of `format!`.
    pub fn number(&mut self, number: u64) {
        let mut digits = [b'0'; 20];
        let mut rest = number;
        let mut used: usize = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            used = used.saturating_add(1);
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(digits.len().saturating_sub(used)..).unwrap_or_default());
    }

    /// Sixteen hexadecimal digits.
    pub fn hexadecimal(&mut self, number: u64) {
        for byte in number.to_be_bytes() {
            self.0.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
    }

    /// A string in quotes, of at most `most` bytes between them (and the mark of a cut).
    pub fn string(&mut self, bytes: &[u8], most: usize) {
        self.0.push(b'"');
        let end = self.0.len().saturating_add(most);
        self.escaped(bytes, end);
        self.0.push(b'"');
    }

    /// The inside of a string, as long as the whole text stays within `end` bytes; false when it was cut.
    pub fn escaped(&mut self, bytes: &[u8], end: usize) -> bool {
        // Nearly everything that arrives is this.
        if bytes.len() <= end.saturating_sub(self.0.len()) && is_plain(bytes) {
            self.0.extend_from_slice(bytes);
            return true;
        }
        for chunk in bytes.utf8_chunks() {
            let whole =
                self.valid(chunk.valid(), end) && (chunk.invalid().is_empty() || self.fits("\u{fffd}", end));
            if !whole {
                self.raw(CUT);
                return false;
            }
        }
        true
    }

    fn fits(&mut self, piece: &str, end: usize) -> bool {
        let room = self.0.len().saturating_add(piece.len()) <= end;
        if room {
            self.raw(piece);
        }
        room
    }

    fn valid(&mut self, text: &str, end: usize) -> bool {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f))
        {
            let (plain, special) = rest.split_at(at);
            let byte = special.bytes().next().unwrap_or(0);
            if !self.plain(plain, end) || !self.fits(escape(byte, &mut [0; 6]), end) {
                return false;
            }
            rest = special.get(1..).unwrap_or_default();
        }
        self.plain(rest, end)
    }

    /// Text that needs no escape; as much of it as fits.
    fn plain(&mut self, text: &str, end: usize) -> bool {
        let room = end.saturating_sub(self.0.len());
        if text.len() <= room {
            self.raw(text);
            return true;
        }
        let cut = text.floor_char_boundary(room);
        self.raw(text.get(..cut).unwrap_or_default());
        false
    }
}

/// ASCII that needs no escape. It looks at every byte, which lets it look at many at once.
fn is_plain(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |plain, byte| plain & (0x20..0x7f).contains(byte) & (*byte != b'"') & (*byte != b'\\'))
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

fn escape(byte: u8, room: &mut [u8; 6]) -> &str {
    match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        _ => {
            *room = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)];
            std::str::from_utf8(room).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(bytes: &[u8], most: usize) -> String {
        let mut text = Text::default();
        text.string(bytes, most);
        String::from_utf8(text.into_bytes()).unwrap()
    }

    #[test]
    fn numbers_are_written() {
        for number in [0, 7, 10, 4002, u64::MAX] {
            let mut text = Text::default();
            text.number(number);
            assert_eq!(text.into_bytes(), number.to_string().into_bytes());
        }
    }

    #[test]
    fn a_cut_stands_at_a_characters_border() {
        assert_eq!(written(b"abc", 3), "\"abc\"");
        assert_eq!(written(b"abcd", 3), "\"abc…\"");
        assert_eq!(written("aé".as_bytes(), 2), "\"a…\"");
        assert_eq!(written(b"a\"", 2), "\"a…\"");
        assert_eq!(written(b"a\xff", 3), "\"a…\"");
        assert_eq!(written(b"a\xffb", 9), "\"a\u{fffd}b\"");
        assert_eq!(written(b"\x00\x7f\r\n", 90), "\"\\u0000\\u007f\\r\\n\"");
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_string_of_json(bytes: Vec<u8>, most in 0_usize..64) {
            let text = written(&bytes, most);
            prop_assert!(text.len() <= most + 2 + CUT.len());
            prop_assert!(!text.bytes().any(|b| b < 0x20 || b == 0x7f));
            let read: String = serde_json::from_str(&text).unwrap();
            let whole = String::from_utf8_lossy(&bytes).into_owned();
            match read.strip_suffix(CUT) {
                Some(start) if !whole.ends_with(CUT) => prop_assert!(whole.starts_with(start)),
                _ => prop_assert_eq!(read, whole),
            }
        }
    }
}
