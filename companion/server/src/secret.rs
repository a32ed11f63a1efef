//! Secrets: bytes that never reach a log and are wiped when dropped.
//!
//! Secrets enter through the environment or through a file of mode 0600, never through a flag: every process
//! of the machine can read a command line. What this does not do: lock pages in memory, or hide the
//! environment from the same user.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The longest key file that is read.
const MAX_FILE_BYTES: u64 = 4096;

/// Secret bytes.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Too short to resist guessing.
    #[error("{name}: {length} bytes, must be at least {minimum}; make one with: openssl rand -hex 32")]
    Weak {
        /// The variable or file.
        name: String,
        /// How long it is.
        length: usize,
        /// How long it must be.
        minimum: usize,
    },
    /// Others may read the file.
    #[error("{}: readable by others (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read or written.
    #[error("{}: {source}; check the folder's owner and permissions, or set DATA_DIR to another", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system's random source failed: {0}")]
    Random(getrandom::Error),
}

impl Secret {
    /// Takes `text` if it is long enough.
    ///
    /// # Errors
    /// [`SecretError::Weak`] names the variable and the remedy.
    pub fn new(name: &str, text: String, minimum: usize) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(text.into_bytes());
        if bytes.len() < minimum {
            return Err(SecretError::Weak { name: name.to_owned(), length: bytes.len(), minimum });
        }
        Ok(Self(bytes))
    }

    /// The bytes themselves. Name a good reason to call this.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `offered` is this secret, in a time that tells neither content nor length.
    #[must_use]
    pub fn matches(&self, offered: &[u8]) -> bool {
        let (ours, theirs) = (Sha256::digest(self.expose()), Sha256::digest(offered));
        bool::from(ours.as_slice().ct_eq(theirs.as_slice()))
    }

    /// Reads the secret that stands in `path`.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it holds less than `minimum` bytes.
    pub fn read(path: &Path, minimum: usize) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        Self::new(&path.display().to_string(), text.trim_end().to_owned(), minimum)
    }

    /// Reads the secret in `path`, or makes one there (256 random bits in hexadecimal, mode 0600) when the
    /// file does not exist. A file of that name is whole and survives a loss of power from the moment on that it exists.
    ///
    /// # Errors
    /// As [`Secret::read`], and when the file cannot be written.
    pub fn read_or_generate(path: &Path, minimum: usize) -> Result<Self, SecretError> {
        match Self::read(path, minimum) {
            Err(SecretError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let text = Zeroizing::new(random_hex::<32>().map_err(SecretError::Random)?);
        let draft = draft(path, &random_hex::<8>().map_err(SecretError::Random)?);
        let failed = |source| SecretError::File { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        // The name decides the race between two starts: exactly one gives it to its draft, and both read what it names.
        let named = written.and_then(|()| fs::hard_link(&draft, path)).and_then(|()| sync_folder(path));
        let _ = fs::remove_file(&draft);
        match named {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Self::read(path, minimum),
        }
    }
}

/// A name beside `path` that nobody takes for it.
fn draft(path: &Path, ending: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// Makes the names in a file's folder durable: a file that was synced may have none after a loss of power.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// `N` random bytes as lower-case hexadecimal.
///
/// # Errors
/// When the system's random source fails.
pub fn random_hex<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = Zeroizing::new([0_u8; N]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(hex(bytes.as_slice()))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Replaces a file whole and durably, of mode 0600; it belongs to `owner` (user and group), if one is given.
///
/// # Errors
/// It cannot be written.
pub fn replace_file(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let fresh = draft(path, "new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(&fresh, Some(user), Some(group))?;
    }
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("SECRET_KEY", "correct horse battery staple".to_owned(), 16).unwrap();
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn a_weak_secret_is_refused_with_its_name_and_a_remedy() {
        let error = Secret::new("SECRET_KEY", "short".to_owned(), 32).unwrap_err().to_string();
        assert!(
            error.contains("SECRET_KEY: 5 bytes, must be at least 32") && error.contains("openssl rand"),
            "{error}"
        );
        assert!(!error.contains("short,"), "the secret itself must not be told");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("t", "0123456789abcdef".to_owned(), 16).unwrap();
        assert!(secret.matches(b"0123456789abcdef"));
        for wrong in [&b""[..], b"0123456789abcde", b"0123456789abcdeF", b"0123456789abcdef0"] {
            assert!(!secret.matches(wrong));
        }
    }

    #[test]
    fn a_generated_file_is_private_and_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret-key");
        let first = Secret::read_or_generate(&path, 32).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Secret::read_or_generate(&path, 32).unwrap().matches(first.expose()));
    }

    #[test]
    fn of_many_starts_at_once_all_have_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = folder.path().join(format!("key-{round}"));
            let made = std::thread::scope(|scope| {
                let starts: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| Secret::read_or_generate(&path, 32).unwrap())).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
            });
            assert!(made.iter().all(|secret| secret.matches(made[0].expose())));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 20, "no draft stays");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret-key");
        Secret::read_or_generate(&path, 32).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Secret::read(&path, 32), Err(SecretError::Exposed { mode: 0o644, .. })));
    }
}
