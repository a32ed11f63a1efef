//! What a detector reports: a family, how sure it is, and where.

use serde::Deserialize;

/// A kind of attack. The code is stable: it is the reason that clients, records and configurations name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[repr(u8)]
pub enum Family {
    /// Text that becomes part of an SQL statement.
    #[serde(rename = "sql-injection")]
    Sql,
    /// Text that becomes markup or script in a page.
    #[serde(rename = "xss")]
    Xss,
    /// A file name that leaves its folder, or names a file that no client should.
    #[serde(rename = "path-traversal")]
    Path,
    /// Text that becomes a command of an operating system's shell.
    #[serde(rename = "command-injection")]
    Command,
    /// A lookup that a logging library would resolve (JNDI).
    #[serde(rename = "jndi-lookup")]
    Lookup,
    /// A line break that starts a header of its own.
    #[serde(rename = "header-injection")]
    Header,
    /// An external or recursive XML entity.
    #[serde(rename = "xml-entity")]
    Entity,
    /// Source text of a server-side language.
    #[serde(rename = "code-injection")]
    Code,
}

impl Family {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Sql,
        Self::Xss,
        Self::Path,
        Self::Command,
        Self::Lookup,
        Self::Header,
        Self::Entity,
        Self::Code,
    ];

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Sql => "sql-injection",
            Self::Xss => "xss",
            Self::Path => "path-traversal",
            Self::Command => "command-injection",
            Self::Lookup => "jndi-lookup",
            Self::Header => "header-injection",
            Self::Entity => "xml-entity",
            Self::Code => "code-injection",
        }
    }

    /// The number: its bit in a [`Families`].
    pub const fn number(self) -> usize {
        self as usize
    }
}

/// A set of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families(u8);

impl Families {
    /// Every family.
    pub const EVERY: Self = Self(u8::MAX);
    /// No family.
    pub const NONE: Self = Self(0);

    /// Whether the family is in the set.
    pub const fn contains(self, family: Family) -> bool {
        self.0 & (1 << family as u8) != 0
    }

    /// The set and this family.
    #[must_use]
    pub const fn with(self, family: Family) -> Self {
        Self(self.0 | 1 << family as u8)
    }

    /// The set without those of the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// One thing that was found in one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What kind of attack.
    pub family: Family,
    /// How sure, 1 to 100. What is needed to act depends on the sensitivity.
    pub confidence: u8,
    /// The structure that was recognized, for operators: a stable word like `union-select`.
    pub why: &'static str,
    /// Where it starts, in bytes of the form that was inspected.
    pub at: usize,
}

impl Finding {
    /// A finding.
    pub const fn new(family: Family, confidence: u8, why: &'static str, at: usize) -> Self {
        Self { family, confidence, why, at }
    }
}

/// Keeps the surer one of two; the first, when they are equally sure.
pub fn surer(a: Option<Finding>, b: Option<Finding>) -> Option<Finding> {
    match (a, b) {
        (Some(a), Some(b)) if b.confidence > a.confidence => Some(b),
        (None, b) => b,
        (a, _) => a,
    }
}
