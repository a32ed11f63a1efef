//! The embedded store: one SQLite file in WAL mode.
//!
//! One writer thread owns the only writing connection and groups waiting batches into one transaction, so
//! that the cost of a durable commit (`synchronous = FULL`) is shared. What is projected from the trail alone is committed
//! without a sync (`NORMAL`): the trail has it. Readers use a few read-only connections and never wait for the writer.
//!
//! Limits: 64 batches queued and 4 reads at once; who finds no place within 2 seconds is told `Busy`. The file grows to
//! [`Shape::max_bytes`] or to the end of the disk, whichever comes first; then batches are told `Full`, whole, until
//! events expire or somebody makes room. Room that expired events leave is used again, and not given back to the disk.

mod migrate;
mod read;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Done, Expiry, Outcome, Pending, Progress, QueueState, Row, Shape, Statement, Storage, StorageError,
    Transaction,
};
use crate::clock::Timestamp;
use crate::event::Event;
use write::Command;

/// Batches that may wait for the writer.
const QUEUE: usize = 64;
/// Read-only connections.
const READERS: usize = 4;
/// The longest wait for a place in the queue or for a connection.
const PATIENCE: Duration = Duration::from_secs(2);

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ConstraintViolation) => Self::Conflict,
            Some(ErrorCode::TooBig | ErrorCode::TypeMismatch) => Self::Unstorable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The embedded store. See the module's page.
pub struct SqliteStorage {
    /// Taken when the store closes; the writer ends when every sender is gone.
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Readers>,
}

impl SqliteStorage {
    /// Opens or makes the file at `path`, brings its schema up to date and starts the writer.
    ///
    /// # Errors
    /// [`StorageError::Open`], [`StorageError::Newer`], or a failed migration.
    pub fn open(path: &Path, shape: Shape) -> Result<Self, StorageError> {
        let opened = |reason: &dyn std::fmt::Display| StorageError::Open {
            place: path.display().to_string(),
            reason: reason.to_string(),
        };
        let mut connection = Connection::open_with_flags(
            path,
            base_flags() | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )
        .map_err(|error| opened(&error))?;
        restrict(path).map_err(|error| opened(&error))?;
        tune(&connection).map_err(|error| opened(&error))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864; \
                 PRAGMA secure_delete = ON;",
            )
            .map_err(|error| opened(&error))?;
        migrate::run(&mut connection, path)?;
        limit(&connection, shape.max_bytes).map_err(|error| opened(&error))?;

        let readers = Arc::new(Readers::open(path).map_err(|error| opened(&error))?);
        let (commands, queue) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write::run(connection, queue, shape.registration))
            .map_err(|error| opened(&error))?;
        Ok(Self { commands: Mutex::new(Some(commands)), writer: Mutex::new(Some(writer)), readers })
    }

    fn sender(&self) -> Result<mpsc::Sender<Command>, StorageError> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StorageError::Closed)
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StorageError>>) -> Command,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let sender = self.sender()?;
        let place = tokio::time::timeout(PATIENCE, sender.reserve())
            .await
            .map_err(|_| StorageError::Busy)?
            .map_err(|_| StorageError::Closed)?;
        place.send(command(reply));
        answer.await.map_err(|_| StorageError::Closed)?
    }

    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let readers = Arc::clone(&self.readers);
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&readers.free).acquire_owned())
            .await
            .map_err(|_| StorageError::Busy)?
            .map_err(|_| StorageError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            // Lives as long as the query runs, even when the asker has gone away.
            let _permit = permit;
            readers.with(query)
        });
        task.await.map_err(|error| StorageError::Failed(error.to_string()))?
    }
}

impl Storage for SqliteStorage {
    fn project(&self, events: Vec<Event>, progress: Option<Progress>) -> Pending<'_, Vec<Outcome>> {
        Box::pin(self.command(|reply| Command::Project { events, progress, reply }))
    }

    fn read(&self, statement: Statement) -> Pending<'_, Vec<Row>> {
        Box::pin(self.query(move |connection| read::rows(connection, &statement)))
    }

    fn write(&self, transaction: Transaction) -> Pending<'_, Vec<Done>> {
        Box::pin(self.command(move |reply| Command::Write { statements: transaction.statements, reply }))
    }

    fn expire(&self, expiry: Expiry) -> Pending<'_, u64> {
        Box::pin(self.command(move |reply| Command::Expire { expiry, reply }))
    }

    fn probe(&self, now: Timestamp) -> Pending<'_, ()> {
        Box::pin(async move {
            self.command(move |reply| Command::Probe { now, reply }).await?;
            self.query(read::probe).await
        })
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn queue(&self) -> QueueState {
        let depth = self.sender().map_or(0, |sender| QUEUE.saturating_sub(sender.capacity()));
        QueueState { depth, capacity: QUEUE }
    }

    fn close(&self) -> Pending<'_, ()> {
        drop(self.commands.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let Some(writer) = writer else { return Ok(()) };
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            match joined {
                Ok(Ok(())) => Ok(()),
                _ => Err(StorageError::Failed("the writer ended before its queue was empty".to_owned())),
            }
        })
    }
}

/// Copies one moment of the store at `from` into the empty file `to`, while others may write to it, and checks the copy.
///
/// # Errors
/// Either cannot be used, or the copy is not sound.
pub fn copy(from: &Path, to: &Path) -> Result<(), StorageError> {
    let opened = |path: &Path, error: rusqlite::Error| StorageError::Open {
        place: path.display().to_string(),
        reason: error.to_string(),
    };
    let source = Connection::open_with_flags(from, base_flags() | OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| opened(from, error))?;
    let mut target = Connection::open_with_flags(to, base_flags() | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|error| opened(to, error))?;
    source.busy_timeout(Duration::from_secs(5))?;
    let backup = rusqlite::backup::Backup::new(&source, &mut target)?;
    // All pages in one step: with pauses in between, a store that is written to makes the copy begin again and again.
    backup.run_to_completion(i32::MAX, Duration::ZERO, None)?;
    drop(backup);
    let sound: String = target.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    let ours: i64 = target.query_row("SELECT count(*) FROM schema_migrations", [], |row| row.get(0))?;
    match sound.as_str() {
        "ok" if ours > 0 => Ok(()),
        _ => Err(StorageError::Failed(format!("the copy is not sound: {sound}"))),
    }
}

/// Read-only connections that take turns.
struct Readers {
    path: PathBuf,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn open(path: &Path) -> Result<Self, rusqlite::Error> {
        let idle = (0..READERS).map(|_| open_reader(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { path: path.to_owned(), free: Arc::new(Semaphore::new(READERS)), idle: Mutex::new(idle) })
    }

    /// Runs `query` on an idle connection. A connection whose query failed is not used again.
    fn with<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let answer = query(&connection)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(answer)
    }
}

fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, base_flags() | OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    tune(&connection)?;
    connection.execute_batch("PRAGMA query_only = TRUE;")?;
    Ok(connection)
}

/// A connection is used by one thread at a time, and a path is a path: `file:` URIs could switch safety off.
fn base_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn tune(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA mmap_size = 268435456; PRAGMA cache_size = 1000; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = FALSE;",
    )
}

/// A maximum below what the file has already keeps it from growing.
fn limit(connection: &Connection, max_bytes: u64) -> Result<(), rusqlite::Error> {
    let page_bytes: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = max_bytes.checked_div(page_bytes).unwrap_or(0).clamp(1, u64::from(u32::MAX - 1));
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

/// Events name users and addresses: only the owner reads them. SQLite gives its side files the mode of the
/// main one.
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}
