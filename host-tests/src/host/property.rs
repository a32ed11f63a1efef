//! Properties, serialized as Envoy does: strings raw, integers and durations in eight bytes, little endian.

use std::collections::BTreeMap;

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// A string, or bytes.
    Text(Vec<u8>),
    /// A whole number.
    Integer(u64),
    /// True or false.
    Bool(bool),
}

impl Property {
    /// As the module reads it.
    #[must_use]
    pub fn serialize(&self, as_strings: bool) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) if as_strings => number.to_string().into_bytes(),
            Self::Integer(number) => number.to_le_bytes().to_vec(),
            Self::Bool(flag) if as_strings => flag.to_string().into_bytes(),
            Self::Bool(flag) => vec![u8::from(*flag)],
        }
    }
}

impl<T: AsRef<[u8]>> From<T> for Property {
    fn from(text: T) -> Self {
        Self::Text(text.as_ref().to_vec())
    }
}

/// What the host knows of a stream, by path.
#[derive(Debug, Clone, Default)]
pub struct Properties(BTreeMap<Vec<u8>, Property>);

impl Properties {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; `path` is its segments, like `["xds", "route_name"]`.
    #[must_use]
    pub fn with(mut self, path: &[&str], value: impl Into<Property>) -> Self {
        self.set(path, value.into());
        self
    }

    /// Adds one.
    pub fn set(&mut self, path: &[&str], value: Property) {
        self.0.insert(path.join("\0").into_bytes(), value);
    }

    pub(crate) fn insert(&mut self, joined: Vec<u8>, value: Property) {
        self.0.insert(joined, value);
    }

    pub(crate) fn find(&self, joined: &[u8]) -> Option<&Property> {
        self.0.get(joined)
    }
}
