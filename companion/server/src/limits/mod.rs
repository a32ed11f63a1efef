//! Rate limits for all proxies: leases for modules, checks for programs, one truth for both.
//!
//! [`leases`] and [`policies`] are asked by modules on the ingest listener; [`Limits::spend`] is asked by the API. The
//! counting is done by `portcullis-limits`, whose pages tell the promise and the bounds.

pub mod leases;
pub mod policies;
pub mod rates;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis_limits::engine::{Level, Totals};
use portcullis_limits::journal::disk::Folder;
use portcullis_limits::journal::frame::Identity;
use portcullis_limits::journal::{Found, JournalError, Store};
use portcullis_limits::key::{Name, Secret};
use portcullis_limits::quota::Quota;
use portcullis_limits::step::Spent;
use portcullis_limits::wire::{Checked, Grant};

use crate::clock::monotonic;
use crate::metrics::Counter;
pub use policies::{Policies, Policy};
pub use rates::{Rates, Rule};

/// Keys that are counted at once, by default; see `portcullis_limits::table` for what happens beyond.
pub const DEFAULT_KEYS: usize = 1 << 20;
/// How long another process is given to leave the journal's folder.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why nothing could be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The store of the limits does not answer.
    #[error("the store of the limits does not answer: {0}")]
    Unavailable(String),
    /// More waits for the disk than may.
    #[error("the disk does not keep up with what is granted")]
    Behind,
}

impl From<JournalError> for LimitsError {
    fn from(error: JournalError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

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
}

/// One limit of a question.
#[derive(Debug, Clone, Copy)]
pub struct Cost<'a> {
    /// Which.
    pub name: Name<'a>,
    /// Its numbers.
    pub quota: Quota,
    /// How much; 0 only looks.
    pub hits: u32,
}

/// The limits of all tenants.
pub struct Limits {
    store: Store,
    /// Who has which rates.
    pub policies: Policies,
    /// Calls for leases that were answered.
    pub calls: Counter,
    /// Checks with room.
    pub allowed: Counter,
    /// Checks without.
    pub limited: Counter,
}

impl Limits {
    /// In memory, with its journal in `folder`. A folder that another process has is waited for a little: that process may
    /// be ending.
    ///
    /// # Errors
    /// [`OpenError`], with the remedy.
    pub async fn open(folder: &Path, policies: Policies) -> Result<Self, OpenError> {
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
        let started = monotonic();
        let clock = Arc::new(move || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let random = (Secret(secret), Identity(identity));
        let open = move || Store::open(Box::new(disk), DEFAULT_KEYS, random, clock);
        let opened =
            tokio::task::spawn_blocking(open).await.map_err(|error| failed(std::io::Error::other(error)))?;
        let store = opened.map_err(failed)?;
        if store.found == Found::Corrupt {
            tracing::error!(
                category = "security",
                "the journal of the limits is broken; nothing is granted until every limit's window has passed"
            );
        }
        Ok(Self {
            store,
            policies,
            calls: Counter::default(),
            allowed: Counter::default(),
            limited: Counter::default(),
        })
    }

    fn now_ns(&self) -> u64 {
        self.store.journal().now_ns()
    }

    fn able(&self) -> Result<(), LimitsError> {
        if self.store.journal().is_behind() { Err(LimitsError::Behind) } else { Ok(()) }
    }

    /// Answers the asks of one process.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as granted.
    pub async fn lease(&self, asks: &[Checked<'_>]) -> Result<Vec<Grant>, LimitsError> {
        self.able()?;
        let (now_ns, engine) = (self.now_ns(), &self.store.engine);
        let secret = engine.secret();
        let answer =
            |asked: &Checked<'_>| engine.ask(asked.name.key(secret), &asked.quota, &asked.ask, now_ns);
        let answers: Vec<_> = asks.iter().map(answer).collect();
        let batch = answers.iter().map(|answer| answer.batch).max().unwrap_or(0);
        self.store.journal().wait(batch).await?;
        self.calls.add(1);
        Ok(answers.into_iter().map(|answer| answer.value.into()).collect())
    }

    /// Spends on all levels, or on none; and what each said.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as allowed.
    pub async fn spend(&self, costs: &[Cost<'_>]) -> Result<(bool, Vec<Spent>), LimitsError> {
        self.able()?;
        let secret = self.store.engine.secret();
        let level =
            |cost: &Cost<'_>| Level { key: cost.name.key(secret), quota: cost.quota, hits: cost.hits };
        let levels: Vec<Level> = costs.iter().map(level).collect();
        let mut said = Vec::with_capacity(levels.len());
        let answer = self.store.engine.spend(&levels, self.now_ns(), &mut said);
        self.store.journal().wait(answer.batch).await?;
        if answer.value {
            self.allowed.add(1)
        } else {
            self.limited.add(1)
        }
        Ok((answer.value, said))
    }

    /// Ends what has expired, a shard at a time so that nobody waits long; to be called about every second.
    pub async fn sweep(&self) {
        for shard in 0..self.store.engine.shards() {
            self.store.engine.sweep(shard, self.now_ns());
            tokio::task::yield_now().await;
        }
    }

    /// Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let totals = self.store.engine.totals();
        let Totals { granted, spent, returned, expired, outstanding, direct, folded, no_room, bytes } =
            totals;
        let mut text = String::with_capacity(2048);
        for (name, kind, help, value) in [
            ("lease_calls_total", "counter", "Calls for leases that were answered.", self.calls.value()),
            ("tokens_granted_total", "counter", "Tokens granted on leases.", granted),
            ("tokens_spent_total", "counter", "Leased tokens reported or taken as spent.", spent),
            ("tokens_returned_total", "counter", "Leased tokens given back.", returned),
            ("tokens_expired_total", "counter", "Tokens of leases that ended.", expired),
            ("tokens_outstanding", "gauge", "Tokens on leases now.", outstanding),
            ("tokens_direct_total", "counter", "Tokens spent by checks, without a lease.", direct),
            ("checks_allowed_total", "counter", "Checks with room.", self.allowed.value()),
            ("checks_limited_total", "counter", "Checks without room.", self.limited.value()),
            ("folded_total", "counter", "Keys in use that gave way in a full table.", folded),
            ("no_room_total", "counter", "Keys that found no place in a full table.", no_room),
            ("table_bytes", "gauge", "Memory of the table.", bytes),
        ] {
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "# HELP portcullis_limits_{name} {help}\n# TYPE portcullis_limits_{name} {kind}\nportcullis_limits_{name} {value}"
            );
        }
        text
    }
}
