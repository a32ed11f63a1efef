//! Percent escapes in a path or a query that are not what they look like: NUL, overlong UTF-8, `%u` for full-width
//! letters, and (weaker) escapes and UTF-8 that are broken.

use crate::bytes::{at, from};
use crate::decode::hex_run;
use crate::finding::{Family, Finding, surer};

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Protocol, confidence, why, at))
}

/// Looks at a path and query as they were sent. Linear in the length; one comparison per byte without escapes.
pub(crate) fn detect(raw: &[u8]) -> Option<Finding> {
    let mut found = None;
    let mut index = 0;
    while let Some(offset) = from(raw, index).iter().position(|b| *b == b'%') {
        let start = index + offset;
        index = start + 1;
        match hex_run(from(raw, start + 1), 2) {
            (0, 2) => return finding(80, "null-byte", start),
            (lead @ (0xc0 | 0xc1 | 0xf5..), 2) => {
                let next = escaped(raw, start + 3);
                if next.is_some_and(|next| (0x80..0xc0).contains(&next)) {
                    found = surer(found, finding(if lead < 0xc2 { 76 } else { 72 }, "overlong", start));
                }
            }
            (lead @ 0xc2..=0xf4, 2) => {
                let length = match lead {
                    0xc2..=0xdf => 1,
                    0xe0..=0xef => 2,
                    _ => 3,
                };
                let sound = (0..length)
                    .all(|n| escaped(raw, start + 3 + 3 * n).is_some_and(|b| (0x80..0xc0).contains(&b)));
                if sound {
                    index = start + 3 + 3 * length;
                } else {
                    // Latin-1 and its like are still written so.
                    found = surer(found, finding(50, "broken-utf8", start));
                }
            }
            (_, 2) => {}
            _ if at(raw, start + 1) | 32 == b'u' => match hex_run(from(raw, start + 2), 4) {
                (0xff01..=0xff5e, 4) => return finding(74, "full-width", start),
                (_, 4) => found = surer(found, finding(45, "unicode-escape", start)),
                _ => found = surer(found, finding(45, "broken-escape", start)),
            },
            _ => found = surer(found, finding(45, "broken-escape", start)),
        }
    }
    found
}

fn escaped(raw: &[u8], start: usize) -> Option<u32> {
    if at(raw, start) != b'%' {
        return None;
    }
    match hex_run(from(raw, start + 1), 2) {
        (byte, 2) => Some(byte),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_that_mislead() {
        for odd in ["/a%00b", "/?x=%c0%af", "/?x=%C1%81", "/?x=%uff0f", "/?x=%F5%80%BF%BF"] {
            assert!(detect(odd.as_bytes()).is_some_and(|f| f.confidence >= 70), "{odd}");
        }
        for fine in [
            "/",
            "/a%20b?c=%e2%82%ac&d=%F0%9F%99%82",
            "/?q=100%",
            "/?q=%E9t%E9",
            "/?q=%C0",
            "/?q=%u20ac",
            "/?q=%zz",
        ] {
            assert!(detect(fine.as_bytes()).is_none_or(|f| f.confidence < 70), "{fine}");
        }
    }
}
