//! Rate limits for all proxies: leases for modules, checks for programs, Envoy's own service; one truth for all.
//!
//! [`leases`] and [`policies`] are asked by modules on the ingest listener, [`checks`] by programs, [`grpc`] by Envoys
//! without our module. The counting is done by `portcullis-limits`, whose pages tell the promise and the bounds; [`store`]
//! chooses where.

pub mod checks;
pub mod generation;
pub mod grpc;
pub mod leases;
pub mod policies;
pub mod rates;
pub mod store;
pub mod usage;

use std::fmt::Write as _;

use portcullis_limits::engine::Totals;
use portcullis_limits::journal::JournalError;
use portcullis_limits::key::Name;
use portcullis_limits::quota::Quota;
use portcullis_limits::redis::RedisError;
use portcullis_limits::step::Spent;
use portcullis_limits::wire::{Checked, Grant};

use crate::clock::monotonic;
use crate::metrics::Counter;
pub use checks::{CheckError, Checks};
pub use policies::{Policies, Policy};
pub use rates::{LocalShare, Rates, Rule};
pub use store::{OpenError, Store};
use usage::Usage;

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

impl From<RedisError> for LimitsError {
    fn from(error: RedisError) -> Self {
        Self::Unavailable(error.to_string())
    }
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

/// The grant of a limit that limits nothing.
fn everything(asked: &Checked<'_>) -> Grant {
    Grant {
        keep: asked.ask.held,
        granted: asked.ask.want.max(asked.ask.need),
        expires_ms: asked.quota.lease_ms(),
        retry_after_ms: 0,
        remaining: u64::from(asked.quota.burst()),
    }
}

/// The limits of all tenants.
pub struct Limits {
    store: Store,
    /// Who has which rates.
    pub policies: Policies,
    /// Whether anything is limited at all.
    enforced: bool,
    calls: Counter,
    allowed: Counter,
    limited: Counter,
    failed: Counter,
    usage: Usage,
}

impl Limits {
    /// Counted in `store`, by `policies`.
    #[must_use]
    pub fn new(store: Store, policies: Policies) -> Self {
        let (calls, allowed, limited, failed) = Default::default();
        Self { store, policies, enforced: true, calls, allowed, limited, failed, usage: Usage::default() }
    }

    /// Whether anything is limited: if not, everything that is asked for is granted, and nothing is counted.
    #[must_use]
    pub fn enforced(self, enforced: bool) -> Self {
        Self { enforced, ..self }
    }

    /// Answers the asks of one process.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as granted.
    pub async fn lease(&self, asks: &[Checked<'_>]) -> Result<Vec<Grant>, LimitsError> {
        if !self.enforced {
            self.calls.add(1);
            return Ok(asks.iter().map(everything).collect());
        }
        let grants = self.store.lease(asks).await.inspect_err(|_| self.failed.add(1))?;
        self.calls.add(1);
        let counted =
            asks.iter().zip(&grants).map(|(asked, grant)| (asked.name, &asked.quota, grant.remaining));
        self.usage.note(counted, monotonic());
        Ok(grants)
    }

    /// Spends on all levels, or on none; and what each said.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as allowed.
    pub async fn spend(&self, costs: &[Cost<'_>]) -> Result<(bool, Vec<Spent>), LimitsError> {
        if !self.enforced {
            self.allowed.add(1);
            let whole = |cost: &Cost<'_>| Spent {
                allowed: true,
                remaining: u64::from(cost.quota.burst()),
                retry_after_ns: 0,
            };
            return Ok((true, costs.iter().map(whole).collect()));
        }
        let (allowed, said) = self.store.spend(costs).await.inspect_err(|_| self.failed.add(1))?;
        let counted = costs.iter().zip(&said).map(|(cost, spent)| (cost.name, &cost.quota, spent.remaining));
        self.usage.note(counted, monotonic());
        if allowed {
            self.allowed.add(1)
        } else {
            self.limited.add(1)
        }
        Ok((allowed, said))
    }

    /// Ends what has expired; to be called about every second.
    pub async fn sweep(&self) {
        self.store.sweep().await;
    }

    /// How much of each limit is used.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Where limits are counted.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let totals = self.store.totals();
        let Totals { granted, spent, returned, expired, outstanding, direct, folded, no_room, bytes } =
            totals;
        let lost = u64::from(self.store.has_lost());
        let mut text = String::with_capacity(2048);
        for (name, kind, help, value) in [
            ("lease_calls_total", "counter", "Calls for leases that were answered.", self.calls.value()),
            ("failed_total", "counter", "Questions that could not be counted.", self.failed.value()),
            ("tokens_granted_total", "counter", "Tokens granted on leases.", granted),
            ("tokens_spent_total", "counter", "Leased tokens reported or taken as spent.", spent),
            ("tokens_returned_total", "counter", "Leased tokens given back.", returned),
            ("tokens_expired_total", "counter", "Tokens of leases that ended.", expired),
            ("tokens_outstanding", "gauge", "Tokens on leases now (in this process alone).", outstanding),
            ("tokens_direct_total", "counter", "Tokens spent by checks, without a lease.", direct),
            ("checks_allowed_total", "counter", "Checks with room.", self.allowed.value()),
            ("checks_limited_total", "counter", "Checks without room.", self.limited.value()),
            ("state_lost", "gauge", "1 when earlier state was lost; limits wait for their window.", lost),
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
