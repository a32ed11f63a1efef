//! The keyring: makes, rotates and shreds tenants' keys; what it seals and opens goes through [`Session`].

use std::sync::Arc;

use portcullis_policy::Tenant;
use rand_core::TryCryptoRng;

use crate::blind_index::BlindIndex;
use crate::cache::{Cache, Hit, INDEX_VERSION, State, Want};
use crate::context::Context;
use crate::envelope::{Envelope, SALT_BYTES};
use crate::error::{Error, Result};
use crate::prk::Prk;
use crate::root::{KeyName, KeyService};
use crate::secret::{Key, Plaintext};
use crate::session::{self, Session};
use crate::store::{KeyStore, MAX_VERSIONS, Saved, TenantRecord, WrappedVersion};

/// How often a change is tried anew when somebody else was faster.
const ATTEMPTS: usize = 16;
/// What `encrypt_sensitive_data` binds its values to.
const SENSITIVE: &str = "sensitive data";

/// Whether a change is to be written.
enum Edit {
    Save,
    Leave,
}

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

    /// Makes a tenant's first key. `now` is in milliseconds since the Unix epoch, here and below.
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
        let record = self.beginning(tenant, (1, 1), now, rng)?;
        match self.store.save(&record)? {
            Saved::Written => Ok(record),
            Saved::Conflict => Err(Error::Exists(tenant.as_str().to_owned())),
        }
    }

    /// Gives a tenant whose keys were shredded a new key, of a version under which nothing was ever sealed: for one that comes
    /// back under its name. What was sealed before the shredding stays unreadable.
    ///
    /// # Errors
    /// A tenant that never had keys or has some; when random source, root key or store fail.
    pub fn renew(&self, tenant: &Tenant, now: i64, rng: &mut impl TryCryptoRng) -> Result<TenantRecord> {
        let name = || tenant.as_str().to_owned();
        let before = self.any_record(tenant)?;
        if before.shredded_at.is_none() {
            return Err(Error::Exists(name()));
        }
        let version = before.current.checked_add(1).ok_or_else(|| Error::TooManyVersions(name()))?;
        let record = self.beginning(tenant, (before.revision.saturating_add(1), version), now, rng)?;
        match self.store.save(&record)? {
            Saved::Written => {
                self.cache.forget(tenant.as_str());
                Ok(record)
            }
            Saved::Conflict => Err(Error::Exists(name())),
        }
    }

    /// A record with one version and a key for blind indexes, both new.
    fn beginning(
        &self,
        tenant: &Tenant,
        (revision, version): (u64, u32),
        now: i64,
        rng: &mut impl TryCryptoRng,
    ) -> Result<TenantRecord> {
        let index = self.fresh(KeyName { tenant, version: INDEX_VERSION }, rng)?;
        let wrapped = self.fresh(KeyName { tenant, version }, rng)?;
        Ok(TenantRecord {
            tenant: tenant.clone(),
            revision,
            current: version,
            min_decrypt: version,
            index,
            versions: vec![WrappedVersion { version, created_at: now, wrapped }],
            shredded_at: None,
        })
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

    /// Makes a new version, which seals from now on; the older ones still open. Tells the new record.
    ///
    /// # Errors
    /// A tenant without keys or with [`MAX_VERSIONS`]; when random source, root key or store fail.
    pub fn rotate(&self, tenant: &Tenant, now: i64, rng: &mut impl TryCryptoRng) -> Result<TenantRecord> {
        self.change(tenant, |record| self.add_version(record, now, rng).map(|()| Edit::Save))
    }

    /// Rotates if the sealing version was made at `due` or before; `None` when it is younger. Of several who ask at once one
    /// rotates: what they see of each other's work counts.
    ///
    /// # Errors
    /// As [`Keyring::rotate`].
    pub fn rotate_when_due(
        &self,
        tenant: &Tenant,
        due: i64,
        now: i64,
        rng: &mut impl TryCryptoRng,
    ) -> Result<Option<TenantRecord>> {
        let mut rotated = false;
        let record = self.change(tenant, |record| {
            rotated = record.rotated_at().is_none_or(|at| at <= due);
            if !rotated {
                return Ok(Edit::Leave);
            }
            self.add_version(record, now, rng).map(|()| Edit::Save)
        })?;
        Ok(rotated.then_some(record))
    }

    fn add_version(&self, record: &mut TenantRecord, now: i64, rng: &mut impl TryCryptoRng) -> Result<()> {
        let too_many = || Error::TooManyVersions(record.tenant.as_str().to_owned());
        if record.versions.len() >= MAX_VERSIONS {
            return Err(too_many());
        }
        let version = record.current.checked_add(1).ok_or_else(too_many)?;
        let wrapped = self.fresh(KeyName { tenant: &record.tenant, version }, rng)?;
        record.versions.push(WrappedVersion { version, created_at: now, wrapped });
        record.current = version;
        Ok(())
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
            Ok(Edit::Save)
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
            Ok(Edit::Save)
        })
    }

    /// Wraps a tenant's keys under the current root key; tells whether any stood under another. What they sealed is not touched.
    ///
    /// # Errors
    /// A tenant without keys; when random source, root key or store fail.
    pub fn rewrap_tenant_key(&self, tenant: &Tenant, rng: &mut impl TryCryptoRng) -> Result<bool> {
        let record = self.record(tenant)?;
        let wrapped = record.versions.iter().map(|held| &held.wrapped[..]).chain([&record.index[..]]);
        if self.service.are_current(&wrapped.collect::<Vec<_>>())? {
            return Ok(false);
        }
        self.change(tenant, |record| {
            record.index = self.rewrapped(KeyName { tenant, version: INDEX_VERSION }, &record.index, rng)?;
            for held in &mut record.versions {
                held.wrapped =
                    self.rewrapped(KeyName { tenant, version: held.version }, &held.wrapped, rng)?;
            }
            Ok(Edit::Save)
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
            Ok(Edit::Save)
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

    /// Changes a record by compare-and-set, and drops what is in memory of it.
    fn change(
        &self,
        tenant: &Tenant,
        mut edit: impl FnMut(&mut TenantRecord) -> Result<Edit>,
    ) -> Result<TenantRecord> {
        for _ in 0..ATTEMPTS {
            let mut record = self.record(tenant)?;
            if let Edit::Leave = edit(&mut record)? {
                return Ok(record);
            }
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
