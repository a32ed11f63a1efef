//! A connection to a file of SQLite, on a thread of its own: SQLite waits for disks and locks, and nobody else shall.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use crate::sqlite as settings;

/// Why a file of SQLite was not to be used.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// SQLite said so.
    #[error("{0}; check the file, its owner and the free space")]
    Sqlite(#[from] rusqlite::Error),
    /// A setting that did not take.
    #[error(transparent)]
    Setting(#[from] settings::SqliteError),
    /// Somebody left a transaction open.
    #[error("a transaction was left open")]
    OpenTransaction,
    /// The thread is gone.
    #[error("the thread that had the file has ended")]
    Ended,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The thread that has the connection; it ends when this is dropped.
pub struct Worker(std::sync::mpsc::Sender<Job>);

impl Worker {
    /// Opens a file that is there, and sets it up.
    ///
    /// # Errors
    /// It cannot be opened, or a setting does not take.
    pub async fn open(path: PathBuf) -> Result<Self, SqliteError> {
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let (opened, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("tenant-sqlite".to_owned()).spawn(move || {
            let mut connection = match open(&path) {
                Ok(connection) => connection,
                Err(error) => {
                    // Who asked may have gone.
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            if opened.send(Ok(())).is_err() {
                return;
            }
            for job in queue {
                job(&mut connection);
            }
            // What it has learnt of the data is kept for the next one; a failure is no loss.
            let _ = connection.execute_batch("PRAGMA optimize;");
        });
        thread.map_err(|_| SqliteError::Ended)?;
        answer.await.map_err(|_| SqliteError::Ended)??;
        Ok(Self(jobs))
    }

    /// Runs `work` on the thread.
    ///
    /// # Errors
    /// What `work` says, or that the thread is gone.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Who asked may have gone.
            let _ = reply.send(work(connection));
        });
        self.0.send(job).map_err(|_| SqliteError::Ended)?;
        Ok(answer.await.map_err(|_| SqliteError::Ended)??)
    }

    /// Proves that it works and has no transaction open.
    ///
    /// # Errors
    /// That it does not.
    pub async fn prove(&self) -> Result<(), SqliteError> {
        let free = self.run(|connection| {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(connection.is_autocommit())
        });
        if free.await? { Ok(()) } else { Err(SqliteError::OpenTransaction) }
    }
}

fn open(path: &Path) -> Result<Connection, SqliteError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    // A schema that somebody else wrote calls no functions with side effects.
    connection.execute_batch("PRAGMA trusted_schema = FALSE;")?;
    settings::settle_connection(&connection)?;
    Ok(connection)
}
