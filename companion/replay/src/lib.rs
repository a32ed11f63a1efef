//! Recorded requests, and what a configuration says of them.
//!
//! For an operator who wants to know what enforcing would refuse before it does (`portcullis inspect`), and for
//! measuring with corpora of attacks and of ordinary traffic (`make corpus`). Readers turn what people have at hand into
//! [`Request`]s: raw HTTP ([`http`]), a `curl` command ([`curl`]), a HAR file ([`har`]), JSON lines ([`line`]); a
//! [`Guard`] runs them through the chain that the module runs.
//!
//! It has no I/O: bytes come in, verdicts go out. It deliberately does not limit rates: a recording has no time. What
//! only a proxy knows (verified claims, certificates, its routes' metadata) a recording does not hold; claims can be
//! given. Responses are not looked at.
//!
//! Limits: a line or file is as long as its reader's caller allows; everything is linear in its length.

pub mod curl;
mod guard;
pub mod har;
pub mod http;
pub mod line;
mod place;
mod request;
mod shell;

pub use guard::{Guard, Known, Verdict, without};
pub use line::base64;
pub use place::{Place, Unplaceable};
pub use request::{Header, Request};

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON.
    #[error("is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON, but nothing that names a request or a value.
    #[error("is of no known shape: it has {0}, and neither `uri`, `request` nor `payload`")]
    Shape(String),
    /// A field that cannot be used.
    #[error("{field}: {problem}")]
    Field {
        /// Its name.
        field: String,
        /// What it must be.
        problem: String,
    },
    /// Not an HTTP request.
    #[error("is not an HTTP request: {0}")]
    Http(&'static str),
    /// A `curl` command that cannot be understood.
    #[error("is not a curl command that can be read: {0}")]
    Curl(String),
}

pub(crate) fn field(field: &str, problem: impl Into<String>) -> Unreadable {
    Unreadable::Field { field: field.to_owned(), problem: problem.into() }
}
