//! Nonces: a page's own scripts carry a placeholder, which gives way to a nonce that is made for the response and stands in
//! its policy (CSP3, 6.7.3.3).
//!
//! Only the placeholder is replaced. A nonce put into every `<script>` would bless an injected one too; for the same reason
//! nobody must be able to guess the placeholder, and it never reaches a browser. Placeholder and nonce have the same
//! length, so that the page keeps its own, and a response's framing is not touched.
//!
//! The bits are fit for a key ([`Facts::entropy`](portcullis_policy::Facts::entropy)): who has seen one nonce must not know the
//! next (CSP3, 7.1).
//!
//! A response gets one only if its body can be changed and nobody shares it: see [`Placeholder::fits`]. Any other gets the policy
//! without a nonce, under which the placeholder's scripts do not run; that is counted. So that applications do not pack what
//! is to be changed, requests for pages lose `Accept-Encoding`: to unpack and pack again would cost a proxy more than to
//! let its own compressor do the work once.

use std::rc::Rc;

use portcullis_policy::fields::is_private;
use portcullis_policy::{ConfigErrors, Headers, Site};

use crate::cache::media_type;

/// Characters of placeholder and nonce: 128 random bits in base64, padding included.
const LENGTH: usize = 24;

/// The text that gives way to nonces.
#[derive(Debug)]
pub(crate) struct Placeholder(Rc<[u8]>);

impl Placeholder {
    pub fn compile(text: String, site: &Site, errors: &mut ConfigErrors) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.len() != LENGTH || !text.bytes().all(plain) {
            errors.error(
                site,
                ["has ", &text.len().to_string(), " characters, or others than A-Z a-z 0-9 _ -"].concat(),
                "write exactly 24 that nobody can guess, like `openssl rand -hex 12` makes",
            );
            return None;
        }
        Some(Self(text.into_bytes().into()))
    }

    pub fn bytes(&self) -> &Rc<[u8]> {
        &self.0
    }

    /// Whether a response can be given a nonce: a whole HTML page, in no content coding, that no shared cache may keep.
    /// `cache_control` is what the response will leave with.
    pub fn fits(method: &[u8], response: &Headers<'_>, cache_control: Option<&[u8]>) -> bool {
        let plain = response.all("content-encoding").all(|coding| coding.eq_ignore_ascii_case(b"identity"));
        // Other caches' own directives go before Cache-Control (RFC 9213).
        let targeted = ["cdn-cache-control", "surrogate-control"]
            .iter()
            .any(|name| response.first(name).is_some_and(|value| !is_private(value)));
        is_page(method, response) && plain && !targeted && cache_control.is_none_or(is_private)
    }
}

/// Whether a response is a whole HTML page.
pub(crate) fn is_page(method: &[u8], response: &Headers<'_>) -> bool {
    let status = response.first(":status").unwrap_or_default();
    let whole = method != b"HEAD" && !matches!(status, b"204" | b"206" | b"304");
    whole && media_type(response).eq_ignore_ascii_case(b"text/html")
}

/// Whether a request may be answered with a page that a browser runs scripts of. A browser says what it wants it for
/// (Fetch Metadata, `Sec-Fetch-Dest`); whoever says nothing may want a page.
pub(crate) fn may_want_page(request: &Headers<'_>) -> bool {
    const PAGES: [&[u8]; 6] = [b"document", b"iframe", b"frame", b"fencedframe", b"embed", b"object"];
    request.first("sec-fetch-dest").is_none_or(|wanted| PAGES.contains(&wanted))
}

/// A nonce: base64 (RFC 4648, 4) of 128 random bits.
pub(crate) fn make(random: [u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u128::from_be_bytes(random);
    let mut text = String::with_capacity(LENGTH);
    for place in 0..22_u32 {
        // 21 digits of six bits, and two bits that are left.
        let six = if place < 21 { bits >> (122 - 6 * place) } else { bits << 4 } & 63;
        let digit = usize::try_from(six).ok().and_then(|six| DIGITS.get(six));
        text.push(char::from(digit.copied().unwrap_or(b'A')));
    }
    text.push_str("==");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_base64_as_long_as_a_placeholder() {
        assert_eq!(make([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(make([0xff; 16]), "/////////////////////w==");
        assert_eq!(make(std::array::from_fn(|n| n as u8 * 0x11)), "ABEiM0RVZneImaq7zN3u/w==");
        assert_eq!(make([1; 16]).len(), LENGTH);
    }

    #[test]
    fn only_whole_private_pages_fit() {
        let fits = |method: &[u8], more: &[(&'static [u8], &'static [u8])], cache: Option<&[u8]>| {
            let mut all: Vec<(&[u8], &[u8])> =
                vec![(b":status", b"200"), (b"content-type", b"Text/HTML; charset=utf-8")];
            all.extend_from_slice(more);
            Placeholder::fits(method, &Headers::new(all), cache)
        };
        assert!(fits(b"GET", &[], None));
        assert!(fits(b"GET", &[(b"content-encoding", b"identity")], Some(b"max-age=0, private")));
        assert!(!fits(b"HEAD", &[], None));
        assert!(!fits(b"GET", &[(b"content-encoding", b"br")], None));
        assert!(!fits(b"GET", &[(b"cdn-cache-control", b"max-age=60")], Some(b"no-store")));
        for shared in ["public", "max-age=60", "s-maxage=1, private=\"x\"", "", "privateer"] {
            assert!(!fits(b"GET", &[], Some(shared.as_bytes())), "{shared}");
        }
    }
}
