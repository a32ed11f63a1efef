//! The alerts' part of the settings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{SettingsError, Variables, variable};
use crate::alerts::Options;
use crate::alerts::config::Webhook;
use crate::alerts::webhook::{Guard, System};
use crate::cli::AlertArgs;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(300);
/// The first pause after a message that was not taken.
const RETRY: Duration = Duration::from_secs(1);

/// The alerts.
///
/// # Errors
/// The variable and the remedy.
pub fn alerts(args: &AlertArgs, data_dir: &Path, variables: Variables<'_>) -> Result<Options, SettingsError> {
    let url = args.alert_webhook_url.as_deref().filter(|url| !url.is_empty());
    let environment = url.map(|url| {
        let secret = variable(variables, "ALERT_WEBHOOK_SECRET").unwrap_or_default();
        Webhook::new(url, &secret).map_err(SettingsError::Webhook)
    });
    let file = |path: &Option<std::path::PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    Ok(Options {
        file: file(&args.alert_config).unwrap_or_else(|| data_dir.join("alerts.json")),
        kept: data_dir.join("alerts-kept.json"),
        environment: environment.transpose()?,
        guard: Guard {
            networks: args.alert_targets_allow.clone(),
            resolver: Arc::new(System),
            authorities: file(&args.alert_ca_file),
        },
        interval: args.alert_interval.clamp(Duration::from_secs(1), Duration::from_secs(600)),
        window: WINDOW,
        retry: RETRY,
    })
}
