//! What a detector reports: a family, how sure it is, and where.

use serde::Deserialize;

use crate::bytes::is_word;

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
    /// Operators of a document database where a plain value was expected.
    #[serde(rename = "nosql-injection")]
    Nosql,
    /// An expression of a server-side template.
    #[serde(rename = "template-injection")]
    Template,
    /// A URL that makes the server ask itself, its neighbours or its cloud.
    #[serde(rename = "ssrf")]
    Ssrf,
    /// A URL where a file of the application was expected.
    #[serde(rename = "remote-file-inclusion")]
    Include,
    /// A target of a redirect that is disguised.
    #[serde(rename = "open-redirect")]
    Redirect,
    /// Text that changes an LDAP filter.
    #[serde(rename = "ldap-injection")]
    Ldap,
    /// Text that changes an XPath expression.
    #[serde(rename = "xpath-injection")]
    Xpath,
    /// Text that adds headers or commands to a mail.
    #[serde(rename = "mail-injection")]
    Mail,
    /// An object that runs code when it is read.
    #[serde(rename = "deserialization")]
    Object,
    /// A key that reaches the prototype of all objects.
    #[serde(rename = "prototype-pollution")]
    Prototype,
    /// A file that the server might run, or that is not what it claims to be.
    #[serde(rename = "malicious-upload")]
    Upload,
    /// A session's identifier that another site chose.
    #[serde(rename = "session-fixation")]
    Session,
    /// An attack tool, or a probe for what no visitor asks for.
    #[serde(rename = "scanner")]
    Scanner,
    /// A message that two readers understand differently.
    #[serde(rename = "protocol-anomaly")]
    Protocol,
    /// What a pattern of the operator matches.
    #[serde(rename = "custom-pattern")]
    Custom,
}

impl Family {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::Sql,
        Self::Xss,
        Self::Path,
        Self::Command,
        Self::Lookup,
        Self::Header,
        Self::Entity,
        Self::Code,
        Self::Nosql,
        Self::Template,
        Self::Ssrf,
        Self::Include,
        Self::Redirect,
        Self::Ldap,
        Self::Xpath,
        Self::Mail,
        Self::Object,
        Self::Prototype,
        Self::Upload,
        Self::Session,
        Self::Scanner,
        Self::Protocol,
        Self::Custom,
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
            Self::Nosql => "nosql-injection",
            Self::Template => "template-injection",
            Self::Ssrf => "ssrf",
            Self::Include => "remote-file-inclusion",
            Self::Redirect => "open-redirect",
            Self::Ldap => "ldap-injection",
            Self::Xpath => "xpath-injection",
            Self::Mail => "mail-injection",
            Self::Object => "deserialization",
            Self::Prototype => "prototype-pollution",
            Self::Upload => "malicious-upload",
            Self::Session => "session-fixation",
            Self::Scanner => "scanner",
            Self::Protocol => "protocol-anomaly",
            Self::Custom => "custom-pattern",
        }
    }

    /// The number: its bit in a [`Families`].
    pub const fn number(self) -> usize {
        self as usize
    }
}

/// A set of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families(u32);

impl Families {
    /// Every family.
    pub const EVERY: Self = Self(u32::MAX);
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

    /// What is in both sets.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
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
    /// What the text around that place looks like.
    pub shape: Shape,
}

impl Finding {
    /// A finding.
    pub const fn new(family: Family, confidence: u8, why: &'static str, at: usize) -> Self {
        Self { family, confidence, why, at, shape: Shape::EMPTY }
    }

    /// The finding, with the shape of the text that it is about.
    #[must_use]
    pub fn shown_in(self, text: &[u8]) -> Self {
        Self { shape: Shape::of(text, self.at), ..self }
    }
}

/// Bytes of a [`Shape`]. More: cut.
const SHAPE_BYTES: usize = 48;
/// Bytes of it that stand before the finding.
const SHAPE_LEAD: usize = 8;

/// A redacted excerpt: of words and numbers of two or more characters only the length is left (at most eight), so that
/// an operator sees the structure, and no secret. `x' or 1=1 --` looks like `x' ** 1=1 --`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    bytes: [u8; SHAPE_BYTES],
    length: u8,
}

impl Shape {
    /// No text.
    pub const EMPTY: Self = Self { bytes: [0; SHAPE_BYTES], length: 0 };

    /// The shape of a text around a place in it.
    pub fn of(text: &[u8], place: usize) -> Self {
        let mut shape = Self::EMPTY;
        let mut rest = text.get(place.min(text.len()).saturating_sub(SHAPE_LEAD)..).unwrap_or_default();
        while let Some((first, behind)) = rest.split_first() {
            if !is_word(*first) {
                shape.push(if (b' '..0x7f).contains(first) { *first } else { b'.' });
                rest = behind;
            } else {
                let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                match length {
                    1 if first.is_ascii() => shape.push(*first),
                    _ => (0..length.min(8)).for_each(|_| shape.push(b'*')),
                }
                rest = rest.get(length..).unwrap_or_default();
            }
            if usize::from(shape.length) == SHAPE_BYTES {
                break;
            }
        }
        shape
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(usize::from(self.length)) {
            *slot = byte;
            self.length += 1;
        }
    }

    /// The shape as text: printable ASCII.
    pub fn text(&self) -> String {
        self.bytes.iter().take(usize::from(self.length)).map(|byte| char::from(*byte)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_bit_and_a_code_of_its_own() {
        for (number, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family.number(), number);
            let read: Family = serde_json::from_value(family.code().into()).unwrap();
            assert_eq!(read, family);
        }
    }

    #[test]
    fn a_shape_shows_structure_and_hides_words() {
        assert_eq!(Shape::of(b"x' or 1=1 --", 1).text(), "x' ** 1=1 --");
        assert_eq!(Shape::of(b"password=hunter2secret\n", 0).text(), "********=********.");
        assert_eq!(Shape::of("gr\u{fc}n=4111".as_bytes(), 0).text(), "*****=****");
        assert_eq!(Shape::of(&[b'('; 500], 200).text().len(), SHAPE_BYTES);
        assert_eq!(Shape::of(b"ab", 900).text(), "**");
    }
}
