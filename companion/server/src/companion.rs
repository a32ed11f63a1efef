//! The companion as a whole: store, two listeners, and their common end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{self, Api, Parts};
use crate::clock::{Clock, Timestamp};
use crate::http::listener::{ListenError, Listener, serve};
use crate::http::tls::{TlsError, TlsFiles};
use crate::ingest::{self, Ingest};
use crate::limits::{self, Limits};
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::sessions::Sessions;
use crate::settings::{IngestPlace, Settings};
use crate::storage::{self, Expiry, Storage, StorageError};

/// Connections to the API at once.
const API_CONNECTIONS: usize = 512;
/// Connections of modules at once; a proxy keeps about one a worker.
const INGEST_CONNECTIONS: usize = 256;
/// How often expired leases are looked for.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// How often old events are looked for.
const EXPIRY_PAUSE: Duration = Duration::from_secs(60);
/// Old events removed at a time, and the pause until the next: batches find their place in between.
const EXPIRY_EVENTS: u32 = 1000;
const EXPIRY_BREATH: Duration = Duration::from_millis(50);

/// Why the companion did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CompanionError {
    /// A port or socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The limits.
    #[error(transparent)]
    Limits(#[from] limits::OpenError),
}

/// A companion that serves.
pub struct Companion {
    /// Where the API listens.
    pub api_address: Option<SocketAddr>,
    /// Where modules deliver; `None` for a Unix socket.
    pub ingest_address: Option<SocketAddr>,
    storage: Arc<dyn Storage>,
    end: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Companion {
    /// Binds both listeners, opens the store, and serves. Nothing runs when any of it fails.
    ///
    /// # Errors
    /// [`CompanionError`], with the remedy.
    pub async fn start(settings: Settings, clock: Clock) -> Result<Self, CompanionError> {
        let acceptor = |files: &Option<TlsFiles>| files.as_ref().map(TlsFiles::acceptor).transpose();
        let api_listener =
            Listener::tcp(settings.api, "COMPANION_PORT").await?.with_tls(acceptor(&settings.api_tls)?);
        let ingest_listener = match &settings.ingest {
            IngestPlace::Port(address) => Listener::tcp(*address, "INGEST_PORT").await?,
            IngestPlace::Socket(path) => Listener::unix(path)?,
        };
        let ingest_listener = ingest_listener.with_tls(acceptor(&settings.ingest_tls)?);
        let storage = storage::open(&settings.database, settings.shape).await?;
        let metrics = Arc::new(Metrics::default());
        let policies = Policies::new(Arc::clone(&storage), settings.policies);
        let of_tenants = limits::Policies::new(policies.clone());
        let limits = Arc::new(Limits::open(&settings.data_dir, of_tenants).await?);
        let api_address = api_listener.address();
        let ingest_address = ingest_listener.address();

        let sessions = Sessions::new(Arc::clone(&storage), policies.clone());
        let (end, ended) = watch::channel(false);
        let api = api::router(Api::new(Parts {
            storage: Arc::clone(&storage),
            policies,
            sessions: sessions.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            limits: Arc::clone(&limits),
            tokens: settings.tokens,
            protections: settings.protections,
            admin_allow: settings.admin_allow,
            ended: ended.clone(),
        }));
        let ingest = ingest::router(Ingest {
            storage: Arc::clone(&storage),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            limits: Arc::clone(&limits),
            sessions: sessions.clone(),
            token: settings.ingest_token,
        });
        let tasks = vec![
            tokio::spawn(serve(api_listener, api, API_CONNECTIONS, ended.clone())),
            tokio::spawn(serve(ingest_listener, ingest, INGEST_CONNECTIONS, ended.clone())),
            tokio::spawn(sweep(limits, ended.clone())),
            tokio::spawn(expire(Arc::clone(&storage), sessions, clock, settings.retention, metrics, ended)),
        ];
        Ok(Self { api_address, ingest_address, storage, end, tasks })
    }

    /// What it keeps its records in.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Stops listening, finishes what is being answered, and closes the store.
    ///
    /// # Errors
    /// When the store did not end well; what it acknowledged is safe all the same.
    pub async fn stop(self) -> Result<(), CompanionError> {
        self.end.send_replace(true);
        for task in self.tasks {
            // A task that panicked is no reason to leave the store open.
            let _ = task.await;
        }
        Ok(self.storage.close().await?)
    }
}

/// Ends leases whose time is over, until `end` says true.
async fn sweep(limits: Arc<Limits>, mut end: watch::Receiver<bool>) {
    loop {
        limits.sweep().await;
        tokio::select! {
            () = tokio::time::sleep(SWEEP_PAUSE) => {}
            _ = end.wait_for(|end| *end) => return,
        }
    }
}

/// Removes what is older than `retention`, until `end` says true.
async fn expire(
    storage: Arc<dyn Storage>,
    sessions: Sessions,
    clock: Clock,
    retention: Duration,
    metrics: Arc<Metrics>,
    mut end: watch::Receiver<bool>,
) {
    loop {
        let now = clock.now();
        let before = now.checked_sub(retention).unwrap_or(Timestamp::UNIX_EPOCH);
        let removed =
            storage.expire(Expiry { now, before, most: EXPIRY_EVENTS }).await.unwrap_or_else(|error| {
                tracing::error!(category = "application", %error, "old events were not removed");
                0
            });
        metrics.expired.add(removed);
        if let Err(error) = sessions.expire(before).await {
            tracing::error!(category = "application", %error, "old sessions were not removed");
        }
        let pause = if removed > 0 { EXPIRY_BREATH } else { EXPIRY_PAUSE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = end.wait_for(|end| *end) => return,
        }
    }
}
