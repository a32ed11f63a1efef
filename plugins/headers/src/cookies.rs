//! Cookies that the application sets: what they lack is added (RFC 6265bis, 4.1.2; OWASP Session Management Cheat Sheet).
//!
//! What an application says itself stays: `SameSite=None` is a decision, a missing attribute mostly is not. A cookie
//! whose name promises something (`__Host-`, `__Secure-`) is given what the promise demands: a browser drops it otherwise.

use std::collections::BTreeMap;

use portcullis_policy::{ConfigErrors, Site};
use serde::Deserialize;

/// When `Secure` is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Secure {
    /// Where the request came over HTTPS, as the host says: over plain HTTP a browser would drop the cookie.
    #[default]
    Auto,
    /// Always: where something in front of the proxy speaks HTTPS and does not say so.
    Always,
    /// Never.
    Never,
}

/// What a cookie without `SameSite` is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// Sent with navigation from other sites, not with their subrequests.
    #[default]
    Lax,
    /// Sent from the own site alone.
    Strict,
    /// Nothing is added.
    Keep,
}

/// What the cookies of one name are given, where that is not what all others are.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CookieWire {
    /// When `Secure` is added.
    pub secure: Option<Secure>,
    /// Whether `HttpOnly` is added.
    pub http_only: Option<bool>,
    /// What a cookie without `SameSite` is given.
    pub same_site: Option<SameSite>,
}

/// What cookies of the application are given that lack it.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CookiesWire {
    /// Whether cookies are looked at; left out: in the profiles `web`, `api` and `strict`.
    pub harden: Option<bool>,
    /// When `Secure` is added; left out: `auto`.
    pub secure: Option<Secure>,
    /// Whether `HttpOnly` is added; left out: yes, but for the tokens against forged requests that scripts must read
    /// (`XSRF-TOKEN`, `csrftoken` and their like).
    pub http_only: Option<bool>,
    /// What a cookie without `SameSite` is given; left out: `lax`.
    pub same_site: Option<SameSite>,
    /// Exceptions by name.
    pub except: BTreeMap<String, CookieWire>,
}

/// Exceptions. More: a configuration error.
const EXCEPTIONS: usize = 64;

/// Cookies that scripts of the own page have to read, in lower case: they repeat them in a header.
static READ_BY_SCRIPTS: &[&str] = &["_csrf", "csrf-token", "csrftoken", "csrf_token", "xsrf-token"];

/// How cookies are hardened.
#[derive(Debug)]
pub(crate) struct Cookies {
    all: CookieWire,
    except: BTreeMap<String, CookieWire>,
}

impl Cookies {
    /// `None`: cookies stay as they are.
    pub fn compile(wire: CookiesWire, profile: bool, site: &Site, errors: &mut ConfigErrors) -> Option<Self> {
        if wire.except.len() > EXCEPTIONS {
            errors.error(&site.key("except"), "has too many names", "at most 64");
        }
        let CookiesWire { harden, secure, http_only, same_site, except } = wire;
        let asked = secure.is_some() || http_only.is_some() || same_site.is_some() || !except.is_empty();
        harden
            .unwrap_or(profile || asked)
            .then_some(Self { all: CookieWire { secure, http_only, same_site }, except })
    }

    /// A `Set-Cookie` value with what it lacks, and what that was; `None` when it lacks nothing.
    pub fn harden(&self, value: &[u8], https: bool) -> Option<Hardened> {
        let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let pair = parts.next().unwrap_or_default();
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        let mut attributes: Vec<&[u8]> = parts.collect();
        let mut added = Vec::new();
        let lower = name.to_ascii_lowercase();
        let own = std::str::from_utf8(name).ok().and_then(|name| self.except.get(name));
        let (host, secured) = (lower.starts_with(b"__host-"), lower.starts_with(b"__secure-"));

        if host {
            let before = attributes.len();
            attributes.retain(|attribute| !is(attribute, b"domain"));
            if attributes.len() < before {
                added.push("Domain");
            }
            if attributes
                .iter()
                .rev()
                .find(|attribute| is(attribute, b"path"))
                .is_none_or(|path| argument(path) != b"/")
            {
                attributes.retain(|attribute| !is(attribute, b"path"));
                attributes.push(b"Path=/");
                added.push("Path");
            }
        }
        let secure = match own.and_then(|own| own.secure).or(self.all.secure).unwrap_or_default() {
            Secure::Auto => https,
            Secure::Always => true,
            Secure::Never => false,
        };
        // A browser takes neither the prefixes nor `SameSite=None` without it.
        let needs = host
            || secured
            || attributes.iter().any(|a| is(a, b"samesite") && argument(a).eq_ignore_ascii_case(b"none"));
        if (secure || needs) && !attributes.iter().any(|attribute| is(attribute, b"secure")) {
            attributes.push(b"Secure");
            added.push("Secure");
        }
        let readable = READ_BY_SCRIPTS.iter().any(|known| known.as_bytes() == lower);
        let http_only = own.and_then(|own| own.http_only).or(self.all.http_only).unwrap_or(!readable);
        if http_only && !attributes.iter().any(|attribute| is(attribute, b"httponly")) {
            attributes.push(b"HttpOnly");
            added.push("HttpOnly");
        }
        let same_site: &[u8] =
            match own.and_then(|own| own.same_site).or(self.all.same_site).unwrap_or_default() {
                SameSite::Lax => b"SameSite=Lax",
                SameSite::Strict => b"SameSite=Strict",
                SameSite::Keep => b"",
            };
        let valid = |a: &&[u8]| {
            let known: [&[u8]; 3] = [b"lax", b"strict", b"none"];
            is(a, b"samesite") && known.iter().any(|known| argument(a).eq_ignore_ascii_case(known))
        };
        if !same_site.is_empty() && !attributes.iter().any(valid) {
            attributes.retain(|attribute| !is(attribute, b"samesite"));
            attributes.push(same_site);
            added.push("SameSite");
        }
        if added.is_empty() {
            return None;
        }
        let mut whole = pair.to_vec();
        for attribute in attributes.iter().filter(|attribute| !attribute.is_empty()) {
            whole.extend_from_slice(b"; ");
            whole.extend_from_slice(attribute);
        }
        Some(Hardened {
            name: String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned(),
            value: whole,
            changed: added,
        })
    }
}

