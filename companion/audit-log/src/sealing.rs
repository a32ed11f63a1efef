//! The seam to the tenants' keys: personal fields enter the log as ciphertext.
//!
//! A leaf hashes what lies in the file, which is ciphertext. Who destroys a tenant's key makes its personal fields
//! unreadable for ever, and every proof stays valid. The log itself never opens anything.

/// Seals and opens with a tenant's key.
pub trait Sealer: Send + Sync {
    /// Seals `plain` for `tenant`; `row` names the record, and is bound to it.
    ///
    /// # Errors
    /// [`SealError`]. The record must not be stored then.
    fn seal(&self, tenant: &str, row: &str, plain: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed; `None` when the tenant's key was destroyed.
    ///
    /// # Errors
    /// [`SealError`].
    fn open(&self, tenant: &str, row: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError>;
}

/// Why sealing or opening failed. It never holds what was sealed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the tenant's key: {0}")]
pub struct SealError(pub String);
