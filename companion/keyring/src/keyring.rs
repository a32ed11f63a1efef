//! The keyring: seals and opens with tenants' keys, through [`Session`]; how they change is told in `changes`.

use std::sync::Arc;

use portcullis_policy::Tenant;
use rand_core::TryCryptoRng;

use crate::blind_index::BlindIndex;
use crate::cache::{Cache, Hit, State, Want};
use crate::context::Context;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::prk::Prk;
use crate::root::{KeyName, KeyService};
use crate::secret::Plaintext;
use crate::session::{self, Session};
use crate::store::{KeyStore, TenantRecord};

/// What `encrypt_sensitive_data` binds its values to.
const SENSITIVE: &str = "sensitive data";

/// Tenants' keys: the wrapped ones in a store, those in use in a bounded cache.
///
/// A change is durable in the store before it is used, and then leaves the cache at once. Everything may be called from
/// many threads; calls block as long as the store and the key service do.
pub struct Keyring {
    pub(crate) service: Arc<dyn KeyService>,
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) cache: Cache,
}

impl Keyring {
    /// A keyring over `store`, whose keys `service` wraps, that holds at least the `capacity` keys used last in memory and
    /// at most about twice as many.
    #[must_use]
    pub fn new(service: Arc<dyn KeyService>, store: Arc<dyn KeyStore>, capacity: usize) -> Self {
        Self { service, store, cache: Cache::new(capacity) }
    }

    /// Begins a session: many seals and opens as of one moment.
    #[must_use]
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Seals `message` for the place `context` says, under the tenant's newest key.
    ///
    /// # Errors
    /// A tenant without keys, a message or a field that is too long, a random source that fails.
    pub fn seal(
        &self,
        context: &Context<'_>,
        message: &[u8],
        rng: &mut impl TryCryptoRng,
    ) -> Result<Vec<u8>> {
        session::seal(context, message, rng, |tenant, want| self.key_now(tenant, want))
    }

    /// Opens an envelope that was sealed for `context`.
    ///
    /// # Errors
    /// [`Error::Refused`] when it belongs elsewhere or was altered; others say what is missing.
    pub fn open(&self, context: &Context<'_>, envelope: &[u8]) -> Result<Plaintext> {
        session::open(context, envelope, |tenant, want| self.key_now(tenant, want))
    }

    /// Seals an envelope's content anew under the tenant's newest key; `None` when it is sealed under that already.
    ///
    /// # Errors
    /// As [`Keyring::open`] and [`Keyring::seal`].
    pub fn rewrap(
        &self,
        context: &Context<'_>,
        envelope: &[u8],
        rng: &mut impl TryCryptoRng,
    ) -> Result<Option<Vec<u8>>> {
        self.session().rewrap(context, envelope, rng)
    }

    /// The blind index of `value` in the table and column of `context`.
    ///
    /// # Errors
    /// A tenant without keys, a field that is too long.
    pub fn blind_index(&self, context: &Context<'_>, value: &[u8]) -> Result<BlindIndex> {
        let (_, key) = self.key_now(context.tenant, Want::Index)?;
        BlindIndex::new(&key, context, value)
    }

    /// Seals `data` of `tenant` that has no table or row of its own, as text. [`Keyring::seal`] binds more.
    ///
    /// # Errors
    /// As [`Keyring::seal`].
    pub fn encrypt_sensitive_data(
        &self,
        data: &[u8],
        tenant: &Tenant,
        rng: &mut impl TryCryptoRng,
    ) -> Result<String> {
        let context = Context { purpose: SENSITIVE, ..Context::of(tenant) };
        Ok(Envelope::to_text(&self.seal(&context, data, rng)?))
    }

    /// Opens what [`Keyring::encrypt_sensitive_data`] made.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn decrypt_sensitive_data(&self, text: &str, tenant: &Tenant) -> Result<Plaintext> {
        let context = Context { purpose: SENSITIVE, ..Context::of(tenant) };
        self.open(&context, &Envelope::from_text(text)?)
    }

    /// A tenant's record.
    ///
    /// # Errors
    /// A tenant without keys, or whose keys were shredded.
    pub fn record(&self, tenant: &Tenant) -> Result<TenantRecord> {
        let record = self.any_record(tenant)?;
        match record.shredded_at {
            Some(_) => Err(Error::Shredded(tenant.as_str().to_owned())),
            None => Ok(record),
        }
    }

    /// A tenant's record, also of one whose keys were shredded.
    ///
    /// # Errors
    /// A tenant that never had keys.
    pub fn any_record(&self, tenant: &Tenant) -> Result<TenantRecord> {
        self.store.load(tenant)?.ok_or_else(|| Error::UnknownTenant(tenant.as_str().to_owned()))
    }

    /// At most `limit` records after the tenant `after`, by name, shredded ones included.
    ///
    /// # Errors
    /// A store that fails.
    pub fn records(&self, after: Option<&Tenant>, limit: usize) -> Result<Vec<TenantRecord>> {
        Ok(self.store.list(after, limit)?)
    }

    /// Wipes all keys from memory; they are unwrapped again when they are used.
    pub fn forget_all(&self) {
        self.cache.clear();
    }

    /// How many keys are in memory.
    #[must_use]
    pub fn cached_keys(&self) -> usize {
        self.cache.keys()
    }

    pub(crate) fn key_now(&self, tenant: &Tenant, want: Want) -> Result<(u32, Prk)> {
        self.key(tenant, want, None).map(|hit| (hit.version, hit.key))
    }

    /// The wanted key, its version and the revision it was read from: from the cache as long as the store says that nothing
    /// has changed. Of a tenant whose revision is `checked` already the store is not asked again.
    pub(crate) fn key(&self, tenant: &Tenant, want: Want, checked: Option<u64>) -> Result<Hit> {
        if let Some(hit) = self.cache.find(tenant.as_str(), want) {
            if checked == Some(hit.revision) || self.store.is_newest(tenant, hit.revision)? {
                return Ok(hit);
            }
            self.cache.forget(tenant.as_str());
        }
        let epoch = self.cache.epoch(tenant.as_str());
        let record = self.record(tenant)?;
        let state =
            State { revision: record.revision, current: record.current, min_decrypt: record.min_decrypt };
        let name = || tenant.as_str().to_owned();
        let of =
            |version| record.versions.iter().find(|held| held.version == version).map(|held| &held.wrapped);
        let version = state.version(want).map_err(|least| match want {
            Want::Version(version) if of(version).is_some() => {
                Error::BelowMinimum { tenant: name(), version, least }
            }
            Want::Version(version) => Error::UnknownVersion { tenant: name(), version },
            Want::Current | Want::Index => Error::UnknownTenant(name()),
        })?;
        let held = of(version);
        let wrapped = if want == Want::Index { Some(&record.index) } else { held };
        let wrapped = wrapped.ok_or_else(|| Error::UnknownVersion { tenant: name(), version })?;
        let key = Prk::new(&self.service.unwrap(KeyName { tenant, version }, wrapped)?);
        self.cache.insert(tenant.as_str(), epoch, state, (version, &key));
        Ok(Hit { revision: record.revision, version, key })
    }

    /// The wanted key out of memory alone.
    pub(crate) fn held(&self, tenant: &Tenant, want: Want) -> Option<Hit> {
        self.cache.find(tenant.as_str(), want)
    }
}
