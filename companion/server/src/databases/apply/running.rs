//! What goes on with tenants' databases: one plan of each at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::{PlanError, RUNNING};
use crate::tenant::TenantId;

/// How far an application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::databases) enum Phase {
    Building,
    /// What could be built is, and is watched.
    Built,
    Ended,
}

/// What goes on with a tenant's database.
struct Work {
    plan: String,
    withdraw: watch::Sender<Option<String>>,
    phase: watch::Receiver<Phase>,
}

/// What goes on, by tenant.
#[derive(Default)]
pub(in crate::databases) struct Running(Mutex<HashMap<String, Work>>);

impl Running {
    /// Takes a tenant's place.
    pub fn claim(
        &self,
        tenant: &TenantId,
        plan: &str,
    ) -> Result<(watch::Receiver<Option<String>>, watch::Sender<Phase>), PlanError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = all.get(tenant.as_str()) {
            return Err(PlanError::Busy(work.plan.clone()));
        }
        if all.len() >= RUNNING {
            return Err(PlanError::Crowded);
        }
        let ((withdraw, withdrawal), (phases, phase)) =
            (watch::channel(None), watch::channel(Phase::Building));
        all.insert(tenant.to_string(), Work { plan: plan.to_owned(), withdraw, phase });
        Ok((withdrawal, phases))
    }

    /// The plan that goes on with a tenant's database, if it is another one.
    pub fn other(&self, tenant: &TenantId, plan: &str) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant.as_str()).map(|work| work.plan.clone()).filter(|other| other != plan)
    }

    /// Whether anything goes on with a tenant's database.
    pub fn is_at(&self, tenant: &TenantId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(tenant.as_str())
    }

    /// How many go on.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn release(&self, tenant: &TenantId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant.as_str());
    }

    /// Ends what goes on with a tenant's database, if it is of this plan, and takes it back. Answers how to wait for that.
    pub fn withdraw(&self, tenant: &str, plan: Option<&str>, reason: &str) -> Option<watch::Receiver<Phase>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let work = all.get(tenant).filter(|work| plan.is_none_or(|plan| work.plan == plan))?;
        work.withdraw.send_if_modified(|before| {
            let first = before.is_none();
            before.get_or_insert_with(|| reason.to_owned());
            first
        });
        Some(work.phase.clone())
    }
}
