//! Answers of read-only statements, kept until what they depend on changes.
//!
//! - **Key** ([`key`]): the tenant's pool, role, `search_path`, settings (row-level security reads them), the statement's text, its parameters
//!   with their types, and a stamp of everything that the answer depends on. The context is what the caller declares, and the statement
//!   runs in that context and no other ([`Context`]): nobody's session leaks into an answer.
//! - **What may be kept** ([`words`], [`plan`]): what only reads tables, by functions that the catalog calls immutable, or that are known to depend
//!   on nothing else. A function that is not known, the time, the session, locks, temporary and foreign tables, the catalog:
//!   never. Such a statement runs as it would without a cache, and the reason is counted ([`Refusal`]).
//! - **Freshness** ([`ledger`], [`effect`]): every statement through the pools is looked at for what it may change. An answer is never older than
//!   a change through the pools that was answered before the question; while one is under way, nothing is kept and nothing is served. Of
//!   PostgreSQL the numbers are by table: with cascades, partitions, views, policies and triggers, as the catalog knows them. Of SQLite it is the
//!   database's own counter, asked on each question: there every change is seen, of other programs too ([`sqlite`]).
//! - **One flight**: who asks what somebody is asking already waits for that answer.
//!
//! What others change in a PostgreSQL database is heard where they notify ([`TRIGGER`], `Pools::listen`), or told (`Pools::invalidate`); else it
//! is seen when the entry's time is up. Not against: an immutable function that is none; a change hidden in a view, an operator or a cast;
//! a text column with the word `now`, cast to a date; rights that others take away: within the entry's time.
//!
//! Limits: bytes of all entries together, and their life ([`Limits`]); an answer of [`MAX_ANSWER`]; statements of [`words::MAX_BYTES`].

pub mod effect;
pub mod key;
pub mod ledger;
pub mod plan;
pub mod sqlite;
pub mod words;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use key::Key;
use plan::Plan;

pub use key::{Context, ContextError};

/// The largest answer that is kept, in bytes.
pub const MAX_ANSWER: usize = 1024 * 1024;
/// What an entry takes besides its rows.
const ENTRY: usize = 256;
/// The part of the bytes that is for what is known of statements.
const FOR_PLANS: u64 = 8;
/// The channel on which others tell of changes: names of tables, with commas between them; nothing for everything.
pub const CHANNEL: &str = "portcullis_cache";
/// Has a table tell of its changes by others; `{table}` is to be replaced. The function's name is known: that trigger changes nothing.
pub const TRIGGER: &str = "\
CREATE OR REPLACE FUNCTION portcullis_changed() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_notify('portcullis_cache', TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER portcullis_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION portcullis_changed();";

/// What a cache may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all entries; 0: nothing is kept.
    pub bytes: u64,
    /// How long an entry lives.
    pub life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 32 * 1024 * 1024, life: Duration::from_secs(30) }
    }
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It does not only read.
    NotARead,
    /// It could be read in two ways.
    Unreadable,
    /// It depends on the time.
    Time,
    /// It depends on the session.
    Session,
    /// It calls what gives another answer each time.
    Volatile,
    /// It calls what is not known.
    Unknown,
    /// It locks rows.
    Locks,
    /// It reads the catalog, or how rows are stored.
    Catalog,
    /// It reads what is no table of this database.
    Foreign,
    /// The statement, the answer, or the number of its tables is too large.
    Large,
    /// What it reads is being changed.
    Changing,
}

impl Refusal {
    /// All, in the order of the counters.
    pub const ALL: [Self; 11] = [
        Self::NotARead,
        Self::Unreadable,
        Self::Time,
        Self::Session,
        Self::Volatile,
        Self::Unknown,
        Self::Locks,
        Self::Catalog,
        Self::Foreign,
        Self::Large,
        Self::Changing,
    ];

    /// For a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotARead => "not_a_read",
            Self::Unreadable => "unreadable",
            Self::Time => "time",
            Self::Session => "session",
            Self::Volatile => "volatile_function",
            Self::Unknown => "unknown_function",
            Self::Locks => "locks",
            Self::Catalog => "catalog",
            Self::Foreign => "foreign_table",
            Self::Large => "too_large",
            Self::Changing => "being_changed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Rows of an answer.
#[derive(Clone)]
pub enum Rows {
    /// Of PostgreSQL.
    Postgres(Arc<Vec<tokio_postgres::Row>>),
    /// Of SQLite.
    Sqlite(Arc<Vec<Vec<rusqlite::types::Value>>>),
}

impl Rows {
    /// Bytes in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        use rusqlite::types::Value;
        let of_value = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        match self {
            Self::Postgres(rows) => rows.iter().map(|row| row.raw_size_bytes() + 8 * row.len() + 64).sum(),
            Self::Sqlite(rows) => {
                rows.iter().flat_map(|row| row.iter().map(|value| of_value(value) + 32)).sum::<usize>()
                    + 24 * rows.len()
            }
        }
    }
}

