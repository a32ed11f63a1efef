//! One stack per folder: whoever starts or stops things there holds its lock meanwhile.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{clock::Deadline, secrets};

/// The right to start and stop what lives in a folder, until it is dropped. The system gives it back when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

impl Claim {
    /// Takes it, and waits a little for somebody who holds it for a moment.
    ///
    /// # Errors
    /// When another process holds it; says which command and process that is.
    pub fn take(folder: &Path, command: &str, patience: Duration) -> Result<Self> {
        secrets::private_folder(folder)?;
        let path = folder.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let taken = Deadline::after(patience).poll(|| match file.try_lock() {
            Ok(()) => Some(Ok(())),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => Some(Err(error)),
        });
        match taken {
            Some(outcome) => outcome.with_context(|| format!("cannot lock {}", path.display()))?,
            None => {
                let mut holder = String::new();
                // Without its words the message is poorer, and still right.
                drop(file.read_to_string(&mut holder));
                bail!(
                    "{} is in use by {}: end that first (Ctrl-C in its terminal), or choose another folder with DATA_DIR=",
                    folder.display(),
                    if holder.trim().is_empty() { "another process" } else { holder.trim() }
                );
            }
        }
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        write!(file, "`make {command}` (pid {})", std::process::id())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Claim::take(folder.path(), "run", Duration::ZERO).unwrap();
        let error = Claim::take(folder.path(), "down", Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("`make run` (pid ") && error.contains("DATA_DIR="), "{error}");
        drop(first);
        Claim::take(folder.path(), "down", Duration::ZERO).unwrap();
    }
}
