//! The steps, pure: state, time and question in; state and answer out.
//!
//! The state of a key is one theoretical arrival time (GCRA) and the tokens that are out on leases. A lease is debited
//! before it is granted. Tokens that are out do not refill: before anything else a step moves the arrival time to at least
//! `now + outstanding intervals`. From this follows, for all proxies together and any span t: what is admitted is at most
//! burst + ⌈limit·t/window⌉, whatever is lost, late, doubled or out of order, as long as each process
//!
//! - spends only what it was granted, and nothing after `expires_ms` from the moment it sent the ask,
//! - asks for a key with rising sequence numbers, and heeds an answer once, and only if it answers its newest ask for
//!   that key.
//!
//! What must give way gives way towards fewer: tokens of a lost answer, of a dead process, or reported as spent only
//! later, count as spent at the last moment at which that was possible.

use crate::quota::{Quota, Time, remembered_ms};

/// Leases of one key at once. A further process is granted nothing until one of them ends.
pub const LEASES_PER_KEY: usize = 256;

const MS: u64 = 1_000_000;

/// A process's tokens of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub process: u64,
    /// How many.
    pub tokens: u32,
    /// When the last of them cannot be spent any more.
    pub expires_ns: u64,
    /// Of the last ask that counted.
    pub sequence: u64,
}

/// What is out, of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leases {
    list: Vec<Lease>,
    outstanding: u64,
}

impl Leases {
    /// Tokens that are out.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Whether nobody is remembered any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// When the last one ends.
    #[must_use]
    pub fn last_expiry(&self) -> Option<u64> {
        self.list.iter().map(|lease| lease.expires_ns).max()
    }

    /// When the next one ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        self.list.iter().map(|lease| lease.expires_ns).min()
    }
}

/// What a process asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Who.
    pub process: u64,
    /// Rises with every ask of this process for this key.
    pub sequence: u64,
    /// Tokens it has.
    pub held: u32,
    /// Tokens it would like.
    pub want: u32,
    /// Of these, how many requests wait for right now.
    pub need: u32,
    /// Tokens it has given up, not among `held`.
    pub give_back: u32,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// Of what the process held, it may keep so many.
    pub keep: u32,
    /// And gets these.
    pub granted: u32,
    /// For so long since it sent the ask.
    pub expires_ms: u64,
    /// Until one may be had again, if none could be.
    pub retry_after_ns: u64,
    /// Left for others.
    pub remaining: u64,
}

/// What became of the tokens of leases in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Went out.
    pub granted: u64,
    /// Known to be spent, or taken as spent because the process did not name them any more.
    pub spent: u64,
    /// Came back.
    pub returned: u64,
    /// Their lease ended.
    pub expired: u64,
}

/// How far the arrival time is ahead of now, in units of the quota, after all that has happened by itself until now.
fn settle(tat: Time, leases: &mut Leases, now_ns: u64, quota: &Quota, flow: &mut Flow) -> u128 {
    let out = |outstanding: u64| u128::from(outstanding).saturating_mul(quota.interval());
    let mut ahead = tat.ahead_of(now_ns, quota.limit());
    while let Some(index) = first_expired(leases, now_ns) {
        let lease = leases.list.swap_remove(index);
        // Its tokens may have been spent at the last moment.
        let since = u128::from(now_ns.saturating_sub(lease.expires_ns)) * u128::from(quota.limit());
        ahead = ahead.max(out(leases.outstanding).saturating_sub(since));
        leases.outstanding = leases.outstanding.saturating_sub(u64::from(lease.tokens));
        flow.expired = flow.expired.saturating_add(u64::from(lease.tokens));
    }
    ahead.max(out(leases.outstanding))
}

fn first_expired(leases: &Leases, now_ns: u64) -> Option<usize> {
    let expired = leases.list.iter().enumerate().filter(|(_, lease)| lease.expires_ns <= now_ns);
    expired.min_by_key(|(_, lease)| lease.expires_ns).map(|(index, _)| index)
}

/// Ends leases whose time is over, without any question.
pub fn expire(tat: &mut Time, leases: &mut Leases, now_ns: u64, quota: &Quota) -> Flow {
    let mut flow = Flow::default();
    if leases.next_expiry().is_some_and(|next| next <= now_ns) && !quota.is_nothing() {
        let settled = settle(*tat, leases, now_ns, quota, &mut flow);
        *tat = Time::after(now_ns, settled, quota.limit()).max(*tat);
    }
    flow
}

/// Room for tokens, in units; none when the state is further ahead than the quota allows.
fn room(ahead: u128, quota: &Quota) -> u128 {
    quota.capacity().saturating_sub(ahead)
}

/// How long until `tokens` fit, in nanoseconds, if nothing else happens.
fn wait(ahead: u128, tokens: u64, quota: &Quota) -> u64 {
    let after = ahead.saturating_add(u128::from(tokens).saturating_mul(quota.interval()));
    quota.nanoseconds(after.saturating_sub(quota.capacity()))
}

