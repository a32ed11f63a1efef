//! End to end: a real Envoy with the built module, as `make run` starts it, and what its users see.
//!
//! One program, so that it is linked once and its tests share running stacks. `support` holds both ends of Envoy: a
//! client that can send any bytes, an application that answers as it is told and remembers what reached it, and a
//! place for records to arrive. What the tests leave behind lies under `target/tmp/e2e`, one folder a stack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod access;
mod audit;
mod bad_input;
mod bans;
mod browser;
mod cases;
mod config;
mod demonstration;
mod ext_authz;
mod headers;
mod identity;
mod limits;
mod manifests;
mod plain;
mod proxies;
mod scanners;
mod seal;
mod stages;
mod strict;
mod support;
mod uploads;
