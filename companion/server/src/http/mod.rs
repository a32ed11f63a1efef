//! What both listeners share: the socket, the envelope of every answer, the shape of errors.

pub mod access;
pub mod body;
pub mod envelope;
pub mod envoy;
pub mod listener;
pub mod problem;
pub mod tls;
