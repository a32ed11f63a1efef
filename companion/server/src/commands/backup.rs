//! `portcullis backup` and `portcullis restore`: the companion's own state, in one file.
//!
//! Of SQLite by its online backup: a copy of one moment, while `serve` runs. Of PostgreSQL by its own `pg_dump` and
//! `pg_restore`, which must be on the PATH and as new as the server; the password goes to them in the environment, not on their
//! command line. A backup holds what the store holds: names and addresses, the hashes of session tokens, sealed values,
//! and wrapped keys, which open nothing without the root key. The file is for its owner alone (0600), and is never written
//! over. Secrets of DATA_DIR and the variables are not in it. The audit trail is copied beside it, after the store: what the
//! store has of it is in the copy ([`trail`]).

mod trail;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::cli::{BackupArgs, RestoreArgs};
use crate::settings::{SIGNING_KEY_FILE, TRAIL_FOLDER, database, make_data_dir};
use crate::storage::postgres::Target;
use crate::storage::sqlite::copy;
use crate::storage::{self, Place, Shape};

/// Writes a backup.
///
/// # Errors
/// The file exists, or the store cannot be read.
pub fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let place = database(&args.store)?;
    // Made here, so that it is private before anything is in it, and so that nothing is lost.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    drop(
        file.with_context(|| {
            format!("{}: give the name of a file that does not exist", args.file.display())
        })?,
    );
    let done = match &place {
        Place::Sqlite(path) => copy(path, &args.file).map_err(anyhow::Error::from),
        Place::Postgres(target) => {
            let mut command = program("pg_dump", target)?;
            command.args(["--format=custom", "--no-owner", "--no-privileges", "--file"]).arg(&args.file);
            run(command)
        }
    };
    let beside = trail::beside(&args.file);
    let copied = done.and_then(|()| trail::copy(&args.store.data_dir.join(TRAIL_FOLDER), &beside));
    let records = match copied {
        Ok(records) => records,
        Err(error) => {
            // Half a backup must not look like one.
            let _ = std::fs::remove_file(&args.file);
            return Err(error);
        }
    };
    super::print(&format!("{place}: backed up to {}", args.file.display()))?;
    match records {
        Some(records) => {
            super::print(&format!("{records} records of the audit trail, verified: {}", beside.display()))
        }
        None => super::print("DATA_DIR has no audit trail"),
    }
}

/// Fills a store that is empty or absent with a backup, and brings its schema up to date.
///
/// # Errors
/// The store has something in it already, or the backup cannot be read.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    make_data_dir(&args.store.data_dir)?;
    let place = database(&args.store)?;
    if !args.file.is_file() {
        bail!("{}: there is no such file", args.file.display());
    }
    let (beside, folder) = (trail::beside(&args.file), args.store.data_dir.join(TRAIL_FOLDER));
    // Before the store, so that a trail that is there already is not joined with another one's tables.
    let records = trail::copy(&beside, &folder)?;
    let restored = restore_store(args, &place);
    if restored.is_err() && records.is_some() {
        // It was made here a moment ago, and its source is whole.
        let _ = std::fs::remove_dir_all(&folder);
    }
    restored?;
    super::print(&format!("{place}: restored from {}", args.file.display()))?;
    match records {
        Some(records) => super::print(&format!(
            "{records} records of the audit trail, verified; `serve` goes on with the key that signed it \
             (AUDIT_SIGNING_KEY or DATA_DIR/{SIGNING_KEY_FILE})"
        )),
        None => super::print(&format!("{}: is missing; a new audit trail will begin", beside.display())),
    }
}

fn restore_store(args: &RestoreArgs, place: &Place) -> anyhow::Result<()> {
    match place {
        Place::Sqlite(path) => restore_file(&args.file, path)?,
        Place::Postgres(target) => {
            let mut command = program("pg_restore", target)?;
            // Whole or not at all: a database that is not empty refuses the first table.
            command.args(["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]);
            command.arg("--dbname").arg(target.database()).arg(&args.file);
            run(command).context("the database must be empty")?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Opening it brings it up to date, and refuses what no release of ours has made.
        let storage = storage::open(place, Shape::default()).await?;
        storage.close().await?;
        anyhow::Ok(())
    })
}

fn restore_file(backup: &Path, path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        bail!("{}: exists; stop the companion and move it away first", path.display());
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    drop(file.with_context(|| format!("{}: cannot be made", path.display()))?);
    if let Err(error) = copy(backup, path) {
        let _ = std::fs::remove_file(path);
        return Err(error).with_context(|| format!("{}: is no backup", backup.display()));
    }
    Ok(())
}

fn program(name: &str, target: &Target) -> anyhow::Result<Command> {
    let mut command = Command::new(name);
    for (variable, value) in target.variables() {
        command.env(variable, value);
    }
    Ok(command)
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{name}: cannot be started; install PostgreSQL's client programs"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {}", crate::units::bounded(said.trim(), 500));
    }
    Ok(())
}
