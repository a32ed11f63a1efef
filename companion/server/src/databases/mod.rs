//! The tenants' own databases: a pool for each, their slow statements written down, their indexes looked after.
//!
//! Whose database is where stands sealed in the store (`tenants.database_url_sealed`). It is looked through every few seconds, and at
//! once for a tenant that somebody asks for: so that tenants come, go and move without a restart, whichever companion on the store was
//! told. Where a database may be is [`pool::target`]'s affair.
//!
//! Limits: those of the pools; statements are looked at once in [`Options::watch`], seldom those of servers that do not answer; one database is
//! looked through at a time, for [`Options::longest`] at most, and [`jobs::JOBS`] jobs are remembered.

pub mod apply;
mod audit;
mod explain;
mod figures;
mod follow;
pub mod jobs;
mod optimize;
pub mod plans;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_database::pool::target::{Kind, Rules};
use portcullis_database::pool::{Lease, PoolError, Pools, Shape, Statistics};
use portcullis_database::replication::Replication;
use tokio::sync::{Semaphore, mpsc, watch as channel};

use crate::clock::{Clock, monotonic};
use crate::event::Numbering;
use crate::http::access::Network;
use crate::keys::{Keys, KeysError};
use crate::policies::Policies;
use crate::storage::Storage;
use crate::storage::postgres::system_tls;
use crate::tenant::TenantId;
use crate::trail::Trail;
use jobs::Jobs;
pub use watch::SlowStatement;

/// How often pools are fitted to their use.
const FIT_PAUSE: Duration = Duration::from_secs(1);

/// What an operator says of the tenants' databases.
#[derive(Clone, Debug)]
pub struct Options {
    /// DATABASE_OPTIMIZATION_ENABLED: otherwise nothing is looked at by itself and nothing is optimized.
    pub enabled: bool,
    /// The pools.
    pub shape: Shape,
    /// Private addresses that may be connected to.
    pub networks: Vec<Network>,
    /// Folders whose sockets may be used.
    pub sockets: Vec<PathBuf>,
    /// The folder that files of SQLite are below.
    pub sqlite: Option<PathBuf>,
    /// How often `pg_stat_statements` is looked at.
    pub watch: Duration,
    /// How long indexes are watched once they are built.
    pub observe: Duration,
    /// How long who asks waits for an answer; what takes longer goes on as a job.
    pub patience: Duration,
    /// How long a server that is lost while a plan is applied is waited for at once; after that it is looked for every few seconds.
    pub outage: Duration,
    /// The longest look at one database for indexes.
    pub longest: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            shape: Shape::default(),
            networks: Vec::new(),
            sockets: Vec::new(),
            sqlite: None,
            watch: Duration::from_secs(60),
            observe: Duration::from_secs(600),
            patience: Duration::from_secs(30),
            outage: Duration::from_secs(60),
            longest: Duration::from_secs(600),
        }
    }
}

/// What is known of a tenant's database.
#[derive(Default)]
struct Known {
    /// The sealed address that the pool was opened for.
    sealed: String,
    /// Why there is no pool.
    problem: Option<String>,
    /// What was seen of its statements.
    seen: watch::Seen,
    /// Slow statements that were written down.
    slow: u64,
    /// How its replication fares, where that is known.
    replication: Option<Replication>,
}

struct Inner {
    options: Options,
    pools: Pools,
    rules: Rules,
    keys: Keys,
    storage: Arc<dyn Storage>,
    trail: Trail,
    clock: Clock,
    numbering: Numbering,
    known: Mutex<HashMap<String, Known>>,
    jobs: Jobs,
    policies: Policies,
    turn: Semaphore,
    running: apply::Running,
    ended: channel::Sender<bool>,
}

/// The tenants' databases. Cheap to clone.
#[derive(Clone)]
pub struct Databases(Arc<Inner>);

/// What a tenant's database is like at the moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// `postgresql` or `sqlite`; none when there is no pool.
    pub kind: Option<&'static str>,
    /// Why there is no pool, or why its statements cannot be looked at.
    pub problem: Option<String>,
    /// The pool's figures.
    pub pool: Statistics,
    /// Statements that the server has counted, if it does.
    pub calls: Option<u64>,
}

impl State {
    /// Statements: those that the server has counted, else those that went through the pool.
    #[must_use]
    pub fn query_count(&self) -> u64 {
        self.calls.unwrap_or(self.pool.statements)
    }
}

