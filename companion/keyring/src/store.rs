//! Where wrapped keys are kept: the seam to a database, and a store in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use portcullis_policy::Tenant;

use crate::error::StoreError;

/// The most versions of a tenant's key.
pub const MAX_VERSIONS: usize = 256;

/// A version of a tenant's key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedVersion {
    /// From 1 on, never used twice.
    pub version: u32,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// The key under the root key.
    pub wrapped: Vec<u8>,
}

/// All that is stored of a tenant's keys. Nothing in it is secret without the root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Whose.
    pub tenant: Tenant,
    /// Counts the changes: 1 when it is made.
    pub revision: u64,
    /// The version that seals. It only grows, a shredding included.
    pub current: u32,
    /// The least version that opens.
    pub min_decrypt: u32,
    /// The key of the blind indexes under the root key; empty when shredded.
    pub index: Vec<u8>,
    /// By version, ascending; empty when shredded.
    pub versions: Vec<WrappedVersion>,
    /// When the keys were deleted, in milliseconds since the Unix epoch.
    pub shredded_at: Option<i64>,
}

impl TenantRecord {
    /// When the sealing version was made.
    #[must_use]
    pub fn rotated_at(&self) -> Option<i64> {
        self.versions.iter().find(|held| held.version == self.current).map(|held| held.created_at)
    }
}

/// Whether a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It is durable.
    Written,
    /// Somebody else has changed the record since it was read; nothing was written.
    Conflict,
}

/// Keeps tenants' records. Calls may block.
pub trait KeyStore: Send + Sync {
    /// The record of a tenant.
    ///
    /// # Errors
    /// When the store cannot read.
    fn load(&self, tenant: &Tenant) -> Result<Option<TenantRecord>, StoreError>;

    /// Writes `record` in place of the one with the revision before it (1: in place of none), durably; what the old one
    /// held and the new one does not is deleted, as thoroughly as the store can.
    ///
    /// # Errors
    /// When the store cannot write.
    fn save(&self, record: &TenantRecord) -> Result<Saved, StoreError>;

    /// At most `limit` records after the tenant `after`, by name.
    ///
    /// # Errors
    /// When the store cannot read.
    fn list(&self, after: Option<&Tenant>, limit: usize) -> Result<Vec<TenantRecord>, StoreError>;

    /// Whether `revision` is the tenant's newest. Asked before each use of a key that is in memory. A store that other
    /// processes write must look at what they have written: so a shredding elsewhere holds here at once. Where the
    /// keyring is the only writer, as the default assumes, it knows.
    ///
    /// # Errors
    /// When the store cannot read.
    fn is_newest(&self, _tenant: &Tenant, _revision: u64) -> Result<bool, StoreError> {
        Ok(true)
    }
}

/// A store in memory, for one keyring: what it holds ends with the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, TenantRecord>>);

impl KeyStore for MemoryStore {
    fn load(&self, tenant: &Tenant) -> Result<Option<TenantRecord>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant.as_str()).cloned())
    }

    fn save(&self, record: &TenantRecord) -> Result<Saved, StoreError> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = records.get(record.tenant.as_str()).map_or(0, |before| before.revision);
        if before.saturating_add(1) != record.revision {
            return Ok(Saved::Conflict);
        }
        records.insert(record.tenant.as_str().to_owned(), record.clone());
        Ok(Saved::Written)
    }

    fn list(&self, after: Option<&Tenant>, limit: usize) -> Result<Vec<TenantRecord>, StoreError> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
        let range = records.range::<str, _>((start, Bound::Unbounded));
        Ok(range.take(limit).map(|(_, record)| record.clone()).collect())
    }
}
