//! The log: one JSON object a line, on standard error and in a file that is rotated.
//!
//! Every line has `timestamp`, `level`, `category`, `target` and `message`; while a request is answered also its
//! `correlation_id`. The categories are `audit` (who did what: authentication, administration, events that applications report),
//! `security` (threats, refusals), `performance` (what was slow) and `application` (everything else). ENVIRONMENT chooses the level.
//!
//! Text that came from outside is a JSON string of bounded length in which every control character is escaped ([`line`]), so that
//! none reaches a terminal raw and no line pretends to be two. Secrets have no `Display` and print `***` in debug.
//! Limits: 1024 characters a field; 10 MB a file and ten older ones ([`rotation`]). A file that cannot be written is said on
//! standard error and counted; the lines still go to standard error.

pub(crate) mod line;
mod rotation;

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_policy::CorrelationId;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::Environment;
use crate::clock::Clock;
use rotation::Rotating;

tokio::task_local! {
    static CORRELATION: CorrelationId;
}

/// Lines that a file did not take.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Answers a request; what is logged meanwhile carries its ID.
pub async fn correlated<F: Future>(id: CorrelationId, answering: F) -> F::Output {
    CORRELATION.scope(id, answering).await
}

/// How many lines the log's file did not take; they went to standard error alone.
#[must_use]
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Where the file is, by `LOG_FILE`: left out or empty `DATA_DIR/logs/portcullis.log`, `none` nowhere.
#[must_use]
pub fn place(log_file: Option<&Path>, data_dir: &Path) -> Option<PathBuf> {
    match log_file {
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) if !path.as_os_str().is_empty() => Some(path.to_owned()),
        _ => Some(data_dir.join("logs").join("portcullis.log")),
    }
}

/// Starts the log; the first call of a process counts.
///
/// # Errors
/// When the file cannot be made or opened.
pub fn start(environment: Environment, level: Option<&str>, file: Option<PathBuf>) -> std::io::Result<()> {
    let chosen = match environment {
        Environment::Development => "debug",
        Environment::Staging | Environment::Production => "info",
    };
    let level =
        level.filter(|level| ["error", "warn", "info", "debug", "trace"].contains(level)).unwrap_or(chosen);
    // Only our own lines below warnings: libraries may log what they read.
    let filter = EnvFilter::new(format!("warn,portcullis_server={level},portcullis={level}"));
    let file = file.map(Rotating::open).transpose()?;
    // A second start within one process keeps the first log.
    let _ = tracing_subscriber::registry().with(filter).with(Lines { file: file.map(Mutex::new) }).try_init();
    Ok(())
}

/// Writes each event as a line.
struct Lines {
    file: Option<Mutex<Rotating>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let correlation = CORRELATION.try_with(Clone::clone).ok();
        let text = line::of(event, Clock::System.now(), correlation.as_ref().map(CorrelationId::as_str));
        // Nobody can be told when this fails.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        let Some(file) = &self.file else { return };
        let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = file.write(text.as_bytes())
            && LOST.fetch_add(1, Ordering::Relaxed) == 0
        {
            let text = line::of_failure(&error.to_string(), Clock::System.now());
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }
}
