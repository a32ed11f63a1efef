//! The audit trail's part of a backup: a folder beside the file, `FILE.audit`.
//!
//! The files are copied while `serve` writes, the head and the cursors of exports first: what is copied later has at least what they
//! vouch for. A segment may end in the middle of a group, which recovery cuts. The copy is verified before it counts.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use portcullis_audit_log::note::Verifier;
use portcullis_audit_log::recovery::{HEAD, KEY};
use portcullis_audit_log::storage::Disk;
use portcullis_audit_log::verify::verify;

/// How often the copy is begun again when retention takes a file away under it.
const ATTEMPTS: u32 = 5;

/// Where a backup's trail lies.
#[must_use]
pub fn beside(backup: &Path) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(".audit");
    PathBuf::from(name)
}

/// Copies the trail `from` a folder `to` one that must not exist, verified; how many records it has. `None` when there is
/// no trail.
///
/// # Errors
/// A file cannot be read or written, or the copy is not whole.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<Option<u64>> {
    if !from.join(KEY).is_file() {
        return Ok(None);
    }
    let copied = attempt(from, to);
    if copied.is_err() && to.exists() && !is_taken(&copied) {
        // Half a copy must not look like one.
        let _ = fs::remove_dir_all(to);
    }
    copied.map(Some)
}

/// Somebody's folder was there before.
#[derive(Debug, thiserror::Error)]
#[error("{}: exists; give a name that does not, or move it away first", .0.display())]
struct Taken(PathBuf);

fn is_taken<T>(result: &anyhow::Result<T>) -> bool {
    result.as_ref().err().is_some_and(|error| error.is::<Taken>())
}

fn attempt(from: &Path, to: &Path) -> anyhow::Result<u64> {
    if to.exists() {
        bail!(Taken(to.to_owned()));
    }
    let mut attempts = 0;
    loop {
        attempts += 1;
        DirBuilder::new()
            .mode(0o700)
            .create(to)
            .with_context(|| format!("{}: cannot be made", to.display()))?;
        match files(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS => {
                fs::remove_dir_all(to)?;
            }
            done => {
                done.with_context(|| format!("{} to {}: cannot be copied", from.display(), to.display()))?;
                break;
            }
        }
    }
    let key = fs::read_to_string(to.join(KEY))?;
    let verifier = Verifier::parse(key.trim()).with_context(|| format!("{}", to.join(KEY).display()))?;
    let report = verify(&*Disk::existing(to.to_owned())?, &verifier, None)?;
    match report.finding {
        None => Ok(report.size),
        Some(finding) => bail!(
            "{}: not whole at record {}: {}; `portcullis audit verify` tells whether the trail itself is",
            to.display(),
            finding.record,
            finding.what
        ),
    }
}

fn files(from: &Path, to: &Path) -> io::Result<()> {
    if from.join(HEAD).is_file() {
        one(&from.join(HEAD), &to.join(HEAD))?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy().into_owned();
        let wanted =
            text == KEY || text.ends_with(".seg") || text.ends_with(".gone") || text.starts_with("cursor-");
        if wanted && !text.ends_with(".new") {
            names.push(name);
        }
    }
    names.sort_by_key(|name| (!name.to_string_lossy().starts_with("cursor-"), name.clone()));
    for name in names {
        one(&from.join(&name), &to.join(&name))?;
    }
    fs::File::open(to)?.sync_all()
}

fn one(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}
