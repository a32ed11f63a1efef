//! Building, watching and taking back, as it goes on beside everything else, and how that is entered.

use std::cell::OnceCell;

use portcullis_database::Error;
use portcullis_database::apply::{self, ApplyError, Progress, Report};
use portcullis_database::pool::{Dedicated, PoolError};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::running::Phase;
use super::{Asked, COMPANION, PlanError};
use crate::databases::Databases;
use crate::databases::plans::{Plan, State};
use crate::event::Severity;
use crate::storage::StorageError;
use crate::tenant::TenantId;

impl Databases {
    /// Begins to apply; `from` are the states that it may come from.
    pub(super) async fn start(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        from: [State; 2],
        asked: &Asked,
    ) -> Result<watch::Receiver<Phase>, PlanError> {
        let (withdrawal, phases) = self.0.running.claim(tenant, &plan.id)?;
        let entered = self.advance(tenant, plan, State::Applying, from, ("applying", &asked.by, None)).await;
        if let Err(error) = entered {
            self.0.running.release(tenant);
            return Err(error);
        }
        let phase = phases.subscribe();
        let work = self.clone().run(tenant.clone(), plan.clone(), asked.clone(), withdrawal, phases);
        tokio::spawn(work);
        Ok(phase)
    }

    /// Builds and watches, and enters how far that is.
    async fn run(
        self,
        tenant: TenantId,
        mut plan: Plan,
        asked: Asked,
        withdrawal: watch::Receiver<Option<String>>,
        phases: watch::Sender<Phase>,
    ) {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut work = {
            let (databases, tenant, document, id) =
                (self.clone(), tenant.clone(), plan.document.clone(), plan.id.clone());
            let options = apply::Options {
                observe: self.0.options.observe,
                withdrawal: Some(withdrawal),
                ..apply::Options::default()
            };
            // On a thread of its own: it holds its state across waits, and not all of that may change threads.
            let runtime = tokio::runtime::Handle::current();
            let mut ended = self.0.ended.subscribe();
            tokio::task::spawn_blocking(move || {
                let work = async {
                    let script = document.script().map_err(ApplyError::Plan)?;
                    let place = OnceCell::new();
                    let connect = async || databases.dedicate(&tenant, &place).await;
                    let tell = &mut |progress: Progress<'_>| {
                        if let Progress::Watching(standing) = progress {
                            // Nobody listens when the companion ends.
                            let _ = tell.send(standing);
                        }
                    };
                    apply::apply(&connect, &script, &id, Vec::new(), &options, tell).await
                };
                // A companion that ends takes nothing back: whoever starts next goes on.
                runtime.block_on(async {
                    tokio::select! {
                        done = work => Some(done),
                        _ = ended.wait_for(|ended| *ended) => None,
                    }
                })
            })
        };
        let ended = loop {
            tokio::select! {
                biased;
                Some(standing) = told.recv() => if standing > 0 {
                    self.built(&tenant, &mut plan, standing, &asked).await;
                    phases.send_replace(Phase::Built);
                },
                ended = &mut work => break ended,
            }
        };
        // Said at the very end.
        while let Ok(standing) = told.try_recv()
            && standing > 0
        {
            self.built(&tenant, &mut plan, standing, &asked).await;
        }
        match ended {
            Ok(None) => {}
            Ok(Some(Err(ApplyError::Busy(_)))) if asked.by == COMPANION => {
                tracing::info!(
                    category = "application",
                    tenant = tenant.as_str(),
                    plan = plan.id,
                    "another companion applies this plan"
                );
            }
            Ok(Some(done)) => self.finish(&tenant, &mut plan, done, &asked).await,
            Err(error) => {
                tracing::error!(category = "application", tenant = tenant.as_str(), %error, "applying a plan broke off");
            }
        }
        self.0.running.release(&tenant);
        phases.send_replace(Phase::Ended);
    }

    /// Takes back what nobody is at.
    pub(super) fn take_back(
        &self,
        tenant: &TenantId,
        mut plan: Plan,
        asked: &Asked,
    ) -> Result<watch::Receiver<Phase>, PlanError> {
        let (_withdrawal, phases) = self.0.running.claim(tenant, &plan.id)?;
        let phase = phases.subscribe();
        let (databases, tenant, asked) = (self.clone(), tenant.clone(), asked.clone());
        tokio::spawn(async move {
            let runtime = tokio::runtime::Handle::current();
            let work = {
                let (databases, tenant, id) = (databases.clone(), tenant.clone(), plan.id.clone());
                tokio::task::spawn_blocking(move || {
                    let place = OnceCell::new();
                    let connect = async || databases.dedicate(&tenant, &place).await;
                    runtime.block_on(apply::rollback(&connect, Some(&id), &apply::Options::default()))
                })
            };
            match work.await {
                Ok(Ok(report)) => databases.rolled_back(&tenant, &mut plan, report, &asked).await,
                Ok(Err(error)) => {
                    let state = plan.state;
                    databases
                        .end(
                            &tenant,
                            &mut plan,
                            (state, "failed"),
                            Some(format!("not taken back: {error}")),
                            &asked,
                        )
                        .await;
                }
                Err(error) => {
                    tracing::error!(category = "application", tenant = tenant.as_str(), %error, "taking a plan back broke off");
                }
            }
            databases.0.running.release(&tenant);
            phases.send_replace(Phase::Ended);
        });
        Ok(phase)
    }

    /// A connection to a tenant's database for itself, as long as the tenant is there; always to the same `place`.
    async fn dedicate(&self, tenant: &TenantId, place: &OnceCell<String>) -> Result<Dedicated, Error> {
        self.refresh(tenant).await.map_err(|error| Error::Unreachable(error.to_string()))?;
        if let Some((sealed, problem)) =
            self.known(tenant.as_str(), |known| (known.sealed.clone(), known.problem.clone()))
        {
            if *place.get_or_init(|| sealed.clone()) != sealed {
                return Err(Error::Removed(format!("the database of tenant {tenant} is elsewhere by now")));
            }
            if let Some(problem) = problem {
                return Err(Error::Unreachable(problem));
            }
        }
        self.pools().dedicate(tenant.as_str()).await.map_err(|error| match error {
            PoolError::NoDatabase | PoolError::Closed => {
                Error::Removed(format!("the database of tenant {tenant} is not known"))
            }
            error => Error::Unreachable(error.to_string()),
        })
    }

    /// What could be built is.
    async fn built(&self, tenant: &TenantId, plan: &mut Plan, standing: usize, asked: &Asked) {
        let detail = format!("{standing} of {} indexes stand, and are watched", plan.document.steps.len());
        let entered = self
            .advance(
                tenant,
                plan,
                State::Observing,
                [State::Applying; 2],
                ("applied", &asked.by, Some(detail)),
            )
            .await;
        match entered {
            Ok(()) => self.told(tenant, plan, "DATABASE_PLAN_APPLIED", Severity::Info, asked, None).await,
            Err(error) => {
                tracing::warn!(category = "application", tenant = tenant.as_str(), %error, "how far a plan is was not entered");
            }
        }
    }

    /// It has come to an end.
    async fn finish(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        done: Result<Report, ApplyError>,
        asked: &Asked,
    ) {
        let report = match done {
            Ok(report) => report,
            Err(error) => {
                return self
                    .end(tenant, plan, (State::Failed, "failed"), Some(error.to_string()), asked)
                    .await;
            }
        };
        plan.document.settle(&report.indexes);
        if let Some(reason) = report.withdrawn.clone() {
            return self.rolled_back(tenant, plan, report, &Asked { by: reason, ..asked.clone() }).await;
        }
        let now = self.0.clock.now();
        let [kept, dropped, failed, left] =
            ["kept", "dropped", "failed", "left"].map(|outcome| report.count(outcome));
        if plan.state == State::Observing {
            plan.document.note(now, "observed", COMPANION, Some(observed(&report)));
        }
        let counts = format!("{kept} kept, {dropped} dropped, {failed} failed, {left} left to be dropped");
        let reasons = report
            .indexes
            .iter()
            .filter(|one| one.outcome != "kept")
            .map(|one| format!("{}: {}", one.index, one.reason));
        let detail = std::iter::once(counts).chain(reasons).collect::<Vec<_>>().join("; ");
        let end = match (kept + left, dropped) {
            (0, 0) => (State::Failed, "failed"),
            (0, _) => (State::RolledBack, "rolled_back"),
            _ => (State::Kept, "kept"),
        };
        self.end(tenant, plan, end, Some(detail), &Asked { by: COMPANION.to_owned(), ..asked.clone() }).await;
    }

    async fn rolled_back(&self, tenant: &TenantId, plan: &mut Plan, report: Report, asked: &Asked) {
        plan.document.settle(&report.indexes);
        let left: Vec<String> = report
            .indexes
            .iter()
            .filter(|one| one.outcome == "left")
            .map(|one| format!("{} could not be dropped yet: {}; try again", one.index, one.reason))
            .collect();
        let end = if left.is_empty() { (State::RolledBack, "rolled_back") } else { (State::Kept, "failed") };
        let detail =
            if left.is_empty() { format!("{} dropped", report.count("dropped")) } else { left.join("; ") };
        self.end(tenant, plan, end, Some(detail), asked).await;
    }

    /// Enters an end, and writes it into the trail. A plan of a tenant that is gone has no place to be entered.
    async fn end(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        end: (State, &str),
        detail: Option<String>,
        asked: &Asked,
    ) {
        let before = plan.state;
        let (state, what) = end;
        let also = if before == State::Applying { State::Observing } else { before };
        let entered =
            self.advance(tenant, plan, state, [before, also], (what, &asked.by, detail.clone())).await;
        if let Err(error) = entered {
            tracing::info!(category = "application", tenant = tenant.as_str(), plan = plan.id, %error, "the end of a plan was not entered");
        }
        let (name, severity) = match what {
            "kept" => ("DATABASE_PLAN_KEPT", Severity::Info),
            "rolled_back" => ("DATABASE_PLAN_ROLLED_BACK", Severity::Warning),
            _ => ("DATABASE_PLAN_FAILED", Severity::Error),
        };
        self.told(tenant, plan, name, severity, asked, detail).await;
    }

    /// Moves a plan on, in the store first.
    pub(super) async fn advance(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        state: State,
        from: [State; 2],
        (what, by, detail): (&str, &str, Option<String>),
    ) -> Result<(), PlanError> {
        let now = self.0.clock.now();
        let mut next = Plan { state, updated_at: now, ..plan.clone() };
        next.document.note(now, what, by, detail);
        match self.enter(tenant, &next, from, now).await {
            Ok(()) => {
                *plan = next;
                Ok(())
            }
            Err(StorageError::Conflict) => match self.plan(tenant, &plan.id).await? {
                Some(found) => {
                    Err(PlanError::State { found: found.state, remedy: "somebody was faster; look again" })
                }
                None => Err(PlanError::Unknown),
            },
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn told(
        &self,
        tenant: &TenantId,
        plan: &Plan,
        name: &str,
        severity: Severity,
        asked: &Asked,
        detail: Option<String>,
    ) {
        let indexes: Vec<&str> =
            plan.document.steps.iter().map(|step| step.index.as_str()).take(20).collect();
        tracing::info!(
            category = "audit",
            correlation_id = asked.correlation_id,
            tenant = tenant.as_str(),
            plan = plan.id,
            by = asked.by,
            state = plan.state.as_str(),
            detail,
            "plan of indexes"
        );
        let details = json!({"plan": plan.id, "by": asked.by, "correlation_id": asked.correlation_id, "indexes": indexes,
            "detail": detail});
        self.tell(tenant, name, severity, details).await;
    }
}

/// What was seen while the indexes were watched.
fn observed(report: &Report) -> String {
    let measured =
        report.indexes.iter().filter_map(|one| Some(format!("{}: {}", one.index, one.measured.as_ref()?)));
    let measured: Vec<String> = measured.collect();
    if measured.is_empty() {
        let reason = "statements on their tables were not counted often enough before and after to compare";
        let blind = report.notes.iter().find(|note| note.contains("pg_stat_statements"));
        return blind.map_or(reason, String::as_str).to_owned();
    }
    measured.join("; ")
}
