//! The durable debit ceiling: for each key an arrival time that the true one does not pass, written before any grant that
//! rests on it leaves.
//!
//! One thread gathers what all others promise, writes it as one frame and waits for the disk once. Times are those of the
//! journal itself: nanoseconds that the companion has run, over all its lives, as far as a frame proves them. While no
//! companion runs, this time stands still, so a debt is never taken as older than it is. No wall clock is read.
//!
//! When the file has grown, a new one is written from what still matters, and takes its place whole. A disk that fails
//! breaks the journal: what waits is refused, and the whole is written anew before anything is granted again, because
//! after a failed sync nobody knows what is durable.

pub mod disk;
pub mod frame;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    engine::{Engine, Promises},
    key::{Key, Secret},
};
use disk::Disk;
use frame::{Contents, Identity, Record};

/// Bytes that may wait for the disk. More: [`Journal::is_behind`] says so, and questions are refused.
const BACKLOG: usize = 16 * 1024 * 1024;
/// A file is written anew when it has grown to this and to twice what it began with.
const SMALLEST: usize = 4 * 1024 * 1024;
/// Records of one frame of a new file.
const CHUNK: usize = 4096;
/// How often time is written down while anything is owed, and a broken disk is tried again.
const TICK: Duration = Duration::from_secs(1);

/// Nanoseconds of a monotonic clock, from any start.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Why nothing is granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal of the limits cannot be written: {0}")]
pub struct JournalError(pub String);

/// What was found at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the first start, or a loss; who remembers an identity knows which.
    Nothing,
    /// The state of the earlier life.
    State,
    /// A file that is no journal, or is broken.
    Corrupt,
}

#[derive(Debug, Default)]
struct Pending {
    records: Vec<u8>,
    /// The number of the frame that these will be.
    number: u64,
    latest_ceiling_ns: u64,
    ending: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    kept: u64,
    failed: u64,
    cause: String,
}

/// See the module's page.
pub struct Journal {
    pending: Mutex<Pending>,
    wake: Condvar,
    kept: AtomicU64,
    behind: AtomicBool,
    progress: watch::Sender<Progress>,
    identity: Identity,
    clock: Clock,
    /// Journal time when `clock` stood at `origin_ns`.
    base_ns: u64,
    origin_ns: u64,
}

impl Promises for Arc<Journal> {
    fn promise(&self, key: Key, ceiling_ns: u64) -> u64 {
        let mut pending = self.lock();
        frame::put(Record::Ceiling(key, ceiling_ns), &mut pending.records);
        pending.latest_ceiling_ns = pending.latest_ceiling_ns.max(ceiling_ns);
        if pending.records.len() == frame::RECORD_BYTES {
            self.wake.notify_one();
        }
        if pending.records.len() > BACKLOG {
            self.behind.store(true, Ordering::Relaxed);
        }
        pending.number
    }

    fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present, in the journal's own time.
    pub fn now_ns(&self) -> u64 {
        self.base_ns.saturating_add((self.clock)().saturating_sub(self.origin_ns))
    }

    /// Which journal it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether so much waits for the disk that nothing more should be asked.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Waits until a batch is durable.
    ///
    /// # Errors
    /// When the disk did not take it: then what rests on it must not leave.
    pub async fn wait(&self, batch: u64) -> Result<(), JournalError> {
        if batch <= self.kept.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let done = progress.wait_for(|now| now.kept >= batch || now.failed >= batch).await;
        match done {
            Ok(now) if now.kept >= batch => Ok(()),
            Ok(now) => Err(JournalError(now.cause.clone())),
            Err(_) => Err(JournalError("it has ended".to_owned())),
        }
    }
}

