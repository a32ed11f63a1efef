//! The rate-limit policy: how many requests a tenant, a user or an address may send, per action.
//!
//! Defends against guessed passwords, scraping, exhaustion by a single tenant or user, and against attempts to get
//! around limits: by many keys (eviction never gives burst back), by many workers (state is shared, and exact), by timing
//! (there is no window whose edge could be straddled), by steps of the clock (time is monotonic).
//!
//! The promise: a limit of L per window W with burst B admits at most B + ⌈L·t/W⌉ requests in any span t. All rules
//! that apply to a request commit together or not at all. Where something must give, a request too few is admitted, never one
//! too many.
//!
//! It deliberately does not limit across proxies: each process counts for itself. It counts requests when they arrive, whatever
//! becomes of them. A request without a user shares the quota of its client address.
//!
//! Limits: 32 rules; 8192 slots of 13 limits in use each, beyond which newcomers to a slot share a quota (see
//! [`set`]); 32 conflicts with other workers per decision, beyond which `on_error` decides (see [`commit`]).

pub mod commit;
mod config;
mod fields;
pub mod gcra;
mod key;
pub mod set;
mod sip;

use std::{cell::Cell, rc::Rc, time::Duration};

use portcullis_policy::{
    ConfigErrors, Context, Decision, Effect, Effects, Event, LogLevel, Metric, Policy, Refusal, Request,
    Site, Verdict, Vocabulary, json::Value,
};

pub use config::{ActionNames, NAME_BYTES, OnError, RULES, RuleWire, Wire};
pub use key::Per;

use commit::{Claim, Cost, Failure};
use gcra::{Quota, Step};
use key::Counted;
use set::Tag;

/// Requests that every enforced rule had room for.
pub const ALLOWED: Metric = Metric {
    name: "portcullis_rate_limit_allowed_total",
    help: "Requests to which a rule applied and that passed.",
};
/// Requests that were refused.
pub const LIMITED: Metric = Metric {
    name: "portcullis_rate_limit_limited_total",
    help: "Requests refused because a quota was exceeded.",
};
/// Requests that passed although a monitored rule had no room.
pub const MONITORED: Metric = Metric {
    name: "portcullis_rate_limit_monitored_total",
    help: "Requests that passed although a rule in mode monitor had no room for them.",
};
/// Requests that left little.
pub const NEAR_LIMIT: Metric = Metric {
    name: "portcullis_rate_limit_near_limit_total",
    help: "Requests that passed and left less than a fifth of a quota.",
};
/// Requests that could not be counted.
pub const ERRORS: Metric = Metric {
    name: "portcullis_rate_limit_errors_total",
    help: "Requests that could not be counted because the shared state failed; on_error decided.",
};
/// Stores that another worker forestalled.
pub const CONFLICTS: Metric = Metric {
    name: "portcullis_rate_limit_conflicts_total",
    help: "Stores that another worker forestalled; they were tried again.",
};
/// Limits that lost their own entry.
pub const FOLDED: Metric = Metric {
    name: "portcullis_rate_limit_folded_total",
    help: "Limits in use that gave up their entry in a full slot; newcomers to that slot are admitted less.",
};
/// Slots that were not ours.
pub const DISCARDED: Metric = Metric {
    name: "portcullis_rate_limit_slots_discarded_total",
    help: "Shared slots found with content of another format, and taken as empty.",
};
/// Refused, and counted all the same.
pub const OVERCOUNTED: Metric = Metric {
    name: "portcullis_rate_limit_overcounted_total",
    help: "Slots where a request that lost a race stayed counted although it was refused.",
};

/// One limit.
#[derive(Debug)]
pub(crate) struct Rule {
    name: String,
    /// Its item of `RateLimit-Policy`.
    item: Rc<[u8]>,
    quota: Quota,
    enforce: bool,
    /// Numbers of the actions that count; `None` for every request.
    actions: Option<Vec<usize>>,
    counted: Counted,
    salt: u64,
}

/// The compiled policy.
#[derive(Debug)]
pub struct RateLimit {
    rules: Vec<Rule>,
    on_error: OnError,
    /// `ratelimit-policy` and `ratelimit`, if they are sent.
    names: Option<[Rc<str>; 2]>,
    /// When a failure was last logged.
    logged: Cell<Option<Duration>>,
}

