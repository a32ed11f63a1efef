//! The log's file: when it is full it becomes `.1`, what was `.1` becomes `.2`, and the tenth before is removed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The largest file, in bytes.
const MAX_BYTES: u64 = 10 * 1000 * 1000;
/// Older files that are kept.
const BACKUPS: u32 = 10;

/// A file that is rotated. Only its user may read it.
pub struct Rotating {
    path: PathBuf,
    /// `None` after a rotation that failed half-way.
    file: Option<File>,
    size: u64,
    most: u64,
}

impl Rotating {
    /// Opens it, and makes its folder; what it holds stays.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        Self::with_size(path, MAX_BYTES)
    }

    fn with_size(path: PathBuf, most: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut rotating = Self { path, file: None, size: 0, most };
        rotating.reopen()?;
        Ok(rotating)
    }

    /// Appends a whole line: never part of one file and part of the next.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let more = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.file.is_none() {
            self.reopen()?;
        }
        if self.size > 0 && self.size.saturating_add(more) > self.most {
            self.rotate()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(line)?;
        self.size = self.size.saturating_add(more);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (1..BACKUPS).rev() {
            moved(&self.backup(number), &self.backup(number.saturating_add(1)))?;
        }
        moved(&self.path, &self.backup(1))?;
        self.reopen()
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = File::options().create(true).append(true).mode(0o600).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn backup(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Takes the place of what was there; a file that is not there is no error.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn ten_older_files_are_kept_and_lines_stay_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("companion.log");
        let mut log = Rotating::with_size(path.clone(), 100).unwrap();
        for number in 0..300 {
            log.write(format!("line {number:04}\n").as_bytes()).unwrap();
        }
        let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 11, "{names:?}");
        let mut kept = String::new();
        for number in (1..=BACKUPS).rev() {
            let text = fs::read_to_string(log.backup(number)).unwrap();
            assert_eq!(text.len(), 100);
            kept.push_str(&text);
        }
        kept.push_str(&fs::read_to_string(&path).unwrap());
        let expected: String = (190..300).map(|number| format!("line {number:04}\n")).collect();
        assert_eq!(kept, expected, "the newest, in order");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_file_holds_counts_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("companion.log");
        for _ in 0..3 {
            let mut log = Rotating::with_size(path.clone(), 100).unwrap();
            log.write(&[b'x'; 60]).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 60);
        assert!(path.with_extension("log.2").exists() && !path.with_extension("log.3").exists());
    }

    #[test]
    fn a_rotation_that_fails_is_told_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("companion.log");
        let mut log = Rotating::with_size(path.clone(), 10).unwrap();
        log.write(b"12345678").unwrap();
        // In the way: a file cannot take the place of a folder.
        fs::write(log.backup(9), "").unwrap();
        fs::create_dir(log.backup(10)).unwrap();
        assert!(log.write(b"second").is_err());
        assert!(log.write(b"second").is_err());
        fs::remove_dir(log.backup(10)).unwrap();
        log.write(b"second").unwrap();
        assert_eq!(fs::read_to_string(log.backup(1)).unwrap(), "12345678");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    }
}
