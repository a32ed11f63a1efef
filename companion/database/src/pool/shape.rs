//! How large pools may become, and why there is no connection.

use std::time::Duration;

use super::connection::ConnectError;
use crate::cache::Limits;

/// How large pools may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Connections of a tenant that are kept at most (DATABASE_POOL_SIZE).
    pub size: usize,
    /// Further ones while those are busy (DATABASE_MAX_OVERFLOW).
    pub overflow: usize,
    /// How long somebody waits for one (DATABASE_POOL_TIMEOUT).
    pub wait: Duration,
    /// Connections of all tenants together.
    pub cap: usize,
    /// A statement that takes so long is told of.
    pub slow: Duration,
    /// Answers that are kept, of all tenants together.
    pub cache: Limits,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            size: 10,
            overflow: 20,
            wait: Duration::from_secs(30),
            cap: 100,
            slow: Duration::from_secs(1),
            cache: Limits::default(),
        }
    }
}

impl Shape {
    /// The most that one tenant has at once.
    #[must_use]
    pub fn most(&self) -> usize {
        self.size.saturating_add(self.overflow).clamp(1, self.cap.max(1))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Nobody has put this tenant's database here.
    #[error(
        "this tenant has no database of its own here; give its database_url with PUT /api/tenants/{{tenant_id}}"
    )]
    NoDatabase,
    /// All stayed taken.
    #[error(
        "all connections to this database stayed taken for {0:?}; raise DATABASE_POOL_SIZE, or find what holds them"
    )]
    Timeout(Duration),
    /// Too many wait already.
    #[error("too many wait for this database already; try again later")]
    Crowded,
    /// The server cannot be reached or does not let us in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It is a file.
    #[error("this tenant's database is a file of SQLite; this is for servers of PostgreSQL")]
    NoServer,
    /// The tenant was removed meanwhile.
    #[error("this tenant's database was removed meanwhile")]
    Closed,
}
