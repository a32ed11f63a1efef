//! Which entry gives way when a slot is full.

use super::{Entry, FLOOR_BORDERS, HOLDINGS, SHARED_TAG, Set, Tag, WAYS};
use crate::{
    gcra::{LONGEST_REFILL, Time},
    held::{self, Holding},
};

impl Set {
    fn used(&self) -> usize {
        let pairs = self.leases.len().saturating_mul(2);
        self.entries.len().saturating_add(self.holdings.len()).saturating_add(pairs)
    }

    fn is_free(&self, places: usize) -> bool {
        self.used().saturating_add(places) <= WAYS
    }

    /// Leaves out what equals nothing.
    fn purge(&mut self, at_ns: u64) {
        let at = Time::whole(at_ns);
        self.entries.retain(|entry| entry.state > at);
        self.leases.retain(|lease| !lease.is_over(at_ns));
        self.holdings.retain(|holding| holding.total() > 0);
    }

    /// Frees so many places; false when that cannot be.
    pub(super) fn make_room(&mut self, places: usize, at_ns: u64) -> bool {
        if self.is_free(places) {
            return true;
        }
        self.purge(at_ns);
        while !self.is_free(places) {
            if !self.forget_lease(at_ns) && !self.fold_least(at_ns) {
                return false;
            }
        }
        true
    }

    /// The lease with fewest tokens gives way.
    fn forget_lease(&mut self, at_ns: u64) -> bool {
        let fewest = self.leases.iter().map(|lease| lease.balance(at_ns)).min();
        let place = self.leases.iter().position(|lease| Some(lease.balance(at_ns)) == fewest);
        place.is_some_and(|place| {
            self.leases.remove(place);
            true
        })
    }

    /// The entry whose absence does least harm becomes part of the floor.
    fn fold_least(&mut self, at_ns: u64) -> bool {
        let harm = self.entries.iter().map(|entry| self.harm(entry, at_ns)).min();
        let place = self.entries.iter().position(|entry| Some(self.harm(entry, at_ns)) == harm);
        let entry = place.and_then(|place| self.entries.remove(place));
        entry.is_some_and(|entry| {
            self.fold(entry.tag, entry.state.ceil());
            true
        })
    }

    fn harm(&self, entry: &Entry, at_ns: u64) -> u64 {
        entry.state.ceil().saturating_sub(self.floor(entry.tag).max(at_ns))
    }

    fn fold(&mut self, tag: Tag, until_ns: u64) {
        if let Some(floor) = self.floors.get_mut(tag.floor()) {
            *floor = (*floor).max(until_ns);
        }
        self.folded = self.folded.saturating_add(1);
    }

    /// Keeps an entry, in its place or a new one; if the set is full, the one that does least harm is folded.
    pub(super) fn keep(&mut self, new: Entry, at_ns: u64) {
        if let Some(known) = self.entries.iter_mut().find(|entry| entry.tag == new.tag) {
            known.state = new.state;
            return;
        }
        if self.is_free(1) {
            self.entries.push(new);
            return;
        }
        self.purge(at_ns);
        while !self.is_free(1) && self.forget_lease(at_ns) {}
        if !self.is_free(1) {
            let least = self.entries.iter().map(|entry| self.harm(entry, at_ns)).min();
            if least.is_none_or(|least| least >= self.harm(&new, at_ns)) || !self.fold_least(at_ns) {
                self.fold(new.tag, new.state.ceil());
                return;
            }
        }
        self.entries.push(new);
    }

    /// A holding under that tag, rolled to now unless it is there already; false when there is no place for one.
    pub(super) fn place(&mut self, tag: Tag, at_ns: u64) -> bool {
        let epoch = held::epoch(at_ns);
        if let Some(known) = self.holdings.iter_mut().find(|holding| holding.tag == tag) {
            known.roll(epoch);
            return true;
        }
        let own = |set: &Self| set.holdings.iter().filter(|holding| holding.tag != SHARED_TAG).count();
        if tag != SHARED_TAG && own(self) >= HOLDINGS {
            self.holdings.retain(|holding| holding.total() > 0);
            if own(self) >= HOLDINGS && !self.forsake(epoch, at_ns) {
                return false;
            }
        }
        self.make_room(1, at_ns) && self.holdings.push(Holding::new(tag, epoch))
    }

    /// A holding of a worker that is gone gives way. Whether it was a reservation is not known, so it is taken as one
    /// that is spent, of the largest quota that refills in its time.
    fn forsake(&mut self, epoch: u32, at_ns: u64) -> bool {
        let place = self.holdings.iter().position(|holding| holding.is_over(epoch));
        let gone = place.and_then(|place| self.holdings.remove(place));
        gone.is_some_and(|gone| {
            let longest = u64::try_from(LONGEST_REFILL.as_nanos()).unwrap_or(u64::MAX);
            let refill = FLOOR_BORDERS.get(gone.tag.floor()).copied().unwrap_or(longest);
            self.fold(gone.tag, at_ns.saturating_add(refill));
            true
        })
    }
}
