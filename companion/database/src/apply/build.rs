//! One index at a time: built, checked, and what a failure leaves removed.

use std::borrow::Borrow;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::preflight::{builds, old_transactions};
use super::session::Session;
use super::{ApplyError, Build, Options, ledger};
use crate::Error;

/// One apply or rollback in a database at a time: the key of its advisory lock.
pub(super) const LOCK: i64 = 0x706f_7274_6375_6c6c;
/// How long a lock is waited for that a connection which was just lost may still hold.
const RELEASE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(300);

/// Builds and removes indexes, on a connection of its own that holds the lock.
pub(super) struct Builder<'c, C, K> {
    session: Session<'c, C, K>,
    options: &'c Options,
}

/// Why an index was not built.
pub(super) struct Failure {
    pub reason: String,
    /// An invalid one stands there still.
    pub left: bool,
    /// The next would fail like it.
    pub stop: bool,
}

impl<'c, C, K> Builder<'c, C, K>
where
    C: AsyncFn() -> Result<K, Error>,
    K: Borrow<Client>,
{
    pub async fn start(connect: &'c C, options: &'c Options) -> Result<Self, ApplyError> {
        // The server notices that we are gone even while it waits or sorts (PostgreSQL 14+), and ends the build.
        let settings = format!(
            "SET lock_timeout = '{}ms'; SET statement_timeout = 0;
             DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '1s', false); EXCEPTION WHEN OTHERS THEN NULL; END $$",
            options.lock_timeout.as_millis()
        );
        let session = Session::open(connect, options.patience, settings).await?;
        let mut builder = Self { session, options };
        builder.lock(options.wait).await?;
        Ok(builder)
    }

    pub fn client(&self) -> &Client {
        self.session.client()
    }

    /// Another session with the same settings, without the lock.
    pub async fn sibling(&self) -> Result<Session<'c, C, K>, Error> {
        self.session.sibling().await
    }

    async fn lock(&mut self, wait: Duration) -> Result<(), ApplyError> {
        let end = Instant::now() + wait;
        loop {
            let client = self.session.client();
            let got =
                client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.map_err(Error::from)?;
            if got.try_get(0).map_err(Error::from)? {
                return Ok(());
            }
            if Instant::now() >= end {
                let holder = "SELECT coalesce((SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted \
                              AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                              AND classid::bigint = $1::bigint >> 32 AND objid::bigint = $1::bigint & 4294967295 LIMIT 1), 0)";
                let row = client.query_one(holder, &[&LOCK]).await.map_err(Error::from)?;
                return Err(ApplyError::Busy(row.try_get(0).map_err(Error::from)?));
            }
            sleep(PAUSE).await;
        }
    }

    async fn revive(&mut self) -> Result<(), Error> {
        if self.session.revive().await? {
            self.lock(RELEASE).await.map_err(|error| match error {
                ApplyError::Server(error) => error,
                other => Error::Unreachable(other.to_string()),
            })?;
        }
        Ok(())
    }

    /// Whether an index is there, and if so whether it is valid.
    pub async fn state(&self, schema: &str, name: &str) -> Result<Option<bool>, Error> {
        let state = "SELECT i.indisvalid AND i.indisready FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
        let row = self.client().query_opt(state, &[&schema, &name]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Builds an index of a plan, some times if need be. Answers its number in the ledger and its size. When the server is lost for good in the
    /// middle, the ledger says that it is being built.
    pub async fn build(&mut self, plan: &str, build: &Build) -> Result<Result<(i64, i64), Failure>, Error> {
        self.revive().await?;
        if self.state(&build.schema, &build.name).await?.is_some() {
            let reason =
                format!("{} is there and is not ours; rename it, or take it out of the plan", build.index());
            return Ok(Err(Failure { reason, left: false, stop: false }));
        }
        let id = ledger::begin(self.client(), plan, build).await?;
        let mut reason = String::new();
        let mut stop = false;
        for attempt in 0..self.options.attempts.max(1) {
            if let Some(withdrawn) = self.options.withdrawn() {
                (reason, stop) = (withdrawn, true);
                break;
            }
            if attempt > 0 {
                sleep(PAUSE * 2_u32.saturating_pow(attempt)).await;
                self.revive().await?;
            }
            if let Some(obstacle) = self.obstacle().await? {
                (reason, stop) = (obstacle, self.options.withdrawn().is_some());
                break;
            }
            let done = match self.client().batch_execute(&build.statement).await {
                Ok(()) => self.check(build, id).await,
                Err(error) => Err(error.into()),
            };
            match done {
                Ok(Some(bytes)) => return Ok(Ok((id, bytes))),
                Ok(None) => "the server built it and calls it invalid".clone_into(&mut reason),
                Err(error) => {
                    reason = self.options.withdrawn().unwrap_or_else(|| error.to_string());
                    stop = no_use(&error);
                }
            }
            self.revive().await?;
            if let Err(error) = self.remove(&build.index()).await {
                if self.client().is_closed() {
                    return Err(error);
                }
                let left = format!(
                    "{reason}; what is left of it could not be dropped: {error}; run `database rollback`"
                );
                drop(ledger::note(self.client(), id, "dropping", Some(&left)).await);
                return Ok(Err(Failure { reason: left, left: true, stop: true }));
            }
            if stop {
                break;
            }
        }
        ledger::note(self.client(), id, "failed", Some(&reason)).await?;
        Ok(Err(Failure { reason, left: false, stop }))
    }

    /// A valid index's size, entered as one that is watched; statistics are taken where it computes something.
    pub async fn check(&self, build: &Build, id: i64) -> Result<Option<i64>, Error> {
        if self.state(&build.schema, &build.name).await? != Some(true) {
            return Ok(None);
        }
        let about = "SELECT pg_relation_size(to_regclass($1)), (SELECT indexprs IS NOT NULL FROM pg_index WHERE indexrelid = to_regclass($1))";
        let row = self.client().query_one(about, &[&build.index()]).await?;
        let (bytes, computed): (i64, Option<bool>) = (row.try_get(0)?, row.try_get(1)?);
        if computed == Some(true) {
            self.client().batch_execute(&format!("ANALYZE {}", build.on())).await?;
        }
        ledger::size(self.client(), id, bytes).await?;
        ledger::note(self.client(), id, "observing", None).await?;
        Ok(Some(bytes))
    }

    /// Waits until no old transaction is there and nothing else is built in the cluster; what it is that does not end.
    async fn obstacle(&self) -> Result<Option<String>, Error> {
        let end = Instant::now() + self.options.patience;
        loop {
            let old = old_transactions(self.client()).await?;
            let others = builds(self.client()).await?;
            if let Some(withdrawn) = self.options.withdrawn() {
                return Ok(Some(withdrawn));
            }
            if old.is_empty() && others == 0 {
                return Ok(None);
            }
            if Instant::now() >= end {
                let what = old
                    .first()
                    .cloned()
                    .unwrap_or_else(|| format!("{others} other index builds run in the cluster"));
                let waited = self.options.patience.as_secs();
                return Ok(Some(format!(
                    "{what}, and a build would wait for it; {waited} s were waited; end it, or try again later"
                )));
            }
            sleep(PAUSE).await;
        }
    }

    /// Drops an index if it is there: beside what runs; when that does not succeed, under a short lock.
    pub async fn remove(&mut self, index: &str) -> Result<(), Error> {
        let end = Instant::now() + self.options.patience;
        let mut attempt = 0_u32;
        loop {
            self.revive().await?;
            let dropped = if attempt % 4 < 3 {
                self.client().batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await
            } else {
                let short =
                    format!("BEGIN; SET LOCAL lock_timeout = '200ms'; DROP INDEX IF EXISTS {index}; COMMIT");
                let dropped = self.client().batch_execute(&short).await;
                if dropped.is_err() && !self.client().is_closed() {
                    self.client().batch_execute("ROLLBACK").await?;
                }
                dropped
            };
            match dropped {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error.into()),
                Err(error) => tracing::debug!(index, %error, "not dropped yet"),
            }
            attempt = attempt.saturating_add(1);
            sleep(PAUSE).await;
        }
    }
}

/// Errors after which another attempt, or another index, would end the same way.
fn no_use(error: &Error) -> bool {
    let Error::Database(error) = error else { return false };
    let Some(code) = error.code() else { return false };
    // 53: no disk, no memory, a limit. A cancelled statement was somebody's wish.
    code.code().starts_with("53") && *code != SqlState::TOO_MANY_CONNECTIONS
        || [SqlState::QUERY_CANCELED, SqlState::INSUFFICIENT_PRIVILEGE, SqlState::READ_ONLY_SQL_TRANSACTION]
            .contains(code)
}
