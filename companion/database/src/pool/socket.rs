//! The way to a server, which ends when the server has ended.
//!
//! A client says that it leaves and closes its side; the server's process is there for a moment longer, and counts as one of its connections.
//! Here the end waits until the server has closed its own side: its process has left `pg_stat_activity` by then, so that the next
//! connection is never one too many.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Silence after which the other side is asked whether it is still there, and how long it may then say nothing.
const KEEPALIVE: Duration = Duration::from_secs(60);
const UNHEARD: Duration = Duration::from_secs(10);

/// A connected socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Over TCP. A server that has vanished is noticed.
    pub async fn tcp(address: IpAddr, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((address, port)).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(UNHEARD))?;
        Ok(Self::Tcp(stream))
    }

    /// Through the socket that a server of this machine has in a folder.
    pub async fn unix(folder: &Path, port: u16) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?))
    }
}

/// Each side of the enum has the same methods.
macro_rules! each {
    ($socket:expr, $method:ident, $($argument:expr),*) => {
        match $socket.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Socket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, poll_read, context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, poll_write, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_flush, context)
    }

    /// Closes this side, and waits for the other one.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = match &mut *self {
            Self::Tcp(stream) => ready!(Pin::new(stream).poll_shutdown(context)),
            Self::Unix(stream) => ready!(Pin::new(stream).poll_shutdown(context)),
        };
        match closed {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Poll::Ready(Ok(())),
            closed => closed?,
        }
        let mut last_words = [0; 512];
        loop {
            let mut buffer = ReadBuf::new(&mut last_words);
            match ready!(self.as_mut().poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // It has closed, or is gone.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn it_ends_when_the_other_side_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let mut ours = Socket::unix(folder.path(), 5432).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let ending = tokio::spawn(async move { ours.shutdown().await });
        // They hear that we leave, still talk, and are waited for.
        assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0);
        theirs.write_all(&[1; 4000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!ending.is_finished());
        drop(theirs);
        ending.await.unwrap().unwrap();
    }
}
