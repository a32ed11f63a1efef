//! Pools of connections to the tenants' databases: one for each tenant, under one cap for all.
//!
//! Against: a tenant that uses up the connections of all others; servers that end connections behind our back; a database's address that
//! leads into the network around the companion ([`target`]). Not against: a tenant's own slow statements, which take that tenant's
//! connections, and nobody else's.
//!
//! - A connection is proven when it is handed out (`DISCARD ALL` is a round trip and leaves nothing of who had it before); one that
//!   does not answer is closed and another one made.
//! - What is kept open follows the use ([`sizing`]); what is beyond it ends when it was not used for ten seconds.
//! - Who may have a connection next is decided by [`gate`]; a connection that somebody keeps unused gives way to one that is wanted.
//! - Tenants come, go and change address while others work: [`Pools::put`], [`Pools::remove`].
//!
//! Limits: [`Shape`]; [`gate::MAX_WAITING`] waiting of one tenant; a connection is made within [`CONNECT`], proven within [`PROVE`].

mod connection;
mod dedicated;
pub mod gate;
mod lease;
mod read;
mod shape;
pub mod sizing;
mod socket;
mod sqlite;
pub mod statement;
mod statistics;
pub mod target;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{self, Timeouts};
use tokio::sync::{Semaphore, mpsc};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::cache::Cache;
use crate::cache::ledger::Ledger;
use connection::Connector;
pub use connection::{ConnectError, resolved};
pub use dedicated::Dedicated;
use gate::{Gate, Refused, Slot};
pub use lease::{Lease, QueryError};
pub use read::{Read, ReadError};
pub use shape::{PoolError, Shape};
use sizing::Sizing;
pub use sqlite::SqliteError;
use statistics::Counts;
pub use statistics::Statistics;
use target::{Kind, Rules, Target, TargetError};

/// The longest wait for a server to take a connection.
pub const CONNECT: Duration = Duration::from_secs(5);
/// The longest wait for a connection to prove that it lives.
pub const PROVE: Duration = Duration::from_secs(2);
/// What is beyond the kept size ends after so long without use.
const OVERFLOW_LIFE: Duration = Duration::from_secs(10);
/// Slow statements that may wait for whoever takes them; more are counted and dropped.
const TOLD: usize = 1024;

/// A statement that took long.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// Whose.
    pub tenant: String,
    /// The text without its literals, and its fingerprint.
    pub statement: statement::Normal,
    /// How long it took.
    pub took: Duration,
    /// Rows that it read or changed, where that is known.
    pub rows: Option<u64>,
    /// Which connection: `postgres:PID` or `sqlite:N`.
    pub connection: String,
    /// The request that it was for.
    pub correlation_id: Option<String>,
}

/// One tenant's pool.
struct Entry {
    tenant: Arc<str>,
    /// The address's digest: an address itself is kept by the pool alone.
    digest: [u8; 32],
    kind: Kind,
    pool: managed::Pool<Connector>,
    /// No other pool has this number, not even one of the same tenant.
    number: u64,
    target: Target,
    ledger: Arc<Ledger>,
    file: read::File,
    sizing: Mutex<Sizing>,
    counts: Counts,
    /// When a connection came back last, in milliseconds since `Inner::started`.
    used_ms: AtomicU64,
}

struct Inner {
    shape: RwLock<Shape>,
    rules: Rules,
    tls: MakeRustlsConnect,
    gate: Arc<Gate>,
    /// A permit for each connection that is open, until the server has seen its end.
    cap: Arc<Semaphore>,
    entries: RwLock<HashMap<Arc<str>, Arc<Entry>>>,
    cache: Cache,
    /// Of each database, for as long as a tenant has it.
    ledgers: Mutex<HashMap<String, Weak<Ledger>>>,
    told: mpsc::Sender<Slow>,
    lost: AtomicU64,
    started: Instant,
}

/// All pools. Cheap to clone.
#[derive(Clone)]
pub struct Pools(Arc<Inner>);

