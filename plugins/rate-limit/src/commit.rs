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
    ahead::Reserve,
    gcra::Quota,
    set::{Rate, Set, Step, Tag},
};

/// Conflicts that one decision bears. More: `on_error` decides.
pub const CONFLICTS: u32 = 32;

/// One limit that applies to the request.
#[derive(Debug)]
pub struct Claim {
    /// The rule's number.
    pub rule: usize,
    /// Where its state is.
    pub slot: u32,
    /// Which entry there.
    pub tag: Tag,
    /// What it limits, and what the request asks of it.
    pub asks: Asks,
    /// Whether the request must be refused when this limit refuses.
    pub enforce: bool,
    /// What of it is debited ahead: one that is served of that has its answer already, and needs no slot.
    pub reserve: Reserve,
    /// The limit's own answer; known after [`decide`].
    pub step: Step,
}

impl Claim {
    fn needs_slot(&self) -> bool {
        !matches!(self.asks, Asks::Nothing(_)) && !matches!(self.reserve, Reserve::Served(_))
    }
}

/// What a limit limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Units over time.
    Rate {
        /// The limit.
        quota: Quota,
        /// See [`Rate`].
        cost: u32,
        /// See [`Rate`].
        reserve: bool,
        /// See [`Rate`].
        leased: bool,
        /// See [`Rate`].
        share: Option<Quota>,
    },
    /// Requests at the same time.
    Concurrent(u32),
    /// Nothing is allowed, and it is told to come back after so many nanoseconds.
    Nothing(u64),
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is admitted, and counted by every limit that has room for it.
    Admitted,
    /// A limit refuses.
    Refused,
    /// No limit of this process refuses, but there is a lease without a token: what the companion says is needed.
    Dry,
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

struct Loaded {
    slot: u32,
    version: u32,
    before: Vec<u8>,
    set: Set,
    /// The set differs from what was loaded.
    changed: bool,
    stored: bool,
}

/// Judges the request by all claims.
pub fn decide(
    shared: &mut dyn SharedState,
    now_ns: u64,
    claims: &mut [Claim],
    cost: &mut Cost,
) -> Result<Outcome, Failure> {
    let mut slots: Vec<Loaded> = Vec::with_capacity(claims.len().min(4));
    for claim in claims.iter().filter(|claim| claim.needs_slot()) {
        if !slots.iter().any(|known| known.slot == claim.slot) {
            slots.push(load(shared, claim.slot, cost).map_err(Failure::State)?);
        }
    }
    let result = agree(shared, now_ns, claims, &mut slots, cost);
    if result != Ok(Outcome::Admitted) {
        take_back(shared, &slots, cost);
    }
    result
}

/// Changes one slot: `change` is asked again after each conflict; `None` leaves the slot as it is.
pub fn update<T>(
    shared: &mut dyn SharedState,
    slot: u32,
    cost: &mut Cost,
    mut change: impl FnMut(&mut Set) -> Option<T>,
) -> Result<Option<T>, Failure> {
    for _ in 0..=CONFLICTS {
        let mut loaded = load(shared, slot, cost).map_err(Failure::State)?;
        let Some(answer) = change(&mut loaded.set) else { return Ok(None) };
        let stored = shared.store(slot, loaded.set.encode().as_bytes(), loaded.version);
        match stored.map_err(Failure::State)? {
            StoreResult::Stored => {
                cost.folded = cost.folded.saturating_add(loaded.set.folded());
                return Ok(Some(answer));
            }
            StoreResult::Conflict => cost.conflicts = cost.conflicts.saturating_add(1),
        }
    }
    Err(Failure::Contention)
}

fn load(shared: &mut dyn SharedState, slot: u32, cost: &mut Cost) -> Result<Loaded, StateError> {
    let value = shared.load(slot)?;
    let set = Set::decode(&value.bytes).unwrap_or_else(|| {
        cost.discarded = cost.discarded.saturating_add(1);
        Set::default()
    });
    let (version, before) = (value.version, value.bytes);
    Ok(Loaded { slot, version, before, set, changed: false, stored: false })
}

fn agree(
    shared: &mut dyn SharedState,
    now_ns: u64,
    claims: &mut [Claim],
    slots: &mut [Loaded],
    cost: &mut Cost,
) -> Result<Outcome, Failure> {
    loop {
        let outcome = judge(now_ns, claims, slots);
        if outcome != Outcome::Admitted {
            return Ok(outcome);
        }
        let Some(lost) = store(shared, slots, cost).map_err(Failure::State)? else { return Ok(outcome) };
        cost.conflicts = cost.conflicts.saturating_add(1);
        if cost.conflicts > CONFLICTS {
            return Err(Failure::Contention);
        }
        *lost = load(shared, lost.slot, cost).map_err(Failure::State)?;
        // The others have judged this request already: they begin again from what was loaded.
        for slot in slots.iter_mut().filter(|slot| slot.changed && !slot.stored) {
            slot.set = Set::decode(&slot.before).unwrap_or_default();
            slot.changed = false;
        }
    }
}

/// Asks every limit whose slot is not stored yet.
fn judge(now_ns: u64, claims: &mut [Claim], slots: &mut [Loaded]) -> Outcome {
    let (mut refused, mut dry) = (false, false);
    for claim in claims.iter_mut().filter(|claim| !matches!(claim.reserve, Reserve::Served(_))) {
        let slot = slots.iter_mut().find(|slot| slot.slot == claim.slot && !slot.stored);
        claim.step = match (&claim.asks, slot) {
            (Asks::Nothing(wait_ns), _) => Step::Refuse { wait_ns: *wait_ns },
            (_, None) => continue,
            (Asks::Rate { quota, cost, reserve, leased, share }, Some(slot)) => {
                // What was debited before a conflict was never stored.
                if matches!(claim.reserve, Reserve::Debited(_)) {
                    claim.reserve = Reserve::Wanted;
                }
                let rate =
                    Rate { quota, cost: *cost, reserve: *reserve, leased: *leased, share: share.as_ref() };
                let step = slot.set.step(claim.tag, now_ns, &rate);
                if let Step::Admit { debt, .. } = step {
                    slot.changed = true;
                    if claim.reserve != Reserve::None {
                        let debited = slot.set.debit_ahead(claim.tag, now_ns, quota, *cost, debt);
                        claim.reserve = debited.map_or(Reserve::Wanted, Reserve::Debited);
                    }
                }
                step
            }
            (Asks::Concurrent(most), Some(slot)) => {
                let step = slot.set.hold(claim.tag, now_ns, *most);
                slot.changed |= matches!(step, Step::Hold { .. });
                step
            }
        };
        refused |= claim.enforce && matches!(claim.step, Step::Refuse { .. });
        dry |= claim.enforce && claim.step == Step::Dry;
    }
    if refused {
        Outcome::Refused
    } else if dry {
        Outcome::Dry
    } else {
        Outcome::Admitted
    }
}

/// Stores what has changed, up to the first slot that somebody else stored meanwhile.
fn store<'h>(
    shared: &mut dyn SharedState,
    slots: &'h mut [Loaded],
    cost: &mut Cost,
) -> Result<Option<&'h mut Loaded>, StateError> {
    for slot in slots.iter_mut().filter(|slot| slot.changed && !slot.stored) {
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
fn take_back(shared: &mut dyn SharedState, slots: &[Loaded], cost: &mut Cost) {
    for slot in slots.iter().filter(|slot| slot.stored) {
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
