//! End to end: a real Envoy with the built module, a real companion, and what users see of them.
//!
//! The library holds what is measured: costs ([`bench`]) and recorded requests ([`corpus`]). The tests are in `tests/tests`.

pub mod bench;
pub mod corpus;
