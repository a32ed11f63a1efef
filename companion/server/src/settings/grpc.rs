//! The rate limit service's part of the settings.

use std::net::SocketAddr;

use super::{SettingsError, Variables, variable};
use crate::cli::ServeArgs;
use crate::ingest::MIN_TOKEN_BYTES;
use crate::limits;
use crate::secret::Secret;

/// Where Envoy's rate limit service listens.
pub(super) fn grpc(
    args: &ServeArgs,
    variables: Variables<'_>,
) -> Result<Option<limits::grpc::Place>, SettingsError> {
    let config = args.limits_config.clone().filter(|path| !path.as_os_str().is_empty());
    let Some(port) = args.limits_grpc_port else {
        return if config.is_some() { Err(SettingsError::NoGrpcPort) } else { Ok(None) };
    };
    let token = variable(variables, "LIMITS_GRPC_TOKEN")
        .map(|text| Secret::new("LIMITS_GRPC_TOKEN", text, MIN_TOKEN_BYTES))
        .transpose()?;
    if token.is_none() && !args.limits_grpc_address.is_loopback() {
        return Err(SettingsError::NoGrpcToken);
    }
    let address = SocketAddr::new(args.limits_grpc_address, port);
    Ok(Some(limits::grpc::Place { address, token, config, headers: args.limit_response_headers_enabled }))
}