/// Figures of a cache, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Questions that were answered from memory, or by somebody else's answer that was under way.
    pub hits: u64,
    /// Questions that were passed on, and whose answers were kept.
    pub misses: u64,
    /// Questions whose answers were not kept, by reason.
    pub refused: Vec<(Refusal, u64)>,
    /// Entries.
    pub entries: u64,
    /// Bytes of all entries.
    pub bytes: u64,
}

/// The entries of all tenants.
pub struct Cache {
    answers: moka::future::Cache<Key, Rows>,
    plans: moka::future::Cache<Key, Arc<Result<Plan, Refusal>>>,
    on: bool,
    hits: AtomicU64,
    misses: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

/// What comes of a question that was passed on and is not kept.
#[derive(Clone)]
pub enum Passed<E> {
    /// It is too large.
    Large(Rows),
    /// It failed.
    Failed(E),
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let for_plans = limits.bytes / FOR_PLANS;
        let weigh = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let answers = moka::future::Cache::builder()
            .max_capacity(limits.bytes - for_plans)
            .weigher(move |_, rows: &Rows| weigh(rows.bytes() + ENTRY))
            .time_to_live(limits.life)
            .build();
        let plans = moka::future::Cache::builder()
            .max_capacity(for_plans)
            .weigher(move |_, plan: &Arc<Result<Plan, Refusal>>| {
                weigh(plan.as_ref().as_ref().map_or(0, Plan::bytes) + ENTRY)
            })
            .time_to_live(limits.life)
            .build();
        Self {
            answers,
            plans,
            on: limits.bytes > 0 && !limits.life.is_zero(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            refused: Default::default(),
        }
    }

    /// Whether anything is kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// What is known of a statement, or what `look` finds. It lies on the heap while it is awaited, as answers do: whoever asks has a stack of his own.
    ///
    /// # Errors
    /// Those of `look`.
    pub async fn plan<E: Clone + Send + Sync + 'static>(
        &self,
        key: Key,
        look: impl Future<Output = Result<Result<Plan, Refusal>, E>>,
    ) -> Result<Arc<Result<Plan, Refusal>>, E> {
        let look = Box::pin(async { look.await.map(Arc::new) });
        Box::pin(self.plans.try_get_with(key, look)).await.map_err(|error| E::clone(&error))
    }

    /// The answer that is kept, or what `ask` brings. Of several who ask at once one asks.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn answer<E: Clone + Send + Sync + 'static>(
        &self,
        key: Key,
        ask: impl Future<Output = Result<Rows, E>>,
    ) -> Result<Rows, E> {
        let asked = AtomicBool::new(false);
        let ask = Box::pin(async {
            asked.store(true, Ordering::Relaxed);
            match ask.await {
                Ok(rows) if rows.bytes() > MAX_ANSWER => Err(Passed::Large(rows)),
                Ok(rows) => Ok(rows),
                Err(error) => Err(Passed::Failed(error)),
            }
        });
        let answer = Box::pin(self.answers.try_get_with(key, ask)).await;
        let asked = asked.load(Ordering::Relaxed);
        match answer {
            Ok(rows) => {
                let counter = if asked { &self.misses } else { &self.hits };
                counter.fetch_add(1, Ordering::Relaxed);
                Ok(rows)
            }
            Err(passed) => match Passed::clone(&passed) {
                Passed::Large(rows) => {
                    self.refuse(Refusal::Large);
                    Ok(rows)
                }
                Passed::Failed(error) => Err(error),
            },
        }
    }

    /// Counts that an answer is not kept.
    pub fn refuse(&self, why: Refusal) {
        let at = Refusal::ALL.iter().position(|one| *one == why);
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Its figures. What was kept or dropped in the last moments may not be among the entries yet.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let refused = Refusal::ALL.into_iter().zip(&self.refused);
        Figures {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            refused: refused.map(|(why, count)| (why, count.load(Ordering::Relaxed))).collect(),
            entries: self.answers.entry_count(),
            bytes: self.answers.weighted_size(),
        }
    }
}

#[cfg(test)]
mod tests;
