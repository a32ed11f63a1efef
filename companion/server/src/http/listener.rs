//! Sockets: TCP on an address, or a Unix socket of mode 0600; bounded connections, bounded waits, a graceful
//! end.
//!
//! Against: a client that opens many connections, sends slowly, or keeps places that it does not use. Limits: [`Terms`]; a connection
//! beyond them waits in the system's backlog; a TLS handshake and a head have 10 seconds, so that one of HTTP/1 that asks nothing ends
//! by itself; one of HTTP/2 whose client does not answer a ping in time ends, and so does one without a request for [`IDLE`]
//! to twice that.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::Request;
use axum::response::Response;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::access::Peer;

/// A head (request line and headers) that does not fit is answered 431. Reading happens in steps, so that the
/// real border lies between this and twice this.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// A head that takes longer to arrive ends the connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What is being answered when the end is asked for may take this long.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed accept, which means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener could not be made. Each names its remedy.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process holds the port.
    #[error("port {} is taken; stop what holds it, or set {variable} to a free port", address.port())]
    PortTaken {
        /// Where.
        address: SocketAddr,
        /// The variable that changes it.
        variable: &'static str,
    },
    /// The port cannot be used.
    #[error("{address}: {source}; set {variable} to a port that this user may open")]
    Port {
        /// Where.
        address: SocketAddr,
        /// The variable that changes it.
        variable: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process listens on the socket.
    #[error("{}: another process listens here; stop it, or set --ingest-socket to another path", path.display())]
    SocketTaken {
        /// Where.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("{}: {source}; set --ingest-socket to a path in a folder that this user may write", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// TLS over TCP.
    Tls(TcpListener, TlsAcceptor),
    /// A Unix socket; the file is removed when the listener ends.
    Unix(UnixListener, SocketFile),
}

/// A bound TCP port.
///
/// # Errors
/// [`ListenError`], naming `variable`.
pub async fn tcp(address: SocketAddr, variable: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::PortTaken { address, variable },
        _ => ListenError::Port { address, variable, source },
    })
}

/// Removes the socket's file when dropped.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is gone already is what was wanted.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds a TCP port.
    ///
    /// # Errors
    /// [`ListenError`], naming `variable`.
    pub async fn tcp(address: SocketAddr, variable: &'static str) -> Result<Self, ListenError> {
        tcp(address, variable).await.map(Self::Tcp)
    }

    /// Binds a Unix socket of mode 0600. What a process that died left at `path` is replaced; a living one's
    /// socket and any other file are not.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn unix(path: &Path) -> Result<Self, ListenError> {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        let failed = |source| ListenError::Socket { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(failed(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a file that is no socket stands here",
                )));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ListenError::SocketTaken { path: path.to_owned() });
            }
            _ => {}
        }
        // Made under another name and renamed, so that the socket is never reachable at its path with a wider
        // mode.
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let _ = std::fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft).map_err(failed)?;
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(failed)?;
        Ok(Self::Unix(listener, SocketFile(path.to_owned())))
    }

    /// The same, speaking TLS. A Unix socket needs none: its mode says who may connect.
    #[must_use]
    pub fn with_tls(self, acceptor: Option<TlsAcceptor>) -> Self {
        match (self, acceptor) {
            (Self::Tcp(tcp), Some(acceptor)) => Self::Tls(tcp, acceptor),
            (listener, _) => listener,
        }
    }

    /// Where it listens; `None` for a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

/// What a listener's connections may speak, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Connections at once; one more waits in the backlog.
    pub connections: usize,
    /// HTTP/2 besides HTTP/1.1: gRPC needs it.
    pub http2: bool,
    /// The longest that one of HTTP/2 may ask nothing: [`IDLE`], or less in a test.
    pub idle: Duration,
}

/// Requests of one HTTP/2 connection at once.
const STREAMS: u32 = 1024;
/// A connection of HTTP/2 that asks nothing for so long is ended; proxies open another one when they need it.
pub const IDLE: Duration = Duration::from_secs(60);
/// How often the client of one is asked whether it is there, and how long it has to answer.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

