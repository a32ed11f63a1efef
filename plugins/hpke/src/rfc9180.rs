//! RFC 9180, base mode, of DHKEM(X25519, HKDF-SHA256) (0x0020), HKDF-SHA256 (0x0001) and ChaCha20-Poly1305 (0x0003).
//!
//! A context opens any of its messages by its number, because requests arrive in any order: that is the RFC's own computation of a
//! nonce, without the counter that most libraries wrap around it. Exports, other modes and other suites are left out.

use std::fmt;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use curve25519_dalek::constants::X25519_BASEPOINT;
use curve25519_dalek::montgomery::MontgomeryPoint;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of keys, of `enc`, and of what HKDF extracts.
pub const KEY_BYTES: usize = 32;
/// Bytes that a message grows by.
pub const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

const KEM: [u8; 5] = *b"KEM\0\x20";
const SUITE: [u8; 10] = *b"HPKE\0\x20\0\x01\0\x03";

type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// A public key of X25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; KEY_BYTES]);

/// A secret key of X25519.
pub struct SecretKey(Secret);

impl SecretKey {
    /// Derives a key pair from at least 32 secret bytes (`DeriveKeyPair`, 7.1.3).
    #[must_use]
    pub fn derive(material: &[u8]) -> Self {
        let prk = labeled_extract(&KEM, &[], "dkp_prk", material);
        Self(labeled_expand(&KEM, &prk, "sk", &[]))
    }

    /// The key of those bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// What may be known to everybody.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(X25519_BASEPOINT.mul_clamped(*self.0).to_bytes())
    }

    /// The shared secret of X25519 (RFC 7748, 6.1); `None` when it is zero, which a public key of low order makes it.
    #[must_use]
    pub fn exchange(&self, public: &PublicKey) -> Option<Secret> {
        let shared = Zeroizing::new(MontgomeryPoint(public.0).mul_clamped(*self.0).to_bytes());
        let any = shared.iter().fold(0, |any, byte| any | byte);
        (any != 0).then_some(shared)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What sender and receiver share: numbered messages are sealed and opened with it.
pub struct Context {
    key: Secret,
    base_nonce: [u8; NONCE_BYTES],
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `SetupBaseS`: what the receiver must be sent, and the context. `seed`: 32 fresh random bytes, fit for a key. `None`: the public key
/// is none.
#[must_use]
pub fn sender(public: &PublicKey, info: &[u8], seed: &[u8; KEY_BYTES]) -> Option<([u8; KEY_BYTES], Context)> {
    let ephemeral = SecretKey::derive(seed);
    let enc = ephemeral.public().0;
    let shared = shared_secret(&ephemeral.exchange(public)?, &enc, public);
    Some((enc, schedule(&shared, info)))
}

/// `SetupBaseR`: the context of a sender that sent `enc`. `None`: nobody has.
#[must_use]
pub fn receiver(enc: &[u8; KEY_BYTES], secret: &SecretKey, info: &[u8]) -> Option<Context> {
    let dh = secret.exchange(&PublicKey(*enc))?;
    Some(schedule(&shared_secret(&dh, enc, &secret.public()), info))
}

impl Context {
    /// Seals the message of that number. No number is used twice: whoever calls counts.
    #[must_use]
    pub fn seal(&self, number: u64, aad: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(message.len().saturating_add(TAG_BYTES));
        sealed.extend_from_slice(message);
        let tag =
            self.cipher().encrypt_inout_detached(&self.nonce(number), aad, sealed.as_mut_slice().into());
        sealed.extend_from_slice(&tag.ok()?);
        Some(sealed)
    }

    /// Opens the message of that number. `None`: it was altered, or is another's.
    #[must_use]
    pub fn open(&self, number: u64, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let mut message = Zeroizing::new(body.to_vec());
        let tag = Tag::from(*tag);
        let bytes = message.as_mut_slice();
        self.cipher().decrypt_inout_detached(&self.nonce(number), aad, bytes.into(), &tag).ok()?;
        Some(message)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.key).into())
    }

    /// `ComputeNonce` (5.2).
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.base_nonce;
        nonce.iter_mut().rev().zip(number.to_be_bytes().iter().rev()).for_each(|(to, from)| *to ^= from);
        Nonce::from(nonce)
    }
}

/// `ExtractAndExpand` (4.1).
fn shared_secret(dh: &Secret, enc: &[u8; KEY_BYTES], receiver: &PublicKey) -> Secret {
    let prk = labeled_extract(&KEM, &[], "eae_prk", dh.as_slice());
    labeled_expand(&KEM, &prk, "shared_secret", &[*enc, receiver.0].concat())
}

/// `KeySchedule` (5.1) without a pre-shared key.
fn schedule(shared: &Secret, info: &[u8]) -> Context {
    let psk_id = labeled_extract(&SUITE, &[], "psk_id_hash", &[]);
    let info = labeled_extract(&SUITE, &[], "info_hash", info);
    let bound = [&[0][..], psk_id.as_slice(), info.as_slice()].concat();
    let secret = labeled_extract(&SUITE, shared.as_slice(), "secret", &[]);
    Context {
        key: labeled_expand(&SUITE, &secret, "key", &bound),
        base_nonce: *labeled_expand::<NONCE_BYTES>(&SUITE, &secret, "base_nonce", &bound),
    }
}

fn labeled_extract(suite: &[u8], salt: &[u8], label: &str, material: &[u8]) -> Secret {
    let material = Zeroizing::new([b"HPKE-v1", suite, label.as_bytes(), material].concat());
    let mut prk = Zeroizing::new([0; KEY_BYTES]);
    prk.copy_from_slice(&Hkdf::<Sha256>::extract(Some(salt), &material).0);
    prk
}

fn labeled_expand<const N: usize>(
    suite: &[u8],
    prk: &Secret,
    label: &str,
    info: &[u8],
) -> Zeroizing<[u8; N]> {
    let mut output = Zeroizing::new([0; N]);
    let length = u16::try_from(N).unwrap_or(0).to_be_bytes();
    let info = [&length[..], b"HPKE-v1", suite, label.as_bytes(), info].concat();
    // HKDF refuses a key of less than 32 bytes and outputs of more than 8160.
    if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(prk.as_slice()) {
        let _ = hkdf.expand(&info, output.as_mut_slice());
    }
    output
}