/// Failures are counted, and logged so often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The fields for the response: `ratelimit-policy` and `ratelimit`.
pub type Announcement = Option<[Rc<[u8]>; 2]>;

impl Policy for RateLimit {
    const NAME: &'static str = "rate_limit";
    const METRICS: &'static [Metric] =
        &[ALLOWED, LIMITED, MONITORED, NEAR_LIMIT, ERRORS, CONFLICTS, FOLDED, DISCARDED, OVERCOUNTED];
    type Wire = Wire;
    type Stream = Announcement;

    fn compile(wire: Wire, site: &Site, vocabulary: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        config::compile(wire, site, vocabulary, errors)
    }

    fn on(
        &self,
        context: &mut Context<'_>,
        announcement: &mut Announcement,
        event: &Event<'_>,
        effects: &mut Effects,
    ) {
        match event {
            Event::RequestHeaders { .. } => *announcement = self.decide(context, effects),
            Event::ResponseHeaders { .. } => {
                if let (Some(values), Some(names)) = (announcement.take(), &self.names) {
                    for (name, value) in names.iter().zip(values) {
                        effects.push(Effect::SetResponseHeader(name.clone(), value));
                    }
                }
            }
            Event::RequestBody { .. } | Event::Done { .. } => {}
        }
    }
}

impl RateLimit {
    fn new(rules: Vec<Rule>, headers: bool, on_error: OnError) -> Self {
        let names = headers.then(|| ["ratelimit-policy".into(), "ratelimit".into()]);
        Self { rules, on_error, names, logged: Cell::new(None) }
    }

