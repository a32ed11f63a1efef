//! Signed checkpoints: who vouches for the root of a tree.
//!
//! A checkpoint is written as C2SP `tlog-checkpoint` says (origin, size, root in base64), inside a C2SP `signed-note` with
//! an Ed25519 signature; any tool that speaks these formats reads ours. A key is named by the log's origin; its public
//! half is a "verifier key", `name+hash+base64`, which is what an auditor keeps.
//!
//! Against: whoever can write the log's files but does not have the key. It does not protect from the holder of the key,
//! except against checkpoints that an auditor keeps elsewhere. Limits: a note of 64 KiB, 16 signatures.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::merkle::Hash;

/// The longest note that is read.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
const MAX_SIGNATURES: usize = 16;
/// The signature type of Ed25519 in a signed note.
const ED25519: u8 = 1;

/// Why a note, a key or a checkpoint is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note, or not a checkpoint.
    #[error("not a signed checkpoint (C2SP tlog-checkpoint)")]
    Malformed,
    /// No signature by this key.
    #[error("not signed by this log's key")]
    OtherKey,
    /// A signature by this key that does not hold.
    #[error("its signature does not hold: it was changed after it was signed")]
    Forged,
    /// Not a verifier key.
    #[error("not a verifier key; it reads name+8 hexadecimal digits+base64")]
    MalformedKey,
    /// Not 32 bytes in hexadecimal.
    #[error("a signing key has 64 hexadecimal digits; make one with: openssl rand -hex 32")]
    MalformedSeed,
}

/// The half of a key that signs. Wiped when dropped; prints as `***`.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Signer {
    /// A key from its seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// A key from its seed in hexadecimal.
    ///
    /// # Errors
    /// [`NoteError::MalformedSeed`].
    pub fn from_hex(text: &str) -> Result<Self, NoteError> {
        let text = text.trim();
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoteError::MalformedSeed);
        }
        let mut seed = Zeroizing::new([0_u8; 32]);
        for (place, byte) in seed.iter_mut().enumerate() {
            *byte = text
                .get(place * 2..place * 2 + 2)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or(NoteError::MalformedSeed)?;
        }
        Ok(Self::from_seed(&seed))
    }

    /// The half that verifies, under the name of a log.
    #[must_use]
    pub fn verifier(&self, name: &str) -> Verifier {
        Verifier::new(name, self.key.verifying_key())
    }

    /// Signs a text.
    #[must_use]
    pub fn sign(&self, text: &str) -> [u8; 64] {
        self.key.sign(text.as_bytes()).to_bytes()
    }
}

/// The half of a key that verifies, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    hash: [u8; 4],
    key: VerifyingKey,
}

impl Verifier {
    fn new(name: &str, key: VerifyingKey) -> Self {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', ED25519])
            .chain_update(key.as_bytes())
            .finalize()
            .into();
        let [a, b, c, d, ..] = digest;
        Self { name: name.to_owned(), hash: [a, b, c, d], key }
    }

    /// Reads a verifier key.
    ///
    /// # Errors
    /// [`NoteError::MalformedKey`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::MalformedKey);
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| NoteError::MalformedKey)?;
        let Some((&ED25519, key)) = key.split_first() else { return Err(NoteError::MalformedKey) };
        let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
        let verifier = Self::new(name, key.ok_or(NoteError::MalformedKey)?);
        let given = u32::from_str_radix(hash, 16).map_err(|_| NoteError::MalformedKey)?;
        if name.is_empty() || hash.len() != 8 || given.to_be_bytes() != verifier.hash {
            return Err(NoteError::MalformedKey);
        }
        Ok(verifier)
    }

    /// The name, which is the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature` is this key's over `text`.
    #[must_use]
    pub fn verifies(&self, text: &str, signature: &[u8; 64]) -> bool {
        self.key.verify_strict(text.as_bytes(), &Signature::from_bytes(signature)).is_ok()
    }

    /// `text` and its signature as a signed note.
    #[must_use]
    pub fn note(&self, text: &str, signature: &[u8; 64]) -> String {
        let signature = BASE64_STANDARD.encode([&self.hash[..], signature].concat());
        format!("{text}\n\u{2014} {} {signature}\n", self.name)
    }

    /// The text of a note that this key signed. Other signatures beside ours are ignored, as the format wants it.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::Malformed);
        }
        let end = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (Some(text), Some(lines)) = (note.get(..end + 1), note.get(end + 2..)) else {
            return Err(NoteError::Malformed);
        };
        for line in lines.lines().take(MAX_SIGNATURES) {
            let rest = line.strip_prefix("\u{2014} ").ok_or(NoteError::Malformed)?;
            let (name, signature) = rest.split_once(' ').ok_or(NoteError::Malformed)?;
            let bytes = BASE64_STANDARD.decode(signature).map_err(|_| NoteError::Malformed)?;
            let Some((hash, signature)) = bytes.split_first_chunk::<4>() else {
                return Err(NoteError::Malformed);
            };
            if name != self.name || *hash != self.hash {
                continue;
            }
            let signature: &[u8; 64] = signature.try_into().map_err(|_| NoteError::Malformed)?;
            return if self.verifies(text, signature) { Ok(text) } else { Err(NoteError::Forged) };
        }
        Err(NoteError::OtherKey)
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode([&[ED25519][..], self.key.as_bytes()].concat());
        write!(f, "{}+{:08x}+{key}", self.name, u32::from_be_bytes(self.hash))
    }
}

