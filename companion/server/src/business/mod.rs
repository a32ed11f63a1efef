//! Business metrics: numbers of the tenants' own databases, declared by an administrator, measured beside the rest.
//!
//! A metric is one statement that gives one number (`portcullis_database::metric` holds it to that), with a unit, an interval and a
//! time limit. It runs through the tenant's pool as an unprivileged role, read-only. What it gave, or why it gave nothing, is
//! in the API, in `/metrics` and on the dashboard; a failure is never a number.
//!
//! Several companions on one store each measure for themselves. Limits: [`MOST`] metrics of a tenant, [`MOST_OF_ALL`] that are measured,
//! [`schedule::AT_ONCE`] at once and one of a tenant, [`HISTORY`] numbers that are remembered, until the companion ends.

mod figures;
pub mod schedule;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_database::metric::{Query, QueryProblem};
use portcullis_database::pool::target::Kind;
use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};
use crate::databases::Databases;
use crate::metrics::Counter;
use crate::storage::{Row, Statement, Storage, StorageError};
use crate::tenant::TenantId;

/// Metrics of a tenant.
pub const MOST: u32 = 20;
/// Metrics that are measured, of all tenants; the others are told of.
pub const MOST_OF_ALL: u32 = 5000;
/// Numbers that are remembered of each.
pub const HISTORY: usize = 60;
/// The role that a metric runs as when none is named.
pub const ROLE: &str = "portcullis_metrics";

/// A metric as it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name among the tenant's.
    pub name: String,
    /// What the number counts.
    pub unit: String,
    /// The statement.
    pub statement: String,
    /// The role of PostgreSQL that it runs as.
    pub role: String,
    /// How often it is measured.
    pub interval: Duration,
    /// How long it may take.
    pub time_limit: Duration,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The newest number; none when the last run gave none.
    pub value: Option<f64>,
    /// When the last run ended.
    pub at: Option<Timestamp>,
    /// How long it took.
    pub took: Duration,
    /// Why the last run gave no number.
    pub problem: Option<String>,
    /// The newest numbers, oldest first.
    pub history: VecDeque<(Timestamp, f64)>,
}

/// Tenant and name.
type Key = (String, String);

struct Inner {
    storage: Arc<dyn Storage>,
    databases: Databases,
    clock: Clock,
    outcomes: Mutex<BTreeMap<Key, (Metric, Outcome)>>,
    measured: Counter,
    failed: Counter,
    /// Declared beyond [`MOST_OF_ALL`].
    beyond: std::sync::atomic::AtomicU64,
    changed: Notify,
}

/// The business metrics. Cheap to clone.
#[derive(Clone)]
pub struct Business(Arc<Inner>);

/// Whether a statement can be declared: one kind of database must be able to read it; which one a tenant has may change.
///
/// # Errors
/// [`QueryProblem`] as PostgreSQL's grammar has it.
pub fn check(statement: &str) -> Result<(), QueryProblem> {
    match Query::new(statement, Kind::Postgres) {
        Err(problem) if Query::new(statement, Kind::Sqlite).is_err() => Err(problem),
        _ => Ok(()),
    }
}

fn metric(row: &Row, from: usize) -> Result<Metric, StorageError> {
    let whole = |index| row.int(index).map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Metric {
        name: row.text(from)?,
        unit: row.text(from + 1)?,
        statement: row.text(from + 2)?,
        role: row.text(from + 3)?,
        interval: Duration::from_secs(whole(from + 4)?),
        time_limit: Duration::from_millis(whole(from + 5)?),
    })
}

impl Business {
    /// Over a store and the tenants' databases. What measures is [`Business::run`].
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, databases: Databases, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            storage,
            databases,
            clock,
            outcomes: Mutex::default(),
            measured: Counter::default(),
            failed: Counter::default(),
            beyond: std::sync::atomic::AtomicU64::new(0),
            changed: Notify::new(),
        }))
    }

    /// A tenant's metrics by name, with what was measured.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn of(&self, tenant: &TenantId) -> Result<Vec<(Metric, Outcome)>, StorageError> {
        let all = Statement::new(
            "SELECT name, unit, statement, role, interval_seconds, time_limit_ms FROM business_metrics \
             WHERE tenant_id = ?1 ORDER BY name",
        );
        let rows = self.0.storage.read(all.bind(tenant.as_str())).await?;
        rows.iter().map(|row| metric(row, 0).map(|metric| self.with_outcome(tenant, metric))).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn find(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Option<(Metric, Outcome)>, StorageError> {
        let one = Statement::new(
            "SELECT name, unit, statement, role, interval_seconds, time_limit_ms FROM business_metrics \
             WHERE tenant_id = ?1 AND name = ?2",
        );
        let rows = self.0.storage.read(one.bind(tenant.as_str()).bind(name)).await?;
        rows.first().map(|row| metric(row, 0).map(|metric| self.with_outcome(tenant, metric))).transpose()
    }

    /// Declares or changes one; false when the tenant has too many.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn put(&self, tenant: &TenantId, metric: &Metric) -> Result<bool, StorageError> {
        let whole = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
        // Only as long as the tenant is there.
        let put = Statement::of_tenant(
            "INSERT INTO business_metrics \
             (tenant_id, name, unit, statement, role, interval_seconds, time_limit_ms, created_at, updated_at) \
             SELECT tenant_id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8 FROM tenants WHERE tenant_id = ?1 AND \
             (SELECT count(*) FROM business_metrics WHERE tenant_id = ?1 AND name <> ?10) < ?9 \
             ON CONFLICT (tenant_id, name) DO UPDATE SET unit = excluded.unit, statement = excluded.statement, \
             role = excluded.role, interval_seconds = excluded.interval_seconds, time_limit_ms = excluded.time_limit_ms, \
             updated_at = excluded.updated_at",
        )
        .bind(tenant.as_str())
        .bind(metric.name.as_str())
        .bind(metric.unit.as_str())
        .bind(metric.statement.as_str())
        .bind(metric.role.as_str())
        .bind(whole(metric.interval.as_secs().into()))
        .bind(whole(metric.time_limit.as_millis()))
        .bind(self.0.clock.now())
        .bind(MOST)
        // Once more: as a value of a column it is of another type there.
        .bind(metric.name.as_str());
        let done = self.0.storage.write(put.into()).await?;
        self.0.changed.notify_one();
        Ok(done.first().is_some_and(|step| step.changed == 1))
    }

    /// Forgets one; false when there is none.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn remove(&self, tenant: &TenantId, name: &str) -> Result<bool, StorageError> {
        let gone = Statement::new("DELETE FROM business_metrics WHERE tenant_id = ?1 AND name = ?2");
        let done = self.0.storage.write(gone.bind(tenant.as_str()).bind(name).into()).await?;
        self.outcomes(|outcomes| outcomes.remove(&(tenant.to_string(), name.to_owned())));
        self.0.changed.notify_one();
        Ok(done.first().is_some_and(|step| step.changed == 1))
    }

    /// What was measured of a metric as it is declared now.
    fn with_outcome(&self, tenant: &TenantId, metric: Metric) -> (Metric, Outcome) {
        let key = (tenant.to_string(), metric.name.clone());
        let known = self.outcomes(|outcomes| outcomes.get(&key).cloned());
        let outcome = known.filter(|(measured, _)| *measured == metric).map(|(_, outcome)| outcome);
        (metric, outcome.unwrap_or_default())
    }

    fn outcomes<T>(&self, work: impl FnOnce(&mut BTreeMap<Key, (Metric, Outcome)>) -> T) -> T {
        work(&mut self.0.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
