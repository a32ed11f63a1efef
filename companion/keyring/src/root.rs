//! The root key: what wraps the tenants' keys. From a secret of ours, or kept by a service that never gives it away.

use std::fmt;

use hkdf::Hkdf;
use portcullis_policy::Tenant;
use sha2::Sha256;

use crate::cipher::{self, Use};
use crate::envelope::{self, Envelope};
use crate::error::{Error, Malformed, ServiceError};
use crate::prk::Prk;
use crate::secret::Key;

/// The shortest secret that is taken as root key.
pub const MIN_ROOT_BYTES: usize = 32;
/// A random secret of that length has more different bytes than this, written in hexadecimal or not.
const MIN_DIFFERENT_BYTES: usize = 8;

/// Which key is wrapped: bound to the wrapped bytes, so that keys cannot change places in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyName<'a> {
    /// Whose key.
    pub tenant: &'a Tenant,
    /// Its version; 0 is the key of the blind indexes.
    pub version: u32,
}

/// Wraps and unwraps tenants' keys. A service outside may block while it does so; the keyring asks it when a key is made,
/// and when a key that is used is not in its cache.
pub trait KeyService: Send + Sync {
    /// Wraps `key` for `name`. `salt` is fresh and random.
    ///
    /// # Errors
    /// When the service cannot.
    fn wrap(&self, name: KeyName<'_>, key: &Key, salt: &[u8; 32]) -> Result<Vec<u8>, ServiceError>;

    /// Unwraps what [`KeyService::wrap`] made for `name`.
    ///
    /// # Errors
    /// When the bytes were altered, were made for another name or under another root key, or the service cannot.
    fn unwrap(&self, name: KeyName<'_>, wrapped: &[u8]) -> Result<Key, ServiceError>;

    /// Whether all of `wrapped` stand under the root key that [`KeyService::wrap`] would use now.
    ///
    /// # Errors
    /// When the service cannot tell.
    fn are_current(&self, wrapped: &[&[u8]]) -> Result<bool, ServiceError>;
}

/// Why a secret is no root key. Tells nothing of the secret but its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakRoot {
    /// Too short to resist guessing.
    #[error("{0} bytes, must be at least {MIN_ROOT_BYTES}; make one with: openssl rand -hex 32")]
    Short(usize),
    /// Not random.
    #[error("it is not random: it has only {0} different bytes; make one with: openssl rand -hex 32")]
    Plain(usize),
}

/// A root key in memory.
pub struct RootKey {
    key: Prk,
    id: [u8; 8],
}

impl RootKey {
    /// Derives the root key from a secret: ENCRYPTION_KEY, or what stands in a file. It is not a password: nothing
    /// here makes guessing slow.
    ///
    /// # Errors
    /// When the secret is too short or evidently not random.
    pub fn new(secret: &[u8]) -> Result<Self, WeakRoot> {
        if secret.len() < MIN_ROOT_BYTES {
            return Err(WeakRoot::Short(secret.len()));
        }
        let mut seen = [false; 256];
        secret.iter().for_each(|byte| {
            if let Some(seen) = seen.get_mut(usize::from(*byte)) {
                *seen = true;
            }
        });
        let different = seen.iter().filter(|seen| **seen).count();
        if different < MIN_DIFFERENT_BYTES {
            return Err(WeakRoot::Plain(different));
        }
        let hkdf = Hkdf::<Sha256>::new(Some(b"portcullis root key v1"), secret);
        let (mut key, mut id) = (Key::zero(), [0; 8]);
        // HKDF refuses outputs of more than 8160 bytes only.
        let _ = hkdf.expand(b"key", key.expose_mut());
        let _ = hkdf.expand(b"id", &mut id);
        Ok(Self { key: Prk::new(&key), id })
    }

    /// Its name: which root key wrapped a key, and nothing of the key itself.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.id)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({}, ***)", self.id())
    }
}

/// The root key in use and, while keys are wrapped anew, those before it.
#[derive(Debug)]
pub struct RootKeys {
    current: RootKey,
    previous: Vec<RootKey>,
}

impl RootKeys {
    /// Wraps under `current`; unwraps what any of them wrapped.
    #[must_use]
    pub fn new(current: RootKey, previous: Vec<RootKey>) -> Self {
        Self { current, previous }
    }
}

