//! The folder of PgBouncer: files of mode 0600, replaced whole, that belong to whom PgBouncer runs as.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use portcullis_database::bouncer::config::{Files, INI, RULES, USERS};

use crate::secret::{Secret, replace_file};

/// The file of the console's password.
const PASSWORD: &str = "admin-password";
/// Its least bytes.
const PASSWORD_BYTES: usize = 32;

/// The folder, and whose it is.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// Whom PgBouncer must run as, when this process is root: the folder's owner and group.
    pub owner: Option<(u32, u32)>,
}

impl Folder {
    /// Makes the folder if there is none.
    ///
    /// # Errors
    /// In words, with the remedy.
    pub fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| {
            format!(
                "PGBOUNCER_FOLDER: {}: {error}; set it to a folder that this user may write",
                path.display()
            )
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let metadata = fs::metadata(&path).map_err(failed)?;
        let plain =
            path.to_str().is_some_and(|text| !text.chars().any(|char| char.is_control() || char == '\''));
        // A socket's address has no room for more.
        if !plain || path.as_os_str().len() > 80 {
            return Err(format!(
                "PGBOUNCER_FOLDER: {}: at most 80 bytes without quotes and control characters",
                path.display()
            ));
        }
        let owner = match (rustix::process::geteuid().is_root(), metadata.uid()) {
            (false, _) => None,
            (true, 0) => {
                return Err(format!(
                    "PGBOUNCER_FOLDER: {0}: belongs to root, and PgBouncer refuses to run as root; run: chown USER {0}, or run \
                     portcullis as another user",
                    path.display()
                ));
            }
            (true, user) => Some((user, metadata.gid())),
        };
        Ok(Self { path, owner })
    }

    /// The console's password; made once.
    ///
    /// # Errors
    /// In words.
    pub fn password(&self) -> Result<String, String> {
        let path = self.path.join(PASSWORD);
        let secret = Secret::read_or_generate(&path, PASSWORD_BYTES).map_err(|error| error.to_string())?;
        String::from_utf8(secret.expose().to_vec()).map_err(|_| format!("{}: is no text", path.display()))
    }

    /// Replaces the files. Users and rules first: a database that nobody may enter is better than one that all may.
    ///
    /// # Errors
    /// In words.
    pub fn write(&self, files: &Files) -> Result<(), String> {
        for (name, text) in [(USERS, &files.users), (RULES, &files.rules), (INI, &files.ini)] {
            replace_file(&self.path.join(name), text.as_bytes(), self.owner)
                .map_err(|error| format!("{}: {error}; is the disk full?", self.path.join(name).display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn files_are_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgbouncer");
        fs::create_dir(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(Folder::open(&path).unwrap_err().contains("chown"));
            chown(&path, Some(65534), Some(65534)).unwrap();
        }
        let opened = Folder::open(&path).unwrap();
        for turn in ["one", "two"] {
            let files = Files { ini: turn.to_owned(), users: turn.to_owned(), rules: turn.to_owned() };
            opened.write(&files).unwrap();
            for name in [INI, USERS, RULES] {
                let file = path.join(name);
                assert_eq!(fs::read_to_string(&file).unwrap(), turn);
                let metadata = fs::metadata(&file).unwrap();
                assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
                assert_eq!(metadata.uid(), fs::metadata(&path).unwrap().uid());
            }
        }
        assert_eq!(opened.password().unwrap(), opened.password().unwrap());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 4, "nothing is left over");
    }
}
