//! Where the journal's bytes lie: the one file in use, and a draft that takes its place whole.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A place for a journal. What was appended is safe only after `sync`.
pub trait Disk: Send {
    /// The file in use, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>>;
    /// Appends to the file in use.
    ///
    /// # Errors
    /// When it cannot be written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes durable what was appended.
    ///
    /// # Errors
    /// Then it is not known what is durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Begins an empty draft.
    ///
    /// # Errors
    /// When it cannot be made.
    fn draft(&mut self) -> io::Result<()>;
    /// Appends to the draft.
    ///
    /// # Errors
    /// When it cannot be written.
    fn append_draft(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the draft durable, and then the file in use.
    ///
    /// # Errors
    /// Then the earlier file is in use.
    fn replace(&mut self) -> io::Result<()>;
}

/// A folder of a file system, for one process at a time.
#[derive(Debug)]
pub struct Folder {
    folder: PathBuf,
    file: Option<File>,
    draft: Option<File>,
    /// Locked for as long as this lives.
    _lock: File,
}

/// The file in use.
const FILE: &str = "limits.journal";
const DRAFT: &str = "limits.journal.new";
const LOCK: &str = "limits.lock";

impl Folder {
    /// Takes the folder, which must exist.
    ///
    /// # Errors
    /// When it cannot be used, or another process has it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(folder.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another companion uses this folder")
            }
        })?;
        Ok(Self { folder: folder.to_owned(), file: None, draft: None, _lock: lock })
    }
}

fn missing() -> io::Error {
    io::Error::other("no file is open")
}

impl Disk for Folder {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.folder.join(FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.as_mut().ok_or_else(missing)?.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.as_ref().ok_or_else(missing)?.sync_data()
    }

    fn draft(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        self.draft = Some(options.open(self.folder.join(DRAFT))?);
        Ok(())
    }

    fn append_draft(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.draft.as_mut().ok_or_else(missing)?.write_all(bytes)
    }

    fn replace(&mut self) -> io::Result<()> {
        let draft = self.draft.take().ok_or_else(missing)?;
        draft.sync_all()?;
        fs::rename(self.folder.join(DRAFT), self.folder.join(FILE))?;
        File::open(&self.folder)?.sync_all()?;
        self.file = Some(draft);
        Ok(())
    }
}
