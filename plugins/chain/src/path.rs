//! The form of a path that routes and actions are matched against.
//!
//! An application sees `/login` when a client asks for `/%6cogin`, `//login`, `/./login` or `/x/../login`; so a rule for
//! `/login` must see it too. Only what applications agree on is undone: unreserved characters that are escaped
//! (RFC 3986, 6.2.2.2), empty and dot segments (6.2.2.3), and `;` parameters of the last segment are left alone. The
//! request itself is not changed.

use std::borrow::Cow;

/// Normalizes a path without its query. Borrowed when there is nothing to do, which is the usual case.
pub fn normalize(path: &[u8]) -> Cow<'_, [u8]> {
    let plain = !path.contains(&b'%')
        && !path.windows(2).any(|pair| matches!(pair, b"//" | b"/."))
        && path.first() == Some(&b'/');
    if plain {
        return Cow::Borrowed(path);
    }
    Cow::Owned(without_dots(&unescape_unreserved(path)))
}

/// A normal path as the laxest of applications read it: in lower case (ASP.NET, Express), without slashes at the end (Express,
/// Spring) and without `;..` in segments (servlets). For what may only become stricter by it. Borrowed when there is nothing
/// to do.
pub fn loosen(path: &[u8]) -> Cow<'_, [u8]> {
    let strict = path.iter().any(|byte| byte.is_ascii_uppercase() || *byte == b';');
    if !strict && (path.len() < 2 || !path.ends_with(b"/")) {
        return Cow::Borrowed(path);
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
        out.push(b'/');
        out.extend(name.iter().map(u8::to_ascii_lowercase));
    }
    while out.len() > 1 && out.ends_with(b"/") {
        out.pop();
    }
    Cow::Owned(out)
}

fn unescape_unreserved(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match escaped {
            Some(byte)
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') =>
            {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut directory = true;
    for segment in path.split(|byte| *byte == b'/') {
        directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(path.len().saturating_add(1));
    for segment in &kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if directory || out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_paths_look_equal() {
        for (raw, wanted) in [
            ("/login", "/login"),
            ("/%6cogin", "/login"),
            ("/%6C%6fgin", "/login"),
            ("//login", "/login"),
            ("/a/../login", "/login"),
            ("/a/%2e%2e/login", "/login"),
            ("/%2flogin", "/login"),
            ("/./login", "/login"),
            ("/login/", "/login/"),
            ("/login/.", "/login/"),
            ("/../../login", "/login"),
            ("", "/"),
            ("/", "/"),
            ("login", "/login"),
            ("/a%20b", "/a%20b"),
            ("/a%", "/a%"),
            ("/a%2", "/a%2"),
            ("/a%zz", "/a%zz"),
            ("/a%c3%a9", "/a%c3%a9"),
            ("*", "/*"),
        ] {
            assert_eq!(normalize(raw.as_bytes()), wanted.as_bytes(), "{raw}");
        }
    }
}
