//! End to end: a real Envoy with the built module, a real companion, and what users see of them.
//!
//! The library holds what the tests share and the benchmark; the tests are in `tests/tests`.

pub mod bench;
