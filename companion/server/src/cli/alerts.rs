//! What `serve` is told of alerts.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::http::access::Network;
use crate::units;

/// Alerts by webhook. The secret of ALERT_WEBHOOK_URL comes from the environment.
#[derive(Debug, Clone, Args)]
pub struct AlertArgs {
    /// Tell alerts to this webhook, signed with ALERT_WEBHOOK_SECRET; the API adds others
    #[arg(long, env = "ALERT_WEBHOOK_URL", hide_env_values = true, value_name = "URL")]
    pub alert_webhook_url: Option<String>,
    /// Webhooks and thresholds, JSON (mode 0600); written by the API [default: DATA_DIR/alerts.json]
    #[arg(long, env = "ALERT_CONFIG", value_name = "FILE")]
    pub alert_config: Option<PathBuf>,
    /// Where webhooks may be although it is private or this machine: 10.0.0.0/8, ::1, several with commas; left out: only public
    /// addresses. Plain http:// goes nowhere else
    #[arg(long, env = "ALERT_TARGETS_ALLOW", value_delimiter = ',', value_name = "ADDRESSES")]
    pub alert_targets_allow: Vec<Network>,
    /// Certificates (PEM) that those of webhooks must go back to, in place of the system's
    #[arg(long, env = "ALERT_CA_FILE", value_name = "FILE")]
    pub alert_ca_file: Option<PathBuf>,
    /// How often figures are looked at: 1s to 10m
    #[arg(long, env = "ALERT_INTERVAL", default_value = "15s", value_parser = units::duration, value_name = "DURATION")]
    pub alert_interval: Duration,
}
