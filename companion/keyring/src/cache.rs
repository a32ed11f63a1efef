//! Unwrapped keys in memory: bounded, wiped when they leave, and never older than a shredding.
//!
//! Two generations a shard: keys enter the young one, and when that is full the old one is dropped and the young one
//! becomes the old one; a use brings an entry back to the young. So what is used stays, what is not goes, and no list has
//! to be kept. A shard's epoch moves with each change of a tenant's keys; what was read from the store before the change
//! is not taken in after it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::prk::{Prk, States};

const SHARDS: usize = 64;

/// Which of a tenant's keys is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The one that seals.
    Current,
    /// One that may open.
    Version(u32),
    /// The one of the blind indexes.
    Index,
}

/// The blind indexes' key stands among the others as version 0.
pub(crate) const INDEX_VERSION: u32 = 0;

struct Held {
    version: u32,
    key: States,
}

/// What is held of a tenant.
struct Entry {
    revision: u64,
    current: u32,
    min_decrypt: u32,
    // Boxed and never grown in place: a reallocation would leave keys behind.
    keys: Box<[Held]>,
}

/// What of a tenant is known without its wrapped keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) current: u32,
    pub(crate) min_decrypt: u32,
}

impl State {
    /// The version that is wanted, if it may be used at all.
    pub(crate) fn version(&self, want: Want) -> Result<u32, u32> {
        match want {
            Want::Current => Ok(self.current),
            Want::Index => Ok(INDEX_VERSION),
            Want::Version(version) if version < self.min_decrypt => Err(self.min_decrypt),
            Want::Version(version) => Ok(version),
        }
    }
}

/// A key that was found: the state it was found in, its version, and itself.
pub(crate) struct Hit {
    pub(crate) revision: u64,
    pub(crate) version: u32,
    pub(crate) key: Prk,
}

#[derive(Default)]
struct Shard {
    epoch: u64,
    young: HashMap<Box<str>, Entry>,
    old: HashMap<Box<str>, Entry>,
    /// Keys in the young generation.
    keys: usize,
}

pub(crate) struct Cache {
    hasher: RandomState,
    shards: Box<[RwLock<Shard>]>,
    /// Keys a generation of a shard may hold.
    share: usize,
}

impl Cache {
    /// Holds at least the `capacity` keys used last, and never more than about twice as many.
    pub(crate) fn new(capacity: usize) -> Self {
        // Tenants do not fall evenly into shards: an eighth more, so that `capacity` tenants fit.
        let share = capacity.div_ceil(SHARDS);
        let share = share.saturating_add(share.div_ceil(8)).max(8);
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| RwLock::new(Shard::default())).collect(),
            share,
        }
    }

    /// The wanted key, if it is held; `Err` says from which version on the tenant opens.
    pub(crate) fn find(&self, tenant: &str, want: Want) -> Option<Hit> {
        let shard = self.shard(tenant)?;
        {
            let shard = read(shard);
            if let Some(entry) = shard.young.get(tenant) {
                return entry.find(want);
            }
            if !shard.old.contains_key(tenant) {
                return None;
            }
        }
        let mut shard = write(shard);
        let entry = shard.old.remove(tenant)?;
        let hit = entry.find(want);
        shard.enter(tenant, entry, self.share);
        hit
    }

    /// The shard's epoch: to be read before the store is.
    pub(crate) fn epoch(&self, tenant: &str) -> u64 {
        self.shard(tenant).map_or(0, |shard| read(shard).epoch)
    }

    /// Takes a key in, unless the tenant's keys have changed since `epoch`.
    pub(crate) fn insert(&self, tenant: &str, epoch: u64, state: State, (version, key): (u32, &Prk)) {
        let Some(shard) = self.shard(tenant) else { return };
        let mut shard = write(shard);
        if shard.epoch != epoch {
            return;
        }
        let before = shard.take(tenant);
        if before.as_ref().is_some_and(|before| before.revision > state.revision) {
            if let Some(before) = before {
                shard.enter(tenant, before, self.share);
            }
            return;
        }
        let kept = before.filter(|before| before.revision == state.revision);
        let kept = kept.iter().flat_map(|before| before.keys.iter()).filter(|held| held.version != version);
        let mut keys: Vec<Held> = Vec::with_capacity(kept.clone().count().saturating_add(1));
        keys.extend(kept.map(|held| Held { version: held.version, key: held.key.clone() }));
        keys.push(Held { version, key: key.states().clone() });
        let State { revision, current, min_decrypt } = state;
        shard.enter(
            tenant,
            Entry { revision, current, min_decrypt, keys: keys.into_boxed_slice() },
            self.share,
        );
    }

    /// Wipes all that is held of a tenant, and keeps out what was read before.
    pub(crate) fn forget(&self, tenant: &str) {
        let Some(shard) = self.shard(tenant) else { return };
        let mut shard = write(shard);
        shard.epoch = shard.epoch.wrapping_add(1);
        shard.take(tenant);
    }

    /// Wipes everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = write(shard);
            *shard = Shard { epoch: shard.epoch.wrapping_add(1), ..Shard::default() };
        }
    }

    /// How many keys are held.
    pub(crate) fn keys(&self) -> usize {
        let count = |entries: &HashMap<Box<str>, Entry>| {
            entries.values().map(|entry| entry.keys.len()).sum::<usize>()
        };
        self.shards.iter().map(|shard| read(shard)).map(|shard| count(&shard.young) + count(&shard.old)).sum()
    }

    fn shard(&self, tenant: &str) -> Option<&RwLock<Shard>> {
        let hash = self.hasher.hash_one(tenant);
        self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0))
    }
}

