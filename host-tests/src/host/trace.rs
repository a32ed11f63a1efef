//! Which host calls a VM made.

use std::collections::BTreeMap;

/// Host calls by name, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    pub(crate) fn note(&mut self, call: &'static str) {
        let count = self.counts.entry(call).or_default();
        *count = count.saturating_add(1);
    }

    /// How often this call was made.
    #[must_use]
    pub fn count(&self, call: &str) -> u64 {
        self.counts.get(call).copied().unwrap_or(0)
    }

    /// How many calls there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// All calls, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }
}
