//! Names of tenants, as the module reports them and the API is asked for them.
//!
//! A name is stored and compared as it came: it is never cut, trimmed or folded, because two names that
//! become one would show one tenant's data to the other.

pub mod records;
pub mod removal;

use std::fmt;

use portcullis_policy::Tenant;

/// A well-formed tenant name: 1 to 50 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(Tenant);

/// Why a text is no tenant name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tenant name has 1 to 50 visible ASCII characters")]
pub struct MalformedTenant;

impl TenantId {
    /// Takes `name` if it is well formed.
    ///
    /// # Errors
    /// [`MalformedTenant`].
    pub fn new(name: &str) -> Result<Self, MalformedTenant> {
        Tenant::new(name.as_bytes()).map(Self).ok_or(MalformedTenant)
    }

    /// The tenant of what belongs to nobody in particular: `public`.
    #[must_use]
    pub fn public() -> Self {
        Self(Tenant::public())
    }

    /// The same as the other crates know it.
    #[must_use]
    pub fn as_tenant(&self) -> &Tenant {
        &self.0
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the demonstration may register this name by itself: `^[a-z0-9_-]{1,50}$`.
    #[must_use]
    pub fn may_register_itself(&self) -> bool {
        self.as_str().bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    }
}

impl From<Tenant> for TenantId {
    fn from(tenant: Tenant) -> Self {
        Self(tenant)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_visible() {
        assert!(TenantId::new(&"a".repeat(50)).is_ok());
        for bad in ["", &"a".repeat(51), "a b", "a\nb", "a\0", "é"] {
            assert_eq!(TenantId::new(bad), Err(MalformedTenant), "{bad:?}");
        }
    }

    #[test]
    fn only_plain_names_register_themselves() {
        assert!(TenantId::new("acme_1-x").unwrap().may_register_itself());
        for name in ["Acme", "a.b", "'OR/**/1=1--", "a@b"] {
            assert!(!TenantId::new(name).unwrap().may_register_itself(), "{name}");
        }
    }
}
