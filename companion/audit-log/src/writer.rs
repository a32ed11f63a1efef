//! The thread that writes: batches in, groups out.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};

use crate::frame::{self, Body, FRAME_HEAD, Header, Record, Signed};
use crate::log::{AppendError, Appended, Clock, Durable, Entry, Progress, Settings};
use crate::merkle::{Hash, Range};
use crate::note::{Checkpoint, Signer, Verifier};
use crate::recovery::{Active, HEAD, State};
use crate::segment::{Contents, Place};
use crate::storage::{self, Storage};

/// Told when the batch is durable, or is not going to be.
pub(crate) type Reply = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// What one sender wants stored together.
pub(crate) struct Batch {
    pub entries: Vec<Entry>,
    pub bytes: usize,
    pub reply: Reply,
}

pub(crate) struct Writer {
    storage: Arc<dyn Storage>,
    signer: Signer,
    verifier: Verifier,
    settings: Settings,
    clock: Clock,
    progress: Arc<Progress>,
    state: State,
    /// The active segment may hold bytes behind its durable length.
    dirty: bool,
    /// A sync failed: what the file holds is in doubt, and nothing more is written to it.
    doubtful: bool,
    /// When the head was published.
    published: Option<u64>,
    published_size: Option<u64>,
}

/// A group, encoded.
struct Group {
    bytes: Vec<u8>,
    tree: Range,
    /// Leaves and what the footer wants to know of them.
    added: Vec<(usize, usize, usize, Hash)>,
    signed: Signed,
}

/// Serves until every sender is gone.
pub(crate) fn run(mut writer: Writer, batches: &Receiver<Batch>) {
    while let Ok(first) = batches.recv() {
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while bytes < writer.settings.group_bytes
            && let Ok(batch) = batches.try_recv()
        {
            bytes += batch.bytes;
            group.push(batch);
        }
        writer.serve(group, bytes);
    }
    // The head of a log that was closed covers all of it.
    writer.publish_rest();
}

impl Writer {
    pub fn new(
        storage: Arc<dyn Storage>,
        signer: Signer,
        verifier: Verifier,
        settings: Settings,
        clock: Clock,
        progress: Arc<Progress>,
        state: State,
    ) -> Self {
        Self {
            storage,
            signer,
            verifier,
            settings,
            clock,
            progress,
            state,
            dirty: false,
            doubtful: false,
            published: None,
            published_size: None,
        }
    }

    fn serve(&mut self, group: Vec<Batch>, bytes: usize) {
        let before = self.state.tree.end();
        let stored = self.commit(&group);
        self.progress.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        match stored {
            Ok(()) => {
                let durable = Durable {
                    size: self.state.tree.end(),
                    root: self.state.tree.root(),
                    active: self.state.active_first(),
                };
                *self.progress.durable.lock().unwrap_or_else(PoisonError::into_inner) = durable;
                self.progress.moved.notify_all();
                let mut first = before;
                for batch in group {
                    let count = batch.entries.len() as u64;
                    (batch.reply)(Ok(Appended { first, count }));
                    first += count;
                }
                self.publish();
            }
            Err(error) => {
                let error = AppendError::from(&error);
                for batch in group {
                    (batch.reply)(Err(error.clone()));
                }
            }
        }
    }

    /// Makes a group durable. On an error nothing of it counts, and the next attempt begins where this one did.
    fn commit(&mut self, group: &[Batch]) -> io::Result<()> {
        let now = (self.clock)();
        self.clean()?;
        let Settings { segment_bytes, segment_ms, .. } = self.settings;
        let is_done = |active: &Active| {
            active.length >= segment_bytes || now.saturating_sub(active.begun) >= segment_ms
        };
        if self.state.active.as_ref().is_some_and(is_done) {
            self.close_segment()?;
        }
        let due = self.published.is_none_or(|last| now.saturating_sub(last) >= self.settings.publish_ms);
        let group_of = self.encode(group, now, due);
        if self.state.active.is_none() {
            return self.begin_segment(group, group_of, now);
        }
        let Some(active) = &mut self.state.active else { return Ok(()) };
        self.dirty = true;
        active.file.write_at(&group_of.bytes, active.length)?;
        if let Err(error) = active.file.sync() {
            self.doubtful = true;
            return Err(error);
        }
        self.dirty = false;
        active.length += group_of.bytes.len() as u64;
        take(&mut active.contents, group, &group_of);
        self.state.tree = group_of.tree;
        self.note_published(&group_of.signed);
        Ok(())
    }

