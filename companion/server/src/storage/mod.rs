//! The storage seam: what the companion asks of a database, and nothing of how it is done.
//!
//! [`sqlite`] is the embedded store. Another store implements [`Storage`] and passes the same tests. The
//! promises:
//! - `append` returns after the whole batch is durable, or an error and nothing of it is stored;
//! - a record (epoch, sequence) is stored once, however often it is appended;
//! - an event of a tenant that nobody registered is stored and stays unreadable until the tenant exists;
//! - queues and waits are bounded: a store that cannot keep up says [`StorageError::Busy`];
//! - a store that is full says [`StorageError::Full`] and keeps what it has; it takes events again when there is room.

pub mod sqlite;

use std::future::Future;
use std::pin::Pin;

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::event::{Event, EventType, Severity};
use crate::tenant::TenantId;

/// The most events one page of a query holds.
pub const MAX_PAGE: u32 = 1000;

/// The answer of a store, later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// A database behind the companion.
pub trait Storage: Send + Sync {
    /// Stores a batch in one transaction; one outcome per event, in order.
    fn append(&self, events: Vec<Event>) -> Pending<'_, Vec<Outcome>>;
    /// The newest events that fit `query`, newest first.
    fn events(&self, query: EventQuery) -> Pending<'_, Vec<StoredEvent>>;
    /// Counts of a tenant's events since an instant.
    fn counts(&self, tenant: TenantId, since: Timestamp) -> Pending<'_, EventCounts>;
    /// Whether the tenant exists.
    fn tenant_exists(&self, tenant: TenantId) -> Pending<'_, bool>;
    /// Registers a tenant; `false` when it exists already.
    fn add_tenant(&self, tenant: TenantId, now: Timestamp) -> Pending<'_, bool>;
    /// At most `limit` tenants after `after`, by name.
    fn tenants(&self, after: Option<TenantId>, limit: u32) -> Pending<'_, Vec<TenantId>>;
    /// Removes events older than `before`, and what was stored beside them, but looks at no more than the `most` oldest
    /// ones; tells how many rows went. More may be left when it tells more than none.
    fn expire(&self, before: Timestamp, most: u32) -> Pending<'_, u64>;
    /// Proves that the store takes writes, has room for a batch, and answers reads.
    fn probe(&self, now: Timestamp) -> Pending<'_, ()>;
    /// How full the writer's queue is.
    fn queue(&self) -> QueueState;
    /// Finishes what is queued and closes; later calls answer [`StorageError::Closed`].
    fn close(&self) -> Pending<'_, ()>;
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Stored,
    /// It was there already.
    Duplicate,
    /// A gap record was stored; this many records are really missing.
    GapStored {
        /// Reported, less what arrived.
        missing: u64,
    },
}

/// How full the writer's queue is, in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Waiting.
    pub depth: usize,
    /// At most.
    pub capacity: usize,
}

/// Which events to read. All that is set must fit.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// Whose.
    pub tenant: TenantId,
    /// At most this many; never more than [`MAX_PAGE`].
    pub limit: u32,
    /// Of this type.
    pub event_type: Option<EventType>,
    /// Of this severity.
    pub severity: Option<Severity>,
    /// At or after this instant.
    pub since: Option<Timestamp>,
}

/// An event as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// What happened.
    pub event_type: String,
    /// `INFO`, `WARNING` or `ERROR`.
    pub severity: String,
    /// Who.
    pub user_id: Option<String>,
    /// From where.
    pub ip_address: Option<String>,
    /// Everything else.
    pub details: Map<String, Value>,
}

/// Counts of a tenant's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// All.
    pub total: u64,
    /// Of severity WARNING.
    pub warning: u64,
    /// Of severity ERROR.
    pub error: u64,
    /// Of type RATE_LIMIT_EXCEEDED.
    pub rate_limit_exceeded: u64,
    /// Of type UNAUTHORIZED_ACCESS.
    pub unauthorized_access: u64,
    /// The newest event's instant (RFC 3339), however old it is.
    pub last_event: Option<String>,
}

/// What the tenants of a store may do by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Only an operator adds tenants.
    Operator,
    /// A plain name registers itself when its first record arrives, as long as there are fewer tenants than
    /// this.
    ByTraffic {
        /// At most this many tenants.
        max_tenants: u32,
    },
}

/// What went wrong in a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// Its queue or its connections stayed taken for the longest wait.
    #[error("the store is busy")]
    Busy,
    /// The disk is full, or the store has grown to its maximum.
    #[error(
        "the store is full; free space on its disk, raise DATABASE_MAX_BYTES, or shorten AUDIT_RETENTION"
    )]
    Full,
    /// It is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The place cannot be used.
    #[error(
        "{place}: {reason}; check the path, its owner and the free space, or set DATABASE_URL or DATA_DIR to another place"
    )]
    Open {
        /// The file.
        place: String,
        /// What the store said.
        reason: String,
    },
    /// A newer release wrote it.
    #[error(
        "{place}: written by a newer release (schema {found}, this one knows {known}); start that release, or use another DATABASE_URL"
    )]
    Newer {
        /// The file.
        place: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A statement failed.
    #[error("the store failed: {0}")]
    Failed(String),
}
