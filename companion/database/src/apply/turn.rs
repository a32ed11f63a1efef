//! A database's turn: who holds its lock, and alone builds and drops indexes in it for as long as that.
//!
//! An application that an earlier run left behind is gone on with: what it was building and is valid, and what it was watching, is watched
//! anew; what it wanted gone is dropped and not built again.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::build::{Builder, Failure};
use super::ledger::{self, Entry, live};
use super::watch::{self, Watch};
use super::{ApplyError, Options, Progress, RETRY, Report, Script, Tell, preflight};
use crate::Error;
use crate::catalog::{self, Catalog};
use crate::workload::Query;

/// The only one who changes a database's indexes, until this is dropped.
pub struct Turn<'c, C, K> {
    builder: Builder<'c, C, K>,
    options: &'c Options,
}

/// What an earlier run of a plan left.
#[derive(Default)]
struct Left {
    /// Valid, and not watched to the end.
    unwatched: Vec<Entry>,
    /// Indexes that had to go.
    ended: BTreeSet<String>,
}

impl<'c, C, K> Turn<'c, C, K>
where
    C: AsyncFn() -> Result<K, Error>,
    K: Borrow<Client>,
{
    /// Waits for [`Options::wait`] at most until nobody else has it.
    ///
    /// # Errors
    /// [`ApplyError::Busy`] when somebody keeps it, [`ApplyError::Server`] when the server cannot be asked. Nothing was begun.
    pub async fn take(connect: &'c C, options: &'c Options) -> Result<Self, ApplyError> {
        Ok(Self { builder: Builder::start(connect, options).await?, options })
    }

    /// As [`super::apply`].
    ///
    /// # Errors
    /// [`ApplyError`]. [`ApplyError::Server`] may come in the middle: then the ledger says what stands, and the next application of the same plan
    /// goes on with it.
    pub async fn apply(
        &mut self,
        script: &Script,
        approved: &str,
        samples: Vec<Query>,
        tell: Tell<'_>,
    ) -> Result<Report, ApplyError> {
        let digest = script.digest();
        if digest != approved {
            return Err(ApplyError::Approval { found: digest, approved: approved.to_owned() });
        }
        let mut report = Report { plan: digest.clone(), ..Report::default() };
        let catalog = catalog::load(self.builder.client()).await?;
        if catalog.standby {
            return Err(ApplyError::Standby);
        }
        let left = self.recover(Some(&digest), &mut report).await?;
        let refused = self.refused(&catalog, script, &left, &mut report).await?;
        let mut watch = Watch::start(self.builder.sibling().await?, &catalog, samples).await?;
        report.notes.extend(watch.notes());
        for entry in &left.unwatched {
            if let Some(build) = script.builds.iter().find(|build| build.index() == entry.index())
                && let Some(bytes) = self.builder.check(build, entry.id).await?
            {
                watch.adopt(build, entry.id, bytes);
            }
        }
        self.build(script, (&left.ended, refused), &mut watch, &mut report, &mut *tell).await?;
        tell(Progress::Watching(watch.standing().saturating_add(report.count("kept"))));
        self.observe(watch, report).await
    }

    /// Why nothing more may be built, where something stands that is watched all the same.
    async fn refused(
        &self,
        catalog: &Catalog,
        script: &Script,
        left: &Left,
        report: &mut Report,
    ) -> Result<Option<String>, ApplyError> {
        let before = match preflight(self.builder.client(), catalog, script, self.options.free).await {
            Ok(before) => before,
            Err(error @ ApplyError::Server(_)) => return Err(error),
            Err(error) if left.unwatched.is_empty() => return Err(error),
            Err(error) => return Ok(Some(error.to_string())),
        };
        if before.free.is_none() {
            report.notes.push(
                "room on the server's disk is not known and was not checked; say it with --free".into(),
            );
        }
        ledger::prepare(self.builder.client()).await?;
        Ok(None)
    }

    /// Builds what is not there, and looks at what others run meanwhile.
    async fn build(
        &mut self,
        script: &Script,
        (ended, refused): (&BTreeSet<String>, Option<String>),
        watch: &mut Watch<'_, C, K>,
        report: &mut Report,
        tell: Tell<'_>,
    ) -> Result<(), ApplyError> {
        let (options, plan) = (self.options, report.plan.clone());
        let standing = live(self.builder.client()).await?;
        for build in &script.builds {
            let index = build.index();
            if options.withdrawn().is_some() {
                break;
            }
            if ended.contains(&index) || watch.has(&index) {
                continue;
            }
            if standing.iter().any(|entry| entry.index() == index) {
                report.tell(&index, "kept", "it is there already", None);
                continue;
            }
            if let Some(refused) = &refused {
                report.tell(&index, "failed", refused.clone(), None);
                continue;
            }
            tell(Progress::Building(&index));
            let built = {
                let building = self.builder.build(&plan, build);
                tokio::pin!(building);
                loop {
                    tokio::select! {
                        built = &mut building => break built,
                        () = options.pause(watch::PERIOD) => match options.withdrawn() {
                            Some(_) => watch.cancel_build().await?,
                            None => watch.tick(&mut *report).await?,
                        },
                    }
                }
            };
            match built? {
                Ok((id, bytes)) => watch.built(build, id, bytes, report).await?,
                Err(Failure { reason, left, stop }) => {
                    report.tell(&index, if left { "left" } else { "failed" }, reason, None);
                    if stop {
                        report.notes.push("nothing more was built after that".into());
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Watches what stands until it is kept, harms, or is withdrawn.
    async fn observe(&self, mut watch: Watch<'_, C, K>, mut report: Report) -> Result<Report, ApplyError> {
        let options = self.options;
        let end = tokio::time::Instant::now() + options.observe;
        while options.withdrawn().is_none() && watch.watches() && tokio::time::Instant::now() < end {
            options.pause(watch::PERIOD.min(options.observe)).await;
            watch.tick(&mut report).await?;
        }
        report.withdrawn = options.withdrawn();
        if let Some(reason) = report.withdrawn.clone() {
            let end = tokio::time::Instant::now() + options.patience;
            watch.withdraw(&reason);
            watch.tick(&mut report).await?;
            while watch.watches_condemned() && tokio::time::Instant::now() < end {
                tokio::time::sleep(RETRY).await;
                watch.tick(&mut report).await?;
            }
        }
        watch.end(&mut report).await?;
        Ok(report)
    }

    /// As [`super::rollback`].
    ///
    /// # Errors
    /// [`ApplyError`] when the server cannot be asked.
    pub async fn rollback(&mut self, plan: Option<&str>) -> Result<Report, ApplyError> {
        let mut report = Report { plan: plan.unwrap_or("all").to_owned(), ..Report::default() };
        if catalog::load(self.builder.client()).await?.standby {
            return Err(ApplyError::Standby);
        }
        self.recover(None, &mut report).await?;
        for entry in live(self.builder.client()).await? {
            if plan.is_none_or(|plan| plan == entry.plan) {
                self.remove(&entry, "taken back", &mut report).await?;
            }
        }
        Ok(report)
    }

    /// What earlier runs left half done: invalid indexes go, valid ones stay. Of `plan` it is told what stands and what had to go.
    async fn recover(&mut self, plan: Option<&str>, report: &mut Report) -> Result<Left, ApplyError> {
        let mut left = Left::default();
        for entry in live(self.builder.client()).await? {
            let valid = self.builder.state(&entry.schema, &entry.name).await?;
            let ours = plan == Some(entry.plan.as_str());
            // Its size is known once it was built.
            let condemned = ours && entry.state == "dropping" && entry.bytes.is_some();
            match (entry.state.as_str(), valid) {
                (state, None) => {
                    let reason = if condemned { None } else { Some("it is not there") };
                    let became = if condemned { "dropped" } else { "failed" };
                    ledger::note(self.builder.client(), entry.id, became, reason).await?;
                    if condemned || (ours && state == "observing") {
                        let reason = entry.reason.clone().filter(|_| condemned);
                        let reason = reason.unwrap_or_else(|| "somebody else has dropped it".to_owned());
                        report.tell(&entry.index(), "dropped", reason, entry.bytes);
                        left.ended.insert(entry.index());
                    }
                }
                ("kept", Some(true)) => {}
                // Of another plan: whoever applies that again watches it.
                ("observing" | "building", Some(true)) => left.unwatched.extend(ours.then_some(entry)),
                _ => {
                    let reason = entry.reason.clone().filter(|_| condemned);
                    let reason = reason.unwrap_or_else(|| "an earlier run did not end".to_owned());
                    self.remove(&entry, &reason, report).await?;
                    left.ended.extend(condemned.then(|| entry.index()));
                }
            }
        }
        Ok(left)
    }

    async fn remove(&mut self, entry: &Entry, reason: &str, report: &mut Report) -> Result<(), ApplyError> {
        ledger::note(self.builder.client(), entry.id, "dropping", Some(reason)).await?;
        match self.builder.remove(&entry.index()).await {
            Ok(()) => {
                ledger::note(self.builder.client(), entry.id, "dropped", Some(reason)).await?;
                report.tell(&entry.index(), "dropped", reason, entry.bytes);
            }
            Err(error) => report.tell(&entry.index(), "left", error.to_string(), entry.bytes),
        }
        Ok(())
    }
}
