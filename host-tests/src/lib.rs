//! A proxy-wasm host on wasmtime, and the cases that run on it.
//!
//! - [`host`] is the host: a library that knows nothing of Portcullis;
//! - [`case`] reads `plugins/*/cases/*.yaml`, [`expect`] compares what came of a request with what must come of it;
//! - [`run`] runs cases on the chain itself and on the built module.

pub mod case;
pub mod expect;
pub mod host;
pub mod run;
