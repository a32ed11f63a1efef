//! `portcullis token`.

use crate::cli::TokenArgs;
use crate::clock::Clock;
use crate::settings::{existing_token_key, process_variables};
use crate::tenant::TenantId;
use crate::token::Scope;

/// Prints a token and nothing else, so that a shell can take it.
///
/// # Errors
/// No key, a malformed tenant, a life out of bounds.
pub fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let scope = match args.tenant.as_deref().filter(|tenant| !tenant.is_empty()) {
        None => Scope::Admin,
        Some(name) => {
            Scope::Tenant(TenantId::new(name).map_err(|error| anyhow::anyhow!("--tenant: {error}"))?)
        }
    };
    let key = existing_token_key(&args.data_dir, &process_variables)?;
    super::print(&key.issue(&scope, Clock::System.now(), args.ttl)?)
}
