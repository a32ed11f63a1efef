//! Parameters behind a header's value, `; name=value`, as media types (RFC 9110, 5.6.6) and `content-disposition` (RFC 6266)
//! have them. One reader for all of them: what stands within another name, or within quotes, is nobody's parameter.

use crate::bytes::{between, from};

/// The parameters in order, names and values without white space and quotes. One without `=` has an empty value.
pub(crate) fn parameters(value: &[u8]) -> Parameters<'_> {
    Parameters { rest: behind(value) }
}

/// The value of the first parameter of that lower-case name.
pub(crate) fn parameter<'a>(value: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    parameters(value).find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

/// What stands behind the next semicolon.
fn behind(text: &[u8]) -> &[u8] {
    text.iter().position(|b| *b == b';').map_or(b"", |semicolon| from(text, semicolon + 1))
}

/// See [`parameters`].
pub(crate) struct Parameters<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.trim_ascii_start();
        if text.is_empty() {
            return None;
        }
        let end = text.iter().position(|b| matches!(b, b'=' | b';')).unwrap_or(text.len());
        let name = between(text, 0, end).trim_ascii_end();
        let behind_name = from(text, end);
        let Some(argument) = behind_name.strip_prefix(b"=").map(<[u8]>::trim_ascii_start) else {
            self.rest = behind(behind_name);
            return Some((name, b""));
        };
        let value = if let [b'"', inside @ ..] = argument {
            let end = inside.iter().position(|b| *b == b'"').unwrap_or(inside.len());
            self.rest = behind(from(inside, end + 1));
            between(inside, 0, end)
        } else {
            self.rest = behind(argument);
            let end = argument.iter().position(|b| *b == b';' || b.is_ascii_whitespace());
            between(argument, 0, end.unwrap_or(argument.len()))
        };
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_and_quotes_hide_nothing() {
        let all = |value: &'static str| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            parameters(value.as_bytes())
                .map(|(name, value)| text(name) + "|" + &text(value))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            all("a/b; xboundary=aaa; Boundary=\"b c\";charset=utf-8"),
            ["xboundary|aaa", "Boundary|b c", "charset|utf-8"]
        );
        assert_eq!(
            all("form-data; name=\"a;filename=b\"; filename = c d; e"),
            ["name|a;filename=b", "filename|c", "e|"]
        );
        assert_eq!(all("a/b"), Vec::<String>::new());
        assert_eq!(all("a/b; x=\"open; y=1"), ["x|open; y=1"]);
        assert_eq!(parameter(b"a/b; x=boundary=1; BOUNDARY=2", b"boundary"), Some(&b"2"[..]));
    }
}
