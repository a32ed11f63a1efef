//! Where `serve` exports the audit trail and its figures to.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::export::Personal;
use crate::units;

/// How often figures may be pushed.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = units::duration(text).map_err(|error| error.to_string())?;
    match INTERVALS.contains(&interval) {
        true => Ok(interval),
        false => Err("must be 1s to 1h".to_owned()),
    }
}

/// Places; each that takes the trail has its own cursor in it.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Export the audit trail to a collector over OTLP (logs): http(s)://HOST[:4318]
    #[arg(long = "export-otlp-url", env = "EXPORT_OTLP_URL", hide_env_values = true, value_name = "URL")]
    pub otlp_url: Option<String>,
    /// Push what /metrics tells to a collector over OTLP (metrics): http(s)://HOST[:4318]
    #[arg(
        long = "export-otlp-metrics-url",
        env = "EXPORT_OTLP_METRICS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub metrics_url: Option<String>,
    /// How often: 1s to 1h
    #[arg(
        long = "export-otlp-metrics-interval",
        env = "EXPORT_OTLP_METRICS_INTERVAL",
        default_value = "60s",
        value_parser = interval,
        value_name = "DURATION"
    )]
    pub metrics_interval: Duration,
    /// Export the audit trail to NATS JetStream: nats://[USER:PASSWORD@]HOST[:4222], tls:// for TLS
    #[arg(long = "export-nats-url", env = "EXPORT_NATS_URL", hide_env_values = true, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Its stream; made if there is none
    #[arg(
        long = "export-nats-stream",
        env = "EXPORT_NATS_STREAM",
        default_value = "PORTCULLIS_AUDIT",
        value_name = "NAME"
    )]
    pub nats_stream: String,
    /// The server's monitoring address, http://HOST:8222: only when it confirms `sync_interval: always` may what was exported
    /// be removed here
    #[arg(long = "export-nats-monitor-url", env = "EXPORT_NATS_MONITOR_URL", value_name = "URL")]
    pub nats_monitor_url: Option<String>,
    /// What exported records tell of people: nothing, or the ciphertext, which `portcullis keys open TENANT --record UID` opens for
    /// as long as the tenant has its keys
    #[arg(long = "export-personal", env = "EXPORT_PERSONAL", value_enum, default_value_t = Personal::Omit)]
    pub personal: Personal,
    /// Certificates (PEM) that those of the places must go back to, in place of the system's
    #[arg(long = "export-ca-file", env = "EXPORT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}
