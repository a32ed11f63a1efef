//! What caches may keep: static content for a while, and nothing that belongs to a session (RFC 9111; OWASP Session
//! Management Cheat Sheet, "Web Content Caching").
//!
//! Against web cache deception (`/static/../account`, `/account/x.css`): a rule asks for the path *and* the type, and a
//! path that could mean another one is never static.

use portcullis_policy::fields::is_private;
use portcullis_policy::{ConfigErrors, Headers, Site};
use serde::Deserialize;

use crate::{Existing, config::is_value};

/// Responses that caches may keep.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StaticWire {
    /// How the path begins: any of these.
    pub paths: Vec<String>,
    /// The type of the content, like `text/css` or `image/*`: any of these. Left out: style sheets, scripts, fonts and
    /// images.
    #[serde(default)]
    pub types: Vec<String>,
    /// The value of `Cache-Control`.
    pub value: String,
    /// What becomes of one that the application sets; left out: `keep`.
    pub existing: Option<Existing>,
}

/// What caches may keep.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CacheWire {
    /// Static content; the first rule that holds counts. Left out: what lies under `/static/` and `/assets/`, for a day,
    /// but not in the profile `none`.
    #[serde(rename = "static")]
    pub fixed: Option<Vec<StaticWire>>,
    /// Whether what carries a session is sent with `no-store`, unless the application says `private`, `no-cache` or
    /// `no-store` itself: a response that sets a cookie, and one to a request with `Authorization` or a session's
    /// cookie. Left out: yes, but not in the profile `none`.
    pub sessions: Option<bool>,
    /// Names of cookies that are a session's; left out: those that common frameworks use.
    pub session_cookies: Option<Vec<String>>,
}

/// Rules, and entries of their lists. More: a configuration error.
const RULES: usize = 64;

static TYPES: &[&str] =
    &["text/css", "text/javascript", "application/javascript", "application/wasm", "font/*", "image/*"];

/// Names that PHP, Java, .NET, Node, Rails, Laravel, Django and others give, in lower case.
static SESSION_COOKIES: &[&str] = &[
    "__host-session",
    "__secure-session",
    "_session_id",
    "asp.net_sessionid",
    "connect.sid",
    "jsessionid",
    "laravel_session",
    "phpsessid",
    "remember_token",
    "session",
    "sessionid",
    "sid",
];

/// What is decided of a response's `Cache-Control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    /// It is static content: this value.
    Static(&'a str),
    /// It belongs to a session: no cache may keep it.
    Session,
    /// Nothing.
    Open,
}

/// Which `Cache-Control` a response is given.
#[derive(Debug)]
pub(crate) struct Cache {
    rules: Vec<StaticWire>,
    sessions: bool,
    names: Vec<String>,
}

impl Cache {
    pub fn compile(wire: CacheWire, defaults: bool, site: &Site, errors: &mut ConfigErrors) -> Self {
        let usual = || {
            let rule = StaticWire {
                paths: vec!["/static/".to_owned(), "/assets/".to_owned()],
                types: Vec::new(),
                value: "public, max-age=86400".to_owned(),
                existing: None,
            };
            if defaults { vec![rule] } else { Vec::new() }
        };
        let rules = wire.fixed.unwrap_or_else(usual);
        let list = site.key("static");
        if rules.len() > RULES {
            errors.error(&list, "has too many rules", "at most 64");
        }
        for (index, rule) in rules.iter().enumerate() {
            let site = list.index(index);
            is_value(&rule.value, &site.key("value"), errors);
            if rule.paths.is_empty() || rule.paths.len() > RULES || rule.types.len() > RULES {
                errors.error(&site, "has no path, or too many paths or types", "1 to 64");
            }
            for (index, path) in rule.paths.iter().enumerate().filter(|(_, path)| !path.starts_with('/')) {
                errors.error(
                    &site.key("paths").index(index),
                    ["`", &path.escape_default().to_string(), "` is no path"].concat(),
                    "begin it with /",
                );
            }
        }
        let names = wire.session_cookies.map_or_else(
            || SESSION_COOKIES.iter().map(|name| (*name).to_owned()).collect(),
            |names| names.iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>(),
        );
        if names.len() > RULES {
            errors.error(&site.key("session_cookies"), "has too many names", "at most 64");
        }
        Self { rules, sessions: wire.sessions.unwrap_or(defaults), names }
    }

    /// Whether a request belongs to somebody's session.
    pub fn has_session(&self, request: &Headers<'_>) -> bool {
        if !self.sessions {
            return false;
        }
        let named = |pair: &[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            self.names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        };
        request.first("authorization").is_some()
            || request.all("cookie").any(|cookies| cookies.split(|byte| *byte == b';').any(named))
    }

    /// What a response to `path` is.
    pub fn decide(&self, path: &[u8], session: bool, response: &Headers<'_>) -> Control<'_> {
        let own = response.first("cache-control");
        let sets_cookie = response.first("set-cookie").is_some();
        let good = matches!(response.first(":status"), Some(b"200" | b"203" | b"206" | b"304"));
        if !sets_cookie && good && is_plain(path) {
            let kind = media_type(response);
            let rule = self.rules.iter().find(|rule| {
                rule.paths.iter().any(|start| path.starts_with(start.as_bytes())) && rule.is_for(kind)
            });
            if let Some(rule) = rule {
                let keeps = own.is_some() && matches!(rule.existing, None | Some(Existing::Keep));
                return if keeps { Control::Open } else { Control::Static(&rule.value) };
            }
        }
        let carries = self.sessions && (session || sets_cookie);
        if carries && !own.is_some_and(is_private) { Control::Session } else { Control::Open }
    }
}

impl StaticWire {
    fn is_for(&self, kind: &[u8]) -> bool {
        let holds = |known: &str| match known.strip_suffix('*') {
            Some(start) => {
                kind.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
            }
            None => kind.eq_ignore_ascii_case(known.as_bytes()),
        };
        if self.types.is_empty() {
            TYPES.iter().any(|known| holds(known))
        } else {
            self.types.iter().any(|known| holds(known))
        }
    }
}

/// The media type without parameters.
pub(crate) fn media_type<'a>(response: &Headers<'a>) -> &'a [u8] {
    let value = response.first("content-type").unwrap_or_default();
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether nobody can read another path in it.
fn is_plain(path: &[u8]) -> bool {
    !path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        && !path.windows(2).any(|two| matches!(two, b".." | b"//" | b"/."))
}
