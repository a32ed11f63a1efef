//! Tenant keys: every tenant's data is sealed under keys of its own, and deleting the keys deletes the data.
//!
//! A root key wraps each tenant's versioned keys. From a tenant's key and 32 random bytes HKDF makes a one-time
//! AES-256-GCM key and a commitment for each message, so there is no limit to how many messages a key may seal, and no
//! envelope that opens under two keys. Associated data binds tenant, table, column, row and purpose. `ENVELOPE.md` beside
//! this crate specifies every byte. What a proxy has sealed to a tenant's public key is opened too ([`Keyring::open_edge`]).
//!
//! Defends against: a stolen database (values, and the keys beside them, are ciphertext); a value moved to another tenant,
//! table, column or row; a value changed; envelopes made to open under several keys; keys that stay in use for ever
//! ([`Keyring::rotate`], [`Keyring::set_min_decrypt_version`]); a tenant who wants to be forgotten ([`Keyring::shred`]).
//!
//! Deliberately not: it does no I/O (a [`KeyStore`] keeps the wrapped keys, a [`KeyService`] may keep the root key
//! elsewhere, randomness is a parameter); it hides neither a value's length nor who its tenant is; it does not stop an
//! older value of the same place from being put back; equal values have equal blind indexes, which is their purpose. Keys
//! are wiped from memory when they are dropped; what the compiler leaves of them in registers and dead stack is not.
//!
//! Limits: messages of [`MAX_PLAINTEXT_BYTES`], fields of a context of [`MAX_FIELD_BYTES`], [`MAX_VERSIONS`] versions a
//! tenant. Beyond each, an error that says so; nothing is cut.

mod blind_index;
mod cache;
mod changes;
mod cipher;
mod context;
mod edge;
mod envelope;
mod error;
mod fernet;
mod keyring;
mod prk;
mod root;
mod secret;
mod session;
mod store;

pub use blind_index::BlindIndex;
pub use context::{Context, MAX_FIELD_BYTES};
pub use envelope::{Envelope, MAX_PLAINTEXT_BYTES};
pub use error::{Error, Malformed, Result, ServiceError, StoreError};
pub use fernet::{FernetError, FernetKey, open_fernet};
pub use keyring::Keyring;
pub use portcullis_hpke::{Place as EdgePlace, TenantKey};
pub use portcullis_policy::Tenant;
pub use root::{KeyName, KeyService, MIN_ROOT_BYTES, RootKey, RootKeys, WeakRoot};
pub use secret::{Key, Plaintext};
pub use session::{SealingKey, Session};
pub use store::{KeyStore, MAX_VERSIONS, MemoryStore, Saved, TenantRecord, WrappedVersion};
