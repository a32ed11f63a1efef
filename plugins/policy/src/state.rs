//! What a policy may ask its host while it decides: facts of the stream, and state that workers share.

use std::collections::BTreeMap;

use crate::{Tenant, limits};

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
    /// A variable of the host's environment, of those that it lets us see: where secrets stand.
    Environment(&'a str),
    /// Anything at all that the named filter left on this stream: proof that it ran.
    FilterMark(&'a str),
}

/// What the host knows of a stream. Each question may cost a host call: ask only for what is configured.
pub trait Facts {
    /// The fact as bytes; `None` when the host does not know it or has no such notion.
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>>;

    /// 32 random bytes that are fit for a key, fresh with each call; `None` where the host has none. [`crate::Moment::random`] is
    /// for names only.
    fn entropy(&mut self) -> Option<[u8; 32]> {
        None
    }

    /// Whether all of a request whose body is inspected still waits, headers included, so that they can be changed by what
    /// the body holds. Costs nothing to ask. A host that does not know lets something go.
    fn holds_request(&self) -> bool {
        false
    }

    /// Whether the request may wait ([`crate::Effect::Wait`]): not when the host holds as much of its body already as it
    /// can. Costs nothing to ask.
    fn may_wait(&self) -> bool {
        true
    }

    /// Whether a text in the response's body can be replaced by another of the same length. Costs nothing to ask.
    fn rewrites_responses(&self) -> bool {
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

    /// What this worker keeps beyond one request, and does between requests; `None` where nothing is done between
    /// requests.
    fn worker(&mut self) -> Option<&mut dyn WorkerState> {
        None
    }

    /// Where something is written down durably while a request waits; `None` where nobody could be asked to.
    fn journal(&mut self) -> Option<&mut dyn Journal> {
        None
    }
}

/// What a journal calls a line that was handed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What has become of a line that was handed to a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows yet: the request waits ([`crate::Effect::Wait`]).
    Pending,
    /// It is stored, and survives the death of whoever stored it.
    Durable,
    /// It is not, as far as is known.
    Failed,
}

/// Writes lines down durably, while the requests that they are about wait.
pub trait Journal {
    /// Hands a line over, the text of one JSON object that ends with the three braces of
    /// `{..., "unmapped": {"portcullis": {...}}}`, like [`crate::Effect::Record`]. `None` when it will not be written: there is
    /// no room, or nobody answers.
    fn write(&mut self, line: &[u8]) -> Option<Ticket>;

    /// What has become of it. Asked each time that the request is decided again.
    fn fate(&mut self, ticket: Ticket) -> Fate;

    /// Nobody waits for it any more: it need not be written, if it was not yet.
    fn withdraw(&mut self, ticket: Ticket);
}

/// What a worker keeps beyond one request, and does between requests.
pub trait WorkerState {
    /// The stream holds `count` of something in that slot, under that tag, since that epoch: the worker renews it for
    /// as long as the stream lasts.
    fn hold(&mut self, held: Held);

    /// The stream lets go of it; the epoch to which it was renewed. `None` when the worker does not know it.
    fn release(&mut self, held: Held) -> Option<u32>;

    /// A rate of the tenant's own policy; `None` when it has none, or it is not known yet.
    fn rate(&mut self, tenant: &Tenant, name: &str) -> Option<u32>;

    /// Whether tokens of limits that all proxies share can be had.
    fn leases(&self) -> Leases;

    /// Asks for tokens, as soon as may be.
    fn ask(&mut self, ask: LeaseAsk);

    /// Where it is kept what of that entry was debited ahead; there may be another's in it. `None` where nothing may be: where
    /// what was decided is not stored yet, and may never be.
    fn ahead(&mut self, slot: u32, tag: u32) -> Option<&mut Ahead> {
        let _ = (slot, tag);
        None
    }
}

/// A stretch of a limit's time that a worker has debited ahead of its requests. Of one key at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    /// The shared slot.
    pub slot: u32,
    /// Which entry there.
    pub tag: u32,
    /// The limit by which it was debited.
    pub limit: u32,
    /// Where what is not spent yet begins: nanoseconds, and parts of one.
    pub from: (u64, u32),
    /// Where it ends.
    pub until: (u64, u32),
    /// When the key last came, in nanoseconds.
    pub seen_ns: u64,
}

/// Whether tokens of limits that all proxies share can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// This host cannot ask anybody: each process limits for itself.
    None,
    /// Whoever grants them does not answer.
    Away,
    /// They can be asked for, but no further request may wait for the answer.
    Ask,
    /// They can be asked for, and a request may wait for the answer ([`crate::Effect::Wait`]).
    Wait,
}

/// An ask for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The shared slot where the lease is.
    pub slot: u32,
    /// Which entry there.
    pub tag: u32,
    /// The tenant.
    pub tenant: String,
    /// The rule.
    pub rule: String,
    /// Who within the tenant, in words that all proxies write alike.
    pub subject: String,
    /// Units a window.
    pub limit: u32,
    /// The window in milliseconds.
    pub window_ms: u64,
    /// Units at once.
    pub burst: u32,
    /// Units that are needed now.
    pub need: u32,
    /// Units that are asked for at most, if fewer are needed.
    pub most: u32,
}

/// Something held by a stream that others must be able to take as gone when its worker dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The shared slot.
    pub slot: u32,
    /// Which entry there.
    pub tag: u32,
    /// How many.
    pub count: u16,
    /// When it was last renewed, in the policy's own count.
    pub epoch: u32,
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
