//! Where the values to seal stand in a JSON document.
//!
//! A strict reader (RFC 8259): what it does not take for JSON is not sealed in part, but told as unreadable, because an application
//! that reads more leniently would find fields that were not found here. Every member of a name that stands twice is found. Names
//! are compared after their escapes are undone, and without regard to ASCII case, because some applications do not regard it either.

use std::ops::Range;

/// Objects and arrays within each other. More: the document is unreadable.
const DEPTH: usize = 128;

#[derive(Debug)]
enum Step {
    Any,
    Name(String),
}

/// A JSON Pointer whose steps may be `*`.
#[derive(Debug)]
pub struct Pointer {
    steps: Vec<Step>,
    /// What it is called in an envelope: `json` and itself.
    pub field: String,
}

impl Pointer {
    /// Reads one; `None` when it is none, or points to the whole document.
    pub fn new(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        for step in text.strip_prefix('/')?.split('/') {
            let rest = step.replace("~0", "").replace("~1", "");
            if rest.contains('~') {
                return None;
            }
            steps.push(match step {
                "*" => Step::Any,
                _ => Step::Name(step.replace("~1", "/").replace("~0", "~")),
            });
        }
        Some(Self { steps, field: ["json ", text].concat() })
    }
}

/// The document is none, or too deep.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// A value to seal: where it stands, and the number of its pointer.
pub type Found = (Range<usize>, usize);

/// Finds what the pointers (at most 32) point to, in order. What stands within another value that is found is not found by itself.
pub fn find(document: &[u8], pointers: &[Pointer]) -> Result<Vec<Found>, Unreadable> {
    let text = std::str::from_utf8(document).map_err(|_| Unreadable)?;
    let mut reader = Reader { bytes: text.as_bytes(), at: 0, pointers, found: Vec::new() };
    let all = pointers.iter().take(u32::BITS as usize).fold(0_u32, |all, _| all << 1 | 1);
    reader.document(all).ok_or(Unreadable)?;
    Ok(reader.found)
}

struct Reader<'d> {
    bytes: &'d [u8],
    at: usize,
    pointers: &'d [Pointer],
    found: Vec<Found>,
}

impl Reader<'_> {
    fn document(&mut self, all: u32) -> Option<()> {
        self.space();
        self.value(all, 0)?;
        self.space();
        (self.at == self.bytes.len()).then_some(())
    }

    /// A value at that depth, for those pointers (a bit each) whose steps so far have led here.
    fn value(&mut self, led: u32, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.members(led, depth),
            b'[' => self.elements(led, depth),
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn members(&mut self, led: u32, depth: usize) -> Option<()> {
        self.open(b'{', depth)?;
        if self.take(b'}') {
            return Some(());
        }
        loop {
            self.space();
            let start = self.at;
            self.string()?;
            let name = unescaped(self.bytes.get(start..self.at)?);
            self.space();
            self.word(b":")?;
            self.part(led, depth, &name)?;
            if self.take(b'}') {
                return Some(());
            }
            self.word(b",")?;
        }
    }

    fn elements(&mut self, led: u32, depth: usize) -> Option<()> {
        self.open(b'[', depth)?;
        if self.take(b']') {
            return Some(());
        }
        let mut index = 0_usize;
        loop {
            self.part(led, depth, &index.to_string())?;
            if self.take(b']') {
                return Some(());
            }
            self.word(b",")?;
            index = index.saturating_add(1);
        }
    }

    fn open(&mut self, bracket: u8, depth: usize) -> Option<()> {
        let fits = depth < DEPTH && self.take(bracket);
        self.space();
        fits.then_some(())
    }

    /// A member's or element's value, with the space around it.
    fn part(&mut self, led: u32, depth: usize, name: &str) -> Option<()> {
        let (mut on, mut ends) = (0_u32, None);
        for (number, pointer) in self.pointers.iter().enumerate().filter(|(number, _)| led >> number & 1 == 1)
        {
            let fits = match pointer.steps.get(depth) {
                Some(Step::Any) => true,
                Some(Step::Name(wanted)) => wanted.eq_ignore_ascii_case(name),
                None => false,
            };
            if fits && pointer.steps.len() == depth.saturating_add(1) {
                ends = ends.or(Some(number));
            } else if fits {
                on |= 1 << number;
            }
        }
        self.space();
        let start = self.at;
        self.value(if ends.is_some() { 0 } else { on }, depth.saturating_add(1))?;
        if let Some(number) = ends {
            self.found.push((start..self.at, number));
        }
        self.space();
        Some(())
    }

    /// A string, with its quotes.
    fn string(&mut self) -> Option<()> {
        self.word(b"\"")?;
        loop {
            let byte = self.peek()?;
            self.at = self.at.saturating_add(1);
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let escape = self.peek()?;
                    self.at = self.at.saturating_add(1);
                    match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.bytes.get(self.at..self.at.saturating_add(4))?;
                            digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                            self.at = self.at.saturating_add(4);
                        }
                        _ => return None,
                    }
                }
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at = self.at.saturating_add(count);
        (count > 0).then_some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(word).then_some(())?;
        self.at = self.at.saturating_add(word.len());
        Some(())
    }

    fn take(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at = self.at.saturating_add(usize::from(is));
        is
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at = self.at.saturating_add(1);
        }
    }
}

