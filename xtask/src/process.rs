//! Processes: starting them so that nothing else's Ctrl-C reaches them, and ending exactly those that were started.
//!
//! A process is known by its number, its start time and the boot it belongs to; so a number that the system has given
//! to somebody else since is never signalled.

use std::{
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
    sync::{
        OnceLock,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::clock::Deadline;

/// Which process, and not merely which number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub started: u64,
    /// Which boot that was.
    pub boot: String,
}

impl Identity {
    /// Who has this number now; `None` when nobody has, or only a process that has ended and was not yet collected.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = start_time(&stat)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, started, boot })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let pid = Pid::from_raw(self.pid).ok_or_else(gone)?;
        // The descriptor pins the process; whoever it pins is looked at before it is signalled.
        let pinned = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        if !self.is_alive() {
            return Err(gone());
        }
        Ok(rustix::process::pidfd_send_signal(&pinned, signal)?)
    }
}

/// The start time from `/proc/PID/stat`; `None` for a zombie. The name stands in parentheses and may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    const STATE: usize = 0;
    const START: usize = 19;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.get(STATE)?, "Z" | "X") {
        return None;
    }
    fields.get(START)?.parse().ok()
}

/// How long a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Killed when this process ends, however it ends.
    Ours,
    /// Goes on after this process.
    Detached,
}

/// A started process.
#[derive(Debug)]
pub struct Process {
    identity: Identity,
    /// `None` when another run started it.
    child: Option<Child>,
}

impl Process {
    /// Starts a command in a session of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, lifetime: Lifetime) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        // SAFETY: between fork and exec only two system calls are made, both safe there; nothing is allocated.
        #[expect(
            unsafe_code,
            reason = "the standard library offers neither setsid nor the parent-death signal"
        )]
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                if lifetime == Lifetime::Ours {
                    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                }
                Ok(())
            });
        }
        let mut child =
            spawn_from_lasting_thread(command).with_context(|| format!("cannot start {program}"))?;
        let pid = i32::try_from(child.id())?;
        let Some(identity) = Identity::of(pid) else {
            let status = child.wait()?;
            bail!("{program} ended at once: {}", describe(status));
        };
        Ok(Self { identity, child: Some(child) })
    }

    /// Takes over a process that another run started; `None` when it is gone.
    pub fn adopt(identity: Identity) -> Option<Self> {
        identity.is_alive().then_some(Self { identity, child: None })
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
        match &mut self.child {
            Some(child) => child.try_wait().ok().flatten().map(describe),
            None => (!self.identity.is_alive()).then(|| "ended".to_owned()),
        }
    }

    /// Asks it to end, waits, and kills it when it does not listen. Nothing happens when it has ended already.
    ///
    /// # Errors
    /// When it cannot be signalled, or survives being killed.
    pub fn stop(&mut self, patience: Duration) -> Result<()> {
        for (signal, patience) in [(Signal::TERM, patience), (Signal::KILL, Duration::from_secs(10))] {
            if self.ended().is_some() {
                return Ok(());
            }
            match self.identity.signal(signal) {
                Ok(()) => {}
                // It is ending: its first thread is gone, the others are about to be.
                Err(error) if error.kind() == io::ErrorKind::NotFound || self.ended().is_some() => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot signal process {}", self.identity.pid));
                }
            }
            if Deadline::after(patience).poll(|| self.ended()).is_some() {
                return Ok(());
            }
        }
        bail!("process {} survives being killed", self.identity.pid)
    }

    /// Kills it without a word, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn kill(&mut self) -> Result<()> {
        if self.ended().is_none() {
            // When it ends by itself just now there is nothing left to kill.
            drop(self.identity.signal(Signal::KILL));
        }
        self.stop(Duration::ZERO)
    }
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The parent-death signal of Linux follows the *thread* that started a child. Tests start things from threads that
/// end with each test; so one thread that lasts as long as the process starts them all.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static STARTER: OnceLock<Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Whoever asked waits for the answer.
                drop(answer.send(command.spawn()));
            }
        });
        jobs
    });
    let (answer, outcome) = mpsc::channel();
    let lost = || io::Error::other("the thread that starts processes is gone");
    starter.send((command, answer)).map_err(|_| lost())?;
    outcome.recv().map_err(|_| lost())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Process {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::start(command, Lifetime::Ours).unwrap()
    }

    #[test]
    fn stops_what_it_started() {
        let mut process = sleeper();
        assert!(process.identity().is_alive() && process.ended().is_none());
        process.stop(Duration::from_secs(5)).unwrap();
        assert_eq!(process.ended().unwrap(), "was killed by signal 15");
        process.stop(Duration::from_secs(5)).unwrap();
        process.kill().unwrap();
    }

    #[test]
    fn kills_what_does_not_listen() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
        command.stdout(std::process::Stdio::piped());
        let mut process = Process::start(command, Lifetime::Ours).unwrap();
        let mut ready = [0_u8; 5];
        let out = process.child.as_mut().unwrap().stdout.as_mut().unwrap();
        io::Read::read_exact(out, &mut ready).unwrap();
        process.stop(Duration::from_millis(50)).unwrap();
        assert_eq!(process.ended().unwrap(), "was killed by signal 9");
    }

    #[test]
    fn a_recycled_number_is_never_signalled() {
        let mut process = sleeper();
        let real = process.identity().clone();
        let earlier = Identity { started: real.started.wrapping_sub(1), ..real.clone() };
        let other_boot = Identity { boot: "another".to_owned(), ..real.clone() };
        for stranger in [earlier, other_boot] {
            assert!(!stranger.is_alive());
            assert!(stranger.signal(Signal::KILL).is_err());
            assert!(Process::adopt(stranger).is_none());
        }
        assert!(process.ended().is_none(), "the stranger's number must not have been signalled");
        let mut adopted = Process::adopt(real).unwrap();
        adopted.stop(Duration::from_secs(5)).unwrap();
        assert!(process.ended().is_some());
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = Process::start(Command::new("/no/such/program"), Lifetime::Ours).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }

    #[test]
    fn names_with_parentheses_and_zombies() {
        let rest = "1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        assert_eq!(start_time(&format!("7 (a) b (c)) S {rest}")), Some(98_765));
        assert_eq!(start_time(&format!("7 (x) Z {rest}")), None);
        assert_eq!(start_time("7 (x"), None);
    }
}
