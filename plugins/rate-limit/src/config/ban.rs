//! Bans.

use std::time::Duration;

use portcullis_policy::{ConfigErrors, Mode, Site, config::nearest_hint, units::Span};
use serde::Deserialize;

use super::rule::{StatusWire, statuses};
use crate::{
    ban::{Ban, Terms},
    key::{Counted, Per},
};

/// Bans of a section. More: a configuration error.
pub const BANS: usize = 8;
/// The longest window, and the longest ban.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// Who is kept out for a while, and for what. What a ban counts are *strikes*, at most one for each request; so many
/// within a window, and all requests are refused for a while, twice as long each time.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BanWire {
    /// The ban's name, in records: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Who is banned, as in a rule. Left out: the client address.
    #[serde(default = "per_address")]
    pub per: Vec<Per>,
    /// A request that a limit refused is a strike: true for any limit, or a list of rules.
    #[serde(default)]
    pub on_limited: Limited,
    /// A request in which an attack was found is a strike: `refused` if it was refused for it, `reported` also if it was
    /// let pass because its policy only monitors.
    #[serde(default)]
    pub on_attacks: Attacks,
    /// A request that was answered with one of these statuses is a strike, whoever answered: like `401`, or `"4xx"`.
    #[serde(default)]
    pub on_status: Vec<StatusWire>,
    /// So many strikes ban: 1 to 1000.
    pub strikes: u32,
    /// Within so long from the first of them, `1s` to `31d`.
    pub window: Span,
    /// How long the first ban lasts, from `1s`.
    pub first: Span,
    /// The most that a ban lasts, up to `31d`: each is twice as long as the one before, if no more time than that has
    /// passed since its end.
    pub maximum: Span,
    /// What the banned are answered: 429 or 403.
    #[serde(default = "too_many")]
    pub status: u16,
    /// `monitor` reports and lets pass, `off` takes the ban out; the section's mode if that is milder.
    #[serde(default)]
    pub mode: Mode,
}

/// Which limits' refusals are strikes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Limited {
    /// All, or none.
    Any(bool),
    /// Those of these rules.
    Rules(Vec<String>),
}

impl Default for Limited {
    fn default() -> Self {
        Self::Any(false)
    }
}

/// Which attacks are strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Attacks {
    /// None.
    #[default]
    Off,
    /// Those that were refused.
    Refused,
    /// Also those that were only reported.
    Reported,
}

fn per_address() -> Vec<Per> {
    vec![Per::ClientIp]
}

fn too_many() -> u16 {
    429
}

pub(super) fn compile(
    wires: Vec<BanWire>,
    rules: &[String],
    mode: Mode,
    site: &Site,
    errors: &mut ConfigErrors,
) -> Vec<Ban> {
    if wires.len() > BANS {
        errors.error(site, format!("has {} bans", wires.len()), format!("at most {BANS}"));
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut bans: Vec<Ban> = Vec::new();
    for (index, wire) in wires.into_iter().enumerate() {
        let site = site.index(index);
        super::name(&wire.name, "ban", &mut names, &site, errors);
        super::per(&wire.per, &site.key("per"), errors);
        let own = if mode == Mode::Monitor && wire.mode == Mode::Enforce { Mode::Monitor } else { wire.mode };
        if let Limited::Rules(list) = &wire.on_limited {
            let known: Vec<&str> = rules.iter().map(String::as_str).collect();
            for (index, name) in list.iter().enumerate().filter(|(_, name)| !rules.contains(name)) {
                let problem = format!("`{name}` is not a rule");
                errors.error(&site.key("on_limited").index(index), problem, nearest_hint(name, &known));
            }
        }
        let ban = compile_ban(wire, &site, errors);
        if own != Mode::Off {
            bans.push(Ban { enforce: own == Mode::Enforce, ..ban });
        }
    }
    bans.sort_by_key(|ban| ban.counted.order());
    bans
}

fn compile_ban(wire: BanWire, site: &Site, errors: &mut ConfigErrors) -> Ban {
    let none = wire.on_limited == Limited::Any(false) || wire.on_limited == Limited::Rules(Vec::new());
    if none && wire.on_attacks == Attacks::Off && wire.on_status.is_empty() {
        errors.error(site, "has nothing that is a strike", "add `on_limited`, `on_attacks` or `on_status`");
    }
    let statuses = match &wire.on_status[..] {
        [] => Vec::new(),
        list => statuses(list, &site.key("on_status"), errors),
    };
    if !(1..=1000).contains(&wire.strikes) {
        errors.error(&site.key("strikes"), wire.strikes.to_string(), "must be 1 to 1000");
    }
    let second = Duration::from_secs(1);
    for (key, span) in [("window", wire.window), ("first", wire.first), ("maximum", wire.maximum)] {
        if !(second..=LONGEST).contains(&span.0) {
            errors.error(&site.key(key), span.to_string(), "must be 1s to 31d");
        }
    }
    if wire.maximum.0 < wire.first.0 {
        let remedy = format!("must be at least {}, the first ban", wire.first);
        errors.error(&site.key("maximum"), wire.maximum.to_string(), remedy);
    }
    if !matches!(wire.status, 403 | 429) {
        errors.error(&site.key("status"), wire.status.to_string(), "must be 429 or 403");
    }
    let ns = |span: Span| u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX);
    let counted = Counted::new(&wire.per, None);
    Ban {
        salt: counted.salt(&wire.name, wire.window.0),
        name: wire.name,
        counted,
        on_limited: wire.on_limited,
        on_attacks: wire.on_attacks,
        statuses,
        terms: Terms {
            strikes: u16::try_from(wire.strikes).unwrap_or(1),
            window_ns: ns(wire.window),
            first_ns: ns(wire.first),
            maximum_ns: ns(wire.maximum),
        },
        status: wire.status,
        enforce: true,
    }
}
