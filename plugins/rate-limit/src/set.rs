//! The content of one shared slot: a small set of limits in use, of a fixed size.
//!
//! An entry is a tag of its key's hash and its state. One whose time has passed equals a fresh one and is left out. When
//! all [`WAYS`] places hold live entries and one more comes, the entry whose absence does least harm is *folded*: its
//! state is kept as a floor from which every key without an entry of its own starts. So no eviction ever gives burst back;
//! what it costs is that newcomers to a full slot share one quota until it has drained. Floors are kept by how long
//! a quota takes to refill, so that a flood of keys with a daily limit does not lock out those with a limit a minute.
//!
//! Besides there are *holdings* (what streams hold while they last, see [`crate::held`]) and *leases* (see
//! [`crate::lease`]). A holding never gives way: when [`HOLDINGS`] of them are live, further keys share one place if it is
//! a concurrency limit, and are counted at once if it is a reservation. A lease gives way first, the one with fewest
//! tokens before the others: they are lost until time refills them.
//!
//! Two keys in one slot whose tags (30 bits) are the same share an entry: they are admitted less, never more.
//!
//! Time never goes back within a slot: what is decided here is decided at the latest time that the slot has seen. Workers
//! that read their clock before others stored would otherwise find entries gone that still mattered to them.
//!
//! Layout, little endian, at most 256 bytes: 4 bytes of format, how many entries, holdings and leases there are and a
//! zero, 8 bytes latest time, 4 · 8 bytes floors, then 16 bytes an entry (tag, parts, nanoseconds), 16 a holding (tag,
//! epoch, 4 · 2 bytes of counts) and 32 a lease. Anything else, such as what another version of this module left behind,
//! is taken as empty: the next store puts it right, and the caller counts it.

mod bytes;
mod room;

use portcullis_policy::limits;

use crate::{
    gcra::{self, Demand, Quota, Stretch, Time},
    held::{self, Holding},
    lease::{Lease, Spent},
};

pub use bytes::Encoded;

/// Places of 16 bytes.
pub const WAYS: usize = 13;
/// Holdings of keys of their own.
pub const HOLDINGS: usize = 6;
/// Leases: each takes two places.
const LEASES: usize = WAYS / 2;
const HEAD: usize = 48;
const ENTRY: usize = 16;
const _: () = assert!(HEAD + WAYS * ENTRY <= limits::SHARED_SLOT_BYTES);

const FLOORS: usize = 4;
const MINUTE_NS: u64 = 60_000_000_000;
/// A quota that takes up to so long to refill has that floor; what takes longer, the last.
const FLOOR_BORDERS: [u64; FLOORS - 1] = [2 * MINUTE_NS, 120 * MINUTE_NS, 48 * 60 * MINUTE_NS];
/// Keys without a holding of their own share the one of this tag.
const SHARED_TAG: Tag = Tag(0);

/// Which entry of a set: 30 bits of the key's hash, and the number of its floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tag(u32);

impl Tag {
    /// From the key's hash, for a quota that takes so long to refill.
    pub fn new(hash: u64, refill_ns: u64) -> Self {
        let floor = FLOOR_BORDERS.iter().filter(|border| refill_ns > **border).count();
        let high = u32::try_from(hash >> 32).unwrap_or(0);
        Self((high & !3) | u32::try_from(floor).unwrap_or(0))
    }

    /// As a number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Of that number.
    pub const fn of_number(number: u32) -> Self {
        Self(number)
    }

    /// Of another thing that belongs to the same key.
    const fn sibling(self) -> Self {
        Self(self.0 ^ 0xa5a5_a5a4)
    }

    const fn floor(self) -> usize {
        (self.0 & 3) as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Entry {
    tag: Tag,
    state: Time,
}

/// A slot's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    latest_ns: u64,
    floors: [u64; FLOORS],
    entries: Few<Entry, WAYS>,
    holdings: Few<Holding, { HOLDINGS + 1 }>,
    leases: Few<Lease, LEASES>,
    folded: u32,
}

/// A list of at most `N`.
#[derive(Debug, Clone, Copy)]
struct Few<T, const N: usize> {
    all: [T; N],
    len: usize,
}

/// What a request asks of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate<'q> {
    /// The limit.
    pub quota: &'q Quota,
    /// Units that it costs.
    pub cost: u32,
    /// Whether they are spent only if the response shows that the request counts.
    pub reserve: bool,
    /// Whether it also takes tokens of a lease, from the companion.
    pub leased: bool,
    /// A quota from which it may be served when the lease has none.
    pub share: Option<&'q Quota>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is room.
    Admit {
        /// How far the state is ahead of now, all that is reserved included.
        debt: Time,
        /// The units are held, since that epoch, until the response shows whether they count.
        reserved: Option<u32>,
        /// It was time to ask for more tokens.
        renew: bool,
        /// The lease's number: see [`Lease::refund`].
        lease: u64,
    },
    /// A place of a concurrency limit is held.
    Hold {
        /// Under this tag.
        tag: Tag,
        /// How many hold one now.
        held: u32,
        /// Since that epoch.
        epoch: u32,
    },
    /// There is none; everything stays as it is.
    Refuse {
        /// The least number of nanoseconds after which the same request would be admitted.
        wait_ns: u64,
    },
    /// This process's own limit has room; its lease has no token.
    Dry,
}

