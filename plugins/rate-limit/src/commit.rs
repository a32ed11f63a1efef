//! All or nothing over several limits, exact across workers.
//!
//! The slots of all limits that apply are loaded, the request is judged by each, and only if none refuses are the slots
//! stored, each by compare-and-swap. A refused request stores nothing. Without conflicts that is one load and one store
//! per distinct slot.
//!
//! - A conflict loads that slot again and judges again; what is stored already stays.
//! - If another worker has used up the quota meanwhile, what is stored already is taken back, provided that nobody
//!   has built upon it; else it stays counted. So a race can make a limit admit less by one request, never more.
//! - After [`CONFLICTS`] conflicts, or when the host refuses, the caller's `on_error` decides, and what is stored
//!   already is taken back likewise.
//!
//! Slots are stored in the order of the claims: coarse limits, which see most conflicts, come first, so that a conflict
//! mostly finds nothing to take back.

use portcullis_policy::{SharedState, StateError, StoreResult};

use crate::{
    gcra::{Quota, Step},
    set::{Set, Tag},
};

/// Conflicts that one decision bears. More: `on_error` decides.
pub const CONFLICTS: u32 = 32;

/// One limit that applies to the request.
#[derive(Debug)]
pub struct Claim<'a> {
    /// The rule's number.
    pub rule: usize,
    /// Where its state is.
    pub slot: u32,
    /// Which entry there.
    pub tag: Tag,
    /// Its quota.
    pub quota: &'a Quota,
    /// Whether the request must be refused when this limit refuses.
    pub enforce: bool,
    /// The limit's own answer; known after [`decide`].
    pub step: Step,
}

/// Why nothing was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The host refused.
    State(StateError),
    /// More conflicts than [`CONFLICTS`].
    Contention,
}

/// What it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Stores that another worker forestalled.
    pub conflicts: u32,
    /// Entries that gave way to others.
    pub folded: u32,
    /// Slots whose content was not ours.
    pub discarded: u32,
    /// Slots where a request that was not admitted stays counted.
    pub overcounted: u32,
}

struct Held {
    slot: u32,
    version: u32,
    before: Vec<u8>,
    set: Set,
    /// The set differs from what was loaded.
    changed: bool,
    stored: bool,
}

/// Judges the request by all claims; `Ok(true)` when it is admitted, and counted by every limit that has room for it.
pub fn decide(
    shared: &mut dyn SharedState,
    now_ns: u64,
    claims: &mut [Claim<'_>],
    cost: &mut Cost,
) -> Result<bool, Failure> {
    let mut held: Vec<Held> = Vec::with_capacity(claims.len().min(4));
    for claim in claims.iter() {
        if !held.iter().any(|known| known.slot == claim.slot) {
            held.push(load(shared, claim.slot, cost).map_err(Failure::State)?);
        }
    }
    let result = agree(shared, now_ns, claims, &mut held, cost);
    if result != Ok(true) {
        take_back(shared, &held, cost);
    }
    result
}

fn load(shared: &mut dyn SharedState, slot: u32, cost: &mut Cost) -> Result<Held, StateError> {
    let value = shared.load(slot)?;
    let set = Set::decode(&value.bytes).unwrap_or_else(|| {
        cost.discarded = cost.discarded.saturating_add(1);
        Set::default()
    });
    let (version, before) = (value.version, value.bytes);
    Ok(Held { slot, version, before, set, changed: false, stored: false })
}

fn agree(
    shared: &mut dyn SharedState,
    now_ns: u64,
    claims: &mut [Claim<'_>],
    held: &mut [Held],
    cost: &mut Cost,
) -> Result<bool, Failure> {
    loop {
        if !judge(now_ns, claims, held) {
            return Ok(false);
        }
        let Some(lost) = store(shared, held, cost).map_err(Failure::State)? else { return Ok(true) };
        cost.conflicts = cost.conflicts.saturating_add(1);
        if cost.conflicts > CONFLICTS {
            return Err(Failure::Contention);
        }
        *lost = load(shared, lost.slot, cost).map_err(Failure::State)?;
        // The others have judged this request already: they begin again from what was loaded.
        for slot in held.iter_mut().filter(|slot| slot.changed && !slot.stored) {
            slot.set = Set::decode(&slot.before).unwrap_or_default();
            slot.changed = false;
        }
    }
}

/// Asks every limit whose slot is not stored yet; false when the request must be refused.
fn judge(now_ns: u64, claims: &mut [Claim<'_>], held: &mut [Held]) -> bool {
    let mut admitted = true;
    for claim in claims {
        let slot = held.iter_mut().find(|slot| slot.slot == claim.slot && !slot.stored);
        let Some(slot) = slot else { continue };
        claim.step = slot.set.step(claim.tag, now_ns, claim.quota);
        match claim.step {
            Step::Admit { .. } => slot.changed = true,
            Step::Refuse { .. } => admitted &= !claim.enforce,
        }
    }
    admitted
}

/// Stores what has changed, up to the first slot that somebody else stored meanwhile.
fn store<'h>(
    shared: &mut dyn SharedState,
    held: &'h mut [Held],
    cost: &mut Cost,
) -> Result<Option<&'h mut Held>, StateError> {
    for slot in held.iter_mut().filter(|slot| slot.changed && !slot.stored) {
        match shared.store(slot.slot, slot.set.encode().as_bytes(), slot.version)? {
            StoreResult::Stored => {
                slot.stored = true;
                cost.folded = cost.folded.saturating_add(slot.set.folded());
            }
            StoreResult::Conflict => return Ok(Some(slot)),
        }
    }
    Ok(None)
}

/// Puts back what stood in the slots that are stored, unless somebody has stored after us.
fn take_back(shared: &mut dyn SharedState, held: &[Held], cost: &mut Cost) {
    for slot in held.iter().filter(|slot| slot.stored) {
        let ours = |bytes: &[u8]| bytes == slot.set.encode().as_bytes();
        let undone = match shared.load(slot.slot) {
            Ok(value) if ours(&value.bytes) => shared.store(slot.slot, &slot.before, value.version),
            Ok(_) => Ok(StoreResult::Conflict),
            Err(error) => Err(error),
        };
        if undone != Ok(StoreResult::Stored) {
            cost.overcounted = cost.overcounted.saturating_add(1);
        }
    }
}
