//! Slow statements: written into `database_performance_logs`, and told in the log at once.

use portcullis_database::monitor::{self, Windows};
use portcullis_database::pool::target::Kind;
use portcullis_database::pool::{PoolError, Slow};
use tokio::task::JoinSet;

use super::explain::Plans;
use super::{Databases, LendError};
use crate::clock::Timestamp;
use crate::storage::{Row, Statement, StorageError, Transaction};
use crate::tenant::TenantId;
use crate::units::bounded;

/// The longest look at one database.
const LOOK: std::time::Duration = std::time::Duration::from_secs(15);
/// Servers that are looked at at once.
const AT_ONCE: usize = 16;
/// Rounds that a server which does not answer is left alone.
const LONGEST_REST: u32 = 15;
/// Slow statements of one window that are written down.
const MOST: usize = 100;
/// Widths of columns, in characters.
const MAX_TEXT: usize = 8192;
const MAX_CONNECTION: usize = 50;
/// What stands in the place of a connection for what a server has counted.
const SERVER: &str = "pg_stat_statements";

/// What was seen of a database's statements.
#[derive(Default)]
pub(super) struct Seen {
    windows: Windows,
    /// Statements that the server has counted.
    pub(super) calls: Option<u64>,
    /// Why it could not be looked at, or what it lacks.
    pub(super) problem: Option<String>,
    /// How often in a row it did not answer.
    failed: u32,
    /// Rounds in which it is not looked at.
    rests: u32,
}

impl Seen {
    /// It did not answer: it rests for a round, then for three, seven, and [`LONGEST_REST`].
    fn rest(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.rests =
            1_u32.checked_shl(self.failed).map_or(LONGEST_REST, |rounds| (rounds - 1).min(LONGEST_REST));
    }
}

/// A slow statement that was written down.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowStatement {
    /// Its text without literals.
    pub statement: String,
    /// Seconds.
    pub execution_time: f64,
    /// When it was noticed.
    pub at: Timestamp,
    /// The same for all that differ in literals alone.
    pub fingerprint: String,
    /// Rows that it read or changed, where that is known.
    pub rows: Option<i64>,
    /// Through which connection: `postgres:PID`, `sqlite:N`, or `pg_stat_statements` for what the server has counted.
    pub connection: Option<String>,
    /// What its plan does, from the top; empty where that is not known.
    pub plan: Vec<String>,
    /// Of one that has become slower: seconds of a call in its past.
    pub usual_time: Option<f64>,
}

fn slow_statement(row: &Row) -> Result<SlowStatement, StorageError> {
    Ok(SlowStatement {
        statement: row.text(0)?,
        execution_time: row.real(1)?,
        at: row.time(2)?,
        fingerprint: row.text(3)?,
        rows: row.int_or_null(4)?,
        connection: row.text_or_null(5)?,
        plan: serde_json::from_value(row.json(6)?).unwrap_or_default(),
        usual_time: row.real_or_null(7)?,
    })
}

/// A row to write.
struct Line<'a> {
    tenant: &'a str,
    fingerprint: &'a str,
    text: &'a str,
    seconds: f64,
    rows: Option<u64>,
    connection: &'a str,
    plan: Option<Vec<String>>,
    usual: Option<f64>,
}

