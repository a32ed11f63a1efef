//! PgBouncer for tests: where it lies, and how somebody else may run it.
//!
//! It refuses to run as root; then its owner is `nobody`, who may not be able to enter this checkout.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::layout::Layout;

/// The program: what `PGBOUNCER_SERVER` names, what `make test` installed, or the system's.
///
/// # Errors
/// When there is none; says how to get it.
pub fn program(layout: &Layout) -> Result<PathBuf> {
    let own = std::env::var_os("PGBOUNCER_SERVER").filter(|value| !value.is_empty()).map(PathBuf::from);
    let unpacked = layout.tools().join("debian/usr/sbin/pgbouncer");
    own.into_iter().chain([unpacked, "/usr/sbin/pgbouncer".into()]).find(|path| path.is_file()).context(
        "PgBouncer is not installed: run `make test`, which does it (or: sudo apt-get install pgbouncer; or name its program with \
         PGBOUNCER_SERVER)",
    )
}

/// A program below `folder` that whoever may enter the folder can run: it starts PgBouncer with the libraries that were unpacked with it.
///
/// # Errors
/// When there is no PgBouncer, or the folder cannot be written.
pub fn runnable(layout: &Layout, folder: &Path) -> Result<PathBuf> {
    let program = program(layout)?;
    let Some(usr) = program.ancestors().nth(2).filter(|_| program.starts_with(layout.tools())) else {
        return Ok(program);
    };
    let folder = &folder.join("pgbouncer-program");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let libraries = usr.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let listed = Command::new("ldd").arg(&program).env("LD_LIBRARY_PATH", &libraries).output();
    let listed = String::from_utf8(listed.context("ldd does not run")?.stdout)?;
    let needed = listed.lines().filter_map(|line| line.split("=> ").nth(1)?.split(' ').next()).map(Path::new);
    for file in needed.filter(|file| file.starts_with(&libraries)).chain([program.as_path()]) {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    let start = folder.join("start-pgbouncer");
    let place = folder.display();
    fs::write(&start, format!("#!/bin/sh\nLD_LIBRARY_PATH='{place}' exec '{place}/pgbouncer' \"$@\"\n"))?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
    Ok(start)
}
