//! The keyring: seals and opens under tenants' keys, and makes, rotates and shreds them.

use std::sync::Arc;

use portcullis_policy::Tenant;
use rand_core::TryCryptoRng;

use crate::blind_index::BlindIndex;
use crate::cache::{Cache, INDEX_VERSION, State, Want};
use crate::cipher::{self, OVERHEAD, Use};
use crate::context::Context;
use crate::envelope::{self, Envelope, MAX_PLAINTEXT_BYTES, SALT_BYTES};
use crate::error::{Error, Result};
use crate::root::{KeyName, KeyService};
use crate::secret::{Key, Plaintext};
use crate::store::{KeyStore, MAX_VERSIONS, Saved, TenantRecord, WrappedVersion};

/// How often a change is tried anew when somebody else was faster.
const ATTEMPTS: usize = 16;
/// What `encrypt_sensitive_data` binds its values to.
const SENSITIVE: &str = "sensitive data";

/// Tenants' keys: the wrapped ones in a store, those in use in a bounded cache.
///
/// A change is durable in the store before it is used, and then leaves the cache at once. Everything may be called from
/// many threads; calls block as long as the store and the key service do.
pub struct Keyring {
    service: Arc<dyn KeyService>,
    store: Arc<dyn KeyStore>,
    cache: Cache,
}

impl Keyring {
    /// A keyring over `store`, whose keys `service` wraps, that holds at least the `capacity` keys used last in memory and
    /// at most about twice as many.
    #[must_use]
    pub fn new(service: Arc<dyn KeyService>, store: Arc<dyn KeyStore>, capacity: usize) -> Self {
        Self { service, store, cache: Cache::new(capacity) }
    }

    /// Makes a tenant's first key. `now` is in seconds since the Unix epoch, here and below.
    ///
    /// # Errors
    /// When the tenant has keys or had them shredded; when random source, root key or store fail.
    pub fn generate_tenant_key(
        &self,
        tenant: &Tenant,
        now: i64,
        rng: &mut impl TryCryptoRng,
    ) -> Result<TenantRecord> {
        if let Some(record) = self.store.load(tenant)? {
            let name = tenant.as_str().to_owned();
            return Err(if record.shredded_at.is_some() {
                Error::Shredded(name)
            } else {
                Error::Exists(name)
            });
        }
        let record = TenantRecord {
            tenant: tenant.clone(),
            revision: 1,
            current: 1,
            min_decrypt: 1,
            index: self.fresh(KeyName { tenant, version: INDEX_VERSION }, rng)?,
            versions: vec![WrappedVersion {
                version: 1,
                created_at: now,
                wrapped: self.fresh(KeyName { tenant, version: 1 }, rng)?,
            }],
            shredded_at: None,
        };
        match self.store.save(&record)? {
            Saved::Written => Ok(record),
            Saved::Conflict => Err(Error::Exists(tenant.as_str().to_owned())),
        }
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
        if message.len() > MAX_PLAINTEXT_BYTES {
            return Err(Error::TooLarge(message.len()));
        }
        let (version, key) = self.key(context.tenant, Want::Current)?;
        let mut salt = [0; SALT_BYTES];
        rng.try_fill_bytes(&mut salt).map_err(|_| Error::Random)?;
        let room = context.tenant.as_str().len().saturating_add(OVERHEAD).saturating_add(7);
        let mut bytes = Vec::with_capacity(room.saturating_add(message.len()));
        envelope::begin(&mut bytes, context.tenant, version, None)?;
        cipher::seal((&key, Use::Seal), &salt, bytes, Some(context), message)
    }

    /// Opens an envelope that was sealed for `context`.
    ///
    /// # Errors
    /// [`Error::Refused`] when it belongs elsewhere or was altered; others say what is missing.
    pub fn open(&self, context: &Context<'_>, envelope: &[u8]) -> Result<Plaintext> {
        let envelope = Envelope::parse(envelope)?;
        if envelope.tenant() != context.tenant.as_str() {
            return Err(Error::Refused);
        }
        let (_, key) = self.key(context.tenant, Want::Version(envelope.key_version()))?;
        cipher::open((&key, Use::Seal), &envelope, Some(context))
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
        let version = Envelope::parse(envelope)?.key_version();
        let message = self.open(context, envelope)?;
        let (current, _) = self.key(context.tenant, Want::Current)?;
        if version == current { Ok(None) } else { self.seal(context, message.expose(), rng).map(Some) }
    }

    /// Makes a new version, which seals from now on; the older ones still open. Tells the new record.
    ///
    /// # Errors
    /// A tenant without keys or with [`MAX_VERSIONS`]; when random source, root key or store fail.
    pub fn rotate(&self, tenant: &Tenant, now: i64, rng: &mut impl TryCryptoRng) -> Result<TenantRecord> {
        self.change(tenant, |record| {
            if record.versions.len() >= MAX_VERSIONS {
                return Err(Error::TooManyVersions(tenant.as_str().to_owned()));
            }
            let too_many = || Error::TooManyVersions(tenant.as_str().to_owned());
            let version = record.current.checked_add(1).ok_or_else(too_many)?;
            let wrapped = self.fresh(KeyName { tenant, version }, rng)?;
            record.versions.push(WrappedVersion { version, created_at: now, wrapped });
            record.current = version;
            Ok(())
        })
    }

    /// From now on only versions from `least` on are opened. It may be lowered again, until [`Keyring::trim`].
    ///
    /// # Errors
    /// A tenant without keys, a version that does not exist, a store that fails.
    pub fn set_min_decrypt_version(&self, tenant: &Tenant, least: u32) -> Result<TenantRecord> {
        self.change(tenant, |record| {
            if !record.versions.iter().any(|held| held.version == least) {
                return Err(Error::UnknownVersion { tenant: tenant.as_str().to_owned(), version: least });
            }
            record.min_decrypt = least;
            Ok(())
        })
    }

