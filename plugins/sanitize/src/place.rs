//! Where in a request a value stands.

use serde::Deserialize;

/// Where in a request a value stands. The code is stable: records and exclusions name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The path, without the query.
    Path,
    /// A parameter of the query.
    Query,
    /// A cookie.
    Cookie,
    /// Any other header.
    Header,
    /// A field of a form (`application/x-www-form-urlencoded`).
    Form,
    /// A key or a text of a JSON document.
    Json,
    /// A field of a multipart form, or the name of a file in it.
    Multipart,
    /// A text or an attribute of an XML document.
    Xml,
    /// A string in a GraphQL document.
    Graphql,
    /// A body that is read as plain text, or as a file.
    Text,
}

impl Place {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Cookie => "cookie",
            Self::Header => "header",
            Self::Form => "form",
            Self::Json => "json",
            Self::Multipart => "multipart",
            Self::Xml => "xml",
            Self::Graphql => "graphql",
            Self::Text => "text",
        }
    }
}
