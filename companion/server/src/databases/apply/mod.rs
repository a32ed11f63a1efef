//! Plans become indexes, and are taken back.
//!
//! One plan of a tenant at a time. What is built is watched for [`super::Options::observe`]; an index that makes statements slower goes within
//! a minute of being seen to. Who wants a plan back that is being built or watched withdraws it; so does a tenant that goes, or
//! whose database's address changes: then the build is cancelled and what was built is dropped, over the connections that are open still.
//! What a companion leaves behind when it ends, or when a server is away for long, stands in the ledger in the database, and unfinished in the
//! store: every companion looks for such plans again and again and goes on, with the observation too. Of several one does so ([`work`]).

mod entries;
mod running;
mod work;

use tokio::sync::watch;

use super::Databases;
use super::jobs::{Job, Outcome, TooMany};
use super::plans::{Plan, State};
use crate::event::Severity;
use crate::storage::StorageError;
use crate::tenant::TenantId;

use running::Phase;
pub(super) use running::Running;

/// Plans that are applied or taken back at once, of all tenants.
const RUNNING: usize = 32;
/// What is told of one that this companion did by itself.
pub const COMPANION: &str = "the companion";

/// Who wants something, for which request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// A token, a policy, or [`COMPANION`].
    pub by: String,
    /// The request's.
    pub correlation_id: String,
}

