//! How time is taken: by the server process's own CPU time where it runs on this machine, else by the clock.
//!
//! CPU time is not disturbed by what else the machine does.

use std::fs;

use tokio::time::Instant;
use tokio_postgres::Client;

use crate::Error;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// CPU seconds of the server's process.
    Cpu,
    /// Elapsed seconds.
    Elapsed,
}

/// Measures one session.
#[derive(Debug)]
pub struct Stopwatch {
    process: Option<String>,
}

/// A moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    cpu: Option<u64>,
    at: Instant,
}

impl Stopwatch {
    /// For the session of this connection.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn of(client: &Client) -> Result<Self, Error> {
        let Some(pid) = same_machine(client).await? else { return Ok(Self { process: None }) };
        let process = format!("/proc/{pid}/schedstat");
        let readable = cpu(&process).is_some();
        Ok(Self { process: readable.then_some(process) })
    }

    /// What is measured.
    #[must_use]
    pub fn clock(&self) -> Clock {
        if self.process.is_some() { Clock::Cpu } else { Clock::Elapsed }
    }

    /// Now.
    #[must_use]
    pub fn read(&self) -> Moment {
        Moment { cpu: self.process.as_deref().and_then(cpu), at: Instant::now() }
    }

    /// Seconds since a moment.
    #[must_use]
    pub fn since(&self, start: Moment) -> f64 {
        let now = self.read();
        match (start.cpu, now.cpu) {
            (Some(start), Some(now)) => {
                std::time::Duration::from_nanos(now.saturating_sub(start)).as_secs_f64()
            }
            _ => now.at.duration_since(start.at).as_secs_f64(),
        }
    }
}

/// The server's process, where it runs on this machine and may be looked at. In a container it would be a process of another kind, or none.
///
/// # Errors
/// When the connection is lost.
pub async fn same_machine(client: &Client) -> Result<Option<i32>, Error> {
    let asked =
        "SELECT pg_backend_pid(), inet_client_addr() IS NULL OR inet_client_addr() = inet_server_addr()";
    let row = client.query_one(asked, &[]).await?;
    let (pid, here): (i32, bool) = (row.try_get(0)?, row.try_get(1)?);
    let postgres =
        || fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("postgres"));
    Ok((here && postgres()).then_some(pid))
}

/// Nanoseconds on a CPU.
fn cpu(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok()
}
