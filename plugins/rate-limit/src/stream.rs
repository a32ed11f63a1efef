//! What a stream still has to settle when its response comes, and when it is over.

use std::{rc::Rc, time::Duration};

use portcullis_policy::{Context, Effect, Effects, Headers, Held};

use crate::{
    RateLimit,
    commit::{Asks, Claim, Cost, update},
    gcra::Quota,
    held,
    metrics::{self, OVERCOUNTED},
    rule::Price,
    set::{Step, Tag},
};

/// What the policy remembers of one stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// Fields for the response.
    pub(crate) fields: Vec<(Rc<str>, Rc<[u8]>)>,
    /// What is held, or still has to be paid.
    open: Vec<Open>,
    /// Where its bans are.
    pub(crate) bans: Vec<Place>,
    /// Numbers of the rules that had no room, and whether they are enforced.
    pub(crate) limited: Vec<(usize, bool)>,
    /// When it began to wait for tokens.
    pub(crate) waits_since: Option<Duration>,
    /// It was refused because of a ban.
    pub(crate) banned: bool,
}

/// Where a ban's state is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub ban: usize,
    pub slot: u32,
    pub tag: u32,
}

/// Something that the response, or the stream's end, settles.
#[derive(Debug, Clone, Copy)]
struct Open {
    rule: usize,
    slot: u32,
    tag: Tag,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// A place of a concurrency limit.
    Place { epoch: u32 },
    /// Units of a quota that are held since that epoch, or spent already; and the lease that they are of.
    Units { quota: Quota, units: u32, since: Option<u32>, leased: bool, lease: u64 },
}

impl Stream {
    /// Notes what an admitted request holds.
    pub(crate) fn open(&mut self, policy: &RateLimit, claims: &[Claim], context: &mut Context<'_>) {
        for claim in claims {
            let awaits = policy.rules.get(claim.rule).is_some_and(|rule| rule.awaits_response());
            let (tag, what) = match (claim.step, &claim.asks) {
                (Step::Hold { tag, epoch, .. }, _) => (tag, What::Place { epoch }),
                (Step::Admit { reserved, lease, .. }, Asks::Rate { quota, cost, leased, .. }) if awaits => {
                    let (quota, leased) = (*quota, *leased);
                    (claim.tag, What::Units { quota, units: *cost, since: reserved, leased, lease })
                }
                _ => continue,
            };
            let open = Open { rule: claim.rule, slot: claim.slot, tag, what };
            if let (Some(held), Some(worker)) = (open.held(), context.shared.worker()) {
                worker.hold(held);
            }
            self.open.push(open);
        }
    }

    /// The response's status is known: units are spent or given back.
    pub(crate) fn answered(
        &mut self,
        policy: &RateLimit,
        context: &mut Context<'_>,
        status: Option<u16>,
        headers: Option<&Headers<'_>>,
        effects: &mut Effects,
    ) {
        let (units, places): (Vec<Open>, Vec<Open>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|open| matches!(open.what, What::Units { .. }));
        self.open = places;
        for open in units {
            open.settle(policy, context, status, headers, effects);
        }
    }

    /// The stream is over: places are free.
    pub(crate) fn over(&mut self, context: &mut Context<'_>, effects: &mut Effects) {
        for open in std::mem::take(&mut self.open) {
            if let What::Place { epoch } = open.what {
                let epoch = open.let_go(context).unwrap_or(epoch);
                let mut cost = Cost::default();
                // One that has fallen out is free already.
                let freed = update(context.shared, open.slot, &mut cost, |set| {
                    set.release(open.tag, epoch, 1).then_some(())
                });
                metrics::count(cost, effects);
                if freed.is_err() {
                    effects.push(Effect::Count(&OVERCOUNTED, 1));
                }
            }
        }
    }
}

impl Open {
    fn held(&self) -> Option<Held> {
        let (count, epoch) = match self.what {
            What::Place { epoch } => (1, epoch),
            What::Units { units, since, .. } => (u16::try_from(units).ok()?, since?),
        };
        (count > 0).then_some(Held { slot: self.slot, tag: self.tag.number(), count, epoch })
    }

    /// The worker need not renew it any longer; the epoch to which it has.
    fn let_go(&self, context: &mut Context<'_>) -> Option<u32> {
        context.shared.worker()?.release(self.held()?)
    }

    fn settle(
        &self,
        policy: &RateLimit,
        context: &mut Context<'_>,
        status: Option<u16>,
        headers: Option<&Headers<'_>>,
        effects: &mut Effects,
    ) {
        let What::Units { quota, units, since, leased, lease } = self.what else { return };
        let Some(rule) = policy.rules.get(self.rule) else { return };
        let counts = rule.count.takes(status);
        let spent = match (&rule.cost, headers) {
            _ if !counts => 0,
            (Price::Response(told), Some(headers)) => told.read(headers),
            _ => units,
        };
        let epoch = self.let_go(context).or(since);
        let now_ns = nanoseconds(context.moment.now);
        let mut cost = Cost::default();
        let settled = update(context.shared, self.slot, &mut cost, |set| {
            let ours = match (epoch, u16::try_from(units)) {
                (Some(epoch), Ok(count)) => set.settle(self.tag, now_ns, &quota, epoch, count, spent),
                _ => false,
            };
            // What was spent at once stays spent; what the response costs beyond comes on top. A reservation that has
            // fallen out was spent then, and may have drained since: that it counts is known only now.
            let beyond = if epoch.is_some() { spent } else { spent.saturating_sub(units) };
            if !ours && beyond > 0 {
                set.charge(self.tag, now_ns, &quota, beyond);
            }
            if ours && leased && !counts {
                set.refund(self.tag, now_ns, units, lease);
            }
            (ours || beyond > 0).then_some(())
        });
        metrics::count(cost, effects);
        if settled.is_err() || (epoch.is_none() && spent < units) {
            effects.push(Effect::Count(&OVERCOUNTED, 1));
        }
    }
}

/// The time as slots have it.
pub(crate) fn nanoseconds(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Renews what a worker holds in a slot: moves it to the current epoch. `None` when it cannot be renewed any more.
pub(crate) fn renew(shared: &mut dyn portcullis_policy::SharedState, held: Held, now_ns: u64) -> Option<u32> {
    let mut cost = Cost::default();
    let renewed = update(shared, held.slot, &mut cost, |set| {
        let epoch = held::epoch(now_ns.max(set.latest_ns()));
        set.renew(Tag::of_number(held.tag), held.epoch, held.count, now_ns).then_some(epoch)
    });
    match renewed {
        Ok(epoch) => epoch,
        // The next tick tries again.
        Err(_) => Some(held.epoch),
    }
}
