//! Charsets by name: which write ASCII as ASCII, which can be turned into it, and the rest.

use crate::bytes::{at, between, find, from, starts};

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
    match find(content_type, b"charset=", 0) {
        Some(start) => named(from(content_type, start + 8)),
        None => Charset::Ascii,
    }
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

/// UTF-16 as UTF-8, half as long to one and a half times as long; `None` when it is broken.
pub(crate) fn utf16(text: &[u8], order: Option<Order>) -> Option<Vec<u8>> {
    let (order, text) = match (text, order) {
        ([0xff, 0xfe, rest @ ..], None | Some(Order::Little)) => (Order::Little, rest),
        ([0xfe, 0xff, rest @ ..], None | Some(Order::Big)) => (Order::Big, rest),
        (_, order) => (order.unwrap_or(Order::Big), text),
    };
    let units = text.chunks(2).map(|pair| match (pair, order) {
        ([first, second], Order::Big) => u16::from_be_bytes([*first, *second]),
        ([first, second], Order::Little) => u16::from_le_bytes([*first, *second]),
        // Half a unit at the end: where the window ends.
        _ => u16::from(b' '),
    });
    let mut out = Vec::with_capacity(text.len());
    for unit in char::decode_utf16(units) {
        out.extend_from_slice(unit.ok()?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(out)
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
        assert_eq!(utf16(b"\xff\xfea\0\xac\x20", None).unwrap(), "a\u{20ac}".as_bytes());
        assert_eq!(utf16(b"\0a\0<", None).unwrap(), b"a<");
        assert_eq!(utf16(b"a\0<\0", Some(Order::Little)).unwrap(), b"a<");
        assert_eq!(utf16(b"\xd8\x00\x00a", None), None);
        assert_eq!(utf16(b"\0a\0", None).unwrap(), b"a ");
    }
}
