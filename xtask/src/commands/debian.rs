//! Programs from Debian's archive, unpacked into a folder below `.tools`, so that no rights are needed and nothing of the
//! system changes.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::succeed;
use crate::layout::Layout;

/// Unpacks `package`, and what it needs that the system does not have, into a folder; except packages whose name holds one of
/// `without`.
///
/// # Errors
/// When this is no Debian, or the archive cannot be reached; says what to install by hand.
pub fn unpack(layout: &Layout, package: &str, without: &[&str], into: &Path) -> Result<()> {
    unpack_with(layout, package, &[], without, into)
}

/// The same, with packages named `even` unpacked though the system has them.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_with(
    layout: &Layout,
    package: &str,
    even: &[&str],
    without: &[&str],
    into: &Path,
) -> Result<()> {
    let remedy = format!("install it by hand (Debian: sudo apt-get install {package}) and run this again");
    if depends(package).is_none_or(|packages| packages.is_empty()) {
        println!("reading Debian's list of packages");
        succeed(
            Command::new("apt-get").args(["-qq", "update"]),
            &format!(
                "{package} is needed and apt-get has no list of packages, which root alone may fetch; {remedy}"
            ),
        )?;
    }
    let wanted =
        depends(package).with_context(|| format!("{package} is not in Debian's archive; {remedy}"))?;
    let missing: Vec<String> = wanted
        .into_iter()
        .filter(|name| {
            !without.iter().any(|part| name.contains(part))
                && (even.contains(&name.as_str()) || !installed(name))
        })
        .collect();
    println!("unpacking {} from Debian's archive into {}", missing.join(", "), into.display());
    let archives = layout.tools().join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("cannot make {}", archives.display()))?;
    let mut download = Command::new("apt-get");
    // As root apt would download as a user who may not write here.
    download.args(["-qq", "-o", "APT::Sandbox::User=root", "download"]).args(&missing).current_dir(&archives);
    succeed(&mut download, &format!("Debian's archive cannot be reached; check the network, or {remedy}"))?;
    for archive in fs::read_dir(&archives)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
    {
        succeed(Command::new("dpkg").arg("-x").arg(&archive).arg(into), &remedy)?;
    }
    fs::remove_dir_all(&archives).with_context(|| format!("cannot remove {}", archives.display()))
}

/// A package and all that it depends on; `None` when it is not known.
fn depends(package: &str) -> Option<BTreeSet<String>> {
    let no = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
        .map(|kind| format!("--no-{kind}"));
    let output =
        Command::new("apt-cache").args(["depends", "--recurse"]).args(no).arg(package).output().ok()?;
    if !output.status.success() {
        return None;
    }
    // A line that begins with a name is a package; others tell what it depends on, and virtual ones stand in brackets.
    let text = String::from_utf8(output.stdout).ok()?;
    let names = text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric()));
    Some(names.map(str::to_owned).collect())
}

fn installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    query.is_ok_and(|output| output.stdout == b"installed")
}
