//! The bytes of an envelope, as `ENVELOPE.md` says. Nothing in here is secret, and nothing in here is believed: what is
//! read is authenticated when the envelope is opened.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_policy::Tenant;

use crate::error::{Error, Malformed, Result};

/// The longest message that is sealed.
pub const MAX_PLAINTEXT_BYTES: usize = 16 << 20;

pub(crate) const VERSION: u8 = 1;
/// AES-256-GCM under a one-time key by HKDF-SHA256, with a commitment.
pub(crate) const SEALED: u8 = 1;
/// The same under a root key: a tenant's key, wrapped.
pub(crate) const WRAPPED: u8 = 2;
pub(crate) const SALT_BYTES: usize = 32;
pub(crate) const COMMITMENT_BYTES: usize = 32;
pub(crate) const TAG_BYTES: usize = 16;
/// Version, algorithm, the tenant's length and the key version: what stands before the salt, without the tenant.
pub(crate) const FIRST_BYTES: usize = 7;
/// Version, algorithm, the tenant's length, a tenant of fifty, key version, root key's name, salt, commitment, tag.
const MAX_OVERHEAD: usize = 3 + 50 + 4 + 8 + SALT_BYTES + COMMITMENT_BYTES + TAG_BYTES;

/// An envelope that was taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    tenant: &'a str,
    key_version: u32,
    pub(crate) salt: &'a [u8; SALT_BYTES],
    pub(crate) commitment: &'a [u8; COMMITMENT_BYTES],
    /// Everything before the salt.
    pub(crate) head: &'a [u8],
    pub(crate) ciphertext: &'a [u8],
    pub(crate) tag: &'a [u8; TAG_BYTES],
}

impl<'a> Envelope<'a> {
    /// Takes an envelope apart.
    ///
    /// # Errors
    /// What is not as the format says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > MAX_PLAINTEXT_BYTES.saturating_add(MAX_OVERHEAD) {
            return Err(Malformed::Long.into());
        }
        let mut reader = Reader(bytes);
        reader.header(SEALED)?;
        let (tenant, key_version) = reader.key_name()?;
        if key_version == 0 {
            return Err(Malformed::KeyVersion.into());
        }
        reader.rest(bytes, tenant, key_version).map_err(Error::from)
    }

    /// Takes a wrapped key apart: the name of its root key, and the rest.
    pub(crate) fn parse_wrapped(bytes: &'a [u8]) -> std::result::Result<(&'a [u8; 8], Self), Malformed> {
        let mut reader = Reader(bytes);
        reader.header(WRAPPED)?;
        let root = reader.take::<8>()?;
        let (tenant, key_version) = reader.key_name()?;
        Ok((root, reader.rest(bytes, tenant, key_version)?))
    }

    /// Whose key it claims to be sealed under.
    #[must_use]
    pub const fn tenant(&self) -> &'a str {
        self.tenant
    }

    /// The version of that key.
    #[must_use]
    pub const fn key_version(&self) -> u32 {
        self.key_version
    }

    /// The text form of an envelope: base64 with the standard alphabet and padding.
    #[must_use]
    pub fn to_text(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    /// The bytes of the text form.
    ///
    /// # Errors
    /// When it is not base64.
    pub fn from_text(text: &str) -> Result<Vec<u8>> {
        STANDARD.decode(text).map_err(|_| Malformed::Text.into())
    }
}

/// Appends version, algorithm, and for a wrapped key its root key's name.
pub(crate) fn begin(
    bytes: &mut Vec<u8>,
    tenant: &Tenant,
    key_version: u32,
    root: Option<&[u8; 8]>,
) -> Result<()> {
    bytes.extend_from_slice(&[VERSION, if root.is_some() { WRAPPED } else { SEALED }]);
    bytes.extend_from_slice(root.map_or(&[][..], |root| root));
    let length = u8::try_from(tenant.as_str().len()).map_err(|_| Malformed::Tenant)?;
    bytes.push(length);
    bytes.extend_from_slice(tenant.as_str().as_bytes());
    bytes.extend_from_slice(&key_version.to_be_bytes());
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> std::result::Result<&'a [u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn header(&mut self, algorithm: u8) -> std::result::Result<(), Malformed> {
        let [version, found] = *self.take::<2>()?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        if found == algorithm { Ok(()) } else { Err(Malformed::Algorithm(found)) }
    }

    fn key_name(&mut self) -> std::result::Result<(&'a str, u32), Malformed> {
        let [length] = *self.take::<1>()?;
        let (name, rest) = self.0.split_at_checked(usize::from(length)).ok_or(Malformed::Short)?;
        self.0 = rest;
        let name = std::str::from_utf8(name).map_err(|_| Malformed::Tenant)?;
        if !Tenant::names(name.as_bytes()) {
            return Err(Malformed::Tenant);
        }
        Ok((name, u32::from_be_bytes(*self.take::<4>()?)))
    }

    fn rest(
        mut self,
        whole: &'a [u8],
        tenant: &'a str,
        key_version: u32,
    ) -> std::result::Result<Envelope<'a>, Malformed> {
        let head = whole.get(..whole.len().saturating_sub(self.0.len())).ok_or(Malformed::Short)?;
        let (salt, commitment) = (self.take()?, self.take()?);
        let (ciphertext, tag) = self.0.split_last_chunk::<TAG_BYTES>().ok_or(Malformed::Short)?;
        Ok(Envelope { tenant, key_version, salt, commitment, head, ciphertext, tag })
    }
}
