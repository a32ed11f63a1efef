//! One connection: made, proven, and its permit kept until the server has seen its end.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::AsyncMessage;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::socket::Socket;
use super::sqlite::{SqliteError, Worker};
use super::target::{self, Rules, Target};
use super::{CONNECT, Inner};
use crate::cache;
use crate::cache::ledger::{Ledger, Session};

/// How often who waits for a permit asks for a connection to be closed.
const EVICT_PAUSE: Duration = Duration::from_millis(50);
/// Characters of `application_name`; the server cuts off what is beyond.
const MAX_NAME: usize = 63;
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
    /// Nobody takes connections there.
    #[error("{0}; check host and port in the tenant's database_url, and that the server runs")]
    Unreachable(String),
    /// Asked for a server that writes, found one that does not.
    #[error(
        "the server only reads (a standby?), and target_session_attrs=read-write stands in the tenant's database_url; name the primary"
    )]
    ReadOnly,
    /// Asked for a server that only reads, found one that writes.
    #[error(
        "the server is no standby, and target_session_attrs=read-only stands in the tenant's database_url; name the standby"
    )]
    Primary,
    /// An address that is not for tenants.
    #[error(transparent)]
    Target(#[from] target::TargetError),
    /// The server refused.
    #[error("{}; {}", crate::database(.0), remedy(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The file cannot be used.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The pools are gone.
    #[error("the pools were closed")]
    Closed,
}

/// What to do when a server does not let us in.
fn remedy(error: &tokio_postgres::Error) -> &'static str {
    use tokio_postgres::error::SqlState;
    match error.code() {
        Some(&(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION)) => {
            "check user and password in the tenant's database_url, and the server's pg_hba.conf"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => "check the database's name in the tenant's database_url",
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            "lower DATABASE_CONNECTIONS_MAX below what the server gives, or raise its max_connections"
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            "GRANT CONNECT ON DATABASE to the role of the tenant's database_url"
        }
        Some(&SqlState::CANNOT_CONNECT_NOW) => "the server starts or stops; try again",
        _ => "check the tenant's database_url, that the server runs, and its pg_hba.conf",
    }
}

/// A connection.
pub enum Connection {
    /// To a server.
    Postgres {
        /// Speaks to it.
        client: tokio_postgres::Client,
        /// The server's process.
        pid: i32,
        /// What the server knows it by when it is idle.
        name: Arc<str>,
        /// What it has under way.
        session: Arc<Session>,
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

impl Connection {
    /// Tells the server for which request it works: in `pg_stat_activity` and in its log. It is sent ahead of the first statement and costs no
    /// wait; the next `DISCARD ALL` takes it back. Not a comment in the statements, which `pg_stat_statements` would keep, of one
    /// request for all.
    pub(super) fn announce(&self, correlation_id: &str) {
        let Self::Postgres { client, name, .. } = self else { return };
        let named: String = format!("{name} {correlation_id}").chars().take(MAX_NAME).collect();
        let values: [(&(dyn ToSql + Sync), Type); 1] = [(&named, Type::TEXT)];
        // Whether it worked shows there; it decides nothing here.
        let _ =
            client.query_typed("SELECT set_config('application_name', $1, false)", &values).now_or_never();
    }
}

/// Makes connections of one tenant.
pub struct Connector {
    target: Target,
    rules: Rules,
    tls: MakeRustlsConnect,
    ledger: Arc<Ledger>,
    pools: Weak<Inner>,
}

impl Connector {
    pub(super) fn new(
        target: Target,
        rules: Rules,
        tls: MakeRustlsConnect,
        ledger: Arc<Ledger>,
        pools: Weak<Inner>,
    ) -> Self {
        Self { target, rules, tls, ledger, pools }
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
        let connecting = async {
            let (socket, domain) = self.socket(config).await?;
            let tls = MakeTlsConnect::<Socket>::make_tls_connect(&mut self.tls.clone(), &domain)
                .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
            Ok::<_, ConnectError>(config.connect_raw(socket, tls).await?)
        };
        let (client, connection) =
            tokio::time::timeout(CONNECT, connecting).await.map_err(|_| ConnectError::Timeout(CONNECT))??;
        let (alive, gone) = tokio::sync::oneshot::channel();
        let session = Arc::new(Session::new(Arc::clone(&self.ledger)));
        tokio::spawn(until_the_end(connection, gone, permit, Arc::clone(&session)));
        let about = "SELECT pg_backend_pid(), current_setting('transaction_read_only') = 'on'";
        let row = client.query_one(about, &[]).await?;
        let (pid, reads_only): (i32, bool) = (row.try_get(0)?, row.try_get(1)?);
        match config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite if reads_only => return Err(ConnectError::ReadOnly),
            TargetSessionAttrs::ReadOnly if !reads_only => return Err(ConnectError::Primary),
            _ => {}
        }
        let name = config.get_application_name().unwrap_or_default().into();
        Ok(Connection::Postgres { pid, name, session, client, _alive: alive })
    }

    /// A socket to the host, and the name that its certificate must have.
    async fn socket(&self, config: &tokio_postgres::Config) -> Result<(Socket, String), ConnectError> {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let connected = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => {
                let name = name.trim_matches(['[', ']']);
                let address = permitted(&self.rules, name, port).await?;
                (Socket::tcp(address, port).await, name.to_owned())
            }
            Some(Host::Unix(folder)) => (Socket::unix(folder, port).await, String::new()),
            None => return Err(ConnectError::Unreachable("it names no host".to_owned())),
        };
        match connected {
            (Ok(socket), domain) => Ok((socket, domain)),
            (Err(error), _) => Err(ConnectError::Unreachable(error.to_string())),
        }
    }
}

