//! PgBouncer's console: commands, and figures of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::config::{ADMIN, CONSOLE};

/// How long an answer may take, except that of [`Console::pause`].
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the console does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It is not there, or says no.
    #[error("PgBouncer's console: {}", crate::database(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// In time.
    #[error("PgBouncer's console did not answer within {0:?}")]
    Timeout(Duration),
    /// An answer that is not understood.
    #[error("PgBouncer's console answered without {0}; it must be 1.17 or newer")]
    Unexpected(&'static str),
}

/// A connection to the console. It speaks simple statements only.
pub struct Console(Client);

/// What PgBouncer counts of a database, since it has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Clients with a server or without need of one.
    pub clients_active: u64,
    /// Clients that wait for a server.
    pub clients_waiting: u64,
    /// Connections to the server with a client.
    pub servers_active: u64,
    /// Without.
    pub servers_idle: u64,
    /// How long the client that waits longest has waited.
    pub longest_wait: Duration,
    /// Transactions.
    pub transactions: u64,
    /// Statements.
    pub queries: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Time in transactions.
    pub transaction_time: Duration,
    /// Time in statements.
    pub query_time: Duration,
    /// Time that clients waited for a server.
    pub wait_time: Duration,
}

/// What the console tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its release.
    pub version: String,
    /// By database.
    pub databases: BTreeMap<String, Figures>,
    /// `SHOW LISTS`: what there is of each kind.
    pub lists: BTreeMap<String, u64>,
}

impl Console {
    /// Connects through the socket in `folder`.
    ///
    /// # Errors
    /// Nobody is there, or the password is not the one.
    pub async fn open(folder: &Path, port: u16, password: &str) -> Result<Self, ConsoleError> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(folder).port(port).user(ADMIN).password(password).dbname(CONSOLE);
        let (client, connection) = within(PATIENCE, config.connect(NoTls)).await?;
        // It ends with the client; what is wrong with it is told to who asks.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(client))
    }

    /// Whether the connection is lost.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Reads the files anew. Databases that are not in them any more end, with their clients.
    ///
    /// # Errors
    /// It does not answer, or a file cannot be read.
    pub async fn reload(&self) -> Result<(), ConsoleError> {
        self.command("RELOAD").await
    }

    /// Gives no client of a database a server any more, and waits until what runs there is done. A console on which this timed out still waits and
    /// answers nothing else: open another for [`Console::kill`].
    ///
    /// # Errors
    /// It does not answer, or not within `patience`. The database is paused then all the same; [`Console::resume`] lets it go on.
    pub async fn pause(&self, name: &str, patience: Duration) -> Result<(), ConsoleError> {
        within(patience, self.0.batch_execute(&of("PAUSE", name))).await
    }

    /// Ends all connections of a database, and leaves it paused.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn kill(&self, name: &str) -> Result<(), ConsoleError> {
        self.command(&of("KILL", name)).await
    }

    /// Refuses new clients of a database, or takes them again.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn allow(&self, name: &str, allowed: bool) -> Result<(), ConsoleError> {
        self.command(&of(if allowed { "ENABLE" } else { "DISABLE" }, name)).await
    }

    /// Goes on after [`Console::pause`] or [`Console::kill`].
    ///
    /// # Errors
    /// It does not answer.
    pub async fn resume(&self, name: &str) -> Result<(), ConsoleError> {
        self.command(&of("RESUME", name)).await
    }

    /// All figures.
    ///
    /// # Errors
    /// It does not answer as PgBouncer does.
    pub async fn report(&self) -> Result<Report, ConsoleError> {
        let mut report = Report::default();
        for row in self.rows("SHOW VERSION").await? {
            report.version = row.get(0).unwrap_or_default().to_owned();
        }
        for row in self.rows("SHOW POOLS").await? {
            let figures = report.databases.entry(text(&row, "database")?.to_owned()).or_default();
            figures.clients_active += number(&row, "cl_active")?;
            figures.clients_waiting += number(&row, "cl_waiting")?;
            figures.servers_active += number(&row, "sv_active")?;
            figures.servers_idle += number(&row, "sv_idle")? + number(&row, "sv_used")?;
            let waited = Duration::from_secs(number(&row, "maxwait")?)
                .saturating_add(Duration::from_micros(number(&row, "maxwait_us")?));
            figures.longest_wait = figures.longest_wait.max(waited);
        }
        for row in self.rows("SHOW STATS").await? {
            let figures = report.databases.entry(text(&row, "database")?.to_owned()).or_default();
            figures.transactions = number(&row, "total_xact_count")?;
            figures.queries = number(&row, "total_query_count")?;
            figures.received = number(&row, "total_received")?;
            figures.sent = number(&row, "total_sent")?;
            figures.transaction_time = Duration::from_micros(number(&row, "total_xact_time")?);
            figures.query_time = Duration::from_micros(number(&row, "total_query_time")?);
            figures.wait_time = Duration::from_micros(number(&row, "total_wait_time")?);
        }
        for row in self.rows("SHOW LISTS").await? {
            report.lists.insert(text(&row, "list")?.to_owned(), number(&row, "items")?);
        }
        report.databases.remove(CONSOLE);
        Ok(report)
    }

    async fn command(&self, command: &str) -> Result<(), ConsoleError> {
        within(PATIENCE, self.0.batch_execute(command)).await
    }

    async fn rows(&self, command: &str) -> Result<Vec<SimpleQueryRow>, ConsoleError> {
        let answer = within(PATIENCE, self.0.simple_query(command)).await?;
        Ok(answer
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }
}

/// Names of entries have nothing that ends a quote.
fn of(command: &str, name: &str) -> String {
    format!("{command} \"{name}\"")
}

async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, ConsoleError> {
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ConsoleError::Timeout(patience)),
    }
}

fn text<'a>(row: &'a SimpleQueryRow, column: &'static str) -> Result<&'a str, ConsoleError> {
    row.try_get(column).ok().flatten().ok_or(ConsoleError::Unexpected(column))
}

fn number(row: &SimpleQueryRow, column: &'static str) -> Result<u64, ConsoleError> {
    text(row, column)?.parse().map_err(|_| ConsoleError::Unexpected(column))
}
