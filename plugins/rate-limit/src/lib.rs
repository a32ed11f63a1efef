//! The rate-limit policy: how many requests a tenant, a user or an address may send, per action; how many at the same
//! time; and who is kept out for a while.
//!
//! Defends against guessed passwords, scraping, exhaustion by a single tenant or user, and against attempts to get
//! around limits: by many keys (eviction never gives burst back), by many workers (state is shared, and exact), by timing
//! (there is no window whose edge could be straddled), by steps of the clock (time is monotonic), by nonsense in a header
//! that tells a cost.
//!
//! The promise: a limit of L per window W with burst B admits at most B + ⌈L·t/W⌉ units in any span t, of the requests that
//! count. All rules that apply to a request commit together or not at all. Where something must give, a request too few
//! is admitted, never one too many. What a response costs beyond its reservation is the one exception: it is spent
//! afterwards, and those who come later wait for it.
//!
//! It deliberately does not look at what requests contain, and it takes headers that tell a cost or a key at their word: what a
//! client may write there is the operator's choice. A request without a user shares the quota of its client address.
//!
//! Limits: 32 rules and 8 bans; 131072 slots of 13 limits in use each, beyond which newcomers to a slot share a quota (see
//! [`set`]); 4096 slots of 7 keys with strikes (see [`ban`]); 32 conflicts with other workers per decision, beyond which
//! `on_error` decides (see [`commit`]).

pub mod ahead;
pub mod ban;
pub mod commit;
mod config;
pub mod desk;
mod fields;
pub mod gcra;
mod global;
pub mod held;
mod key;
pub mod lease;
mod metrics;
mod reply;
mod rule;
pub mod set;
mod sip;
mod stream;
mod strikes;

use std::{cell::Cell, rc::Rc, time::Duration};

use portcullis_policy::{
    ConfigErrors, Context, Effect, Effects, Event, Headers, Leases, LogLevel, Metric, Policy, ReadsAddress,
    Request, Site, Vocabulary, WorkerState,
};

pub use config::{
    ActionNames, Attacks, BANS, BanWire, CostWire, CountWire, CountWord, HeadersWire, HeadersWord, Limited,
    NAME_BYTES, OnError, RULES, RuleWire, Scope, ShareWire, StatusWire, TENANT_RATES, Wire,
};
pub use key::{LIMIT_SLOTS, Per};
pub use stream::Stream;

use ahead::Reserve;
use ban::Ban;
use commit::{Asks, Claim, Cost, Failure, Outcome};
use fields::Style;
use global::Dry;
use key::Counted;
use rule::{Kind, Rule};
use set::{Step, Tag};
use stream::nanoseconds;

/// The section's key.
const NAME: &str = "rate_limit";
/// Failures are counted, and logged so often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The compiled policy.
#[derive(Debug)]
pub struct RateLimit {
    pub(crate) rules: Vec<Rule>,
    bans: Vec<Ban>,
    settings: Settings,
    /// The names of the fields that are sent.
    names: Vec<Rc<str>>,
    /// When a failure was last logged.
    logged: Cell<Option<Duration>>,
}

/// What holds for all rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Which fields responses carry.
    pub style: Style,
    /// How long a request may wait for tokens.
    pub lease_wait: Duration,
}

impl Policy for RateLimit {
    const NAME: &'static str = NAME;
    const METRICS: &'static [Metric] = metrics::ALL;
    type Wire = Wire;
    type Stream = Stream;

    fn compile(wire: Wire, site: &Site, vocabulary: &Vocabulary, errors: &mut ConfigErrors) -> Option<Self> {
        config::compile(wire, site, vocabulary, errors)
    }

    fn hears_responses(&self) -> bool {
        let awaits = |rule: &Rule| rule.awaits_response() || matches!(rule.kind, Kind::Concurrent(_));
        !self.bans.is_empty() || self.rules.iter().any(awaits)
    }

    fn reads_address(&self) -> ReadsAddress {
        let counted =
            self.rules.iter().map(|rule| &rule.counted).chain(self.bans.iter().map(|ban| &ban.counted));
        counted.map(Counted::reads_address).max().unwrap_or(ReadsAddress::Never)
    }