/// A journal, its engine, and the thread that writes.
pub struct Store {
    /// Counts.
    pub engine: Arc<Engine<Arc<Journal>>>,
    /// What was found at the start.
    pub found: Found,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Store {
    /// Reads what is there, takes it up, and begins to write. `random` is used when there is nothing.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub fn open(
        mut disk: Box<dyn Disk>,
        keys: usize,
        random: (Secret, Identity),
        clock: Clock,
    ) -> io::Result<Self> {
        let bytes = disk.read()?;
        let (found, contents) = match bytes.as_deref().map(frame::read) {
            None => (Found::Nothing, None),
            Some(None) => (Found::Corrupt, None),
            Some(contents) => (Found::State, contents),
        };
        let (secret, identity) = random;
        // A second on: a time of 0 would be no time at all.
        let contents =
            contents.unwrap_or(Contents { secret, identity, now_ns: 1_000_000_000, records: Vec::new() });
        let origin_ns = clock();
        let journal = Arc::new(Journal {
            pending: Mutex::new(Pending { number: 1, ..Pending::default() }),
            wake: Condvar::new(),
            kept: AtomicU64::new(0),
            behind: AtomicBool::new(false),
            progress: watch::Sender::new(Progress { kept: 0, failed: 0, cause: String::new() }),
            identity: contents.identity,
            clock,
            base_ns: contents.now_ns,
            origin_ns,
        });
        let engine = Arc::new(Engine::new(keys, contents.secret, Arc::clone(&journal)));
        restore(&engine, &journal, contents);
        if found == Found::Corrupt {
            engine.forget(journal.now_ns());
        }
        let mut writer = Writer {
            disk,
            journal,
            engine: Arc::downgrade(&engine),
            secret: *engine.secret(),
            size: 0,
            began: 0,
            broken: false,
            idle_at_ns: 0,
        };
        writer.rewrite()?;
        let thread = std::thread::Builder::new().name("limits-journal".to_owned());
        let writer = thread.spawn(move || writer.run())?;
        Ok(Self { engine, found, writer: Some(writer) })
    }

    /// Takes all earlier state as lost: see [`Engine::forget`]. Durable when this returns.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn forget(&self) -> Result<(), JournalError> {
        let journal = self.journal();
        let now_ns = journal.now_ns();
        self.engine.forget(now_ns);
        let batch = {
            let mut pending = journal.lock();
            frame::put(Record::Lost(now_ns), &mut pending.records);
            pending.number
        };
        journal.wake.notify_one();
        journal.wait(batch).await
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        self.engine.promises()
    }
}

impl Drop for Store {
    /// Writes what is pending, and ends the thread.
    fn drop(&mut self) {
        self.journal().lock().ending = true;
        self.journal().wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that died has nothing more to say.
            let _ = writer.join();
        }
    }
}

/// Only the highest ceiling of a key counts, whatever the order of records.
fn restore(engine: &Engine<Arc<Journal>>, journal: &Journal, contents: Contents) {
    let now_ns = contents.now_ns;
    let mut ceilings: HashMap<Key, u64> = HashMap::new();
    let mut latest = 0;
    for record in contents.records {
        match record {
            Record::Ceiling(key, ceiling_ns) if ceiling_ns > now_ns => {
                let known = ceilings.entry(key).or_default();
                *known = (*known).max(ceiling_ns);
                latest = latest.max(ceiling_ns);
            }
            Record::Ceiling(..) => {}
            Record::Lost(at_ns) => engine.forget(at_ns),
            Record::Floor(shard, floor) => {
                engine.restore_floor(usize::try_from(shard).unwrap_or(usize::MAX), floor);
                latest = latest.max(floor.floor_ns);
            }
        }
    }
    for (key, ceiling_ns) in ceilings {
        engine.restore(key, ceiling_ns, now_ns);
    }
    journal.lock().latest_ceiling_ns = latest;
}

struct Writer {
    disk: Box<dyn Disk>,
    journal: Arc<Journal>,
    engine: Weak<Engine<Arc<Journal>>>,
    secret: Secret,
    size: usize,
    /// The size of the file when it was new.
    began: usize,
    broken: bool,
    /// When time was last written down.
    idle_at_ns: u64,
}

impl Writer {
    fn run(mut self) {
        loop {
            let ending = self.pause();
            let written = match self.broken {
                true => self.rewrite(),
                false => self.flush(None),
            };
            let grown = self.size > SMALLEST.max(self.began.saturating_mul(2));
            let written = match written {
                Ok(()) if grown => self.rewrite(),
                other => other,
            };
            self.broken = written.is_err();
            if let Err(error) = written {
                self.fail(&error);
            }
            if ending {
                return;
            }
        }
    }

    /// Until there is something to write, or time to write down; whether it is the last round.
    fn pause(&self) -> bool {
        let pending = self.journal.lock();
        let idle = |pending: &mut Pending| pending.records.is_empty() && !pending.ending;
        let waited = match self.broken {
            // Not in a hurry, whatever is waiting.
            true => self.journal.wake.wait_timeout_while(pending, TICK, |pending| !pending.ending),
            false => self.journal.wake.wait_timeout_while(pending, TICK, idle),
        };
        waited.unwrap_or_else(PoisonError::into_inner).0.ending
    }

