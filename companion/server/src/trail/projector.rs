//! Fills the tables of events from the trail.
//!
//! A page of records is stored in one transaction with the number of the record that comes next, so that each is projected
//! once, through crashes and through other companions on the same store. A store that fails is asked again, ever more
//! slowly; nothing is passed over. What is sealed is opened with the tenants' keys, and stored only if these are the same
//! when it is ([`Progress::keys`]): a shredding that comes in between makes the page be read again. Passed over, counted and logged are only records that this release cannot read, and
//! values that the store's own types refuse: both stay in the trail.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_audit_log::feed::{Feed, FeedError, Stored};
use tokio::sync::watch;

use super::seal::Vault;
use super::{Trail, record};
use crate::clock::monotonic;
use crate::event::Event;
use crate::keys::KeysError;
use crate::metrics::{EventLabels, Metrics};
use crate::storage::{Outcome, Progress, Storage, StorageError};

/// Bytes of records that share a transaction.
const PAGE_BYTES: usize = 1 << 20;
/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often in a row a page is read again because its keys have changed meanwhile.
const MOST_AGAIN: usize = 20;
/// The longest that an end waits for what is left; the next start goes on from there.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Why the projection does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The tenants' keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The trail.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The thread that reads ended.
    #[error("the trail's reader ended: {0}")]
    Reader(String),
}

/// Events of some records.
struct Page {
    events: Vec<Event>,
    /// The number of each one's record, and what is counted of it.
    labels: Vec<(u64, EventLabels)>,
    /// What it was opened with.
    keys: Vec<(String, u64)>,
    from: u64,
    to: u64,
}

/// Projects, page by page.
pub struct Projector {
    trail: Trail,
    storage: Arc<dyn Storage>,
    metrics: Arc<Metrics>,
    feed: Option<Feed>,
}

impl Projector {
    /// Projects `trail` into `storage`.
    #[must_use]
    pub fn new(trail: Trail, storage: Arc<dyn Storage>, metrics: Arc<Metrics>) -> Self {
        Self { trail, storage, metrics, feed: None }
    }