    fn on(&self, context: &mut Context<'_>, stream: &mut Stream, event: &Event<'_>, effects: &mut Effects) {
        match event {
            Event::RequestHeaders { headers, .. } => {
                if !self.keep_out(context, stream, headers, effects) {
                    self.decide(context, stream, headers, effects);
                }
            }
            Event::ResponseHeaders { headers } => {
                for (name, value) in stream.fields.drain(..) {
                    effects.push(Effect::SetResponseHeader(name, value));
                }
                let status = headers.first(":status").and_then(status);
                stream.answered(self, context, status, Some(headers), effects);
            }
            Event::Done { outcome } => {
                stream.answered(self, context, outcome.status, None, effects);
                stream.over(context, effects);
                self.strike(context, stream, outcome.status, effects);
            }
            Event::RequestBody { .. } => {}
        }
    }
}

fn status(bytes: &[u8]) -> Option<u16> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

impl RateLimit {
    pub(crate) fn new(rules: Vec<Rule>, bans: Vec<Ban>, settings: Settings) -> Self {
        let Style { draft, older } = settings.style;
        let draft = ["ratelimit-policy", "ratelimit"].into_iter().filter(|_| draft);
        let names = draft.chain(fields::OLDER.into_iter().filter(|_| older)).map(Rc::from).collect();
        Self { rules, bans, settings, names, logged: Cell::new(None) }
    }

    /// What applies; `leased` when tokens of global limits are to be taken, `worker` knows the tenant's own rates.
    fn claims(
        &self,
        seed: u64,
        request: &Request,
        headers: &Headers<'_>,
        leased: bool,
        mut worker: Option<&mut dyn WorkerState>,
    ) -> Vec<Claim> {
        let mut claims = Vec::with_capacity(self.rules.len().min(8));
        let mut last: Option<(&key::Counted, key::Place)> = None;
        for (number, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.applies(request)) {
            let place = match last {
                Some((counted, place)) if counted.shares_place(&rule.counted) => place,
                _ => rule.counted.place(seed, request, headers),
            };
            last = Some((&rule.counted, place));
            let own =
                rule.policy.as_ref().zip(worker.as_mut()).and_then(|(rate, w)| w.rate(&request.tenant, rate));
            let (asks, refill_ns) = match rule.kind.with_rate(own, rule.share) {
                Kind::Rate { quota, share } => {
                    let (cost, reserve) = (rule.price(headers), rule.awaits_response());
                    let leased = leased && rule.global && cost > 0;
                    (Asks::Rate { quota, cost, reserve, leased, share }, quota.refill_ns())
                }
                Kind::Concurrent(most) => (Asks::Concurrent(most), 0),
                Kind::Nothing(seconds) => (Asks::Nothing(seconds.saturating_mul(1_000_000_000)), 0),
            };
            claims.push(Claim {
                rule: number,
                slot: place.slot(),
                tag: Tag::new(place.entry(rule.salt), refill_ns),
                asks,
                enforce: rule.enforce,
                reserve: Reserve::None,
                step: Step::Refuse { wait_ns: 0 },
            });
        }
        claims
    }

    fn decide(
        &self,
        context: &mut Context<'_>,
        stream: &mut Stream,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) {
        let (seed, leased) = (context.shared.seed(), context.shared.worker().map(|worker| worker.leases()));
        let leased = !matches!(leased, None | Some(Leases::None));
        let mut claims = self.claims(seed, context.request, headers, leased, context.shared.worker());
        if claims.is_empty() {
            return;
        }
        let mut outcome = self.judge(&mut claims, context, effects);
        if outcome == Ok(Outcome::Dry) {
            match self.await_tokens(&mut claims, context, stream, headers, effects) {
                Dry::Decided => return,
                Dry::Refused => outcome = Ok(Outcome::Refused),
                Dry::WithoutTokens => {
                    claims = self.claims(seed, context.request, headers, false, context.shared.worker());
                    outcome = self.judge(&mut claims, context, effects);
                }
            }
        }
        let refused = claims.iter().filter(|claim| matches!(claim.step, Step::Refuse { .. }));
        stream.limited.extend(refused.map(|claim| (claim.rule, claim.enforce)));
        match outcome {
            Ok(Outcome::Admitted | Outcome::Dry) => {
                self.ask(&claims, context, headers);
                stream.open(self, &claims, context);
                self.admit(&claims, stream, effects);
            }
            Ok(Outcome::Refused) => self.refuse(&claims, effects),
            Err(failure) => self.fail(failure, &claims, context.moment.now, effects),
        }
    }

