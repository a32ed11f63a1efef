//! A set as bytes, and back.

use portcullis_policy::limits;

use super::{ENTRY, Entry, Few, HEAD, Set, Tag, WAYS};
use crate::{
    gcra::Time,
    held::{EPOCHS, Holding},
    lease::Lease,
};

/// `grl`, version 2: the layout of [`super`].
const FORMAT: [u8; 4] = *b"grl\x02";
const LEASE: usize = 32;

impl Set {
    /// Reads a slot; `None` when its content is not of this format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let (words, []) = head.as_chunks::<8>() else { return None };
        let mut words = words.iter().copied();
        let [a, b, c, d, entries, holdings, leases, 0] = words.next()? else { return None };
        let (entries, holdings, leases) = (usize::from(entries), usize::from(holdings), usize::from(leases));
        let places = entries.checked_add(holdings)?.checked_add(leases.checked_mul(2)?)?;
        if [a, b, c, d] != FORMAT || places > WAYS {
            return None;
        }
        let mut words = words.map(u64::from_le_bytes);
        let mut set = Self { latest_ns: words.next()?, ..Self::default() };
        for floor in &mut set.floors {
            *floor = words.next()?;
        }
        let (single, double) = rest.split_at_checked(entries.checked_add(holdings)?.checked_mul(ENTRY)?)?;
        let (single, []) = single.as_chunks::<ENTRY>() else { return None };
        let (of_entries, of_holdings) = single.split_at_checked(entries)?;
        for bytes in of_entries {
            set.entries.push(entry(u128::from_le_bytes(*bytes))).then_some(())?;
        }
        for bytes in of_holdings {
            set.holdings.push(holding(u128::from_le_bytes(*bytes))).then_some(())?;
        }
        let (double, []) = double.as_chunks::<LEASE>() else { return None };
        if double.len() != leases {
            return None;
        }
        for bytes in double {
            let ([one, two, three, four], []) = bytes.as_chunks::<8>() else { return None };
            let words = [*one, *two, *three, *four].map(u64::from_le_bytes);
            set.leases.push(Lease::of_words(words)).then_some(())?;
        }
        Some(set)
    }

    /// Writes a slot, without what has passed.
    pub fn encode(&self) -> Encoded {
        let mut encoded = Encoded { bytes: [0; limits::SHARED_SLOT_BYTES], len: HEAD };
        let mut counts = [0_u8; 3];
        let latest = Time::whole(self.latest_ns);
        for entry in self.entries.iter().filter(|entry| entry.state > latest) {
            let whole = u128::from(entry.tag.0)
                | (u128::from(entry.state.parts) << 32)
                | (u128::from(entry.state.ns) << 64);
            encoded.push(&whole.to_le_bytes());
            counts = [counts[0].saturating_add(1), counts[1], counts[2]];
        }
        for holding in self.holdings.iter().filter(|holding| holding.total() > 0) {
            let mut whole = u128::from(holding.tag.0) | (u128::from(holding.epoch) << 32);
            for (place, count) in holding.counts.iter().enumerate() {
                whole |= u128::from(*count) << (64 + 16 * place);
            }
            encoded.push(&whole.to_le_bytes());
            counts = [counts[0], counts[1].saturating_add(1), counts[2]];
        }
        for lease in self.leases.iter().filter(|lease| !lease.is_over(self.latest_ns)) {
            for word in lease.words() {
                encoded.push(&word.to_le_bytes());
            }
            counts = [counts[0], counts[1], counts[2].saturating_add(1)];
        }
        let end = encoded.len;
        encoded.len = 0;
        encoded.push(&FORMAT);
        encoded.push(&counts);
        encoded.push(&[0]);
        encoded.push(&self.latest_ns.to_le_bytes());
        for floor in self.floors {
            let live = if floor > self.latest_ns { floor } else { 0 };
            encoded.push(&live.to_le_bytes());
        }
        encoded.len = end;
        encoded
    }
}

#[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
fn entry(whole: u128) -> Entry {
    let (tag, parts, ns) = (whole as u32, (whole >> 32) as u32, (whole >> 64) as u64);
    Entry { tag: Tag(tag), state: Time { ns, parts } }
}

#[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
fn holding(whole: u128) -> Holding {
    let mut holding = Holding::new(Tag(whole as u32), (whole >> 32) as u32);
    let mut counts = [0_u16; EPOCHS];
    for (place, count) in counts.iter_mut().enumerate() {
        *count = (whole >> (64 + 16 * place)) as u16;
    }
    holding.counts = counts;
    holding
}

/// A set as bytes.
#[derive(Debug, Clone)]
pub struct Encoded {
    bytes: [u8; limits::SHARED_SLOT_BYTES],
    len: usize,
}

impl Encoded {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self { all: [T::default(); N], len: 0 }
    }
}

impl<T: PartialEq, const N: usize> PartialEq for Few<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self.all.iter().take(self.len).eq(other.all.iter().take(other.len))
    }
}

impl<T: Eq, const N: usize> Eq for Few<T, N> {}

impl<T: Copy, const N: usize> Few<T, N> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().take(self.len)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.all.iter_mut().take(self.len)
    }

    /// False when it is full.
    pub(super) fn push(&mut self, item: T) -> bool {
        let Some(free) = self.all.get_mut(self.len) else { return false };
        *free = item;
        self.len = self.len.saturating_add(1);
        true
    }

    /// The last takes its place.
    pub(super) fn remove(&mut self, place: usize) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        if place > last {
            return None;
        }
        self.all.swap(place, last);
        self.len = last;
        self.all.get(last).copied()
    }

    pub(super) fn retain(&mut self, stays: impl Fn(&T) -> bool) {
        let mut place = 0;
        while place < self.len {
            if self.all.get(place).is_some_and(&stays) {
                place = place.saturating_add(1);
            } else {
                self.remove(place);
            }
        }
    }
}
