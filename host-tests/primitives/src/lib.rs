//! The primitives that keyring and module rest on, against published vectors: Project Wycheproof
//! (<https://github.com/C2SP/wycheproof>), whose cases are those on which implementations have failed, and RFC 9180.
//!
//! A library, so that the same checks run in a native test and, built as a WebAssembly module, under wasmtime: code for 32 bits is
//! other code. Those cases count that our use can meet; which are left out is said at each.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, Key, KeyInit, KeySizeUser, Nonce, Tag};
use chacha20poly1305::ChaCha20Poly1305;
use hkdf::Hkdf;
use portcullis_hpke::rfc9180;
use portcullis_hpke::{PublicKey, SecretKey};
use serde_json::Value;
use sha2::Sha256;
use wycheproof::{TestResult, aead, hkdf as hkdf_cases, xdh};

const RFC_9180: &str = include_str!("rfc9180.json");

/// How a set of vectors was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which set.
    pub name: &'static str,
    /// Cases that were met.
    pub passed: usize,
    /// Those that were not, by number and comment.
    pub failed: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} passed, {} failed", self.name, self.passed, self.failed.len())?;
        self.failed.iter().take(10).try_for_each(|case| write!(f, "\n  {case}"))
    }
}

/// All sets.
///
/// # Errors
/// A set that cannot be read.
pub fn all() -> Result<Vec<Outcome>, String> {
    Ok(vec![
        aead_cases::<Aes256Gcm>("Wycheproof AES-256-GCM", aead::TestName::AesGcm)?,
        aead_cases::<ChaCha20Poly1305>("Wycheproof ChaCha20-Poly1305", aead::TestName::ChaCha20Poly1305)?,
        hkdf_sha_256()?,
        x25519()?,
        hpke()?,
    ])
}

impl Outcome {
    fn new(name: &'static str) -> Self {
        Self { name, passed: 0, failed: Vec::new() }
    }

    fn note(&mut self, met: bool, case: impl fmt::Display) {
        if met {
            self.passed = self.passed.saturating_add(1);
        } else {
            self.failed.push(case.to_string());
        }
    }
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Keys of 256 bits, nonces of 96 and whole tags: a type takes no others.
fn aead_cases<A>(name: &'static str, set: aead::TestName) -> Result<Outcome, String>
where
    A: KeyInit + KeySizeUser + AeadInOut,
{
    let set = aead::TestSet::load(set).map_err(said)?;
    let mut outcome = Outcome::new(name);
    let groups = set.test_groups.iter();
    for group in groups.filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128)) {
        for test in &group.tests {
            let meets = || {
                let cipher = A::new(&Key::<A>::try_from(&test.key[..]).ok()?);
                let nonce = Nonce::<A>::try_from(&test.nonce[..]).ok()?;
                let tag = Tag::<A>::try_from(&test.tag[..]).ok()?;
                let mut sealed = test.pt.to_vec();
                let made =
                    cipher.encrypt_inout_detached(&nonce, &test.aad, sealed.as_mut_slice().into()).ok()?;
                let matches = sealed[..] == test.ct[..] && made[..] == test.tag[..];
                let mut opened = test.ct.to_vec();
                let accepted = cipher
                    .decrypt_inout_detached(&nonce, &test.aad, opened.as_mut_slice().into(), &tag)
                    .is_ok();
                Some(match test.result {
                    TestResult::Invalid => !matches && !accepted,
                    TestResult::Valid | TestResult::Acceptable => {
                        matches && accepted && opened[..] == test.pt[..]
                    }
                })
            };
            outcome.note(meets() == Some(true), format_args!("{}: {}", test.tc_id, test.comment));
        }
    }
    Ok(outcome)
}

fn hkdf_sha_256() -> Result<Outcome, String> {
    let set = hkdf_cases::TestSet::load(hkdf_cases::TestName::HkdfSha256).map_err(said)?;
    let mut outcome = Outcome::new("Wycheproof HKDF-SHA-256");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut made = vec![0; test.size];
        let done = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut made);
        let met = match test.result {
            TestResult::Invalid => done.is_err(),
            TestResult::Valid | TestResult::Acceptable => done.is_ok() && made[..] == test.okm[..],
        };
        outcome.note(met, format_args!("{}: {}", test.tc_id, test.comment));
    }
    Ok(outcome)
}

