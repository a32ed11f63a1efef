//! What an answer is kept under.

use std::collections::BTreeMap;

use bytes::BytesMut;
use sha2::{Digest, Sha256};
use tokio_postgres::types::{IsNull, ToSql, Type};

/// Settings that a context may have, besides those of the application's own, which have a dot in their names.
const SETTINGS: [&str; 5] = ["row_security", "timezone", "datestyle", "intervalstyle", "statement_timeout"];
/// The most settings of a context, and the longest name and value.
const MOST: usize = 32;
const MAX_SETTING: usize = 1024;

/// In what a statement runs: all that a session could add to it. What is not named has the value that a new session of the tenant's role has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    role: Option<String>,
    search_path: Option<String>,
    settings: BTreeMap<String, String>,
}

/// Why a context cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// A setting that is not for contexts.
    #[error("the setting {0:?} may not be part of a context; give one of the application's own, as app.user, or one of {list}", list = SETTINGS.join(", "))]
    Setting(String),
    /// Too many, or too long.
    #[error("a context has at most {MOST} settings with names and values of {MAX_SETTING} bytes")]
    Large,
}

impl Context {
    /// As this role.
    #[must_use]
    pub fn role(mut self, name: &str) -> Self {
        self.role = Some(name.to_owned());
        self
    }

    /// With these schemas.
    #[must_use]
    pub fn search_path(mut self, schemas: &[&str]) -> Self {
        let quoted = |schema: &&str| format!("\"{}\"", schema.replace('"', "\"\""));
        self.search_path = Some(schemas.iter().map(quoted).collect::<Vec<_>>().join(", "));
        self
    }

    /// With a setting, as policies of row-level security read it.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn setting(mut self, name: &str, value: &str) -> Result<Self, ContextError> {
        let name = name.to_ascii_lowercase();
        if !name.contains('.') && !SETTINGS.contains(&name.as_str()) {
            return Err(ContextError::Setting(name.chars().take(40).collect()));
        }
        if self.settings.len() >= MOST || name.len() > MAX_SETTING || value.len() > MAX_SETTING {
            return Err(ContextError::Large);
        }
        self.settings.insert(name, value.to_owned());
        Ok(self)
    }

    /// Names and values, as `set_config` takes them; the role comes last, because it may set less.
    pub fn assignments(&self) -> impl Iterator<Item = (&str, &str)> {
        let path = self.search_path.as_deref().map(|path| ("search_path", path));
        let role = self.role.as_deref().map(|role| ("role", role));
        path.into_iter()
            .chain(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .chain(role)
    }
}

/// Parameters with their types.
pub type Values<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// A digest of all parts, each with its length: no two lists of parts have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// Makes a [`Key`].
pub struct Digester(Sha256);

impl Digester {
    /// Of one purpose; keys of different ones differ.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        Self(Sha256::new()).bytes(purpose.as_bytes())
    }

    /// Adds a part.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    /// Adds a context.
    #[must_use]
    pub fn context(self, context: &Context) -> Self {
        let all: Vec<_> = context.assignments().collect();
        let counted = self.number(all.len() as u64);
        all.iter()
            .fold(counted, |digester, (name, value)| digester.bytes(name.as_bytes()).bytes(value.as_bytes()))
    }

    /// Adds parameters as they are sent; also tells whether a text among them is a moment that moves.
    ///
    /// # Errors
    /// One cannot be sent as its type.
    pub fn values(
        mut self,
        values: Values<'_>,
    ) -> Result<(Self, bool), Box<dyn std::error::Error + Sync + Send>> {
        let mut moves = false;
        self = self.number(values.len() as u64);
        for (value, kind) in values {
            let mut bytes = BytesMut::new();
            let null = matches!(value.to_sql_checked(kind, &mut bytes)?, IsNull::Yes);
            moves |= std::str::from_utf8(&bytes).is_ok_and(super::words::moves);
            self = self.number(kind.oid().into()).number(null.into()).bytes(&bytes);
        }
        Ok((self, moves))
    }

    /// The key.
    #[must_use]
    pub fn finish(self) -> Key {
        Key(self.0.finalize().into())
    }
}
