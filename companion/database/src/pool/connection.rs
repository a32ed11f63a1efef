//! One connection: made, proven, and its permit kept until the server has seen its end.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::sqlite::{SqliteError, Worker};
use super::target::{self, Rules, Target};
use super::{CONNECT, Inner};

/// How often who waits for a permit asks for a connection to be closed.
const EVICT_PAUSE: Duration = Duration::from_millis(50);
/// What a connection may take to end after its client is gone: a statement that still runs there, which has 30 seconds.
const LAST_WORK: Duration = Duration::from_secs(35);

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It took too long, or no place under the cap became free.
    #[error("the database did not take a connection within {0:?}")]
    Timeout(Duration),
    /// The name has no address.
    #[error("the host's name could not be resolved: {0}; check it in the tenant's database_url")]
    Resolve(String),
    /// An address that is not for tenants.
    #[error(transparent)]
    Target(#[from] target::TargetError),
    /// The server refused.
    #[error("{}; check the tenant's database_url, that the server runs, and its pg_hba.conf", crate::database(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The file cannot be used.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The pools are gone.
    #[error("the pools were closed")]
    Closed,
}

/// A connection.
pub enum Connection {
    /// To a server.
    Postgres {
        /// Speaks to it.
        client: tokio_postgres::Client,
        /// The server's process.
        pid: i32,
        /// Dropped with the client.
        _alive: tokio::sync::oneshot::Sender<()>,
    },
    /// To a file.
    Sqlite {
        /// The thread that has it.
        worker: Worker,
        /// Counts as long as the thread has it.
        _permit: OwnedSemaphorePermit,
        /// For logs.
        number: u64,
    },
}

/// Makes connections of one tenant.
pub struct Connector {
    target: Target,
    rules: Rules,
    tls: MakeRustlsConnect,
    pools: Weak<Inner>,
}

impl Connector {
    pub(super) fn new(target: Target, rules: Rules, tls: MakeRustlsConnect, pools: Weak<Inner>) -> Self {
        Self { target, rules, tls, pools }
    }

    /// A place under the cap. There always is one, or a connection that nobody uses: who asks here has a place of the gate, and
    /// the gate has no more of them than there are permits.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, ConnectError> {
        let pools = self.pools.upgrade().ok_or(ConnectError::Closed)?;
        let wait = async {
            loop {
                if let Ok(permit) = Arc::clone(&pools.cap).try_acquire_owned() {
                    return Some(permit);
                }
                pools.evict();
                let next = Arc::clone(&pools.cap).acquire_owned();
                if let Ok(permit) = tokio::time::timeout(EVICT_PAUSE, next).await {
                    return permit.ok();
                }
            }
        };
        match tokio::time::timeout(CONNECT, wait).await {
            Ok(permit) => permit.ok_or(ConnectError::Closed),
            Err(_) => Err(ConnectError::Timeout(CONNECT)),
        }
    }

    async fn postgres(
        &self,
        config: &tokio_postgres::Config,
        permit: OwnedSemaphorePermit,
    ) -> Result<Connection, ConnectError> {
        let mut config = config.clone();
        if let Some(address) = self.resolved(&config).await? {
            config.hostaddr(address);
        }
        let connecting = config.connect(self.tls.clone());
        let (client, connection) =
            tokio::time::timeout(CONNECT, connecting).await.map_err(|_| ConnectError::Timeout(CONNECT))??;
        let (alive, gone) = tokio::sync::oneshot::channel();
        tokio::spawn(until_the_end(connection, gone, permit));
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
        Ok(Connection::Postgres { pid: row.try_get(0)?, client, _alive: alive })
    }

    /// The address of the host, every one of which is allowed; none for a socket.
    async fn resolved(&self, config: &tokio_postgres::Config) -> Result<Option<IpAddr>, ConnectError> {
        let Some(Host::Tcp(name)) = config.get_hosts().first() else { return Ok(None) };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let name = name.trim_matches(['[', ']']);
        let found = tokio::time::timeout(CONNECT, tokio::net::lookup_host((name, port)))
            .await
            .map_err(|_| ConnectError::Timeout(CONNECT))?
            .map_err(|error| ConnectError::Resolve(error.to_string()))?;
        let mut first = None;
        for address in found {
            let address = address.ip().to_canonical();
            if !self.rules.permits(address) {
                return Err(target::TargetError::Private(address).into());
            }
            first = first.or(Some(address));
        }
        first.map(Some).ok_or_else(|| ConnectError::Resolve("it has no address".to_owned()))
    }
}

/// Moves a connection's bytes until the server has answered what was asked and its client is gone, or until it is lost. Only then is its place
/// under the cap free.
async fn until_the_end<C>(
    connection: C,
    gone: tokio::sync::oneshot::Receiver<()>,
    permit: OwnedSemaphorePermit,
) where
    C: Future<Output = Result<(), tokio_postgres::Error>>,
{
    let too_long = async {
        // It says nothing; it is dropped.
        let _ = gone.await;
        tokio::time::sleep(LAST_WORK).await;
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(category = "application", %error, "a connection to a tenant's database ended");
        },
        () = too_long => {}
    }
    drop(permit);
}

impl Manager for Connector {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let permit = self.permit().await?;
        match &self.target {
            Target::Postgres(config) => self.postgres(config, permit).await,
            Target::Sqlite(path) => {
                let path = target::file(&path.to_string_lossy(), &self.rules)?;
                let worker = Worker::open(path).await?;
                Ok(Connection::Sqlite {
                    worker,
                    _permit: permit,
                    number: NUMBER.fetch_add(1, Ordering::Relaxed),
                })
            }
        }
    }

    /// Proves that it lives, and takes away what its last user has left: settings, temporary tables, an open transaction ends it.
    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<ConnectError> {
        match connection {
            Connection::Postgres { client, .. } => {
                if client.is_closed() {
                    return Err(RecycleError::message("the server has ended the connection"));
                }
                client.batch_execute("DISCARD ALL").await.map_err(|error| RecycleError::Backend(error.into()))
            }
            Connection::Sqlite { worker, .. } => {
                worker.prove().await.map_err(|error| RecycleError::Backend(error.into()))
            }
        }
    }
}
