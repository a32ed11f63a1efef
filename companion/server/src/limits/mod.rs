//! Rate limits for all proxies: leases for modules, checks for programs, one truth for both.
//!
//! [`leases`] and [`policies`] are asked by modules on the ingest listener; [`Limits::spend`] is asked by the API. The
//! counting is done by `portcullis-limits`, whose pages tell the promise and the bounds.

pub mod leases;
pub mod policies;
pub mod rates;

use std::fmt::Write as _;
use std::time::Instant;

use portcullis_limits::engine::{Engine, Level, Totals};
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

/// Why nothing could be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The store of the limits does not answer.
    #[error("the store of the limits does not answer: {0}")]
    Unavailable(String),
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
    engine: Engine<()>,
    started: Instant,
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
    /// In memory.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn in_memory(policies: Policies) -> Result<Self, getrandom::Error> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        Ok(Self {
            engine: Engine::new(DEFAULT_KEYS, Secret(secret), ()),
            started: monotonic(),
            policies,
            calls: Counter::default(),
            allowed: Counter::default(),
            limited: Counter::default(),
        })
    }

    fn now_ns(&self) -> u64 {
        // One second on: a time of 0 would look like no time at all.
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1_000_000_000)
    }

    /// Answers the asks of one process.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as granted.
    pub async fn lease(&self, asks: &[Checked<'_>]) -> Result<Vec<Grant>, LimitsError> {
        let now_ns = self.now_ns();
        let secret = self.engine.secret();
        let answer =
            |asked: &Checked<'_>| self.engine.ask(asked.name.key(secret), &asked.quota, &asked.ask, now_ns);
        let answers: Vec<_> = asks.iter().map(answer).collect();
        self.calls.add(1);
        Ok(answers.into_iter().map(|answer| answer.value.into()).collect())
    }

    /// Spends on all levels, or on none; and what each said.
    ///
    /// # Errors
    /// [`LimitsError`]: then nothing may be taken as allowed.
    pub async fn spend(&self, costs: &[Cost<'_>]) -> Result<(bool, Vec<Spent>), LimitsError> {
        let secret = self.engine.secret();
        let level =
            |cost: &Cost<'_>| Level { key: cost.name.key(secret), quota: cost.quota, hits: cost.hits };
        let levels: Vec<Level> = costs.iter().map(level).collect();
        let mut said = Vec::with_capacity(levels.len());
        let answer = self.engine.spend(&levels, self.now_ns(), &mut said);
        if answer.value {
            self.allowed.add(1)
        } else {
            self.limited.add(1)
        }
        Ok((answer.value, said))
    }

    /// Ends what has expired, a shard at a time so that nobody waits long; to be called about every second.
    pub async fn sweep(&self) {
        for shard in 0..self.engine.shards() {
            self.engine.sweep(shard, self.now_ns());
            tokio::task::yield_now().await;
        }
    }

    /// Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let totals = self.engine.totals();
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
