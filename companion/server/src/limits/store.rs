//! Where limits are counted: in this process with a journal beside it, or in Redis.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis_limits::engine::{Level, Totals};
use portcullis_limits::journal::disk::Folder;
use portcullis_limits::journal::frame::Identity;
use portcullis_limits::journal::{Clock, Found, JournalError, Store as Journaled};
use portcullis_limits::key::Secret;
use portcullis_limits::redis::{Redis, RedisError};
use portcullis_limits::step::Spent;
use portcullis_limits::wire::{Checked, Grant};

use super::generation::Generation;
use super::{Cost, LimitsError};
use crate::clock::monotonic;
use crate::secret::hex;
use crate::storage::{Storage, StorageError};

/// Keys that are counted at once in this process; see `portcullis_limits::table` for what happens beyond.
const KEYS: usize = 1 << 20;
/// How long another process is given to leave the journal's folder.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the limits cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No random bytes.
    #[error("the system's random source failed: {0}")]
    Random(#[from] getrandom::Error),
    /// The journal's folder.
    #[error(
        "{place}: {source}; stop the companion that uses it, or set DATA_DIR to a folder that this user may write"
    )]
    Folder {
        /// The folder.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address of Redis.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The companion's own database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// An address of Redis that shows nothing of itself.
#[derive(Clone)]
pub struct RedisUrl(pub String);

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// See the module's page.
pub enum Store {
    /// In this process.
    Memory(Journaled),
    /// In Redis, for several companions.
    Redis(Box<Redis>),
}

fn clock() -> Clock {
    let started = monotonic();
    Arc::new(move || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

impl Store {
    /// In Redis. It need not answer yet: until it does, nothing is granted.
    ///
    /// # Errors
    /// When the address is none.
    pub fn redis(url: &str, storage: Arc<dyn Storage>) -> Result<Self, OpenError> {
        let memory = Box::new(Generation::of(storage, "redis"));
        Ok(Self::Redis(Box::new(Redis::new(url, memory, clock())?)))
    }

    /// In this process, with its journal in `folder`. A folder that another process has is waited for a little: that process
    /// may be ending.
    ///
    /// # Errors
    /// [`OpenError`], with the remedy.
    pub async fn memory(folder: &Path, storage: Arc<dyn Storage>) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { place: folder.display().to_string(), source };
        let (mut secret, mut identity) = ([0; 16], [0; 16]);
        getrandom::fill(&mut secret)?;
        getrandom::fill(&mut identity)?;
        let deadline = monotonic() + PATIENCE;
        let disk = loop {
            match Folder::open(folder) {
                Ok(disk) => break disk,
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && monotonic() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(failed(error)),
            }
        };
        let random = (Secret(secret), Identity(identity));
        let open = move || Journaled::open(Box::new(disk), KEYS, random, clock());
        let opened = tokio::task::spawn_blocking(open).await;
        let store = opened.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)?;
        let (generation, identity) = (Generation::of(storage, "journal"), hex(&store.journal().identity().0));
        let known = generation.known().await?;
        let gone = known.as_ref().is_some_and(|known| *known != identity);
        if gone {
            store.forget().await?;
        }
        if gone || store.found == Found::Corrupt {
            tracing::error!(
                category = "security",
                "the journal of the limits is gone or broken; nothing of a limit is granted until its window has passed"
            );
        }
        if known.as_ref() != Some(&identity) {
            generation.keep(&identity).await?;
        }
        Ok(Self::Memory(store))
    }

    /// Answers the asks of one process.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as granted.
    pub async fn lease(&self, asks: &[Checked<'_>]) -> Result<Vec<Grant>, LimitsError> {
        let store = match self {
            Self::Memory(store) => store,
            Self::Redis(redis) => return Ok(redis.lease(asks).await?.into_iter().map(Grant::from).collect()),
        };
        able(store)?;
        let (now_ns, engine) = (store.journal().now_ns(), &store.engine);
        let secret = engine.secret();
        let answer =
            |asked: &Checked<'_>| engine.ask(asked.name.key(secret), &asked.quota, &asked.ask, now_ns);
        let answers: Vec<_> = asks.iter().map(answer).collect();
        let batch = answers.iter().map(|answer| answer.batch).max().unwrap_or(0);
        store.journal().wait(batch).await?;
        Ok(answers.into_iter().map(|answer| answer.value.into()).collect())
    }

    /// Spends on all levels, or on none; and what each said.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as allowed.
    pub async fn spend(&self, costs: &[Cost<'_>]) -> Result<(bool, Vec<Spent>), LimitsError> {
        let store = match self {
            Self::Memory(store) => store,
            Self::Redis(redis) => {
                let levels: Vec<_> = costs.iter().map(|cost| (cost.name, cost.quota, cost.hits)).collect();
                return Ok(redis.spend(&levels).await?);
            }
        };
        able(store)?;
        let secret = store.engine.secret();
        let level =
            |cost: &Cost<'_>| Level { key: cost.name.key(secret), quota: cost.quota, hits: cost.hits };
        let levels: Vec<Level> = costs.iter().map(level).collect();
        let mut said = Vec::with_capacity(levels.len());
        let answer = store.engine.spend(&levels, store.journal().now_ns(), &mut said);
        store.journal().wait(answer.batch).await?;
        Ok((answer.value, said))
    }

    /// Ends what has expired, a shard at a time so that nobody waits long. Redis does so by itself.
    pub async fn sweep(&self) {
        let Self::Memory(store) = self else { return };
        for shard in 0..store.engine.shards() {
            store.engine.sweep(shard, store.journal().now_ns());
            tokio::task::yield_now().await;
        }
    }

    /// What happened to tokens since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        match self {
            Self::Memory(store) => store.engine.totals(),
            Self::Redis(redis) => redis.totals(),
        }
    }

    /// Whether state was lost since, or before, the start.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        match self {
            Self::Memory(store) => store.engine.lost_ns().is_some(),
            Self::Redis(redis) => redis.has_lost(),
        }
    }

    /// `memory` or `redis`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Redis(_) => "redis",
        }
    }
}

fn able(store: &Journaled) -> Result<(), LimitsError> {
    if store.journal().is_behind() { Err(LimitsError::Behind) } else { Ok(()) }
}
