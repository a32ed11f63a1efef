//! Signed double-submit tokens (OWASP Cross-Site Request Forgery Prevention Cheat Sheet, "Signed Double-Submit Cookie").
//!
//! A response to a safe request hands out a token in a cookie; a request that may change something repeats it in a header,
//! which a foreign page cannot do: it can neither read the cookie nor set the header. The token is signed, so that a
//! sibling host that plants a cookie plants nothing of use, and bound to tenant and session, so that one visitor's token is
//! not another's. A new session makes it worthless; the next safe request brings a new one.
//!
//! `v1.<key>.<expiry>.<random>.<mac>`: HMAC-SHA256 (RFC 2104) over all before it, the tenant, and SHA-256 of the
//! session's cookie, each with its length before it. Compared in constant time.
//!
//! Keys stand in a variable of the host's environment: `id:secret`, the first signs, all are accepted, several with a
//! comma between. To rotate, put a new one in front, and take the old one away when a lifetime has passed.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use portcullis_policy::{ConfigErrors, Fact, Facts, Headers, Moment, Site, Tenant, units::Span};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::origin::is_safe;

/// Tokens that only the own pages can send.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CsrfWire {
    /// The variable of the host's environment that holds the keys: `id:secret`, perhaps several with a comma between;
    /// an id of 1 to 16 of `a-z 0-9`, a secret of 32 to 256 characters.
    pub keys_env: String,
    /// The cookie that is the session: a token is bound to its value.
    pub session_cookie: String,
    /// The cookie that holds the token. `__Host-`: no other host can plant it.
    pub cookie: String,
    /// The request header that repeats it.
    pub header: String,
    /// How long a token is valid, `5m` to `30d`; in the second half of its life it is replaced.
    pub lifetime: Span,
}

impl Default for CsrfWire {
    fn default() -> Self {
        Self {
            keys_env: "PORTCULLIS_CSRF_KEYS".to_owned(),
            session_cookie: "session".to_owned(),
            cookie: "__Host-csrf".to_owned(),
            header: "x-csrf-token".to_owned(),
            lifetime: Span(Duration::from_secs(12 * 60 * 60)),
        }
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Cookie or header is not there, or stands twice.
    Missing,
    /// Cookie and header differ.
    Different,
    /// It was not made here, for this tenant and session.
    Forged,
    /// Its time is over.
    Expired,
}

const KEYS: usize = 4;
const MAC_BYTES: usize = 32;
/// A token is shorter. Longer: it was not made here.
const TOKEN_BYTES: usize = 160;

/// A key and its name.
struct Key {
    id: String,
    secret: Vec<u8>,
}

/// The keys, the one that signs first.
pub struct Keys(Vec<Key>);

/// What a token is bound to.
pub struct Binding {
    tenant: String,
    session: [u8; 32],
}

/// The compiled check.
#[derive(Debug)]
pub struct Csrf {
    wire: CsrfWire,
}

impl Csrf {
    pub(crate) fn compile(mut wire: CsrfWire, site: &Site, errors: &mut ConfigErrors) -> Self {
        wire.header.make_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        for (key, name) in [
            ("keys_env", &wire.keys_env),
            ("session_cookie", &wire.session_cookie),
            ("cookie", &wire.cookie),
            ("header", &wire.header),
        ] {
            if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
                errors.error(&site.key(key), "is not a name", "1 to 128 of letters, digits, `-` and `_`");
            }
        }
        if !wire.cookie.starts_with("__Host-") {
            errors.warning(
                &site.key("cookie"),
                "can be planted by another host of the domain",
                "begin its name with __Host-",
            );
        }
        let range = Duration::from_secs(5 * 60)..=Duration::from_secs(30 * 24 * 60 * 60);
        if !range.contains(&wire.lifetime.0) {
            errors.error(&site.key("lifetime"), wire.lifetime.to_string(), "must be 5m to 30d");
        }
        Self { wire }
    }

    /// The host's keys; `None` when there is none that can be used.
    pub(crate) fn keys(&self, facts: &mut dyn Facts) -> Option<Keys> {
        let text = facts.fact(Fact::Environment(&self.wire.keys_env))?;
        Keys::read(&text)
    }

