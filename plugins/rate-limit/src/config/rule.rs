//! Rules.

use std::{fmt::Write as _, time::Duration};

use portcullis_policy::{ConfigErrors, Mode, Site, config::nearest_hint, units::Span};
use serde::Deserialize;

use super::{Common, OnError, RULES, Scope};
use crate::{
    gcra::{LONGEST_REFILL, LONGEST_WINDOW, MOST_REQUESTS, Quota},
    held,
    key::{Counted, Per},
    rule::{Count, Counters, Kind, Price, Rule, Told},
};

/// A rule's name, in bytes. Longer: a configuration error.
pub const NAME_BYTES: usize = 64;
/// Statuses or classes of `on_status`. More: a configuration error.
const STATUSES: usize = 32;
/// The rates of a tenant's own policy that a rule may name; all are per minute.
pub const TENANT_RATES: [&str; 4] = [
    "api_calls_per_minute",
    "login_attempts_per_minute",
    "file_uploads_per_minute",
    "report_generation_per_minute",
];
const MINUTE: Duration = Duration::from_secs(60);

/// One limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleWire {
    /// The rule's name, in `RateLimit` fields, counters and records: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The actions that count: a name or a list. Left out: every request counts.
    #[serde(default)]
    pub action: Option<ActionNames>,
    /// Who has a quota of their own: any of `tenant`, `user`, `client_ip` and up to four of `{header: name}`; `[]` is one
    /// quota for all. A user is one of the tenant's only if `tenant` is named too. A request without a user counts for
    /// its client address.
    #[serde(default = "per_tenant")]
    pub per: Vec<Per>,
    /// Units per window, a unit being a request unless `cost` says otherwise: 0 to 1000000000. 0: nothing is allowed.
    #[serde(default)]
    pub limit: Option<u64>,
    /// The window: whole seconds, `"1s"` to `"24h"`.
    #[serde(default)]
    pub window: Option<Span>,
    /// Units that may come at once; left out: `limit`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// In place of `limit` and `window`: how many requests may be under way at the same time, 1 to 65535.
    #[serde(default)]
    pub concurrent: Option<u64>,
    /// Units that a request costs: a number, or the header that tells it. Left out: 1.
    #[serde(default)]
    pub cost: Option<CostWire>,
    /// Which requests count: `always`, `on_failure` (the response's status is 400 to 599) or `{on_status: [...]}`. A request
    /// holds its units until its response; one without a response counts.
    #[serde(default)]
    pub count: Option<CountWire>,
    /// A rate of the tenant's own policy, like `login_attempts_per_minute`: where the companion knows one, it replaces
    /// `limit` and `burst`. Wants a window of `1m`, and `tenant` in `per`.
    #[serde(default)]
    pub policy: Option<String>,
    /// `process` or `global`; left out: the section's.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// What becomes of a request that cannot be counted; left out: the section's.
    #[serde(default)]
    pub on_error: Option<OnError>,
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

/// What a request costs.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum CostWire {
    /// So many units, 1 to the burst.
    Fixed(u64),
    /// What a header tells.
    Told(ToldWire),
}

/// A cost that a header tells. A value that is no whole number, or negative, costs `most`; one above `most` too.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ToldWire {
    /// A header of the request. A client that can write it chooses what it pays: name one that something in front sets.
    #[serde(default)]
    pub request_header: Option<String>,
    /// A header of the response. The request is admitted for `default`; what its response costs beyond is spent
    /// afterwards, even if there is no room, and waited for by those who come later.
    #[serde(default)]
    pub response_header: Option<String>,
    /// Without the header. Left out: 1.
    #[serde(default)]
    pub default: Option<u64>,
    /// The most; left out: the burst.
    #[serde(default)]
    pub most: Option<u64>,
}

/// Which requests count.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum CountWire {
    /// By word.
    Word(CountWord),
    /// By the response's status.
    Status(StatusesWire),
}

/// Which requests count, by word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CountWord {
    /// All.
    Always,
    /// Those answered with 400 to 599.
    OnFailure,
}

/// Which requests count, by status.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StatusesWire {
    /// Statuses like `401`, or classes like `"4xx"`.
    pub on_status: Vec<StatusWire>,
}

/// A status or a class of them.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum StatusWire {
    /// One.
    One(u16),
    /// Like `"4xx"`.
    Class(String),
}

fn per_tenant() -> Vec<Per> {
    vec![Per::Tenant]
}

