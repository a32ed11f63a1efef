//! Slots in memory, for tests.

use std::collections::BTreeMap;

use portcullis_policy::{StateError, StoreResult};

use crate::ledger::Board;

#[derive(Debug, Default)]
pub struct Memory {
    slots: BTreeMap<u16, (Vec<u8>, u32)>,
    version: u32,
    refuses: bool,
    pub calls: u32,
}

impl Memory {
    pub fn refusing() -> Self {
        Self { refuses: true, ..Self::default() }
    }

    pub fn content(&self, slot: u16) -> Option<Vec<u8>> {
        self.slots.get(&slot).map(|(bytes, _)| bytes.clone())
    }

    fn called(&mut self) -> Result<(), StateError> {
        self.calls += 1;
        if self.refuses { Err(StateError::Refused) } else { Ok(()) }
    }
}

impl Board for Memory {
    fn read(&mut self, slot: u16) -> Result<Option<(Vec<u8>, u32)>, StateError> {
        self.called()?;
        Ok(self.slots.get(&slot).cloned())
    }

    fn replace(&mut self, slot: u16, bytes: &[u8], version: Option<u32>) -> Result<StoreResult, StateError> {
        if self.slots.get(&slot).map(|(_, version)| *version) != version {
            self.called()?;
            return Ok(StoreResult::Conflict);
        }
        self.write(slot, bytes)?;
        Ok(StoreResult::Stored)
    }

    fn write(&mut self, slot: u16, bytes: &[u8]) -> Result<(), StateError> {
        self.called()?;
        self.version += 1;
        self.slots.insert(slot, (bytes.to_vec(), self.version));
        Ok(())
    }
}
