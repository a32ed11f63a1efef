//! Building, watching and taking back, as it goes on beside everything else.
//!
//! Whoever has a database's turn, a lock in the database itself, and nobody else, moves its plans on while they are applied or taken back: the plan
//! is looked at again once the turn is taken, and the turn is kept until what came of it is entered. So of two companions on one store, or
//! of a companion and a command line, one works and the other changes nothing.

use std::cell::OnceCell;
use std::time::Duration;

use portcullis_database::Error;
use portcullis_database::apply::{ApplyError, Options, Progress, Turn};
use portcullis_database::pool::{Dedicated, PoolError};
use tokio::sync::{mpsc, watch};

use super::running::Phase;
use super::{Asked, PlanError};
use crate::databases::Databases;
use crate::databases::plans::{Plan, State};
use crate::tenant::TenantId;

/// How long a turn is waited for by who only looks whether there is something to go on with: it is looked again.
const GLANCE: Duration = Duration::from_secs(2);

impl Databases {
    /// Begins to apply a plan that is approved, or to go on with one that is unfinished.
    pub(super) fn start(
        &self,
        tenant: &TenantId,
        plan: &Plan,
        asked: &Asked,
    ) -> Result<watch::Receiver<Phase>, PlanError> {
        let (withdrawal, phases) = self.0.running.claim(tenant, &plan.id)?;
        let phase = phases.subscribe();
        let (databases, tenant, plan, asked) = (self.clone(), tenant.clone(), plan.clone(), asked.clone());
        self.beside(tenant.clone(), phases, async move |phases| {
            databases.apply(&tenant, plan, &asked, withdrawal, &phases).await;
        });
        Ok(phase)
    }

    /// Takes back what nobody is at.
    pub(super) fn take_back(
        &self,
        tenant: &TenantId,
        plan: Plan,
        asked: &Asked,
    ) -> Result<watch::Receiver<Phase>, PlanError> {
        let (_withdrawal, phases) = self.0.running.claim(tenant, &plan.id)?;
        let phase = phases.subscribe();
        let (databases, tenant, asked) = (self.clone(), tenant.clone(), asked.clone());
        self.beside(tenant.clone(), phases, async move |_| {
            databases.undo(&tenant, plan, &asked).await;
        });
        Ok(phase)
    }

    /// Does something on a thread of its own, because it holds its state across waits and not all of that may change threads; then the
    /// tenant's place is free.
    fn beside<W>(&self, tenant: TenantId, phases: watch::Sender<Phase>, work: W)
    where
        W: AsyncFnOnce(watch::Sender<Phase>) + Send + 'static,
    {
        let (databases, runtime, told) = (self.clone(), tokio::runtime::Handle::current(), phases.clone());
        tokio::spawn(async move {
            let done = tokio::task::spawn_blocking(move || runtime.block_on(work(told)));
            if let Err(error) = done.await {
                tracing::error!(category = "application", tenant = tenant.as_str(), %error, "work on a plan broke off");
            }
            databases.0.running.release(&tenant);
            phases.send_replace(Phase::Ended);
        });
    }

