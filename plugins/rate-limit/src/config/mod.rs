//! What an operator writes, and what becomes of it.

mod ban;
mod rule;

use std::time::Duration;

use portcullis_policy::{ConfigErrors, Mode, Site, Vocabulary, units::Span};
use serde::Deserialize;

use crate::{RateLimit, Settings, fields::Style, rule::Share};

pub use ban::{Attacks, BANS, BanWire, Limited};
pub use rule::{ActionNames, CostWire, CountWire, CountWord, NAME_BYTES, RuleWire, StatusWire, TENANT_RATES};

/// Rules of a section. More: a configuration error.
pub const RULES: usize = 32;
/// The longest that a request waits for a lease.
const LONGEST_LEASE_WAIT: Duration = Duration::from_secs(1);
/// Proxies among which a share is divided. More: a configuration error.
const MOST_PROXIES: u32 = 1000;

/// The section `rate_limit`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// `monitor` lets everything pass, reports what would be refused, and sends no fields.
    pub mode: Mode,
    /// The limits; a request must have room in each that applies. Left out: 100 API calls a minute per tenant, and 5
    /// logins, 20 uploads and 10 report generations a minute per tenant and user, each if there is such an action.
    pub rules: Option<Vec<RuleWire>>,
    /// Who is kept out for a while, and for what.
    pub bans: Vec<BanWire>,
    /// Which fields responses carry: `draft-11` (`RateLimit` and `RateLimit-Policy`), `x-ratelimit` (`X-RateLimit-Limit`,
    /// `-Remaining` and `-Reset` of the rule with least left), `both` or `off`; true and false stand for `draft-11` and
    /// `off`. `Retry-After` is always on a 429.
    pub headers: HeadersWire,
    /// What becomes of a request that cannot be counted: because the state that workers share cannot be used, or, with
    /// scope `global`, because the companion cannot be reached.
    pub on_error: OnError,
    /// Whether a limit holds for each proxy process by itself, or for all proxies of one companion together.
    pub scope: Scope,
    /// How long a request may wait for tokens of a key that has none in hand, up to `1s`. `0s`: it does not wait, and
    /// `on_error` decides.
    pub lease_wait: Span,
    /// With `on_error: local_share`: which part of each global limit needs no tokens, `"1%"` to `"50%"`. It is taken from what
    /// the companion has to give.
    pub share: ShareWire,
    /// With `on_error: local_share`: among how many proxies the share is divided. More proxies than that would admit more
    /// than the limit.
    pub proxies: u32,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            rules: None,
            bans: Vec::new(),
            headers: HeadersWire::Switch(true),
            on_error: OnError::default(),
            scope: Scope::default(),
            lease_wait: Span(Duration::from_millis(50)),
            share: ShareWire("10%".to_owned()),
            proxies: 1,
        }
    }
}

/// Which fields responses carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum HeadersWire {
    /// `draft-11`, or `off`.
    Switch(bool),
    /// By name.
    Named(HeadersWord),
}

/// Fields by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HeadersWord {
    /// `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-11.
    #[serde(rename = "draft-11")]
    Draft11,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset`.
    #[serde(rename = "x-ratelimit")]
    XRatelimit,
    /// Both kinds.
    Both,
    /// None.
    Off,
}

impl HeadersWire {
    fn style(self) -> Style {
        match self {
            Self::Switch(true) | Self::Named(HeadersWord::Draft11) => Style { draft: true, older: false },
            Self::Named(HeadersWord::XRatelimit) => Style { draft: false, older: true },
            Self::Named(HeadersWord::Both) => Style { draft: true, older: true },
            Self::Switch(false) | Self::Named(HeadersWord::Off) => Style { draft: false, older: false },
        }
    }
}

/// What becomes of a request that could not be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It passes: uncounted when the shared state cannot be used; counted by this process alone when the companion cannot
    /// be reached. All proxies together may then admit more than a limit.
    Allow,
    /// It is answered 503. The default: a limit that is promised holds.
    #[default]
    Deny,
    /// Of a global limit: it is served from a part of the limit that needs no tokens, so that no request waits for the
    /// companion. Else, and where a tenant's own rate is too small to be shared out, as `deny`.
    LocalShare,
}

/// For whom a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Each proxy process for itself.
    #[default]
    Process,
    /// All proxies that share a companion: each request takes a token that the companion has leased to this process.
    Global,
}

/// A part, written `"10%"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ShareWire(pub String);

impl ShareWire {
    fn percent(&self) -> Option<u32> {
        self.0.strip_suffix('%')?.parse().ok().filter(|percent| (1..=50).contains(percent))
    }
}

/// What rules are compiled with.
struct Common<'a> {
    vocabulary: &'a Vocabulary,
    mode: Mode,
    scope: Scope,
    on_error: OnError,
    /// What needs no tokens where a rule serves from a share.
    share: Share,
}

pub(crate) fn compile(
    wire: Wire,
    site: &Site,
    vocabulary: &Vocabulary,
    errors: &mut ConfigErrors,
) -> Option<RateLimit> {
    let before = errors.error_count();
    if wire.lease_wait.0 > LONGEST_LEASE_WAIT {
        errors.error(&site.key("lease_wait"), wire.lease_wait.to_string(), "must be 0s to 1s");
    }
    let percent = wire.share.percent();
    if percent.is_none() {
        errors.error(&site.key("share"), format!("`{}`", wire.share.0), "must be \"1%\" to \"50%\"");
    }
    if !(1..=MOST_PROXIES).contains(&wire.proxies) {
        errors.error(&site.key("proxies"), wire.proxies.to_string(), format!("must be 1 to {MOST_PROXIES}"));
    }
    let common = Common {
        vocabulary,
        mode: wire.mode,
        scope: wire.scope,
        on_error: wire.on_error,
        share: Share { percent: percent.unwrap_or(1), proxies: wire.proxies.max(1) },
    };
    let (rules, names) =
        rule::compile(wire.rules, !wire.bans.is_empty(), &common, &site.key("rules"), errors);
    let bans = ban::compile(wire.bans, &names, wire.mode, &site.key("bans"), errors);
    (errors.error_count() == before).then(|| {
        RateLimit::new(rules, bans, Settings { style: wire.headers.style(), lease_wait: wire.lease_wait.0 })
    })
}

/// Names are 1 to 64 of a few characters, and no two are the same.
fn name(name: &str, what: &str, known: &mut Vec<String>, site: &Site, errors: &mut ConfigErrors) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !(1..=NAME_BYTES).contains(&name.len()) || !name.bytes().all(plain) {
        let remedy = format!("1 to {NAME_BYTES} of A-Z, a-z, 0-9, `.`, `_` and `-`");
        errors.error(&site.key("name"), format!("{name:?} is not a {what}'s name"), remedy);
    }
    if known.iter().any(|other| other == name) {
        errors.error(&site.key("name"), format!("`{name}` is there twice"), "rename one of them");
    }
    known.push(name.to_owned());
}

/// What tells quotas apart: headers must have names.
fn per(per: &[crate::Per], site: &Site, errors: &mut ConfigErrors) {
    let mut headers = 0_usize;
    for (index, each) in per.iter().enumerate() {
        let crate::Per::Header(name) = each else { continue };
        headers = headers.saturating_add(1);
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(token) {
            let problem = format!("{name:?} is not a header's name");
            errors.error(
                &site.index(index).key("header"),
                problem,
                "write it as in a request, like x-api-key",
            );
        }
    }
    if headers > crate::key::HEADERS {
        let most = crate::key::HEADERS;
        errors.error(site, format!("names {headers} headers"), format!("at most {most}"));
    }
}
