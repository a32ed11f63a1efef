//! Many seals and opens as of one moment.

use std::borrow::Borrow;
use std::collections::HashMap;

use portcullis_policy::Tenant;
use rand_core::TryCryptoRng;

use crate::cache::Want;
use crate::cipher::{self, Use};
use crate::context::Context;
use crate::envelope::{self, Envelope, MAX_PLAINTEXT_BYTES, SALT_BYTES};
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::prk::Prk;
use crate::secret::Plaintext;

/// Seals and opens; the store is asked once a tenant whether its keys have changed, and that answer holds for the whole
/// session. So a session is as old as its first use of a tenant: begin one for each batch or page, and end it with that. What is
/// shredded meanwhile is opened until the session ends.
pub struct Session<'a> {
    keyring: &'a Keyring,
    /// Tenants by revision that the store has confirmed.
    checked: HashMap<Box<str>, u64>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(keyring: &'a Keyring) -> Self {
        Self { keyring, checked: HashMap::new() }
    }

    /// As [`Keyring::seal`].
    ///
    /// # Errors
    /// A tenant without keys, a message or a field that is too long, a random source that fails.
    pub fn seal(
        &mut self,
        context: &Context<'_>,
        message: &[u8],
        rng: &mut impl TryCryptoRng,
    ) -> Result<Vec<u8>> {
        seal(context, message, rng, |tenant, want| self.key(tenant, want))
    }

    /// As [`Keyring::open`].
    ///
    /// # Errors
    /// [`Error::Refused`] when it belongs elsewhere or was altered; others say what is missing.
    pub fn open(&mut self, context: &Context<'_>, envelope: &[u8]) -> Result<Plaintext> {
        open(context, envelope, |tenant, want| self.key(tenant, want))
    }

    /// As [`Keyring::rewrap`].
    ///
    /// # Errors
    /// As [`Session::open`] and [`Session::seal`].
    pub fn rewrap(
        &mut self,
        context: &Context<'_>,
        envelope: &[u8],
        rng: &mut impl TryCryptoRng,
    ) -> Result<Option<Vec<u8>>> {
        let version = Envelope::parse(envelope)?.key_version();
        let message = self.open(context, envelope)?;
        let (current, _) = self.key(context.tenant, Want::Current)?;
        if version == current { Ok(None) } else { self.seal(context, message.expose(), rng).map(Some) }
    }

    /// The tenants whose keys were used, and the revision of their records that was the newest then: who stores what was
    /// opened finds out by it whether a shredding came in between.
    pub fn revisions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.checked.iter().map(|(tenant, revision)| (&**tenant, *revision))
    }

    fn key(&mut self, tenant: &Tenant, want: Want) -> Result<(u32, Prk)> {
        let checked = self.checked.get(tenant.as_str()).copied();
        let hit = self.keyring.key(tenant, want, checked)?;
        if checked != Some(hit.revision) {
            self.checked.insert(tenant.as_str().into(), hit.revision);
        }
        Ok((hit.version, hit.key))
    }
}

/// A tenant's key as it was at one moment, to seal with and not to open: it asks nobody any more, so it also works while the
/// store is away. What it seals after its version was deleted is opened by nobody, so nothing comes back by it.
pub struct SealingKey {
    tenant: Tenant,
    version: u32,
    key: Prk,
}

impl SealingKey {
    /// As [`Keyring::seal`].
    ///
    /// # Errors
    /// [`Error::Refused`] for another tenant's context; a message or a field that is too long, a random source that fails.
    pub fn seal(
        &self,
        context: &Context<'_>,
        message: &[u8],
        rng: &mut impl TryCryptoRng,
    ) -> Result<Vec<u8>> {
        if *context.tenant != self.tenant {
            return Err(Error::Refused);
        }
        seal(context, message, rng, |_, _| Ok((self.version, &self.key)))
    }
}

impl Keyring {
    /// The key that a tenant's values are sealed under now.
    ///
    /// # Errors
    /// A tenant without keys; when the store or the key service fails.
    pub fn sealing_key(&self, tenant: &Tenant) -> Result<SealingKey> {
        let hit = self.key(tenant, Want::Current, None)?;
        Ok(SealingKey { tenant: tenant.clone(), version: hit.version, key: hit.key })
    }

    /// The same out of memory, without asking whether it is still the newest; `None` when it is not there.
    #[must_use]
    pub fn held_sealing_key(&self, tenant: &Tenant) -> Option<SealingKey> {
        let hit = self.held(tenant, Want::Current)?;
        Some(SealingKey { tenant: tenant.clone(), version: hit.version, key: hit.key })
    }
}

/// Seals with the key that `find` finds.
pub(crate) fn seal<K: Borrow<Prk>>(
    context: &Context<'_>,
    message: &[u8],
    rng: &mut impl TryCryptoRng,
    find: impl FnOnce(&Tenant, Want) -> Result<(u32, K)>,
) -> Result<Vec<u8>> {
    if message.len() > MAX_PLAINTEXT_BYTES {
        return Err(Error::TooLarge(message.len()));
    }
    let (version, key) = find(context.tenant, Want::Current)?;
    let mut salt = [0; SALT_BYTES];
    rng.try_fill_bytes(&mut salt).map_err(|_| Error::Random)?;
    let head = context.tenant.as_str().len().saturating_add(envelope::FIRST_BYTES);
    let mut bytes = Vec::with_capacity(cipher::room(head, Some(context), message));
    envelope::begin(&mut bytes, context.tenant, version, None)?;
    cipher::seal((key.borrow(), Use::Seal), &salt, bytes, Some(context), message)
}

/// Opens with the key that `find` finds.
pub(crate) fn open(
    context: &Context<'_>,
    envelope: &[u8],
    find: impl FnOnce(&Tenant, Want) -> Result<(u32, Prk)>,
) -> Result<Plaintext> {
    let envelope = Envelope::parse(envelope)?;
    if envelope.tenant() != context.tenant.as_str() {
        return Err(Error::Refused);
    }
    let (_, key) = find(context.tenant, Want::Version(envelope.key_version()))?;
    cipher::open((&key, Use::Seal), &envelope, Some(context))
}
