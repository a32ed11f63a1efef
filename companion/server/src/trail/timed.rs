//! A folder that measures how long its disk takes to make bytes durable: what an acknowledgement mostly waits for.

use std::io;
use std::sync::Arc;

use portcullis_audit_log::storage::{File, Storage as Folder};

use crate::clock::monotonic;
use crate::metrics::Histogram;

/// A folder, and where the time of each sync of a file is counted.
pub struct Timed {
    folder: Arc<dyn Folder>,
    syncs: Arc<Histogram>,
}

impl Timed {
    /// Counts `folder`'s syncs, also those that fail, in `syncs`.
    #[must_use]
    pub fn new(folder: Arc<dyn Folder>, syncs: Arc<Histogram>) -> Self {
        Self { folder, syncs }
    }

    fn timed(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(TimedFile { file, syncs: Arc::clone(&self.syncs) })
    }
}

impl Folder for Timed {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.folder.create(name).map(|file| self.timed(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.folder.open(name).map(|file| self.timed(file))
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.folder.read(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.folder.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.folder.sync_names()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.folder.lock()
    }
}

struct TimedFile {
    file: Box<dyn File>,
    syncs: Arc<Histogram>,
}

impl File for TimedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        let started = monotonic();
        let synced = self.file.sync();
        self.syncs.observe(started.elapsed());
        synced
    }
}
