//! The grammar of `content-type` (RFC 9110, 8.3). What does not follow it is read by each parser in its own way, and
//! some have run what they found in it (CVE-2017-5638).

use crate::bytes::{at, between, find, from};

/// A boundary that readers end in different places. Where nothing is bounded it does no harm.
pub(super) const BOUNDARY: &str = "media-type-boundary";

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// How odd a media type is; `None` for a well-formed one. Empty is missing, not malformed.
pub(crate) fn judge(value: &[u8]) -> Option<(u8, &'static str)> {
    let value = value.trim_ascii();
    if value.is_empty() {
        return None;
    }
    let token = |text: &[u8]| text.iter().take_while(|b| is_token(**b)).count();
    let kind = token(value);
    let rest = from(value, kind);
    let subtype = token(from(rest, 1));
    if kind == 0 || at(rest, 0) != b'/' || subtype == 0 {
        let code = value.iter().any(|b| matches!(b, b'(' | b'{' | b'<' | b'='));
        return Some(if code { (90, "media-type-code") } else { (75, "media-type") });
    }
    let mut rest = from(rest, 1 + subtype).trim_ascii_start();
    let (mut charsets, mut boundaries) = (0, 0);
    while !rest.is_empty() {
        let Some(behind) = rest.strip_prefix(b";") else { return Some((75, "media-type")) };
        rest = behind.trim_ascii_start();
        if rest.is_empty() {
            return None;
        }
        let name = token(rest);
        let (key, after) = (rest.get(..name).unwrap_or_default(), from(rest, name));
        let Some(argument) = after.strip_prefix(b"=") else { return Some((75, "media-type-parameter")) };
        if argument.starts_with(b"  ") {
            return Some((75, "media-type-parameter"));
        }
        charsets += u32::from(key.eq_ignore_ascii_case(b"charset"));
        // PHP takes the first boundary, whatever it is part of.
        boundaries += u32::from(find(key, b"boundary", 0).is_some());
        let is_boundary = key.eq_ignore_ascii_case(b"boundary");
        let length = match argument {
            [b'"', inside @ ..] => match inside.iter().position(|b| *b == b'"') {
                Some(end) => {
                    let hides = inside.get(..end).unwrap_or_default();
                    charsets += u32::from(find(hides, b"charset=", 0).is_some());
                    if is_boundary && hides.contains(&b'\\') {
                        return Some((75, "media-type-parameter"));
                    }
                    boundaries += u32::from(!is_boundary && find(hides, b"boundary", 0).is_some());
                    end + 2
                }
                None => return Some((75, "media-type-parameter")),
            },
            // A boundary without quotes often has characters that no token has.
            other => {
                let lead = other.iter().take(1).take_while(|b| **b == b' ').count();
                let end = from(other, lead).iter().position(|b| *b == b';' || *b == b' ');
                let length = end.map_or(other.len(), |end| lead + end);
                let bare = between(other, 0, length);
                // PHP ends it at a comma, and takes the blank for a part of it.
                if is_boundary && bare.iter().any(|b| matches!(b, b',' | b' ' | b'"' | b'\\')) {
                    return Some((75, BOUNDARY));
                }
                boundaries += u32::from(!is_boundary && find(bare, b"boundary", 0).is_some());
                length
            }
        };
        if length == 0 {
            return Some((75, "media-type-parameter"));
        }
        rest = from(argument, length).trim_ascii_start();
    }
    match (charsets, boundaries) {
        (2.., _) => Some((80, "charset-twice")),
        (_, 2..) => Some((80, "boundary-twice")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_and_what_is_written_in_practice() {
        for fine in [
            "",
            "text/plain",
            "text/plain; charset=\"UTF-8\"",
            "text/html;charset=utf-8;",
            "multipart/form-data; boundary=----WebKitFormBoundaryAbC1",
            "multipart/form-data; boundary=----a(1:3)+x",
            "multipart/mixed; boundary=\"a,b\"",
            "application/soap+xml; action=\"urn:x#y\"; charset=utf-8",
            "application/*+json",
        ] {
            assert_eq!(judge(fine.as_bytes()), None, "{fine}");
        }
        for odd in [
            "my-type",
            "multipart/; boundary=0",
            "%{(#a='multipart/form-data')}",
            "text/xml; blah",
            "text/plain; charset=\"UTF-8\"; x",
            "multipart/form-data; boundary=  x",
            "text/plain; charset=utf-8; charset=utf-7",
            "text/plain; charset=utf-8; x=\"charset=utf-7\"",
            "text/plain, text/html",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; x=\"boundary=a\"; boundary=b",
            "multipart/form-data; xboundary=a; boundary=b",
            "multipart/form-data; boundary=a,b",
            "multipart/form-data; boundary= a",
            "multipart/form-data; boundary=\"a\\\\b\"",
            "multipart/form-data; x=\"boundary ;y=a\"; boundary=b",
            "multipart/form-data; x=boundary,y=a; boundary=b",
        ] {
            assert!(judge(odd.as_bytes()).is_some_and(|(confidence, _)| confidence >= 70), "{odd}");
        }
    }
}
