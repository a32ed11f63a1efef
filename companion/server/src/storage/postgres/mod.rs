//! The store on a PostgreSQL server, 14 or newer.
//!
//! Events are appended by one task, which groups waiting batches into one transaction and holds a lock on the server, so
//! that of several companions one appends at a time: numbers grow in the order in which events become visible, which is
//! what cursors and live streams rest on. Everything else takes a connection of the pool. The tables of events are
//! partitioned by day; days are made ahead, and dropped when all of them is too old ([`partitions`]).
//!
//! Limits: 64 batches queued; [`Shape::connections`] connections, and [`Shape::overflow`] more while those are busy, which end
//! when they were not used for ten seconds; who finds none within [`Shape::pool_wait`] is told `Busy`; a statement that takes
//! 15 seconds is ended. How large it grows is the server's affair; a full disk there is told as `Full`.
//! A role that may create tables in the database's schema is all it needs.

mod append;
mod copy;
mod migrate;
pub mod partitions;
mod target;
mod value;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::{
    Done, Expiry, Outcome, Pending, Progress, QueueState, Row, Shape, SqlValue, Statement, Storage,
    StorageError, Transaction,
};
use crate::clock::Timestamp;
use crate::event::Event;
pub(crate) use target::system_tls;
pub use target::{Target, TargetError};
use value::Utc;

/// Batches that may wait for the writer.
const QUEUE: usize = 64;
/// The longest wait for a place in the queue.
const PATIENCE: Duration = Duration::from_secs(2);
/// A connection beyond those that are kept ends after so long without use.
const OVERFLOW_LIFE: Duration = Duration::from_secs(10);
/// The longest wait for the server to take a new connection.
const CONNECT: Duration = Duration::from_secs(5);

impl From<tokio_postgres::Error> for StorageError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else {
            return match error.is_closed() {
                true => Self::Failed("the connection to the server was lost".to_owned()),
                false => Self::Failed(error.to_string()),
            };
        };
        match *database.code() {
            SqlState::DISK_FULL => Self::Full,
            SqlState::UNIQUE_VIOLATION | SqlState::FOREIGN_KEY_VIOLATION => Self::Conflict,
            SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::LOCK_NOT_AVAILABLE
            | SqlState::QUERY_CANCELED => Self::Busy,
            // Class 22: a value that is none of its type.
            ref code if code.code().starts_with("22") => {
                Self::Unstorable(format!("{}: {}", code.code(), database.message()))
            }
            // The detail beside the message may quote values.
            _ => Self::Failed(format!("{}: {}", database.code().code(), database.message())),
        }
    }
}

impl From<PoolError> for StorageError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(_) => Self::Busy,
            PoolError::Closed => Self::Closed,
            PoolError::Backend(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// The store on a server. See the module's page.
pub struct PostgresStorage {
    pool: Pool,
    /// Taken when the store closes; the writer ends when every sender is gone.
    commands: Mutex<Option<mpsc::Sender<append::Batch>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl PostgresStorage {
    /// Connects, brings the schema up to date, makes the next days' partitions, and starts the writer.
    ///
    /// # Errors
    /// [`StorageError::Open`], [`StorageError::Newer`], or a failed migration.
    pub async fn open(target: &Target, shape: Shape) -> Result<Self, StorageError> {
        let opened = |reason: String| StorageError::Connect { place: target.to_string(), reason };
        let tls = target.tls().map_err(opened)?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(target.config(), tls, recycling))
            .max_size(shape.connections.max(2).saturating_add(shape.overflow))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(shape.pool_wait))
            .create_timeout(Some(CONNECT))
            .build()
            .map_err(|error| opened(error.to_string()))?;
        let mut client = pool.get().await.map_err(|error| opened(reason(&error)))?;
        migrate::run(&mut client, &target.to_string()).await?;
        drop(client);
        let (commands, queue) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(append::run(pool.clone(), queue, shape.registration));
        if shape.overflow > 0 {
            tokio::spawn(shrink(pool.clone(), shape.connections.max(2)));
        }
        Ok(Self { pool, commands: Mutex::new(Some(commands)), writer: Mutex::new(Some(writer)) })
    }

    fn sender(&self) -> Result<mpsc::Sender<append::Batch>, StorageError> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StorageError::Closed)
    }
}