    /// Projects until `end` says true, and then what is left, for some seconds. `end` is said when the trail is closed.
    pub async fn run(mut self, mut end: watch::Receiver<bool>) {
        let mut durable = self.trail.durable();
        let mut pause = PAUSE;
        loop {
            let ended = *end.borrow();
            // What is appended while this works is seen as a change after it.
            durable.mark_unchanged();
            let worked = self.catch_up(&end).await;
            match &worked {
                Ok(()) if self.trail.0.stalled.swap(false, Ordering::Relaxed) => {
                    tracing::info!(category = "application", "events reach the store again");
                }
                Ok(()) => {}
                Err(error) => self.stall(error),
            }
            if ended {
                break;
            }
            if worked.is_ok() {
                pause = PAUSE;
                tokio::select! {
                    _ = durable.changed() => {}
                    _ = end.wait_for(|end| *end) => {}
                }
            } else {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = end.wait_for(|end| *end) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        let left = self.trail.size().saturating_sub(self.trail.projected());
        if left > 0 {
            tracing::warn!(category = "application", left, "events wait in the trail for the next start");
        }
    }

    fn stall(&mut self, error: &ProjectionError) {
        self.feed = None;
        self.trail.0.figures.stalls.add(1);
        self.metrics.storage_errors.add(1);
        if !self.trail.0.stalled.swap(true, Ordering::Relaxed) {
            tracing::error!(category = "application", %error, "events wait in the trail: the store does not take them");
        }
    }

    /// Projects everything that is durable; after `end` has been said, what can be done of it within some seconds.
    ///
    /// # Errors
    /// [`ProjectionError`]; what was projected stays so.
    pub async fn catch_up(&mut self, end: &watch::Receiver<bool>) -> Result<(), ProjectionError> {
        let mut again = 0;
        loop {
            let before = self.trail.projected();
            match self.pass(end).await {
                Err(ProjectionError::Storage(StorageError::Conflict)) if again < MOST_AGAIN => {
                    again = if self.trail.projected() > before { 0 } else { again + 1 };
                    self.feed = None;
                }
                other => return other,
            }
        }
    }

    async fn pass(&mut self, end: &watch::Receiver<bool>) -> Result<(), ProjectionError> {
        if self.feed.is_none() {
            let position = self.position().await?;
            self.trail.0.projected.send_replace(position);
            self.feed = Some(Feed::new(Arc::clone(self.trail.log().storage()), position));
        }
        let mut ended = None;
        let (feed, mut next) = self.reader().await?;
        self.feed = Some(feed);
        while let Some(page) = next {
            // The next page is read while this one is stored. A step is never broken off: what was asked of the store comes
            // to pass, and the position with it.
            let (read, to) = tokio::join!(self.reader(), self.store(page));
            let (feed, page) = read?;
            self.feed = Some(feed);
            self.trail.0.projected.send_replace(to?);
            next = page;
            if *end.borrow() && ended.get_or_insert_with(monotonic).elapsed() > LAST_WORK {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Where the store stands. One that knows of more records than there are has seen a trail that was taken back since:
    /// then all of it is gone through again, and what is there already stays as it is.
    async fn position(&self) -> Result<u64, ProjectionError> {
        let log = &self.trail.recovered().origin;
        let size = self.trail.size();
        let position = self.storage.projected(log).await?;
        if position <= size {
            return Ok(position);
        }
        tracing::error!(
            category = "security",
            records = size,
            stored = position,
            "the trail has fewer records than the store has seen of it: it was taken back to an earlier state"
        );
        self.storage.project(Vec::new(), Some(Progress::new(log, position, 0))).await?;
        Ok(0)
    }

    /// Reads and opens the next page on a thread for such work.
    fn reader(&mut self) -> impl Future<Output = Result<(Feed, Option<Page>), ProjectionError>> + use<> {
        let trail = self.trail.clone();
        let feed = self.feed.take();
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let storage = trail.log().storage();
                let mut feed = feed.unwrap_or_else(|| Feed::new(Arc::clone(storage), trail.projected()));
                let page = page(&trail, &mut feed, trail.size(), PAGE_BYTES, true)?;
                Ok((feed, page))
            });
            read.await.map_err(|error| ProjectionError::Reader(error.to_string()))?
        }
    }

    /// Stores a page; where the next begins.
    fn store(&self, page: Page) -> impl Future<Output = Result<u64, ProjectionError>> + use<> {
        let storage = Arc::clone(&self.storage);
        let metrics = Arc::clone(&self.metrics);
        let trail = self.trail.clone();
        async move {
            let Page { events, labels, keys, from, to } = page;
            let progress = Progress { keys, ..Progress::new(&trail.recovered().origin, from, to) };
            match storage.project(events, Some(progress)).await {
                Ok(outcomes) => count(&metrics, &labels, &outcomes),
                Err(StorageError::Unstorable(_)) => one_by_one(&*storage, &trail, &metrics, from, to).await?,
                Err(error) => return Err(error.into()),
            }
            Ok(to)
        }
    }
}

/// The next records as events; `None` when there are none. What is no event is told of once.
fn page(
    trail: &Trail,
    feed: &mut Feed,
    until: u64,
    bytes: usize,
    tell: bool,
) -> Result<Option<Page>, ProjectionError> {
    let from = feed.position();
    let read = feed.page(until, bytes)?;
    if read.next == from {
        return Ok(None);
    }
    let mut page = Page { events: Vec::new(), labels: Vec::new(), keys: Vec::new(), from, to: read.next };
    let mut opener = trail.vault().map(Vault::opener);
    for stored in &read.records {
        match record::decode(stored, opener.as_mut()) {
            Ok(event) => {
                page.labels.push((stored.index, EventLabels::of(&event)));
                page.events.push(event);
            }
            // The key may be had later.
            Err(record::RecordError::Keys(error)) => return Err(error.into()),
            Err(error) if tell => pass_over(trail, stored, &error),
            Err(_) => {}
        }
    }
    if let Some(opener) = opener {
        page.keys = opener.revisions();
        if tell {
            trail.0.figures.unreadable.add(opener.unreadable());
        }
    }
    Ok(Some(page))
}

fn pass_over(trail: &Trail, stored: &Stored, error: &record::RecordError) {
    // The log's own records are no events.
    if stored.tenant.is_empty() {
        return;
    }
    trail.0.figures.unprojectable.add(1);
    tracing::error!(category = "audit", record = stored.index, %error, "a record of the trail is not shown: it is no event of this release");
}

/// Some value of the page is at fault: each event by itself, and the one that cannot be stored is passed over.
async fn one_by_one(
    storage: &dyn Storage,
    trail: &Trail,
    metrics: &Metrics,
    from: u64,
    to: u64,
) -> Result<(), ProjectionError> {
    let log = &trail.recovered().origin;
    let mut feed = Feed::new(Arc::clone(trail.log().storage()), from);
    let mut from = from;
    let Some(page) = page(trail, &mut feed, to, usize::MAX, false)? else { return Ok(()) };
    for (event, label) in page.events.into_iter().zip(page.labels) {
        let after = label.0.saturating_add(1);
        let step = || Some(Progress { keys: page.keys.clone(), ..Progress::new(log, from, after) });
        match storage.project(vec![event], step()).await {
            Ok(outcomes) => count(metrics, &[label], &outcomes),
            Err(StorageError::Unstorable(error)) => {
                trail.0.figures.unprojectable.add(1);
                tracing::error!(
                    category = "audit",
                    record = label.0,
                    error,
                    "a record of the trail is not shown: the store cannot hold it"
                );
                storage.project(Vec::new(), step()).await?;
            }
            Err(error) => return Err(error.into()),
        }
        from = after;
    }
    if from < to {
        storage.project(Vec::new(), Some(Progress::new(log, from, to))).await?;
    }
    Ok(())
}

fn count(metrics: &Metrics, labels: &[(u64, EventLabels)], outcomes: &[Outcome]) {
    for ((record, labels), outcome) in labels.iter().zip(outcomes) {
        metrics.ingested(*labels, *outcome);
        if let Outcome::GapStored { missing } = outcome {
            tracing::error!(category = "audit", record, missing, "audit records are missing");
        }
    }
}
