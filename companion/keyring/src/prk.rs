//! HKDF-Expand with SHA-256 (RFC 5869, 2.3) of keys that expand many times.
//!
//! HMAC begins with two blocks that depend on the key alone. They are hashed once, when a key is unwrapped, and what is kept of
//! the key is the two states that they leave: they do all that the key does, and are as secret. The compression function is
//! the `sha2` crate's, with the processor's instructions where it has them; only the padding is written here, and held
//! to the `hkdf` crate.

use std::fmt;

use sha2::block_api::compress256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::Key;

/// SHA-256's state before its first block.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const BLOCK_BYTES: usize = 64;
/// Where a last block says how long the message is.
const LENGTH_AT: usize = BLOCK_BYTES - 8;
const PAD_INNER: u8 = 0x36;
const PAD_OUTER: u8 = 0x5c;

/// SHA-256 after one block: of the inner hash, and of the outer.
pub(crate) type States = Zeroizing<[[u32; 8]; 2]>;

/// A uniformly random key that others are derived from. Stands on the heap, so that moving it leaves no copy behind.
pub(crate) struct Prk(Box<States>);

impl Prk {
    /// Of `key`, which is not needed any more then.
    pub(crate) fn new(key: &Key) -> Self {
        let mut prk = Self::from_states(&Zeroizing::new([INITIAL; 2]));
        for (state, pad) in prk.0.iter_mut().zip([PAD_INNER, PAD_OUTER]) {
            let mut block = Zeroizing::new([pad; BLOCK_BYTES]);
            block.iter_mut().zip(key.expose()).for_each(|(byte, key)| *byte ^= key);
            compress256(state, std::slice::from_ref(&*block));
        }
        prk
    }

    /// One that stood elsewhere.
    pub(crate) fn from_states(states: &States) -> Self {
        Self(Box::new(Zeroizing::new(**states)))
    }

    /// To be kept elsewhere.
    pub(crate) fn states(&self) -> &States {
        &self.0
    }

    /// The first 32 bytes of HKDF-Expand for each of some infos. They are computed side by side, so that the processor can
    /// overlap them.
    pub(crate) fn expand<const N: usize>(&self, infos: [&[u8]; N]) -> [Zeroizing<[u8; 32]>; N] {
        let [inner, outer] = &**self.0;
        infos.map(|info| after(inner, [info, &[1]])).map(|digest| after(outer, [digest.as_slice(), &[]]))
    }
}

/// The SHA-256 of a block that left `state`, and of what follows.
fn after(state: &[u32; 8], parts: [&[u8]; 2]) -> Zeroizing<[u8; 32]> {
    let mut state = Zeroizing::new(*state);
    // Not wiped: a message is no secret, and the inner digest none without the outer state.
    let (mut block, mut at, mut bytes) = ([0; BLOCK_BYTES], 0, BLOCK_BYTES as u64);
    for mut part in parts {
        bytes = bytes.saturating_add(part.len() as u64);
        while let Some((taken, rest)) = part.split_at_checked(part.len().min(BLOCK_BYTES - at)) {
            if let Some(place) = block.get_mut(at..at + taken.len()) {
                place.copy_from_slice(taken);
            }
            (at, part) = (at + taken.len(), rest);
            if at < BLOCK_BYTES {
                break;
            }
            compress256(&mut state, std::slice::from_ref(&block));
            (block, at) = ([0; BLOCK_BYTES], 0);
        }
    }
    // A one behind the message, zeros, and in the last eight bytes its length in bits.
    if let Some(byte) = block.get_mut(at) {
        *byte = 0x80;
    }
    if at >= LENGTH_AT {
        compress256(&mut state, std::slice::from_ref(&block));
        block = [0; BLOCK_BYTES];
    }
    if let Some(length) = block.last_chunk_mut() {
        *length = bytes.saturating_mul(8).to_be_bytes();
    }
    compress256(&mut state, std::slice::from_ref(&block));
    let mut digest = Zeroizing::new([0; 32]);
    for (place, word) in digest.as_chunks_mut().0.iter_mut().zip(state.iter()) {
        *place = word.to_be_bytes();
    }
    digest
}

impl PartialEq for Prk {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&[u32; 8], &[u32; 8])| one.ct_eq(other);
        let [inner, outer] = &**self.0;
        let [other_inner, other_outer] = &**other.0;
        bool::from(same((inner, other_inner)) & same((outer, other_outer)))
    }
}

impl Eq for Prk {}

impl fmt::Debug for Prk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use hkdf::Hkdf;
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;

    proptest! {
        #[test]
        fn it_is_hkdf_expand(key in any::<[u8; 32]>(), info in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut expected = [0; 32];
            Hkdf::<Sha256>::from_prk(&key).unwrap().expand(&info, &mut expected).unwrap();
            let [found] = Prk::new(&Key::new(&key)).expand([info.as_slice()]);
            prop_assert_eq!(*found, expected);
        }
    }

    #[test]
    fn around_the_borders_of_blocks_too() {
        let key = [9; 32];
        for length in 0..200 {
            let (info, mut expected) = (vec![3; length], [0; 32]);
            Hkdf::<Sha256>::from_prk(&key).unwrap().expand(&info, &mut expected).unwrap();
            let [first, second] = Prk::new(&Key::new(&key)).expand([info.as_slice(); 2]);
            assert_eq!((*first, *second), (expected, expected), "{length}");
        }
    }

    #[test]
    fn nothing_is_shown_and_equals_are_equal() {
        let prk = Prk::new(&Key::new(&[7; 32]));
        assert_eq!(format!("{prk:?}"), "***");
        assert_eq!(prk, Prk::from_states(prk.states()));
        assert_ne!(prk, Prk::new(&Key::new(&[8; 32])));
    }
}
