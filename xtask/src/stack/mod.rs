//! The whole of Portcullis on one machine: companion, upstream and Envoy with the module, started, watched and stopped.
//!
//! `make run` and `make up` use it, and so do the end-to-end tests:
//!
//! ```no_run
//! use xtask::stack::{Options, Piece, Stack};
//!
//! # fn main() -> anyhow::Result<()> {
//! let folder = std::env::temp_dir().join("portcullis-test");
//! let mut stack = Stack::start(Options::for_tests(&folder))?; // free ports, state in that folder
//! println!("{}", stack.url("/"));                  // through Envoy
//! println!("{}", stack.companion_url("/monitoring/readiness"));
//! let admin = stack.token(None)?;                  // a bearer token of the companion
//! stack.kill(Piece::Companion)?;                   // as a crash would
//! stack.start_piece(Piece::Companion)?;            // same port, same state; returns when it answers
//! # Ok(()) }                                       // dropped: everything it started is killed
//! ```
//!
//! A piece that was started with [`Lifetime::Ours`] ends with this process, even when this process is killed. Nothing is
//! ever signalled that was not started here, see [`crate::process`].

mod claim;
mod options;
mod pieces;
mod record;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

pub use claim::Claim;
pub use options::{Edit, HostPort, ModuleConfig, Options, Ports, Upstream};
pub use record::Record;

use crate::{
    clock::Deadline,
    http,
    process::{Identity, Lifetime, Process},
    secrets::{self, Secrets},
};

/// How long a piece is given to end by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A part of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// `portcullis serve`.
    Companion,
    /// The demonstration application.
    Upstream,
    /// Envoy with the module.
    Envoy,
}

impl Piece {
    /// All, in the order in which they start. They stop the other way round, so that the last records arrive.
    pub const ALL: [Self; 3] = [Self::Companion, Self::Upstream, Self::Envoy];

    /// Its name in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Companion => "companion",
            Self::Upstream => "upstream",
            Self::Envoy => "envoy",
        }
    }
}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    options: Options,
    secrets: Secrets,
    running: BTreeMap<Piece, Process>,
}

impl Stack {
    /// Starts everything and returns when all of it answers. When something does not, what was started is stopped
    /// again.
    ///
    /// # Errors
    /// A port is taken, a program is missing, or a piece ends or does not answer: the error says which, why, and where
    /// its log lies.
    pub fn start(mut options: Options) -> Result<Self> {
        options.ports.choose_free()?;
        options.check_ports()?;
        secrets::private_folder(&options.logs())?;
        options.data_dir = fs::canonicalize(&options.data_dir).context("DATA_DIR cannot be entered")?;
        let secrets = Secrets::in_folder(&options.data_dir)?;
        let mut stack = Self { options, secrets, running: BTreeMap::new() };
        for piece in Piece::ALL {
            if !stack.options.starts(piece) {
                continue;
            }
            stack.keep_old_log(piece);
            if let Err(error) = stack.start_piece(piece) {
                stack.stop_all(Duration::from_secs(1))?;
                return Err(error);
            }
        }
        Ok(stack)
    }

    /// Takes over what another run left behind in a folder; `None` when nothing of it runs. The options are as that
    /// run's where they are needed to stop or ask it: folder and ports.
    ///
    /// # Errors
    /// When the folder's secrets cannot be read.
    pub fn attach(mut options: Options) -> Result<Option<Self>> {
        let Some(record) = Record::read(&options.data_dir) else { return Ok(None) };
        let mut running = BTreeMap::new();
        for piece in Piece::ALL {
            let process = record.pieces.get(piece.name()).cloned().and_then(Process::adopt);
            running.extend(process.map(|process| (piece, process)));
        }
        if running.is_empty() {
            return Ok(None);
        }
        options.ports = record.ports;
        options.lifetime = Lifetime::Detached;
        let secrets = Secrets::in_folder(&options.data_dir)?;
        Ok(Some(Self { options, secrets, running }))
    }

