//! Where `serve` exports the audit trail to.

use std::path::PathBuf;

use clap::Args;

/// Places; each has its own cursor in the trail.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Export the audit trail to a collector over OTLP (logs): http(s)://HOST[:4318]
    #[arg(long = "export-otlp-url", env = "EXPORT_OTLP_URL", hide_env_values = true, value_name = "URL")]
    pub otlp_url: Option<String>,
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
    /// Certificates (PEM) that those of the places must go back to, in place of the system's
    #[arg(long = "export-ca-file", env = "EXPORT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}
