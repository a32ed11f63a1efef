//! Looks a tenant's database through and says what it lacks.
//!
//! Of PostgreSQL: missing foreign-key, duplicate, redundant, unused and invalid indexes, and where the server counts statements a plan of
//! indexes for what it has counted, within a budget. The plan is advice: nothing is built. Of SQLite: `PRAGMA optimize`, which
//! gathers what its planner lacks.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_database::advise::{self, Prove};
use portcullis_database::pool::Lease;
use portcullis_database::pool::target::Kind;
use portcullis_database::{catalog, findings, workload};
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

use super::Databases;
use super::jobs::{Job, Outcome, TooMany};
use crate::event::{Event, EventType, Severity};
use crate::storage::{Statement, StorageError};
use crate::tenant::TenantId;

/// What happened last, as an event: so that it is in the audit trail, and every companion on the store knows of it.
const OPTIMIZED: &str = "DATABASE_OPTIMIZED";
/// The longest look at one database.
const LONGEST: Duration = Duration::from_secs(600);
/// What new indexes may take: a share of the database, and no less than this.
const BUDGET_SHARE: f64 = 0.2;
const BUDGET_LEAST: f64 = 16.0 * 1024.0 * 1024.0;

impl Databases {
    /// Begins to optimize the databases of `tenants`, asked for by the request of `correlation_id`.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn optimize(&self, tenants: Vec<TenantId>, correlation_id: &str) -> Result<Job, TooMany> {
        let names: Vec<String> = tenants.iter().map(TenantId::to_string).collect();
        let by_name: BTreeMap<String, TenantId> = names.iter().cloned().zip(tenants).collect();
        let (databases, correlation_id) = (self.clone(), correlation_id.to_owned());
        self.0.jobs.begin(names, move |name| {
            let (databases, correlation_id) = (databases.clone(), correlation_id.clone());
            let tenant = by_name.get(&name).cloned();
            async move {
                match tenant {
                    Some(tenant) => databases.optimize_one(&tenant, &correlation_id).await,
                    None => Outcome::default(),
                }
            }
        })
    }

    /// When a tenant's database was optimized last.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn last_optimization(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<crate::clock::Timestamp>, StorageError> {
        let last = Statement::new(
            "SELECT max(created_at) FROM security_events WHERE tenant_id = ?1 AND event_type = ?2",
        );
        let rows = self.0.storage.read(last.bind(tenant.as_str()).bind(OPTIMIZED)).await?;
        Ok(rows.first().map(|row| row.time_or_null(0)).transpose()?.flatten())
    }

    async fn optimize_one(&self, tenant: &TenantId, correlation_id: &str) -> Outcome {
        let failed = |problem: String| Outcome { problem: Some(problem), ..Outcome::default() };
        if !self.enabled() {
            return failed(
                "DATABASE_OPTIMIZATION_ENABLED is false; set it to true and start again".to_owned(),
            );
        }
        let look = async {
            let lease = self.lend(tenant, Some(correlation_id)).await.map_err(|error| error.to_string())?;
            match self.pools().kind(tenant.as_str()) {
                Some(Kind::Sqlite) => sqlite(&lease).await,
                _ => postgres(lease).await,
            }
        };
        let outcome = match tokio::time::timeout(LONGEST, look).await {
            Ok(Ok(plan)) => Outcome { success: true, problem: None, plan: Some(plan) },
            Ok(Err(problem)) => failed(problem),
            Err(_) => {
                failed("it took longer than ten minutes; advise by `portcullis database advise`".to_owned())
            }
        };
        self.report(tenant, correlation_id, &outcome).await;
        outcome
    }

    /// Writes into the audit trail what was done. A trail that does not take it changes no answer; it is logged.
    async fn report(&self, tenant: &TenantId, correlation_id: &str, outcome: &Outcome) {
        let (name, severity) = match outcome.success {
            true => (OPTIMIZED, Severity::Info),
            false => ("DATABASE_OPTIMIZATION_FAILED", Severity::Error),
        };
        let (Some(key), Some(event_type)) = (self.0.numbering.next(), EventType::new(name)) else { return };
        let details =
            json!({"uid": key.to_string(), "correlation_id": correlation_id, "problem": outcome.problem});
        let event = Event {
            key,
            tenant: tenant.clone(),
            event_type,
            severity,
            user_id: None,
            ip_address: None,
            user_agent: None,
            details: details.as_object().cloned().unwrap_or_else(Map::new),
            at: self.0.clock.now(),
            at_arrival: false,
            rate_limit: None,
            gap: None,
        };
        if let Err(error) = self.0.trail.append(vec![event]).await {
            tracing::error!(category = "audit", %error, "an optimization was not written into the audit trail");
        }
    }
}

async fn sqlite(lease: &Lease) -> Result<Value, String> {
    // All tables, whether or not this connection has used them.
    const OPTIMIZE: &str = "PRAGMA optimize = 0x10002";
    let asked = lease.run(OPTIMIZE, |connection| {
        connection.execute_batch("PRAGMA analysis_limit = 1000;")?;
        connection.execute_batch(OPTIMIZE)?;
        Ok(((), 0))
    });
    asked.await.map_err(|error| error.to_string())?;
    Ok(json!({"applied": [OPTIMIZE]}))
}

/// On a thread of its own: the search is work for a processor, and holds its state across waits.
async fn postgres(lease: Lease) -> Result<Value, String> {
    let runtime = tokio::runtime::Handle::current();
    let look = tokio::task::spawn_blocking(move || {
        let client = lease.client().ok_or("not a server of PostgreSQL")?;
        runtime.block_on(look_through(client)).map_err(|error| error.to_string())
    });
    look.await.map_err(|error| error.to_string())?
}

async fn look_through(client: &Client) -> Result<Value, portcullis_database::Error> {
    // The server's own limit is for statements of others; this session's settings go when the connection comes back.
    client.batch_execute("SET statement_timeout = '120s'; SET lock_timeout = '2s'").await?;
    let catalog = catalog::load(client).await?;
    let found = findings::findings(&catalog);
    let bytes: i64 =
        client.query_one("SELECT pg_database_size(current_database())", &[]).await?.try_get(0)?;
    let counted = portcullis_database::monitor::snapshot(client).await?;
    let statements = match counted.missing {
        None => workload::recorded(client).await?,
        Some(_) => Vec::new(),
    };
    if statements.is_empty() {
        let why = counted.missing.unwrap_or("pg_stat_statements has counted nothing of this database yet");
        return Ok(json!({"findings": found, "indexes": null, "without_indexes_because": why}));
    }
    #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
    let budget = (bytes as f64 * BUDGET_SHARE).max(BUDGET_LEAST);
    let options = advise::Options { budget, prove: Prove::Never };
    let plan = advise::advise(client, &catalog, statements, options, &mut |_, _, _| {}).await?;
    serde_json::to_value(&plan).map_err(|_| portcullis_database::Error::Unexpected("the plan"))
}