    /// What a request's token must be bound to.
    pub(crate) fn binding(&self, tenant: &Tenant, headers: &Headers<'_>) -> Binding {
        let session = cookies(headers, &self.wire.session_cookie).next().unwrap_or_default();
        Binding { tenant: tenant.as_str().to_owned(), session: Sha256::digest(session).into() }
    }

    /// Whether the request passes; and if so, whether its token lasts, or is to be replaced.
    ///
    /// # Errors
    /// What is wrong with the token of a request that needs one.
    pub(crate) fn check(
        &self,
        keys: &Keys,
        bound: &Binding,
        moment: Moment,
        method: &[u8],
        headers: &Headers<'_>,
    ) -> Result<bool, Flaw> {
        let mut own = cookies(headers, &self.wire.cookie);
        let cookie = match (own.next(), own.next()) {
            (Some(cookie), None) => Ok(cookie),
            _ => Err(Flaw::Missing),
        };
        let left = cookie.and_then(|cookie| keys.verify(cookie, bound, seconds(moment)));
        let lasting = left.is_ok_and(|left| left > self.wire.lifetime.0.as_secs() / 2);
        if is_safe(method) {
            return Ok(lasting);
        }
        let mut sent = headers.all(&self.wire.header);
        match (cookie?, sent.next(), sent.next()) {
            (cookie, Some(sent), None) if bool::from(cookie.ct_eq(sent)) => left.map(|_| lasting),
            (_, Some(_), None) => Err(Flaw::Different),
            _ => Err(Flaw::Missing),
        }
    }

    /// A fresh token.
    pub(crate) fn make(&self, keys: &Keys, bound: &Binding, moment: Moment) -> Option<String> {
        let expiry = seconds(moment).saturating_add(self.wire.lifetime.0.as_secs());
        let [high, low] = moment.random;
        let random = [high.to_be_bytes(), low.to_be_bytes()].concat();
        keys.sign(bound, expiry, &random)
    }

    /// The `Set-Cookie` value: scripts of the page read it, and it goes with requests of the own site alone.
    pub(crate) fn cookie(&self, token: &str) -> String {
        let age = self.wire.lifetime.0.as_secs().to_string();
        [&self.wire.cookie, "=", token, "; Path=/; Secure; SameSite=Strict; Max-Age=", &age].concat()
    }
}

impl Keys {
    /// Reads `id:secret,id:secret`.
    fn read(text: &[u8]) -> Option<Self> {
        let mut keys = Vec::new();
        for part in std::str::from_utf8(text).ok()?.split(',').map(str::trim).take(KEYS) {
            let (id, secret) = part.split_once(':')?;
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let fits =
                (1..=16).contains(&id.len()) && id.bytes().all(plain) && (32..=256).contains(&secret.len());
            keys.push(fits.then(|| Key { id: id.to_owned(), secret: secret.as_bytes().to_vec() })?);
        }
        Some(Self(keys))
    }

    fn sign(&self, bound: &Binding, expiry: u64, random: &[u8]) -> Option<String> {
        let key = self.0.first()?;
        let head = ["v1.", &key.id, ".", &expiry.to_string(), ".", &hexadecimal(random)].concat();
        let mac = mac(key, &head, bound)?.finalize().into_bytes();
        Some([&head, ".", &hexadecimal(&mac)].concat())
    }

    /// The seconds for which a token is still valid.
    fn verify(&self, token: &[u8], bound: &Binding, now: u64) -> Result<u64, Flaw> {
        let text =
            std::str::from_utf8(token).ok().filter(|text| text.len() <= TOKEN_BYTES).ok_or(Flaw::Forged)?;
        let (head, signature) = text.rsplit_once('.').ok_or(Flaw::Forged)?;
        let mut parts = head.split('.');
        let (Some("v1"), Some(id), Some(expiry), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Flaw::Forged);
        };
        let key = self.0.iter().find(|key| key.id == id).ok_or(Flaw::Forged)?;
        let signature = bytes(signature).ok_or(Flaw::Forged)?;
        let mac = mac(key, head, bound).ok_or(Flaw::Forged)?;
        mac.verify_slice(&signature).map_err(|_| Flaw::Forged)?;
        let expiry: u64 = expiry.parse().map_err(|_| Flaw::Forged)?;
        expiry.checked_sub(now).filter(|left| *left > 0).ok_or(Flaw::Expired)
    }
}

