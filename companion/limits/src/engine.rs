//! The engine: shards of states behind locks, and what is done to them. No I/O, no clock: time is handed in.
//!
//! Before an answer may leave, the debit that it rests on must be durable. The engine keeps a *ceiling* for each key: an
//! arrival time, some way ahead of the true one, that is promised to [`Promises`]. As long as the true one stays below,
//! nothing is written; a step that goes beyond makes a new promise and names the batch to wait for.

use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use crate::{
    key::{Key, Secret},
    quota::{Quota, Time, longest_remembered},
    step::{self, Ask, Flow, Grant, Leases, Spent},
    sync::{Guard, Lock},
    table::{Entry, Floor, Out, Slot, Table},
};

/// Parts of the table. A tenant's keys are spread over all of them.
const SHARDS: usize = 64;
/// Keys that a shard may have leases of. A further key is granted nothing until leases of others end.
const LEASED_KEYS_PER_SHARD: usize = 16 * 1024;
/// Levels of one question. More: refused by the callers.
pub const LEVELS: usize = 64;
/// How far ahead a promise reaches: a thirty-second of the refill, within these bounds.
const AHEAD_NS: (u64, u64) = (100_000_000, 30_000_000_000);
/// What a newcomer without a place is told to wait.
const FULL_WAIT_NS: u64 = 1_000_000_000;

/// Where ceilings are written.
pub trait Promises: Send + Sync {
    /// Takes down that the key's arrival time stays at or below `ceiling_ns`; answers the batch that holds it.
    fn promise(&self, key: Key, ceiling_ns: u64) -> u64;
    /// The last batch that is durable.
    fn kept(&self) -> u64;
}

/// Nothing outlives the process.
impl Promises for () {
    fn promise(&self, _: Key, _: u64) -> u64 {
        0
    }

    fn kept(&self) -> u64 {
        0
    }
}

/// An answer, and the batch that must be durable before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// 0: none.
    pub batch: u64,
}

/// One of the limits of a question.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    /// Which.
    pub key: Key,
    /// Its numbers.
    pub quota: Quota,
    /// What it costs; 0 only looks.
    pub hits: u32,
}

/// What happened to tokens since the start, and how much memory it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Granted on leases.
    pub granted: u64,
    /// Reported, or taken, as spent.
    pub spent: u64,
    /// Given back.
    pub returned: u64,
    /// Of leases that ended.
    pub expired: u64,
    /// Still out.
    pub outstanding: u64,
    /// Spent at once, without a lease.
    pub direct: u64,
    /// Entries that gave way although they were in use.
    pub folded: u64,
    /// Keys that found no room.
    pub no_room: u64,
    /// Bytes of the table.
    pub bytes: u64,
}

/// Shards that one question has locked.
struct Held<'a> {
    /// A bit for each.
    wanted: u64,
    /// In the order of the bits.
    guards: Few<Guard<'a, Shard>>,
}

/// A list that mostly needs no memory of its own: a question has few levels.
type Few<T> = SmallVec<[T; 8]>;

impl Held<'_> {
    fn shard(&mut self, number: usize) -> Option<&mut Shard> {
        let below = (1_u64 << number).wrapping_sub(1) & self.wanted;
        self.guards.get_mut(usize::try_from(below.count_ones()).ok()?).map(|guard| &mut **guard)
    }
}

/// What one level of a question found.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    slot: Option<Slot>,
    before: Time,
}

impl Taken {
    /// The level's entry: where it was found, unless a later level of the question has moved it.
    fn entry<'a>(&self, shard: &'a mut Shard, level: &Level, now_ns: u64) -> Option<&'a mut Entry> {
        let table = &mut shard.table;
        let slot = match self.slot.filter(|slot| table.at(*slot, level.key).is_some()) {
            Some(slot) => slot,
            None => table.locate(level.key, now_ns, &level.quota)?,
        };
        table.at(slot, level.key)
    }
}

#[derive(Debug)]
struct Shard {
    table: Table,
    flow: Flow,
    direct: u64,
}

/// See the module's page.
#[derive(Debug)]
pub struct Engine<P> {
    shards: Box<[Lock<Shard>]>,
    secret: Secret,
    promises: P,
    /// Set when earlier state was lost: when the loss was found; nothing of a quota is granted for its refill after that.
    lost_ns: AtomicU64,
}

impl<P: Promises> Engine<P> {
    /// An empty engine for at most some `keys` keys.
    pub fn new(keys: usize, secret: Secret, promises: P) -> Self {
        let shard = || {
            Lock::new(Shard { table: Table::new(keys.div_ceil(SHARDS)), flow: Flow::default(), direct: 0 })
        };
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self { shards, secret, promises, lost_ns: AtomicU64::new(u64::MAX) }
    }

    /// What keys are hashed with.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Where ceilings go.
    pub fn promises(&self) -> &P {
        &self.promises
    }

    /// From now on every quota is taken as used up, for one refill: what was granted before is not known any more.
    pub fn forget(&self, now_ns: u64) {
        self.lost_ns.store(now_ns, Ordering::SeqCst);
    }

