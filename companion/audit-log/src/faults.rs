//! A folder in memory that fails as disks do: for the tests of whatever keeps its promises on a [`Storage`].
//!
//! What was written is visible at once and durable only after [`File::sync`]; names only after
//! [`Storage::sync_names`]. [`Faulty::crash`] is a loss of power: each sector (512 bytes) that was not synced is lost, or,
//! when writes may tear, kept or lost as chance decides. A capacity makes writes stop half-way; syncs fail on demand.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{File, Storage};

const SECTOR: usize = 512;

/// The folder. Clones are the same folder.
#[derive(Clone, Default)]
pub struct Faulty {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What a reader sees.
    names: BTreeMap<String, usize>,
    /// What a crash leaves.
    durable_names: BTreeMap<String, usize>,
    files: Vec<Contents>,
    /// Counts up at each crash: handles from before are dead.
    life: u64,
    capacity: Option<usize>,
    failing_syncs: u32,
    syncs: u64,
    locked: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

struct Handle {
    state: Arc<Mutex<State>>,
    file: usize,
    life: u64,
}

struct Lock(Arc<AtomicBool>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Faulty {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails. `keep` decides, for each sector that was not synced, whether it had reached the disk;
    /// `|| false` discards every one. Open handles are dead afterwards.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.state();
        state.life += 1;
        state.locked = Arc::default();
        let durable = state.durable_names.clone();
        // A name that was not synced may be there all the same.
        let mut names = durable.clone();
        for (name, file) in state.names.clone() {
            if !durable.contains_key(&name) && keep() {
                names.insert(name, file);
            }
        }
        for contents in &mut state.files {
            let mut left = contents.durable.clone();
            let reached = contents.bytes.len().max(left.len());
            for start in (0..reached).step_by(SECTOR) {
                let end = (start + SECTOR).min(contents.bytes.len());
                let Some(new) = contents.bytes.get(start..end) else { continue };
                if contents.durable.get(start..end) == Some(new) || !keep() {
                    continue;
                }
                if left.len() < end {
                    left.resize(end, 0);
                }
                if let Some(place) = left.get_mut(start..end) {
                    place.copy_from_slice(new);
                }
            }
            contents.bytes.clone_from(&left);
            contents.durable = left;
        }
        state.names.clone_from(&names);
        state.durable_names = names;
    }

    /// All files together may hold this many bytes; `None`: any number.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    /// How many bytes all files hold.
    #[must_use]
    pub fn used(&self) -> usize {
        self.state().used()
    }

    /// The next `count` syncs fail, and leave what was written in doubt.
    pub fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    /// How many syncs of files succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// What a file holds.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.names.get(name)?;
        state.files.get(*file).map(|contents| contents.bytes.clone())
    }

    /// Changes a file behind everybody's back, durably.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Some(file) = state.names.get(name).copied() else { return };
        if let Some(contents) = state.files.get_mut(file) {
            change(&mut contents.bytes);
            contents.durable.clone_from(&contents.bytes);
        }
    }

    /// An independent copy.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copy = State {
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            files: state.files.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }
}

impl State {
    fn used(&self) -> usize {
        self.names.values().filter_map(|file| self.files.get(*file)).map(|file| file.bytes.len()).sum()
    }

    fn handle(&self, state: &Arc<Mutex<State>>, file: usize) -> Box<dyn File> {
        Box::new(Handle { state: Arc::clone(state), file, life: self.life })
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for Faulty {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(name.to_owned(), file);
        Ok(state.handle(&self.state, file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let state = self.state();
        let file = *state.names.get(name).ok_or_else(missing)?;
        Ok(state.handle(&self.state, file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().names.remove(name).map(|_| ()).ok_or_else(missing)
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let locked = Arc::clone(&self.state().locked);
        if locked.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(locked)))
    }
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&mut State, usize) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.life != self.life {
            return Err(io::Error::other("the power failed"));
        }
        act(&mut state, self.file)
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, file| {
            let contents = state.files.get(file).ok_or_else(missing)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.bytes.len());
            let rest = contents.bytes.get(start..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state, file| {
            let (used, capacity) = (state.used(), state.capacity);
            let contents = state.files.get_mut(file).ok_or_else(missing)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let growth = (start + bytes.len()).saturating_sub(contents.bytes.len());
            let room = capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
            let written = bytes.len().saturating_sub(growth.saturating_sub(room));
            let end = start + written;
            if contents.bytes.len() < end {
                contents.bytes.resize(end, 0);
            }
            if let (Some(to), Some(from)) = (contents.bytes.get_mut(start..end), bytes.get(..written)) {
                to.copy_from_slice(from);
            }
            if written < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|state, file| Ok(state.files.get(file).ok_or_else(missing)?.bytes.len() as u64))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|state, file| {
            let contents = state.files.get_mut(file).ok_or_else(missing)?;
            contents.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, file| {
            if state.failing_syncs > 0 {
                state.failing_syncs -= 1;
                return Err(io::Error::other("the disk failed"));
            }
            state.syncs += 1;
            let contents = state.files.get_mut(file).ok_or_else(missing)?;
            contents.durable.clone_from(&contents.bytes);
            Ok(())
        })
    }
}