impl Pools {
    /// No pools yet, and where slow statements are told. `now` is where their time begins.
    #[must_use]
    pub fn new(
        shape: Shape,
        rules: Rules,
        tls: MakeRustlsConnect,
        now: Instant,
    ) -> (Self, mpsc::Receiver<Slow>) {
        let (told, slow) = mpsc::channel(TOLD);
        let cap = shape.cap.max(1);
        let inner = Inner {
            shape: RwLock::new(shape),
            rules,
            tls,
            gate: Arc::new(Gate::new(cap)),
            cap: Arc::new(Semaphore::new(cap)),
            entries: RwLock::default(),
            cache: Cache::new(shape.cache),
            ledgers: Mutex::default(),
            told,
            lost: AtomicU64::new(0),
            started: now,
        };
        (Self(Arc::new(inner)), slow)
    }

    /// Opens or changes a tenant's pool; tells whether anything changed. Nothing is connected yet. What others have of an old
    /// address at the moment goes on, and ends when it comes back.
    ///
    /// # Errors
    /// [`TargetError`]: the address is not one that may be connected to. Then the tenant has no pool.
    pub fn put(&self, tenant: &str, url: &str) -> Result<bool, TargetError> {
        use sha2::Digest;
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let digest: [u8; 32] = sha2::Sha256::digest(url.as_bytes()).into();
        if self.entry(tenant).is_some_and(|entry| entry.digest == digest) {
            return Ok(false);
        }
        self.remove(tenant);
        let target = Target::new(url, &self.0.rules)?;
        let kind = target.kind();
        let ledger = self.ledger(&target);
        let (rules, tls) = (self.0.rules.clone(), self.0.tls.clone());
        let connector =
            Connector::new(target.clone(), rules, tls, Arc::clone(&ledger), Arc::downgrade(&self.0));
        let pool = managed::Pool::builder(connector)
            .max_size(self.shape().most())
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| TargetError::NoRuntime)?;
        let tenant: Arc<str> = tenant.into();
        let entry = Arc::new(Entry {
            tenant: Arc::clone(&tenant),
            digest,
            kind,
            pool,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            target,
            ledger,
            file: read::File::default(),
            sizing: Mutex::default(),
            counts: Counts::default(),
            used_ms: AtomicU64::new(0),
        });
        self.0.entries.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, entry);
        Ok(true)
    }

    /// Closes a tenant's pool; tells whether there was one. Who has a connection keeps it until it comes back.
    pub fn remove(&self, tenant: &str) -> bool {
        let removed = self.0.entries.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        self.0.gate.forget(tenant);
        removed.inspect(|entry| entry.pool.close()).is_some()
    }

    /// The tenants that have a pool.
    #[must_use]
    pub fn tenants(&self) -> Vec<String> {
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = entries.keys().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// What kind of database a tenant has.
    #[must_use]
    pub fn kind(&self, tenant: &str) -> Option<Kind> {
        self.entry(tenant).map(|entry| entry.kind)
    }

    /// The number of a tenant's pool: another address has another pool, and no two have the same number.
    #[must_use]
    pub fn number(&self, tenant: &str) -> Option<u64> {
        self.entry(tenant).map(|entry| entry.number)
    }

    /// Changes what pools may become, at once and without closing what is in use. The cap stays.
    pub fn resize(&self, size: usize, overflow: usize) {
        let most = {
            let mut shape = self.0.shape.write().unwrap_or_else(PoisonError::into_inner);
            (shape.size, shape.overflow) = (size, overflow);
            shape.most()
        };
        for entry in self.entries() {
            entry.pool.resize(most);
        }
    }

    /// Lends a connection of a tenant, proven to live, for the request of `correlation_id`.
    ///
    /// # Errors
    /// [`PoolError`], after [`Shape::wait`] at most and the time to connect.
    pub async fn lend(&self, tenant: &str, correlation_id: Option<&str>) -> Result<Lease, PoolError> {
        let (entry, slot, object) = self.connection(tenant).await?;
        Ok(Lease::new(object, slot, entry, self.clone(), correlation_id))
    }

    /// A connection of a tenant, and its place.
    async fn connection(
        &self,
        tenant: &str,
    ) -> Result<(Arc<Entry>, Slot, managed::Object<Connector>), PoolError> {
        let entry = self.entry(tenant).ok_or(PoolError::NoDatabase)?;
        let shape = self.shape();
        let asked = Stopwatch::start();
        let slot = self.0.gate.enter(&entry.tenant, shape.most(), shape.wait).await;
        let slot = slot.map_err(|refused| match refused {
            // Who waited is told at once.
            _ if self.entry(tenant).is_none() => PoolError::Closed,
            Refused::Timeout => {
                entry.counts.timeouts.fetch_add(1, Ordering::Relaxed);
                PoolError::Timeout(shape.wait)
            }
            Refused::Crowded => PoolError::Crowded,
        })?;
        let timeouts = Timeouts {
            wait: Some(shape.wait),
            create: Some(CONNECT.saturating_add(CONNECT)),
            recycle: Some(PROVE),
        };
        let object = entry.pool.timeout_get(&timeouts).await.map_err(|error| match error {
            managed::PoolError::Backend(error) => PoolError::Connect(error),
            managed::PoolError::Closed => PoolError::Closed,
            managed::PoolError::Timeout(managed::TimeoutType::Create) => {
                PoolError::Connect(ConnectError::Timeout(CONNECT))
            }
            _ => PoolError::Timeout(shape.wait),
        })?;
        let waited = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        entry.counts.loans.fetch_add(1, Ordering::Relaxed);
        entry.counts.waited_us.fetch_add(waited, Ordering::Relaxed);
        Ok((entry, slot, object))
    }

    /// A tenant's figures.
    #[must_use]
    pub fn statistics(&self, tenant: &str) -> Option<Statistics> {
        self.entry(tenant).map(|entry| self.figures(&entry))
    }

    /// Figures of all, by tenant.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Statistics)> {
        let mut all: Vec<_> =
            self.entries().iter().map(|entry| (entry.tenant.to_string(), self.figures(entry))).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Connections that are open, of all tenants together, and how many there may be.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        let cap = self.shape().cap.max(1);
        (cap.saturating_sub(self.0.cap.available_permits()), cap)
    }

    /// Slow statements that nobody was told of, because too many came at once.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Fits what is kept to what was used since the last call, `elapsed` ago. To be called about once a second.
    pub fn maintain(&self, elapsed: Duration) {
        let shape = self.shape();
        for entry in self.entries() {
            entry.file.rest();
            let kept = {
                let mut sizing = entry.sizing.lock().unwrap_or_else(PoisonError::into_inner);
                sizing.step(elapsed);
                sizing.kept(shape.size)
            };
            let mut excess = entry.pool.status().size.saturating_sub(kept);
            entry.pool.retain(|_, metrics| {
                let ends = excess > 0 && metrics.last_used() > OVERFLOW_LIFE;
                excess = excess.saturating_sub(usize::from(ends));
                !ends
            });
        }
    }

    fn shape(&self) -> Shape {
        *self.0.shape.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, tenant: &str) -> Option<Arc<Entry>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Tenants of one database share what is known of its changes.
    fn ledger(&self, target: &Target) -> Arc<Ledger> {
        let mut ledgers = self.0.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        let known = ledgers.entry(target.database()).or_default();
        known.upgrade().unwrap_or_else(|| {
            let ledger = Arc::default();
            *known = Arc::downgrade(&ledger);
            ledger
        })
    }
}

impl Inner {
    /// Closes the connection that has been idle the longest, whoever's it is.
    fn evict(&self) {
        let entries: Vec<Arc<Entry>> =
            self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let idle = entries.iter().filter(|entry| entry.pool.status().available > 0);
        if let Some(oldest) = idle.min_by_key(|entry| entry.used_ms.load(Ordering::Relaxed)) {
            let mut ended = false;
            oldest.pool.retain(|_, _| std::mem::replace(&mut ended, true));
        }
    }

    /// Tells of a slow statement, or counts that it could not.
    fn tell(&self, slow: Slow) {
        if self.told.try_send(slow).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Measures; the only clock of this module.
#[derive(Clone, Copy)]
struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
