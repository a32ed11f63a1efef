//! The generic cell rate algorithm (ITU-T I.371, as a virtual scheduling clock), in exact integers.
//!
//! The state of a limit is one point in time, its theoretical arrival time: when all that was admitted will have
//! drained at the limit's rate. A request is admitted if that time, one interval later, is at most the quota's
//! capacity ahead of now. So a limit L per window W with burst B admits at most B + ⌈L·t/W⌉ requests in any span t, and a
//! state that lies in the past equals a fresh one.
//!
//! An interval W/L is rarely a whole number of nanoseconds. A [`Time`] therefore counts nanoseconds and parts of a
//! nanosecond, each 1/L of it: additions are exact, nothing drifts, and no step needs a division or 128 bits.
//! A point in time that cannot be counted any more (after 584 years) refuses.
//!
//! A request may cost several units, and may *reserve* its units: they take up room, but are spent only if its response
//! shows that it counts. Given back, a reservation leaves the state as if it had never been: nothing is gained, because
//! the state drains meanwhile as it would have without.

use std::time::Duration;

/// Requests per window, and the burst: the most that a quota may say.
pub const MOST_REQUESTS: u32 = 1_000_000_000;
/// Windows reach from a second to this.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that an exhausted quota may take to be whole again (burst · window / limit).
pub const LONGEST_REFILL: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// A point or a length of time: nanoseconds and parts of one, each 1/limit of it and fewer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole nanoseconds.
    pub ns: u64,
    /// Parts of a nanosecond: as many as the quota's limit make one.
    pub parts: u32,
}

impl Time {
    /// A whole number of nanoseconds.
    pub const fn whole(ns: u64) -> Self {
        Self { ns, parts: 0 }
    }

    /// Whole nanoseconds, rounded up.
    pub const fn ceil(self) -> u64 {
        if self.parts > 0 { self.ns.saturating_add(1) } else { self.ns }
    }

    fn of(ratio_ns: u128, limit: u32) -> Option<Self> {
        let limit = u128::from(limit);
        let ns = u64::try_from(ratio_ns.checked_div(limit)?).ok()?;
        let parts = u32::try_from(ratio_ns.checked_rem(limit)?).ok()?;
        Some(Self { ns, parts })
    }

    /// What another limit wrote may count more parts than make a nanosecond here: it is rounded up.
    fn read(self, limit: u32) -> Self {
        if self.parts < limit { self } else { Self::whole(self.ns.saturating_add(1)) }
    }

    fn plus(self, other: Self, limit: u32) -> Option<Self> {
        let parts = u64::from(self.parts).saturating_add(u64::from(other.parts));
        let limit = u64::from(limit);
        let (carry, parts) = if parts >= limit { (1, parts.saturating_sub(limit)) } else { (0, parts) };
        let ns = self.ns.checked_add(other.ns)?.checked_add(carry)?;
        Some(Self { ns, parts: u32::try_from(parts).ok()? })
    }

    /// The difference; zero when `other` is later.
    fn minus(self, other: Self, limit: u32) -> Self {
        if self <= other {
            return Self::default();
        }
        let borrow = self.parts < other.parts;
        let lent = if borrow { self.parts.saturating_add(limit) } else { self.parts };
        let ns = self.ns.saturating_sub(other.ns).saturating_sub(u64::from(borrow));
        Self { ns, parts: lent.saturating_sub(other.parts) }
    }
}

/// A limit, its window and its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    limit: u32,
    window: Duration,
    window_ns: u64,
    burst: u32,
    /// Window / limit: what one request takes.
    interval: Time,
    /// Burst · interval: how far ahead of now the state may come.
    capacity: Time,
}