/// Ends connections beyond `kept` that nobody has used for a while, until the pool closes.
async fn shrink(pool: Pool, kept: usize) {
    while !pool.is_closed() {
        tokio::time::sleep(OVERFLOW_LIFE / 2).await;
        let mut excess = pool.status().size.saturating_sub(kept);
        pool.retain(|_, metrics| {
            let ends = excess > 0 && metrics.last_used() > OVERFLOW_LIFE;
            excess = excess.saturating_sub(usize::from(ends));
            !ends
        });
    }
}

/// What hinders a connection; neither the driver nor the server repeats a password.
fn reason(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => match error.as_db_error() {
            Some(database) => database.message().to_owned(),
            None => std::error::Error::source(error)
                .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
        },
        other => other.to_string(),
    }
}

impl Storage for PostgresStorage {
    fn project(&self, events: Vec<Event>, progress: Option<Progress>) -> Pending<'_, Vec<Outcome>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let sender = self.sender()?;
            let place = tokio::time::timeout(PATIENCE, sender.reserve())
                .await
                .map_err(|_| StorageError::Busy)?
                .map_err(|_| StorageError::Closed)?;
            place.send(append::Batch { events, progress, reply });
            answer.await.map_err(|_| StorageError::Closed)?
        })
    }

    fn read(&self, statement: Statement) -> Pending<'_, Vec<Row>> {
        Box::pin(async move {
            let client = self.pool.get().await?;
            let prepared = client.prepare_cached(&value::numbered(statement.for_postgres())).await?;
            let rows = client.query(&prepared, &parameters(&statement.values)).await?;
            rows.iter().map(value::row).collect()
        })
    }

    fn write(&self, transaction: Transaction) -> Pending<'_, Vec<Done>> {
        Box::pin(async move {
            let mut client = self.pool.get().await?;
            write(&mut client, transaction).await
        })
    }

    fn expire(&self, expiry: Expiry) -> Pending<'_, u64> {
        Box::pin(async move {
            let mut client = self.pool.get().await?;
            partitions::expire(&mut client, expiry).await
        })
    }

    fn probe(&self, now: Timestamp) -> Pending<'_, ()> {
        Box::pin(async move {
            let client = self.pool.get().await?;
            let statement = "INSERT INTO store_probe (id, written_at) VALUES (1, $1) \
                 ON CONFLICT (id) DO UPDATE SET written_at = excluded.written_at";
            client.execute(&client.prepare_cached(statement).await?, &[&Utc(now)]).await?;
            Ok(())
        })
    }

    fn kind(&self) -> &'static str {
        "postgresql"
    }

    fn queue(&self) -> QueueState {
        let depth = self.sender().map_or(0, |sender| QUEUE.saturating_sub(sender.capacity()));
        QueueState { depth, capacity: QUEUE }
    }

    fn close(&self) -> Pending<'_, ()> {
        drop(self.commands.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            if let Some(writer) = writer {
                writer.await.map_err(|error| StorageError::Failed(error.to_string()))?;
            }
            self.pool.close();
            Ok(())
        })
    }
}

fn parameters(values: &[SqlValue]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

async fn write(client: &mut Client, transaction: Transaction) -> Result<Vec<Done>, StorageError> {
    // Prepared before the transaction begins: a round trip less while locks are held.
    let mut prepared = Vec::with_capacity(transaction.statements.len());
    for statement in &transaction.statements {
        prepared.push(client.prepare_cached(&value::numbered(statement.for_postgres())).await?);
    }
    let open = client.transaction().await?;
    if let Some(lock) = &transaction.lock {
        let take = open.prepare_cached("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").await?;
        open.query(&take, &[lock]).await?;
    }
    let mut done = Vec::with_capacity(prepared.len());
    for (statement, prepared) in transaction.statements.iter().zip(prepared) {
        let values = parameters(&statement.values);
        let step = if prepared.columns().is_empty() {
            Done { changed: open.execute(&prepared, &values).await?, rows: Vec::new() }
        } else {
            let rows = open.query(&prepared, &values).await?;
            let rows = rows.iter().map(value::row).collect::<Result<Vec<_>, _>>()?;
            Done { changed: u64::try_from(rows.len()).unwrap_or(u64::MAX), rows }
        };
        // Dropping the transaction takes it back.
        statement.check(step.changed)?;
        done.push(step);
    }
    open.commit().await?;
    Ok(done)
}
