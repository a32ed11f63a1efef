//! The dashboard's chart library, from npm in the version that `companion/server/dashboard/package-lock.json` pins, to where the companion's
//! build takes it from.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{install, succeed};
use crate::layout::Layout;

/// What the companion's build takes.
const FILES: [&str; 3] = ["dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"];

/// Fetches the library, if it is not there in the pinned version. Nothing of it is run.
///
/// # Errors
/// When PyPI or npm's registry cannot be reached, or what they have is not what was pinned.
pub fn charts(layout: &Layout) -> Result<()> {
    let dashboard = layout.root().join("companion/server/dashboard");
    let folder = layout.tools().join("dashboard");
    fetch(layout, &dashboard, &folder)?;
    let vendored = dashboard.join("charts");
    fs::create_dir_all(&vendored).with_context(|| format!("cannot make {}", vendored.display()))?;
    for file in FILES {
        let from = folder.join("node_modules/uplot").join(file);
        let to = vendored.join(Path::new(file).file_name().unwrap_or_default());
        let wanted = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        // What is there already is left alone: a newer file would have the companion built anew.
        if fs::read(&to).is_ok_and(|have| have == wanted) {
            continue;
        }
        fs::write(&to, wanted).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// `npm ci`: what the lock names, with the hashes that it names, or nothing.
fn fetch(layout: &Layout, from: &Path, folder: &Path) -> Result<()> {
    let lock = from.join("package-lock.json");
    let wanted = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    // The hidden lock is what npm writes last.
    let complete = folder.join("node_modules/.package-lock.json").is_file();
    if complete && fs::read(folder.join("package-lock.json")).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    // It brings the Node that npm runs on.
    install::optimizer(layout)?;
    println!("installing what {} pins from npm into {}", lock.display(), folder.display());
    // What another version has left would be in the way.
    drop(fs::remove_dir_all(folder));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let node = install::node(layout)?;
    let npm =
        node.ancestors().nth(2).context("Node lies nowhere")?.join("lib/node_modules/npm/bin/npm-cli.js");
    succeed(
        Command::new(&node)
            .arg(npm)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
            .arg(folder),
        "npm could not install: check the network (a proxy is set with HTTPS_PROXY, a mirror with npm_config_registry)",
    )
}
