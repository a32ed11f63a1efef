//! What the plans of slow statements do: asked for once for each statement of a look, within bounds.
//!
//! The database is asked for the plan alone; nothing is run. A statement that it does not plan so (without values it does not know a type) has
//! none. Limits: [`MOST`] statements of a look, [`PATIENCE`] for all of them together; beyond that, plans are left out.

use std::collections::HashMap;
use std::time::Duration;

use portcullis_database::monitor::slowest;
use portcullis_database::pool::statement::Normal;
use portcullis_database::sqlite;

use super::Databases;
use crate::clock::monotonic;
use crate::tenant::TenantId;

/// Statements of one look whose plans are asked for.
const MOST: usize = 20;
/// How long all of that may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Plans that were asked for in one look.
#[derive(Default)]
pub(super) struct Plans {
    known: HashMap<String, Option<Vec<String>>>,
    spent: Duration,
}

impl Plans {
    /// What a statement's plan does; none when that is not to be had.
    pub async fn of(
        &mut self,
        databases: &Databases,
        tenant: &str,
        statement: &Normal,
    ) -> Option<Vec<String>> {
        let key = format!("{tenant} {}", statement.fingerprint);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let left = PATIENCE.saturating_sub(self.spent);
        if self.known.len() >= MOST || left.is_zero() {
            return None;
        }
        let begun = monotonic();
        let asked = tokio::time::timeout(left, databases.explain(tenant, &statement.text)).await;
        self.spent = self.spent.saturating_add(begun.elapsed());
        let plan = asked.ok().flatten().filter(|plan| !plan.is_empty());
        self.known.insert(key, plan.clone());
        plan
    }
}

impl Databases {
    /// A statement's plan, from the top.
    async fn explain(&self, tenant: &str, statement: &str) -> Option<Vec<String>> {
        let lease = self.lend(&TenantId::new(tenant).ok()?, None).await.ok()?;
        match lease.observer() {
            Some(client) => slowest::summary(client, statement).await.ok(),
            None => {
                let text = statement.to_owned();
                lease
                    .run("EXPLAIN QUERY PLAN", move |connection| Ok((sqlite::summary(connection, &text)?, 0)))
                    .await
                    .ok()
            }
        }
    }
}
