//! A browser without windows, for tests of what browsers make of our headers: Chromium, from Debian's archive.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::layout::Layout;

/// The package that holds it.
pub const PACKAGE: &str = "chromium-headless-shell";

/// Where it is unpacked.
pub fn folder(layout: &Layout) -> PathBuf {
    layout.tools().join("chromium")
}

/// An installed browser.
#[derive(Debug, Clone)]
pub struct Browser {
    program: PathBuf,
    /// Where it was unpacked, if it was: libraries and fonts lie there too.
    unpacked: Option<PathBuf>,
}

impl Browser {
    /// What the variable `CHROMIUM` names (Chrome's or Chromium's headless shell), else what was installed here.
    ///
    /// # Errors
    /// When there is none; says how to get it.
    pub fn installed(layout: &Layout) -> Result<Self> {
        if let Some(own) = std::env::var_os("CHROMIUM").filter(|value| !value.is_empty()) {
            let program = PathBuf::from(own);
            if !program.is_file() {
                bail!(
                    "CHROMIUM={}: there is no such file; name a headless shell, or leave it out",
                    program.display()
                );
            }
            return Ok(Self { program, unpacked: None });
        }
        let unpacked = folder(layout);
        let program = unpacked.join("usr/lib/chromium").join(PACKAGE);
        if !program.is_file() {
            bail!(
                "Chromium is not installed in this checkout: run `make test`, which does it (or name your own with CHROMIUM=/path)"
            );
        }
        Ok(Self { program, unpacked: Some(unpacked) })
    }

    /// A command that starts it with a profile folder of its own, which is made anew. It trusts whatever certificate a site shows,
    /// and it runs without the sandbox, which needs rights that a test has not: open your own pages alone.
    ///
    /// # Errors
    /// When the profile cannot be made.
    pub fn command(&self, profile: &Path) -> Result<Command> {
        // There is none before the first run.
        drop(fs::remove_dir_all(profile));
        fs::create_dir_all(profile).with_context(|| format!("cannot make {}", profile.display()))?;
        let mut command = Command::new(&self.program);
        if let Some(unpacked) = &self.unpacked {
            let fonts = profile.join("fonts.conf");
            fs::write(&fonts, font_configuration(unpacked, &profile.join("fonts")))?;
            command.env("FONTCONFIG_FILE", fonts).env("LD_LIBRARY_PATH", libraries(unpacked)?);
        }
        command.args([
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--ignore-certificate-errors",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        Ok(command)
    }
}

/// The folders of its libraries, as the loader takes them: Debian's are named after the machine.
fn libraries(unpacked: &Path) -> Result<std::ffi::OsString> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(unpacked.join("usr/lib"))?.flatten() {
        if entry.file_name().to_string_lossy().contains("-linux-gnu") {
            folders.extend([
                entry.path(),
                entry.path().join("pulseaudio"),
                unpacked.join("lib").join(entry.file_name()),
            ]);
        }
    }
    std::env::join_paths(folders).context("the checkout's path holds a colon")
}

/// Without any font a page is not laid out.
fn font_configuration(unpacked: &Path, cache: &Path) -> String {
    format!(
        "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig><dir>/usr/share/fonts</dir>\
         <dir>{}</dir><cachedir>{}</cachedir></fontconfig>",
        unpacked.join("usr/share/fonts").display(),
        cache.display()
    )
}
