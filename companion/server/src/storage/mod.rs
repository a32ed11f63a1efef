//! The storage seam: what the companion asks of a database, and nothing of how it is done.
//!
//! [`sqlite`] is the embedded store, [`postgres`] the one for those who have a server; both implement [`Storage`] and pass
//! the same tests. Events have methods of their own, made for their number; everything else is asked for in statements
//! that both understand ([`sql`]). The promises:
//! - `project` stores a whole batch and how far the trail has come with it, or an error and nothing of either; what a
//!   crash of the machine takes back, it takes back with the position, so that the trail fills it again;
//! - a record (epoch, sequence) is stored once, however often it comes, with its own time or with that of each arrival;
//! - an event of a tenant that nobody registered is stored and stays unreadable until the tenant exists;
//! - queues and waits are bounded: a store that cannot keep up says [`StorageError::Busy`];
//! - a store that is full says [`StorageError::Full`] and keeps what it has; it takes events again when there is room.

pub mod erasure;
mod events;
pub mod migrations;
pub mod postgres;
pub mod sql;
pub mod sqlite;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::event::{Event, EventType, Severity};
use crate::tenant::TenantId;
pub use sql::{Done, Row, Statement, Transaction, Value as SqlValue};

/// The most events one page of a query holds.
pub const MAX_PAGE: u32 = 1000;

/// The answer of a store, later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// A database behind the companion.
pub trait Storage: Send + Sync {
    /// Stores a batch in one transaction; one outcome per event, in order. With it moves `progress`, or nothing happens
    /// ([`StorageError::Conflict`]) because the position is not where the step begins.
    fn project(&self, events: Vec<Event>, progress: Option<Progress>) -> Pending<'_, Vec<Outcome>>;
    /// The rows that one statement reads.
    fn read(&self, statement: Statement) -> Pending<'_, Vec<Row>>;
    /// Does all statements or none; durable when it returns. One answer per statement.
    fn write(&self, transaction: Transaction) -> Pending<'_, Vec<Done>>;
    /// Removes what is too old; tells how many rows went. More may be left when it tells more than none.
    fn expire(&self, expiry: Expiry) -> Pending<'_, u64>;
    /// Proves that the store takes writes, has room for a batch, and answers reads.
    fn probe(&self, now: Timestamp) -> Pending<'_, ()>;
    /// What kind of store it is: `sqlite` or `postgresql`.
    fn kind(&self) -> &'static str;
    /// How full the writer's queue is.
    fn queue(&self) -> QueueState;
    /// Finishes what is queued and closes; later calls answer [`StorageError::Closed`].
    fn close(&self) -> Pending<'_, ()>;

    /// Stores a batch of no trail, durably.
    fn append(&self, events: Vec<Event>) -> Pending<'_, Vec<Outcome>> {
        self.project(events, None)
    }

    /// How far the trail of this name has been projected.
    fn projected(&self, log: &str) -> Pending<'_, u64> {
        let statement = Statement::new("SELECT next FROM trail_positions WHERE log = ?1").bind(log);
        Box::pin(async move {
            let rows = self.read(statement).await?;
            let next = rows.first().map(|row| row.int(0)).transpose()?;
            Ok(next.and_then(|next| u64::try_from(next).ok()).unwrap_or(0))
        })
    }

    /// The events that fit `query`, in the order that it asks for.
    fn events(&self, query: EventQuery) -> Pending<'_, Vec<StoredEvent>> {
        Box::pin(async move {
            let rows = self.read(events::page(&query)).await?;
            rows.iter().map(events::stored).collect()
        })
    }

    /// Counts of a tenant's events since an instant.
    fn counts(&self, tenant: TenantId, since: Timestamp) -> Pending<'_, EventCounts> {
        Box::pin(async move {
            let rows = self.read(events::counts(&tenant, since)).await?;
            let last = self.read(events::newest(&tenant)).await?;
            events::summed(&rows, &last)
        })
    }
}

/// What is too old, and how much of it may go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The present: a store that is partitioned by time prepares the next days.
    pub now: Timestamp,
    /// What happened before this goes.
    pub before: Timestamp,
    /// At most so many of the oldest events are looked at, so that batches find their place in between. Whole partitions go at
    /// once, whatever they hold.
    pub most: u32,
}