    fn judge(
        &self,
        claims: &mut [Claim],
        context: &mut Context<'_>,
        effects: &mut Effects,
    ) -> Result<Outcome, Failure> {
        let mut cost = Cost::default();
        let now_ns = nanoseconds(context.moment.now);
        if let Some(worker) = context.shared.worker() {
            ahead::find(claims, worker, now_ns);
        }
        let outcome = commit::decide(context.shared, now_ns, claims, &mut cost);
        metrics::count(cost, effects);
        if let (Ok(Outcome::Admitted), Some(worker)) = (outcome, context.shared.worker()) {
            ahead::keep(claims, worker);
        }
        outcome
    }

    fn admit(&self, claims: &[Claim], stream: &mut Stream, effects: &mut Effects) {
        effects.push(Effect::Count(&metrics::ALLOWED, 1));
        let mut near = false;
        for claim in claims {
            let little = match (claim.step, &claim.asks) {
                (Step::Admit { debt, .. }, Asks::Rate { quota, .. }) => quota.is_near(debt),
                (Step::Hold { held, .. }, Asks::Concurrent(most)) => {
                    u64::from(held) * 5 > u64::from(*most) * 4
                }
                _ => false,
            };
            near |= little;
            self.count_own(claim, little, effects);
        }
        if near {
            effects.push(Effect::Count(&metrics::NEAR_LIMIT, 1));
        }
        if let Some((claim, wait_ns)) = reply::longest_wait(claims, false) {
            effects.push(Effect::Count(&metrics::MONITORED, 1));
            effects.push(Effect::Decide(reply::limited(&self.rules, claim, wait_ns)));
        }
        let mut values: Vec<Rc<[u8]>> = Vec::new();
        if self.settings.style.draft {
            let Some(policy) = fields::policy(&self.rules, claims) else { return };
            values.extend([policy, fields::left(&self.rules, claims, false).into()]);
        }
        if self.settings.style.older {
            let Some(older) = fields::older(claims, false) else { return };
            values.extend(older.map(|text| text.into_bytes().into()));
        }
        stream.fields.extend(self.names.iter().cloned().zip(values));
    }

    /// The rule's own counters.
    fn count_own(&self, claim: &Claim, near: bool, effects: &mut Effects) {
        let Some(rule) = self.rules.get(claim.rule) else { return };
        if matches!(claim.step, Step::Refuse { .. }) {
            effects.push(Effect::CountNamed(rule.counters.over.clone(), 1));
        } else if near {
            effects.push(Effect::CountNamed(rule.counters.near.clone(), 1));
        }
    }

    fn refuse(&self, claims: &[Claim], effects: &mut Effects) {
        let Some((claim, wait_ns)) = reply::longest_wait(claims, true) else { return };
        effects.push(Effect::Count(&metrics::LIMITED, 1));
        claims.iter().for_each(|claim| self.count_own(claim, false, effects));
        effects.push(Effect::Decide(reply::limited(&self.rules, claim, wait_ns)));
        effects.push(Effect::Refuse(reply::exceeded(&self.rules, claims, wait_ns, self.settings.style)));
    }

    fn fail(&self, failure: Failure, claims: &[Claim], now: Duration, effects: &mut Effects) {
        effects.push(Effect::Count(&metrics::ERRORS, 1));
        let denies = |claim: &Claim| {
            claim.enforce && self.rules.get(claim.rule).is_none_or(|rule| rule.on_error != OnError::Allow)
        };
        let denied = claims.iter().any(denies);
        let due = self.logged.get().is_none_or(|last| now.saturating_sub(last) >= LOG_EVERY);
        if due {
            self.logged.set(Some(now));
            let text = match failure {
                Failure::State(_) => "rate_limit: the host refused the shared state",
                Failure::Contention => "rate_limit: other workers forestalled every store",
            };
            let answer = if denied { "requests are refused" } else { "requests pass uncounted" };
            effects.push(Effect::Log(LogLevel::Warn, format!("{text}; {answer}")));
        }
        if denied {
            effects.push(Effect::Decide(reply::failed()));
            effects.push(Effect::Refuse(reply::unavailable()));
        }
    }
}

#[cfg(test)]
mod tests;