/// A cookie that was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hardened {
    /// Its name, at most 64 bytes of it.
    pub name: String,
    /// The whole `Set-Cookie` value.
    pub value: Vec<u8>,
    /// Attributes that were added, mended or taken away.
    pub changed: Vec<&'static str>,
}

/// Whether an attribute has that name, given in lower case.
fn is(attribute: &[u8], name: &[u8]) -> bool {
    let own = attribute.split(|byte| *byte == b'=').next().unwrap_or_default();
    own.trim_ascii_end().eq_ignore_ascii_case(name)
}

/// What stands behind the `=`.
fn argument(attribute: &[u8]) -> &[u8] {
    let at =
        attribute.iter().position(|byte| *byte == b'=').map_or(attribute.len(), |at| at.saturating_add(1));
    attribute.get(at..).unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use portcullis_policy::config;
    use serde_json::json;

    use super::*;

    fn cookies(wire: serde_json::Value) -> Cookies {
        let (site, mut errors) = (Site::root(), ConfigErrors::default());
        let wire = config::read::<CookiesWire>(wire, &site, &mut errors).unwrap();
        Cookies::compile(wire, true, &site, &mut errors).unwrap()
    }

    fn hardened(wire: serde_json::Value, value: &str, https: bool) -> String {
        let found = cookies(wire).harden(value.as_bytes(), https);
        found.map_or_else(|| value.to_owned(), |found| String::from_utf8(found.value).unwrap())
    }

    #[test]
    fn what_is_missing_is_added() {
        for (value, https, wanted) in [
            ("a=b; Path=/", true, "a=b; Path=/; Secure; HttpOnly; SameSite=Lax"),
            ("a=b", false, "a=b; HttpOnly; SameSite=Lax"),
            ("a=b; secure; HTTPONLY; samesite=strict", true, "a=b; secure; HTTPONLY; samesite=strict"),
            ("a=b; SameSite=Whatever", false, "a=b; HttpOnly; SameSite=Lax"),
            ("a=b; HttpOnly; SameSite=None", false, "a=b; HttpOnly; SameSite=None; Secure"),
            ("csrftoken=b", true, "csrftoken=b; Secure; SameSite=Lax"),
            ("a=\"x=y\"; Secure ;HttpOnly;SameSite=Lax", true, "a=\"x=y\"; Secure ;HttpOnly;SameSite=Lax"),
            ("", false, "; HttpOnly; SameSite=Lax"),
        ] {
            assert_eq!(hardened(json!({}), value, https), wanted);
        }
    }

    #[test]
    fn prefixes_are_given_what_they_promise() {
        for (value, wanted) in [
            (
                "__Host-a=b; Domain=x.test; Path=/app; HttpOnly; SameSite=Lax",
                "__Host-a=b; HttpOnly; SameSite=Lax; Path=/; Secure",
            ),
            (
                "__host-a=b; Path=/; Secure; HttpOnly; SameSite=Lax",
                "__host-a=b; Path=/; Secure; HttpOnly; SameSite=Lax",
            ),
            (
                "__Secure-a=b; HttpOnly; SameSite=Lax; Domain=x.test",
                "__Secure-a=b; HttpOnly; SameSite=Lax; Domain=x.test; Secure",
            ),
            (
                "__Hosta=b; Domain=x.test; HttpOnly; SameSite=Lax",
                "__Hosta=b; Domain=x.test; HttpOnly; SameSite=Lax",
            ),
        ] {
            assert_eq!(hardened(json!({}), value, false), wanted);
        }
    }

    #[test]
    fn a_name_may_be_an_exception() {
        let wire = json!({"secure": "always", "same_site": "strict",
            "except": {"theme": {"http_only": false, "same_site": "keep", "secure": "never"}}});
        assert_eq!(hardened(wire.clone(), "theme=dark", true), "theme=dark");
        assert_eq!(hardened(wire, "other=dark", false), "other=dark; Secure; HttpOnly; SameSite=Strict");
    }

    #[test]
    fn bytes_of_any_kind_are_kept() {
        let found = cookies(json!({})).harden(b"a\xff=\x00\xfe; ; =x", false).unwrap();
        assert_eq!(found.value, b"a\xff=\x00\xfe; =x; HttpOnly; SameSite=Lax");
        assert_eq!(found.changed, ["HttpOnly", "SameSite"]);
    }
}
