//! Whether an index does what it was built for, once it is there.
//!
//! Given statements are timed before and after, read-only and rolled back. What others run is watched in pg_stat_statements: a statement on
//! the index's table whose mean time since the build is well above its mean before counts against an index that is being used.
//! What it cannot tell: why a statement became slower. When in doubt the index goes; the ledger says so.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio_postgres::Client;

use super::build::LOCK;
use super::effect::{CALLS, Count, Measured, Window, slower_since};
use super::sample::{self, Sample};
use super::session::Session;
use super::{Build, Report, ledger};
use crate::Error;
use crate::catalog::Catalog;
use crate::proof::{Stopwatch, slower};
use crate::sql::analyze;
use crate::workload::Query;

/// How often is looked.
pub(super) const PERIOD: Duration = Duration::from_secs(2);

/// An index that was built and is being watched.
struct Standing {
    build: Build,
    id: i64,
    bytes: i64,
    /// What had been counted when it was built.
    since: HashMap<i64, Count>,
    /// Why it must go, where it could not be dropped yet.
    condemned: Option<String>,
}

pub(super) struct Watch<'c, C, K> {
    session: Session<'c, C, K>,
    stopwatch: Stopwatch,
    catalog: &'c Catalog,
    samples: Vec<Sample>,
    standing: Vec<Standing>,
    /// What was counted before the first build.
    history: HashMap<i64, Count>,
    counted: bool,
    /// Tables that counted statements read.
    tables: HashMap<i64, BTreeSet<String>>,
}

