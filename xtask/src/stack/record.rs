//! What runs in a folder, written down for who comes later.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Ports;
use crate::process::Identity;

const FILE: &str = "stack.json";

/// Who runs there, on which ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// By the piece's name.
    pub pieces: BTreeMap<String, Identity>,
    /// Where they listen.
    pub ports: Ports,
}

impl Record {
    /// Reads it; `None` when there is none, or none that can be read.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// Writes it, all or nothing; removes it when nothing runs.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let said = || format!("cannot write {}", path.display());
        if self.pieces.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(said),
                _ => Ok(()),
            };
        }
        let draft = folder.join("stack.json.new");
        fs::write(&draft, serde_json::to_vec_pretty(self)?).with_context(said)?;
        fs::rename(&draft, &path).with_context(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_written_and_gone_when_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(folder.path()), None);
        let identity = Identity { pid: 7, started: 9, boot: "b".to_owned() };
        let mut record = Record {
            pieces: [("envoy".to_owned(), identity)].into(),
            ports: Ports { envoy: 1, ..Ports::default() },
        };
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).as_ref(), Some(&record));
        record.pieces.clear();
        record.write(folder.path()).unwrap();
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()), None);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Record::read(folder.path()), None);
    }
}
