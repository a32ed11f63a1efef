//! SipHash-1-3 (Aumasson and Bernstein, 2012) over 64-bit words.
//!
//! The slot and the entry of a key follow from its hash. With a secret seed nobody outside can choose names that meet
//! in one slot. The standard library's own is without a seed (`DefaultHasher::new`), deprecated (`SipHasher`), or draws
//! randomness from the host (`RandomState`), which some hosts refuse.

/// A hash in the making.
#[derive(Debug, Clone, Copy)]
pub struct Sip13 {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
    words: u64,
}

impl Sip13 {
    /// With a 128-bit key.
    pub const fn new(k0: u64, k1: u64) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
            words: 0,
        }
    }

    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    /// Takes in one word.
    pub const fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
        self.words = self.words.wrapping_add(1);
    }

    /// Takes in a field: its kind and length, then its bytes, the last word padded with zeros. So different lists of
    /// fields are different lists of words.
    pub fn field(&mut self, kind: u8, bytes: &[u8]) {
        self.word((bytes.len() as u64).wrapping_shl(8) | u64::from(kind));
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.word(rest.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)));
        }
    }

    /// The hash.
    pub const fn finish(mut self) -> u64 {
        self.word(self.words.wrapping_mul(8).wrapping_shl(56));
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

/// Spreads what is in all bits over all bits (the finalizer of MurmurHash3, Appleby): for what is secret already.
pub const fn spread(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn agrees_with_the_standard_library_under_its_key() {
        let mut ours = Sip13::new(0, 0);
        let mut theirs = DefaultHasher::new();
        for word in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            ours.word(word);
            theirs.write(&word.to_le_bytes());
            assert_eq!(ours.finish(), theirs.finish());
        }
        ours.field(7, b"three and a half");
        ours.field(8, b"words");
        theirs.write(&(16_u64 << 8 | 7).to_le_bytes());
        theirs.write(b"three and a half");
        theirs.write(&(5_u64 << 8 | 8).to_le_bytes());
        theirs.write(b"words\0\0\0");
        assert_eq!(ours.finish(), theirs.finish());
    }

    #[test]
    fn key_kind_and_borders_matter() {
        let hash = |k0, k1, fields: &[(u8, &[u8])]| {
            let mut sip = Sip13::new(k0, k1);
            fields.iter().for_each(|(kind, bytes)| sip.field(*kind, bytes));
            sip.finish()
        };
        let all = [
            hash(0, 0, &[(1, b"ab"), (2, b"c")]),
            hash(0, 0, &[(1, b"a"), (2, b"bc")]),
            hash(0, 0, &[(1, b"ab"), (3, b"c")]),
            hash(0, 0, &[(1, b"ab\0"), (2, b"c")]),
            hash(0, 0, &[(1, b"ab")]),
            hash(0, 0, &[]),
            hash(1, 0, &[(1, b"ab"), (2, b"c")]),
            hash(0, 1, &[(1, b"ab"), (2, b"c")]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|other| other != one));
        }
    }
}