    /// What it runs with; the ports are the real ones.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// An address of Envoy's public listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.envoy())
    }

    /// An address of the companion's API.
    pub fn companion_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.companion())
    }

    /// Envoy's public listener.
    pub fn envoy(&self) -> SocketAddr {
        loopback(self.options.ports.envoy)
    }

    /// Envoy's administration.
    pub fn admin(&self) -> SocketAddr {
        loopback(self.options.ports.admin)
    }

    /// The companion's API.
    pub fn companion(&self) -> SocketAddr {
        loopback(self.options.ports.companion)
    }

    /// The companion's listener for records.
    pub fn ingest(&self) -> SocketAddr {
        loopback(self.options.ports.ingest)
    }

    /// The application behind Envoy, as Envoy is told.
    pub fn upstream(&self) -> HostPort {
        self.options.upstream_address()
    }

    /// What module and companion share.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// A piece's log.
    pub fn log(&self, piece: Piece) -> PathBuf {
        self.options.log(piece)
    }

    /// Envoy's access log: a JSON object a line.
    pub fn access_log(&self) -> PathBuf {
        self.options.access_log()
    }

    /// A token for the companion's API: for one tenant, or for all.
    ///
    /// # Errors
    /// When the companion's program fails.
    pub fn token(&self, tenant: Option<&str>) -> Result<String> {
        pieces::token(&self.options, &self.secrets, tenant)
    }

    /// A token as [`Stack::token`] gives it, whether or not something runs with these options.
    ///
    /// # Errors
    /// As [`Stack::token`]; also when the folder's secrets cannot be read or made.
    pub fn token_in(options: &Options, tenant: Option<&str>) -> Result<String> {
        secrets::private_folder(&options.data_dir)?;
        pieces::token(options, &Secrets::in_folder(&options.data_dir)?, tenant)
    }

    /// A piece that runs no more though it should, and how it ended.
    pub fn dead(&mut self) -> Option<(Piece, String)> {
        self.running.iter_mut().find_map(|(piece, process)| process.ended().map(|how| (*piece, how)))
    }

    /// Whether a piece runs.
    pub fn runs(&mut self, piece: Piece) -> bool {
        self.running.get_mut(&piece).is_some_and(|process| process.ended().is_none())
    }

    /// Which process a piece is; `None` when it was not started.
    pub fn identity(&self, piece: Piece) -> Option<&Identity> {
        self.running.get(&piece).map(Process::identity)
    }

    /// Starts a piece, again if it ran before, with the same ports and state, and returns when it answers.
    ///
    /// # Errors
    /// As [`Stack::start`]; also when it runs already.
    pub fn start_piece(&mut self, piece: Piece) -> Result<()> {
        if self.runs(piece) {
            bail!("{} runs already", piece.name());
        }
        let command = pieces::command(piece, &self.options, &self.secrets)?;
        let process = Process::start(command, self.options.lifetime)?;
        self.running.insert(piece, process);
        self.record()?;
        self.wait_ready(piece)
    }

    /// Returns when a piece answers.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub fn wait_ready(&mut self, piece: Piece) -> Result<()> {
        let deadline = Deadline::after(self.options.patience);
        let log = self.log(piece);
        let answered = deadline.poll(|| {
            let ended = self.running.get_mut(&piece).and_then(Process::ended);
            match ended {
                Some(how) => Some(Err(how)),
                None => pieces::answers(piece, &self.options).then_some(Ok(())),
            }
        });
        let what = match answered {
            Some(Ok(())) => return Ok(()),
            Some(Err(how)) => how,
            None => format!("does not answer after {} s", self.options.patience.as_secs()),
        };
        bail!("{} {what}; its log {} says:\n{}", piece.name(), log.display(), telling_lines(&log))
    }

    /// Asks a piece to end, and waits until it has.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn stop_piece(&mut self, piece: Piece) -> Result<()> {
        if let Some(mut process) = self.running.remove(&piece) {
            process.stop(PATIENCE)?;
        }
        self.record()
    }

    /// Kills a piece without a word, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&mut self, piece: Piece) -> Result<()> {
        if let Some(mut process) = self.running.remove(&piece) {
            process.kill()?;
        }
        self.record()
    }

    /// Stops everything: Envoy takes no new requests and is given `drain` to finish and to deliver its records, then
    /// all end.
    ///
    /// # Errors
    /// When something cannot be signalled.
    pub fn stop_all(&mut self, drain: Duration) -> Result<()> {
        if self.runs(Piece::Envoy) && self.runs(Piece::Companion) && !drain.is_zero() {
            pieces::drain(self.admin(), drain);
        }
        for piece in Piece::ALL.into_iter().rev() {
            self.stop_piece(piece)?;
        }
        Ok(())
    }

    fn record(&self) -> Result<()> {
        let pieces = self
            .running
            .iter()
            .map(|(piece, process)| (piece.name().to_owned(), process.identity().clone()))
            .collect();
        Record { pieces, ports: self.options.ports }.write(&self.options.data_dir)
    }

    /// A fresh start writes a fresh log; the one before stays beside it.
    fn keep_old_log(&self, piece: Piece) {
        let log = self.log(piece);
        // There may be none: then there is nothing to keep.
        drop(fs::rename(&log, log.with_extension("log.previous")));
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.options.lifetime == Lifetime::Ours {
            for process in self.running.values_mut().rev() {
                // Whoever drops it without stopping it has no use for an error; at the latest the parent-death
                // signal ends what is left.
                drop(process.kill());
            }
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The lines of a log that tell why: errors if there are any, else its end.
fn telling_lines(log: &Path) -> String {
    const LINES: usize = 20;
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let loud = |line: &&str| {
        ["[error]", "[critical]", "ERROR", "panicked", "\"level\":\"error\""]
            .iter()
            .any(|mark| line.contains(mark))
    };
    let mut lines: Vec<&str> = text.lines().filter(loud).take(LINES).collect();
    if lines.is_empty() {
        let all: Vec<&str> = text.lines().collect();
        lines = all.get(all.len().saturating_sub(LINES)..).unwrap_or_default().to_vec();
    }
    if lines.is_empty() {
        return "  (nothing)".to_owned();
    }
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Asks Envoy's statistics for one number, like `http.public.downstream_rq_total`.
///
/// # Errors
/// When Envoy does not answer. `Ok(None)` when it has no such statistic.
pub fn statistic(admin: SocketAddr, name: &str) -> Result<Option<u64>> {
    let path = format!("/stats?format=text&filter=^{}$", name.replace('.', "\\."));
    let answer = http::get(admin, &path, Duration::from_secs(2))?;
    Ok(answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_by_its_errors_or_by_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        assert_eq!(telling_lines(&log), "  (nothing)");
        let quiet: String = (0..30).map(|n| format!("line {n}\n")).collect();
        fs::write(&log, &quiet).unwrap();
        assert!(telling_lines(&log).starts_with("  line 10\n"));
        fs::write(&log, format!("[error] why\n{quiet}")).unwrap();
        assert_eq!(telling_lines(&log), "  [error] why");
    }
}
