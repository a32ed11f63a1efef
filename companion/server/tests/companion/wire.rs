//! A line to a server that a test holds or cuts: a socket of its own, passed on to the server's.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const SOCKET: &str = ".s.PGSQL.5432";

/// What becomes of what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It arrives.
    Open,
    /// Nothing arrives, and nothing ends.
    Held,
    /// Everything ends, and what is begun anew too.
    Cut,
}

/// The line. Its socket is in a folder of its own.
pub struct Wire {
    pub folder: tempfile::TempDir,
    line: watch::Sender<Line>,
}

impl Wire {
    /// To the server whose socket is in `server`.
    pub fn to(server: &Path) -> Self {
        Self::held_at(server, None)
    }

    /// One that is held when a client says `word`.
    pub fn held_at(server: &Path, word: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let (line, server) = (watch::Sender::new(Line::Open), server.join(SOCKET));
        let lines = line.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (lines, server) = (lines.clone(), server.clone());
                tokio::spawn(async move {
                    let mut line = lines.subscribe();
                    let _ = line.wait_for(|line| *line != Line::Held).await;
                    let Ok(server) = UnixStream::connect(server).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    let lines = Arc::new(lines);
                    tokio::select! {
                        () = pass(from_client, to_server, &lines, word) => {}
                        () = pass(from_server, to_client, &lines, None) => {}
                        _ = line.wait_for(|line| *line == Line::Cut) => {}
                    }
                });
            }
        });
        Self { folder, line }
    }

    pub fn becomes(&self, line: Line) {
        self.line.send_replace(line);
    }

    pub fn is(&self, line: Line) -> bool {
        *self.line.borrow() == line
    }

    /// The address of a server's database, by way of this line.
    pub fn url(&self, url: &str) -> String {
        let (before, after) = url.split_once('@').unwrap();
        let (_, database) = after.split_once('/').unwrap();
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("{before}@{folder}/{database}")
    }
}

/// Passes on until one side ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    line: &watch::Sender<Line>,
    word: Option<&str>,
) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let said = String::from_utf8_lossy(&bytes[..count]);
        if word.is_some_and(|word| said.contains(word)) {
            line.send_replace(Line::Held);
        }
        let _ = line.subscribe().wait_for(|line| *line != Line::Held).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