/// A shared secret of zero is refused, as RFC 9180 (7.1.4) asks for; every other acceptable case is met like a valid one.
fn x25519() -> Result<Outcome, String> {
    let set = xdh::TestSet::load(xdh::TestName::X25519).map_err(said)?;
    let mut outcome = Outcome::new("Wycheproof X25519");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let keys = (<[u8; 32]>::try_from(&test.private_key[..]), <[u8; 32]>::try_from(&test.public_key[..]));
        let made = match keys {
            (Ok(private), Ok(public)) => SecretKey::from_bytes(&private).exchange(&PublicKey(public)),
            // A key of another length is none.
            _ => None,
        };
        let zero = test.shared_secret.iter().all(|byte| *byte == 0);
        let met = match (made, test.result) {
            (None, TestResult::Invalid) => true,
            (None, _) => zero || test.public_key.len() != 32,
            (Some(made), TestResult::Valid | TestResult::Acceptable) => made[..] == test.shared_secret[..],
            (Some(_), TestResult::Invalid) => false,
        };
        outcome.note(met, format_args!("{}: {}", test.tc_id, test.comment));
    }
    Ok(outcome)
}

fn bytes(value: &Value, name: &str) -> Result<Vec<u8>, String> {
    let text = value.get(name).and_then(Value::as_str).ok_or_else(|| format!("no {name}"))?;
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

fn key(value: &Value, name: &str) -> Result<[u8; 32], String> {
    bytes(value, name)?.try_into().map_err(|_| format!("{name} is no key"))
}

/// Base mode of our suite: the key pairs, and every message sealed by its sender and opened by its receiver.
fn hpke() -> Result<Outcome, String> {
    let vectors: Value = serde_json::from_str(RFC_9180).map_err(said)?;
    let mut outcome = Outcome::new("RFC 9180 DHKEM(X25519), HKDF-SHA-256, ChaCha20-Poly1305, base mode");
    let (info, receiver) = (bytes(&vectors, "info")?, SecretKey::derive(&bytes(&vectors, "ikmR")?));
    let public = key(&vectors, "pkRm")?;
    outcome.note(receiver.public().0 == public, "DeriveKeyPair");
    let given = SecretKey::from_bytes(&key(&vectors, "skRm")?);
    outcome.note(given.public().0 == public, "skRm");
    let (enc, sends) =
        rfc9180::sender(&PublicKey(public), &info, &key(&vectors, "ikmE")?).ok_or("no sender")?;
    outcome.note(enc == key(&vectors, "enc")?, "enc");
    let receives = rfc9180::receiver(&enc, &receiver, &info).ok_or("no receiver")?;
    for message in vectors.get("encryptions").and_then(Value::as_array).into_iter().flatten() {
        let number = message.get("sequence").and_then(Value::as_u64).ok_or("no sequence")?;
        let (plain, aad, sealed) = (bytes(message, "pt")?, bytes(message, "aad")?, bytes(message, "ct")?);
        outcome.note(
            sends.seal(number, &aad, &plain).as_ref() == Some(&sealed),
            format_args!("sealing {number}"),
        );
        let opened = receives.open(number, &aad, &sealed);
        outcome.note(opened.is_some_and(|opened| *opened == plain), format_args!("opening {number}"));
        let other = receives.open(number.wrapping_add(1), &aad, &sealed);
        outcome.note(other.is_none(), format_args!("opening {number} as another"));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_vector_is_met() {
        let outcomes = super::all().unwrap();
        let counts: Vec<usize> = outcomes.iter().map(|outcome| outcome.passed).collect();
        for outcome in &outcomes {
            println!("{outcome}");
            assert!(outcome.failed.is_empty(), "{outcome}");
        }
        for (count, least) in counts.iter().zip([60, 300, 80, 500, 20]) {
            assert!(*count >= least, "{counts:?}: too few to prove anything");
        }
    }
}
