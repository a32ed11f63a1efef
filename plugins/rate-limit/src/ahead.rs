//! What a worker debits of a busy limit ahead of its requests, and spends without asking the shared slot.
//!
//! A limit that comes again soon, and of which much is left, is debited some units more: a 64th of what is left, and none
//! if those are fewer than four. The worker spends them for the next requests that meet the limit; so a busy limit costs a load
//! and a store once in a while instead of each time, and workers seldom forestall each other.
//!
//! Nothing is gained by it: see [`Stretch`]. What it costs is that units which one worker has debited and not spent are missing to the
//! others until the limit has drained to where they were debited: to each worker at most a 64th of what was left.
//!
//! Limits: whatever [`portcullis_policy::WorkerState::ahead`] keeps, one key a place; a key whose place is another's goes without.
//! Units that are held until the response, or leased by the companion, are not debited ahead.

use portcullis_policy::{Ahead, WorkerState};

use crate::{
    commit::{Asks, Claim},
    gcra::{Quota, Stretch, Time},
    set::Step,
};

/// How a claim stands to what is debited ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reserve {
    /// It has nothing to do with it.
    #[default]
    None,
    /// It is worth while to debit units ahead.
    Wanted,
    /// They were debited: these are to be kept once that is stored.
    Debited(Stretch),
    /// It needs no slot; this is left once it is admitted.
    Served(Stretch),
}

/// The quota and the units of a claim that may be served so.
fn eligible(claim: &Claim) -> Option<(Quota, u32)> {
    match claim.asks {
        Asks::Rate { quota, cost, reserve: false, leased: false, .. } if cost > 0 => Some((quota, cost)),
        _ => None,
    }
}

fn stretch(kept: &Ahead) -> Stretch {
    let time = |(ns, parts)| Time { ns, parts };
    Stretch { from: time(kept.from), until: time(kept.until) }
}

/// Finds the claims that need no slot, and those that are worth debiting ahead. Spends nothing.
pub fn find(claims: &mut [Claim], worker: &mut dyn WorkerState, now_ns: u64) {
    for claim in claims {
        let Some((quota, cost)) = eligible(claim) else { continue };
        let Some(kept) = worker.ahead(claim.slot, claim.tag.number()) else { return };
        let ours = kept.slot == claim.slot && kept.tag == claim.tag.number() && kept.limit == quota.limit();
        if !ours {
            // Nothing is left of another's, and it does not come often.
            if kept.until.0 <= now_ns && kept.seen_ns.saturating_add(quota.ahead_ns()) <= now_ns {
                let (slot, tag) = (claim.slot, claim.tag.number());
                *kept = Ahead { slot, tag, limit: quota.limit(), seen_ns: now_ns, ..Ahead::default() };
            }
            continue;
        }
        let busy = now_ns.saturating_sub(kept.seen_ns) <= quota.ahead_ns();
        kept.seen_ns = now_ns;
        if let Some(left) = stretch(kept).spend(now_ns, &quota, cost) {
            claim.reserve = Reserve::Served(left);
            let debt = left.debt(now_ns, &quota);
            claim.step = Step::Admit { debt, reserved: None, renew: false, lease: 0 };
        } else if busy {
            claim.reserve = Reserve::Wanted;
        }
    }
}

/// The request is admitted, and what was debited for it is stored.
pub fn keep(claims: &[Claim], worker: &mut dyn WorkerState) {
    for claim in claims {
        let (Reserve::Debited(left) | Reserve::Served(left)) = claim.reserve else { continue };
        let Some(kept) = worker.ahead(claim.slot, claim.tag.number()) else { return };
        if kept.slot == claim.slot && kept.tag == claim.tag.number() {
            (kept.from, kept.until) = ((left.from.ns, left.from.parts), (left.until.ns, left.until.parts));
        }
    }
}
