//! Where the audit trail and the companion's figures are exported to.

use super::{SettingsError, Variables, variable};
use crate::cli::ServeArgs;
use crate::export::Places;

/// Where they go.
///
/// # Errors
/// An address or a header that cannot be.
pub fn places(args: &ServeArgs, variables: Variables<'_>) -> Result<Places, SettingsError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.trim().to_owned(), value.trim().to_owned())
    };
    let headers = variable(variables, "EXPORT_OTLP_HEADERS").unwrap_or_default();
    let places = Places {
        otlp_url: given(&args.exports.otlp_url),
        otlp_headers: headers.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect(),
        metrics: given(&args.exports.metrics_url).map(|url| (url, args.exports.metrics_interval)),
        nats_url: given(&args.exports.nats_url),
        nats_stream: args.exports.nats_stream.clone(),
        nats_monitor_url: given(&args.exports.nats_monitor_url),
        personal: args.exports.personal,
        authorities: args.exports.ca_file.clone().filter(|path| !path.as_os_str().is_empty()),
    };
    places.collectors()?;
    places.pusher()?;
    Ok(places)
}
