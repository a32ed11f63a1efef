//! Nonces: a page's own scripts carry a placeholder, which gives way to a nonce that is made for the response and stands in
//! its policy (CSP3, 6.7.3.3).
//!
//! Only the placeholder is replaced. A nonce put into every `<script>` would bless an injected one too; for the same reason
//! nobody must be able to guess the placeholder, or read it. Placeholder and nonce have the same length, so that the page
//! keeps its own, and a response's framing is not touched.
//!
//! The bits are fit for a key ([`Facts::entropy`](portcullis_policy::Facts::entropy)): who has seen one nonce must not know the
//! next (CSP3, 7.1).
//!
//! A response gets one only if its body can be changed and nobody shares it: see [`Placeholder::fits`]. Any other page that can be
//! read gets [`FILLER`] in its place and the policy without a nonce, under which the placeholder's scripts do not run; that is
//! counted. So that nothing is packed or cut through a placeholder, requests lose what asks for it ([`UNREADABLE`]), whoever
//! sends them: to unpack and pack again would cost a proxy more than to let its own compressor do the work once.
//!
//! What an application packs all the same, or serves as another type than `text/html`, leaves with the placeholder in it.

use std::rc::Rc;

use portcullis_policy::fields::is_private;
use portcullis_policy::{ConfigErrors, Headers, Site};

use crate::cache::media_type;

/// Characters of placeholder and nonce: 128 random bits in base64, padding included.
const LENGTH: usize = 24;

/// What stands in pages that get no nonce. No policy allows it: [`make`] writes `==` at the end.
pub(crate) const FILLER: &[u8; LENGTH] = b"no-nonce-for-this-answer";

/// Request headers that ask for a body in which the placeholder cannot be found.
pub(crate) const UNREADABLE: [&str; 3] = ["accept-encoding", "if-range", "range"];

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

    /// Whether a page can be given a nonce: it is whole, and no shared cache may keep it. `cache_control` is what the response
    /// will leave with.
    pub fn fits(response: &Headers<'_>, cache_control: Option<&[u8]>) -> bool {
        // Other caches' own directives go before Cache-Control (RFC 9213).
        let targeted = ["cdn-cache-control", "surrogate-control"]
            .iter()
            .any(|name| response.first(name).is_some_and(|value| !is_private(value)));
        response.first(":status") != Some(b"206") && !targeted && cache_control.is_none_or(is_private)
    }
}

/// Whether a response has a body that is HTML, or a part of it.
pub(crate) fn is_page(method: &[u8], response: &Headers<'_>) -> bool {
    let status = response.first(":status").unwrap_or_default();
    let has_body = method != b"HEAD" && !matches!(status, b"204" | b"304");
    has_body && media_type(response).eq_ignore_ascii_case(b"text/html")
}

/// Whether a body is in no content coding.
pub(crate) fn is_plain(response: &Headers<'_>) -> bool {
    response.all("content-encoding").all(|coding| coding.eq_ignore_ascii_case(b"identity"))
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
        let page = |status: &'static [u8], more: &[(&'static [u8], &'static [u8])]| {
            let mut all: Vec<(&[u8], &[u8])> =
                vec![(b":status", status), (b"content-type", b"Text/HTML; charset=utf-8")];
            all.extend_from_slice(more);
            all
        };
        let fits =
            |all: Vec<(&[u8], &[u8])>, cache: Option<&[u8]>| Placeholder::fits(&Headers::new(all), cache);
        assert!(fits(page(b"200", &[]), None));
        assert!(fits(page(b"200", &[]), Some(b"max-age=0, private")));
        assert!(!fits(page(b"206", &[]), None));
        assert!(!fits(page(b"200", &[(b"cdn-cache-control", b"max-age=60")]), Some(b"no-store")));
        for shared in ["public", "max-age=60", "s-maxage=1, private=\"x\"", "", "privateer"] {
            assert!(!fits(page(b"200", &[]), Some(shared.as_bytes())), "{shared}");
        }
        assert!(is_page(b"GET", &Headers::new(page(b"206", &[]))));
        assert!(!is_page(b"HEAD", &Headers::new(page(b"200", &[]))));
        assert!(is_plain(&Headers::new(page(b"200", &[(b"content-encoding", b"identity")]))));
        assert!(!is_plain(&Headers::new(page(b"200", &[(b"content-encoding", b"br")]))));
    }
}
