//! The keyring as its callers see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod changes;
mod document;
mod edge;
mod moved;
mod support;
