//! What a worker does for limits between requests: it renews what streams hold, asks the companion for tokens and gives
//! back those that nobody needs, and learns the tenants' own rates.
//!
//! Pure: the host brings the time and the answers, and carries the calls. At most one call for tokens and one for policies is
//! under way. Everything is bounded: see the constants; what is beyond is said beside each.

mod holdings;
mod policies;
mod wire;

use std::collections::BTreeMap;

use portcullis_policy::{Ahead, Effects, Held, LeaseAsk, Leases, Metric, SharedState, Tenant, WorkerState};

use crate::{
    commit::{Cost, update},
    lease::{Asked, Lease},
    metrics,
    set::Tag,
    sip::Sip13,
    stream::nanoseconds,
};
use holdings::Holdings;
use policies::Policies;

/// Asks of one call. Each is a load and a store, when it is made and when it is answered: no callback may take long. What is
/// left over is asked when the answer is there.
pub const CALL_ASKS: usize = 16;
/// Leases that a tick finds to be ending.
const ENDING: usize = 256;
/// Keys that wait to be asked for. More: an ask is dropped; its request is decided by `on_error`.
const MOST_ASKS: usize = 4096;
/// Leases that are watched, to be given back in time. More: they end, and what is left of them is counted as spent.
const MOST_LEASES: usize = 8192;
/// Requests of a worker that wait for tokens at the same time. More: they are decided by `on_error`.
pub const MOST_WAITERS: usize = 256;
/// When this part of a lease's time is left, what is unused is given back, and what is in use is renewed.
const LAST_PART: u64 = 3;
/// Keys of which a worker may have debited something ahead. Others are asked for one by one.
const AHEAD: usize = 256;
/// How long after a failed call the next is tried.
const RETRY_NS: u64 = 1_000_000_000;

/// Calls for tokens.
pub const LEASE_CALLS: Metric = Metric {
    name: "portcullis_rate_limit_lease_calls_total",
    help: "Calls to the companion for tokens of limits that all proxies share.",
};
/// Those without a usable answer.
pub const LEASE_FAILURES: Metric = Metric {
    name: "portcullis_rate_limit_lease_failures_total",
    help: "Calls to the companion for tokens that were not answered as they should be.",
};
/// Tokens granted.
pub const LEASE_TOKENS: Metric = Metric {
    name: "portcullis_rate_limit_lease_tokens_total",
    help: "Tokens that the companion has granted.",
};

/// Which answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// To the call for tokens, `POST /v1/leases`.
    Leases,
    /// To the call for policies, `POST /v1/policies`.
    Policies,
}

impl Question {
    /// Where it is asked.
    pub fn path(self) -> &'static str {
        match self {
            Self::Leases => "/v1/leases",
            Self::Policies => "/v1/policies",
        }
    }
}

/// A key: its slot and tag.
type Key = (u32, u32);

/// An ask that waits to be sent.
#[derive(Debug)]
struct Wanted {
    ask: LeaseAsk,
    /// Nobody needs tokens: the lease that ends then is about to.
    ends: Option<u64>,
}

/// An ask that is under way.
#[derive(Debug)]
struct Sent {
    ask: LeaseAsk,
    sequence: u64,
}

/// A lease that is watched.
#[derive(Debug)]
struct Watched {
    ask: LeaseAsk,
    expires_ns: u64,
    /// When something should be done about it.
    due_ns: u64,
}

/// A worker's desk.
#[derive(Debug)]
pub struct Desk {
    process: u64,
    /// The host can call the companion.
    calls: bool,
    away: bool,
    retry_ns: u64,
    waiters: usize,
    holdings: Holdings,
    wanted: BTreeMap<Key, Wanted>,
    watched: BTreeMap<Key, Watched>,
    sent: Option<(u64, Vec<Sent>)>,
    policies: Policies,
    ahead: Box<[Ahead]>,
    counts: [u64; 3],
}

impl Desk {
    /// For a process with that secret; `calls` when the host can call the companion, and do so on ticks.
    pub fn new(seed: u64, calls: bool) -> Self {
        // What the companion knows the process by must not tell the seed.
        let mut name = Sip13::new(seed, u64::from_le_bytes(*b"process\0"));
        name.word(0);
        Self {
            process: name.finish(),
            calls,
            away: false,
            retry_ns: 0,
            waiters: 0,
            holdings: Holdings::default(),
            wanted: BTreeMap::new(),
            watched: BTreeMap::new(),
            sent: None,
            policies: Policies::default(),
            ahead: vec![Ahead::default(); AHEAD].into(),
            counts: [0; 3],
        }
    }

