//! What an operator writes, and what becomes of it.

use std::{fmt::Write as _, time::Duration};

use portcullis_policy::{ConfigErrors, Mode, Site, Vocabulary, config::nearest_hint, units::Span};
use serde::Deserialize;

use crate::{
    RateLimit, Rule,
    gcra::{LONGEST_REFILL, LONGEST_WINDOW, MOST_REQUESTS, Quota},
    key::{Counted, Per},
};

/// Rules of a section. More: a configuration error.
pub const RULES: usize = 32;
/// A rule's name, in bytes. Longer: a configuration error.
pub const NAME_BYTES: usize = 64;

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
    /// Whether responses carry `RateLimit` and `RateLimit-Policy`. `Retry-After` is always on a 429.
    pub headers: bool,
    /// What becomes of a request when the state that workers share cannot be used.
    pub on_error: OnError,
}

impl Default for Wire {
    fn default() -> Self {
        Self { mode: Mode::default(), rules: None, headers: true, on_error: OnError::default() }
    }
}

/// What becomes of a request that could not be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It passes uncounted.
    Allow,
    /// It is answered 503. The default: a limit that is promised holds.
    #[default]
    Deny,
}

/// One limit.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleWire {
    /// The rule's name, in `RateLimit` fields and records: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The actions that count: a name or a list. Left out: every request counts.
    #[serde(default)]
    pub action: Option<ActionNames>,
    /// Who has a quota of their own: any of `tenant`, `user`, `client_ip`; `[]` is one quota for all. A user is one
    /// of the tenant's only if `tenant` is named too. A request without a user counts for its client address.
    #[serde(default = "per_tenant")]
    pub per: Vec<Per>,
    /// Requests per window: 1 to 1000000000.
    pub limit: u64,
    /// The window: whole seconds, `"1s"` to `"24h"`.
    pub window: Span,
    /// Requests that may come at once; left out: `limit`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// `monitor` reports and lets pass, `off` takes the rule out; the section's mode if that is milder.
    #[serde(default)]
    pub mode: Mode,
}

/// A name or a list of names.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum ActionNames {
    /// One name.
    One(String),
    /// Several.
    Many(Vec<String>),
}

fn per_tenant() -> Vec<Per> {
    vec![Per::Tenant]
}

/// The limits that every tenant starts with; those whose action is not configured do not apply.
fn defaults(vocabulary: &Vocabulary) -> Vec<RuleWire> {
    let tenant = || vec![Per::Tenant];
    let user = || vec![Per::Tenant, Per::User];
    [
        ("api_call", tenant(), 100),
        ("login", user(), 5),
        ("file_upload", user(), 20),
        ("report_generation", user(), 10),
    ]
    .into_iter()
    .filter(|(action, ..)| vocabulary.actions.iter().any(|known| known == action))
    .map(|(action, per, limit)| RuleWire {
        name: action.to_owned(),
        action: Some(ActionNames::One(action.to_owned())),
        per,
        limit,
        window: Span(Duration::from_secs(60)),
        burst: None,
        mode: Mode::Enforce,
    })
    .collect()
}

pub(crate) fn compile(
    wire: Wire,
    site: &Site,
    vocabulary: &Vocabulary,
    errors: &mut ConfigErrors,
) -> Option<RateLimit> {
    let before = errors.error_count();
    let rules_site = site.key("rules");
    let wires = wire.rules.unwrap_or_else(|| defaults(vocabulary));
    if wires.len() > RULES {
        errors.error(&rules_site, format!("has {} rules", wires.len()), format!("at most {RULES}"));
        return None;
    }
    if wires.is_empty() && wire.mode != Mode::Off {
        errors.warning(&rules_site, "has no rule, so nothing is limited", "add one, or set `mode` to off");
    }
    let mut names: Vec<String> = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    for (index, rule) in wires.into_iter().enumerate() {
        let site = rules_site.index(index);
        if names.contains(&rule.name) {
            errors.error(&site.key("name"), format!("`{}` is there twice", rule.name), "rename one of them");
        }
        names.push(rule.name.clone());
        let mode =
            if wire.mode == Mode::Monitor && rule.mode == Mode::Enforce { Mode::Monitor } else { rule.mode };
        if let Some(rule) = compile_rule(rule, &site, vocabulary, errors)
            && mode != Mode::Off
        {
            rules.push(Rule { enforce: mode == Mode::Enforce, ..rule });
        }
    }
    // Coarse quotas see most conflicts, and are stored first; rules that count the same share a hash.
    rules.sort_by_key(|rule| (rule.counted.breadth(), rule.counted.prefix()));
    (errors.error_count() == before).then(|| RateLimit::new(rules, wire.headers, wire.on_error))
}

