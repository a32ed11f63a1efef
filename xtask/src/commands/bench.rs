//! `make bench`: runs the benchmark of `tests/` with the Envoy of this checkout.

use anyhow::Result;

use super::{cargo, succeed, wasm};
use crate::layout::Layout;

/// Builds it and runs it to its end.
///
/// # Errors
/// When Envoy is missing, something does not build, or the benchmark fails.
pub fn measure(layout: &Layout, arguments: &[String]) -> Result<()> {
    wasm::build(layout, wasm::Which::Released)?;
    let mut command = cargo(layout);
    command
        .args(["run", "--release", "--bin", "bench", "--"])
        .arg("--dist")
        .arg(layout.dist())
        .args(arguments)
        .env("ENVOY", layout.envoy()?);
    succeed(&mut command, "the benchmark did not come to its end: see above")
}
