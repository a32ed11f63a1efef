//! Looks a tenant's database through and says what it lacks.
//!
//! Of PostgreSQL: missing foreign-key, duplicate, redundant, unused and invalid indexes, and where the server counts statements a plan of
//! indexes for what it has counted, within a budget. Of SQLite: `PRAGMA optimize`, which
//! gathers what its planner lacks. What the tenant's policy permits of a plan is applied; the rest waits for an approval.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_database::advise::{self, Prove};
use portcullis_database::pool::Lease;
use portcullis_database::pool::target::Kind;
use portcullis_database::{catalog, findings, workload};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::Databases;
use super::apply::Asked;
use super::jobs::{Job, Outcome, TooMany};
use super::plans::{self, Plan, State, Step, permit};
use crate::event::Severity;
use crate::storage::{Statement, StorageError};
use crate::tenant::TenantId;

/// What happened last, as an event: so that it is in the audit trail, and every companion on the store knows of it.
const OPTIMIZED: &str = "DATABASE_OPTIMIZED";
/// The longest wait for one's turn.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// What new indexes may take: a share of the database, and no less than this.
const BUDGET_SHARE: f64 = 0.2;
const BUDGET_LEAST: f64 = 16.0 * 1024.0 * 1024.0;

impl Databases {
    /// Begins to optimize the databases of `tenants`.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn optimize(&self, tenants: Vec<TenantId>, asked: &Asked) -> Result<Job, TooMany> {
        let names: Vec<String> = tenants.iter().map(TenantId::to_string).collect();
        let by_name: BTreeMap<String, TenantId> = names.iter().cloned().zip(tenants).collect();
        let (databases, asked) = (self.clone(), asked.clone());
        self.0.jobs.begin("optimize", names, move |name| {
            let (databases, asked) = (databases.clone(), asked.clone());
            let tenant = by_name.get(&name).cloned();
            async move {
                match tenant {
                    Some(tenant) => databases.optimize_one(&tenant, &asked).await,
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

    async fn optimize_one(&self, tenant: &TenantId, asked: &Asked) -> Outcome {
        let outcome = self
            .look_and_apply(tenant, asked)
            .await
            .unwrap_or_else(|problem| Outcome { problem: Some(problem), ..Outcome::default() });
        let (name, severity) = match outcome.success {
            true => (OPTIMIZED, Severity::Info),
            false => ("DATABASE_OPTIMIZATION_FAILED", Severity::Error),
        };
        let details = json!({"correlation_id": asked.correlation_id, "by": asked.by, "problem": outcome.problem,
            "plans": outcome.plans});
        self.tell(tenant, name, severity, details).await;
        outcome
    }

    async fn look_and_apply(&self, tenant: &TenantId, asked: &Asked) -> Result<Outcome, String> {
        if !self.enabled() {
            return Err("DATABASE_OPTIMIZATION_ENABLED is false; set it to true and start again".to_owned());
        }
        let found = self.looked_through(tenant, asked).await?;
        let mut outcome = Outcome { success: true, plan: Some(found.told), ..Outcome::default() };
        if found.steps.is_empty() {
            return Ok(outcome);
        }
        let gone = |error: StorageError| match error {
            StorageError::Conflict => {
                "the tenant was removed while its database was looked through; nothing was applied".to_owned()
            }
            error => error.to_string(),
        };
        let policy = self.0.policies.of(tenant).await.map_err(|error| error.to_string())?.policies.database;
        let moment = permit::Moment { hour: self.hour(), standing: self.standing(tenant).await? };
        let (permitted, rest) = permit::divide(&policy, moment, found.steps);
        let mut schema = found.schema;
        if !permitted.is_empty() {
            let plan = self.propose(tenant, &schema, permitted, &asked.by).await.map_err(gone)?;
            let applied = self.apply_permitted(tenant, &plan, asked).await;
            outcome.plans.push(plan.id);
            (outcome.success, outcome.problem) = (applied.success, applied.problem);
            if !rest.is_empty() {
                // The rest is for the schema as it has become.
                schema = self.schema(tenant).await?;
            }
        }
        if !rest.is_empty() {
            outcome.plans.push(self.propose(tenant, &schema, rest, &asked.by).await.map_err(gone)?.id);
        }
        Ok(outcome)
    }

    /// Looks one database through. One at a time: looking for indexes is work for a server. What waits for its turn does not work yet, and
    /// what took too long, or is still at it when the companion ends, gives its turn and its connection back.
    async fn looked_through(&self, tenant: &TenantId, asked: &Asked) -> Result<Found, String> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.0.turn.acquire());
        let waited = "other databases were looked through for an hour; try again later";
        let _turn = turn.await.map_err(|_| waited.to_owned())?.map_err(|error| error.to_string())?;
        let lease =
            self.lend(tenant, Some(&asked.correlation_id)).await.map_err(|error| error.to_string())?;
        let longest = self.0.options.longest;
        let mut ended = self.0.ended.subscribe();
        let runtime = tokio::runtime::Handle::current();
        let sqlite = self.pools().kind(tenant.as_str()) == Some(Kind::Sqlite);
        // On a thread of its own: the search is work for a processor, and holds its state across waits.
        let look = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                let look = async {
                    if sqlite {
                        return optimized(&lease).await;
                    }
                    let client = lease.observer().ok_or("not a server of PostgreSQL")?;
                    look_through(client).await.map_err(|error| error.to_string())
                };
                tokio::select! {
                    biased;
                    _ = ended.wait_for(|ended| *ended) => Err("the companion was ended meanwhile".to_owned()),
                    found = tokio::time::timeout(longest, look) => found.unwrap_or_else(|_| {
                        let took = longest.as_secs();
                        Err(format!("it took longer than {took} s; advise by `portcullis database advise`"))
                    }),
                }
            })
        });
        look.await.map_err(|error| error.to_string())?
    }

    /// The hour of the day, UTC.
    fn hour(&self) -> u32 {
        u32::try_from(self.0.clock.now().as_second().div_euclid(3600).rem_euclid(24)).unwrap_or(0)
    }

    /// Bytes of indexes that were built through the companion and stand.
    async fn standing(&self, tenant: &TenantId) -> Result<u64, String> {
        let plans = self.plans(tenant).await.map_err(|error| error.to_string())?;
        let stands = |plan: &&Plan| matches!(plan.state, State::Applying | State::Observing | State::Kept);
        let steps = plans.iter().filter(stands).flat_map(|plan| &plan.document.steps);
        let bytes = steps.filter(|step| !matches!(step.state.as_str(), "dropped" | "failed")).map(|step| {
            step.built_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(step.size_bytes)
        });
        Ok(bytes.fold(0, u64::saturating_add))
    }

    /// The fingerprint of a database's schema as it is.
    async fn schema(&self, tenant: &TenantId) -> Result<String, String> {
        let lease = self.lend(tenant, None).await.map_err(|error| error.to_string())?;
        let client = lease.observer().ok_or("not a server of PostgreSQL")?;
        Ok(catalog::load(client).await.map_err(|error| error.to_string())?.fingerprint())
    }
}

