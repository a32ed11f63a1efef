//! Where a request comes from, as the browser says: Fetch Metadata (W3C), else `Origin` (RFC 6454, Fetch).
//!
//! A page cannot set these headers: a browser does. What is no browser sends none of them, and cannot be made to send a
//! visitor's cookies; `missing` says what becomes of it.

use portcullis_policy::{ConfigErrors, Headers, Site};
use serde::Deserialize;

/// Which requests are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Those that may change something: all methods but GET, HEAD and OPTIONS, and what opens a WebSocket.
    #[default]
    Unsafe,
    /// All; a foreign page may still link here, but not load anything from here (resource isolation).
    All,
}

/// What becomes of a request that does not say where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// It passes: browsers of the last years all say it for what may change something.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// What browsers say of where a request comes from.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OriginWire {
    /// Which requests are looked at.
    pub check: Check,
    /// Other origins whose pages may send requests: `https://partner.example`.
    pub trusted: Vec<String>,
    /// Whether other hosts of the own site (`a.example` for `b.example`) may.
    pub same_site: bool,
    /// What becomes of a request that does not say where it comes from.
    pub missing: Missing,
}

pub(crate) const ORIGINS: usize = 64;

/// The compiled check.
#[derive(Debug)]
pub struct Origin {
    wire: OriginWire,
}

/// Whether a method promises to change nothing (RFC 9110, 9.2.1). TRACE is not offered by any application of ours.
#[must_use]
pub fn is_safe(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS")
}

/// Notes what is no origin.
pub(crate) fn check_origins(list: &[String], site: &Site, errors: &mut ConfigErrors) {
    if list.len() > ORIGINS {
        errors.error(site, "has too many origins", "at most 64");
    }
    for (index, origin) in list.iter().enumerate() {
        let host =
            origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            errors.error(
                &site.index(index),
                ["`", &origin.escape_default().to_string(), "` is no origin"].concat(),
                "write scheme, host and perhaps port in lower case, like https://partner.example",
            );
        }
    }
}

impl Origin {
    pub(crate) fn compile(wire: OriginWire, site: &Site, errors: &mut ConfigErrors) -> Self {
        check_origins(&wire.trusted, &site.key("trusted"), errors);
        Self { wire }
    }

    /// `Err` names what speaks against the request.
    ///
    /// # Errors
    /// What the browser said, in a word.
    pub fn judge(&self, method: &[u8], headers: &Headers<'_>) -> Result<(), &'static str> {
        // What opens a WebSocket is a GET that changes whom one talks to, and nothing but this stands in its way (OWASP
        // WebSocket Security Cheat Sheet).
        let socket =
            headers.first("upgrade").is_some() || headers.first("sec-fetch-mode") == Some(b"websocket");
        let safe = is_safe(method) && !socket;
        if safe && self.wire.check == Check::Unsafe {
            return Ok(());
        }
        let origin = single(headers, "origin")?;
        if origin.is_some_and(|origin| self.wire.trusted.iter().any(|trusted| trusted.as_bytes() == origin)) {
            return Ok(());
        }
        let told = match single(headers, "sec-fetch-site")? {
            Some(b"same-origin" | b"none") => Ok(()),
            Some(b"same-site") if self.wire.same_site => Ok(()),
            Some(b"same-site") => Err("same-site"),
            Some(_) => Err("cross-site"),
            None => self.by_origin(origin, headers, safe),
        };
        if told.is_err() && safe && is_navigation(headers) { Ok(()) } else { told }
    }

    /// Older browsers send `Origin` alone: then its host must be the request's own. The scheme is not compared: behind
    /// something that ends TLS it is not known.
    fn by_origin(
        &self,
        origin: Option<&[u8]>,
        headers: &Headers<'_>,
        safe: bool,
    ) -> Result<(), &'static str> {
        let Some(origin) = origin else {
            // A GET of the own page says nothing in older browsers.
            return if safe || self.wire.missing == Missing::Allow { Ok(()) } else { Err("missing") };
        };
        let host = headers.first(":authority").or_else(|| headers.first("host")).unwrap_or_default();
        let own = [&b"https://"[..], b"http://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        match own {
            Some(own) if !own.is_empty() && own.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err("cross-origin"),
        }
    }
}

/// A header that browsers send once: two of them are nobody's.
fn single<'a>(headers: &Headers<'a>, name: &str) -> Result<Option<&'a [u8]>, &'static str> {
    let mut values = headers.all(name);
    let first = values.next();
    if values.next().is_some() { Err("said twice") } else { Ok(first) }
}

/// A visitor follows a link: to a page of its own, not into a frame or an object.
fn is_navigation(headers: &Headers<'_>) -> bool {
    headers.first("sec-fetch-mode") == Some(b"navigate")
        && !matches!(
            headers.first("sec-fetch-dest"),
            Some(b"object" | b"embed" | b"iframe" | b"frame" | b"fencedframe")
        )
}
