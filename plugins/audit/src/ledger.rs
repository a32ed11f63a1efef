//! Who still owes records: a small entry per VM in slots that outlive it.
//!
//! A VM that traps takes its queue with it. So each VM keeps an [`Entry`] in a slot of the host's shared data: its
//! life's random epoch, how many records it has promised, how many are accounted for, and a beat that each tick
//! moves. It is written once per request, when the request begins, so that a request in whose middle the VM dies is
//! counted too. A VM that sees the beat of another stand still for [`QUIET_TICKS`] of its own ticks (its own, so that a
//! process that was stopped as a whole does not take itself for dead) reports what is missing. By compare-and-swap one
//! of several does; it keeps the entry beating until the report is stored, and another takes over if it dies too. The
//! report's number follows from the entry alone, so the companion stores it once, whoever sends it.
//!
//! It cannot know of a process that dies as a whole: its shared data dies too.
//! Limits: [`SLOTS`] VMs at a time; one more works unwatched.

use portcullis_policy::{StateError, StoreResult};

/// Entries that there is room for.
pub const SLOTS: u16 = 256;
/// Ticks without a beat after which a VM is dead.
pub const QUIET_TICKS: u8 = 6;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;

/// The slots, as a host offers them.
pub trait Board {
    /// A slot's content and version; `None` when it was never written.
    fn read(&mut self, slot: u16) -> Result<Option<(Vec<u8>, u32)>, StateError>;

    /// Replaces the content if it still has that version; `None`: if it was never written.
    fn replace(&mut self, slot: u16, bytes: &[u8], version: Option<u32>) -> Result<StoreResult, StateError>;

    /// Replaces the content in any case.
    fn write(&mut self, slot: u16, bytes: &[u8]) -> Result<(), StateError>;
}

/// What a VM owes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// Which life.
    pub epoch: u64,
    /// Records that there are or will be, and those that it dropped and has not reported yet.
    pub promised: u64,
    /// Of these, the first so many are accounted for.
    pub settled: u64,
    /// Moved with each tick.
    pub beat: u64,
}

impl Entry {
    fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let numbers = [self.epoch, self.promised, self.settled, self.beat];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
        let mut numbers =
            bytes.chunks_exact(8).map(|eight| eight.try_into().map(u64::from_le_bytes).unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        Some(Self { epoch: next(), promised: next(), settled: next(), beat: next() })
    }

    /// Records that are missing.
    pub fn owed(&self) -> u64 {
        self.promised.saturating_sub(self.settled)
    }
}

/// An entry that nobody keeps any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    slot: u16,
    version: u32,
    /// What is owed.
    pub entry: Entry,
}

/// What a tick found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Somebody took this VM for dead: its records up to now are reported as missing, and it needs a new epoch.
    pub evicted: bool,
    /// Entries to report, if [`Ledger::adopt`] agrees.
    pub dead: Vec<Dead>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    version: u32,
    quiet: u8,
}

#[derive(Debug, Clone, Copy)]
struct Adopted {
    slot: u16,
    entry: Entry,
    /// Of the report in the queue.
    position: u64,
}

/// One VM's view of the slots.
#[derive(Debug, Default)]
pub struct Ledger {
    slot: Option<u16>,
    /// No slot was to be had; the next tick tries again.
    sought: bool,
    beat: u64,
    watched: Vec<Watched>,
    adopted: Vec<Adopted>,
}

impl Ledger {
    /// Whether this VM has a slot, or has not needed one yet.
    pub fn is_watched(&self) -> bool {
        self.slot.is_some() || !self.sought
    }

    /// Writes down what this VM owes. It takes a slot when it has none: a VM without traffic needs none.
    pub fn note(&mut self, board: &mut dyn Board, mut entry: Entry) {
        entry.beat = self.beat;
        if self.slot.is_none() && !self.sought {
            self.sought = true;
            self.slot = claim(board, &entry.encode());
            return;
        }
        if let Some(slot) = self.slot {
            // A write that the host refuses leaves the last one: the next request writes again.
            let _ = board.write(slot, &entry.encode());
        }
    }

