//! Secrets of a development run: made once, kept in files that only their owner may read.
//!
//! They protect a demonstration on a developer's machine from its other users. A deployment brings its own.

use std::{
    fmt, fs,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail};

/// A secret text. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// 32 random bytes as 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut bytes = [0_u8; 32];
        fs::File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut bytes))
            .context("cannot read /dev/urandom")?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What companion and module need to trust each other, and themselves.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Signs the companion's tokens.
    pub secret_key: Secret,
    /// What the module shows at the companion's ingest listener.
    pub ingest_token: Secret,
    /// Signs the module's tokens against forged requests.
    pub csrf_key: Secret,
}

impl Secrets {
    /// Reads them from a folder, and makes what is missing.
    ///
    /// # Errors
    /// When a file cannot be read or written, or can be read by others.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        Ok(Self {
            secret_key: read_or_make(&folder.join("secret-key"))?,
            ingest_token: read_or_make(&folder.join("ingest-token"))?,
            csrf_key: read_or_make(&folder.join("csrf-key"))?,
        })
    }
}

/// Makes a folder that only its owner may enter, with what is missing above it.
///
/// # Errors
/// When it cannot be made.
pub fn private_folder(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

fn read_or_make(file: &Path) -> Result<Secret> {
    let named = || format!("the secret in {}", file.display());
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    match made {
        Ok(mut handle) => {
            let secret = Secret::random()?;
            writeln!(handle, "{}", secret.reveal()).with_context(named)?;
            Ok(secret)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mode = fs::metadata(file).with_context(named)?.permissions().mode();
            if mode & 0o077 != 0 {
                bail!(
                    "{} can be read by others: run `chmod 600` on it, or delete it to get a new one",
                    file.display()
                );
            }
            let text = fs::read_to_string(file).with_context(named)?;
            let text = text.trim();
            if text.len() < 32 {
                bail!("{} holds less than 32 characters: delete it to get a new one", file.display());
            }
            Ok(Secret(text.to_owned()))
        }
        Err(error) => Err(error).with_context(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Secrets::in_folder(folder.path()).unwrap();
        let second = Secrets::in_folder(folder.path()).unwrap();
        assert_eq!(first.secret_key, second.secret_key);
        assert_ne!(first.secret_key, first.ingest_token);
        assert_eq!(first.secret_key.reveal().len(), 64);
        let mode = fs::metadata(folder.path().join("secret-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(format!("{first:?}"), "Secrets { secret_key: ***, ingest_token: ***, csrf_key: *** }");
    }

    #[test]
    fn a_secret_that_others_can_read_or_that_is_short_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret-key");
        fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Secrets::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::write(&file, "short").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Secrets::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("delete it"), "{error}");
    }
}