fn compile_rule(
    wire: RuleWire,
    site: &Site,
    vocabulary: &Vocabulary,
    errors: &mut ConfigErrors,
) -> Option<Rule> {
    let before = errors.error_count();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !(1..=NAME_BYTES).contains(&wire.name.len()) || !wire.name.bytes().all(plain) {
        let problem = format!("{:?} is not a rule's name", wire.name);
        errors.error(
            &site.key("name"),
            problem,
            format!("1 to {NAME_BYTES} of A-Z, a-z, 0-9, `.`, `_` and `-`"),
        );
    }
    let (actions, names) = actions(wire.action, &site.key("action"), vocabulary, errors);
    let number = |value: u64, key: &str, remedy: &str, errors: &mut ConfigErrors| {
        let number = u32::try_from(value).ok().filter(|number| (1..=MOST_REQUESTS).contains(number));
        if number.is_none() {
            errors.error(&site.key(key), value.to_string(), format!("must be 1 to {MOST_REQUESTS}{remedy}"));
        }
        number
    };
    let nothing =
        if wire.limit == 0 { "; to allow nothing, refuse the action in the proxy's routes" } else { "" };
    let limit = number(wire.limit, "limit", nothing, errors);
    let burst = match wire.burst {
        Some(burst) => number(burst, "burst", "", errors),
        None => limit,
    };
    let window = wire.window.0;
    if !(Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window) {
        errors.error(&site.key("window"), wire.window.to_string(), "must be 1s to 24h");
    } else if window.subsec_nanos() != 0 {
        errors.error(
            &site.key("window"),
            wire.window.to_string(),
            "must be whole seconds: RateLimit-Policy counts in them",
        );
    }
    if errors.error_count() != before {
        return None;
    }
    let Some(quota) = Quota::new(limit?, window, burst?) else {
        let most = LONGEST_REFILL.as_secs() / (24 * 60 * 60);
        let problem =
            format!("{} of {} per {} take longer than {most}d to come back", burst?, limit?, wire.window);
        errors.error(&site.key("burst"), problem, "choose a smaller burst, or a higher limit");
        return None;
    };
    let mut item = String::new();
    let _ = write!(item, "\"{}\";q={};w={}", wire.name, quota.limit(), window.as_secs());
    let counted = Counted::new(&wire.per, names.as_deref());
    let salt = counted.salt(&wire.name, window);
    Some(Rule {
        name: wire.name,
        item: item.into_bytes().into(),
        quota,
        enforce: true,
        actions,
        counted,
        salt,
    })
}

/// The numbers of the actions, and their names.
type Listed = (Option<Vec<usize>>, Option<Vec<String>>);

fn actions(
    wire: Option<ActionNames>,
    site: &Site,
    vocabulary: &Vocabulary,
    errors: &mut ConfigErrors,
) -> Listed {
    let mut names = match wire {
        None => return (None, None),
        Some(ActionNames::One(name)) => vec![name],
        Some(ActionNames::Many(names)) => names,
    };
    if names.is_empty() {
        errors.error(site, "names no action", "name one, or leave `action` out to count every request");
    }
    names.sort();
    names.dedup();
    let mut numbers = Vec::new();
    for name in &names {
        match vocabulary.actions.iter().position(|known| known == name) {
            Some(number) => numbers.push(number),
            None => {
                let known: Vec<&str> = vocabulary.actions.iter().map(String::as_str).collect();
                errors.error(
                    site,
                    format!("`{name}` is not a configured action"),
                    nearest_hint(name, &known),
                );
            }
        }
    }
    (Some(numbers), Some(names))
}
