//! Session fixation: another site hands the visitor a session that it knows.
//!
//! A session's identifier comes from the application, in a cookie. One that arrives as a parameter, from a page of
//! another site, was chosen there. Not found on purpose: identifiers in the path (`;jsessionid=`), which search engines
//! and bookmarks hold, and requests without a `referer`.

use portcullis_policy::Headers;

use crate::bytes::{at, between, find, from};
use crate::lexicon::Lexicon;

/// Names under which frameworks keep a session's identifier. Sorted.
static NAMES: Lexicon = Lexicon::new(&[
    "__host-next-auth.session-token",
    "__secure-next-auth.session-token",
    "_flask_session",
    "_rails_session",
    "_session_id",
    "asp.net_sessionid",
    "aspsessionid",
    "cakephp",
    "cfid",
    "cfsid",
    "cftoken",
    "ci_session",
    "connect.sid",
    "jservsession",
    "jsessionid",
    "jwsession",
    "koa.sess",
    "koa:sess",
    "laravel_session",
    "meteor_login_token",
    "next-auth.session-token",
    "phpsessid",
    "phpsession",
    "play_session",
    "rack.session",
    "sails.sid",
    "session-id",
    "session_id",
    "sessionid",
    "shiny-token",
    "symfony",
    "viewstate_sessionid",
    "weblogicsession",
    "xsrf_sessionid",
    "zend_session_id",
]);

/// Whether a parameter of that name holds a session's identifier.
pub(crate) fn is_session(name: &[u8]) -> bool {
    name.len() >= 4 && NAMES.has(name)
}

/// How sure it is that another site sent the visitor here: 0 to 100.
pub(crate) fn foreign(headers: &Headers<'_>) -> u8 {
    let Some(referer) = headers.first("referer") else { return 0 };
    let own = headers.first(":authority").or_else(|| headers.first("host")).unwrap_or_default();
    let Some(start) = find(between(referer, 0, 8), b"://", 0) else { return 0 };
    let rest = from(referer, start + 3);
    let host = bare(between(
        rest,
        0,
        rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len()),
    ));
    let own = bare(own);
    if own.is_empty() || host.is_empty() || inside(host, own) || inside(own, host) && host.contains(&b'.') {
        return 0;
    }
    // Two hosts of one site may share a session.
    if site(own) == site(host) && site(own).contains(&b'.') { 60 } else { 76 }
}

/// Without port and user.
fn bare(authority: &[u8]) -> &[u8] {
    let host = authority.rsplit(|b| *b == b'@').next().unwrap_or(authority);
    if at(host, 0) == b'[' {
        return host;
    }
    between(host, 0, host.iter().position(|b| *b == b':').unwrap_or(host.len()))
}

/// Whether a host is the other, or below it.
fn inside(host: &[u8], parent: &[u8]) -> bool {
    let Some(cut) = host.len().checked_sub(parent.len()) else { return false };
    from(host, cut).eq_ignore_ascii_case(parent) && (cut == 0 || at(host, cut - 1) == b'.')
}

/// The last two labels.
fn site(host: &[u8]) -> &[u8] {
    let mut dots = host.iter().enumerate().rev().filter(|(_, b)| **b == b'.');
    match dots.nth(1) {
        Some((dot, _)) => from(host, dot + 1),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_site_is_told_from_ones_own() {
        assert!(NAMES.words().is_sorted());
        let sure = |own: &'static str, referer: &'static str| {
            foreign(&Headers::new(vec![(b":authority", own.as_bytes()), (b"referer", referer.as_bytes())]))
        };
        for referer in
            ["https://evil.example/", "http://shop.example.evil.example/a", "https://evil.example:8443?x"]
        {
            assert_eq!(sure("shop.test", referer), 76, "{referer}");
        }
        for referer in
            ["https://shop.test/a", "https://www.shop.test:8443/", "about:blank", "android-app://x"]
        {
            assert_eq!(sure("shop.test:443", referer), 0, "{referer}");
        }
        assert_eq!(sure("a.shop.test", "https://b.shop.test/"), 60);
        assert_eq!(sure("a.shop.test", "https://shop.test/"), 0);
    }
}
