//! What comes of plans, entered in the store and told.

use portcullis_database::Error;
use portcullis_database::apply::{ApplyError, Report};
use serde_json::json;
use tokio::sync::watch;

use super::running::Phase;
use super::{Asked, COMPANION, PlanError};
use crate::databases::Databases;
use crate::databases::plans::{Plan, State};
use crate::event::Severity;
use crate::storage::StorageError;
use crate::tenant::TenantId;

impl Databases {
    /// The database was not to be had: nothing was done to it.
    pub(super) async fn not_begun(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        error: ApplyError,
        asked: &Asked,
    ) {
        match error {
            ApplyError::Server(Error::Removed(_)) => self.finish(tenant, plan, Err(error), asked).await,
            error if plan.state == State::Approved => {
                let detail = Some(format!("not begun: {error}; it is approved still"));
                self.end(tenant, plan, (State::Approved, "failed"), detail, asked).await;
            }
            error => {
                tracing::info!(category = "application", tenant = tenant.as_str(), plan = plan.id, %error, "an unfinished plan of indexes waits");
            }
        }
    }

    /// The server was lost in the middle: what stands is in its ledger, and is gone on with.
    pub(super) async fn interrupted(&self, tenant: &TenantId, plan: &mut Plan, error: &Error) {
        tracing::warn!(category = "application", tenant = tenant.as_str(), plan = plan.id, %error, "applying a plan was interrupted");
        let told = plan.document.timeline.last().is_some_and(|entry| entry.what == "interrupted");
        let detail = Some(format!("{error}; it is gone on with when the server answers"));
        let state = plan.state;
        if !told
            && let Err(error) =
                self.advance(tenant, plan, state, [state; 2], ("interrupted", COMPANION, detail)).await
        {
            tracing::warn!(category = "application", tenant = tenant.as_str(), %error, "how far a plan is was not entered");
        }
    }

    /// What could be built is.
    pub(super) async fn built(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        standing: usize,
        (asked, phases): (&Asked, &watch::Sender<Phase>),
    ) {
        if standing == 0 {
            return;
        }
        let before = plan.state;
        let detail = format!("{standing} of {} indexes stand, and are watched", plan.document.steps.len());
        let what = if before == State::Observing { "resumed" } else { "applied" };
        let entry = (what, asked.by.as_str(), Some(detail));
        match self.advance(tenant, plan, State::Observing, [before; 2], entry).await {
            Ok(()) if before == State::Observing => {}
            Ok(()) => self.told(tenant, plan, "DATABASE_PLAN_APPLIED", Severity::Info, asked, None).await,
            Err(error) => {
                tracing::warn!(category = "application", tenant = tenant.as_str(), %error, "how far a plan is was not entered");
            }
        }
        phases.send_replace(Phase::Built);
    }

    /// It has come to an end.
    pub(super) async fn finish(
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

    pub(super) async fn rolled_back(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        report: Report,
        asked: &Asked,
    ) {
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
    pub(super) async fn end(
        &self,
        tenant: &TenantId,
        plan: &mut Plan,
        end: (State, &str),
        detail: Option<String>,
        asked: &Asked,
    ) {
        let before = plan.state;
        let (state, what) = end;
        let from = if before.is_unfinished() { [State::Applying, State::Observing] } else { [before; 2] };
        let entered = self.advance(tenant, plan, state, from, (what, &asked.by, detail.clone())).await;
        if let Err(error) = entered {
            tracing::warn!(category = "application", tenant = tenant.as_str(), plan = plan.id, %error, "the end of a plan was not entered");
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
