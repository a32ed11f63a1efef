//! The root key, which wraps all tenants' keys: from ENCRYPTION_KEY, or a file of mode 0600.
//!
//! A missing or weak one ends the start, with the remedy. Only a demonstration makes one, once, in DATA_DIR. To replace it:
//! start with the new one as ENCRYPTION_KEY and the old one as ENCRYPTION_KEY_PREVIOUS, run `portcullis keys rewrap --all`, and
//! start without the old one. What is sealed is not touched by that; tenants' keys are wrapped anew.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_keyring::{KeyService, MIN_ROOT_BYTES, RootKey, RootKeys, WeakRoot};

use crate::secret::{Secret, SecretError};

/// The file of a demonstration's root key, in DATA_DIR.
const FILE: &str = "encryption-key";

/// What keeps the root key.
#[derive(Clone)]
pub struct Service(pub Arc<dyn KeyService>);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// None is given.
    #[error(
        "ENCRYPTION_KEY: not set; make one with: openssl rand -hex 32, keep it safe (without it nothing sealed is ever read again), and set ENCRYPTION_KEY or ENCRYPTION_KEY_FILE; or try out with --demonstration"
    )]
    Missing,
    /// Two are given.
    #[error("{0} and {0}_FILE: both are set; set one of them")]
    Both(&'static str),
    /// It could be guessed.
    #[error("{name}: {error}")]
    Weak {
        /// The variable or file.
        name: String,
        /// Why.
        error: WeakRoot,
    },
    /// Its file.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Reads a variable.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What may be done when no key is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The start ends.
    Refuse,
    /// One that a demonstration has made is taken.
    Reuse,
    /// One is made, and kept in DATA_DIR.
    Make,
}

impl Service {
    /// The root key that the variables name.
    ///
    /// # Errors
    /// [`RootError`]: none, two, a weak one, a file that others may read.
    pub fn new(variables: Variables<'_>, data_dir: &Path, absent: Absent) -> Result<Self, RootError> {
        let path = data_dir.join(FILE);
        let current = match given(variables, "ENCRYPTION_KEY", "ENCRYPTION_KEY_FILE")? {
            Some(root) => root,
            None => match absent {
                Absent::Make => {
                    root(&path.display().to_string(), &Secret::read_or_generate(&path, MIN_ROOT_BYTES)?)?
                }
                Absent::Reuse if path.exists() => {
                    root(&path.display().to_string(), &Secret::read(&path, MIN_ROOT_BYTES)?)?
                }
                Absent::Reuse | Absent::Refuse => return Err(RootError::Missing),
            },
        };
        let previous = given(variables, "ENCRYPTION_KEY_PREVIOUS", "ENCRYPTION_KEY_PREVIOUS_FILE")?;
        Ok(Self(Arc::new(RootKeys::new(current, previous.into_iter().collect()))))
    }
}

/// The key of a variable, or of the file that another one names.
fn given(
    variables: Variables<'_>,
    name: &'static str,
    file_name: &'static str,
) -> Result<Option<RootKey>, RootError> {
    let set = |name: &str| variables(name).filter(|text| !text.is_empty());
    match (set(name), set(file_name)) {
        (Some(_), Some(_)) => Err(RootError::Both(name)),
        (Some(text), None) => root(name, &Secret::new(name, text, MIN_ROOT_BYTES)?).map(Some),
        (None, Some(path)) => {
            root(&format!("{file_name} {path}"), &Secret::read(&PathBuf::from(&path), MIN_ROOT_BYTES)?)
                .map(Some)
        }
        (None, None) => Ok(None),
    }
}

fn root(name: &str, secret: &Secret) -> Result<RootKey, RootError> {
    RootKey::new(secret.expose()).map_err(|error| RootError::Weak { name: name.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn error(set: &[(&str, &str)], absent: Absent) -> String {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Service::new(&of, folder.path(), absent).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_weak_or_doubled_key_is_refused_with_the_remedy_and_never_shown() {
        for absent in [Absent::Refuse, Absent::Reuse] {
            assert!(error(&[], absent).starts_with("ENCRYPTION_KEY: not set; make one with: openssl rand"));
        }
        let weak = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        for (set, named) in [
            (vec![("ENCRYPTION_KEY", "short")], "ENCRYPTION_KEY: 5 bytes, must be at least 32"),
            (vec![("ENCRYPTION_KEY", weak)], "ENCRYPTION_KEY: it is not random"),
            (
                vec![("ENCRYPTION_KEY", ONE), ("ENCRYPTION_KEY_PREVIOUS", weak)],
                "ENCRYPTION_KEY_PREVIOUS: it is not",
            ),
            (vec![("ENCRYPTION_KEY", ONE), ("ENCRYPTION_KEY_FILE", "/x")], "both are set"),
            (vec![("ENCRYPTION_KEY_FILE", "/no/such/file")], "/no/such/file"),
        ] {
            let said = error(&set, Absent::Make);
            assert!(said.contains(named) && !said.contains(weak) && !said.contains("short,"), "{said}");
        }
    }

    #[test]
    fn a_file_counts_and_must_be_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root");
        std::fs::write(&path, format!("{ONE}\n")).unwrap();
        let of = |name: &str| (name == "ENCRYPTION_KEY_FILE").then(|| path.display().to_string());
        let open = Service::new(&of, folder.path(), Absent::Refuse).unwrap_err().to_string();
        assert!(open.contains("chmod 600"), "{open}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Service::new(&of, folder.path(), Absent::Refuse).unwrap();
    }

    #[test]
    fn a_demonstration_makes_one_and_finds_it_again() {
        let folder = tempfile::tempdir().unwrap();
        Service::new(&|_| None, folder.path(), Absent::Make).unwrap();
        let made = std::fs::read(folder.path().join(FILE)).unwrap();
        Service::new(&|_| None, folder.path(), Absent::Reuse).unwrap();
        Service::new(&|_| None, folder.path(), Absent::Make).unwrap();
        assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), made);
    }

    #[test]
    fn the_previous_key_still_unwraps() {
        use portcullis_keyring::{Key, KeyName, Tenant};
        let folder = tempfile::tempdir().unwrap();
        let with = |set: Vec<(&'static str, &'static str)>| {
            let of = move |name: &str| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            Service::new(&of, folder.path(), Absent::Refuse).unwrap().0
        };
        let tenant = Tenant::public();
        let name = KeyName { tenant: &tenant, version: 1 };
        let wrapped =
            with(vec![("ENCRYPTION_KEY", OTHER)]).wrap(name, &Key::new(&[9; 32]), &[5; 32]).unwrap();
        assert!(with(vec![("ENCRYPTION_KEY", ONE)]).unwrap(name, &wrapped).is_err());
        let both = with(vec![("ENCRYPTION_KEY", ONE), ("ENCRYPTION_KEY_PREVIOUS", OTHER)]);
        assert_eq!(both.unwrap(name, &wrapped).unwrap(), Key::new(&[9; 32]));
        assert!(!both.is_current(&wrapped));
    }
}
