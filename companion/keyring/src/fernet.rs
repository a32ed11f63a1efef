//! Fernet tokens are opened, so that their content can be sealed anew; they are never written.
//!
//! Fernet (<https://github.com/fernet/spec/blob/master/Spec.md>) is AES-128-CBC with HMAC-SHA256: it binds no tenant and no place,
//! names no key, and shows the time it was made. The token's age is not checked: a value that is migrated may be old.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::envelope::MAX_PLAINTEXT_BYTES;
use crate::secret::{Key, Plaintext};

const TEXT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const VERSION: u8 = 0x80;

/// A Fernet key: 16 bytes that sign, 16 that encrypt.
#[derive(Debug)]
pub struct FernetKey(Key);

/// Why a token was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FernetError {
    /// The key is not 32 bytes in base64url.
    #[error("a Fernet key is 32 bytes in base64url")]
    Key,
    /// No token.
    #[error("not a Fernet token")]
    Malformed,
    /// None of the keys made it, or it was altered.
    #[error("no key given made this Fernet token, or it was altered")]
    Refused,
}

impl FernetKey {
    /// Reads a key as Fernet writes it.
    ///
    /// # Errors
    /// [`FernetError::Key`].
    pub fn new(text: &str) -> Result<Self, FernetError> {
        let bytes = Zeroizing::new(TEXT.decode(text).map_err(|_| FernetError::Key)?);
        Key::from_slice(&bytes).map(Self).ok_or(FernetError::Key)
    }
}

/// Opens `token` with the first of `keys` that fits.
///
/// # Errors
/// [`FernetError`].
pub fn open_fernet(keys: &[FernetKey], token: &str) -> Result<Plaintext, FernetError> {
    if token.len() > MAX_PLAINTEXT_BYTES.saturating_mul(2) {
        return Err(FernetError::Malformed);
    }
    let token = TEXT.decode(token).map_err(|_| FernetError::Malformed)?;
    let (signed, tag) = token.split_last_chunk::<32>().ok_or(FernetError::Malformed)?;
    let ([version], rest) = signed.split_first_chunk::<1>().ok_or(FernetError::Malformed)?;
    let (_timestamp, rest) = rest.split_first_chunk::<8>().ok_or(FernetError::Malformed)?;
    let (vector, ciphertext) = rest.split_first_chunk::<16>().ok_or(FernetError::Malformed)?;
    if *version != VERSION || ciphertext.is_empty() || ciphertext.len() % 16 != 0 {
        return Err(FernetError::Malformed);
    }
    for key in keys {
        let (signing, encryption) = key.0.expose().split_at(16);
        let mut mac = Hmac::<Sha256>::new_from_slice(signing).map_err(|_| FernetError::Key)?;
        mac.update(signed);
        if mac.verify_slice(tag).is_err() {
            continue;
        }
        let cipher = cbc::Decryptor::<aes::Aes128>::new_from_slices(encryption, vector)
            .map_err(|_| FernetError::Key)?;
        let mut message = Zeroizing::new(ciphertext.to_vec());
        let length = cipher.decrypt_padded::<Pkcs7>(&mut message).map_err(|_| FernetError::Refused)?.len();
        message.truncate(length);
        return Ok(Plaintext::new(std::mem::take(&mut message)));
    }
    Err(FernetError::Refused)
}