/// The address of the host of a configuration, every one of which is allowed; none for a socket.
///
/// # Errors
/// The name has none within [`CONNECT`], or one that is not allowed.
pub async fn resolved(
    config: &tokio_postgres::Config,
    rules: &Rules,
) -> Result<Option<IpAddr>, ConnectError> {
    let Some(Host::Tcp(name)) = config.get_hosts().first() else { return Ok(None) };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let found = permitted(rules, name.trim_matches(['[', ']']), port);
    let address = tokio::time::timeout(CONNECT, found).await.map_err(|_| ConnectError::Timeout(CONNECT))?;
    address.map(Some)
}

/// The address of a host, every one of which is allowed.
async fn permitted(rules: &Rules, name: &str, port: u16) -> Result<IpAddr, ConnectError> {
    let found = tokio::net::lookup_host((name, port))
        .await
        .map_err(|error| ConnectError::Resolve(error.to_string()))?;
    let mut first = None;
    for address in found {
        let address = address.ip().to_canonical();
        if !rules.permits(address) {
            return Err(target::TargetError::Private(address).into());
        }
        first = first.or(Some(address));
    }
    first.ok_or_else(|| ConnectError::Resolve("it has no address".to_owned()))
}

/// Moves a connection's bytes until the server has answered what was asked and its client is gone, or until it is lost. Only then is its place
/// under the cap free, and what it changed is changed.
async fn until_the_end<S>(
    mut connection: tokio_postgres::Connection<Socket, S>,
    gone: tokio::sync::oneshot::Receiver<()>,
    permit: OwnedSemaphorePermit,
    session: Arc<Session>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let messages = async {
        loop {
            match std::future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(told))) if told.channel() == cache::CHANNEL => {
                    session.told(told.payload());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    };
    let too_long = async {
        // It says nothing; it is dropped.
        let _ = gone.await;
        tokio::time::sleep(LAST_WORK).await;
    };
    let ended = tokio::select! {
        ended = messages => ended,
        () = too_long => Ok(()),
    };
    drop((connection, permit));
    if let Err(error) = ended {
        tracing::debug!(category = "application", %error, "a connection to a tenant's database ended");
        // The server may not have noticed, and be at work still.
        session.lost();
        tokio::time::sleep(LAST_WORK).await;
    }
    session.clear();
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
            Connection::Postgres { client, session, .. } => {
                if client.is_closed() {
                    return Err(RecycleError::message("the server has ended the connection"));
                }
                let clean = client.batch_execute("DISCARD ALL").await;
                clean.map(|()| session.clear()).map_err(|error| RecycleError::Backend(error.into()))
            }
            Connection::Sqlite { worker, .. } => {
                worker.prove().await.map_err(|error| RecycleError::Backend(error.into()))
            }
        }
    }
}
