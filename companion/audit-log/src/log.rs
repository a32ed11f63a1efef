//! The log as its owner has it: open for appending.
//!
//! One thread owns the active segment. It takes all batches that wait, writes them as one group with a signed checkpoint
//! at its end, syncs once, and only then tells their senders. A batch is stored whole or not at all.
//!
//! Limits: [`Settings`]; who finds no place is told [`AppendError::Busy`] at once. A full disk is told
//! [`AppendError::Full`], to everybody in the group, and the next batch tries again.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::frame::MAX_RECORD;
use crate::merkle::Hash;
use crate::note::{Checkpoint, Signer, Verifier};
use crate::recovery;
pub use crate::recovery::{OpenError, Recovered};
use crate::storage::Storage;
use crate::writer::{self, Batch, Writer};

/// Milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a log may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A segment that has this many bytes is closed.
    pub segment_bytes: u64,
    /// So is one that was begun this long ago, in milliseconds, when something is appended: what stands in it can only be
    /// removed then.
    pub segment_ms: u64,
    /// How often a checkpoint is given out as the head, in milliseconds. What was written after the last one can be cut
    /// off unseen by who has the folder.
    pub publish_ms: u64,
    /// Batches that may wait.
    pub queue: usize,
    /// Their bytes together.
    pub queue_bytes: usize,
    /// The most bytes of one group.
    pub group_bytes: usize,
}

impl Default for Settings {
    /// Segments of 64 MiB or a day, a head every 10 seconds, 4096 waiting batches of 64 MiB, groups of 8 MiB.
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_ms: 24 * 3_600_000,
            publish_ms: 10_000,
            queue: 4096,
            queue_bytes: 64 << 20,
            group_bytes: 8 << 20,
        }
    }
}

/// A record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is, at most 255 bytes; empty for the log's own.
    pub tenant: String,
    /// When it happened, in milliseconds since the Unix epoch.
    pub time: u64,
    /// What everybody who reads the log may read.
    pub public: Vec<u8>,
    /// Ciphertext.
    pub sealed: Vec<u8>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.tenant.len() + self.public.len() + self.sealed.len() + 64
    }
}

/// Where a batch lies now, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its first record's number.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

/// Why a batch was not stored. Nothing of it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits already.
    #[error("the audit log cannot keep up")]
    Busy,
    /// The disk is full.
    #[error("the audit log's disk is full; free space on it, or shorten the retention")]
    Full,
    /// A record is too large.
    #[error("a record of the audit log has at most 1048576 bytes and a tenant's name 255")]
    TooLarge,
    /// The log is closed.
    #[error("the audit log is closed")]
    Closed,
    /// The disk failed.
    #[error("the audit log's disk failed: {0}")]
    Failed(String),
}

impl From<&io::Error> for AppendError {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// How far the log is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// How many records.
    pub size: u64,
    /// Their root.
    pub root: Hash,
    /// The first record of the segment that is being written: everything before it is closed.
    pub active: u64,
}

pub(crate) struct Progress {
    pub durable: Mutex<Durable>,
    pub moved: Condvar,
    pub waiting_bytes: AtomicUsize,
}

/// An open log.
pub struct Log {
    storage: Arc<dyn Storage>,
    verifier: Verifier,
    signer: Signer,
    settings: Settings,
    progress: Arc<Progress>,
    batches: Mutex<Option<SyncSender<Batch>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(crate) retaining: Mutex<()>,
    _lock: Box<dyn Send + Sync>,
}

impl Log {
    /// Opens the log of a folder, or begins one. What a crash left unfinished, and nobody was told of, is cut.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed then.
    pub fn open(
        storage: Arc<dyn Storage>,
        signer: Signer,
        settings: Settings,
        clock: Clock,
    ) -> Result<(Self, Recovered), OpenError> {
        let lock = storage.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Taken,
            _ => OpenError::Io(error),
        })?;
        let (state, recovered) = recovery::recover(&*storage, &signer)?;
        let verifier = signer.verifier(&recovered.origin);
        let durable =
            Durable { size: state.tree.end(), root: state.tree.root(), active: state.active_first() };
        let progress = Arc::new(Progress {
            durable: Mutex::new(durable),
            moved: Condvar::new(),
            waiting_bytes: AtomicUsize::new(0),
        });
        let (batches, queue) = sync_channel(settings.queue.max(1));
        let writer = Writer::new(
            Arc::clone(&storage),
            signer.clone(),
            verifier.clone(),
            settings,
            clock,
            Arc::clone(&progress),
            state,
        );
        let thread = std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || writer::run(writer, &queue))
            .map_err(OpenError::Io)?;
        let log = Self {
            storage,
            verifier,
            signer,
            settings,
            progress,
            batches: Mutex::new(Some(batches)),
            thread: Mutex::new(Some(thread)),
            retaining: Mutex::new(()),
            _lock: lock,
        };
        Ok((log, recovered))
    }

    /// Hands a batch to the writer; `reply` is called when it is durable, or is not going to be. Never blocks.
    pub fn append_then(
        &self,
        entries: Vec<Entry>,
        reply: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let fits = |entry: &Entry| {
            entry.public.len().saturating_add(entry.sealed.len()) <= MAX_RECORD && entry.tenant.len() <= 255
        };
        if !entries.iter().all(fits) {
            return reply(Err(AppendError::TooLarge));
        }
        let bytes = entries.iter().map(Entry::bytes).sum::<usize>();
        let waiting = self.progress.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let batch = Batch { entries, bytes, reply: Box::new(reply) };
        let refused = if waiting > 0 && waiting.saturating_add(bytes) > self.settings.queue_bytes {
            Some((batch, AppendError::Busy))
        } else {
            let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = match batches.as_ref() {
                Some(batches) => batches.try_send(batch),
                None => Err(TrySendError::Disconnected(batch)),
            };
            match sent {
                Ok(()) => None,
                Err(TrySendError::Full(batch)) => Some((batch, AppendError::Busy)),
                Err(TrySendError::Disconnected(batch)) => Some((batch, AppendError::Closed)),
            }
        };
        if let Some((batch, error)) = refused {
            self.progress.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            (batch.reply)(Err(error));
        }
    }

    /// Appends a batch and waits until it is durable.
    ///
    /// # Errors
    /// [`AppendError`]; nothing of the batch is stored then.
    pub fn append(&self, entries: Vec<Entry>) -> Result<Appended, AppendError> {
        let (reply, answer) = sync_channel(1);
        self.append_then(entries, move |result| {
            let _ = reply.send(result);
        });
        answer.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// How far the log is durable.
    #[must_use]
    pub fn durable(&self) -> Durable {
        *self.progress.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until more than `size` records are durable, at most `patience`; how far it is then.
    #[must_use]
    pub fn wait_beyond(&self, size: u64, patience: Duration) -> Durable {
        let durable = self.progress.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.progress.moved.wait_timeout_while(durable, patience, |durable| durable.size <= size);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Bytes that wait for the writer.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.progress.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Who vouches for this log; what an auditor keeps.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// What the log stands on.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// A checkpoint of everything that is durable now, as a signed note.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        let Durable { size, root, .. } = self.durable();
        let text = Checkpoint { origin: self.verifier.name().to_owned(), size, root }.text();
        self.verifier.note(&text, &self.signer.sign(&text))
    }

    /// Finishes what waits, publishes the head and ends. Later appends are told [`AppendError::Closed`].
    pub fn close(&self) {
        drop(self.batches.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A writer that panicked acknowledged nothing any more.
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}