impl Set {
    /// How many entries were folded since the slot was read.
    pub fn folded(&self) -> u32 {
        self.folded
    }

    /// Decides on one request under that tag, and keeps the new state if it is admitted.
    pub fn step(&mut self, tag: Tag, now_ns: u64, rate: &Rate<'_>) -> Step {
        let at_ns = now_ns.max(self.latest_ns);
        let reserved = self.collect(tag, at_ns, rate.quota);
        let state = self.state(tag);
        match gcra::step(state, at_ns, rate.quota, Demand { cost: rate.cost, reserved }) {
            gcra::Step::Admit { state, debt } => self.admit(tag, at_ns, rate, state, debt),
            // The wait is told from the caller's now.
            gcra::Step::Refuse { wait_ns } => {
                Step::Refuse { wait_ns: wait_ns.saturating_add(at_ns.saturating_sub(now_ns)) }
            }
        }
    }

    fn admit(&mut self, tag: Tag, at_ns: u64, rate: &Rate<'_>, state: Time, debt: Time) -> Step {
        let (mut renew, mut number) = (false, 0);
        if rate.leased {
            match self.spend(tag, rate.cost, at_ns) {
                (Spent::Yes { renew: soon }, lease) => (renew, number) = (soon, lease),
                (short, _) => {
                    let shared = rate.share.is_some_and(|share| self.share(tag, rate.cost, at_ns, share));
                    match short {
                        Spent::NoneFor(wait_ns) if !shared => return Step::Refuse { wait_ns },
                        Spent::No if !shared => return Step::Dry,
                        _ => renew = short == Spent::No,
                    }
                }
            }
        }
        let held = rate.reserve && u16::try_from(rate.cost).is_ok_and(|cost| self.reserve(tag, cost, at_ns));
        if !held {
            self.keep(Entry { tag, state }, at_ns);
        }
        let reserved = held.then(|| held::epoch(at_ns));
        self.latest_ns = at_ns;
        Step::Admit { debt, reserved, renew, lease: number }
    }

    /// Debits units ahead of the requests that will spend them, if there is room enough; of an entry that was just admitted
    /// with that debt.
    pub fn debit_ahead(
        &mut self,
        tag: Tag,
        now_ns: u64,
        quota: &Quota,
        cost: u32,
        debt: Time,
    ) -> Option<Stretch> {
        let units = quota.ahead(debt, cost);
        let from = self.state(tag);
        self.charge(tag, now_ns, quota, units);
        (units > 0).then(|| Stretch { from, until: self.state(tag) })
    }

    fn spend(&mut self, tag: Tag, cost: u32, at_ns: u64) -> (Spent, u64) {
        let lease = self.leases.iter_mut().find(|lease| lease.tag == tag);
        lease.map_or((Spent::No, 0), |lease| (lease.spend(cost, at_ns), lease.sequence()))
    }

    /// Spends of the share that needs no token.
    fn share(&mut self, tag: Tag, cost: u32, at_ns: u64, share: &Quota) -> bool {
        let tag = tag.sibling();
        match gcra::step(self.state(tag), at_ns, share, Demand { cost, reserved: 0 }) {
            gcra::Step::Admit { state, .. } => {
                self.keep(Entry { tag, state }, at_ns);
                true
            }
            gcra::Step::Refuse { .. } => false,
        }
    }

