//! Tests of the built modules under wasmtime. One program, so that each module is compiled once.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by failing; clippy allows it within test functions, not beside them"
)]

mod bad_input;
mod bundle;
mod cost;
mod delivery;
mod edge;
mod flow;
mod fuzz;
mod hostile;
mod hosts;
mod leases;
mod linear;
mod primitives;
mod profiles;
mod replay;
mod restricted;
mod strict;
mod support;
mod workers;