    fn claims(&self, seed: u64, request: &Request) -> Vec<Claim<'_>> {
        let mut claims = Vec::with_capacity(self.rules.len().min(8));
        let mut last = None;
        for (number, rule) in self.rules.iter().enumerate() {
            let applies =
                |actions: &Vec<usize>| actions.iter().any(|action| request.actions.contains(*action));
            if !rule.actions.as_ref().is_none_or(applies) {
                continue;
            }
            let place = match last {
                Some((counted, place)) if counted == rule.counted => place,
                _ => rule.counted.place(seed, request),
            };
            last = Some((rule.counted, place));
            claims.push(Claim {
                rule: number,
                slot: place.slot(),
                tag: Tag::new(place.entry(rule.salt), rule.quota.refill_ns()),
                quota: &rule.quota,
                enforce: rule.enforce,
                step: Step::Refuse { wait_ns: 0 },
            });
        }
        claims
    }

    fn decide(&self, context: &mut Context<'_>, effects: &mut Effects) -> Announcement {
        let mut claims = self.claims(context.shared.seed(), context.request);
        if claims.is_empty() {
            return None;
        }
        let now_ns = u64::try_from(context.moment.now.as_nanos()).unwrap_or(u64::MAX);
        let mut cost = Cost::default();
        let admitted = commit::decide(context.shared, now_ns, &mut claims, &mut cost);
        for (metric, count) in [
            (&CONFLICTS, cost.conflicts),
            (&FOLDED, cost.folded),
            (&DISCARDED, cost.discarded),
            (&OVERCOUNTED, cost.overcounted),
        ] {
            if count > 0 {
                effects.push(Effect::Count(metric, u64::from(count)));
            }
        }
        match admitted {
            Ok(true) => self.admit(&claims, effects),
            Ok(false) => {
                self.refuse(&claims, effects);
                None
            }
            Err(failure) => {
                self.fail(failure, &claims, context.moment.now, effects);
                None
            }
        }
    }

    fn admit(&self, claims: &[Claim<'_>], effects: &mut Effects) -> Announcement {
        effects.push(Effect::Count(&ALLOWED, 1));
        let near = |claim: &Claim<'_>| match claim.step {
            Step::Admit { debt, .. } => claim.quota.is_near(debt),
            Step::Refuse { .. } => false,
        };
        if claims.iter().any(near) {
            effects.push(Effect::Count(&NEAR_LIMIT, 1));
        }
        if let Some((claim, wait_ns)) = longest_wait(claims, false) {
            effects.push(Effect::Count(&MONITORED, 1));
            effects.push(Effect::Decide(self.decision(Verdict::Monitor, claim, wait_ns)));
        }
        self.names.as_ref()?;
        let policy = fields::policy(&self.rules, claims)?;
        Some([policy, fields::left(&self.rules, claims, false).into()])
    }

    fn refuse(&self, claims: &[Claim<'_>], effects: &mut Effects) {
        let Some((claim, wait_ns)) = longest_wait(claims, true) else { return };
        effects.push(Effect::Count(&LIMITED, 1));
        effects.push(Effect::Decide(self.decision(Verdict::Deny, claim, wait_ns)));
        let mut headers = vec![("retry-after", fields::seconds(wait_ns).to_string())];
        if self.names.is_some() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            if let Some(policy) = fields::policy(&self.rules, claims) {
                headers.push(("ratelimit-policy", text(&policy)));
            }
            headers.push(("ratelimit", text(&fields::left(&self.rules, claims, true))));
        }
        effects.push(Effect::Refuse(Refusal {
            status: 429,
            // Registered by draft-ietf-httpapi-ratelimit-headers-11, section 5.
            problem: "https://iana.org/assignments/http-problem-types#quota-exceeded",
            title: "Quota exceeded",
            reason: "quota-exceeded",
            headers,
        }));
    }

    fn fail(&self, failure: Failure, claims: &[Claim<'_>], now: Duration, effects: &mut Effects) {
        effects.push(Effect::Count(&ERRORS, 1));
        let due = self.logged.get().is_none_or(|last| now.saturating_sub(last) >= LOG_EVERY);
        if due {
            self.logged.set(Some(now));
            let text = match failure {
                Failure::State(_) => "rate_limit: the host refused the shared state",
                Failure::Contention => "rate_limit: other workers forestalled every store",
            };
            let answer = match self.on_error {
                OnError::Allow => "requests pass uncounted",
                OnError::Deny => "requests are refused",
            };
            effects.push(Effect::Log(LogLevel::Warn, format!("{text}; {answer}")));
        }
        if self.on_error == OnError::Allow || !claims.iter().any(|claim| claim.enforce) {
            return;
        }
        effects.push(Effect::Decide(Decision {
            policy: Self::NAME,
            verdict: Verdict::Deny,
            event_type: "REQUEST",
            reason: "rate-limit-unavailable",
            details: Vec::new(),
        }));
        effects.push(Effect::Refuse(Refusal {
            status: 503,
            problem: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            title: "Temporarily reduced capacity",
            reason: "rate-limit-unavailable",
            headers: vec![("retry-after", "1".to_owned())],
        }));
    }

    fn decision(&self, verdict: Verdict, claim: &Claim<'_>, wait_ns: u64) -> Decision {
        let quota = claim.quota;
        let millis = |ns: u64| Value::from(ns.div_ceil(1_000_000));
        let name = self.rules.get(claim.rule).map_or("", |rule| rule.name.as_str());
        Decision {
            policy: Self::NAME,
            verdict,
            event_type: "RATE_LIMIT_EXCEEDED",
            reason: "quota-exceeded",
            details: vec![
                ("rule", name.into()),
                ("limit", quota.limit().into()),
                ("window_ms", u64::try_from(quota.window().as_millis()).unwrap_or(u64::MAX).into()),
                ("burst", quota.burst().into()),
                ("retry_after_ms", millis(wait_ns)),
                // Those whose weight has not drained yet fill the burst; this one comes on top.
                ("request_count", u64::from(quota.burst()).saturating_add(1).into()),
            ],
        }
    }
}

/// Of the claims without room, enforced or monitored, the one that asks for the longest wait.
fn longest_wait<'c, 'q>(claims: &'c [Claim<'q>], enforce: bool) -> Option<(&'c Claim<'q>, u64)> {
    claims
        .iter()
        .filter(|claim| claim.enforce == enforce)
        .filter_map(|claim| match claim.step {
            Step::Refuse { wait_ns } => Some((claim, wait_ns)),
            Step::Admit { .. } => None,
        })
        .max_by_key(|(_, wait_ns)| *wait_ns)
}

#[cfg(test)]
mod tests;
