//! What the streams of a worker hold, so that it can be renewed while they last.

use std::collections::BTreeMap;

use portcullis_policy::{Held, SharedState};

use crate::{
    held::{self, RENEWAL},
    stream::renew,
};

/// Keys of which something is held. More: they are not renewed, and fall out after 24 to 32 s.
const MOST: usize = 16_384;
/// Renewals of one tick, each a load and a store.
const RENEWALS: usize = 128;

/// Counts by key and epoch.
#[derive(Debug, Default)]
pub struct Holdings {
    keys: BTreeMap<(u32, u32), Vec<(u32, u16)>>,
    /// Where the last tick stopped.
    cursor: (u32, u32),
}

impl Holdings {
    /// A stream holds something.
    pub fn hold(&mut self, held: Held) {
        let key = (held.slot, held.tag);
        if self.keys.len() >= MOST && !self.keys.contains_key(&key) {
            return;
        }
        let epochs = self.keys.entry(key).or_default();
        add(epochs, held.epoch, held.count);
    }

    /// A stream lets go; whose epoch it is does not matter, as long as the sums are right: the oldest that has so many.
    pub fn release(&mut self, held: Held) -> Option<u32> {
        let key = (held.slot, held.tag);
        let epochs = self.keys.get_mut(&key)?;
        let oldest =
            epochs.iter_mut().filter(|(_, count)| *count >= held.count).min_by_key(|(epoch, _)| *epoch)?;
        oldest.1 = oldest.1.saturating_sub(held.count);
        let epoch = oldest.0;
        epochs.retain(|(_, count)| *count > 0);
        if epochs.is_empty() {
            self.keys.remove(&key);
        }
        Some(epoch)
    }

    /// Renews what is due, a part at a time.
    pub fn renew(&mut self, shared: &mut dyn SharedState, now_ns: u64) {
        let now = held::epoch(now_ns);
        let is_due =
            |epochs: &[(u32, u16)]| epochs.iter().any(|(epoch, _)| epoch.saturating_add(RENEWAL) <= now);
        let after = self.keys.range((std::ops::Bound::Excluded(self.cursor), std::ops::Bound::Unbounded));
        let due: Vec<(u32, u32)> =
            after.filter(|(_, epochs)| is_due(epochs)).map(|(key, _)| *key).take(RENEWALS).collect();
        self.cursor = if due.len() < RENEWALS { (0, 0) } else { due.last().copied().unwrap_or_default() };
        for key in due {
            let Some(epochs) = self.keys.remove(&key) else { continue };
            let mut kept = Vec::with_capacity(epochs.len());
            for (epoch, count) in epochs {
                let held = Held { slot: key.0, tag: key.1, count, epoch };
                let due = epoch.saturating_add(RENEWAL) <= now;
                // What has fallen out is nobody's any more.
                let renewed = if due { renew(shared, held, now_ns) } else { Some(epoch) };
                if let Some(epoch) = renewed {
                    add(&mut kept, epoch, count);
                }
            }
            if !kept.is_empty() {
                self.keys.insert(key, kept);
            }
        }
    }
}

fn add(epochs: &mut Vec<(u32, u16)>, epoch: u32, count: u16) {
    match epochs.iter_mut().find(|(known, _)| *known == epoch) {
        Some((_, sum)) => *sum = sum.saturating_add(count),
        None => epochs.push((epoch, count)),
    }
}
