//! The files of a corpus, line by line.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A file.
#[derive(Debug, Clone)]
pub struct File {
    /// Its name in tables.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The longest line. Longer: told as a line that cannot be read, and so is what follows in that file.
const LINE_BYTES: usize = 64 * 1024 * 1024;

/// All `*.jsonl` and `*.jsonl.gz` of a folder, by name.
///
/// # Errors
/// When there is none, or the folder cannot be read.
pub fn of(folder: &Path) -> Result<Vec<File>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("CORPUS={}: cannot be read", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") {
            files.push(File { name, path });
        }
    }
    if files.is_empty() {
        bail!("CORPUS={}: there are no *.jsonl and no *.jsonl.gz in it", folder.display());
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The lines of a file that are not empty.
pub struct Lines {
    reader: Box<dyn BufRead>,
    number: u64,
}

impl Lines {
    /// Opens a file; one that ends in `.gz` is unpacked on the way.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = BufReader::with_capacity(64 * 1024, fs::File::open(path)?);
        let zipped = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn BufRead> = if zipped {
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Ok(Self { reader, number: 0 })
    }

    /// The number of the line that was read last, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line and its number; `None` at the end.
    ///
    /// # Errors
    /// When the file breaks off, or a line is too long.
    pub fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let mut line = Vec::new();
            let most = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX);
            if io::Read::take(&mut self.reader, most).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if line.len() >= LINE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "is longer than 64 MiB"));
            }
            self.number = self.number.saturating_add(1);
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}