    /// A new file begins with its header and the first group, so that a segment without a group is a torn one.
    fn begin_segment(&mut self, group: &[Batch], group_of: Group, now: u64) -> io::Result<()> {
        let first = self.state.tree.end();
        let place = Place { first, gone: false };
        let header = Header { log: self.state.log, time: now, before: self.state.tree.clone() };
        let mut bytes = header.encode();
        bytes.extend_from_slice(&group_of.bytes);
        match self.storage.remove(&place.name()) {
            // What an earlier attempt left.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.storage.create(&place.name())?;
        let written =
            file.write_at(&bytes, 0).and_then(|()| file.sync()).and_then(|()| self.storage.sync_names());
        if let Err(error) = written {
            // A file that stays is removed by the next attempt, or by recovery.
            let _ = self.storage.remove(&place.name());
            return Err(error);
        }
        let mut contents = Contents::starting_at(first);
        take(&mut contents, group, &group_of);
        self.state.tree = group_of.tree;
        self.state.active = Some(Active { place, file, begun: now, length: bytes.len() as u64, contents });
        self.note_published(&group_of.signed);
        Ok(())
    }

    /// Cuts what a failed attempt left behind the durable length. A file whose sync failed is given up: the system may
    /// have thrown away what it could not write, and a later success would not tell.
    fn clean(&mut self) -> io::Result<()> {
        let Some(active) = &self.state.active else { return Ok(()) };
        if self.dirty {
            active.file.truncate(active.length)?;
            active.file.sync()?;
            self.dirty = false;
        }
        if self.doubtful {
            self.state.active = None;
            self.doubtful = false;
        }
        Ok(())
    }

    fn close_segment(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.state.active else { return Ok(()) };
        let mut bytes = Vec::new();
        Body::Footer(active.contents.footer()).encode(&mut bytes);
        let trailer = frame::trailer(bytes.len());
        bytes.extend_from_slice(&trailer);
        self.dirty = true;
        active.file.write_at(&bytes, active.length)?;
        if let Err(error) = active.file.sync() {
            self.doubtful = true;
            return Err(error);
        }
        self.dirty = false;
        self.state.active = None;
        Ok(())
    }

    fn encode(&self, group: &[Batch], now: u64, published: bool) -> Group {
        let mut bytes = Vec::with_capacity(group.iter().map(|batch| batch.bytes).sum::<usize>() + 512);
        let mut tree = self.state.tree.clone();
        let mut added = Vec::with_capacity(group.iter().map(|batch| batch.entries.len()).sum());
        for (number, batch) in group.iter().enumerate() {
            for (place, entry) in batch.entries.iter().enumerate() {
                let record = Record {
                    index: tree.end(),
                    time: entry.time,
                    tenant: &entry.tenant,
                    public: &entry.public,
                    sealed: &entry.sealed,
                };
                let body = Body::Record(record).encode(&mut bytes);
                let raw = bytes.get(body).unwrap_or_default();
                let leaf = Hash::leaf(raw);
                added.push((number, place, raw.len() + FRAME_HEAD, leaf));
                tree.push(leaf);
            }
        }
        let checkpoint =
            Checkpoint { origin: self.verifier.name().to_owned(), size: tree.end(), root: tree.root() };
        let signed = Signed {
            published,
            from: self.state.tree.end(),
            size: checkpoint.size,
            time: now,
            root: checkpoint.root,
            signature: self.signer.sign(&checkpoint.text()),
        };
        Body::Checkpoint(signed.clone()).encode(&mut bytes);
        Group { bytes, tree, added, signed }
    }

    fn note_published(&mut self, signed: &Signed) {
        if signed.published {
            self.published = Some(signed.time);
            self.published_size = Some(signed.size);
        }
    }

    /// Gives the published checkpoint out. A head that could not be written is tried again with the next group.
    fn publish(&mut self) {
        if self.published_size != Some(self.state.tree.end()) {
            return;
        }
        if self.write_head().is_err() {
            self.published = None;
        }
    }

    fn write_head(&self) -> io::Result<()> {
        let (size, root) = (self.state.tree.end(), self.state.tree.root());
        let text = Checkpoint { origin: self.verifier.name().to_owned(), size, root }.text();
        let note = self.verifier.note(&text, &self.signer.sign(&text));
        storage::replace(&*self.storage, HEAD, note.as_bytes())
    }

    /// At the end: an empty group carries the checkpoint, so that its border is kept when the segment goes.
    fn publish_rest(&mut self) {
        if self.state.active.is_some() && self.published_size != Some(self.state.tree.end()) {
            self.published = None;
            // Best effort: everything that was acknowledged is durable already.
            if self.commit(&[]).is_ok() {
                self.publish();
            }
        }
    }
}

fn take(contents: &mut Contents, group: &[Batch], encoded: &Group) {
    for (batch, place, bytes, leaf) in &encoded.added {
        if let Some(entry) = group.get(*batch).and_then(|batch| batch.entries.get(*place)) {
            contents.add(&entry.tenant, entry.time, *bytes, *leaf);
        }
    }
}
