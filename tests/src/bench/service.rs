//! A companion that serves Envoy's rate limit protocol.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use xtask::{
    ports,
    stack::{Options, Piece, Stack},
};

use super::levels;

/// A running companion; killed when dropped, and when this process ends.
pub struct Service {
    // Dropped before its folder.
    stack: Stack,
    port: u16,
    folder: PathBuf,
}

impl Service {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When it is not built, ends, or does not answer.
    pub fn start() -> Result<Self> {
        let port = ports::free()?;
        let folder = std::env::temp_dir().join(format!("portcullis-bench-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let limits = folder.join("limits.yaml");
        // JSON is YAML.
        fs::write(&limits, levels::configuration().to_string())?;
        let mut options = Options::for_tests(folder.join("data"));
        options.pieces = vec![Piece::Companion];
        options.companion_variables = vec![
            ("LIMITS_GRPC_PORT".to_owned(), port.to_string()),
            ("LIMITS_CONFIG".to_owned(), limits.display().to_string()),
        ];
        let stack = Stack::start(options).context("starting the companion")?;
        Ok(Self { stack, port, folder })
    }

    /// Where the service listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// CPU time so far of all its threads, in nanoseconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_ns(&self) -> Result<u64> {
        let identity = self.stack.identity(Piece::Companion).context("the companion has ended")?;
        let mut spent: u64 = 0;
        for task in fs::read_dir(format!("/proc/{}/task", identity.pid))? {
            // A thread may end while it is looked at.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            spent = spent
                .saturating_add(text.split(' ').next().unwrap_or_default().parse().context("schedstat")?);
        }
        Ok(spent)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // What is left is ended with this process, and the folder is the system's to clean.
        drop(self.stack.kill(Piece::Companion));
        drop(fs::remove_dir_all(&self.folder));
    }
}
