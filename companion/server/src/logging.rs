//! The log: one JSON object a line on standard error, with `category` and, where there is a request, its
//! `correlation_id`.
//!
//! Text that came from outside is a JSON string here, so that a control character never reaches a terminal
//! raw. Secrets have no `Display` and print `***` in debug.

use tracing_subscriber::EnvFilter;

use crate::cli::Environment;

/// Starts the log; the first call counts.
pub fn start(environment: Environment, level: Option<&str>) {
    let chosen = match environment {
        Environment::Development => "debug",
        Environment::Staging | Environment::Production => "info",
    };
    let level =
        level.filter(|level| ["error", "warn", "info", "debug", "trace"].contains(level)).unwrap_or(chosen);
    // Only our own lines below warnings: libraries may log what they read.
    let filter = EnvFilter::new(format!("warn,portcullis_server={level},portcullis={level}"));
    let log = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start within one process keeps the first log.
    let _ = log.try_init();
}
