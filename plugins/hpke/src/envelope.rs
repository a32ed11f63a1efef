//! A value that was sealed at the edge, byte by byte as `ENVELOPE.md` says. What is read of an envelope is believed only when it is
//! opened.

use std::fmt;

use portcullis_policy::Tenant;
use zeroize::Zeroizing;

use crate::base64url;
use crate::rfc9180::{self, Context, KEY_BYTES, PublicKey, SecretKey, TAG_BYTES};

/// Messages of one key exchange.
pub const MESSAGES: u32 = 256;
/// The longest message that is sealed.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// The longest name of a field, and of a purpose.
pub const FIELD_BYTES: usize = 1024;
/// What the text of an envelope begins with.
pub const MARK: &str = "pcse1.";
/// What the text of a public key begins with.
const KEY_MARK: &str = "pcpk1.";

const VERSION: u8 = 1;
/// HPKE in the suite of [`rfc9180`]. The keyring's envelopes have 1 and 2.
const ALGORITHM: u8 = 3;
const INFO: &[u8] = b"portcullis edge v1";

/// A version of a tenant's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantKey {
    /// Which version: 1 or more.
    pub version: u32,
    /// The key.
    pub public: PublicKey,
}

impl TenantKey {
    /// Reads its text, `pcpk1.VERSION.KEY`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (version, key) = text.strip_prefix(KEY_MARK)?.split_once('.')?;
        let digits = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
        let version = version.parse().ok().filter(|_| digits)?;
        let public = PublicKey(base64url::decode(key)?.try_into().ok()?);
        // A key of low order makes a shared secret that everybody knows.
        SecretKey::derive(KEY_MARK.as_bytes()).exchange(&public)?;
        Some(Self { version, public })
    }
}

impl fmt::Display for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = String::new();
        base64url::append(&mut key, &self.public.0);
        write!(f, "{KEY_MARK}{}.{key}", self.version)
    }
}

/// Where a value belongs: its envelope opens nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// Which field, like `header x-card`.
    pub field: &'a str,
    /// What it is for.
    pub purpose: &'a str,
}

impl Place<'_> {
    /// The envelope's first fields, then each field behind its length in two bytes, so that no two places have the same bytes.
    fn associated(&self, head: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = head.to_vec();
        append(&mut bytes, self.tenant.as_str())?;
        append(&mut bytes, self.field)?;
        append(&mut bytes, self.purpose)?;
        Some(bytes)
    }
}

fn append(bytes: &mut Vec<u8>, text: &str) -> Option<()> {
    let length = u16::try_from(text.len()).ok().filter(|_| text.len() <= FIELD_BYTES)?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Some(())
}

fn info(tenant: &str, version: u32) -> Vec<u8> {
    let mut info = INFO.to_vec();
    // A tenant's name is short.
    let _ = append(&mut info, tenant);
    info.extend_from_slice(&version.to_be_bytes());
    info
}

/// One key exchange with a tenant, for at most [`MESSAGES`] messages.
#[derive(Debug)]
pub struct Batch {
    /// The first fields of its envelopes, `enc` included.
    head: Vec<u8>,
    context: Context,
    next: u32,
}

impl Batch {
    /// Begins one. `seed`: 32 fresh random bytes, fit for a key.
    #[must_use]
    pub fn begin(tenant: &Tenant, key: &TenantKey, seed: &[u8; KEY_BYTES]) -> Option<Self> {
        let name = tenant.as_str();
        let (enc, context) = rfc9180::sender(&key.public, &info(name, key.version), seed)?;
        let mut head = vec![VERSION, ALGORITHM, u8::try_from(name.len()).ok()?];
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&key.version.to_be_bytes());
        head.extend_from_slice(&enc);
        Some(Self { head, context, next: 0 })
    }

    /// Whether it has sealed as much as it may.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.next >= MESSAGES
    }

    /// Seals the next message, as bytes; `None` when it is spent, or the message or a field is too long.
    #[must_use]
    pub fn seal(&mut self, place: &Place<'_>, message: &[u8]) -> Option<Vec<u8>> {
        if self.is_spent() || message.len() > MESSAGE_BYTES {
            return None;
        }
        let number = self.next;
        let mut envelope = self.head.clone();
        envelope.extend_from_slice(&number.to_be_bytes());
        let sealed = self.context.seal(number.into(), &place.associated(&envelope)?, message)?;
        self.next = number.saturating_add(1);
        envelope.extend_from_slice(&sealed);
        Some(envelope)
    }
}

/// An envelope that was taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Whose key it claims to be sealed to.
    pub tenant: &'a str,
    /// The version of that key.
    pub key_version: u32,
    enc: &'a [u8; KEY_BYTES],
    number: u32,
    /// Everything before the ciphertext.
    head: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Takes an envelope apart; `None` when it is not of the shape.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let ([VERSION, ALGORITHM, length], rest) = bytes.split_first_chunk::<3>()? else { return None };
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let tenant = std::str::from_utf8(name).ok().filter(|_| Tenant::names(name))?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (enc, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
        let (number, sealed) = rest.split_first_chunk::<4>()?;
        let (key_version, number) = (u32::from_be_bytes(*version), u32::from_be_bytes(*number));
        let fits = (TAG_BYTES..=MESSAGE_BYTES.saturating_add(TAG_BYTES)).contains(&sealed.len());
        if key_version == 0 || number >= MESSAGES || !fits {
            return None;
        }
        let head = bytes.get(..bytes.len().saturating_sub(sealed.len()))?;
        Some(Self { tenant, key_version, enc, number, head, sealed })
    }

    /// The text form of an envelope.
    #[must_use]
    pub fn to_text(bytes: &[u8]) -> String {
        let mut text = MARK.to_owned();
        base64url::append(&mut text, bytes);
        text
    }

    /// The bytes of the text form.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Vec<u8>> {
        base64url::decode(text.strip_prefix(MARK)?)
    }
}

/// Opens an envelope with the secret key of its version. `None`: it was altered, or belongs elsewhere.
#[must_use]
pub fn open(secret: &SecretKey, envelope: &Envelope<'_>, place: &Place<'_>) -> Option<Zeroizing<Vec<u8>>> {
    if envelope.tenant != place.tenant.as_str() {
        return None;
    }
    let context = rfc9180::receiver(envelope.enc, secret, &info(envelope.tenant, envelope.key_version))?;
    context.open(envelope.number.into(), &place.associated(envelope.head)?, envelope.sealed)
}
