//! The audit trail: where every event goes first, and what the tables of events are made of.
//!
//! [`Trail::append`] returns when its events are durable in the append-only log of `DATA_DIR/audit`
//! (`portcullis_audit_log`): many waiting batches share one sync. The tables are a projection: [`projector`] reads the log
//! and fills them, remembers how far it has come in the transaction that stores what it read, and goes on from there after
//! a crash. A store that is away or full stops the projection and loses nothing.
//!
//! Against: a crash between an acknowledgement and the store; a row that was changed or removed behind our back
//! (`portcullis audit verify`, `rebuild`). Not against: whoever holds the signing key; see `portcullis_audit_log`. A trail
//! that is full, by its disk or by AUDIT_MAX_BYTES, refuses ([`TrailError::Full`]) and drops nothing: modules keep their
//! records within their bound and report what they had to let go.
//!
//! Limits: 64 MiB of events that wait for the disk; beyond them [`TrailError::Busy`].

pub mod figures;
pub mod projector;
pub mod recent;
pub mod record;
pub mod redact;
pub mod retention;
pub mod seal;
mod timed;

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_audit_log::log::{self, AppendError, Entry, Log, OpenError, Recovered};
use portcullis_audit_log::note::Signer;
use portcullis_audit_log::retention::Retention;
use portcullis_audit_log::storage::{Disk, Storage as Folder};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, monotonic};
use crate::event::{Event, RecordKey};
use crate::keys::Keys;
use crate::tenant::TenantId;
pub use figures::Figures;
use recent::Recent;
use record::{Encoded, RecordError};
use redact::Redactor;
use seal::{Seals, Vault};
use timed::Timed;

/// How often the head is given out, at most, in milliseconds.
const PUBLISH_MS: u64 = 5_000;
/// An answer of the API waits for the projection of what was acknowledged before the question, unless it is further behind.
const NEAR_RECORDS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(1);
/// What a record takes beside its parts: head, kind, number, time and lengths.
const FRAME_BYTES: usize = 34;

/// Where the trail lies and what it may become.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder.
    pub folder: PathBuf,
    /// Signs its checkpoints.
    pub signer: Signer,
    /// What is taken out of events before they are written; `None` when nothing is appended.
    pub redactor: Option<Arc<Redactor>>,
    /// What of it goes.
    pub retention: Retention,
    /// It takes no more events when its files have this many bytes.
    pub max_bytes: u64,
}

/// Why the trail is not opened.
#[derive(Debug, thiserror::Error)]
pub enum TrailOpenError {
    /// The folder cannot be made.
    #[error("{}: {source}; set DATA_DIR to a folder that this user may write", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be gone on with.
    #[error("{}: {source}", folder.display())]
    Log {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: OpenError,
    },
}

/// Why events were not taken. Nothing of them is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailError {
    /// Too much waits for the disk.
    #[error("the audit trail cannot keep up with its disk")]
    Busy,
    /// No room.
    #[error(
        "the audit trail is full; free space on its disk, raise AUDIT_MAX_BYTES, or shorten AUDIT_RETENTION"
    )]
    Full,
    /// It is shutting down.
    #[error("the audit trail is closed")]
    Closed,
    /// The tenants' keys are not to be had.
    #[error(
        "the audit trail takes no events without the tenants' keys ({0}); it takes them again when the store answers"
    )]
    Keys(String),
    /// The disk failed, or a record cannot be written.
    #[error("the audit trail failed: {0}")]
    Failed(String),
}