    fn take(&self) -> (Vec<u8>, u64, u64) {
        let mut pending = self.journal.lock();
        let number = pending.number;
        pending.number = number.saturating_add(1);
        self.journal.behind.store(false, Ordering::Relaxed);
        (std::mem::take(&mut pending.records), number, pending.latest_ceiling_ns)
    }

    /// Writes what is pending; a copy goes to `carry`.
    fn flush(&mut self, carry: Option<&mut Vec<u8>>) -> io::Result<()> {
        let now_ns = self.journal.now_ns();
        let (records, number, latest) = self.take();
        // Time matters only while somebody owes something.
        if records.is_empty() && latest < self.idle_at_ns {
            return Ok(());
        }
        self.idle_at_ns = now_ns;
        let frame = frame::frame(self.journal.identity, number, now_ns, &records);
        self.disk.append(&frame)?;
        self.disk.sync()?;
        self.size = self.size.saturating_add(frame.len());
        if let Some(carry) = carry {
            carry.extend_from_slice(&records);
        }
        self.keep(number);
        Ok(())
    }

    /// Writes a new file of all that still matters. What is promised meanwhile goes to the old file first, so that nobody
    /// waits for the new one.
    fn rewrite(&mut self) -> io::Result<()> {
        let Some(engine) = self.engine.upgrade() else { return Ok(()) };
        let whole = !self.broken && self.size > 0;
        self.disk.draft()?;
        let head = frame::head(&self.secret, self.journal.identity, self.journal.now_ns());
        self.disk.append_draft(&head)?;
        let (mut size, mut number, mut carry) = (head.len(), 0_u64, Vec::new());
        if let Some(lost_ns) = engine.lost_ns() {
            frame::put(Record::Lost(lost_ns), &mut carry);
        }
        for shard in 0..engine.shards() {
            for records in snapshot(&engine, shard, self.journal.now_ns()) {
                number = number.saturating_add(1);
                let frame = frame::frame(self.journal.identity, number, self.journal.now_ns(), &records);
                self.disk.append_draft(&frame)?;
                size = size.saturating_add(frame.len());
            }
            if whole {
                self.flush(Some(&mut carry))?;
            }
        }
        // A broken file takes nothing more: what was promised since the snapshot is in this last take.
        let (records, taken, _) = self.take();
        carry.extend_from_slice(&records);
        for records in carry.chunks(CHUNK * frame::RECORD_BYTES) {
            number = number.saturating_add(1);
            let frame = frame::frame(self.journal.identity, number, self.journal.now_ns(), records);
            self.disk.append_draft(&frame)?;
            size = size.saturating_add(frame.len());
        }
        // Frames that follow have higher numbers.
        let mut pending = self.journal.lock();
        pending.number = pending.number.max(number.saturating_add(1));
        drop(pending);
        self.disk.replace()?;
        (self.size, self.began) = (size, size);
        self.keep(taken);
        Ok(())
    }

    fn keep(&self, number: u64) {
        self.journal.kept.store(number, Ordering::Release);
        self.journal.progress.send_modify(|progress| progress.kept = number);
    }

    /// Tells who waits. What they asked for stays debited, and is in the file that is written next.
    fn fail(&self, error: &io::Error) {
        let failed = self.journal.lock().number;
        self.journal.progress.send_modify(|progress| {
            progress.failed = failed;
            progress.cause = error.to_string();
        });
    }
}

/// What still matters of a shard, in chunks.
fn snapshot(engine: &Engine<Arc<Journal>>, shard: usize, now_ns: u64) -> Vec<Vec<u8>> {
    let (ceilings, floors) = engine.snapshot(shard, now_ns);
    let number = u32::try_from(shard).unwrap_or(u32::MAX);
    let records: Vec<Record> = ceilings
        .into_iter()
        .map(|(key, ceiling_ns)| Record::Ceiling(key, ceiling_ns))
        .chain(floors.into_iter().map(|floor| Record::Floor(number, floor)))
        .collect();
    let write = |records: &[Record]| {
        let mut bytes = Vec::with_capacity(records.len().saturating_mul(frame::RECORD_BYTES));
        records.iter().for_each(|record| frame::put(*record, &mut bytes));
        bytes
    };
    records.chunks(CHUNK).map(write).collect()
}
