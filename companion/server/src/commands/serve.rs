//! `portcullis serve`.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServeArgs;
use crate::clock::Clock;
use crate::companion::Companion;
use crate::settings::{Settings, process_variables};
use crate::{hardening, logging, settings};

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// One line with the remedy.
pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    // Before the first key is read.
    let forbidden = hardening::forbid_dumps();
    let settings = Settings::new(args, &process_variables)?;
    let level = settings::process_variables("PORTCULLIS_LOG");
    logging::start(settings.environment, level.as_deref(), settings.log_file.clone())
        .context("LOG_FILE cannot be opened; set it to a file that this user may write, or to none")?;
    if let Err(error) = forbidden {
        tracing::warn!(category = "security", %error, "the system does not forbid core dumps; they would hold keys");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime did not start; check the limits on threads and files")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    // Before anything is bound, so that a signal during the start is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    if settings.demonstration {
        tracing::warn!(
            category = "security",
            "demonstration: tenants register themselves; never put real traffic through it"
        );
    }
    if !settings.protections.security {
        tracing::warn!(
            category = "security",
            "SECURITY_ENABLED=false: no rate is limited and every password is good; tokens and sessions are checked all the same"
        );
    }
    if !settings.protections.database_optimization {
        tracing::info!(
            category = "application",
            "DATABASE_OPTIMIZATION_ENABLED=false: tenants' databases are neither watched nor looked through"
        );
    }
    if !settings.is_private() {
        tracing::warn!(
            category = "security",
            "listening beyond the loopback over plain HTTP; set TLS_CERT_FILE and TLS_KEY_FILE, or put a proxy with TLS in front"
        );
    }
    let place = format!("{:?}", settings.ingest);
    let database = settings.database.to_string();
    let companion = Companion::start(settings, Clock::System).await?;
    tracing::info!(
        category = "application",
        api = companion.api_address.map(tracing::field::display),
        limits_grpc = companion.grpc_address.map(tracing::field::display),
        ingest = companion.ingest_address.map_or(place, |address| address.to_string()),
        database,
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!(category = "application", "ending");
    companion.stop().await?;
    tracing::info!(category = "application", "ended");
    Ok(())
}
