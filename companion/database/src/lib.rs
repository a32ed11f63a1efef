//! The tenants' databases: what they lack is found, proven and applied.
//!
//! [`advise`] reads a database's catalog and statistics ([`catalog`]) and a workload ([`workload`]), works out what each statement asks of each
//! table ([`sql`]), which indexes could serve it ([`candidate`]) and how large they would be ([`size`]), asks the planner what they would
//! save ([`planner`]), and chooses within a storage budget ([`search`]). [`apply`] builds what was approved, watches it, and takes back what
//! harms.
//!
//! Those functions take a connection; how it is made and secured is the caller's affair. [`pool`] keeps connections to many tenants' databases, [`cache`] the answers of
//! read-only statements through them, and [`monitor`] tells which of their statements are slow.

pub mod advise;
pub mod apply;
pub mod bouncer;
pub mod cache;
pub mod candidate;
pub mod catalog;
pub mod findings;
pub mod metric;
pub mod monitor;
pub mod plan;
pub mod planner;
pub mod pool;
pub mod proof;
pub mod replication;
pub mod search;
pub mod size;
pub mod sql;
pub mod sqlite;
pub mod tune;
pub mod workload;

/// Why something could not be done. It names what, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused, or was lost.
    #[error("{}", database(.0))]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be made.
    #[error("{0}")]
    Unreachable(String),
    /// The database is not there, or not any more.
    #[error("{0}; it was removed, or the URL names another")]
    Removed(String),
    /// The server answered something that is not understood.
    #[error("{0} gave an answer that is not understood; is this PostgreSQL 13 to 18?")]
    Unexpected(&'static str),
}

impl Error {
    /// Whether the server was lost, or is away: it may go on when it answers again. Whatever else it says, it would say again.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // Classes 08 (connection exception), 53 (no resources), 57 (an operator stepped in) and 58 (the system failed).
            Self::Database(error) => error.code().is_none_or(|code| {
                ["08", "53", "57", "58"].iter().any(|class| code.code().starts_with(class))
            }),
            Self::Removed(_) | Self::Unexpected(_) => false,
        }
    }
}

/// What the server said: the code, the message, its hint. The detail may quote values and is left out.
fn database(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        return match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
    };
    let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}: {}{hint}", said.code().code(), said.message())
}
