//! Prometheus for tests: the server that takes the companion's figures, and `promtool`, which plays alert rules.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::layout::Layout;

/// Where it is unpacked: 100 MB, in a folder of its own, because servers copy theirs.
pub fn folder(layout: &Layout) -> PathBuf {
    layout.tools().join("prometheus")
}

/// A program of Prometheus, `prometheus` or `promtool`: in the folder that `PROMETHEUS_BIN` names, what `make test` installed, or the system's.
///
/// # Errors
/// When there is none; says how to get it.
pub fn program(layout: &Layout, name: &str) -> Result<PathBuf> {
    let own = std::env::var_os("PROMETHEUS_BIN").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folders = own.into_iter().chain([folder(layout).join("usr/bin"), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file()).with_context(|| {
        format!(
            "{name} is not installed: run `make test`, which does it (or: sudo apt-get install prometheus; or name the folder of its \
             programs with PROMETHEUS_BIN)"
        )
    })
}
