//! Rules.

mod amount;
mod wire;

use std::{fmt::Write as _, time::Duration};

use portcullis_policy::{ConfigErrors, Mode, Site, config::nearest_hint, units::Span};

use super::{Common, OnError, RULES, Scope};
use crate::{
    gcra::{LONGEST_REFILL, LONGEST_WINDOW, MOST_REQUESTS, Quota},
    held,
    key::{Counted, Per},
    rule::{Counters, Kind, Price, Rule, Share},
    set::{HOLDINGS, WAYS},
};

pub(super) use amount::statuses;
pub use wire::{ActionNames, CostWire, CountWire, CountWord, RuleWire, StatusWire};

/// A rule's name, in bytes. Longer: a configuration error.
pub const NAME_BYTES: usize = 64;
/// The rates of a tenant's own policy that a rule may name; all are per minute.
pub const TENANT_RATES: [&str; 4] = [
    "api_calls_per_minute",
    "login_attempts_per_minute",
    "file_uploads_per_minute",
    "report_generation_per_minute",
];
const MINUTE: Duration = Duration::from_secs(60);

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
            crowd(&rule, &rules, &site, errors);
            rules.push(rule);
        }
    }
    // Coarse quotas see most conflicts, and are stored first; rules that count the same share a hash.
    rules.sort_by_key(|rule| (rule.counted.breadth(), rule.counted.order()));
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

/// All limits of one user, or tenant, have a slot in common.
fn crowd(rule: &Rule, others: &[Rule], site: &Site, errors: &mut ConfigErrors) {
    let alike = || others.iter().filter(|other| other.counted.shares_place(&rule.counted));
    let over = |most: usize, of: fn(&Rule) -> usize| {
        let before: usize = alike().map(of).sum();
        before <= most && before.saturating_add(of(rule)) > most
    };
    if over(WAYS, places) || over(HOLDINGS, holdings) {
        errors.warning(
            &site.key("per"),
            format!("is one of rules with the same `per` that need more than {WAYS} places, or {HOLDINGS} for what is held"),
            "when all of them are in use at the same time, some admit less: fewer rules, or another `per`",
        );
    }
}

/// Places for what is held until a response, or for as long as it lasts.
fn holdings(rule: &Rule) -> usize {
    usize::from(rule.awaits_response() || matches!(rule.kind, Kind::Concurrent(_)))
}

/// Places of a slot that a rule may take ([`crate::set`]): an entry, two more for what the companion leases, and one for what is
/// admitted without it.
fn places(rule: &Rule) -> usize {
    let own = match rule.kind {
        Kind::Rate { share: Some(_), .. } if rule.global => 4,
        Kind::Rate { .. } if rule.global => 3,
        Kind::Rate { .. } => 1,
        Kind::Nothing(_) | Kind::Concurrent(_) => 0,
    };
    own + holdings(rule)
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
    let cost = amount::price(wire.cost.take(), burst, &site.key("cost"), errors);
    let count = amount::count(wire.count.take(), &site.key("count"), errors);
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
        share,
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

fn rate(wire: &RuleWire, share: Option<Share>, site: &Site, errors: &mut ConfigErrors) -> Option<Kind> {
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
    let Some(whole) = share else { return Some(Kind::Rate { quota, share: None }) };
    let share = whole.of(&quota);
    if share.is_none() {
        let Share { percent, proxies } = whole;
        let problem = format!("{percent}% of {limit} among {proxies} are less than one each");
        errors.error(&site.key("on_error"), problem, "choose deny or allow, or a larger `share`");
        return None;
    }
    Some(Kind::Rate { quota, share })
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
