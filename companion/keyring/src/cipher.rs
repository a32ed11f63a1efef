//! One message under a long-lived key: a one-time key, a commitment, AES-256-GCM.
//!
//! The long-lived key is uniformly random, so HKDF's Expand alone is called for (RFC 5869, 3.3). A one-time key is used for
//! one message, so the nonce may be fixed. The commitment is a second expansion of the same salt: to find two keys that fit one
//! envelope is to find a collision of SHA-256 (256 bits, so no key-collision attack on GCM applies).

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::envelope::{COMMITMENT_BYTES, Envelope, SALT_BYTES, TAG_BYTES};
use crate::error::{Error, Result};
use crate::prk::Prk;
use crate::secret::Plaintext;

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

const NONCE: [u8; 12] = [0; 12];

/// Turns `bytes`, which hold the envelope's first fields, into the whole envelope of `message`.
///
/// What is authenticated besides stands behind the message for as long as that takes: memory is asked for once.
pub(crate) fn seal(
    (prk, usage): (&Prk, Use),
    salt: &[u8; SALT_BYTES],
    mut bytes: Vec<u8>,
    context: Option<&Context<'_>>,
    message: &[u8],
) -> Result<Vec<u8>> {
    let [one_time, commitment] = expand(prk, usage, salt);
    let head = bytes.len();
    bytes.reserve_exact(room(head, context, message).saturating_sub(head));
    bytes.extend_from_slice(salt);
    bytes.extend_from_slice(commitment.as_slice());
    let body = bytes.len();
    bytes.extend_from_slice(message);
    let end = bytes.len();
    bytes.extend_from_within(..head);
    context.map_or(Ok(()), |context| context.append_to(&mut bytes))?;
    let (sealed, associated) = bytes.split_at_mut_checked(end).ok_or(Error::Primitive)?;
    let tag = Aes256Gcm::new((&*one_time).into())
        .encrypt_inout_detached(
            &Nonce::from(NONCE),
            associated,
            sealed.get_mut(body..).ok_or(Error::Primitive)?.into(),
        )
        .map_err(|_| Error::Primitive)?;
    bytes.truncate(end);
    bytes.extend_from_slice(&tag);
    Ok(bytes)
}

/// Opens `envelope`, if it was sealed under `key` for `context`.
pub(crate) fn open(
    (prk, usage): (&Prk, Use),
    envelope: &Envelope<'_>,
    context: Option<&Context<'_>>,
) -> Result<Plaintext> {
    let [one_time, commitment] = expand(prk, usage, envelope.salt);
    if !bool::from(commitment.ct_eq(envelope.commitment)) {
        return Err(Error::Refused);
    }
    let end = envelope.ciphertext.len();
    let mut bytes = Vec::with_capacity(end.saturating_add(associated_bytes(envelope.head.len(), context)));
    bytes.extend_from_slice(envelope.ciphertext);
    bytes.extend_from_slice(envelope.head);
    context.map_or(Ok(()), |context| context.append_to(&mut bytes))?;
    let mut message = Plaintext::new(bytes);
    let (body, associated) = message.expose_mut().split_at_mut_checked(end).ok_or(Error::Primitive)?;
    Aes256Gcm::new((&*one_time).into())
        .decrypt_inout_detached(&Nonce::from(NONCE), associated, body.into(), &Tag::<_>::from(*envelope.tag))
        .map_err(|_| Error::Refused)?;
    message.truncate(end);
    Ok(message)
}

/// Bytes that are authenticated and not encrypted: the envelope's first fields, and where it belongs. Salt and commitment need
/// not be among them: the key depends on them.
fn associated_bytes(head: usize, context: Option<&Context<'_>>) -> usize {
    head.saturating_add(context.map_or(0, Context::bytes))
}

/// What sealing a message needs, with so many bytes of first fields.
pub(crate) fn room(head: usize, context: Option<&Context<'_>>, message: &[u8]) -> usize {
    let parts = [head, OVERHEAD, message.len(), associated_bytes(head, context)];
    parts.into_iter().fold(0, usize::saturating_add)
}

/// The bytes an envelope has beside its first fields and the message.
const OVERHEAD: usize = SALT_BYTES + COMMITMENT_BYTES + TAG_BYTES;

/// The one-time key and the commitment.
fn expand(prk: &Prk, usage: Use, salt: &[u8; SALT_BYTES]) -> [Zeroizing<[u8; 32]>; 2] {
    let [key, commitment] = usage.info(salt);
    prk.expand([key.as_slice(), commitment.as_slice()])
}