/// The text of a string that was read, without its quotes. Half of a pair of surrogates becomes a replacement character.
fn unescaped(string: &[u8]) -> String {
    let inner = string.get(1..string.len().saturating_sub(1)).unwrap_or_default();
    let text = String::from_utf8_lossy(inner);
    if !text.contains('\\') {
        return text.into_owned();
    }
    let (mut units, mut chars) = (Vec::new(), text.chars());
    let mut buffer = [0; 2];
    while let Some(char) = chars.next() {
        let unit = match char {
            '\\' => match chars.next() {
                Some('b') => 8,
                Some('f') => 12,
                Some('n') => 10,
                Some('r') => 13,
                Some('t') => 9,
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    u16::from_str_radix(&digits, 16).unwrap_or(0xfffd)
                }
                Some(other) => u16::try_from(u32::from(other)).unwrap_or(0xfffd),
                None => 0xfffd,
            },
            other => {
                units.extend_from_slice(other.encode_utf16(&mut buffer));
                continue;
            }
        };
        units.push(unit);
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn found(document: &str, pointers: &[&str]) -> Vec<String> {
        let pointers: Vec<Pointer> = pointers.iter().map(|text| Pointer::new(text).unwrap()).collect();
        let found = find(document.as_bytes(), &pointers).unwrap();
        found.into_iter().map(|(range, number)| format!("{number}:{}", &document[range])).collect()
    }

    #[test]
    fn what_pointers_point_to_is_found_wherever_it_stands() {
        let document = r#" {"card": {"number" : "4111", "cvc":12.5e3}, "items":[{"iban":"DE1"},{"iban":null}, 7], "a/b":{"~":[1]}} "#;
        for (pointers, expected) in [
            (&["/card/number"][..], &["0:\"4111\""][..]),
            (&["/card/cvc", "/card/number"], &["1:\"4111\"", "0:12.5e3"]),
            (&["/items/*/iban"], &["0:\"DE1\"", "0:null"]),
            (&["/items/1/iban"], &["0:null"]),
            (&["/card", "/card/number"], &["0:{\"number\" : \"4111\", \"cvc\":12.5e3}"]),
            (&["/*/number"], &["0:\"4111\""]),
            (&["/a~1b/~0/0"], &["0:1"]),
            (&["/card/name", "/number", "/items/iban"], &[]),
        ] {
            assert_eq!(found(document, pointers), expected, "{pointers:?}");
        }
    }

    #[test]
    fn no_way_of_writing_a_name_hides_it() {
        for document in [
            r#"{"card":1,"card":2}"#,
            r#"{"c\u0061rd":1,"\u0063ard":2}"#,
            r#"{"CARD":1,"Card":2}"#,
            r#"{"x":{"card":0},"card" : 1 , "card":2}"#,
        ] {
            assert_eq!(found(document, &["/card"]).len(), 2, "{document}");
        }
        assert_eq!(found(r#"{"\ud83d\ude00":1}"#, &["/😀"]), ["0:1"]);
        assert_eq!(found(r#"{"cards":1,"car":2,"ca\u0000rd":3}"#, &["/card"]).len(), 0);
    }

    #[test]
    fn what_is_no_json_is_told() {
        let card = [Pointer::new("/card").unwrap()];
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for document in [
            "",
            " ",
            "{",
            "{\"card\":1}x",
            "{'card':1}",
            "{card:1}",
            "{\"card\":1,}",
            "[1,]",
            "{\"a\":01}",
            "// x\n{}",
            "{\"a\":NaN}",
            "\u{feff}{}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{} {}",
            "[1 2]",
            "-",
            "1.",
            "1e",
            &deep(DEPTH + 1),
        ] {
            assert_eq!(find(document.as_bytes(), &card), Err(Unreadable), "{document}");
        }
        assert_eq!(find(b"{\"card\":\"\xff\"}", &card), Err(Unreadable));
        for document in [&deep(DEPTH), "\"x\"", "0", "-1.5E-7", " [ ] ", "{ }", "null"] {
            assert_eq!(find(document.as_bytes(), &card), Ok(vec![]), "{document}");
        }
    }

    #[test]
    fn a_pointer_points_into_a_document() {
        for bad in ["", "card", "/a~", "/a~2"] {
            assert!(Pointer::new(bad).is_none(), "{bad}");
        }
        assert_eq!(Pointer::new("/a~1b/*").unwrap().field, "json /a~1b/*");
    }

    proptest! {
        #[test]
        fn it_takes_for_json_what_others_do(document in "[\\[\\]{}\",:a\\\\u0-9eE.+\\- tnfalsrue]{0,24}") {
            let ours = find(document.as_bytes(), &[]).is_ok();
            // Others refuse half of a pair of surrogates, and numbers too large for them.
            let theirs = serde_json::from_str::<Value>(&document);
            let lenient = document.contains("\\u") || document.contains(['e', 'E']);
            prop_assert!(ours == theirs.is_ok() || (ours && lenient), "{document}: {theirs:?}");
        }
    }
}
