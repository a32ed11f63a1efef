//! Where a consumer of the log stands: a small file beside the segments.

use std::io;

use crate::storage::{self, Storage};

/// How far a consumer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The next record it wants.
    pub next: u64,
    /// Records before this one may go: what the other side has, it keeps for certain.
    pub released: u64,
}

fn file(consumer: &str) -> String {
    format!("cursor-{consumer}")
}

impl Cursor {
    /// Reads a consumer's cursor; at the beginning when it has none, or none that can be read.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load(storage: &dyn Storage, consumer: &str) -> io::Result<Self> {
        let bytes = storage::whole(storage, &file(consumer), 64)?.unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        Ok(Self { next: numbers.next().unwrap_or(0), released: numbers.next().unwrap_or(0) })
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn store(self, storage: &dyn Storage, consumer: &str) -> io::Result<()> {
        storage::replace(storage, &file(consumer), format!("{} {}\n", self.next, self.released).as_bytes())
    }
}
