//! Messages of Envoy's that several of its services use.

use prost::Message;

/// `envoy.config.core.v3.HeaderValue`.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value as text.
    #[prost(string, tag = "2")]
    pub value: String,
    /// The value as bytes, in place of the text.
    #[prost(bytes = "vec", tag = "3")]
    pub raw_value: Vec<u8>,
}