    /// Takes a place of a limit of so many at the same time.
    pub fn hold(&mut self, tag: Tag, now_ns: u64, most: u32) -> Step {
        let at_ns = now_ns.max(self.latest_ns);
        let tag = if self.place(tag, at_ns) { tag } else { SHARED_TAG };
        // Nobody knows when a place will be free.
        const FULL: Step = Step::Refuse { wait_ns: 1_000_000_000 };
        if tag == SHARED_TAG && !self.place(tag, at_ns) {
            return FULL;
        }
        let Some(holding) = self.holdings.iter_mut().find(|holding| holding.tag == tag) else { return FULL };
        if holding.total() >= most || !holding.add(1) {
            return FULL;
        }
        let (held, epoch) = (holding.total(), holding.epoch);
        self.latest_ns = at_ns;
        Step::Hold { tag, held, epoch }
    }

    /// Lets go of what is held since that epoch; false when it has fallen out.
    pub fn release(&mut self, tag: Tag, epoch: u32, count: u16) -> bool {
        let holding = self.holdings.iter_mut().find(|holding| holding.tag == tag);
        holding.is_some_and(|holding| holding.remove(epoch, count))
    }

    /// Holds on to what is held since that epoch; false when it has fallen out, or cannot be counted.
    pub fn renew(&mut self, tag: Tag, since: u32, count: u16, now_ns: u64) -> bool {
        let at_ns = now_ns.max(self.latest_ns);
        let Some(holding) = self.holdings.iter_mut().find(|holding| holding.tag == tag) else { return false };
        let mut then = *holding;
        // What others held falls out when somebody looks at the limit, which this is not.
        let moved = then.remove(since, count) && then.roll_on(held::epoch(at_ns)) && then.add(count);
        if moved {
            *holding = then;
            self.latest_ns = at_ns;
        }
        moved
    }

    /// Ends a reservation: of `count` units held since that epoch, `cost` are spent. A reservation that has fallen out was
    /// spent whole when that was seen; then nothing happens, and the answer is false.
    pub fn settle(
        &mut self,
        tag: Tag,
        now_ns: u64,
        quota: &Quota,
        since: u32,
        count: u16,
        cost: u32,
    ) -> bool {
        let at_ns = now_ns.max(self.latest_ns);
        let ours = self.release(tag, since, count);
        if ours {
            self.charge(tag, at_ns, quota, cost);
        }
        ours
    }

    /// Spends units whether there is room or not.
    pub fn charge(&mut self, tag: Tag, now_ns: u64, quota: &Quota, cost: u32) {
        let at_ns = now_ns.max(self.latest_ns);
        if cost > 0 {
            let state = gcra::charge(self.state(tag), at_ns, quota, cost);
            self.keep(Entry { tag, state }, at_ns);
            self.latest_ns = at_ns;
        }
    }

    /// Puts tokens back into the lease, as long as it is still the one of that number.
    pub fn refund(&mut self, tag: Tag, now_ns: u64, cost: u32, number: u64) {
        let at_ns = now_ns.max(self.latest_ns);
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.tag == tag) {
            lease.refund(cost, number, at_ns);
        }
    }

    /// The lease under that tag, made if there is none; `None` when there is no room even so. Brings the slot's time
    /// forward.
    pub fn lease(&mut self, tag: Tag, now_ns: u64) -> Option<&mut Lease> {
        let at_ns = now_ns.max(self.latest_ns);
        self.latest_ns = at_ns;
        if !self.leases.iter().any(|lease| lease.tag == tag) {
            if !self.make_room(2, at_ns) {
                return None;
            }
            self.leases.push(Lease::new(tag));
        }
        self.leases.iter_mut().find(|lease| lease.tag == tag)
    }

    /// The latest time that the slot has seen.
    pub fn latest_ns(&self) -> u64 {
        self.latest_ns
    }

    fn state(&self, tag: Tag) -> Time {
        let known = self.entries.iter().find(|entry| entry.tag == tag);
        known.map_or(Time::whole(self.floor(tag)), |entry| entry.state)
    }

    fn floor(&self, tag: Tag) -> u64 {
        self.floors.get(tag.floor()).copied().unwrap_or(0)
    }

    /// Units that others hold under that tag; what has fallen out is spent.
    fn collect(&mut self, tag: Tag, at_ns: u64, quota: &Quota) -> u32 {
        let Some(holding) = self.holdings.iter_mut().find(|holding| holding.tag == tag) else { return 0 };
        let lost = holding.roll(held::epoch(at_ns));
        let total = holding.total();
        self.charge(tag, at_ns, quota, lost);
        total
    }

    /// Holds units; false when there is no place for it.
    fn reserve(&mut self, tag: Tag, count: u16, at_ns: u64) -> bool {
        if !self.place(tag, at_ns) {
            return false;
        }
        let holding = self.holdings.iter_mut().find(|holding| holding.tag == tag);
        holding.is_some_and(|holding| holding.add(count))
    }
}