    /// Moves the own beat and looks at all the others.
    pub fn tick(&mut self, board: &mut dyn Board, own: Entry) -> Found {
        self.beat = self.beat.wrapping_add(1);
        self.sought = self.slot.is_some();
        let mut found = Found::default();
        for slot in 0..SLOTS {
            let Ok(Some((bytes, version))) = board.read(slot) else { break };
            let entry = Entry::decode(&bytes);
            if self.slot == Some(slot) {
                if entry.is_some_and(|entry| entry.epoch == own.epoch) {
                    self.note(board, own);
                } else {
                    (self.slot, self.sought, found.evicted) = (None, false, true);
                }
            } else if self.adopted.iter().any(|adopted| adopted.slot == slot) {
                self.keep(board, slot, entry, version);
            } else if let Some(entry) = entry {
                self.watch(board, Dead { slot, version, entry }, &mut found);
            }
        }
        found
    }

    /// Keeps an adopted entry alive; forgets it if it is another's by now.
    fn keep(&mut self, board: &mut dyn Board, slot: u16, entry: Option<Entry>, version: u32) {
        self.adopted.retain_mut(|adopted| {
            if adopted.slot != slot {
                return true;
            }
            let mine = entry.is_some_and(|entry| entry.epoch == adopted.entry.epoch);
            adopted.entry.beat = adopted.entry.beat.wrapping_add(1);
            mine && board.replace(slot, &adopted.entry.encode(), Some(version)) == Ok(StoreResult::Stored)
        });
    }

    fn watch(&mut self, board: &mut dyn Board, seen: Dead, found: &mut Found) {
        let index = usize::from(seen.slot);
        if self.watched.len() <= index {
            self.watched.resize(index.saturating_add(1), Watched::default());
        }
        let Some(watched) = self.watched.get_mut(index) else { return };
        if watched.version != seen.version {
            *watched = Watched { version: seen.version, quiet: 0 };
            return;
        }
        watched.quiet = watched.quiet.saturating_add(1);
        if watched.quiet < QUIET_TICKS {
            return;
        }
        if seen.entry.owed() == 0 {
            // Nothing is owed: the slot is free again. Whoever loses this race finds it free, or taken.
            let _ = board.replace(seen.slot, &[], Some(seen.version));
        } else {
            found.dead.push(seen);
        }
    }

    /// Takes over a dead VM's entry; false when somebody else did.
    pub fn adopt(&mut self, board: &mut dyn Board, mut dead: Dead, position: u64) -> bool {
        dead.entry.beat = dead.entry.beat.wrapping_add(1);
        let taken =
            board.replace(dead.slot, &dead.entry.encode(), Some(dead.version)) == Ok(StoreResult::Stored);
        if taken {
            self.adopted.push(Adopted { slot: dead.slot, entry: dead.entry, position });
        }
        taken
    }

    /// Frees the slots whose report is settled. If it was lost, they are only let go: their beat stops, and they will
    /// be reported again.
    pub fn release(&mut self, board: &mut dyn Board, is_settled: impl Fn(u64) -> bool, lost: bool) {
        self.adopted.retain(|adopted| {
            if !is_settled(adopted.position) {
                return true;
            }
            if !lost
                && let Ok(Some((bytes, version))) = board.read(adopted.slot)
                && Entry::decode(&bytes).is_some_and(|entry| entry.epoch == adopted.entry.epoch)
            {
                let _ = board.replace(adopted.slot, &[], Some(version));
            }
            false
        });
    }

    /// Gives the own slot back, when nothing is owed and the VM ends.
    pub fn leave(&mut self, board: &mut dyn Board) {
        if let Some(slot) = self.slot.take() {
            let _ = board.write(slot, &[]);
        }
    }
}

/// The first free slot.
fn claim(board: &mut dyn Board, bytes: &[u8]) -> Option<u16> {
    for slot in 0..SLOTS {
        let version = match board.read(slot) {
            Ok(None) => None,
            Ok(Some((content, version))) if content.is_empty() => Some(version),
            Ok(Some(_)) => continue,
            Err(_) => return None,
        };
        if board.replace(slot, bytes, version) == Ok(StoreResult::Stored) {
            return Some(slot);
        }
    }
    None
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
