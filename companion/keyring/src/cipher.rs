//! One message under a long-lived key: a one-time key, a commitment, AES-256-GCM.
//!
//! The long-lived key is uniformly random, so HKDF's Expand alone is called for (RFC 5869, 3.3). A one-time key is used for
//! one message, so the nonce may be fixed. The commitment is a second expansion of the same salt: to find two keys that fit one
//! envelope is to find a collision of SHA-256 (256 bits, so no key-collision attack on GCM applies).

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::envelope::{COMMITMENT_BYTES, Envelope, SALT_BYTES, TAG_BYTES};
use crate::error::{Error, Result};
use crate::secret::{Key, Plaintext};

/// What a long-lived key is used for: no one-time key of one use is ever that of another.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    /// Sealing values.
    Seal,
    /// Wrapping tenants' keys.
    Wrap,
}

impl Use {
    /// What HKDF is told: a label of 22 bytes and the salt, for the one-time key and for the commitment. With HKDF's counter
    /// each fills one block of SHA-256, which is why there are two expansions and not one of twice the length.
    fn info(self, salt: &[u8; SALT_BYTES]) -> [[u8; INFO_BYTES]; 2] {
        let labels: [&[u8; LABEL_BYTES]; 2] = match self {
            Self::Seal => [b"portcullis seal v1 key", b"portcullis seal v1 com"],
            Self::Wrap => [b"portcullis wrap v1 key", b"portcullis wrap v1 com"],
        };
        labels.map(|label| {
            let mut info = [0; INFO_BYTES];
            let (front, back) = info.split_at_mut(LABEL_BYTES);
            front.copy_from_slice(label);
            back.copy_from_slice(salt);
            info
        })
    }
}

const LABEL_BYTES: usize = 22;
const INFO_BYTES: usize = LABEL_BYTES + SALT_BYTES;
type OneTimeKey = Zeroizing<[u8; 32]>;

const NONCE: [u8; 12] = [0; 12];

/// Turns `bytes`, which hold the envelope's first fields, into the whole envelope of `message`.
pub(crate) fn seal(
    (key, usage): (&Key, Use),
    salt: &[u8; SALT_BYTES],
    mut bytes: Vec<u8>,
    context: Option<&Context<'_>>,
    message: &[u8],
) -> Result<Vec<u8>> {
    let (one_time, commitment) = expand(key, usage, salt)?;
    let associated = associated(&bytes, context)?;
    bytes.extend_from_slice(salt);
    bytes.extend_from_slice(&commitment);
    let body = bytes.len();
    bytes.extend_from_slice(message);
    let body = bytes.get_mut(body..).ok_or(Error::Primitive)?;
    let tag = Aes256Gcm::new((&*one_time).into())
        .encrypt_inout_detached(&Nonce::from(NONCE), &associated, body.into())
        .map_err(|_| Error::Primitive)?;
    bytes.extend_from_slice(&tag);
    Ok(bytes)
}

/// Opens `envelope`, if it was sealed under `key` for `context`.
pub(crate) fn open(
    (key, usage): (&Key, Use),
    envelope: &Envelope<'_>,
    context: Option<&Context<'_>>,
) -> Result<Plaintext> {
    let (one_time, commitment) = expand(key, usage, envelope.salt)?;
    if !bool::from(commitment.ct_eq(envelope.commitment)) {
        return Err(Error::Refused);
    }
    let associated = associated(envelope.head, context)?;
    let mut message = Plaintext::new(envelope.ciphertext.to_vec());
    Aes256Gcm::new((&*one_time).into())
        .decrypt_inout_detached(
            &Nonce::from(NONCE),
            &associated,
            message.expose_mut().into(),
            &Tag::<_>::from(*envelope.tag),
        )
        .map_err(|_| Error::Refused)?;
    Ok(message)
}

/// The envelope's first fields, and where it belongs. Salt and commitment need not be in it: the key depends on them.
fn associated(head: &[u8], context: Option<&Context<'_>>) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(head.len().saturating_add(192));
    bytes.extend_from_slice(head);
    context.map_or(Ok(()), |context| context.append_to(&mut bytes))?;
    Ok(bytes)
}

/// The bytes an envelope has beside its first fields and the message.
pub(crate) const OVERHEAD: usize = SALT_BYTES + COMMITMENT_BYTES + TAG_BYTES;

fn expand(key: &Key, usage: Use, salt: &[u8; SALT_BYTES]) -> Result<(OneTimeKey, [u8; COMMITMENT_BYTES])> {
    let hkdf = Hkdf::<Sha256>::from_prk(key.expose()).map_err(|_| Error::Primitive)?;
    let [key_info, commitment_info] = usage.info(salt);
    let (mut one_time, mut commitment) = (Zeroizing::new([0_u8; 32]), [0_u8; COMMITMENT_BYTES]);
    hkdf.expand(&key_info, one_time.as_mut_slice()).map_err(|_| Error::Primitive)?;
    hkdf.expand(&commitment_info, &mut commitment).map_err(|_| Error::Primitive)?;
    Ok((one_time, commitment))
}

/// HKDF-Expand with SHA-256 of a uniformly random key.
pub(crate) fn derive(key: &Key, info: &[&[u8]], output: &mut [u8]) -> Result<()> {
    let hkdf = Hkdf::<Sha256>::from_prk(key.expose()).map_err(|_| Error::Primitive)?;
    hkdf.expand_multi_info(info, output).map_err(|_| Error::Primitive)
}