    /// The host turned out to be able to call, or not.
    pub fn set_calls(&mut self, calls: bool) {
        self.calls = calls;
    }

    /// So many requests of this worker wait.
    pub fn set_waiters(&mut self, waiters: usize) {
        self.waiters = waiters;
    }

    /// Whether there is something to ask before the next usual tick.
    pub fn is_pressing(&self) -> bool {
        self.calls
            && self.sent.is_none()
            && !self.away
            && self.wanted.values().any(|wanted| wanted.ends.is_none())
    }

    /// Regular work. What it took is counted in `effects`.
    pub fn tick(&mut self, shared: &mut dyn SharedState, now: std::time::Duration, effects: &mut Effects) {
        let now_ns = nanoseconds(now);
        self.holdings.renew(shared, now_ns);
        let ending: Vec<Key> = self
            .watched
            .iter()
            .filter(|(_, watched)| watched.due_ns <= now_ns)
            .map(|(key, _)| *key)
            .take(ENDING)
            .collect();
        for key in ending {
            let Some(watched) = self.watched.remove(&key) else { continue };
            if watched.expires_ns > now_ns && self.wanted.len() < MOST_ASKS {
                let ends = Some(watched.expires_ns);
                self.wanted.entry(key).or_insert(Wanted { ask: watched.ask, ends });
            }
        }
        self.flush(effects);
    }

    fn flush(&mut self, effects: &mut Effects) {
        let metrics = [&LEASE_CALLS, &LEASE_FAILURES, &LEASE_TOKENS];
        for (metric, count) in metrics.into_iter().zip(std::mem::take(&mut self.counts)) {
            if count > 0 {
                effects.push(portcullis_policy::Effect::Count(metric, count));
            }
        }
    }

    /// The body of the next call, if one is due. Whoever takes it must bring its answer, or say that none came.
    pub fn call(
        &mut self,
        question: Question,
        shared: &mut dyn SharedState,
        now: std::time::Duration,
        effects: &mut Effects,
    ) -> Option<Vec<u8>> {
        let now_ns = nanoseconds(now);
        match question {
            _ if !self.calls => None,
            Question::Policies => self.policies.call(self.process, now_ns),
            Question::Leases => self.lease_call(shared, now_ns, effects),
        }
    }

    fn lease_call(
        &mut self,
        shared: &mut dyn SharedState,
        now_ns: u64,
        effects: &mut Effects,
    ) -> Option<Vec<u8>> {
        if self.sent.is_some() || now_ns < self.retry_ns || self.wanted.is_empty() {
            return None;
        }
        let (mut sent, mut asks) = (Vec::new(), Vec::new());
        let keys: Vec<Key> = self.wanted.keys().copied().take(CALL_ASKS).collect();
        for key in keys {
            let Some(Wanted { ask, ends }) = self.wanted.remove(&key) else { continue };
            let mut cost = Cost::default();
            let asked = update(shared, ask.slot, &mut cost, |set| {
                let at_ns = now_ns.max(set.latest_ns());
                let lease = set.lease(Tag::of_number(ask.tag), now_ns)?;
                next(lease, &ask, ends, at_ns)
            });
            metrics::count(cost, effects);
            // Nothing to ask: another worker has asked, or there is nothing to give back. A request that waits asks anew.
            let Ok(Some(asked)) = asked else { continue };
            asks.push(wire::ask(&ask, asked));
            sent.push(Sent { ask, sequence: asked.sequence });
        }
        if sent.is_empty() {
            return None;
        }
        self.sent = Some((now_ns, sent));
        self.add(0, 1);
        Some(wire::leases(self.process, asks))
    }

    /// An answer: its body, `None` when it did not come or is a failure.
    pub fn answered(
        &mut self,
        question: Question,
        body: Option<&[u8]>,
        shared: &mut dyn SharedState,
        now: std::time::Duration,
        effects: &mut Effects,
    ) {
        let now_ns = nanoseconds(now);
        match question {
            Question::Policies => self.policies.answered(body),
            Question::Leases => self.lease_answer(body, shared, now_ns, effects),
        }
    }

