//! Shared data as slots that all workers of a process see.
//!
//! Keys are of a fixed set, so that the host's table, which never forgets, is bounded: one seed, and
//! [`limits::SHARED_SLOTS`] slots per instance of the module.

use portcullis_policy::{LocalSlots, SharedState, SlotValue, StateError, StoreResult, limits};

use crate::{
    abi::{self, Status},
    clock::Clock,
};

/// Stores only if the key does not exist: no stored value ever has this version, so on an existing key it mismatches;
/// and a host that takes a non-zero version on a missing key creates it.
pub const CREATE: u32 = u32::MAX;

/// The slots of one instance.
pub enum Slots {
    /// The host's shared data, under keys that start with the instance's name.
    Shared {
        /// `portcullis.<instance>.`
        prefix: Vec<u8>,
        /// The same for all workers.
        seed: u64,
    },
    /// The host has none: each worker counts for itself.
    Local(LocalSlots),
}

impl Slots {
    /// Probes the host; the second value is false when it has no shared data.
    pub fn open(instance: &[u8], clock: &Clock) -> (Self, bool) {
        let prefix = prefix(instance);
        match shared_seed(&prefix, clock) {
            Some(seed) => (Self::Shared { prefix, seed }, true),
            None => (Self::Local(LocalSlots::new(clock.random())), false),
        }
    }

    /// A key of this instance.
    fn key(prefix: &[u8], slot: u32) -> Vec<u8> {
        let mut key = Vec::with_capacity(prefix.len().saturating_add(4));
        key.extend_from_slice(prefix);
        key.extend_from_slice(&slot.to_le_bytes());
        key
    }
}

/// What all keys of an instance begin with.
pub fn prefix(instance: &[u8]) -> Vec<u8> {
    [b"portcullis.", instance.get(..64).unwrap_or(instance), b"."].concat()
}

/// The seed that the first worker drew; whoever comes later reads it.
fn shared_seed(prefix: &[u8], clock: &Clock) -> Option<u64> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(b"seed");
    for _ in 0..4 {
        match abi::shared_data(&key) {
            Ok((bytes, _)) if bytes.len() == 8 => {
                return bytes.try_into().ok().map(u64::from_le_bytes);
            }
            Ok(_) | Err(Status::NOT_FOUND) => {
                match abi::set_shared_data(&key, &clock.random().to_le_bytes(), CREATE) {
                    Ok(()) | Err(Status::CAS_MISMATCH) => {}
                    Err(_) => return None,
                }
            }
            Err(_) => return None,
        }
    }
    None
}

/// The slots, and what the worker keeps beside them.
pub struct Shared {
    /// The slots.
    pub slots: Slots,
    /// What is done for limits between requests.
    #[cfg(feature = "rate-limit")]
    pub desk: portcullis_chain::rate_limit::desk::Desk,
    /// Intents of requests that wait.
    #[cfg(feature = "audit")]
    pub lane: portcullis_chain::audit::strict::Lane,
}

impl Shared {
    /// Of a worker that has just started; `epoch` is random. Whether the host can call the companion is not known yet.
    pub fn new(slots: Slots, #[cfg(feature = "audit")] epoch: u64) -> Self {
        #[cfg(feature = "rate-limit")]
        let (mut slots, desk) = (slots, portcullis_chain::rate_limit::desk::Desk::new);
        Self {
            #[cfg(feature = "rate-limit")]
            desk: desk(slots.seed(), false),
            #[cfg(feature = "audit")]
            lane: portcullis_chain::audit::strict::Lane::new(epoch),
            slots,
        }
    }
}

impl SharedState for Shared {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        self.slots.load(slot)
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        self.slots.store(slot, bytes, version)
    }

    fn seed(&mut self) -> u64 {
        self.slots.seed()
    }

    #[cfg(feature = "rate-limit")]
    fn worker(&mut self) -> Option<&mut dyn portcullis_policy::WorkerState> {
        Some(&mut self.desk)
    }

    #[cfg(feature = "audit")]
    fn journal(&mut self) -> Option<&mut dyn portcullis_policy::Journal> {
        Some(&mut self.lane)
    }
}

impl SharedState for Slots {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        match self {
            Self::Local(local) => local.load(slot),
            Self::Shared { prefix, .. } => match abi::shared_data(&Self::key(prefix, slot)) {
                Ok((bytes, version)) => Ok(SlotValue { bytes, version }),
                Err(Status::NOT_FOUND) => Ok(SlotValue { bytes: Vec::new(), version: CREATE }),
                Err(_) => Err(StateError::Refused),
            },
        }
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        if slot >= limits::SHARED_SLOTS || bytes.len() > limits::SHARED_SLOT_BYTES {
            return Err(StateError::Limit);
        }
        match self {
            Self::Local(local) => local.store(slot, bytes, version),
            Self::Shared { prefix, .. } => {
                // Version 0 would store in any case; no host gives it to a stored value.
                match abi::set_shared_data(&Self::key(prefix, slot), bytes, version.max(1)) {
                    Ok(()) => Ok(StoreResult::Stored),
                    Err(Status::CAS_MISMATCH) => Ok(StoreResult::Conflict),
                    Err(_) => Err(StateError::Refused),
                }
            }
        }
    }

    fn seed(&mut self) -> u64 {
        match self {
            Self::Local(local) => local.seed(),
            Self::Shared { seed, .. } => *seed,
        }
    }
}