/// Serves `router` until `end` says true, then finishes what is being answered.
pub async fn serve(listener: Listener, router: Router, terms: Terms, mut end: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(terms.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            // A place first: while there is none, clients wait in the backlog.
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok((place, accept(&listener).await?))
        };
        let accepted: io::Result<_> = tokio::select! {
            accepted = next => accepted,
            _ = end.wait_for(|end| *end) => break,
        };
        let (place, (stream, peer)) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(category = "application", %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone().layer(Extension(peer));
        let acceptor = match &listener {
            Listener::Tls(_, acceptor) => Some(acceptor.clone()),
            Listener::Tcp(_) | Listener::Unix(..) => None,
        };
        let watcher = graceful.watcher();
        let ended = end.clone();
        tokio::spawn(async move {
            // A client that breaks off or speaks no TLS or no HTTP is its own trouble.
            if let Some(stream) = handshake(acceptor, stream).await {
                let service = TowerToHyperService::new(router);
                match protocol(stream, terms.http2).await {
                    Some((Protocol::Http1, stream)) => {
                        let connection = http1().serve_connection(TokioIo::new(stream), service);
                        let _ = watcher.watch(connection).await;
                    }
                    Some((Protocol::Http2, stream)) => {
                        serve_http2(stream, service, terms.idle, ended).await;
                        // Whoever ends the listener waits for it.
                        drop(watcher);
                    }
                    None => {}
                }
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// Serves a connection until its client goes, it asks nothing for too long, or `end` says true.
async fn serve_http2(
    stream: AnyStream,
    service: TowerToHyperService<Router>,
    idle: Duration,
    mut end: watch::Receiver<bool>,
) {
    let calls = Arc::new(Calls::default());
    let counted = Counted { service, calls: Arc::clone(&calls) };
    let mut connection = pin!(http2().serve_connection(TokioIo::new(stream), counted));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = calls.cease(idle) => {}
        _ = end.wait_for(|end| *end) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}

/// The requests of a connection.
#[derive(Default)]
struct Calls {
    open: AtomicUsize,
    begun: AtomicU64,
}

impl Calls {
    /// Waits for a pause between requests that is longer than `idle`. Looked at now and then: requests cost no wake.
    async fn cease(&self, idle: Duration) {
        loop {
            let before = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(idle).await;
            if self.open.load(Ordering::Relaxed) == 0 && self.begun.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// One of them, until it is answered or given up.
struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A service that counts its requests.
struct Counted {
    service: TowerToHyperService<Router>,
    calls: Arc<Calls>,
}

impl Service<Request<Incoming>> for Counted {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.calls.begun.fetch_add(1, Ordering::Relaxed);
        self.calls.open.fetch_add(1, Ordering::Relaxed);
        let call = Call(Arc::clone(&self.calls));
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(call);
            answer
        })
    }
}

fn http1() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
}

fn http2() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX));
    builder
}

enum Protocol {
    Http1,
    Http2,
}

/// How a connection of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks, by its first bytes; `None` when they do not come in time.
async fn protocol(mut stream: AnyStream, http2: bool) -> Option<(Protocol, AnyStream)> {
    if !http2 {
        return Some((Protocol::Http1, stream));
    }
    let mut first = Vec::with_capacity(PREFACE.len());
    let read = async {
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            let mut rest = (&mut stream).take(u64::try_from(PREFACE.len() - first.len()).unwrap_or(0));
            if rest.read_buf(&mut first).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        Ok(())
    };
    tokio::time::timeout(HEAD_TIMEOUT, read).await.ok()?.ok()?;
    let protocol = if first == PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    let (reader, writer) = tokio::io::split(stream);
    Some((protocol, Box::new(tokio::io::join(io::Cursor::new(first).chain(reader), writer))))
}

/// A byte stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type AnyStream = Box<dyn Stream>;

async fn accept(listener: &Listener) -> io::Result<(AnyStream, Peer)> {
    match listener {
        Listener::Tcp(tcp) | Listener::Tls(tcp, _) => {
            let (stream, address) = tcp.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), Peer(Some(address))))
        }
        Listener::Unix(unix, _) => Ok((Box::new(unix.accept().await?.0), Peer(None))),
    }
}

async fn handshake(acceptor: Option<TlsAcceptor>, stream: AnyStream) -> Option<AnyStream> {
    let Some(acceptor) = acceptor else { return Some(stream) };
    match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(category = "security", %error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_the_variable() {
        let first = Listener::tcp(([127, 0, 0, 1], 0).into(), "COMPANION_PORT").await.unwrap();
        let address = first.address().unwrap();
        let error = Listener::tcp(address, "COMPANION_PORT").await.err().unwrap().to_string();
        assert_eq!(
            error,
            format!(
                "port {} is taken; stop what holds it, or set COMPANION_PORT to a free port",
                address.port()
            )
        );
    }

    #[tokio::test]
    async fn who_holds_connections_and_asks_nothing_keeps_nobody_out() {
        use tokio::io::AsyncWriteExt;
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), "INGEST_PORT").await.unwrap();
        let address = listener.address().unwrap();
        let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let (end, ended) = watch::channel(false);
        let terms = Terms { connections: 2, http2: true, idle: Duration::from_millis(200) };
        let serving = tokio::spawn(serve(listener, router, terms, ended));
        let mut silent = Vec::new();
        for _ in 0..2 {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            // The preface and empty settings (RFC 9113, 6.5), and nothing more.
            stream.write_all(PREFACE).await.unwrap();
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            silent.push(stream);
        }
        let mut asking = tokio::net::TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(30), asking.read_to_string(&mut answer));
        read.await.expect("nobody is let in").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        end.send_replace(true);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_is_private_and_replaces_only_what_a_dead_process_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ingest.sock");
        let living = Listener::unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listener::unix(&path), Err(ListenError::SocketTaken { .. })));
        drop(living);
        assert!(!path.exists());

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead process leaves its file");
        drop(Listener::unix(&path).unwrap());

        std::fs::write(&path, "a file").unwrap();
        assert!(matches!(Listener::unix(&path), Err(ListenError::Socket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    }
}
