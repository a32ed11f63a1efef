//! What several policies read of header fields, read once for all of them.

/// Whether a `cache-control` lets no shared cache answer with the response unasked (RFC 9111, 5.2.2).
#[must_use]
pub fn is_private(cache_control: &[u8]) -> bool {
    let directive = |part: &[u8]| {
        let part = part.trim_ascii();
        // With a list of fields, `private="x"` and `no-cache="x"` are about those fields alone.
        [&b"private"[..], b"no-store", b"no-cache"].iter().any(|known| part.eq_ignore_ascii_case(known))
    };
    cache_control.split(|byte| *byte == b',').any(directive)
}

/// Whether applications may take two names for the same: CGI (RFC 3875, 4.1.18) and what follows it (WSGI, PHP, Rack) write
/// `-` as `_` and read no case.
#[must_use]
pub fn is_same_to_cgi(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(plain).eq(other.iter().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_to_cgi_whatever_joins_them() {
        assert!(is_same_to_cgi(b"X_User-Id", b"x-user-id") && is_same_to_cgi(b"a", b"A"));
        assert!(!is_same_to_cgi(b"x.user-id", b"x-user-id") && !is_same_to_cgi(b"x-user", b"x-user-id"));
    }
}
