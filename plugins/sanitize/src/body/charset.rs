//! Charsets by name: which write ASCII as ASCII, which can be turned into it, and the rest.

use crate::bytes::{at, between, starts};
use crate::parameters::parameter;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// ASCII is written as ASCII.
    Ascii,
    /// UTF-16; big-endian, little-endian, or as its first two bytes say (big-endian without).
    Utf16(Option<Order>),
    /// Unknown, or one in which ASCII is hidden (UTF-7, UTF-32, EBCDIC, ISO 2022).
    Unknown,
}

/// The order of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Big,
    Little,
}

/// Names of one charset each.
const EXACT: [&str; 18] = [
    "ascii",
    "big5",
    "big5-hkscs",
    "gb18030",
    "gb2312",
    "gbk",
    "koi8-r",
    "koi8-u",
    "ks_c_5601-1987",
    "latin1",
    "macintosh",
    "ms949",
    "shift_jis",
    "sjis",
    "tis-620",
    "us-ascii",
    "utf-8",
    "utf8",
];
/// What the names of families of charsets begin with.
const FAMILIES: [&[u8]; 6] = [b"iso-8859-", b"iso8859-", b"iso_8859-", b"windows-", b"cp125", b"euc-"];

/// The charset that a media type names; ASCII where it names none.
pub(crate) fn declared(content_type: &[u8]) -> Charset {
    parameter(content_type, b"charset").map_or(Charset::Ascii, named)
}

/// The charset whose name a text begins with, quotes left out.
pub(crate) fn named(text: &[u8]) -> Charset {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"\"").or_else(|| text.strip_prefix(b"'")).unwrap_or(text);
    let end = text.iter().position(|b| matches!(b, b'"' | b'\'' | b';' | b',' | b' ')).unwrap_or(text.len());
    let name = between(text, 0, end);
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let numbered = FAMILIES.iter().any(|family| {
        starts(name, family)
            && (1..=5).contains(&(name.len() - family.len()))
            && at(name, family.len()).is_ascii_alphanumeric()
    });
    if name.is_empty() || EXACT.iter().any(|known| is(known)) || numbered {
        Charset::Ascii
    } else if is("utf-16") || is("utf16") {
        Charset::Utf16(None)
    } else if is("utf-16le") {
        Charset::Utf16(Some(Order::Little))
    } else if is("utf-16be") {
        Charset::Utf16(Some(Order::Big))
    } else {
        Charset::Unknown
    }
}

/// UTF-16 that is being turned into UTF-8: half as long to one and a half times as long.
#[derive(Debug)]
pub(crate) struct Wide {
    /// Unknown until the first unit tells.
    order: Option<Order>,
    begun: bool,
    /// Half a unit.
    byte: Option<u8>,
    /// The first of two units that are one character.
    first: Option<u16>,
}

/// Units that stand for no character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl Wide {
    pub(crate) const fn new(order: Option<Order>) -> Self {
        Self { order, begun: false, byte: None, first: None }
    }

    /// Adds what stands in these bytes. `last`: nothing follows.
    pub(crate) fn push(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Broken> {
        out.reserve(bytes.len());
        for byte in bytes {
            let Some(before) = self.byte.take() else {
                self.byte = Some(*byte);
                continue;
            };
            let pair = [before, *byte];
            if !std::mem::replace(&mut self.begun, true) {
                let marked = match pair {
                    [0xff, 0xfe] => Some(Order::Little),
                    [0xfe, 0xff] => Some(Order::Big),
                    _ => None,
                };
                if marked.is_some() && (self.order.is_none() || self.order == marked) {
                    self.order = marked;
                    continue;
                }
            }
            let unit = match self.order.unwrap_or(Order::Big) {
                Order::Big => u16::from_be_bytes(pair),
                Order::Little => u16::from_le_bytes(pair),
            };
            self.unit(unit, out)?;
        }
        // A lone byte at the end is no character, and no harm.
        if last && self.first.is_some() { Err(Broken) } else { Ok(()) }
    }

    fn unit(&mut self, unit: u16, out: &mut Vec<u8>) -> Result<(), Broken> {
        let units = match (self.first.take(), unit) {
            (None, 0xd800..=0xdbff) => {
                self.first = Some(unit);
                return Ok(());
            }
            (first, unit) => first.into_iter().chain([unit]),
        };
        for character in char::decode_utf16(units) {
            let character = character.map_err(|_| Broken)?;
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_not() {
        for name in [
            "utf-8",
            "\"UTF-8\"",
            "iso-8859-15",
            "windows-1252",
            "Shift_JIS",
            "",
            "'utf-8'",
            "euc-jp",
            "gbk;x=1",
        ] {
            assert_eq!(named(name.as_bytes()), Charset::Ascii, "{name}");
        }
        for name in
            ["utf-80", "ibm037", "utf-7", "utf-32", "iso-2022-jp", "cp1026", "garbage", "utf-88", "windows-"]
        {
            assert_eq!(named(name.as_bytes()), Charset::Unknown, "{name}");
        }
        assert_eq!(declared(b"text/plain; charset=UTF-16LE"), Charset::Utf16(Some(Order::Little)));
        assert_eq!(declared(b"text/plain"), Charset::Ascii);
    }

    #[test]
    fn utf16_becomes_utf8() {
        let decode = |text: &[u8], order| {
            let (mut wide, mut out) = (Wide::new(order), Vec::new());
            for byte in text {
                wide.push(&[*byte], false, &mut out)?;
            }
            wide.push(b"", true, &mut out).map(|()| out)
        };
        assert_eq!(decode(b"\xff\xfea\0\xac\x20", None).unwrap(), "a\u{20ac}".as_bytes());
        assert_eq!(decode(b"\0a\0<", None).unwrap(), b"a<");
        assert_eq!(decode(b"a\0<\0", Some(Order::Little)).unwrap(), b"a<");
        assert_eq!(decode(b"\xd8\x3d\xde\0", None).unwrap(), "\u{1f600}".as_bytes());
        assert_eq!(decode(b"\xd8\x00\x00a", None), Err(Broken));
        assert_eq!(decode(b"\xdc\x00", None), Err(Broken));
        assert_eq!(decode(b"\xd8\x00", None), Err(Broken));
        assert_eq!(decode(b"\0a\0", None).unwrap(), b"a");
    }
}
