//! The log on a folder that fails as disks do, and on a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod append;
mod crash;
mod kill;
mod retention;
mod support;
mod tampering;