/// The limits that every tenant starts with; those whose action is not configured do not apply.
fn defaults(common: &Common<'_>) -> Vec<RuleWire> {
    let tenant = || vec![Per::Tenant];
    let user = || vec![Per::Tenant, Per::User];
    let [calls, logins, uploads, reports] = TENANT_RATES;
    [
        ("api_call", tenant(), 100, calls),
        ("login", user(), 5, logins),
        ("file_upload", user(), 20, uploads),
        ("report_generation", user(), 10, reports),
    ]
    .into_iter()
    .filter(|(action, ..)| common.vocabulary.actions.iter().any(|known| known == action))
    .map(|(action, per, limit, rate)| RuleWire {
        name: action.to_owned(),
        action: Some(ActionNames::One(action.to_owned())),
        per,
        limit: Some(limit),
        window: Some(Span(MINUTE)),
        policy: Some(rate.to_owned()),
        ..RuleWire::default()
    })
    .collect()
}

/// The rules, and the names of all of them, those that are off included.
pub(super) fn compile(
    wires: Option<Vec<RuleWire>>,
    has_bans: bool,
    common: &Common<'_>,
    site: &Site,
    errors: &mut ConfigErrors,
) -> (Vec<Rule>, Vec<String>) {
    let wires = wires.unwrap_or_else(|| defaults(common));
    if wires.len() > RULES {
        errors.error(site, format!("has {} rules", wires.len()), format!("at most {RULES}"));
        return (Vec::new(), Vec::new());
    }
    if wires.is_empty() && !has_bans && common.mode != Mode::Off {
        errors.warning(site, "has no rule, so nothing is limited", "add one, or set `mode` to off");
    }
    let mut names: Vec<String> = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    for (index, wire) in wires.into_iter().enumerate() {
        let site = site.index(index);
        super::name(&wire.name, "rule", &mut names, &site, errors);
        super::per(&wire.per, &site.key("per"), errors);
        let mode = match wire.mode {
            Mode::Enforce if common.mode == Mode::Monitor => Mode::Monitor,
            own => own,
        };
        let Some(rule) = compile_rule(wire, mode == Mode::Enforce, common, &site, errors) else { continue };
        if mode != Mode::Off {
            overlap(&rule, &rules, &site, errors);
            rules.push(rule);
        }
    }
    // Coarse quotas see most conflicts, and are stored first; rules that count the same share a hash.
    rules.sort_by_key(|rule| (rule.counted.breadth(), rule.counted.prefix()));
    (rules, names)
}

/// Of two rules that count the same, one may always refuse first: the other has no effect, which is hardly meant.
fn overlap(rule: &Rule, others: &[Rule], site: &Site, errors: &mut ConfigErrors) {
    let covers = |strict: &Rule, loose: &Rule| {
        let same =
            strict.counted == loose.counted && strict.cost == loose.cost && strict.count == loose.count;
        same && strict.enforce
            && match (strict.kind, loose.kind) {
                (Kind::Nothing(_), _) => true,
                (Kind::Concurrent(strict), Kind::Concurrent(loose)) => strict <= loose,
                (Kind::Rate { quota: strict, .. }, Kind::Rate { quota: loose, .. }) => strict.covers(&loose),
                _ => false,
            }
    };
    for other in others {
        let idle = if covers(other, rule) {
            (rule, other)
        } else if covers(rule, other) {
            (other, rule)
        } else {
            continue;
        };
        let problem =
            format!("`{}` counts the same as `{}`, and never refuses first", idle.0.name, idle.1.name);
        errors.warning(
            site,
            problem,
            "remove it, or give it a shorter window, another action or another `per`",
        );
    }
}