/// Spends `hits` at once, or says how long to wait; `hits` of 0 only look. What is more than the burst never fits.
pub fn spend(
    tat: Time,
    leases: &mut Leases,
    now_ns: u64,
    quota: &Quota,
    hits: u32,
    flow: &mut Flow,
) -> (Time, Spent) {
    if quota.is_nothing() {
        return (tat, Spent { allowed: false, remaining: 0, retry_after_ns: quota.refill_ns() });
    }
    let settled = settle(tat, leases, now_ns, quota, flow);
    let cost = u128::from(hits).saturating_mul(quota.interval());
    let room = room(settled, quota);
    let allowed = cost <= room && (hits > 0 || room >= quota.interval());
    let (state, left) = match allowed {
        true => (settled.saturating_add(cost), room.saturating_sub(cost)),
        false => (settled, room),
    };
    let retry_after_ns = match allowed {
        true => 0,
        false => wait(settled, u64::from(hits.max(1)), quota).max(1),
    };
    let spent = Spent { allowed, remaining: quota.tokens(left), retry_after_ns };
    (Time::after(now_ns, state, quota.limit()), spent)
}

/// What came of spending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Whether there was room.
    pub allowed: bool,
    /// Tokens left.
    pub remaining: u64,
    /// The least time after which the same would be admitted; 0 when it was. For more than the burst, never.
    pub retry_after_ns: u64,
}

/// Answers an ask.
pub fn ask(
    tat: Time,
    leases: &mut Leases,
    now_ns: u64,
    quota: &Quota,
    ask: &Ask,
    flow: &mut Flow,
) -> (Time, Grant) {
    if quota.is_nothing() {
        // What is out ends by itself; its process drops it with this answer.
        return (tat, Grant { retry_after_ns: quota.refill_ns(), ..Grant::default() });
    }
    let mut settled = settle(tat, leases, now_ns, quota, flow);
    let found = leases.list.iter().position(|lease| lease.process == ask.process);
    let known = found.and_then(|index| leases.list.get(index)).copied();
    let full = known.is_none() && leases.list.len() >= LEASES_PER_KEY;
    if full || known.is_some_and(|lease| ask.sequence <= lease.sequence) {
        let state = Time::after(now_ns, settled, quota.limit());
        let retry_after_ns = if full { quota.lease_ms().saturating_mul(MS) } else { 0 };
        return (state, Grant { retry_after_ns, ..Grant::default() });
    }
    let had = known.map_or(0, |lease| lease.tokens);
    let keep = ask.held.min(had);
    let back = ask.give_back.min(had.saturating_sub(keep));
    settled = settled.saturating_sub(u128::from(back).saturating_mul(quota.interval()));
    leases.outstanding = leases.outstanding.saturating_sub(u64::from(had.saturating_sub(keep)));
    flow.returned = flow.returned.saturating_add(u64::from(back));
    flow.spent = flow.spent.saturating_add(u64::from(had.saturating_sub(keep).saturating_sub(back)));

    let free = quota.tokens(room(settled, quota));
    let others = leases.list.iter().any(|lease| lease.process != ask.process && lease.tokens > 0);
    let granted = fair(free, keep, others, quota, ask);
    settled = settled.saturating_add(u128::from(granted).saturating_mul(quota.interval()));
    leases.outstanding = leases.outstanding.saturating_add(u64::from(granted));
    flow.granted = flow.granted.saturating_add(u64::from(granted));
    let expires_ms = quota.lease_ms();
    let lease = Lease {
        process: ask.process,
        tokens: keep.saturating_add(granted),
        expires_ns: now_ns.saturating_add(remembered_ms(expires_ms).saturating_mul(MS)),
        sequence: ask.sequence,
    };
    match found.and_then(|index| leases.list.get_mut(index)) {
        Some(place) => *place = lease,
        None => leases.list.push(lease),
    }
    let wanted = ask.want.max(ask.need) > 0;
    let retry_after_ns = match free == 0 && wanted {
        true => wait(settled, 1, quota).max(1),
        false => 0,
    };
    let remaining = free.saturating_sub(u64::from(granted));
    (
        Time::after(now_ns, settled, quota.limit()),
        Grant { keep, granted, expires_ms, retry_after_ns, remaining },
    )
}

/// How much of what is free a process gets: what requests wait for, if it is there; beyond that a tenth of the burst, less
/// what it keeps, and while others hold tokens a quarter of what is free, so that little lies idle near the limit.
fn fair(free: u64, keep: u32, others: bool, quota: &Quota, ask: &Ask) -> u32 {
    let tenth = (quota.burst() / 10).max(1).saturating_sub(keep);
    let quarter = if others { (free / 4).max(1) } else { free };
    let ahead = u64::from(ask.want.min(tenth)).min(quarter);
    let grant = ahead.max(u64::from(ask.need)).min(free);
    u32::try_from(grant).unwrap_or(u32::MAX)
}