    fn lease_answer(
        &mut self,
        body: Option<&[u8]>,
        shared: &mut dyn SharedState,
        now_ns: u64,
        effects: &mut Effects,
    ) {
        let Some((sent_ns, sent)) = self.sent.take() else { return };
        let grants = body.and_then(wire::grants).filter(|grants| grants.len() == sent.len());
        self.away = grants.is_none();
        if self.away {
            self.add(1, 1);
            self.retry_ns = now_ns.saturating_add(RETRY_NS);
        }
        for (place, Sent { ask, sequence }) in sent.into_iter().enumerate() {
            let grant = grants.as_ref().and_then(|grants| grants.get(place));
            let mut cost = Cost::default();
            let kept = update(shared, ask.slot, &mut cost, |set| {
                let at_ns = now_ns.max(set.latest_ns());
                let lease = set.lease(Tag::of_number(ask.tag), now_ns)?;
                match grant {
                    Some(grant) => lease
                        .answered(sequence, sent_ns, at_ns, grant)
                        .then(|| (lease.balance(at_ns) > 0).then(|| lease.expires_ns())),
                    None => {
                        lease.unanswered(sequence);
                        Some(None)
                    }
                }
            });
            metrics::count(cost, effects);
            let Ok(Some(expires)) = kept else { continue };
            self.add(2, grant.map_or(0, |grant| u64::from(grant.granted)));
            if let Some(expires_ns) = expires
                && self.watched.len() < MOST_LEASES
            {
                let rest_ns = expires_ns.saturating_sub(now_ns) / LAST_PART;
                let due_ns = expires_ns.saturating_sub(rest_ns);
                self.watched.insert((ask.slot, ask.tag), Watched { ask, expires_ns, due_ns });
            }
        }
    }

    fn add(&mut self, which: usize, by: u64) {
        if let Some(count) = self.counts.get_mut(which) {
            *count = count.saturating_add(by);
        }
    }
}

/// What to ask of a lease.
fn next(lease: &mut Lease, ask: &LeaseAsk, ends: Option<u64>, now_ns: u64) -> Option<Asked> {
    match ends {
        None => lease.ask(ask.need, ask.most, now_ns),
        // It was renewed meanwhile.
        Some(ends) if lease.expires_ns() > ends => None,
        Some(_) if lease.is_unused(now_ns) => lease.give_back(now_ns),
        Some(_) if lease.balance(now_ns) > 0 => lease.ask(0, ask.most, now_ns),
        Some(_) => None,
    }
}

impl WorkerState for Desk {
    fn hold(&mut self, held: Held) {
        self.holdings.hold(held);
    }

    fn release(&mut self, held: Held) -> Option<u32> {
        self.holdings.release(held)
    }

    fn rate(&mut self, tenant: &Tenant, name: &str) -> Option<u32> {
        if self.calls { self.policies.rate(tenant, name) } else { None }
    }

    fn leases(&self) -> Leases {
        match (self.calls, self.away) {
            (false, _) => Leases::None,
            (true, true) => Leases::Away,
            (true, false) if self.waiters < MOST_WAITERS => Leases::Wait,
            (true, false) => Leases::Ask,
        }
    }

    fn ahead(&mut self, slot: u32, tag: u32) -> Option<&mut Ahead> {
        let place = usize::try_from(slot ^ tag >> 8).ok()? % AHEAD;
        self.ahead.get_mut(place)
    }

    fn ask(&mut self, ask: LeaseAsk) {
        let key = (ask.slot, ask.tag);
        let is_under_way =
            |(_, sent): &(u64, Vec<Sent>)| sent.iter().any(|sent| (sent.ask.slot, sent.ask.tag) == key);
        if self.sent.as_ref().is_some_and(is_under_way) {
            // Who still lacks tokens when the answer is here asks then.
            return;
        }
        if let Some(known) = self.wanted.get_mut(&key) {
            // Several that wait for the same key are one ask.
            let need = if known.ends.is_some() { ask.need } else { known.ask.need.saturating_add(ask.need) };
            *known = Wanted { ask: LeaseAsk { need: need.min(ask.burst), ..ask }, ends: None };
        } else if self.wanted.len() < MOST_ASKS {
            self.wanted.insert(key, Wanted { ask, ends: None });
        }
    }
}
