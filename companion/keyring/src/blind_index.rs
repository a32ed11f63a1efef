//! Blind indexes: equal values of one column have equal indexes, so that a sealed column can be searched for a value.
//!
//! What that tells to whoever reads the table: which rows hold equal values, and how often. A column of few values (a
//! gender, a yes or no) is given away by its frequencies; [`BlindIndex::prefix`] makes different values share an index, at the
//! cost of rows that are opened in vain. The index's key is the tenant's own and is not rotated: a new one would make all
//! indexes anew. It is shredded with the others.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::context::{Context, append_field};
use crate::error::{Error, Result};
use crate::prk::Prk;

/// The index of a value in a tenant's column. It is no secret, and is stored beside the envelope.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlindIndex([u8; 32]);

impl BlindIndex {
    /// Of `value`, in the table and column of `context`; row and purpose do not count.
    pub(crate) fn new(prk: &Prk, context: &Context<'_>, value: &[u8]) -> Result<Self> {
        let mut place = Vec::with_capacity(128);
        place.extend_from_slice(b"portcullis index v1");
        append_field(&mut place, "table", context.table)?;
        append_field(&mut place, "column", context.column)?;
        let [column] = prk.expand([place.as_slice()]);
        let mut mac = Hmac::<Sha256>::new_from_slice(column.as_slice()).map_err(|_| Error::Primitive)?;
        mac.update(value);
        Ok(Self(mac.finalize().into_bytes().into()))
    }

    /// All 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first `bits` bits (at most 64) as a number: several values share it.
    #[must_use]
    pub fn prefix(&self, bits: u32) -> u64 {
        let first = self.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        64_u32.checked_sub(bits).map_or(first, |cut| first.checked_shr(cut).unwrap_or(0))
    }
}

impl fmt::Debug for BlindIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlindIndex({:016x}..)", self.prefix(64))
    }
}

#[cfg(test)]
mod tests {
    use portcullis_policy::Tenant;

    use super::*;
    use crate::secret::Key;

    #[test]
    fn equal_values_of_a_column_are_equal_and_others_are_not() {
        let (tenant, key) = (Tenant::public(), Prk::new(&Key::new(&[7; 32])));
        let of = |table, column, row, value: &[u8]| {
            BlindIndex::new(&key, &Context { table, column, row, ..Context::of(&tenant) }, value).unwrap()
        };
        let index = of("users", "email", "1", b"a@b.example");
        assert_eq!(index, of("users", "email", "2", b"a@b.example"));
        assert_ne!(index, of("users", "email", "1", b"A@b.example"));
        assert_ne!(index, of("users", "phone", "1", b"a@b.example"));
        assert_ne!(index, of("user", "semail", "1", b"a@b.example"));
        assert_ne!(
            index,
            BlindIndex::new(
                &Prk::new(&Key::new(&[8; 32])),
                &Context { table: "users", column: "email", ..Context::of(&tenant) },
                b"a@b.example"
            )
            .unwrap()
        );
    }

    #[test]
    fn a_prefix_has_as_many_bits_as_asked_for() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        bytes[7] = 1;
        let index = BlindIndex(bytes);
        assert_eq!((index.prefix(8), index.prefix(4), index.prefix(0)), (0xab, 0xa, 0));
        assert_eq!((index.prefix(64), index.prefix(99)), (0xab00_0000_0000_0001, 0xab00_0000_0000_0001));
    }
}
