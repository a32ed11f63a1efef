//! What a policy may ask its host while it decides: facts of the stream, and state that workers share.

use std::collections::BTreeMap;

use crate::limits;

/// A fact that a host may know about a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact<'a> {
    /// The address of the connection's other end, `ip:port`.
    SourceAddress,
    /// The route's name in the host's own configuration.
    RouteName,
    /// The virtual host's name in the host's own configuration.
    VirtualHost,
    /// The JSON text under our namespace in the route's metadata.
    RouteMetadata,
    /// A claim of a JSON Web Token that the host has verified.
    JwtClaim(&'a str),
    /// The subject of the client's certificate that the host has verified.
    PeerSubject,
    /// Anything at all that the named filter left on this stream: proof that it ran.
    FilterMark(&'a str),
}

/// What the host knows of a stream. Each question may cost a host call: ask only for what is configured.
pub trait Facts {
    /// The fact as bytes; `None` when the host does not know it or has no such notion.
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>>;

    /// Whether all of a request whose body is inspected still waits, headers included, so that they can be changed by what
    /// the body holds. Costs nothing to ask. A host that does not know lets something go.
    fn holds_request(&self) -> bool {
        false
    }
}

/// A host that knows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFacts;

impl Facts for NoFacts {
    fn fact(&mut self, _: Fact<'_>) -> Option<Vec<u8>> {
        None
    }
}

/// The content of a slot and the version to store against.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotValue {
    /// Content; empty when nothing was stored yet. At most [`limits::SHARED_SLOT_BYTES`].
    pub bytes: Vec<u8>,
    /// What [`SharedState::store`] must be given to replace exactly this content.
    pub version: u32,
}

/// Why shared state could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateError {
    /// The slot number or the size is beyond its limit.
    Limit,
    /// The host refused the call.
    Refused,
}

/// What became of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreResult {
    /// It is in place.
    Stored,
    /// Somebody else stored first: load again.
    Conflict,
}

/// A fixed number of small slots that all workers of a process share: [`limits::SHARED_SLOTS`] of at most
/// [`limits::SHARED_SLOT_BYTES`] bytes. A host without such a thing gives each worker its own ([`LocalSlots`]).
pub trait SharedState {
    /// Reads a slot.
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError>;

    /// Replaces a slot's content, if it still has the version that was loaded.
    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError>;

    /// A number that is secret, the same for all workers, and drawn anew by each process: for seeding hashes.
    fn seed(&mut self) -> u64;
}

/// Slots of one instance: for hosts without shared state, and for tests.
#[derive(Debug, Clone, Default)]
pub struct LocalSlots {
    slots: BTreeMap<u32, SlotValue>,
    seed: u64,
}

impl LocalSlots {
    /// Empty slots.
    pub fn new(seed: u64) -> Self {
        Self { slots: BTreeMap::new(), seed }
    }
}

impl SharedState for LocalSlots {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        Ok(self.slots.get(&slot).cloned().unwrap_or_default())
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        if slot >= limits::SHARED_SLOTS || bytes.len() > limits::SHARED_SLOT_BYTES {
            return Err(StateError::Limit);
        }
        let entry = self.slots.entry(slot).or_default();
        if entry.version != version {
            return Ok(StoreResult::Conflict);
        }
        *entry = SlotValue { bytes: bytes.to_vec(), version: version.wrapping_add(1) };
        Ok(StoreResult::Stored)
    }

    fn seed(&mut self) -> u64 {
        self.seed
    }
}