    /// Deletes the versions that are not opened any more, for good.
    ///
    /// # Errors
    /// A tenant without keys, a store that fails.
    pub fn trim(&self, tenant: &Tenant) -> Result<TenantRecord> {
        self.change(tenant, |record| {
            let least = record.min_decrypt;
            record.versions.retain(|held| held.version >= least);
            Ok(())
        })
    }

    /// Wraps a tenant's keys under the current root key; tells whether any stood under another. What they sealed is not touched.
    ///
    /// # Errors
    /// A tenant without keys; when random source, root key or store fail.
    pub fn rewrap_tenant_key(&self, tenant: &Tenant, rng: &mut impl TryCryptoRng) -> Result<bool> {
        let record = self.record(tenant)?;
        let wrapped = record.versions.iter().map(|held| &held.wrapped).chain([&record.index]);
        if wrapped.into_iter().all(|wrapped| self.service.is_current(wrapped)) {
            return Ok(false);
        }
        self.change(tenant, |record| {
            record.index = self.rewrapped(KeyName { tenant, version: INDEX_VERSION }, &record.index, rng)?;
            for held in &mut record.versions {
                held.wrapped =
                    self.rewrapped(KeyName { tenant, version: held.version }, &held.wrapped, rng)?;
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// Deletes all keys of a tenant, for good: from the return on nothing they sealed is opened by any keyring over this store.
    /// The record stays without keys, so that the tenant cannot come back under the same versions.
    ///
    /// # Errors
    /// A tenant that never had keys, a store that fails. A tenant whose keys are shredded already is no error.
    pub fn shred(&self, tenant: &Tenant, now: i64) -> Result<()> {
        let shredded = self.change(tenant, |record| {
            record.versions = Vec::new();
            record.index = Vec::new();
            record.shredded_at = Some(now);
            Ok(())
        });
        match shredded {
            Ok(_) | Err(Error::Shredded(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The blind index of `value` in the table and column of `context`.
    ///
    /// # Errors
    /// A tenant without keys, a field that is too long.
    pub fn blind_index(&self, context: &Context<'_>, value: &[u8]) -> Result<BlindIndex> {
        let (_, key) = self.key(context.tenant, Want::Index)?;
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
        let name = || tenant.as_str().to_owned();
        let record = self.store.load(tenant)?.ok_or_else(|| Error::UnknownTenant(name()))?;
        if record.shredded_at.is_some() { Err(Error::Shredded(name())) } else { Ok(record) }
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

    /// The wanted key and its version: from the cache as long as the store says that nothing has changed.
    fn key(&self, tenant: &Tenant, want: Want) -> Result<(u32, Key)> {
        if let Some(hit) = self.cache.find(tenant.as_str(), want) {
            if self.store.is_newest(tenant, hit.revision)? {
                return Ok((hit.version, hit.key));
            }
            self.cache.forget(tenant.as_str());
        }
        let epoch = self.cache.epoch(tenant.as_str());
        let record = self.record(tenant)?;
        let state =
            State { revision: record.revision, current: record.current, min_decrypt: record.min_decrypt };
        let name = || tenant.as_str().to_owned();
        let version = state.version(want).map_err(|least| match want {
            Want::Version(version) => Error::BelowMinimum { tenant: name(), version, least },
            Want::Current | Want::Index => Error::UnknownTenant(name()),
        })?;
        let held = record.versions.iter().find(|held| held.version == version).map(|held| &held.wrapped);
        let wrapped = if want == Want::Index { Some(&record.index) } else { held };
        let wrapped = wrapped.ok_or_else(|| Error::UnknownVersion { tenant: name(), version })?;
        let key = self.service.unwrap(KeyName { tenant, version }, wrapped)?;
        self.cache.insert(tenant.as_str(), epoch, state, (version, &key));
        Ok((version, key))
    }

    /// Changes a record by compare-and-set, and drops what is in memory of it.
    fn change(
        &self,
        tenant: &Tenant,
        mut edit: impl FnMut(&mut TenantRecord) -> Result<()>,
    ) -> Result<TenantRecord> {
        for _ in 0..ATTEMPTS {
            let mut record = self.record(tenant)?;
            edit(&mut record)?;
            record.revision = record.revision.saturating_add(1);
            if self.store.save(&record)? == Saved::Written {
                self.cache.forget(tenant.as_str());
                return Ok(record);
            }
        }
        Err(Error::Busy(tenant.as_str().to_owned()))
    }

    /// A new random key, wrapped.
    fn fresh(&self, name: KeyName<'_>, rng: &mut impl TryCryptoRng) -> Result<Vec<u8>> {
        let mut key = Key::zero();
        rng.try_fill_bytes(key.expose_mut()).map_err(|_| Error::Random)?;
        self.wrap(name, &key, rng)
    }

    fn rewrapped(&self, name: KeyName<'_>, wrapped: &[u8], rng: &mut impl TryCryptoRng) -> Result<Vec<u8>> {
        let key = self.service.unwrap(name, wrapped)?;
        self.wrap(name, &key, rng)
    }

    fn wrap(&self, name: KeyName<'_>, key: &Key, rng: &mut impl TryCryptoRng) -> Result<Vec<u8>> {
        let mut salt = [0; SALT_BYTES];
        rng.try_fill_bytes(&mut salt).map_err(|_| Error::Random)?;
        Ok(self.service.wrap(name, key, &salt)?)
    }
}