fn compile_rule(
    mut wire: RuleWire,
    enforce: bool,
    common: &Common<'_>,
    site: &Site,
    errors: &mut ConfigErrors,
) -> Option<Rule> {
    let before = errors.error_count();
    let (actions, names) = actions(wire.action.take(), &site.key("action"), common, errors);
    let scope = wire.scope.unwrap_or(common.scope);
    let on_error = wire.on_error.unwrap_or(common.on_error);
    let share = (scope == Scope::Global && on_error == OnError::LocalShare).then_some(common.share);
    let kind = match wire.concurrent {
        Some(most) => concurrent(most, &wire, site, errors),
        None => rate(&wire, share, site, errors),
    }?;
    let burst = match kind {
        Kind::Rate { quota, .. } => quota.burst(),
        Kind::Concurrent(_) | Kind::Nothing(_) => MOST_REQUESTS,
    };
    let cost = price(wire.cost.take(), burst, &site.key("cost"), errors);
    let count = count(wire.count.take(), &site.key("count"), errors);
    let global = scope == Scope::Global && matches!(kind, Kind::Rate { .. });
    if global && matches!(cost, Price::Response(_)) {
        let remedy = "a cost that is known only afterwards cannot be leased: set `scope` to process";
        errors.error(&site.key("cost"), "of a global rule stands in a response", remedy);
    }
    let counted = Counted::new(&wire.per, names.as_deref());
    let window = wire.window.unwrap_or(Span(Duration::from_secs(1))).0;
    if let Some(rate) = &wire.policy {
        let key = site.key("policy");
        if !TENANT_RATES.contains(&rate.as_str()) {
            let hint = nearest_hint(rate, &TENANT_RATES);
            errors.error(&key, format!("`{rate}` is not a rate of a tenant's policy"), hint);
        } else if window != MINUTE || wire.concurrent.is_some() || !counted.is_per_tenant() {
            errors.error(&key, "is a tenant's rate a minute", "set `window` to 1m, and name tenant in `per`");
        }
    }
    if errors.error_count() != before {
        return None;
    }
    let mut item = String::new();
    let _ = match kind {
        Kind::Rate { quota, .. } => {
            write!(item, "\"{}\";q={};w={}", wire.name, quota.limit(), window.as_secs())
        }
        Kind::Nothing(seconds) => write!(item, "\"{}\";q=0;w={seconds}", wire.name),
        Kind::Concurrent(most) => write!(item, "\"{}\";q={most};qu=\"concurrent-requests\"", wire.name),
    };
    Some(Rule {
        salt: counted.salt(&wire.name, window),
        counters: Counters::new(&wire.name),
        name: wire.name,
        kind,
        item: item.into_bytes().into(),
        enforce,
        actions,
        counted,
        cost,
        count,
        policy: wire.policy,
        global,
        proxies: common.share.1,
        on_error,
    })
}

fn concurrent(most: u64, wire: &RuleWire, site: &Site, errors: &mut ConfigErrors) -> Option<Kind> {
    let number = u32::try_from(most).ok().filter(|most| (1..=u32::from(held::MOST)).contains(most));
    if number.is_none() {
        errors.error(&site.key("concurrent"), most.to_string(), format!("must be 1 to {}", held::MOST));
    }
    let others = [
        ("limit", wire.limit.is_some()),
        ("window", wire.window.is_some()),
        ("burst", wire.burst.is_some()),
        ("cost", wire.cost.is_some()),
        ("count", wire.count.is_some()),
    ];
    for (key, _) in others.iter().filter(|(_, there)| *there) {
        let problem = "has no meaning beside `concurrent`";
        errors.error(&site.key(key), problem, "remove it, or make two rules of it");
    }
    number.map(Kind::Concurrent)
}

fn rate(wire: &RuleWire, share: Option<(u32, u32)>, site: &Site, errors: &mut ConfigErrors) -> Option<Kind> {
    let before = errors.error_count();
    let number = |value: u64, least: u32, key: &str, errors: &mut ConfigErrors| {
        let number = u32::try_from(value).ok().filter(|number| (least..=MOST_REQUESTS).contains(number));
        if number.is_none() {
            let remedy = format!("must be {least} to {MOST_REQUESTS}");
            errors.error(&site.key(key), value.to_string(), remedy);
        }
        number
    };
    for (key, missing) in [("limit", wire.limit.is_none()), ("window", wire.window.is_none())] {
        if missing {
            errors.error(&site.key(key), "is missing", "add it, or `concurrent` in place of both");
        }
    }
    let limit = wire.limit.and_then(|limit| number(limit, 0, "limit", errors));
    let burst = match wire.burst {
        Some(burst) => number(burst, 1, "burst", errors),
        None => limit,
    };
    let window = wire.window.unwrap_or(Span(MINUTE));
    if !(Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window.0) {
        errors.error(&site.key("window"), window.to_string(), "must be 1s to 24h");
    } else if window.0.subsec_nanos() != 0 {
        let remedy = "must be whole seconds: RateLimit-Policy counts in them";
        errors.error(&site.key("window"), window.to_string(), remedy);
    }
    if errors.error_count() != before {
        return None;
    }
    let (limit, burst) = (limit?, burst?);
    if limit == 0 {
        return Some(Kind::Nothing(window.0.as_secs()));
    }
    let Some(quota) = Quota::new(limit, window.0, burst) else {
        let most = LONGEST_REFILL.as_secs() / (24 * 60 * 60);
        let problem = format!("{burst} of {limit} per {window} take longer than {most}d to come back");
        errors.error(&site.key("burst"), problem, "choose a smaller burst, or a higher limit");
        return None;
    };
    let Some((percent, proxies)) = share else { return Some(Kind::Rate { quota, share: None }) };
    let share = quota.part(percent, proxies);
    if share.is_none() {
        let problem = format!("{percent}% of {limit} among {proxies} are less than one each");
        errors.error(&site.key("on_error"), problem, "choose deny or allow, or a larger `share`");
        return None;
    }
    Some(Kind::Rate { quota, share })
}

