//! What streams hold for as long as they last: places of a concurrency limit, and units that are spent only if the
//! response shows that the request counts.
//!
//! A worker that dies gives nothing back, so what is held must be renewed. Time is cut into epochs of [`EPOCH_NS`]; an
//! entry has a count for each of the last [`EPOCHS`]. Renewing moves a stream's count to the current epoch; what was not
//! renewed falls out after 24 to 32 s.

use crate::set::Tag;

/// An epoch.
pub const EPOCH_NS: u64 = 8_000_000_000;
/// Epochs for which something is held without being renewed.
pub const EPOCHS: usize = 4;
/// What is older than so many epochs is due for renewal: then there are still two for it to happen in.
pub const RENEWAL: u32 = 2;
/// The most that one key can hold in an epoch. More: it is as if there were no room.
pub const MOST: u16 = u16::MAX;

/// The epoch of a point in time.
pub fn epoch(now_ns: u64) -> u32 {
    u32::try_from(now_ns / EPOCH_NS).unwrap_or(u32::MAX)
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    pub(crate) tag: Tag,
    /// The epoch of the first count.
    pub(crate) epoch: u32,
    /// Of that epoch and those before it.
    pub(crate) counts: [u16; EPOCHS],
}

impl Holding {
    /// Nothing yet.
    pub fn new(tag: Tag, epoch: u32) -> Self {
        Self { tag, epoch, counts: [0; EPOCHS] }
    }

    /// Brings it to that epoch; how many fell out. Time does not go back.
    pub fn roll(&mut self, epoch: u32) -> u32 {
        let passed = usize::try_from(epoch.saturating_sub(self.epoch)).unwrap_or(EPOCHS).min(EPOCHS);
        if passed == 0 {
            return 0;
        }
        let before = self.total();
        self.counts.rotate_right(passed % EPOCHS);
        self.counts.iter_mut().take(passed).for_each(|count| *count = 0);
        self.epoch = epoch;
        before.saturating_sub(self.total())
    }

    /// Brings it to that epoch; what would fall out stays for one more. False when that cannot be counted.
    pub fn roll_on(&mut self, epoch: u32) -> bool {
        let lost = u16::try_from(self.roll(epoch)).ok();
        let [.., last] = &mut self.counts;
        match lost.and_then(|lost| last.checked_add(lost)) {
            Some(sum) => {
                *last = sum;
                true
            }
            None => false,
        }
    }

    /// How many are held.
    pub fn total(&self) -> u32 {
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }

    /// Whether all of it has fallen out at that epoch.
    pub fn is_over(&self, epoch: u32) -> bool {
        let mut then = *self;
        then.roll(epoch);
        then.total() == 0
    }

    /// Holds more, in the current epoch; false when that cannot be counted.
    pub fn add(&mut self, count: u16) -> bool {
        let [first, ..] = &mut self.counts;
        match first.checked_add(count) {
            Some(sum) => {
                *first = sum;
                true
            }
            None => false,
        }
    }

    /// Lets go of what was held in that epoch; false, and nothing, when it has fallen out.
    pub fn remove(&mut self, epoch: u32, count: u16) -> bool {
        let Some(age) = self.epoch.checked_sub(epoch).and_then(|age| usize::try_from(age).ok()) else {
            return false;
        };
        let Some(place) = self.counts.get_mut(age) else { return false };
        match place.checked_sub(count) {
            Some(rest) => {
                *place = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_renewed_falls_out_after_four_epochs() {
        let mut holding = Holding::new(Tag::default(), 10);
        assert!(holding.add(3));
        assert_eq!((holding.roll(13), holding.total()), (0, 3));
        assert!(holding.add(2) && !holding.is_over(16) && holding.is_over(17));
        assert_eq!((holding.roll(14), holding.total()), (3, 2));
        assert!(!holding.remove(10, 3), "it is gone already");
        assert_eq!((holding.roll(99), holding.total()), (2, 0));
        assert_eq!(holding.roll(98), 0);
    }

    #[test]
    fn what_is_renewed_stays_and_what_is_let_go_is_gone() {
        let mut holding = Holding::new(Tag::default(), 10);
        holding.add(3);
        holding.roll(12);
        assert!(holding.remove(10, 3) && holding.add(3));
        assert_eq!((holding.roll(15), holding.total()), (0, 3));
        assert!(!holding.remove(12, 4) && holding.remove(12, 1) && !holding.remove(99, 1));
        assert_eq!(holding.total(), 2);
        assert!(holding.add(MOST) && !holding.add(1));
        assert_eq!(holding.total(), 2 + u32::from(MOST));
    }
}