/// What is vouched for: that the log's first `size` records have this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many records.
    pub size: u64,
    /// Their tree's root.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root.0))
    }

    /// Reads a text. Lines after the third are extensions, and ignored.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Malformed);
        };
        let size: u64 = size.parse().map_err(|_| NoteError::Malformed)?;
        let root = BASE64_STANDARD.decode(root).map_err(|_| NoteError::Malformed)?;
        let root = Hash(root.try_into().map_err(|_| NoteError::Malformed)?);
        let checkpoint = Self { origin: origin.to_owned(), size, root };
        // One text for one meaning: no leading zeros, no other spellings.
        let canonical = !origin.is_empty() && text.starts_with(&checkpoint.text());
        if canonical { Ok(checkpoint) } else { Err(NoteError::Malformed) }
    }

    /// Reads a note, if `verifier` signed it and it is of that log.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(note: &str, verifier: &Verifier) -> Result<Self, NoteError> {
        let checkpoint = Self::parse(verifier.open(note)?)?;
        if checkpoint.origin == verifier.name { Ok(checkpoint) } else { Err(NoteError::OtherKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_of_the_standard_is_read() {
        // From the documentation of Go's golang.org/x/mod/sumdb/note, which defined the format.
        let verifier =
            Verifier::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        assert_eq!(
            verifier.to_string(),
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        );
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let note = format!(
            "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        );
        assert_eq!(verifier.open(&note), Ok(text));
        assert_eq!(verifier.open(&note.replace("think", "thank")), Err(NoteError::Forged));
    }

    #[test]
    fn a_checkpoint_is_opened_by_its_key_alone() {
        let signer = Signer::from_hex(&"07".repeat(32)).unwrap();
        let verifier = signer.verifier("portcullis.audit/1");
        assert_eq!(Verifier::parse(&verifier.to_string()), Ok(verifier.clone()));
        let checkpoint = Checkpoint { origin: "portcullis.audit/1".into(), size: 9, root: Hash::leaf(b"x") };
        let note = verifier.note(&checkpoint.text(), &signer.sign(&checkpoint.text()));
        assert_eq!(Checkpoint::open(&note, &verifier), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::open(&note.replace("\n9\n", "\n8\n"), &verifier), Err(NoteError::Forged));
        let other = Signer::from_hex(&"08".repeat(32)).unwrap().verifier("portcullis.audit/1");
        assert_eq!(Checkpoint::open(&note, &other), Err(NoteError::OtherKey));
        // Ours signed it, but it speaks of another log.
        let foreign = Checkpoint { origin: "other".into(), ..checkpoint };
        let note = verifier.note(&foreign.text(), &signer.sign(&foreign.text()));
        assert_eq!(Checkpoint::open(&note, &verifier), Err(NoteError::OtherKey));
        assert_eq!(format!("{signer:?}"), "***");
    }

    #[test]
    fn other_spellings_are_no_checkpoints() {
        let root = BASE64_STANDARD.encode([0; 32]);
        assert!(Checkpoint::parse(&format!("a\n1\n{root}\nextension\n")).is_ok());
        for bad in [
            String::new(),
            format!("a\n01\n{root}\n"),
            format!("a\n+1\n{root}\n"),
            format!("\n1\n{root}\n"),
            format!("a\n1\n{root}"),
            format!("a\n1\n{}\n", BASE64_STANDARD.encode([0; 31])),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(NoteError::Malformed), "{bad:?}");
        }
        for bad in
            ["", "a", "a+b", "a+00000000+AA==", "a+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
        {
            assert_eq!(Verifier::parse(bad), Err(NoteError::MalformedKey), "{bad}");
        }
        for bad in ["", "0g", &"07".repeat(31), &"+7".repeat(32)] {
            assert_eq!(Signer::from_hex(bad).map(|_| ()), Err(NoteError::MalformedSeed));
        }
    }
}
