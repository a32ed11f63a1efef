//! The root key, which wraps all tenants' keys: from ENCRYPTION_KEY, a file of mode 0600, or a service that keeps it
//! (ENCRYPTION_KEY_SERVICE, [`super::transit`]).
//!
//! A missing or weak one ends the start, with the remedy. Only a demonstration makes one, once, in DATA_DIR. To replace it:
//! start with the new one as ENCRYPTION_KEY and the old one as ENCRYPTION_KEY_PREVIOUS, run `portcullis keys rewrap --all`, and
//! start without the old one. What is sealed is not touched by that; tenants' keys are wrapped anew. The same way leads into a
//! service, and with ENCRYPTION_KEY_PREVIOUS_SERVICE out of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_keyring::{
    Key, KeyName, KeyService, MIN_ROOT_BYTES, RootKey, RootKeys, ServiceError, WeakRoot,
};

use super::counts::{RootCall, RootCalls};
use super::transit::{self, Token, Transit};
use crate::secret::{Secret, SecretError};

/// The file of a demonstration's root key, in DATA_DIR.
const FILE: &str = "encryption-key";

/// What keeps the root key.
#[derive(Clone)]
pub struct Service(pub Arc<Root>);

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
    /// A key service that cannot be.
    #[error("{name}: {problem}")]
    Service {
        /// The variable.
        name: &'static str,
        /// Why.
        problem: String,
    },
}

/// One keeper of a root key.
enum Keeper {
    /// In this process.
    Here(RootKeys),
    /// A service.
    Service(Transit),
}

impl Keeper {
    fn service(&self) -> &dyn KeyService {
        match self {
            Self::Here(keys) => keys,
            Self::Service(transit) => transit,
        }
    }

    /// Whether it may have wrapped these bytes.
    fn is_of(&self, wrapped: &[u8]) -> bool {
        matches!(self, Self::Service(_)) == transit::has_wrapped(wrapped)
    }
}

/// The root key in use, and where it was before. Counts what is asked of it, and knows whether it is there.
pub struct Root {
    current: Keeper,
    previous: Option<Keeper>,
    calls: RootCalls,
    away: AtomicBool,
}

impl Root {
    fn new(current: Keeper, previous: Option<Keeper>) -> Self {
        Self { current, previous, calls: RootCalls::default(), away: AtomicBool::new(false) }
    }

    /// Whether a service keeps it, which can be away.
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self.current, Keeper::Service(_))
    }

    /// Whether the last call was answered.
    #[must_use]
    pub fn is_available(&self) -> bool {
        !self.away.load(Ordering::Relaxed)
    }

    /// What was asked of it.
    #[must_use]
    pub fn calls(&self) -> &RootCalls {
        &self.calls
    }

    /// Asks a service whether it does what it must. A root key in this process does.
    ///
    /// # Errors
    /// [`ServiceError::Denied`] names the remedy; [`ServiceError::Unavailable`]: it cannot be asked now.
    pub fn verify(&self) -> Result<(), ServiceError> {
        match &self.current {
            Keeper::Here(_) => Ok(()),
            Keeper::Service(transit) => self.noticed(transit.verify()),
        }
    }

    /// Looks whether a service is there, so that an outage is known before somebody needs it.
    pub fn look(&self) {
        if self.is_service() {
            let _ = self.noticed(self.current.service().are_current(&[]));
        }
    }

    /// Remembers, and tells once, that the service went away or came back.
    fn noticed<T>(&self, result: Result<T, ServiceError>) -> Result<T, ServiceError> {
        let away = match &result {
            Err(error @ (ServiceError::Unavailable(_) | ServiceError::Denied(_))) => Some(error.to_string()),
            _ => None,
        };
        let before = self.away.swap(away.is_some(), Ordering::Relaxed);
        match (before, away) {
            (false, Some(error)) => tracing::error!(
                category = "application",
                error,
                "the root key is not to be had: keys in memory go on, others answer 503"
            ),
            (true, None) => tracing::info!(category = "application", "the root key is to be had again"),
            _ => {}
        }
        result
    }

    fn keeper_of(&self, wrapped: &[u8]) -> Result<&Keeper, ServiceError> {
        let mut keepers = std::iter::once(&self.current).chain(&self.previous);
        keepers.find(|keeper| keeper.is_of(wrapped)).ok_or_else(|| {
            let other = if self.is_service() { "of ENCRYPTION_KEY" } else { "of a key service" };
            ServiceError::OtherRoot(other.to_owned())
        })
    }
}

impl KeyService for Root {
    fn wrap(&self, name: KeyName<'_>, key: &Key, salt: &[u8; 32]) -> Result<Vec<u8>, ServiceError> {
        let done = self.noticed(self.current.service().wrap(name, key, salt));
        self.calls.count(RootCall::Wrap, done)
    }