/// What was found in a database.
struct Found {
    /// For whoever asks.
    told: Value,
    /// Indexes to build,
    steps: Vec<Step>,
    /// for this schema.
    schema: String,
}

impl Found {
    /// Nothing to build.
    fn only(told: Value) -> Self {
        Self { told, steps: Vec::new(), schema: String::new() }
    }
}

async fn optimized(lease: &Lease) -> Result<Found, String> {
    // All tables, whether or not this connection has used them.
    const OPTIMIZE: &str = "PRAGMA optimize = 0x10002";
    let asked = lease.run(OPTIMIZE, |connection| {
        connection.execute_batch("PRAGMA analysis_limit = 1000;")?;
        connection.execute_batch(OPTIMIZE)?;
        Ok(((), 0))
    });
    asked.await.map_err(|error| error.to_string())?;
    Ok(Found::only(json!({"applied": [OPTIMIZE]})))
}

async fn look_through(client: &Client) -> Result<Found, portcullis_database::Error> {
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
        return Ok(Found::only(json!({"findings": found, "indexes": null, "without_indexes_because": why})));
    }
    #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
    let budget = (bytes as f64 * BUDGET_SHARE).max(BUDGET_LEAST);
    let options = advise::Options { budget, prove: Prove::Never };
    let plan = advise::advise(client, &catalog, statements, options, &mut |_, _, _| {}).await?;
    let told = serde_json::to_value(&plan).map_err(|_| portcullis_database::Error::Unexpected("the plan"))?;
    Ok(Found { told, steps: plans::steps(&plan), schema: plan.schema.clone() })
}
