//! What can go wrong, and what to do about it.

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why nothing was sealed, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant never had a key.
    #[error("tenant {0}: has no key; make one with: portcullis keys create {0}")]
    UnknownTenant(String),
    /// The tenant has one already.
    #[error("tenant {0}: has a key already; rotate it instead")]
    Exists(String),
    /// The tenant's keys were deleted, for good.
    #[error("tenant {0}: its keys were shredded; what they sealed cannot be read again")]
    Shredded(String),
    /// The bytes are no envelope.
    #[error("not an envelope: {0}")]
    Malformed(#[from] Malformed),
    /// The envelope was altered, belongs to another place, or its key is another one.
    #[error("the envelope does not belong here, or was altered")]
    Refused,
    /// The tenant has no key of this version.
    #[error("tenant {tenant}: no key of version {version}")]
    UnknownVersion {
        /// Whose.
        tenant: String,
        /// Which.
        version: u32,
    },
    /// Versions below the minimum are not opened any more.
    #[error(
        "tenant {tenant}: sealed under version {version}, the least that is opened is {least}; lower min_decrypt_version, rewrap, and raise it again"
    )]
    BelowMinimum {
        /// Whose.
        tenant: String,
        /// Of the envelope.
        version: u32,
        /// What is opened.
        least: u32,
    },
    /// The tenant has as many versions as there may be.
    #[error("tenant {0}: has {max} versions; rewrap its data, raise min_decrypt_version, and trim", max = crate::MAX_VERSIONS)]
    TooManyVersions(String),
    /// A field of the context is too long.
    #[error("{field}: {length} bytes, may have {max}", max = crate::MAX_FIELD_BYTES)]
    FieldTooLong {
        /// Its name.
        field: &'static str,
        /// Its bytes.
        length: usize,
    },
    /// The message is too long.
    #[error("{0} bytes, a sealed value may have {max}", max = crate::MAX_PLAINTEXT_BYTES)]
    TooLarge(usize),
    /// Others changed the tenant's keys all the while.
    #[error("tenant {0}: its keys are being changed by somebody else; try again")]
    Busy(String),
    /// There were no random bytes.
    #[error("the random source failed; nothing was sealed")]
    Random,
    /// The key store failed.
    #[error("the key store failed: {0}")]
    Store(#[from] StoreError),
    /// The root key, or the service that keeps it, refused.
    #[error("the root key: {0}")]
    Service(#[from] ServiceError),
    /// A primitive refused lengths that are fixed in this crate.
    #[error("a cryptographic primitive failed")]
    Primitive,
}

/// What of an envelope is not as `ENVELOPE.md` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too soon.
    #[error("it is too short")]
    Short,
    /// It is longer than any that is made.
    #[error("it is too long")]
    Long,
    /// Another version.
    #[error("version {0} is not known")]
    Version(u8),
    /// Another algorithm.
    #[error("algorithm {0} is not known here")]
    Algorithm(u8),
    /// No tenant's name.
    #[error("its tenant's name is not one")]
    Tenant,
    /// Version 0 seals nothing.
    #[error("its key version is 0")]
    KeyVersion,
    /// Not base64.
    #[error("it is not base64")]
    Text,
    /// No value that was sealed at the edge.
    #[error("it is not a value that was sealed at the edge")]
    Edge,
}

/// What a key store says when it cannot do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Why a root key did not wrap or unwrap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The wrapped key was altered, or moved to another tenant or version.
    #[error("the wrapped key does not belong here, or was altered")]
    Refused,
    /// The wrapped key was made under another root key.
    #[error(
        "the key was wrapped under root key {0}, which is not among those given; give it as the previous one"
    )]
    OtherRoot(String),
    /// An external key service answered, and will not: what it says, and the remedy.
    #[error("{0}")]
    Denied(String),
    /// An external key service cannot be reached, or not now.
    #[error("{0}")]
    Unavailable(String),
}