impl KeyService for RootKeys {
    fn wrap(&self, name: KeyName<'_>, key: &Key, salt: &[u8; 32]) -> Result<Vec<u8>, ServiceError> {
        let mut head = Vec::with_capacity(256);
        envelope::begin(&mut head, name.tenant, name.version, Some(&self.current.id))
            .and_then(|()| cipher::seal((&self.current.key, Use::Wrap), salt, head, None, key.expose()))
            .map_err(|_| ServiceError::Refused)
    }

    fn unwrap(&self, name: KeyName<'_>, wrapped: &[u8]) -> Result<Key, ServiceError> {
        let (id, envelope) =
            Envelope::parse_wrapped(wrapped).map_err(|_: Malformed| ServiceError::Refused)?;
        if envelope.tenant() != name.tenant.as_str() || envelope.key_version() != name.version {
            return Err(ServiceError::Refused);
        }
        let root = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|root| root.id == *id)
            .ok_or_else(|| ServiceError::OtherRoot(hex(id)))?;
        let opened = cipher::open((&root.key, Use::Wrap), &envelope, None)
            .map_err(|_: Error| ServiceError::Refused)?;
        Key::from_slice(opened.expose()).ok_or(ServiceError::Refused)
    }

    fn are_current(&self, wrapped: &[&[u8]]) -> Result<bool, ServiceError> {
        let current = |(id, _): (&[u8; 8], Envelope<'_>)| *id == self.current.id;
        Ok(wrapped.iter().all(|wrapped| Envelope::parse_wrapped(wrapped).is_ok_and(current)))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(first: u8) -> RootKey {
        RootKey::new(&(first..first.saturating_add(32)).collect::<Vec<u8>>()).unwrap()
    }

    fn named(tenant: &Tenant, version: u32) -> KeyName<'_> {
        KeyName { tenant, version }
    }

    #[test]
    fn a_weak_secret_is_refused_and_not_told() {
        assert_eq!(RootKey::new(b"0123456789abcdef0123456789abcde").unwrap_err(), WeakRoot::Short(31));
        let plain = RootKey::new(&[b'x'; 64]).unwrap_err();
        assert!(
            plain.to_string().contains("openssl rand -hex 32") && !plain.to_string().contains("xx"),
            "{plain}"
        );
        RootKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
    }

    #[test]
    fn a_wrapped_key_opens_for_its_name_alone() {
        let (acme, other) = (Tenant::new(b"acme").unwrap(), Tenant::new(b"acmf").unwrap());
        let keys = RootKeys::new(root(1), Vec::new());
        let key = Key::new(&[9; 32]);
        let wrapped = keys.wrap(named(&acme, 1), &key, &[5; 32]).unwrap();
        assert_eq!(keys.unwrap(named(&acme, 1), &wrapped).unwrap(), key);
        for wrong in [named(&other, 1), named(&acme, 2), named(&acme, 0)] {
            assert_eq!(keys.unwrap(wrong, &wrapped), Err(ServiceError::Refused));
        }
        for place in 0..wrapped.len() {
            let mut altered = wrapped.clone();
            altered[place] ^= 1;
            assert!(keys.unwrap(named(&acme, 1), &altered).is_err(), "byte {place}");
        }
    }

    #[test]
    fn the_previous_root_key_still_unwraps_and_a_missing_one_is_named() {
        let acme = Tenant::new(b"acme").unwrap();
        let key = Key::new(&[9; 32]);
        let wrapped = RootKeys::new(root(1), Vec::new()).wrap(named(&acme, 1), &key, &[5; 32]).unwrap();
        let both = RootKeys::new(root(2), vec![root(1)]);
        assert_eq!(both.unwrap(named(&acme, 1), &wrapped).unwrap(), key);
        assert!(!both.are_current(&[&wrapped]).unwrap());
        let error = RootKeys::new(root(2), Vec::new()).unwrap(named(&acme, 1), &wrapped).unwrap_err();
        assert_eq!(error, ServiceError::OtherRoot(root(1).id()));
    }

    #[test]
    fn debug_shows_the_name_alone() {
        assert_eq!(format!("{:?}", root(1)), format!("RootKey({}, ***)", root(1).id()));
    }
}