impl Databases {
    /// Over the tenants of a store, and what must run beside them: [`Background::run`].
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new(
        options: Options,
        (keys, policies): (Keys, Policies),
        storage: Arc<dyn Storage>,
        trail: Trail,
        clock: Clock,
    ) -> Result<(Self, Background), String> {
        let networks = options.networks.clone();
        let rules = Rules {
            allowed: Some(Arc::new(move |address| networks.iter().any(|network| network.contains(address)))),
            sockets: options.sockets.clone(),
            sqlite: options.sqlite.clone(),
        };
        let (pools, slow) = Pools::new(options.shape, rules.clone(), system_tls()?, monotonic());
        let inner = Inner {
            options,
            pools,
            rules,
            keys,
            storage,
            trail,
            clock,
            numbering: Numbering::default(),
            known: Mutex::default(),
            jobs: Jobs::default(),
            policies,
            turn: Semaphore::new(1),
            running: apply::Running::default(),
            ended: channel::Sender::new(false),
        };
        let databases = Self(Arc::new(inner));
        Ok((databases.clone(), Background { databases, slow }))
    }

    /// Whether databases are looked after: DATABASE_OPTIMIZATION_ENABLED.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.0.options.enabled
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.0.pools
    }

    /// How long who asks waits for an answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.0.options.patience
    }

    /// Servers of tenants that may be connected to: the tenant, and its sealed address, which tells a change.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, String)> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut servers: Vec<(String, String)> = known
            .iter()
            .filter(|(name, known)| {
                known.problem.is_none() && self.0.pools.kind(name) == Some(Kind::Postgres)
            })
            .map(|(name, known)| (name.clone(), known.sealed.clone()))
            .collect();
        servers.sort_unstable();
        servers
    }

    /// Slow statements that were written down since each was known here.
    #[must_use]
    pub fn slow_counts(&self) -> BTreeMap<String, u64> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, known)| (name.clone(), known.slow)).collect()
    }

    /// How the replication of those servers fares that were looked at.
    #[must_use]
    pub fn replication(&self) -> Vec<(String, Replication)> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(|(name, known)| Some((name.clone(), known.replication?))).collect()
    }

    /// Where they may be.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// What an operator says of them.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// What is under way.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// Looks whether a tenant's database is still where it was, and lends a connection to it.
    ///
    /// # Errors
    /// The store or the keys fail ([`LendError::Keys`]), or there is no connection ([`LendError::Pool`]).
    pub async fn lend(&self, tenant: &TenantId, correlation_id: Option<&str>) -> Result<Lease, LendError> {
        self.refresh(tenant).await?;
        if let Some(problem) = self.known(tenant.as_str(), |known| known.problem.clone()).flatten() {
            return Err(LendError::Address(problem));
        }
        Ok(self.0.pools.lend(tenant.as_str(), correlation_id).await?)
    }

    /// What a tenant's database is like.
    ///
    /// # Errors
    /// The store or the keys fail.
    pub async fn state(&self, tenant: &TenantId) -> Result<State, KeysError> {
        self.refresh(tenant).await?;
        let name = tenant.as_str();
        let (problem, calls) = self
            .known(name, |known| {
                (known.problem.clone().or_else(|| known.seen.problem.clone()), known.seen.calls)
            })
            .unwrap_or_default();
        Ok(State {
            kind: self.0.pools.kind(name).map(portcullis_database::pool::target::Kind::as_str),
            problem,
            pool: self.0.pools.statistics(name).unwrap_or_default(),
            calls,
        })
    }

    fn known<T>(&self, tenant: &str, look: impl FnOnce(&Known) -> T) -> Option<T> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).map(look)
    }
}

/// Why no connection was lent.
#[derive(Debug, thiserror::Error)]
pub enum LendError {
    /// The store or the keys fail.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The address is not one that may be connected to.
    #[error("{0}")]
    Address(String),
    /// There is no connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// What runs beside the databases.
pub struct Background {
    databases: Databases,
    slow: mpsc::Receiver<portcullis_database::pool::Slow>,
}

impl Background {
    /// Follows the tenants, fits the pools, looks at statements and writes slow ones down, until `end` says true.
    pub async fn run(self, mut end: channel::Receiver<bool>) {
        let Self { databases, mut slow } = self;
        let record = async {
            let mut told = Vec::new();
            while slow.recv_many(&mut told, 100).await > 0 {
                databases.record_timed(std::mem::take(&mut told)).await;
            }
        };
        let all =
            async { tokio::join!(follow::run(&databases), fit(&databases), watch_on(&databases), record) };
        tokio::select! {
            _ = all => {}
            _ = end.wait_for(|end| *end) => {}
        }
        databases.0.ended.send_replace(true);
        for tenant in databases.pools().tenants() {
            databases.pools().remove(&tenant);
        }
    }
}

async fn fit(databases: &Databases) {
    let mut last = monotonic();
    loop {
        tokio::time::sleep(FIT_PAUSE).await;
        databases.pools().maintain(last.elapsed());
        last = monotonic();
    }
}

async fn watch_on(databases: &Databases) {
    loop {
        tokio::time::sleep(databases.0.options.watch).await;
        if databases.enabled() {
            databases.watch_all().await;
        }
    }
}
