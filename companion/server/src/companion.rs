//! The companion as a whole: store, two listeners, and their common end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::alerts::{self, Alerts};
use crate::api::{self, Api, Parts};
use crate::bouncer::Bouncer;
use crate::business::Business;
use crate::clock::{Clock, Timestamp};
use crate::databases::Databases;
use crate::export::figures::Pushes;
use crate::export::{self, Export};
use crate::functions::Functions;
use crate::http::listener::{IDLE, ListenError, Listener, Terms, serve, tcp};
use crate::http::tls::{TlsError, TlsFiles};
use crate::ingest::{self, Ingest};
use crate::keys::{self, Keys};
use crate::limits::{self, Checks, Limits};
use crate::metrics::Metrics;
use crate::monitoring::machine::Machine;
use crate::policies::Policies;
use crate::sessions::Sessions;
use crate::settings::{IngestPlace, Settings};
use crate::storage::{self, Expiry, Storage, StorageError};
use crate::trail::projector::Projector;
use crate::trail::{Trail, TrailOpenError, retention};

/// Connections to the API at once.
const API: Terms = Terms { connections: 512, http2: false, idle: IDLE };
/// Connections of modules at once; a proxy keeps about one a worker.
const INGEST: Terms = Terms { connections: 256, http2: true, idle: IDLE };
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
    /// The audit trail.
    #[error(transparent)]
    Trail(#[from] TrailOpenError),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The service that keeps the root key.
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    /// The configuration of the rate limit service.
    #[error(transparent)]
    LimitsConfig(#[from] limits::grpc::config::ConfigError),
    /// A place to export to.
    #[error(transparent)]
    Export(export::PlaceError),
    /// The tenants' databases.
    #[error("the tenants' databases: {0}")]
    Databases(String),
    /// The configuration of alerts.
    #[error(transparent)]
    Alerts(#[from] alerts::config::ConfigError),
    /// PgBouncer.
    #[error("{0}")]
    Bouncer(String),
    /// Where an export stands.
    #[error("the audit trail's folder cannot be written: {0}; check DATA_DIR/audit")]
    Cursor(std::io::Error),
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
    /// Where Envoy's rate limit service listens, if it does.
    pub grpc_address: Option<SocketAddr>,
    storage: Arc<dyn Storage>,
    trail: Trail,
    keys: Keys,
    databases: Databases,
    functions: Functions,
    end: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// Ends after all others: it projects what they appended last.
    projection: JoinHandle<()>,
    end_of_trail: watch::Sender<bool>,
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
        let keys = Keys::new(Arc::clone(&storage), &settings.root, clock.clone());
        keys.verify_root().await?;
        let metrics = Arc::new(Metrics::default());
        let trail = Trail::open(&settings.trail, Some(keys.clone()), clock.clone())?;
        let trail_rules = settings.trail.retention.clone();
        let kept = trail_rules.clone();
        opened(&trail);
        let policies = Policies::new(Arc::clone(&storage), settings.policies);
        let of_tenants = limits::Policies::new(policies.clone(), settings.limits_share);
        let store = match &settings.redis_url {
            Some(url) => limits::Store::redis(&url.0, Arc::clone(&storage))?,
            None => limits::Store::memory(&settings.data_dir, Arc::clone(&storage)).await?,
        };
        let limits = Arc::new(Limits::new(store, of_tenants).enforced(settings.protections.rate_limiting));
        let grpc = match settings.grpc {
            Some(place) => Some(grpc(place, &limits).await?),
            None => None,
        };
        let grpc_address = grpc.as_ref().and_then(|(_, listener)| listener.local_addr().ok());
        let api_address = api_listener.address();
        let ingest_address = ingest_listener.address();

        let (databases, beside_databases) = Databases::new(
            settings.databases,
            (keys.clone(), policies.clone()),
            Arc::clone(&storage),
            trail.clone(),
            clock.clone(),
        )
        .map_err(CompanionError::Databases)?;
        let checks = Arc::new(Checks::new(Arc::clone(&limits), trail.clone(), clock.clone()));
        let functions = Functions::new(
            Arc::clone(&storage),
            keys.clone(),
            Arc::clone(&checks),
            trail.clone(),
            databases.clone(),
            clock.clone(),
        );
        let bouncer = settings.bouncer.map(|options| Bouncer::new(options, databases.clone(), keys.clone()));
        let (bouncer, keeper) = bouncer.transpose().map_err(CompanionError::Bouncer)?.unzip();
        let alerts = Alerts::new(settings.alerts, clock.clone())?;
        let sources = alerts::Sources {
            metrics: Arc::clone(&metrics),
            trail: trail.clone(),
            databases: databases.clone(),
            bouncer: bouncer.clone(),
            machine: Machine::new(&settings.data_dir),
        };
        let business = Business::new(Arc::clone(&storage), databases.clone(), clock.clone());
        let sessions = Sessions::new(Arc::clone(&storage), policies.clone());
        let (end, ended) = watch::channel(false);
        let (end_of_trail, trail_ended) = watch::channel(false);
        let projector = Projector::new(trail.clone(), Arc::clone(&storage), Arc::clone(&metrics));
        let exports = settings.exports.collectors().map_err(CompanionError::Export)?;
        let exporting: Vec<Export> = exports.iter().map(|(export, _)| export.clone()).collect();
        export::prepare(&trail, &exporting).map_err(CompanionError::Cursor)?;
        let api_tls = settings.api_tls.is_some();
        let pushes = Arc::new(Pushes::default());
        let pusher = settings.exports.pusher().map_err(CompanionError::Export)?;
        let api = Api::new(Parts {
            pushes: Arc::clone(&pushes),
            exports: exporting,
            storage: Arc::clone(&storage),
            trail: trail.clone(),
            policies,
            sessions: sessions.clone(),
            keys: keys.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            grpc: grpc.as_ref().map(|(service, _)| service.clone()),
            databases: databases.clone(),
            business: business.clone(),
            bouncer,
            alerts: alerts.clone(),
            machine: Machine::new(&settings.data_dir),
            limits: Arc::clone(&limits),
            checks,
            tls: api_tls,
            tokens: settings.tokens,
            protections: settings.protections,
            admin_allow: settings.admin_allow,
            ended: ended.clone(),
        });
        let ingest = ingest::router(Ingest {
            trail: trail.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            limits: Arc::clone(&limits),
            sessions: sessions.clone(),
            token: settings.ingest_token,
        });
        let ended_too = ended.clone();
        let mut tasks = vec![
            tokio::spawn(serve(api_listener, api::router(api.clone()), API, ended.clone())),
            tokio::spawn(serve(ingest_listener, ingest, INGEST, ended.clone())),
            tokio::spawn(sweep(limits, ended.clone())),
            tokio::spawn(beside_databases.run(ended.clone())),
            tokio::spawn(business.run(ended.clone())),
            tokio::spawn(alerts.run(sources, ended.clone())),
            tokio::spawn(retention::run(trail.clone(), trail_rules, clock.clone(), ended.clone())),
            tokio::spawn(expire(Arc::clone(&storage), sessions, clock, settings.retention, metrics, ended)),
        ];
        tasks.push(tokio::spawn(keys::finish_erasures(keys.clone(), ended_too.clone())));
        if let Some(keeper) = keeper {
            tasks.push(tokio::spawn(keeper.run(ended_too.clone())));
        }
        if let Some(period) = settings.key_rotation {
            tasks.push(tokio::spawn(keys::rotate_when_due(keys.clone(), period, kept, ended_too.clone())));
        }
        tasks.push(tokio::spawn(keys.clone().watch_root(ended_too.clone())));
        if let Some((service, listener)) = grpc {
            tasks.push(tokio::spawn(serve(Listener::Tcp(listener), service.router(), INGEST, ended_too)));
        }
        if let Some((pusher, interval)) = pusher {
            let figures = move || {
                let api = api.clone();
                async move { api.figures().await }
            };
            tasks.push(tokio::spawn(pushes.run(pusher, interval, figures, end.subscribe())));
        }
        for (export, collector) in exports {
            tasks.push(tokio::spawn(export.run(trail.clone(), collector, end.subscribe())));
        }
        let projection = tokio::spawn(projector.run(trail_ended));
        Ok(Self {
            api_address,
            ingest_address,
            grpc_address,
            storage,
            trail,
            keys,
            databases,
            functions,
            end,
            tasks,
            projection,
            end_of_trail,
        })
    }

    /// Where its events go.
    #[must_use]
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// What it keeps its records in.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Its tenants' keys.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.keys.clone()
    }

    /// Its tenants' databases.
    #[must_use]
    pub fn databases(&self) -> Databases {
        self.databases.clone()
    }

    /// What a program that runs it within itself may call.
    #[must_use]
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Stops listening, finishes what is being answered, closes the trail, and the store when it has what the trail has.
    ///
    /// # Errors
    /// When the store did not end well; what it acknowledged is safe all the same.
    pub async fn stop(self) -> Result<(), CompanionError> {
        self.end.send_replace(true);
        for task in self.tasks {
            // A task that panicked is no reason to leave the store open.
            let _ = task.await;
        }
        self.trail.close().await;
        self.end_of_trail.send_replace(true);
        let _ = self.projection.await;
        Ok(self.storage.close().await?)
    }
}

/// Tells what the start found, and whose signature auditors look for.
fn opened(trail: &Trail) {
    let recovered = trail.recovered();
    tracing::info!(
        category = "audit",
        records = recovered.size,
        verifier_key = %trail.log().verifier(),
        "the audit trail is open"
    );
    if recovered.cut_bytes > 0 {
        tracing::warn!(
            category = "audit",
            bytes = recovered.cut_bytes,
            "the end of the audit trail was not whole, and nobody had been told of it; it was cut"
        );
    }
}

/// Envoy's rate limit service and its listener, before anything runs.
async fn grpc(
    place: limits::grpc::Place,
    limits: &Arc<Limits>,
) -> Result<(limits::grpc::Service, TcpListener), CompanionError> {
    let config = match &place.config {
        Some(path) => limits::grpc::config::Config::read(path)?,
        None => limits::grpc::config::Config::default(),
    };
    let listener = tcp(place.address, "LIMITS_GRPC_PORT").await?;
    Ok((limits::grpc::Service::new(Arc::clone(limits), config, place.token, place.headers), listener))
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
