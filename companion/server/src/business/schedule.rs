//! Measures what is due, a few at once, and no two of one tenant.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use portcullis_database::metric::{Measure, Query, measure};
use portcullis_database::pool::target::Kind;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Business, HISTORY, Key, MOST_OF_ALL, Metric, Outcome, metric};
use crate::clock::monotonic;
use crate::storage::{Statement, StorageError};
use crate::tenant::TenantId;
use crate::units::bounded;

/// Metrics that are measured at once.
pub const AT_ONCE: usize = 4;
/// How often what is due is looked for.
const TICK: Duration = Duration::from_millis(500);
/// How often the store is looked through for what was declared elsewhere.
const FOLLOW: Duration = Duration::from_secs(5);
const MAX_PROBLEM: usize = 500;

/// A metric and when it is due.
struct Due {
    metric: Metric,
    at: Instant,
}

impl Business {
    /// Measures until `end` says true.
    pub async fn run(self, mut end: watch::Receiver<bool>) {
        let mut known: BTreeMap<Key, Due> = BTreeMap::new();
        let mut running: JoinSet<(Key, Metric)> = JoinSet::new();
        let mut busy: HashSet<String> = HashSet::new();
        let mut followed: Option<Instant> = None;
        loop {
            if followed.is_none_or(|at| at.elapsed() >= FOLLOW) {
                match self.declared().await {
                    Ok(declared) => self.follow(&mut known, declared),
                    Err(error) => {
                        tracing::warn!(category = "application", %error, "business metrics were not looked through");
                    }
                }
                followed = Some(monotonic());
            }
            self.begin(&known, &mut busy, &mut running);
            tokio::select! {
                Some(done) = running.join_next() => match done {
                    Ok((key, metric)) => {
                        busy.remove(&key.0);
                        if let Some(due) = known.get_mut(&key).filter(|due| due.metric == metric) {
                            due.at = monotonic() + due.metric.interval;
                        }
                    }
                    // One that panicked leaves no name; its tenant waits until the others are done.
                    Err(_) => if running.is_empty() { busy.clear(); },
                },
                () = self.0.changed.notified() => followed = None,
                () = tokio::time::sleep(TICK) => {}
                _ = end.wait_for(|end| *end) => return,
            }
        }
    }

    async fn declared(&self) -> Result<BTreeMap<Key, Metric>, StorageError> {
        let all = Statement::new(
            "SELECT tenant_id, name, unit, statement, role, interval_seconds, time_limit_ms FROM business_metrics \
             ORDER BY tenant_id, name LIMIT ?1",
        );
        let rows = self.0.storage.read(all.bind(MOST_OF_ALL)).await?;
        let count = self.0.storage.read(Statement::new("SELECT count(*) FROM business_metrics")).await?;
        let count = count.first().map(|row| row.int(0)).transpose()?.unwrap_or(0);
        let beyond = u64::try_from(count.saturating_sub(MOST_OF_ALL.into())).unwrap_or(0);
        self.0.beyond.store(beyond, Ordering::Relaxed);
        rows.iter()
            .map(|row| {
                let metric = metric(row, 1)?;
                Ok(((row.text(0)?, metric.name.clone()), metric))
            })
            .collect()
    }

    /// What is new or was changed is due at once; what is gone is forgotten.
    fn follow(&self, known: &mut BTreeMap<Key, Due>, declared: BTreeMap<Key, Metric>) {
        known.retain(|key, due| declared.get(key) == Some(&due.metric));
        self.outcomes(|outcomes| outcomes.retain(|key, (metric, _)| declared.get(key) == Some(metric)));
        let now = monotonic();
        for (key, metric) in declared {
            known.entry(key).or_insert(Due { metric, at: now });
        }
    }

    /// Begins what has waited longest.
    fn begin(
        &self,
        known: &BTreeMap<Key, Due>,
        busy: &mut HashSet<String>,
        running: &mut JoinSet<(Key, Metric)>,
    ) {
        let now = monotonic();
        let mut due: Vec<(&Key, &Due)> = known.iter().filter(|(_, due)| due.at <= now).collect();
        due.sort_by_key(|(_, due)| due.at);
        for (key, due) in due {
            if running.len() >= AT_ONCE {
                return;
            }
            if !busy.insert(key.0.clone()) {
                continue;
            }
            let (business, key, metric) = (self.clone(), key.clone(), due.metric.clone());
            running.spawn(async move {
                business.measure_one(&key, &metric).await;
                (key, metric)
            });
        }
    }

    async fn measure_one(&self, key: &Key, metric: &Metric) {
        let started = monotonic();
        let found = self.number(&key.0, metric).await;
        let took = started.elapsed();
        let at = self.0.clock.now();
        self.0.measured.add(1);
        let failed = found.as_ref().err().map(|problem| bounded(problem, MAX_PROBLEM));
        let news = self.outcomes(|outcomes| {
            let (measured, outcome) =
                outcomes.entry(key.clone()).or_insert_with(|| (metric.clone(), Outcome::default()));
            if measured != metric {
                (*measured, *outcome) = (metric.clone(), Outcome::default());
            }
            let news = failed.is_some() && outcome.problem != failed;
            (outcome.at, outcome.took, outcome.problem) = (Some(at), took, failed.clone());
            outcome.value = found.ok();
            if let Some(value) = outcome.value {
                outcome.history.push_back((at, value));
                while outcome.history.len() > HISTORY {
                    outcome.history.pop_front();
                }
            }
            news
        });
        if let Some(problem) = failed {
            self.0.failed.add(1);
            // Said once, not every time.
            if news {
                tracing::warn!(
                    category = "application",
                    tenant = key.0,
                    metric = key.1,
                    problem,
                    "a business metric gave no number"
                );
            }
        }
    }

    async fn number(&self, tenant: &str, metric: &Metric) -> Result<f64, String> {
        let name = TenantId::new(tenant).map_err(|error| error.to_string())?;
        let lease = self.0.databases.lend(&name, None).await.map_err(|error| error.to_string())?;
        let kind = self.0.databases.pools().kind(tenant).unwrap_or(Kind::Postgres);
        let query = Query::new(&metric.statement, kind).map_err(|error| format!("statement: {error}"))?;
        let asked =
            Measure { query, tenant: tenant.to_owned(), role: metric.role.clone(), limit: metric.time_limit };
        measure(&lease, &asked).await.map_err(|error| error.to_string())
    }
}