impl Entry {
    fn find(&self, want: Want) -> Option<Hit> {
        let state = State { revision: self.revision, current: self.current, min_decrypt: self.min_decrypt };
        let version = state.version(want).ok()?;
        let held = self.keys.iter().find(|held| held.version == version)?;
        Some(Hit { revision: self.revision, version, key: Prk::from_states(&held.key) })
    }
}

impl Shard {
    fn enter(&mut self, tenant: &str, entry: Entry, share: usize) {
        let keys = self.keys.saturating_add(entry.keys.len());
        if keys > share && !self.young.is_empty() {
            self.old = std::mem::take(&mut self.young);
            self.keys = 0;
        }
        self.keys = self.keys.saturating_add(entry.keys.len());
        self.young.insert(tenant.into(), entry);
    }

    fn take(&mut self, tenant: &str) -> Option<Entry> {
        if let Some(entry) = self.young.remove(tenant) {
            self.keys = self.keys.saturating_sub(entry.keys.len());
            return Some(entry);
        }
        self.old.remove(tenant)
    }
}

// A thread that panicked while it held the lock left a map that is whole: entries go in and out in one step.
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Key;

    const STATE: State = State { revision: 1, current: 1, min_decrypt: 1 };

    fn key(byte: u8) -> Prk {
        Prk::new(&Key::new(&[byte; 32]))
    }

    fn put(cache: &Cache, tenant: &str) {
        cache.insert(tenant, cache.epoch(tenant), STATE, (1, &key(1)));
    }

    #[test]
    fn what_was_read_before_a_change_is_not_taken_in_after_it() {
        let cache = Cache::new(100);
        let epoch = cache.epoch("acme");
        cache.forget("acme");
        cache.insert("acme", epoch, STATE, (1, &key(1)));
        assert!(cache.find("acme", Want::Current).is_none());
        put(&cache, "acme");
        assert_eq!(cache.find("acme", Want::Current).unwrap().key, key(1));
    }

    #[test]
    fn it_never_holds_more_than_twice_its_share() {
        let cache = Cache::new(1000);
        for number in 0..20_000 {
            put(&cache, &format!("tenant-{number}"));
        }
        assert!(cache.keys() <= 2 * 64 * cache.share, "{}", cache.keys());
        assert!(cache.keys() >= 1000, "{}", cache.keys());
    }

    #[test]
    fn what_is_used_stays() {
        let cache = Cache::new(64);
        put(&cache, "used");
        for number in 0..10_000 {
            put(&cache, &format!("tenant-{number}"));
            assert!(cache.find("used", Want::Current).is_some(), "after {number}");
        }
        assert!(cache.find("tenant-0", Want::Current).is_none());
    }

    #[test]
    fn versions_below_the_least_are_not_found_and_a_newer_state_replaces_an_older() {
        let cache = Cache::new(100);
        put(&cache, "acme");
        let newer = State { revision: 2, current: 2, min_decrypt: 2 };
        cache.insert("acme", cache.epoch("acme"), newer, (2, &key(2)));
        assert!(cache.find("acme", Want::Version(1)).is_none());
        assert_eq!(cache.find("acme", Want::Current).unwrap().version, 2);
        cache.insert("acme", cache.epoch("acme"), STATE, (1, &key(1)));
        assert_eq!(
            cache.find("acme", Want::Current).unwrap().version,
            2,
            "an older state does not come back"
        );
    }

    #[test]
    fn all_versions_of_one_state_are_held_together() {
        let cache = Cache::new(100);
        let state = State { revision: 3, current: 3, min_decrypt: 1 };
        for version in [3, 1, 2, 0] {
            cache.insert("acme", cache.epoch("acme"), state, (version, &key(version as u8)));
        }
        assert_eq!(cache.keys(), 4);
        assert_eq!(cache.find("acme", Want::Version(2)).unwrap().key, key(2));
        assert_eq!(cache.find("acme", Want::Index).unwrap().key, key(0));
        cache.clear();
        assert_eq!(cache.keys(), 0);
    }
}