impl Quota {
    /// `limit` and `burst` of 1 to [`MOST_REQUESTS`], a window of 1 s to [`LONGEST_WINDOW`], and at most
    /// [`LONGEST_REFILL`] until an exhausted quota is whole again; else `None`.
    pub fn new(limit: u32, window: Duration, burst: u32) -> Option<Self> {
        let in_bounds = (1..=MOST_REQUESTS).contains(&limit)
            && (1..=MOST_REQUESTS).contains(&burst)
            && (Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window);
        if !in_bounds {
            return None;
        }
        let window_ns = u64::try_from(window.as_nanos()).ok()?;
        let interval = Time::of(u128::from(window_ns), limit)?;
        let capacity = Time::of(u128::from(window_ns).checked_mul(u128::from(burst))?, limit)?;
        (capacity <= Time::whole(u64::try_from(LONGEST_REFILL.as_nanos()).ok()?)).then_some(Self {
            limit,
            window,
            window_ns,
            burst,
            interval,
            capacity,
        })
    }

    /// What so many units take; `None` when it cannot be counted.
    fn price(&self, units: u32) -> Option<Time> {
        if units == 1 {
            return Some(self.interval);
        }
        let units = u64::from(units);
        let limit = u64::from(self.limit.max(1));
        let parts = u64::from(self.interval.parts).checked_mul(units)?;
        let carry = parts.checked_div(limit)?;
        let ns = self.interval.ns.checked_mul(units)?.checked_add(carry)?;
        Some(Time { ns, parts: u32::try_from(parts.checked_rem(limit)?).ok()? })
    }

    /// So many percent of it, divided among so many; `None` when that is less than one.
    pub fn part(&self, percent: u32, among: u32) -> Option<Self> {
        let part = |whole: u32| {
            let part = u64::from(whole).checked_mul(u64::from(percent))?.checked_div(100)?;
            u32::try_from(part.checked_div(u64::from(among))?).ok()
        };
        Self::new(part(self.limit)?, self.window, part(self.burst)?)
    }

    /// Whether it always refuses no later than the other, so that the other has no effect.
    pub fn covers(&self, other: &Self) -> bool {
        // Both are straight lines of admissions over time: it lies below if it starts lower and rises no faster.
        let rate = |one: &Self, by: &Self| u128::from(one.limit) * u128::from(by.window_ns);
        self.burst <= other.burst && rate(self, other) <= rate(other, self)
    }

    /// Requests per window.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Requests that may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// How long an exhausted quota takes to be whole again, rounded up.
    pub fn refill_ns(&self) -> u64 {
        self.capacity.ceil()
    }

    /// Whether less than a fifth of the quota is left.
    pub fn is_near(&self, debt: Time) -> bool {
        debt.ns > self.capacity.ns / 5 * 4
    }

    /// How many requests are left at once, and after how many nanoseconds (rounded up) it will be one more.
    pub fn left(&self, debt: Time) -> Left {
        let room = self.capacity.minus(debt, self.limit);
        let limit = u128::from(self.limit);
        let room = u128::from(room.ns).saturating_mul(limit).saturating_add(u128::from(room.parts));
        // Division of 64 bits where they suffice: they mostly do, and it is many times faster in WebAssembly.
        let (requests, rest) = match u64::try_from(room) {
            Ok(room) => (room.checked_div(self.window_ns), room.checked_rem(self.window_ns)),
            Err(_) => {
                let window = u128::from(self.window_ns);
                let narrow = |wide: Option<u128>| wide.and_then(|wide| u64::try_from(wide).ok());
                (narrow(room.checked_div(window)), narrow(room.checked_rem(window)))
            }
        };
        let missing = self.window_ns.saturating_sub(rest.unwrap_or(0));
        Left { requests: requests.unwrap_or(0), more_in_ns: missing.div_ceil(u64::from(self.limit.max(1))) }
    }
}

/// Of the room that is left, a worker debits this part ahead.
const AHEAD_PART: u64 = 64;
/// Fewer units are not debited ahead: where every one counts, each is asked for.
const AHEAD_LEAST: u64 = 4;
/// Of requests that cost more than one unit, so many at least: the end of a stretch may be too short for one, and is lost.
const AHEAD_COSTLY: u64 = 64;
/// What comes less often is asked for each time, in nanoseconds.
const AHEAD_NS: u64 = 1_000_000_000;

