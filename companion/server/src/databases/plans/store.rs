//! Plans in the store.

use super::{Document, KEPT, Plan, State, Step};
use crate::clock::Timestamp;
use crate::databases::Databases;
use crate::storage::{Row, Statement, StorageError, Transaction};
use crate::tenant::TenantId;

/// Plans of one answer.
const PAGE: u32 = 200;
/// Unfinished plans of all tenants that are looked at.
const UNFINISHED: u32 = 1000;

fn plan(row: &Row) -> Result<Plan, StorageError> {
    let state = row.text(1)?;
    let unreadable = |what: &str| StorageError::Failed(format!("index_plans: {what} is not readable"));
    Ok(Plan {
        id: row.text(0)?,
        state: State::from_name(&state).ok_or_else(|| unreadable("a state"))?,
        document: serde_json::from_value(row.json(2)?).map_err(|_| unreadable("a document"))?,
        created_at: row.time(3)?,
        updated_at: row.time(4)?,
    })
}

fn json(document: &Document) -> Result<serde_json::Value, StorageError> {
    serde_json::to_value(document).map_err(|error| StorageError::Failed(error.to_string()))
}

impl Databases {
    /// A tenant's plans: what happened to last comes first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn plans(&self, tenant: &TenantId) -> Result<Vec<Plan>, StorageError> {
        let all = Statement::new(
            "SELECT plan_id, state, document, created_at, updated_at FROM index_plans \
             WHERE tenant_id = ?1 ORDER BY updated_at DESC, plan_id LIMIT ?2",
        );
        let rows = self.0.storage.read(all.bind(tenant.as_str()).bind(PAGE)).await?;
        rows.iter().map(plan).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn plan(&self, tenant: &TenantId, id: &str) -> Result<Option<Plan>, StorageError> {
        let one = Statement::new(
            "SELECT plan_id, state, document, created_at, updated_at FROM index_plans \
             WHERE tenant_id = ?1 AND plan_id = ?2",
        );
        let rows = self.0.storage.read(one.bind(tenant.as_str()).bind(id)).await?;
        rows.first().map(plan).transpose()
    }

    /// Plans that are being applied, or were when a companion on the store was last heard of.
    pub(in crate::databases) async fn unfinished(&self) -> Result<Vec<(String, String)>, StorageError> {
        let all = Statement::new(
            "SELECT tenant_id, plan_id FROM index_plans WHERE state IN ('applying', 'observing') \
             ORDER BY tenant_id, plan_id LIMIT ?1",
        );
        let rows = self.0.storage.read(all.bind(UNFINISHED)).await?;
        rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
    }

    /// Enters a plan, or finds it entered. One that is approved stays so; one that came to an end begins anew.
    ///
    /// # Errors
    /// [`StorageError::Conflict`]: the tenant is gone, or somebody acts on the plan at this moment.
    pub(in crate::databases) async fn propose(
        &self,
        tenant: &TenantId,
        schema: &str,
        steps: Vec<Step>,
        by: &str,
    ) -> Result<Plan, StorageError> {
        let now = self.0.clock.now();
        let mut document = Document { schema: schema.to_owned(), steps, timeline: Vec::new() };
        let id = document.script().map_err(StorageError::Failed)?.digest();
        let known = self.plan(tenant, &id).await?;
        let (state, created_at) = match &known {
            Some(known) if known.state.is_unfinished() => {
                return Ok(known.clone());
            }
            Some(known) => {
                document.timeline.clone_from(&known.document.timeline);
                let state = if known.state == State::Approved { known.state } else { State::Planned };
                (state, known.created_at)
            }
            None => (State::Planned, now),
        };
        if known.as_ref().is_none_or(|known| known.state != state) {
            let detail = format!("indexes: {}", document.steps.len());
            document.note(now, "planned", by, Some(detail));
        }
        let before = known.as_ref().map_or("", |known| known.state.as_str());
        // Only as long as the tenant is there.
        let enter = Statement::of_tenant(
            "INSERT INTO index_plans (tenant_id, plan_id, state, document, created_at, updated_at) \
             SELECT tenant_id, ?2, ?3, ?4, ?5, ?5 FROM tenants WHERE tenant_id = ?1 \
             ON CONFLICT (tenant_id, plan_id) DO UPDATE SET state = excluded.state, document = excluded.document, \
             updated_at = excluded.updated_at WHERE index_plans.state = ?6",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(state.as_str())
        .bind(json(&document)?)
        .bind(now)
        .bind(before)
        .must_change(1);
        let forget = Statement::new(
            "DELETE FROM index_plans WHERE tenant_id = ?1 AND state IN ('planned', 'rolled_back', 'failed') \
             AND plan_id NOT IN (SELECT plan_id FROM index_plans WHERE tenant_id = ?1 ORDER BY updated_at DESC, plan_id LIMIT ?2)",
        )
        .bind(tenant.as_str())
        .bind(KEPT);
        self.0.storage.write(Transaction::new().then(enter).then(forget)).await?;
        Ok(Plan { id, state, document, created_at, updated_at: now })
    }

    /// Enters what became of a plan, if it is still in one of two states.
    ///
    /// # Errors
    /// [`StorageError::Conflict`]: it is in another, or gone.
    pub(in crate::databases) async fn enter(
        &self,
        tenant: &TenantId,
        plan: &Plan,
        from: [State; 2],
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let [first, second] = from;
        let change = Statement::new(
            "UPDATE index_plans SET state = ?3, document = ?4, updated_at = ?5 \
             WHERE tenant_id = ?1 AND plan_id = ?2 AND state IN (?6, ?7)",
        )
        .bind(tenant.as_str())
        .bind(plan.id.as_str())
        .bind(plan.state.as_str())
        .bind(json(&plan.document)?)
        .bind(now)
        .bind(first.as_str())
        .bind(second.as_str())
        .must_change(1);
        self.0.storage.write(change.into()).await.map(drop)
    }
}