fn mac(key: &Key, head: &str, bound: &Binding) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.secret).ok()?;
    for part in [b"portcullis-csrf", head.as_bytes(), bound.tenant.as_bytes(), &bound.session] {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    Some(mac)
}

/// Values of the cookies of that name.
fn cookies<'a>(headers: &'a Headers<'a>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.all("cookie").flat_map(|list| list.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The wall clock. A token outlives processes, so that no other clock can tell its age; a step of it makes tokens live
/// longer or shorter, by as much.
fn seconds(moment: Moment) -> u64 {
    moment.wall_ns / 1_000_000_000
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * MAC_BYTES)?;
    Some(digits.chunks_exact(2).map(|two| two.iter().fold(0, |byte, four| (byte << 4) | four)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn keys(text: &str) -> Keys {
        Keys::read(text.replace('*', SECRET).as_bytes()).unwrap()
    }

    fn bound(tenant: &str, session: &str) -> Binding {
        Binding { tenant: tenant.to_owned(), session: Sha256::digest(session.as_bytes()).into() }
    }

    #[test]
    fn a_token_is_for_its_tenant_session_key_and_time() {
        let token = keys("k1:*").sign(&bound("acme", "s1"), 1000, b"0123456789abcdef").unwrap();
        let check = |list: &str, tenant: &str, session: &str, now: u64| {
            keys(list).verify(token.as_bytes(), &bound(tenant, session), now)
        };
        assert_eq!(check("k1:*", "acme", "s1", 400), Ok(600));
        assert_eq!(check("k2:*x,k1:*", "acme", "s1", 999), Ok(1));
        assert_eq!(check("k1:*", "acme", "s1", 1000), Err(Flaw::Expired));
        for (list, tenant, session) in [
            ("k1:*", "acm", "s1"),
            ("k1:*", "acme", "s2"),
            ("k1:*", "acme", ""),
            ("k2:*", "acme", "s1"),
            ("k1:x*", "acme", "s1"),
        ] {
            assert_eq!(check(list, tenant, session, 400), Err(Flaw::Forged), "{list} {tenant} {session}");
        }
    }

    #[test]
    fn every_other_text_is_forged() {
        let (keys, bound) = (keys("k1:*"), bound("acme", "s1"));
        let token = keys.sign(&bound, 1000, b"0123456789abcdef").unwrap();
        for at in 0..token.len() {
            for other in [b'0', b'z', b'.', 0xff] {
                let mut wrong = token.clone().into_bytes();
                if std::mem::replace(&mut wrong[at], other) != other {
                    assert_eq!(keys.verify(&wrong, &bound, 400), Err(Flaw::Forged), "{at}");
                }
            }
            assert_eq!(keys.verify(&token.as_bytes()[..at], &bound, 400), Err(Flaw::Forged));
        }
        assert_eq!(keys.verify(&[b'.'; 1000], &bound, 0), Err(Flaw::Forged));
    }

    #[test]
    fn keys_that_are_too_weak_are_none() {
        for wrong in [
            "",
            "k1",
            "k1:short",
            ":0123456789abcdef0123456789abcdef",
            "K1:0123456789abcdef0123456789abcdef",
            "k1:0123456789abcdef0123456789abcdef,",
        ] {
            assert!(Keys::read(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    /// The layout is fixed: tokens outlive a new version of the module.
    #[test]
    fn the_signature_is_what_the_documentation_says() {
        let token = keys("k1:*").sign(&bound("acme", "s1"), 1000, &[0; 16]).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        let head = "v1.k1.1000.00000000000000000000000000000000";
        let session = Sha256::digest(b"s1");
        for part in [&b"portcullis-csrf"[..], head.as_bytes(), b"acme", &session[..]] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        assert_eq!(token, format!("{head}.{}", hexadecimal(&mac.finalize().into_bytes())));
    }
}
