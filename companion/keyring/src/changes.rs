//! What changes a tenant's record: new keys, versions, the least that opens, another root key, the end.
//!
//! Each change is a compare-and-set in the store, and durable there before it counts.

use portcullis_policy::Tenant;
use rand_core::TryCryptoRng;

use crate::cache::INDEX_VERSION;
use crate::envelope::SALT_BYTES;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::root::KeyName;
use crate::secret::Key;
use crate::store::{MAX_VERSIONS, Saved, TenantRecord, WrappedVersion};

/// How often a change is tried anew when somebody else was faster.
const ATTEMPTS: usize = 16;

/// Whether a change is to be written.
enum Edit {
    Save,
    Leave,
}

impl Keyring {
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

    /// Deletes the versions below `least`, for good, as far as they are not opened any more: none from `min_decrypt` on goes.
    ///
    /// # Errors
    /// A tenant without keys, a store that fails.
    pub fn trim(&self, tenant: &Tenant, least: u32) -> Result<TenantRecord> {
        self.change(tenant, |record| {
            let (before, least) = (record.versions.len(), least.min(record.min_decrypt));
            record.versions.retain(|held| held.version >= least);
            Ok(if record.versions.len() == before { Edit::Leave } else { Edit::Save })
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