/// Why nothing is done to a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is none of this name.
    #[error("no such plan of this tenant; GET /api/database/plans/{{tenant_id}} lists them")]
    Unknown,
    /// It is not where it would have to be.
    #[error("the plan is {}; {remedy}", found.as_str())]
    State {
        /// Where it is.
        found: State,
        /// What to do.
        remedy: &'static str,
    },
    /// Another one of the tenant is at work.
    #[error("plan {0} of this tenant is being applied, watched or taken back; wait for it, or take it back")]
    Busy(String),
    /// Too much at once.
    #[error("32 plans are being applied or watched; wait for one of them")]
    Crowded,
    /// Too many jobs.
    #[error(transparent)]
    Jobs(#[from] TooMany),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Databases {
    /// Approves a plan.
    ///
    /// # Errors
    /// [`PlanError`].
    pub async fn approve(&self, tenant: &TenantId, id: &str, asked: &Asked) -> Result<Plan, PlanError> {
        let mut plan = self.plan(tenant, id).await?.ok_or(PlanError::Unknown)?;
        if plan.state != State::Planned {
            let remedy = "only one that is planned is approved; optimize again to plan anew";
            return Err(PlanError::State { found: plan.state, remedy });
        }
        self.advance(tenant, &mut plan, State::Approved, [State::Planned; 2], ("approved", &asked.by, None))
            .await?;
        self.told(tenant, &plan, "DATABASE_PLAN_APPROVED", Severity::Info, asked, None).await;
        Ok(plan)
    }

    /// Begins to apply an approved plan. The job is done when it is built; it is watched beyond that.
    ///
    /// # Errors
    /// [`PlanError`].
    pub async fn begin_apply(&self, tenant: &TenantId, id: &str, asked: &Asked) -> Result<Job, PlanError> {
        let plan = self.plan(tenant, id).await?.ok_or(PlanError::Unknown)?;
        if plan.state != State::Approved {
            let remedy = match plan.state {
                State::Planned => "approve it first",
                _ => "only one that is approved is applied; optimize again to plan anew",
            };
            return Err(PlanError::State { found: plan.state, remedy });
        }
        // First, so that nothing goes on that nobody can ask for.
        let place = self.0.jobs.reserve(&format!("apply {id}"), vec![tenant.to_string()])?;
        let phase = self.start(tenant, &plan, asked)?;
        let (databases, id) = (self.clone(), plan.id);
        Ok(place.run(move |name| {
            let (databases, id, phase) = (databases.clone(), id.clone(), phase.clone());
            async move { databases.awaited(&name, &id, phase, Phase::Built).await }
        }))
    }

    /// Begins to take a plan back, whether it is being built, watched or kept.
    ///
    /// # Errors
    /// [`PlanError`].
    pub async fn begin_rollback(&self, tenant: &TenantId, id: &str, asked: &Asked) -> Result<Job, PlanError> {
        let plan = self.plan(tenant, id).await?.ok_or(PlanError::Unknown)?;
        if !plan.state.stands() {
            let remedy = "nothing of it stands, so there is nothing to take back";
            return Err(PlanError::State { found: plan.state, remedy });
        }
        if let Some(other) = self.0.running.other(tenant, id) {
            return Err(PlanError::Busy(other));
        }
        let (databases, tenant, id, asked) = (self.clone(), tenant.clone(), id.to_owned(), asked.clone());
        let job = self.0.jobs.begin(&format!("rollback {id}"), vec![tenant.to_string()], move |_| {
            let (databases, tenant, id, asked) =
                (databases.clone(), tenant.clone(), id.clone(), asked.clone());
            async move { databases.taken_back(&tenant, &id, &asked).await }
        });
        Ok(job?)
    }

    /// Withdraws a plan that is being built or watched, and takes back what stands when nobody is at it any more: it may have come to its end
    /// in the same moment.
    async fn taken_back(&self, tenant: &TenantId, id: &str, asked: &Asked) -> Outcome {
        let reason = format!("taken back by {}", asked.by);
        if let Some(mut phase) = self.0.running.withdraw(tenant.as_str(), Some(id), &reason) {
            // Whoever tells of it is gone when it has ended.
            let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
        }
        let begun = match self.plan(tenant, id).await {
            Ok(Some(plan)) if plan.state.stands() => self.take_back(tenant, plan, asked).map(Some),
            Ok(_) => Ok(None),
            Err(error) => Err(error.into()),
        };
        match begun {
            Ok(Some(phase)) => self.awaited(tenant.as_str(), id, phase, Phase::Ended).await,
            Ok(None) => self.came_of(tenant.as_str(), id, Phase::Ended).await,
            Err(error) => Outcome { problem: Some(error.to_string()), ..Outcome::default() },
        }
    }

    /// Ends whatever goes on with a tenant's database, and takes it back.
    pub(super) fn withdraw(&self, tenant: &str, reason: &str) {
        self.0.running.withdraw(tenant, None, reason);
    }

    /// Waits until a plan is so far; what came of it.
    async fn awaited(
        &self,
        name: &str,
        id: &str,
        mut phase: watch::Receiver<Phase>,
        wanted: Phase,
    ) -> Outcome {
        // Whoever tells of it is gone when it has ended.
        let _ = phase.wait_for(|phase| *phase == wanted || *phase == Phase::Ended).await;
        self.came_of(name, id, wanted).await
    }

    /// What came of a plan that should be so far.
    async fn came_of(&self, name: &str, id: &str, wanted: Phase) -> Outcome {
        let found = match TenantId::new(name) {
            Ok(tenant) => self.plan(&tenant, id).await,
            Err(_) => Ok(None),
        };
        let (success, problem) = match found {
            Ok(Some(plan)) => {
                let fine = match wanted {
                    Phase::Ended => plan.state == State::RolledBack,
                    _ => matches!(plan.state, State::Observing | State::Kept),
                };
                let said = plan.document.timeline.last().and_then(|entry| entry.detail.clone());
                (fine, said.filter(|_| !fine))
            }
            Ok(None) => {
                (false, Some("the tenant was removed meanwhile; what had been built was taken back".into()))
            }
            Err(error) => (false, Some(error.to_string())),
        };
        Outcome { success, problem, plan: None, plans: vec![id.to_owned()] }
    }

    /// Applies a plan that the tenant's policy permits, and waits until it is built.
    pub(super) async fn apply_permitted(&self, tenant: &TenantId, plan: &Plan, asked: &Asked) -> Outcome {
        let by = Asked { by: "the tenant's policy (database.auto_apply)".to_owned(), ..asked.clone() };
        let failed = |error: PlanError| Outcome { problem: Some(error.to_string()), ..Outcome::default() };
        if plan.state == State::Planned
            && let Err(error) = self.approve(tenant, &plan.id, &by).await
        {
            return failed(error);
        }
        match self.begin_apply(tenant, &plan.id, &by).await {
            Ok(job) => job.finished().await.done.remove(tenant.as_str()).unwrap_or_default(),
            // An earlier one is watched still.
            Err(error @ PlanError::Busy(_)) => Outcome {
                success: true,
                problem: Some(format!("plan {} is approved and waits: {error}", plan.id)),
                ..Outcome::default()
            },
            Err(error) => failed(error),
        }
    }

    /// Goes on with what was begun, and what nobody here is at. What another companion is at is left to that. `round` counts the calls: where there
    /// is more than goes on at once, each has its turn.
    pub(super) async fn resume(&self, round: usize) {
        let mut unfinished = match self.unfinished().await {
            Ok(unfinished) => unfinished,
            Err(error) => {
                tracing::warn!(category = "application", %error, "unfinished plans of indexes were not looked for");
                return;
            }
        };
        let first = round.wrapping_mul(RUNNING).checked_rem(unfinished.len()).unwrap_or(0);
        unfinished.rotate_left(first);
        let asked = Asked { by: COMPANION.to_owned(), correlation_id: String::new() };
        for (name, id) in unfinished {
            let Ok(tenant) = TenantId::new(&name) else { continue };
            if self.0.running.is_at(&tenant) {
                continue;
            }
            let begun = match self.plan(&tenant, &id).await {
                Ok(Some(plan)) if plan.state.is_unfinished() => self.start(&tenant, &plan, &asked).map(drop),
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            };
            match begun {
                Ok(()) | Err(PlanError::Busy(_)) => {}
                Err(PlanError::Crowded) => break,
                Err(error) => {
                    tracing::warn!(category = "application", tenant = name, plan = id, %error, "an unfinished plan of indexes waits");
                }
            }
        }
    }
}