impl From<AppendError> for TrailError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy => Self::Busy,
            AppendError::Full => Self::Full,
            AppendError::Closed => Self::Closed,
            AppendError::TooLarge | AppendError::Failed(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<RecordError> for TrailError {
    fn from(error: RecordError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// The number of the first record that is new; `None` when none is.
    pub first: Option<u64>,
    /// Events that are new.
    pub stored: u64,
    /// Events that came a short while ago already.
    pub duplicates: u64,
}

struct Shared {
    log: Arc<Log>,
    recovered: Recovered,
    retention: Retention,
    vault: Option<Vault>,
    redactor: Option<Arc<Redactor>>,
    max_bytes: u64,
    /// Of all files, about; set right by [`Trail::measure`].
    bytes: AtomicU64,
    recent: Mutex<Recent>,
    durable: watch::Sender<u64>,
    projected: watch::Sender<u64>,
    stalled: AtomicBool,
    /// The last batch was refused for want of room, or by the disk.
    failing: AtomicBool,
    figures: Figures,
}

/// The trail, open for appending; cheap to clone.
#[derive(Clone)]
pub struct Trail(Arc<Shared>);

impl Trail {
    /// Opens the trail of a folder, or begins one. With `keys` what it is told of people is sealed.
    ///
    /// # Errors
    /// [`TrailOpenError`], with the remedy.
    pub fn open(settings: &Settings, keys: Option<Keys>, clock: Clock) -> Result<Self, TrailOpenError> {
        let folder = &settings.folder;
        let disk = Disk::new(folder.clone())
            .map_err(|source| TrailOpenError::Folder { folder: folder.clone(), source })?;
        Self::over(disk, settings, keys, clock)
            .map_err(|source| TrailOpenError::Log { folder: folder.clone(), source })
    }

    /// The same over any storage.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn over(
        storage: Arc<dyn Folder>,
        settings: &Settings,
        keys: Option<Keys>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let millis: log::Clock =
            Arc::new(move || u64::try_from(clock.now().as_millisecond()).unwrap_or_default());
        let figures = Figures::default();
        let storage = Arc::new(Timed::new(storage, Arc::clone(&figures.sync_latency)));
        let shape = log::Settings { publish_ms: PUBLISH_MS, ..log::Settings::default() };
        let (log, recovered) = Log::open(storage, settings.signer.clone(), shape, millis)?;
        let bytes = bytes_of(&**log.storage())?;
        Ok(Self(Arc::new(Shared {
            durable: watch::Sender::new(recovered.size),
            projected: watch::Sender::new(0),
            log: Arc::new(log),
            recovered,
            retention: settings.retention.clone(),
            vault: keys.map(Vault::new),
            redactor: settings.redactor.clone(),
            max_bytes: settings.max_bytes,
            bytes: AtomicU64::new(bytes),
            recent: Mutex::default(),
            stalled: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            figures,
        })))
    }

    /// Appends events; returns when all of them are durable. Whoever gives up waiting takes nothing back.
    ///
    /// # Errors
    /// [`TrailError`]; nothing of them is stored then, and they may come again.
    pub async fn append(&self, events: Vec<Event>) -> Result<Appended, TrailError> {
        let started = monotonic();
        let appended = self.append_new(events).await;
        let (shared, figures) = (&self.0, &self.0.figures);
        match &appended {
            Ok(appended) => {
                figures.append_latency.observe(started.elapsed());
                if appended.stored > 0 {
                    shared.failing.store(false, Ordering::Relaxed);
                }
            }
            Err(TrailError::Busy) => figures.refused_busy.add(1),
            Err(error) => {
                let counter = match error {
                    TrailError::Full => &figures.refused_full,
                    TrailError::Keys(_) => &figures.refused_keys,
                    _ => &figures.refused_failed,
                };
                counter.add(1);
                if !shared.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(category = "audit", %error, "the audit trail takes no events");
                }
            }
        }
        appended
    }

    async fn append_new(&self, events: Vec<Event>) -> Result<Appended, TrailError> {
        let shared = &self.0;
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let new = self.new_of(events);
        let stored = u64::try_from(new.len()).unwrap_or(u64::MAX);
        let duplicates = count.saturating_sub(stored);
        if new.is_empty() {
            return Ok(Appended { first: None, stored, duplicates });
        }
        let keys: Vec<RecordKey> = new.iter().map(|event| event.key).collect();
        let seals = match &shared.vault {
            Some(vault) => {
                let tenants: HashSet<&TenantId> = new.iter().map(|event| &event.tenant).collect();
                let seals = vault.seals(tenants.into_iter().cloned().collect()).await;
                Some(seals.map_err(|error| TrailError::Keys(error.to_string()))?)
            }
            None => None,
        };
        let entries = self.entries(new, seals.as_ref())?;
        let bytes = entries.iter().map(entry_bytes).sum::<u64>();
        if shared.bytes.load(Ordering::Relaxed).saturating_add(bytes) > shared.max_bytes {
            return Err(TrailError::Full);
        }
        let (reply, answer) = oneshot::channel();
        let owner = self.clone();
        // What is durable is taken note of even when nobody waits for the answer any more.
        shared.log.append_then(entries, move |result| {
            if let Ok(appended) = &result {
                owner.note(&keys, bytes, appended.first.saturating_add(appended.count));
            }
            let _ = reply.send(result);
        });
        let appended = answer.await.map_err(|_| TrailError::Closed)??;
        Ok(Appended { first: Some(appended.first), stored, duplicates })
    }

    /// Those events that did not just come.
    fn new_of(&self, events: Vec<Event>) -> Vec<Event> {
        let recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = HashSet::with_capacity(events.len());
        events.into_iter().filter(|event| !recent.holds(&event.key) && seen.insert(event.key)).collect()
    }

    /// Their records, redacted and sealed.
    fn entries(&self, events: Vec<Event>, seals: Option<&Seals>) -> Result<Vec<Entry>, TrailError> {
        let shared = &self.0;
        let mut entries = Vec::with_capacity(events.len());
        for mut event in events {
            if let Some(redactor) = &shared.redactor {
                redactor.apply(&mut event);
            }
            let Encoded { entry, unkept } = record::encode(event, seals)?;
            shared.figures.unkept.add(u64::from(unkept));
            entries.push(entry);
        }
        Ok(entries)
    }

    fn note(&self, keys: &[RecordKey], bytes: u64, size: u64) {
        let shared = &self.0;
        shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut recent = shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().for_each(|key| recent.add(key));
        drop(recent);
        shared.durable.send_if_modified(|durable| {
            let more = size > *durable;
            *durable = size.max(*durable);
            more
        });
    }

    /// Waits until what is durable now can be read from the tables; not when the projection is far behind or stands still.
    pub async fn caught_up(&self) {
        let wanted = self.size();
        let mut projected = self.0.projected.subscribe();
        let behind = wanted.saturating_sub(*projected.borrow());
        if behind == 0 || behind > NEAR_RECORDS || self.is_stalled() {
            return;
        }
        // In vain is no error: the answer is then as of a moment ago.
        let _ = tokio::time::timeout(PATIENCE, projected.wait_for(|projected| *projected >= wanted)).await;
    }

    /// How many records are durable.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.log.durable().size
    }

    /// How many of them the tables show.
    #[must_use]
    pub fn projected(&self) -> u64 {
        *self.0.projected.borrow()
    }

    /// Tells how many records are durable, whenever there are more: for those who follow.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.0.durable.subscribe()
    }

    /// Whether the projection waits for the store.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.0.stalled.load(Ordering::Relaxed)
    }

    /// Whether the last batch was taken, or none has come.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        !self.0.failing.load(Ordering::Relaxed)
    }

    /// Its name, and how its opening went.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.0.recovered
    }

    /// The log itself: for reading, proofs and retention.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.0.log
    }

    /// Who seals and opens.
    #[must_use]
    pub fn vault(&self) -> Option<&Vault> {
        self.0.vault.as_ref()
    }

    /// For how long its records are kept.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.0.retention
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// The size of its files, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Looks at the files again; reads the folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn measure(&self) -> io::Result<()> {
        self.0.bytes.store(bytes_of(&**self.0.log.storage())?, Ordering::Relaxed);
        Ok(())
    }

    /// Finishes what waits, publishes the head and ends; later events are told [`TrailError::Closed`].
    pub async fn close(&self) {
        let log = Arc::clone(&self.0.log);
        // A writer that panicked acknowledged nothing any more.
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    let bytes = entry.tenant.len() + entry.public.len() + entry.sealed.len() + FRAME_BYTES;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn bytes_of(storage: &dyn Folder) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for name in storage.list()? {
        match storage.read(&name).and_then(|file| file.length()) {
            Ok(length) => bytes = bytes.saturating_add(length),
            // It went in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
