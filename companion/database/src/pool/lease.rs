//! A connection that is lent: every statement through it is timed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use deadpool::managed::Object;
use tokio_postgres::types::ToSql;

use super::connection::{Connection, Connector};
use super::gate::Slot;
use super::sqlite::SqliteError;
use super::{Entry, Pools, Slow, Stopwatch, statement};

/// Why a statement did not run.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server said so.
    #[error("{}", crate::database(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// SQLite said so.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// It is the other kind of database.
    #[error("this tenant's database is of another kind")]
    OtherKind,
}

/// A connection that is lent; it goes back when this is dropped.
pub struct Lease {
    // In this order: the connection is back before its place is free.
    object: Object<Connector>,
    _slot: Slot,
    entry: Arc<Entry>,
    pools: Pools,
    correlation_id: Option<String>,
    since: Stopwatch,
}

impl Lease {
    pub(super) fn new(
        object: Object<Connector>,
        slot: Slot,
        entry: Arc<Entry>,
        pools: Pools,
        correlation_id: Option<&str>,
    ) -> Self {
        let correlation_id = correlation_id.map(str::to_owned);
        Self { object, _slot: slot, entry, pools, correlation_id, since: Stopwatch::start() }
    }

    /// Runs a statement of PostgreSQL, timed.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, QueryError> {
        let client = self.client().ok_or(QueryError::OtherKind)?;
        let started = Stopwatch::start();
        let answer = client.query(sql, values).await;
        let rows = answer.as_ref().ok().and_then(|rows| u64::try_from(rows.len()).ok());
        self.timed(started, rows, || statement::postgres(sql));
        Ok(answer?)
    }

    /// Runs work on a file of SQLite, timed; `sql` names it. It tells its value and how many rows it read or changed.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn run<T: Send + 'static>(
        &self,
        sql: &str,
        work: impl FnOnce(&mut rusqlite::Connection) -> Result<(T, u64), rusqlite::Error> + Send + 'static,
    ) -> Result<T, QueryError> {
        let Connection::Sqlite { worker, .. } = &*self.object else { return Err(QueryError::OtherKind) };
        let started = Stopwatch::start();
        let answer = worker.run(work).await;
        let rows = answer.as_ref().ok().map(|(_, rows)| *rows);
        self.timed(started, rows, || statement::sqlite(sql));
        Ok(answer?.0)
    }

    /// The server's client, for what needs more than single statements. What runs through it is not timed here;
    /// `pg_stat_statements` sees it.
    #[must_use]
    pub fn client(&self) -> Option<&tokio_postgres::Client> {
        match &*self.object {
            Connection::Postgres { client, .. } => Some(client),
            Connection::Sqlite { .. } => None,
        }
    }

    /// Which connection it is: `postgres:PID` or `sqlite:N`.
    #[must_use]
    pub fn connection(&self) -> String {
        match &*self.object {
            Connection::Postgres { pid, .. } => format!("postgres:{pid}"),
            Connection::Sqlite { number, .. } => format!("sqlite:{number}"),
        }
    }

    fn timed(&self, started: Stopwatch, rows: Option<u64>, normal: impl FnOnce() -> statement::Normal) {
        let took = started.elapsed();
        self.entry.counts.statements.fetch_add(1, Ordering::Relaxed);
        if took < self.pools.shape().slow {
            return;
        }
        self.entry.counts.slow.fetch_add(1, Ordering::Relaxed);
        self.pools.0.tell(Slow {
            tenant: self.entry.tenant.to_string(),
            statement: normal(),
            took,
            rows,
            connection: self.connection(),
            correlation_id: self.correlation_id.clone(),
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut sizing = self.entry.sizing.lock().unwrap_or_else(PoisonError::into_inner);
        sizing.returned(self.since.elapsed());
        let since = u64::try_from(self.pools.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.entry.used_ms.store(since, Ordering::Relaxed);
    }
}
