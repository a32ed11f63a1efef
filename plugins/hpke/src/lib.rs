//! Sealing to a tenant's public key: whoever seals cannot open.
//!
//! [`rfc9180`] is Hybrid Public Key Encryption (RFC 9180) in base mode and one suite, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305; [`envelope`] is how a value sealed at the edge looks, and `ENVELOPE.md` beside this crate says it byte by byte.
//! The module seals with it and the companion opens, so both have one code; it has no clock, no randomness and no I/O.
//!
//! Defends against: who reads what lies behind the proxy (logs, queues, a database, an application that need not know the value);
//! a proxy that is taken over later, for what it has sealed before; a value moved to another tenant, field or purpose.
//!
//! Deliberately not: it does not tell who has sealed, because everybody may know a public key; a value may be sent again, and
//! older values of the same field put back; lengths are not hidden; no commitment to the key is claimed. Limits:
//! [`envelope::MESSAGES`] messages of [`envelope::MESSAGE_BYTES`] to one key exchange.

pub mod base64url;
pub mod envelope;
pub mod rfc9180;

pub use envelope::{Batch, Envelope, Place, TenantKey, open};
pub use rfc9180::{PublicKey, SecretKey};
