//! A connection that is lent: every statement through it is timed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use deadpool::managed::Object;
use tokio_postgres::types::{ToSql, Type};

use super::connection::{Connection, Connector};
use super::gate::Slot;
use super::sqlite::SqliteError;
use super::{Entry, Pools, Slow, Stopwatch, statement};
use crate::cache::effect;
use crate::cache::key::{Context, Values};

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
        if let Some(id) = correlation_id {
            object.announce(id);
        }
        let correlation_id = correlation_id.map(str::to_owned);
        Self { object, _slot: slot, entry, pools, correlation_id, since: Stopwatch::start() }
    }

    /// Runs a statement of PostgreSQL, timed. What it changes is seen by the cache.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn query(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, QueryError> {
        let Connection::Postgres { client, session, .. } = &*self.object else {
            return Err(QueryError::OtherKind);
        };
        let sent = self.pools.0.cache.is_on().then(|| session.before(&effect::of(sql)));
        let started = Stopwatch::start();
        let answer = client.query(sql, values).await;
        if let Some(sent) = sent.filter(|_| !client.is_closed()) {
            session.after(sent);
        }
        let rows = answer.as_ref().ok().and_then(|rows| u64::try_from(rows.len()).ok());
        self.timed(started, rows, || statement::postgres(sql));
        Ok(answer?)
    }

    /// Runs a statement of PostgreSQL in a context of its own, which reads and changes nothing, timed.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn read(
        &self,
        context: &Context,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, QueryError> {
        let Connection::Postgres { client, .. } = &*self.object else { return Err(QueryError::OtherKind) };
        client.batch_execute("BEGIN READ ONLY").await?;
        let started = Stopwatch::start();
        let answer = async {
            let mut set = String::new();
            let settings: Vec<(&str, &str)> = context.assignments().collect();
            let mut texts: Vec<(&(dyn ToSql + Sync), Type)> = Vec::new();
            for (at, (name, value)) in settings.iter().enumerate() {
                let comma = if at == 0 { "SELECT " } else { ", " };
                set.push_str(&format!("{comma}set_config(${}, ${}, true)", 2 * at + 1, 2 * at + 2));
                texts.push((name, Type::TEXT));
                texts.push((value, Type::TEXT));
            }
            if !settings.is_empty() {
                client.query_typed(&set, &texts).await?;
            }
            client.query_typed(sql, values).await
        };
        let answer = answer.await;
        let rows = answer.as_ref().ok().and_then(|rows| u64::try_from(rows.len()).ok());
        self.timed(started, rows, || statement::postgres(sql));
        client.batch_execute("ROLLBACK").await?;
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
    /// `pg_stat_statements` sees it. The cache takes it that everything is being changed until the connection comes back.
    #[must_use]
    pub fn client(&self) -> Option<&tokio_postgres::Client> {
        if let Connection::Postgres { session, .. } = &*self.object {
            session.unseen();
        }
        self.observer()
    }

    /// The same, for who changes nothing of what others read.
    #[must_use]
    pub fn observer(&self) -> Option<&tokio_postgres::Client> {
        match &*self.object {
            Connection::Postgres { client, .. } => Some(client),
            Connection::Sqlite { .. } => None,
        }
    }

    /// Hears from now on what others tell of their changes, on [`crate::cache::CHANNEL`].
    pub(super) async fn listen(&self) -> Result<(), QueryError> {
        let Connection::Postgres { client, session, .. } = &*self.object else {
            return Err(QueryError::OtherKind);
        };
        client.batch_execute(&format!("LISTEN {}", crate::cache::CHANNEL)).await?;
        session.listens();
        Ok(())
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.observer().is_some_and(tokio_postgres::Client::is_closed)
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
        let whose = (&*self.entry, self.correlation_id.as_deref());
        self.pools.timed(whose, started, rows, normal, || self.connection());
    }
}

impl Pools {
    /// Counts a statement, and tells of it if it was slow.
    pub(super) fn timed(
        &self,
        (entry, correlation_id): (&Entry, Option<&str>),
        started: Stopwatch,
        rows: Option<u64>,
        normal: impl FnOnce() -> statement::Normal,
        connection: impl FnOnce() -> String,
    ) {
        let took = started.elapsed();
        entry.counts.statements.fetch_add(1, Ordering::Relaxed);
        if took < self.shape().slow {
            return;
        }
        entry.counts.slow.fetch_add(1, Ordering::Relaxed);
        self.0.tell(Slow {
            tenant: entry.tenant.to_string(),
            statement: normal(),
            took,
            rows,
            connection: connection(),
            correlation_id: correlation_id.map(str::to_owned),
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
