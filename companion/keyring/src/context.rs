//! Where a sealed value belongs: its envelope opens nowhere else.

use portcullis_policy::Tenant;

use crate::error::{Error, Result};

/// The longest field of a context, in bytes.
pub const MAX_FIELD_BYTES: usize = 1024;

/// The place of a value. Fields that say nothing are empty; `(a, b)` and `(ab, )` are different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// In which table.
    pub table: &'a str,
    /// In which column.
    pub column: &'a str,
    /// In which row: its primary key as text.
    pub row: &'a str,
    /// What it is for.
    pub purpose: &'a str,
}

impl<'a> Context<'a> {
    /// A value of `tenant`, with all other fields empty.
    #[must_use]
    pub const fn of(tenant: &'a Tenant) -> Self {
        Self { tenant, table: "", column: "", row: "", purpose: "" }
    }

    /// How many bytes [`Context::append_to`] appends.
    pub(crate) fn bytes(&self) -> usize {
        let fields = [self.tenant.as_str(), self.table, self.column, self.row, self.purpose];
        fields.iter().map(|text| text.len().saturating_add(2)).sum()
    }

    /// Appends the canonical bytes: each field behind its length in two bytes, so that no two contexts have the same.
    ///
    /// # Errors
    /// A field longer than [`MAX_FIELD_BYTES`].
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let fields = [
            ("tenant", self.tenant.as_str()),
            ("table", self.table),
            ("column", self.column),
            ("row", self.row),
            ("purpose", self.purpose),
        ];
        for (field, text) in fields {
            append_field(bytes, field, text)?;
        }
        Ok(())
    }
}

/// Appends `text` behind its length in two bytes, most significant first.
pub(crate) fn append_field(bytes: &mut Vec<u8>, field: &'static str, text: &str) -> Result<()> {
    let too_long = Error::FieldTooLong { field, length: text.len() };
    let length = u16::try_from(text.len()).ok().filter(|length| usize::from(*length) <= MAX_FIELD_BYTES);
    bytes.extend_from_slice(&length.ok_or(too_long)?.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(fields: &[String; 5]) -> Vec<u8> {
        let [tenant, table, column, row, purpose] = fields;
        let tenant = Tenant::new(tenant.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let context = Context { tenant: &tenant, table, column, row, purpose };
        context.append_to(&mut bytes).unwrap();
        assert_eq!(bytes.len(), context.bytes());
        bytes
    }

    fn fields() -> impl Strategy<Value = [String; 5]> {
        ("[ab]{1,3}", "[ab\0]{0,3}", "[ab\0]{0,3}", "[ab\0]{0,3}", "[ab\0]{0,3}")
            .prop_map(|fields| fields.into())
    }

    proptest! {
        #[test]
        fn two_contexts_share_their_bytes_only_if_they_are_the_same(one in fields(), other in fields()) {
            prop_assert_eq!(bytes(&one) == bytes(&other), one == other);
        }
    }

    #[test]
    fn a_border_between_fields_counts() {
        let of = |table: &str, column: &str| {
            bytes(&["t".into(), table.into(), column.into(), String::new(), String::new()])
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("", "abc"), of("abc", ""));
    }

    #[test]
    fn a_field_may_be_as_long_as_said_and_no_longer() {
        let (tenant, mut bytes) = (Tenant::public(), Vec::new());
        let (fits, too_long) = ("x".repeat(MAX_FIELD_BYTES), "x".repeat(MAX_FIELD_BYTES + 1));
        Context { row: &fits, ..Context::of(&tenant) }.append_to(&mut bytes).unwrap();
        assert!(matches!(
            Context { row: &too_long, ..Context::of(&tenant) }.append_to(&mut bytes),
            Err(Error::FieldTooLong { field: "row", length: 1025 })
        ));
    }
}