impl Databases {
    /// A tenant's slow statements, newest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn slow_queries(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<SlowStatement>, StorageError> {
        let newest = Statement::new(
            "SELECT query_text, execution_time, created_at, query_hash, rows_affected, connection_id, query_plan, usual_time \
             FROM database_performance_logs WHERE tenant_id = ?1 AND usual_time IS NULL \
             ORDER BY created_at DESC, id DESC LIMIT ?2",
        );
        let rows = self.0.storage.read(newest.bind(tenant.as_str()).bind(limit)).await?;
        rows.iter().map(slow_statement).collect()
    }

    /// Statements of a tenant that have become slower than they were, newest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn slower_queries(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<SlowStatement>, StorageError> {
        let newest = Statement::new(
            "SELECT query_text, execution_time, created_at, query_hash, rows_affected, connection_id, query_plan, usual_time \
             FROM database_performance_logs WHERE tenant_id = ?1 AND usual_time IS NOT NULL \
             ORDER BY created_at DESC, id DESC LIMIT ?2",
        );
        let rows = self.0.storage.read(newest.bind(tenant.as_str()).bind(limit)).await?;
        rows.iter().map(slow_statement).collect()
    }

    /// How many slow statements were written down of a tenant since an instant.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn slow_count(&self, tenant: &TenantId, since: Timestamp) -> Result<u64, StorageError> {
        let counted = Statement::new(
            "SELECT count(*) FROM database_performance_logs \
             WHERE tenant_id = ?1 AND created_at >= ?2 AND usual_time IS NULL",
        );
        let rows = self.0.storage.read(counted.bind(tenant.as_str()).bind(since)).await?;
        Ok(rows
            .first()
            .map(|row| row.int(0))
            .transpose()?
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or(0))
    }

    /// Writes down what the pools have timed.
    pub(super) async fn record_timed(&self, slow: Vec<Slow>) {
        for told in &slow {
            tracing::warn!(
                category = "performance",
                tenant = told.tenant,
                correlation_id = told.correlation_id,
                fingerprint = told.statement.fingerprint,
                statement = told.statement.text,
                duration_ms = u64::try_from(told.took.as_millis()).unwrap_or(u64::MAX),
                rows = told.rows,
                connection = told.connection,
                "slow query of a tenant's database"
            );
        }
        let mut plans = Plans::default();
        let mut lines = Vec::new();
        for told in &slow {
            lines.push(Line {
                tenant: &told.tenant,
                fingerprint: &told.statement.fingerprint,
                text: &told.statement.text,
                seconds: told.took.as_secs_f64(),
                rows: told.rows,
                connection: &told.connection,
                plan: plans.of(self, &told.tenant, &told.statement).await,
                usual: None,
            });
        }
        self.write_down(lines).await;
    }

    /// Looks at every server's statements, at some of them at once: those that answered last time first. One that does not answer rests for
    /// ever more rounds, so that many of them do not hold up the others.
    pub(super) async fn watch_all(&self) {
        let mut looks = JoinSet::new();
        for tenant in self.due() {
            if looks.len() >= AT_ONCE {
                looks.join_next().await;
            }
            let databases = self.clone();
            looks.spawn(async move {
                if databases.watch(&tenant).await {
                    databases.look_at_replication(&tenant).await;
                }
            });
        }
        while looks.join_next().await.is_some() {}
    }

    /// Whose servers are to be looked at in this round.
    fn due(&self) -> Vec<TenantId> {
        let mut due = Vec::new();
        for name in self.pools().tenants() {
            let Ok(tenant) = TenantId::new(&name) else { continue };
            if self.pools().kind(&name) != Some(Kind::Postgres) {
                continue;
            }
            let mut known = self.0.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Some(seen) = known.get_mut(&name).map(|known| &mut known.seen) else { continue };
            if seen.rests == 0 {
                due.push((seen.failed, tenant));
            }
            seen.rests = seen.rests.saturating_sub(1);
        }
        due.sort_by_key(|(failed, _)| *failed);
        due.into_iter().map(|(_, tenant)| tenant).collect()
    }

    /// Looks how one server's replication fares. One that does not answer shows none; its statements say why.
    pub async fn look_at_replication(&self, tenant: &TenantId) {
        let look = async {
            let lease = self.lend(tenant, None).await.ok()?;
            portcullis_database::replication::look(lease.observer()?).await.ok()
        };
        let found = tokio::time::timeout(LOOK, look).await.ok().flatten();
        let mut known = self.0.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = known.get_mut(tenant.as_str()) {
            known.replication = found;
        }
    }

    /// Looks at one server's statements; whether it answered.
    pub async fn watch(&self, tenant: &TenantId) -> bool {
        // Whether it is the server that does not answer, rather than its tenant who has all connections.
        let lost = |error: String| (error, true);
        let look = async {
            let lease = self.lend(tenant, None).await.map_err(|error| {
                let crowded = matches!(&error, LendError::Pool(PoolError::Timeout(_) | PoolError::Crowded));
                (error.to_string(), !crowded)
            })?;
            let client = lease.observer().ok_or_else(|| lost("not a server".to_owned()))?;
            let snapshot = monitor::snapshot(client).await.map_err(|error| lost(error.to_string()))?;
            // Given back before plans are asked for.
            drop(lease);
            Ok(snapshot)
        };
        let found = match tokio::time::timeout(LOOK, look).await {
            Ok(found) => found,
            Err(_) => Err(lost("it did not answer within 15 s".to_owned())),
        };
        let answered = found.is_ok();
        let slow_from = self.0.options.shape.slow;
        let (seen, problem) = {
            let mut known = self.0.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let Some(known) = known.get_mut(tenant.as_str()) else { return false };
            let before = known.seen.problem.clone();
            let seen = match found {
                Ok(snapshot) => {
                    known.seen.failed = 0;
                    known.seen.problem = snapshot.missing.map(str::to_owned);
                    known.seen.calls = snapshot.missing.is_none().then_some(snapshot.calls);
                    known.seen.windows.step(snapshot, slow_from)
                }
                Err((error, lost)) => {
                    if lost {
                        known.seen.rest();
                    }
                    known.seen.problem = Some(error);
                    known.replication = None;
                    monitor::Seen::default()
                }
            };
            (seen, known.seen.problem.clone().filter(|problem| before.as_ref() != Some(problem)))
        };
        let name = tenant.as_str();
        if let Some(problem) = problem {
            tracing::warn!(
                category = "performance",
                tenant = name,
                problem,
                "a tenant's statements cannot be looked at"
            );
        }
        for slower in &seen.slower {
            tracing::warn!(
                category = "performance",
                tenant = name,
                fingerprint = slower.statement.fingerprint,
                statement = slower.statement.text,
                before_ms = u64::try_from(slower.before.as_millis()).unwrap_or(u64::MAX),
                now_ms = u64::try_from(slower.now.as_millis()).unwrap_or(u64::MAX),
                "a statement has become slower than it was"
            );
        }
        let mut plans = Plans::default();
        let mut lines = Vec::new();
        for slow in seen.slow.iter().take(MOST) {
            lines.push(Line {
                tenant: name,
                fingerprint: &slow.statement.fingerprint,
                text: &slow.statement.text,
                seconds: slow.took.as_secs_f64(),
                rows: Some(slow.rows),
                connection: SERVER,
                plan: plans.of(self, name, &slow.statement).await,
                usual: None,
            });
        }
        for slower in seen.slower.iter().take(MOST) {
            lines.push(Line {
                tenant: name,
                fingerprint: &slower.statement.fingerprint,
                text: &slower.statement.text,
                seconds: slower.now.as_secs_f64(),
                rows: None,
                connection: SERVER,
                plan: plans.of(self, name, &slower.statement).await,
                usual: Some(slower.before.as_secs_f64()),
            });
        }
        self.write_down(lines).await;
        answered
    }

    async fn write_down(&self, lines: Vec<Line<'_>>) {
        if lines.is_empty() {
            return;
        }
        {
            let mut known = self.0.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for line in &lines {
                if let Some(known) = known.get_mut(line.tenant) {
                    known.slow = known.slow.saturating_add(1);
                }
            }
        }
        let now = self.0.clock.now();
        let transaction = lines.iter().fold(Transaction::new(), |transaction, line| {
            // Only as long as the tenant is there.
            let insert = Statement::of_tenant(
                "INSERT INTO database_performance_logs \
                 (tenant_id, query_hash, query_text, execution_time, rows_affected, connection_id, created_at, query_plan, usual_time) \
                 SELECT tenant_id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM tenants WHERE tenant_id = ?1",
            )
            .bind(line.tenant)
            .bind(line.fingerprint)
            .bind(bounded(line.text, MAX_TEXT))
            .bind(line.seconds)
            .bind(line.rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX).min(i32::MAX.into())))
            .bind(bounded(line.connection, MAX_CONNECTION))
            .bind(now)
            .bind(line.plan.as_ref().map(|plan| serde_json::Value::from(plan.clone())))
            .bind(line.usual);
            transaction.then(insert)
        });
        if let Err(error) = self.0.storage.write(transaction).await {
            tracing::error!(category = "application", %error, "slow queries were not written down");
        }
    }
}