    /// Builds and watches, and enters how far that is.
    async fn apply(
        &self,
        tenant: &TenantId,
        mut plan: Plan,
        asked: &Asked,
        withdrawal: watch::Receiver<Option<String>>,
        phases: &watch::Sender<Phase>,
    ) {
        let script = match plan.document.script() {
            Ok(script) => script,
            Err(error) => return self.finish(tenant, &mut plan, Err(ApplyError::Plan(error)), asked).await,
        };
        let (observe, patience) = (self.0.options.observe, self.0.options.outage);
        let mut options = Options { observe, patience, withdrawal: Some(withdrawal), ..Options::default() };
        if plan.state != State::Approved {
            options.wait = GLANCE;
        }
        let place = OnceCell::new();
        let connect = async || self.dedicate(tenant, &place).await;
        let Some(turn) = self.unless_ended(Turn::take(&connect, &options)).await else { return };
        let mut turn = match turn {
            Ok(turn) => turn,
            Err(error) => return self.not_begun(tenant, &mut plan, error, asked).await,
        };
        match self.is_due(tenant, &mut plan, asked).await {
            Ok(true) => {}
            // Somebody had the turn before, and has moved it on.
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(category = "application", tenant = tenant.as_str(), plan = plan.id, %error, "a plan was not begun");
                return;
            }
        }
        let (tell, mut told) = mpsc::unbounded_channel();
        let (id, now) = (plan.id.clone(), &mut plan);
        let done = self.unless_ended(async {
            let tell = &mut |progress: Progress<'_>| {
                if let Progress::Watching(standing) = progress {
                    // Nobody listens when the companion ends.
                    let _ = tell.send(standing);
                }
            };
            let applying = turn.apply(&script, &id, Vec::new(), tell);
            tokio::pin!(applying);
            loop {
                tokio::select! {
                    biased;
                    Some(standing) = told.recv() => self.built(tenant, now, standing, (asked, phases)).await,
                    done = &mut applying => break done,
                }
            }
        });
        let Some(done) = done.await else { return };
        // Said at the very end.
        while let Ok(standing) = told.try_recv() {
            self.built(tenant, &mut plan, standing, (asked, phases)).await;
        }
        match done {
            Err(ApplyError::Server(error)) if error.is_outage() => {
                self.interrupted(tenant, &mut plan, &error).await;
            }
            done => self.finish(tenant, &mut plan, done, asked).await,
        }
    }

    /// Whether a plan is still to be begun, or gone on with, now that the database is ours; it is entered.
    async fn is_due(&self, tenant: &TenantId, plan: &mut Plan, asked: &Asked) -> Result<bool, PlanError> {
        let approved = plan.state == State::Approved;
        let Some(found) = self.plan(tenant, &plan.id).await? else { return Ok(false) };
        *plan = found;
        match plan.state {
            State::Approved if approved => {
                let entry = ("applying", asked.by.as_str(), None);
                self.advance(tenant, plan, State::Applying, [State::Approved; 2], entry).await?;
                Ok(true)
            }
            state => Ok(state.is_unfinished() && !approved),
        }
    }

    /// A companion that ends takes nothing back: whoever starts next goes on.
    async fn unless_ended<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Option<Result<T, E>> {
        let mut ended = self.0.ended.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => None,
            // The pools are closed when it ends, and that is no problem of the database.
            done = work => Some(done).filter(|done| done.is_ok() || !*self.0.ended.borrow()),
        }
    }

    async fn undo(&self, tenant: &TenantId, mut plan: Plan, asked: &Asked) {
        let (options, place) = (Options::default(), OnceCell::new());
        let connect = async || self.dedicate(tenant, &place).await;
        let taken = match Turn::take(&connect, &options).await {
            Ok(mut turn) => {
                match self.plan(tenant, &plan.id).await {
                    Ok(Some(found)) if found.state.stands() => plan = found,
                    // Somebody else has taken it back, or the tenant is gone.
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(category = "application", tenant = tenant.as_str(), plan = plan.id, %error, "a plan was not taken back");
                        return;
                    }
                }
                match turn.rollback(Some(&plan.id)).await {
                    Ok(report) => return self.rolled_back(tenant, &mut plan, report, asked).await,
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err::<(), _>(error),
        };
        if let Err(error) = taken {
            let (state, detail) = (plan.state, format!("not taken back: {error}"));
            self.end(tenant, &mut plan, (state, "failed"), Some(detail), asked).await;
        }
    }

    /// A connection to a tenant's database for itself, as long as the tenant is there; always to the same `place`.
    async fn dedicate(&self, tenant: &TenantId, place: &OnceCell<u64>) -> Result<Dedicated, Error> {
        self.refresh(tenant).await.map_err(|error| Error::Unreachable(error.to_string()))?;
        if let Some(problem) = self.known(tenant.as_str(), |known| known.problem.clone()).flatten() {
            return Err(Error::Unreachable(problem));
        }
        if let Some(number) = self.pools().number(tenant.as_str())
            && *place.get_or_init(|| number) != number
        {
            return Err(Error::Removed(format!("the database of tenant {tenant} is elsewhere by now")));
        }
        self.pools().dedicate(tenant.as_str()).await.map_err(|error| match error {
            PoolError::NoDatabase | PoolError::Closed => {
                Error::Removed(format!("the database of tenant {tenant} is not known"))
            }
            error => Error::Unreachable(error.to_string()),
        })
    }
}
