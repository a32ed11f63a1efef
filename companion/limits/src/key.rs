//! What a limit is kept under: 128 bits of a keyed hash over tenant, rule and subject.
//!
//! The secret is random and belongs to the state, so that nobody can choose names that meet. Two keys that meet all the
//! same (one chance in 2^64 among four thousand million) share a quota: too few requests pass, never too many.

use std::hash::Hasher as _;

use siphasher::sip128::{Hash128, Hasher128 as _, SipHasher13};

/// The most bytes of a name's parts. Longer: refused.
pub const TENANT_BYTES: usize = 50;
/// See [`TENANT_BYTES`].
pub const RULE_BYTES: usize = 64;
/// See [`TENANT_BYTES`].
pub const SUBJECT_BYTES: usize = 256;

const LENGTHS_BYTES: usize = 8;
/// What is hashed of the longest name.
const NAME_BYTES: usize = LENGTHS_BYTES + TENANT_BYTES + RULE_BYTES + SUBJECT_BYTES;

/// Random bits that keys are hashed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A key's hash; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Chooses the shard and the set.
    pub place: u64,
    /// Tells keys of one place apart.
    pub tag: u64,
}

/// Whose limit, which, and for whom, as texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The tenant; `*` for a limit that all share.
    pub tenant: &'a str,
    /// The rule.
    pub rule: &'a str,
    /// For whom, as `user=alice`; empty for the tenant as a whole.
    pub subject: &'a str,
}

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// See the text.
    #[error("tenant must be 1 to 50 visible ASCII characters")]
    Tenant,
    /// See the text.
    #[error("rule must be 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`")]
    Rule,
    /// See the text.
    #[error("subject must be at most 256 bytes without control characters")]
    Subject,
}

impl<'a> Name<'a> {
    /// Checks the texts.
    ///
    /// # Errors
    /// [`NameError`] tells what each must be.
    pub fn new(tenant: &'a str, rule: &'a str, subject: &'a str) -> Result<Self, NameError> {
        let sized = |text: &str, most| (1..=most).contains(&text.len());
        if !sized(tenant, TENANT_BYTES) || !tenant.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NameError::Tenant);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !sized(rule, RULE_BYTES) || !rule.bytes().all(plain) {
            return Err(NameError::Rule);
        }
        if subject.len() > SUBJECT_BYTES || subject.chars().any(char::is_control) {
            return Err(NameError::Subject);
        }
        Ok(Self { tenant, rule, subject })
    }

    /// The key under `secret`. Each part's length goes first, so that no two names share their bytes.
    #[must_use]
    pub fn key(&self, secret: &Secret) -> Key {
        let parts = [self.tenant, self.rule, self.subject];
        let lengths = parts
            .map(|part| u16::try_from(part.len()).unwrap_or(u16::MAX))
            .iter()
            .fold(0_u64, |all, length| all << 16 | u64::from(*length));
        // In one piece: to feed a hash bit by bit takes longer than the hash.
        let mut bytes = [0_u8; NAME_BYTES];
        let (hash, mut at) = (SipHasher13::new_with_key(&secret.0), LENGTHS_BYTES);
        let mut put = |start: usize, part: &[u8]| {
            let place = bytes.get_mut(start..start.saturating_add(part.len()));
            place.map(|place| place.copy_from_slice(part)).is_some()
        };
        let mut whole = put(0, &lengths.to_le_bytes());
        for part in parts {
            whole &= put(at, part.as_bytes());
            at = at.saturating_add(part.len());
        }
        let hash = match bytes.get(..at).filter(|_| whole) {
            Some(bytes) => hash.hash(bytes),
            None => in_pieces(hash, lengths, parts),
        };
        Key { place: hash.h1, tag: hash.h2.max(1) }
    }
}

/// The same of parts that [`Name::new`] has not seen, however long they are.
#[cold]
fn in_pieces(mut hash: SipHasher13, lengths: u64, parts: [&str; 3]) -> Hash128 {
    hash.write(&lengths.to_le_bytes());
    for part in parts {
        hash.write(part.as_bytes());
    }
    hash.finish128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_run_together() {
        let secret = Secret([7; 16]);
        let key = |tenant, rule, subject| Name::new(tenant, rule, subject).unwrap().key(&secret);
        assert_eq!(key("acme", "login", "user=a"), key("acme", "login", "user=a"));
        assert_ne!(key("acme", "login", ""), key("acm", "elogin", ""));
        assert_ne!(key("a", "b", "c"), key("a", "bc", ""));
        let other = Secret([8; 16]);
        assert_ne!(key("a", "b", "c"), Name::new("a", "b", "c").unwrap().key(&other));
    }

    #[test]
    fn in_one_piece_or_in_several_it_is_the_same_key() {
        let secret = Secret([7; 16]);
        let longest = ("t".repeat(TENANT_BYTES), "r".repeat(RULE_BYTES), "s".repeat(SUBJECT_BYTES));
        let too_long = "s".repeat(SUBJECT_BYTES + 1);
        for (tenant, rule, subject) in [
            ("acme", "login", "user=alice"),
            ("a", "b", ""),
            (&longest.0, &longest.1, &longest.2),
            (&longest.0, &longest.1, &too_long),
        ] {
            let lengths = [tenant, rule, subject].map(|part| part.len() as u64);
            let lengths = lengths[0] << 32 | lengths[1] << 16 | lengths[2];
            let hash = in_pieces(SipHasher13::new_with_key(&secret.0), lengths, [tenant, rule, subject]);
            let key = Name { tenant, rule, subject }.key(&secret);
            assert_eq!(key, Key { place: hash.h1, tag: hash.h2.max(1) });
        }
        // Journals hold keys: what a name's key is stays for ever.
        let known = Name { tenant: "acme", rule: "login", subject: "user=alice" }.key(&secret);
        assert_eq!(known, Key { place: 648_507_610_996_212_419, tag: 11_502_997_230_785_239_903 });
    }

    #[test]
    fn malformed_names_are_told() {
        let long = "a".repeat(300);
        for (tenant, rule, subject, error) in [
            ("", "r", "", NameError::Tenant),
            ("a b", "r", "", NameError::Tenant),
            (&long, "r", "", NameError::Tenant),
            ("a", "", "", NameError::Rule),
            ("a", "r/", "", NameError::Rule),
            ("a", "r", "user=\n", NameError::Subject),
            ("a", "r", &long, NameError::Subject),
        ] {
            assert_eq!(Name::new(tenant, rule, subject), Err(error), "{tenant} {rule} {subject}");
        }
        assert!(Name::new("*", "r.x_y-Z", "user=zoë").is_ok());
    }
}
