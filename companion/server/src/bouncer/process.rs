//! PgBouncer as a process of ours.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use crate::clock::monotonic;
use crate::units::bounded;

/// The longest line of its log that is passed on.
const LINE: u64 = 1000;
/// Lines that are passed on in a second; who connects makes it write.
const LINES: u32 = 20;
/// How long it may take to end.
const LAST_WORK: Duration = Duration::from_secs(5);

/// The process.
pub struct Process(Child);

impl Process {
    /// Starts `program` with a configuration, as `owner` if this process is root. Of our environment it gets the path alone: there are
    /// keys in the rest.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path, ini: &Path, owner: Option<(u32, u32)>) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(ini).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let Some(folder) = ini.parent() {
            command.current_dir(folder);
        }
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        let mut child = command.spawn()?;
        if let Some(log) = child.stderr.take() {
            std::thread::Builder::new().name("pgbouncer-log".to_owned()).spawn(move || pass_on(log))?;
        }
        Ok(Self(child))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        match self.0.try_wait() {
            Ok(status) => status.map(|status| status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Ends it: asked first, then by force.
    pub async fn stop(mut self) {
        if let Some(id) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // One that is gone already is as good.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let asked = monotonic();
        while self.ended().is_none() && asked.elapsed() < LAST_WORK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if self.ended().is_none() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Its log into ours.
fn pass_on(log: ChildStderr) {
    let mut reader = BufReader::new(log);
    let mut line = Vec::new();
    let (mut second, mut told, mut untold) = (monotonic(), 0_u32, 0_u64);
    loop {
        line.clear();
        match reader.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if second.elapsed() >= Duration::from_secs(1) {
            if untold > 0 {
                tracing::warn!(
                    category = "application",
                    lines = untold,
                    "PgBouncer wrote more than is passed on"
                );
            }
            (second, told, untold) = (monotonic(), 0, 0);
        }
        if told >= LINES {
            untold = untold.saturating_add(1);
            continue;
        }
        told = told.saturating_add(1);
        let text = bounded(String::from_utf8_lossy(&line).trim_end(), 1000);
        match [" ERROR ", " FATAL ", " WARNING "].iter().any(|level| text.contains(level)) {
            true => tracing::warn!(category = "application", line = text, "PgBouncer"),
            false => tracing::debug!(category = "application", line = text, "PgBouncer"),
        }
    }
}