fn price(wire: Option<CostWire>, burst: u32, site: &Site, errors: &mut ConfigErrors) -> Price {
    let told = match wire {
        None => return Price::Fixed(1),
        Some(CostWire::Fixed(cost)) => {
            let number = u32::try_from(cost).ok().filter(|cost| (1..=burst).contains(cost));
            if number.is_none() {
                let remedy = format!("must be 1 to the burst of {burst}: more would never be admitted");
                errors.error(site, cost.to_string(), remedy);
            }
            return Price::Fixed(number.unwrap_or(1));
        }
        Some(CostWire::Told(told)) => told,
    };
    let mut bounded = |value: Option<u64>, key: &str, otherwise: u32| {
        let value = value.unwrap_or(u64::from(otherwise));
        let number = u32::try_from(value).ok().filter(|value| *value <= burst);
        if number.is_none() {
            let remedy = format!("must be 0 to the burst of {burst}: more would never be admitted");
            errors.error(&site.key(key), value.to_string(), remedy);
        }
        number.unwrap_or(otherwise)
    };
    let (default, most) = (bounded(told.default, "default", 1), bounded(told.most, "most", burst));
    let read = |header: String| Told { header: header.to_ascii_lowercase(), default, most };
    match (told.request_header, told.response_header) {
        (Some(header), None) if !header.is_empty() => Price::Request(read(header)),
        (None, Some(header)) if !header.is_empty() => Price::Response(read(header)),
        _ => {
            let remedy = "write either `request_header` or `response_header`";
            errors.error(site, "must name one header", remedy);
            Price::Fixed(1)
        }
    }
}

fn count(wire: Option<CountWire>, site: &Site, errors: &mut ConfigErrors) -> Count {
    match wire {
        None | Some(CountWire::Word(CountWord::Always)) => Count::Always,
        Some(CountWire::Word(CountWord::OnFailure)) => Count::On(vec![(400, 599)]),
        Some(CountWire::Status(wire)) => Count::On(statuses(&wire.on_status, &site.key("on_status"), errors)),
    }
}

/// Statuses and classes of them as ranges.
pub(super) fn statuses(wires: &[StatusWire], site: &Site, errors: &mut ConfigErrors) -> Vec<(u16, u16)> {
    if wires.is_empty() || wires.len() > STATUSES {
        errors.error(site, format!("has {} statuses", wires.len()), format!("1 to {STATUSES}"));
        return Vec::new();
    }
    let mut ranges = Vec::new();
    for (index, wire) in wires.iter().enumerate() {
        let range = match wire {
            StatusWire::One(status) => (100..=599).contains(status).then_some((*status, *status)),
            StatusWire::Class(class) => match class.as_bytes() {
                [digit @ b'1'..=b'5', b'x', b'x'] => {
                    let first = u16::from(digit - b'0') * 100;
                    Some((first, first + 99))
                }
                _ => None,
            },
        };
        match range {
            Some(range) => ranges.push(range),
            None => {
                let problem = match wire {
                    StatusWire::One(status) => format!("{status} is not a status"),
                    StatusWire::Class(class) => format!("{class:?} is not a class of statuses"),
                };
                errors.error(&site.index(index), problem, "write one like 401, or a class like \"4xx\"");
            }
        }
    }
    ranges
}

/// The numbers of the actions, and their names.
type Listed = (Option<Vec<usize>>, Option<Vec<String>>);

fn actions(wire: Option<ActionNames>, site: &Site, common: &Common<'_>, errors: &mut ConfigErrors) -> Listed {
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
    let known: Vec<&str> = common.vocabulary.actions.iter().map(String::as_str).collect();
    let mut numbers = Vec::new();
    for name in &names {
        match known.iter().position(|known| known == name) {
            Some(number) => numbers.push(number),
            None => {
                let problem = format!("`{name}` is not a configured action");
                errors.error(site, problem, nearest_hint(name, &known));
            }
        }
    }
    (Some(numbers), Some(names))
}
