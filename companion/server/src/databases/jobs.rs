//! What is done to databases, under way and done: who asks waits for a while, and asks again for what takes longer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::secret::random_hex;

/// Jobs that are remembered; the oldest finished one goes first.
pub const JOBS: usize = 64;

/// What came of optimizing one database.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Whether it was looked through, and what may be applied was.
    pub success: bool,
    /// Why not, and what to do.
    pub problem: Option<String>,
    /// What was found: a plan of indexes, findings, or what SQLite was told.
    pub plan: Option<serde_json::Value>,
    /// The digests of the plans that were proposed or acted on.
    pub plans: Vec<String>,
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What came of those that are done.
    pub done: BTreeMap<String, Outcome>,
    /// Whether all are.
    pub finished: bool,
}

/// A job.
#[derive(Clone)]
pub struct Job {
    /// 16 hexadecimal digits.
    pub id: String,
    /// What is done.
    what: Arc<str>,
    /// Whose databases.
    pub tenants: Arc<[String]>,
    progress: watch::Receiver<Progress>,
}

impl Job {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// How far it is, whenever that changes.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits until all is done.
    pub async fn finished(&self) -> Progress {
        let mut progress = self.progress.clone();
        match progress.wait_for(|progress| progress.finished).await {
            Ok(progress) => progress.clone(),
            Err(_) => self.progress(),
        }
    }
}

/// Why no job was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("64 jobs are under way; wait for one of them")]
pub struct TooMany;

/// The jobs.
#[derive(Default)]
pub struct Jobs {
    known: Mutex<VecDeque<Job>>,
}

impl Jobs {
    /// A job by its name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Job> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|job| job.id == id).cloned()
    }

    /// Begins a job that does `work` with `tenants` one after the other. One that does just that already is joined: `what` names it.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn begin<F, W>(&self, what: &str, tenants: Vec<String>, work: F) -> Result<Job, TooMany>
    where
        F: Fn(String) -> W + Send + Sync + 'static,
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |job: &&Job| *job.what == *what && *job.tenants == *tenants && !job.progress.borrow().finished;
        if let Some(job) = known.iter().find(same) {
            return Ok(job.clone());
        }
        let (job, tell) = place(&mut known, what, tenants)?;
        drop(known);
        run(&job, tell, work);
        Ok(job)
    }

    /// A place for a job that is to be run once something else is done, or never. It is not joined to another one.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn reserve(&self, what: &str, tenants: Vec<String>) -> Result<Reserved<'_>, TooMany> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (job, tell) = place(&mut known, what, tenants)?;
        let unless_run = Forget { jobs: self, id: Some(job.id.clone()) };
        Ok(Reserved { job, tell, unless_run })
    }
}

/// A job that is not run yet. Dropped, it is forgotten.
pub struct Reserved<'j> {
    job: Job,
    tell: watch::Sender<Progress>,
    unless_run: Forget<'j>,
}

impl Reserved<'_> {
    /// Runs it.
    pub fn run<F, W>(self, work: F) -> Job
    where
        F: Fn(String) -> W + Send + Sync + 'static,
        W: Future<Output = Outcome> + Send + 'static,
    {
        let Self { job, tell, mut unless_run } = self;
        unless_run.id = None;
        run(&job, tell, work);
        job
    }
}

/// Forgets a job when it is dropped.
struct Forget<'j> {
    jobs: &'j Jobs,
    id: Option<String>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.jobs.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|job| job.id != id);
        }
    }
}

fn place(
    known: &mut VecDeque<Job>,
    what: &str,
    tenants: Vec<String>,
) -> Result<(Job, watch::Sender<Progress>), TooMany> {
    if known.len() >= JOBS {
        let oldest = known.iter().position(|job| job.progress.borrow().finished).ok_or(TooMany)?;
        known.remove(oldest);
    }
    let id = random_hex::<8>().map_err(|_| TooMany)?;
    let (tell, progress) = watch::channel(Progress::default());
    let job = Job { id, what: what.into(), tenants: tenants.into(), progress };
    known.push_back(job.clone());
    Ok((job, tell))
}

fn run<F, W>(job: &Job, tell: watch::Sender<Progress>, work: F)
where
    F: Fn(String) -> W + Send + Sync + 'static,
    W: Future<Output = Outcome> + Send + 'static,
{
    let tenants = Arc::clone(&job.tenants);
    tokio::spawn(async move {
        for tenant in tenants.iter() {
            let outcome = work(tenant.clone()).await;
            tell.send_modify(|progress| {
                progress.done.insert(tenant.clone(), outcome);
            });
        }
        tell.send_modify(|progress| progress.finished = true);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_is_joined_and_the_oldest_finished_is_forgotten() {
        let jobs = Jobs::default();
        let (go, gone) = watch::channel(false);
        let wait = move |_| {
            let mut gone = gone.clone();
            async move {
                let _ = gone.wait_for(|gone| *gone).await;
                Outcome { success: true, ..Outcome::default() }
            }
        };
        let names = |number: usize| vec![format!("t{number}")];
        let first = jobs.begin("wait", names(0), wait.clone()).unwrap();
        assert_eq!(jobs.begin("wait", names(0), wait.clone()).unwrap().id, first.id);
        for number in 1..JOBS {
            jobs.begin("wait", names(number), wait.clone()).unwrap();
        }
        assert_eq!(jobs.begin("wait", names(JOBS), wait.clone()).err(), Some(TooMany));
        go.send_replace(true);
        let done = first.finished().await;
        assert_ne!(
            jobs.begin("other", names(1), wait.clone()).unwrap().id,
            first.id,
            "something else is no joining"
        );
        assert!(done.finished && done.done["t0"].success);
        let next = jobs.begin("wait", names(0), wait).unwrap();
        assert_ne!(next.id, first.id, "what is finished is done anew");
        assert!(next.finished().await.finished);
    }

    #[tokio::test]
    async fn a_place_that_is_not_used_is_free_again() {
        let jobs = Jobs::default();
        let done = |_| async { Outcome { success: true, ..Outcome::default() } };
        let mut places: Vec<_> =
            (0..JOBS).map(|_| jobs.reserve("apply", vec!["t".into()]).unwrap()).collect();
        assert_eq!(jobs.reserve("apply", vec!["t".into()]).err(), Some(TooMany));
        let job = places.remove(0).run(done);
        assert!(job.finished().await.done["t"].success && jobs.find(&job.id).is_some());
        drop(places);
        assert!(jobs.find(&job.id).is_some());
        assert_eq!((0..JOBS).filter(|_| jobs.reserve("apply", Vec::new()).is_ok()).count(), JOBS);
    }
}