    fn unwrap(&self, name: KeyName<'_>, wrapped: &[u8]) -> Result<Key, ServiceError> {
        let done = match self.keeper_of(wrapped) {
            Ok(keeper) => self.noticed(keeper.service().unwrap(name, wrapped)),
            Err(error) => Err(error),
        };
        self.calls.count(RootCall::Unwrap, done)
    }

    fn are_current(&self, wrapped: &[&[u8]]) -> Result<bool, ServiceError> {
        if !wrapped.iter().all(|wrapped| self.current.is_of(wrapped)) {
            return Ok(false);
        }
        self.noticed(self.current.service().are_current(wrapped))
    }
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
        if let Some(current) = service(variables, "ENCRYPTION_KEY_SERVICE")? {
            if ["ENCRYPTION_KEY", "ENCRYPTION_KEY_FILE"].iter().any(|name| is_set(variables, name)) {
                let problem = "ENCRYPTION_KEY is set too; set one of them, and the one before as ENCRYPTION_KEY_PREVIOUS";
                return Err(RootError::Service {
                    name: "ENCRYPTION_KEY_SERVICE",
                    problem: problem.to_owned(),
                });
            }
            let previous = given(variables, "ENCRYPTION_KEY_PREVIOUS", "ENCRYPTION_KEY_PREVIOUS_FILE")?;
            let previous = previous.map(|root| Keeper::Here(RootKeys::new(root, Vec::new())));
            return Ok(Self(Arc::new(Root::new(Keeper::Service(current), previous))));
        }
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
        let current = Keeper::Here(RootKeys::new(current, previous.into_iter().collect()));
        let previous = service(variables, "ENCRYPTION_KEY_PREVIOUS_SERVICE")?.map(Keeper::Service);
        Ok(Self(Arc::new(Root::new(current, previous))))
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

fn is_set(variables: Variables<'_>, name: &str) -> bool {
    variables(name).is_some_and(|text| !text.is_empty())
}

/// The key service of a variable, with the token and the certificates that others name.
fn service(variables: Variables<'_>, name: &'static str) -> Result<Option<Transit>, RootError> {
    const TOKEN: &str = "ENCRYPTION_KEY_SERVICE_TOKEN";
    let set = |name: &str| variables(name).filter(|text| !text.is_empty());
    let Some(url) = set(name) else { return Ok(None) };
    let token = match (set(TOKEN), set("ENCRYPTION_KEY_SERVICE_TOKEN_FILE")) {
        (Some(_), Some(_)) => return Err(RootError::Both(TOKEN)),
        (Some(text), None) => Token::Given(Secret::new(TOKEN, text, 1)?),
        (None, Some(path)) => {
            // Read for every call; a file that cannot be is told at the start.
            Secret::read(&PathBuf::from(&path), 1)?;
            Token::File(PathBuf::from(path))
        }
        (None, None) => {
            let problem = "ENCRYPTION_KEY_SERVICE_TOKEN_FILE (or ENCRYPTION_KEY_SERVICE_TOKEN): not set";
            return Err(RootError::Service { name, problem: problem.to_owned() });
        }
    };
    let authorities = set("ENCRYPTION_KEY_SERVICE_CA_FILE").map(PathBuf::from);
    let transit = Transit::new(&url, token, authorities.as_deref());
    transit.map(Some).map_err(|problem| RootError::Service { name, problem })
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
            (
                vec![("ENCRYPTION_KEY_SERVICE", "https://vault/transit/x")],
                "ENCRYPTION_KEY_SERVICE: ENCRYPTION_KEY_SERVICE_TOKEN_FILE",
            ),
            (
                vec![
                    ("ENCRYPTION_KEY_SERVICE", "https://vault/transit/x"),
                    ("ENCRYPTION_KEY_SERVICE_TOKEN", "s.token"),
                    ("ENCRYPTION_KEY", ONE),
                ],
                "ENCRYPTION_KEY is set too",
            ),
            (
                vec![
                    ("ENCRYPTION_KEY_SERVICE", "http://vault/transit/x"),
                    ("ENCRYPTION_KEY_SERVICE_TOKEN", "s.token"),
                ],
                "ENCRYPTION_KEY_SERVICE: keys would cross the network in plain",
            ),
            (
                vec![
                    ("ENCRYPTION_KEY_SERVICE", "https://vault/transit/x"),
                    ("ENCRYPTION_KEY_SERVICE_TOKEN_FILE", "/no/such/token"),
                ],
                "/no/such/token",
            ),
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
        assert!(!both.are_current(&[&wrapped]).unwrap());
    }
}