impl<'c, C, K> Watch<'c, C, K>
where
    C: AsyncFn() -> Result<K, Error>,
    K: Borrow<Client>,
{
    pub async fn start(
        session: Session<'c, C, K>,
        catalog: &'c Catalog,
        queries: Vec<Query>,
    ) -> Result<Self, Error> {
        let stopwatch = Stopwatch::of(session.client()).await?;
        let texts: Vec<&str> = queries.iter().map(|query| query.text.as_str()).collect();
        let analyses = analyze(catalog, &texts);
        let mut watch = Self {
            session,
            stopwatch,
            catalog,
            samples: Vec::new(),
            standing: Vec::new(),
            history: HashMap::new(),
            counted: catalog.statements,
            tables: HashMap::new(),
        };
        for (query, analysis) in queries.into_iter().zip(analyses) {
            let Ok(analysis) = analysis else { continue };
            let tables = analysis.accesses.iter().map(|access| access.table.sql()).collect();
            let before = if analysis.writes {
                None
            } else {
                sample::time(watch.session.client(), &watch.stopwatch, &query).await?
            };
            watch.samples.push(Sample { query, tables, before, after: before });
        }
        watch.history = match watch.counts().await {
            Ok(history) => history,
            Err(error) if watch.session.client().is_closed() => return Err(error),
            Err(_) => HashMap::new(),
        };
        watch.counted &= !watch.history.is_empty();
        Ok(watch)
    }

    async fn revive(&mut self) -> Result<(), Error> {
        if self.session.revive().await? {
            self.stopwatch = Stopwatch::of(self.session.client()).await?;
        }
        Ok(())
    }

    /// What cannot be watched.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.samples.is_empty() {
            notes.push("no statements were given (--workload), so no gain is measured".to_owned());
        }
        if !self.counted {
            notes
                .push("pg_stat_statements counts nothing here, so what others run is not watched".to_owned());
        }
        notes
    }

    /// Whether there is anything to wait for.
    pub fn watches(&self) -> bool {
        self.watches_condemned() || (self.counted && !self.standing.is_empty())
    }

    /// Whether an index is watched.
    pub fn has(&self, index: &str) -> bool {
        self.standing.iter().any(|one| one.build.index() == index)
    }

    /// Watches an index that an earlier run has built. What is known of the time before is what was counted until now: from before the build
    /// for the most part, where counting began long ago.
    pub fn adopt(&mut self, build: &Build, id: i64, bytes: i64) {
        let since = self.history.clone();
        self.standing.push(Standing { build: build.clone(), id, bytes, since, condemned: None });
    }

    /// How many were built and stand.
    pub fn standing(&self) -> usize {
        self.standing.len()
    }

    /// Whether something must go and is there still.
    pub fn watches_condemned(&self) -> bool {
        self.standing.iter().any(|one| one.condemned.is_some())
    }

    /// Everything that was built goes.
    pub fn withdraw(&mut self, reason: &str) {
        for standing in &mut self.standing {
            standing.condemned.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Ends the build that goes on: that of the session which holds the lock.
    pub async fn cancel_build(&mut self) -> Result<(), Error> {
        self.revive().await?;
        let cancel = "SELECT pg_cancel_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                      WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = $1::bigint >> 32 \
                      AND l.objid::bigint = $1::bigint & 4294967295 AND a.datname = current_database() \
                      AND a.state = 'active' AND a.query ILIKE 'create index%'";
        self.session.client().query(cancel, &[&LOCK]).await?;
        Ok(())
    }

    /// An index is there: the given statements on its table are timed.
    pub async fn built(
        &mut self,
        build: &Build,
        id: i64,
        bytes: i64,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.revive().await?;
        let since = if self.counted { self.counts().await? } else { HashMap::new() };
        let build = build.clone();
        let mut harm = None;
        for number in 0..self.samples.len() {
            let Some((query, before)) = self
                .samples
                .get(number)
                .filter(|one| one.tables.contains(&build.on()))
                .and_then(|one| Some((one.query.clone(), one.before?)))
            else {
                continue;
            };
            let mut after = sample::time(self.session.client(), &self.stopwatch, &query).await?;
            // Once may be a coincidence.
            if after.is_some_and(|after| slower(before, after)) {
                after = sample::time(self.session.client(), &self.stopwatch, &query)
                    .await?
                    .zip(after)
                    .map(|(second, first)| second.min(first));
            }
            if let Some(after) = after.filter(|after| slower(before, *after)) {
                let (before, after) = (before * 1e3, after * 1e3);
                harm = Some(format!(
                    "measured: {} takes {after:.1} ms with it, {before:.1} ms without",
                    query.name
                ));
                break;
            }
            if let Some(sample) = self.samples.get_mut(number) {
                sample.after = after.or(sample.after);
            }
        }
        self.standing.push(Standing { build, id, bytes, since, condemned: harm });
        self.execute(report).await
    }

    /// Looks at what others run, and drops what harms them. A connection that is lost meanwhile is made anew for the next look.
    pub async fn tick(&mut self, report: &mut Report) -> Result<(), Error> {
        self.revive().await?;
        match self.look(report).await {
            Err(error) if self.session.client().is_closed() => {
                tracing::debug!(%error, "the connection was lost while indexes were watched");
                Ok(())
            }
            looked => looked,
        }
    }

    async fn look(&mut self, report: &mut Report) -> Result<(), Error> {
        if self.counted && !self.standing.is_empty() {
            let now = self.counts().await?;
            for number in 0..self.standing.len() {
                let harm = self.harm(number, &now).await?;
                if let Some(standing) = self.standing.get_mut(number).filter(|one| one.condemned.is_none()) {
                    standing.condemned = harm;
                }
            }
        }
        self.execute(report).await
    }

    /// What is left is kept, unless statements were given and no plan uses it.
    pub async fn end(mut self, report: &mut Report) -> Result<(), Error> {
        self.revive().await?;
        let mut plans = Vec::new();
        for sample in &self.samples {
            plans.extend(sample::plan(self.session.client(), self.catalog.version, &sample.query).await?);
        }
        for number in 0..self.standing.len() {
            let Some(standing) = self.standing.get(number) else { continue };
            let used = plans.iter().any(|line| line.contains(&standing.build.name));
            let idle = !self.samples.is_empty() && !used && self.scans(&standing.build).await? == 0;
            if let Some(standing) =
                self.standing.get_mut(number).filter(|one| idle && one.condemned.is_none())
            {
                standing.condemned =
                    Some("no gain: no given statement's plan uses it, and nothing has read it".into());
            }
        }
        self.execute(report).await?;
        let now = self.counts().await?;
        for standing in std::mem::take(&mut self.standing) {
            let index = standing.build.index();
            match &standing.condemned {
                Some(reason) => report.tell(
                    &index,
                    "left",
                    format!("{reason}; it could not be dropped yet: run `database rollback`"),
                    Some(standing.bytes),
                ),
                None => {
                    let measured = self.measured(&standing, &now).await?;
                    let reason = match &measured {
                        Some(measured) if self.samples.is_empty() => measured.to_string(),
                        _ => self.gain(&standing.build),
                    };
                    ledger::note(self.session.client(), standing.id, "kept", Some(&reason)).await?;
                    report.tell(&index, "kept", reason, Some(standing.bytes));
                    if let Some(told) = report.indexes.last_mut() {
                        told.measured = measured;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the statements on an index's table gained while it was there.
    fn gain(&self, build: &Build) -> String {
        let concerned = self.samples.iter().filter(|sample| sample.tables.contains(&build.on()));
        let times = concerned.filter_map(|sample| Some((sample.query.weight, sample.before?, sample.after?)));
        let (before, after) = times
            .fold((0.0, 0.0), |(before, after), (weight, b, a)| (before + weight * b, after + weight * a));
        if before > 0.0 {
            format!(
                "given statements on {} take {:.1} % of their time before",
                build.on(),
                100.0 * after / before
            )
        } else {
            "nothing became slower".to_owned()
        }
    }

    /// Drops what is condemned. What cannot be dropped now is tried again at the next look.
    async fn execute(&mut self, report: &mut Report) -> Result<(), Error> {
        let mut number = 0;
        while let Some(standing) = self.standing.get(number) {
            let Some(reason) = standing.condemned.clone() else {
                number = number.saturating_add(1);
                continue;
            };
            let client = self.session.client();
            ledger::note(client, standing.id, "dropping", Some(&reason)).await?;
            let index = standing.build.index();
            if let Err(error) =
                client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await
            {
                tracing::debug!(index, %error, "not dropped yet");
                number = number.saturating_add(1);
                continue;
            }
            ledger::note(client, standing.id, "dropped", Some(&reason)).await?;
            report.tell(&index, "dropped", reason, Some(standing.bytes));
            self.standing.remove(number);
        }
        Ok(())
    }

    /// Why an index must go, by what others ran since it was built.
    async fn harm(&mut self, number: usize, now: &HashMap<i64, Count>) -> Result<Option<String>, Error> {
        let Some(standing) = self.standing.get(number) else { return Ok(None) };
        let mut slow = Vec::new();
        for (query, count) in now {
            let (Some(history), since) =
                (self.history.get(query), standing.since.get(query).copied().unwrap_or_default())
            else {
                continue;
            };
            let window = count.since(&since);
            slow.extend(slower_since(history, &window).map(|(before, after)| (*query, before, after)));
        }
        let build = standing.build.clone();
        for (query, before, after) in slow {
            if self.reads(query, &build.on()).await? && self.scans(&build).await? > 0 {
                return Ok(Some(format!(
                    "pg_stat_statements: statement {query} takes {after:.1} ms since it was built, {before:.1} ms before"
                )));
            }
        }
        Ok(None)
    }

    /// What the statements on the index's table took before and after, by what others ran.
    async fn measured(
        &mut self,
        standing: &Standing,
        now: &HashMap<i64, Count>,
    ) -> Result<Option<Measured>, Error> {
        let mut windows = Vec::new();
        for (query, count) in now {
            let since = standing.since.get(query).copied().unwrap_or_default();
            let (Some(before), after) = (self.history.get(query).copied(), count.since(&since)) else {
                continue;
            };
            if before.calls >= CALLS
                && after.calls >= CALLS
                && self.reads(*query, &standing.build.on()).await?
            {
                windows.push(Window { before, after });
            }
        }
        Ok(Measured::of(&windows))
    }

    async fn reads(&mut self, query: i64, table: &str) -> Result<bool, Error> {
        if !self.tables.contains_key(&query) {
            let text = "SELECT query FROM pg_stat_statements WHERE queryid = $1 LIMIT 1";
            let row = self.session.client().query_opt(text, &[&query]).await?;
            let text: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
            let analysis = analyze(self.catalog, &[text.as_deref().unwrap_or_default()]).pop();
            let accesses =
                analysis.and_then(Result::ok).map(|analysis| analysis.accesses).unwrap_or_default();
            self.tables.insert(query, accesses.iter().map(|access| access.table.sql()).collect());
        }
        Ok(self.tables.get(&query).is_some_and(|tables| tables.contains(table)))
    }

    async fn scans(&self, build: &Build) -> Result<i64, Error> {
        let scans =
            "SELECT coalesce(max(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelid = to_regclass($1)";
        Ok(self.session.client().query_one(scans, &[&build.index()]).await?.try_get(0)?)
    }

    async fn counts(&self) -> Result<HashMap<i64, Count>, Error> {
        if !self.counted {
            return Ok(HashMap::new());
        }
        let counts = "SELECT queryid, sum(calls)::int8, sum(total_exec_time)::float8, \
                      sum(calls * (stddev_exec_time ^ 2 + mean_exec_time ^ 2))::float8 FROM pg_stat_statements s \
                      WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IS NOT NULL GROUP BY 1";
        let mut all = HashMap::new();
        for row in self.session.client().query(counts, &[]).await? {
            let count =
                Count { calls: row.try_get(1)?, milliseconds: row.try_get(2)?, squares: row.try_get(3)? };
            all.insert(row.try_get(0)?, count);
        }
        Ok(all)
    }
}
