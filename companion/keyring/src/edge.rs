//! What was sealed at the edge, to a tenant's public key (`plugins/hpke/ENVELOPE.md`).
//!
//! The key pair of a version is derived from the tenant's key of that version. So it needs no place of its own in the store, and
//! rotation, minimum versions, trimming and shredding hold for it as they are.

use portcullis_hpke::{Place, SecretKey, TenantKey, envelope};
use portcullis_policy::Tenant;

use crate::cache::Want;
use crate::error::{Error, Malformed, Result};
use crate::keyring::Keyring;
use crate::prk::Prk;
use crate::secret::Plaintext;

/// What HKDF is told.
const LABEL: &[u8] = b"portcullis edge v1 x25519";

fn secret(prk: &Prk) -> SecretKey {
    let [material] = prk.expand([LABEL]);
    SecretKey::derive(material.as_slice())
}

impl Keyring {
    /// The public key of the tenant's newest version: for whoever seals at the edge. It is no secret.
    ///
    /// # Errors
    /// A tenant without keys; a root key or store that fails.
    pub fn public_key(&self, tenant: &Tenant) -> Result<TenantKey> {
        let (version, key) = self.key_now(tenant, Want::Current)?;
        Ok(TenantKey { version, public: secret(&key).public() })
    }

    /// Opens the bytes of an envelope that was sealed at the edge for `place`.
    ///
    /// # Errors
    /// [`Error::Refused`] when it belongs elsewhere or was altered; others say what is missing.
    pub fn open_edge(&self, place: &Place<'_>, bytes: &[u8]) -> Result<Plaintext> {
        let envelope = envelope::Envelope::parse(bytes).ok_or(Malformed::Edge)?;
        if envelope.tenant != place.tenant.as_str() {
            return Err(Error::Refused);
        }
        let (_, key) = self.key_now(place.tenant, Want::Version(envelope.key_version))?;
        let opened = envelope::open(&secret(&key), &envelope, place).ok_or(Error::Refused)?;
        Ok(Plaintext::new(opened.to_vec()))
    }
}