/// A step of a projection: that the records from one number to before another are in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The trail's name.
    pub log: String,
    /// Where the step begins.
    pub from: u64,
    /// Where the next one does.
    pub to: u64,
    /// The revision that each tenant's keys had when its events were opened. If one has another by now, nothing happens
    /// ([`StorageError::Conflict`]): else a shredding could be overtaken by what was opened before it.
    pub keys: Vec<(String, u64)>,
}

impl Progress {
    /// A step for which no key was used.
    #[must_use]
    pub fn new(log: &str, from: u64, to: u64) -> Self {
        Self { log: log.to_owned(), from, to, keys: Vec::new() }
    }

    /// Moves the position, if it is where the step begins.
    fn statement(&self) -> Statement {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let sql = match self.from {
            0 => {
                "INSERT INTO trail_positions (log, next) VALUES (?1, ?2) \
                 ON CONFLICT (log) DO UPDATE SET next = excluded.next WHERE trail_positions.next = 0"
            }
            _ => "UPDATE trail_positions SET next = ?2 WHERE log = ?1 AND next = ?3",
        };
        let statement = Statement::new(sql).bind(self.log.as_str()).bind(number(self.to)).must_change(1);
        if self.from == 0 { statement } else { statement.bind(number(self.from)) }
    }
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
    /// Before this instant.
    pub until: Option<Timestamp>,
    /// Where to begin, and in which order.
    pub start: Start,
}

/// Where a query of events begins, and in which order it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Newest first, from the newest.
    Newest,
    /// Newest first, from what is older than this one.
    OlderThan(Position),
    /// In the order in which they were stored, after the one with this number.
    StoredAfter(i64),
}

/// Where an event stands: events of one instant are told apart by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// When it happened.
    pub at: Timestamp,
    /// Its number in the store; grows in the order in which events were stored.
    pub id: i64,
}

/// An event as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// When and which.
    pub position: Position,
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
    /// The newest event's instant, however old it is.
    pub last_event: Option<Timestamp>,
}

/// Where a store is.
#[derive(Clone)]
pub enum Place {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A database of PostgreSQL.
    Postgres(Box<postgres::Target>),
}

/// Never a password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(target) => write!(f, "{target}"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a store may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Who adds tenants.
    pub registration: Registration,
    /// The largest file, without its write-ahead log; SQLite only, a server has quotas of its own.
    pub max_bytes: u64,
    /// Connections to a server that are kept.
    pub connections: usize,
    /// Further ones while those are busy.
    pub overflow: usize,
    /// How long somebody waits for one.
    pub pool_wait: Duration,
}

impl Default for Shape {
    /// Tenants are added by an operator; 10 GiB; 10 connections and 20 more; 30 seconds.
    fn default() -> Self {
        Self {
            registration: Registration::Operator,
            max_bytes: 10 * 1024 * 1024 * 1024,
            connections: 10,
            overflow: 20,
            pool_wait: Duration::from_secs(30),
        }
    }
}

/// Opens a store, and brings its schema up to date.
///
/// # Errors
/// It cannot be reached or used, or another release made it.
pub async fn open(place: &Place, shape: Shape) -> Result<Arc<dyn Storage>, StorageError> {
    Ok(match place {
        Place::Sqlite(path) => Arc::new(sqlite::SqliteStorage::open(path, shape)?),
        Place::Postgres(target) => Arc::new(postgres::PostgresStorage::open(target, shape).await?),
    })
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
    /// The server cannot be reached, or does not let us in.
    #[error("{place}: {reason}; check DATABASE_URL, the server and the role's rights")]
    Connect {
        /// The server and the database.
        place: String,
        /// What hindered.
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
    /// A released migration was edited, or another program made the store.
    #[error(
        "{place}: its migration {version} is not this program's; start the release that made it, or use another DATABASE_URL"
    )]
    OtherHistory {
        /// The store.
        place: String,
        /// The first step that differs.
        version: i64,
    },
    /// What was to be changed is not as it was read, or exists already.
    #[error("it has changed meanwhile")]
    Conflict,
    /// A value that the store's types cannot hold, whoever asks and how often.
    #[error("the store cannot hold a value: {0}")]
    Unstorable(String),
    /// A statement failed.
    #[error("the store failed: {0}")]
    Failed(String),
}