    /// When earlier state was found to be lost.
    pub fn lost_ns(&self) -> Option<u64> {
        Some(self.lost_ns.load(Ordering::SeqCst)).filter(|lost| *lost != u64::MAX)
    }

    /// How long nothing of `quota` is granted because state was lost; 0 when it may be.
    pub fn silent_ns(&self, now_ns: u64, quota: &Quota) -> u64 {
        let lost = self.lost_ns.load(Ordering::Relaxed);
        if lost == u64::MAX {
            return 0;
        }
        let pause = u64::try_from(longest_remembered().as_nanos()).unwrap_or(u64::MAX);
        lost.saturating_add(quota.refill_ns()).saturating_add(pause).saturating_sub(now_ns)
    }

    fn number(key: Key) -> usize {
        usize::try_from(key.place >> 58).unwrap_or(0) % SHARDS
    }

    fn lock(&self, number: usize) -> Option<Guard<'_, Shard>> {
        self.shards.get(number).map(Lock::lock)
    }

    /// Answers a process's ask for one key.
    pub fn ask(&self, key: Key, quota: &Quota, ask: &Ask, now_ns: u64) -> Answer<Grant> {
        let nothing = |wait| Answer { value: Grant { retry_after_ns: wait, ..Grant::default() }, batch: 0 };
        let silent = self.silent_ns(now_ns, quota);
        if silent > 0 {
            return nothing(silent);
        }
        let Some(mut shard) = self.lock(Self::number(key)) else { return nothing(FULL_WAIT_NS) };
        let shard = &mut *shard;
        let crowded = shard.table.out.len() >= LEASED_KEYS_PER_SHARD && !shard.table.out.contains_key(&key);
        let mut out = match crowded {
            true => None,
            false => {
                Some(shard.table.out.remove(&key).unwrap_or(Out { leases: Leases::default(), quota: *quota }))
            }
        };
        let entry = shard.table.entry(key, now_ns, quota);
        let (Some(entry), Some(mut known)) = (entry, out.take()) else { return nothing(FULL_WAIT_NS) };
        read_by(entry, quota);
        let (tat, grant) = step::ask(entry.tat(), &mut known.leases, now_ns, quota, ask, &mut shard.flow);
        entry.set_tat(tat);
        let leased = !known.leases.is_empty();
        entry.set_leased(leased);
        known.quota = if quota.is_nothing() { known.quota } else { *quota };
        let pause_ns = pause(&known.leases, now_ns);
        let batch = self.cover(key, entry, quota, pause_ns);
        if leased {
            shard.table.out.insert(key, known);
        }
        Answer { value: grant, batch }
    }

    /// Spends on all levels, or on none. Levels may repeat a key: then they add up.
    pub fn spend(&self, levels: &[Level], now_ns: u64, answers: &mut Vec<Spent>) -> Answer<bool> {
        answers.clear();
        let wanted = levels.iter().fold(0_u64, |set, level| set | 1 << Self::number(level.key));
        // In the order of their numbers: so no two questions wait for each other.
        let mut held = Held { wanted, guards: Few::new() };
        let mut rest = wanted;
        while rest != 0 {
            held.guards.extend(self.lock(usize::try_from(rest.trailing_zeros()).unwrap_or(0)));
            rest &= rest - 1;
        }
        // All places are read before any is used: so the waits for memory overlap.
        for level in levels {
            if let Some(shard) = held.shard(Self::number(level.key)) {
                shard.table.touch(level.key);
            }
        }
        let mut taken: Few<Taken> = Few::new();
        let mut allowed = true;
        for level in levels {
            let (one, spent) = self.spend_one(held.shard(Self::number(level.key)), level, now_ns);
            allowed &= spent.allowed;
            taken.push(one);
            answers.push(spent);
        }
        let mut batch = 0;
        for ((level, one), spent) in levels.iter().zip(&taken).zip(answers.iter_mut()).rev() {
            let Some(shard) = held.shard(Self::number(level.key)) else { continue };
            if !allowed && spent.allowed {
                // Taken back: the level has what it had.
                spent.remaining = spent.remaining.saturating_add(u64::from(level.hits));
                if let Some(entry) = one.entry(shard, level, now_ns) {
                    entry.set_tat(one.before);
                }
            } else if allowed && level.hits > 0 {
                shard.direct = shard.direct.saturating_add(u64::from(level.hits));
                let pause_ns = match shard.table.out.is_empty() {
                    true => 0,
                    false => shard.table.out.get(&level.key).map_or(0, |out| pause(&out.leases, now_ns)),
                };
                if let Some(entry) = one.entry(shard, level, now_ns) {
                    batch = batch.max(self.cover(level.key, entry, &level.quota, pause_ns));
                }
            }
        }
        Answer { value: allowed, batch }
    }

    fn spend_one(&self, shard: Option<&mut Shard>, level: &Level, now_ns: u64) -> (Taken, Spent) {
        let refused =
            |retry_after_ns| (Taken::default(), Spent { allowed: false, remaining: 0, retry_after_ns });
        let Level { key, quota, hits } = level;
        let silent = self.silent_ns(now_ns, quota);
        if silent > 0 {
            return refused(silent);
        }
        let Some(Shard { table, flow, .. }) = shard else { return refused(FULL_WAIT_NS) };
        let Some(slot) = table.locate(*key, now_ns, quota) else { return refused(FULL_WAIT_NS) };
        let mut none = Leases::default();
        let (out, entry) = table.known(slot, *key);
        let Some(entry) = entry else { return refused(FULL_WAIT_NS) };
        read_by(entry, quota);
        let before = entry.tat();
        let leased = entry.is_leased().then(|| out.get_mut(key)).flatten();
        let leases = leased.map_or(&mut none, |out| &mut out.leases);
        let (tat, spent) = step::spend(before, leases, now_ns, quota, *hits, flow);
        entry.set_tat(tat);
        (Taken { slot: Some(slot), before }, spent)
    }

    /// Makes sure that the promise covers the entry. After a restart its leases are not known any more, but may still be
    /// spent for `pause_ns`; for so long nothing refills.
    fn cover(&self, key: Key, entry: &mut Entry, quota: &Quota, pause_ns: u64) -> u64 {
        let needed = entry.tat().ceil().saturating_add(pause_ns);
        if needed > entry.ceiling_ns {
            let ahead = (quota.refill_ns() / 32).clamp(AHEAD_NS.0, AHEAD_NS.1);
            entry.ceiling_ns = needed.saturating_add(ahead);
            entry.batch = self.promises.promise(key, entry.ceiling_ns);
        }
        if entry.batch > self.promises.kept() { entry.batch } else { 0 }
    }

    /// Ends what has expired in one shard; the caller goes round all [`Engine::shards`] of them, now and then.
    pub fn sweep(&self, number: usize, now_ns: u64) {
        let Some(mut shard) = self.lock(number) else { return };
        let Shard { table, flow, .. } = &mut *shard;
        let due = |out: &Out| out.leases.next_expiry().is_none_or(|next| next <= now_ns);
        let keys: Vec<Key> = table.out.iter().filter(|(_, out)| due(out)).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(mut out) = table.out.remove(&key) else { continue };
            let quota = out.quota;
            let Some(entry) = table.entry(key, now_ns, &quota) else { continue };
            read_by(entry, &quota);
            let mut tat = entry.tat();
            add(flow, step::expire(&mut tat, &mut out.leases, now_ns, &quota));
            entry.set_tat(tat);
            let leased = !out.leases.is_empty();
            entry.set_leased(leased);
            if leased {
                table.out.insert(key, out);
            }
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What a shard has promised and what still matters of it.
    pub fn snapshot(&self, number: usize, now_ns: u64) -> (Vec<(Key, u64)>, Vec<Floor>) {
        let Some(shard) = self.lock(number) else { return Default::default() };
        let live = shard.table.live(now_ns).map(|(key, entry)| (key, entry.ceiling_ns)).collect();
        (live, shard.table.floors(now_ns).collect())
    }

    /// Puts back a promise of an earlier life.
    pub fn restore(&self, key: Key, ceiling_ns: u64, now_ns: u64) {
        if let Some(mut shard) = self.lock(Self::number(key)) {
            shard.table.restore(key, ceiling_ns, now_ns);
        }
    }

    /// Puts back a shard's floor of an earlier life.
    pub fn restore_floor(&self, number: usize, floor: Floor) {
        if let Some(mut shard) = self.lock(number) {
            shard.table.restore_floor(floor);
        }
    }

    /// Sums over all shards.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for number in 0..self.shards.len() {
            let Some(shard) = self.lock(number) else { continue };
            let Shard { table, flow, direct } = &*shard;
            let outstanding: u64 = table.out.values().map(|out| out.leases.outstanding()).sum();
            totals.granted += flow.granted;
            totals.spent += flow.spent;
            totals.returned += flow.returned;
            totals.expired += flow.expired;
            totals.outstanding += outstanding;
            totals.direct += direct;
            totals.folded += table.folded;
            totals.no_room += table.refused;
            totals.bytes += u64::try_from(table.bytes()).unwrap_or(0);
        }
        totals
    }
}

/// How long tokens of these leases may still be spent.
fn pause(leases: &Leases, now_ns: u64) -> u64 {
    leases.last_expiry().map_or(0, |last| last.saturating_sub(now_ns))
}

/// Parts that another limit wrote are rounded up to whole nanoseconds.
fn read_by(entry: &mut Entry, quota: &Quota) {
    if entry.limit() != quota.limit() && !quota.is_nothing() {
        entry.set_tat(Time { ns: entry.tat().ceil(), parts: 0 });
        entry.set_limit(quota.limit());
    }
}

fn add(sum: &mut Flow, flow: Flow) {
    sum.granted = sum.granted.saturating_add(flow.granted);
    sum.spent = sum.spent.saturating_add(flow.spent);
    sum.returned = sum.returned.saturating_add(flow.returned);
    sum.expired = sum.expired.saturating_add(flow.expired);
}
