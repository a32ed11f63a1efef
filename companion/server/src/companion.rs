//! The companion as a whole: store, two listeners, and their common end.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{self, Api};
use crate::clock::Clock;
use crate::http::listener::{ListenError, Listener, serve};
use crate::ingest::{self, Ingest};
use crate::metrics::Metrics;
use crate::settings::{IngestPlace, Settings};
use crate::storage::sqlite::SqliteStorage;
use crate::storage::{Storage, StorageError};

/// Connections to the API at once.
const API_CONNECTIONS: usize = 512;
/// Connections of modules at once; a proxy keeps about one a worker.
const INGEST_CONNECTIONS: usize = 256;

/// Why the companion did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CompanionError {
    /// A port or socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A companion that serves.
pub struct Companion {
    /// Where the API listens.
    pub api_address: Option<SocketAddr>,
    /// Where modules deliver; `None` for a Unix socket.
    pub ingest_address: Option<SocketAddr>,
    storage: Arc<dyn Storage>,
    end: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

impl Companion {
    /// Binds both listeners, opens the store, and serves. Nothing runs when any of it fails.
    ///
    /// # Errors
    /// [`CompanionError`], with the remedy.
    pub async fn start(settings: Settings, clock: Clock) -> Result<Self, CompanionError> {
        let api_listener = Listener::tcp(settings.api, "COMPANION_PORT").await?;
        let ingest_listener = match &settings.ingest {
            IngestPlace::Port(address) => Listener::tcp(*address, "INGEST_PORT").await?,
            IngestPlace::Socket(path) => Listener::unix(path)?,
        };
        let storage: Arc<dyn Storage> =
            Arc::new(SqliteStorage::open(&settings.database, settings.registration)?);
        let metrics = Arc::new(Metrics::default());
        let api_address = api_listener.address();
        let ingest_address = ingest_listener.address();

        let api = api::router(Api::new(
            Arc::clone(&storage),
            clock.clone(),
            Arc::clone(&metrics),
            settings.tokens,
            settings.protections,
        ));
        let ingest = ingest::router(Ingest {
            storage: Arc::clone(&storage),
            clock,
            metrics,
            token: settings.ingest_token,
        });
        let (end, ended) = watch::channel(false);
        let listeners = vec![
            tokio::spawn(serve(api_listener, api, API_CONNECTIONS, ended.clone())),
            tokio::spawn(serve(ingest_listener, ingest, INGEST_CONNECTIONS, ended)),
        ];
        Ok(Self { api_address, ingest_address, storage, end, listeners })
    }

    /// Stops listening, finishes what is being answered, and closes the store.
    ///
    /// # Errors
    /// When the store did not end well; what it acknowledged is safe all the same.
    pub async fn stop(self) -> Result<(), CompanionError> {
        self.end.send_replace(true);
        for listener in self.listeners {
            // A listener that panicked is no reason to leave the store open.
            let _ = listener.await;
        }
        Ok(self.storage.close().await?)
    }
}