impl Quota {
    /// How many units a worker may debit ahead of its requests, after one of that cost.
    pub fn ahead(&self, debt: Time, cost: u32) -> u32 {
        let room = self.capacity.minus(debt, self.limit).ns / AHEAD_PART;
        let units = room.checked_div(self.interval.ceil()).unwrap_or(0);
        let least = if cost > 1 { AHEAD_COSTLY.saturating_mul(u64::from(cost)) } else { AHEAD_LEAST };
        if units < least { 0 } else { u32::try_from(units).unwrap_or(u32::MAX) }
    }

    /// What comes again within so many nanoseconds is busy: units that are debited ahead of a fresh limit last so long, and of one
    /// with a long window none are for what is rare.
    pub fn ahead_ns(&self) -> u64 {
        (self.capacity.ns / AHEAD_PART).min(AHEAD_NS)
    }
}

/// A stretch of a limit's time that is debited and not spent: the state has been brought forward to its end.
///
/// Whoever spends a unit of it takes an interval that begins at its start, or now if that is later: so what was not used in time
/// drains like everything else. Intervals that are spent lie one behind the other, none begins before its request came, and
/// none ends behind the state. Hence of all requests since any point in time the state tells at least as much as if each had been
/// debited when it came, and the promise of the limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stretch {
    /// Where what is left begins.
    pub from: Time,
    /// Where it ends.
    pub until: Time,
}

impl Stretch {
    /// What is left when so many units are spent now; `None` when it does not hold so many any more.
    pub fn spend(self, now_ns: u64, quota: &Quota, units: u32) -> Option<Self> {
        let from = self.from.max(Time::whole(now_ns)).plus(quota.price(units)?, quota.limit)?;
        let left = Self { from, ..self };
        // Another burst may hold for this request than for the one that debited.
        (from <= self.until && left.debt(now_ns, quota) <= quota.capacity).then_some(left)
    }

    /// How far what is spent is ahead of now.
    pub fn debt(self, now_ns: u64, quota: &Quota) -> Time {
        self.from.minus(Time::whole(now_ns), quota.limit)
    }
}

/// What is left of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Requests that would be admitted at once.
    pub requests: u64,
    /// Nanoseconds until it is one more.
    pub more_in_ns: u64,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is room.
    Admit {
        /// The state to keep.
        state: Time,
        /// How far it is ahead of now.
        debt: Time,
    },
    /// There is none; the state stays as it is.
    Refuse {
        /// The least number of nanoseconds after which the same request would be admitted.
        wait_ns: u64,
    },
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Units that it costs; 0 asks for nothing, and is admitted.
    pub cost: u32,
    /// Units that others hold and may still spend: there must be room for these besides.
    pub reserved: u32,
}

impl Demand {
    /// One unit, and nobody holds any.
    pub const ONE: Self = Self { cost: 1, reserved: 0 };
}

/// Decides on one request. A `now` that goes back only lengthens the wait. While units are reserved the wait is the least
/// that it can be: until then they may be spent, or given back.
pub fn step(state: Time, now_ns: u64, quota: &Quota, demand: Demand) -> Step {
    let now = Time::whole(now_ns);
    let from = state.read(quota.limit).max(now);
    let spent = |units: u32| from.plus(quota.price(units)?, quota.limit);
    let all = demand.cost.checked_add(demand.reserved).and_then(spent);
    let next = if demand.reserved == 0 { all } else { spent(demand.cost) };
    let Some((state, end)) = next.zip(all) else { return Step::Refuse { wait_ns: u64::MAX } };
    let debt = end.minus(now, quota.limit);
    if debt <= quota.capacity || demand.cost == 0 {
        Step::Admit { state, debt }
    } else {
        Step::Refuse { wait_ns: debt.minus(quota.capacity, quota.limit).ceil() }
    }
}

/// The state after units that are spent whether there was room or not: what they exceed is waited for by those who come
/// later.
pub fn charge(state: Time, now_ns: u64, quota: &Quota, units: u32) -> Time {
    let from = state.read(quota.limit).max(Time::whole(now_ns));
    let end = quota.price(units).and_then(|price| from.plus(price, quota.limit));
    end.unwrap_or(Time::whole(u64::MAX))
}
