//! What `serve` is told of the tenants' databases.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::http::access::Network;
use crate::units;

/// Where tenants' databases may be: addresses, or a folder of sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// A range of addresses.
    Network(Network),
    /// A folder.
    Sockets(PathBuf),
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            folder if folder.starts_with('/') => Ok(Self::Sockets(PathBuf::from(folder))),
            network => {
                network.parse().map(Self::Network).map_err(|error| format!("{error}; or a folder of sockets"))
            }
        }
    }
}

/// The tenants' databases.
#[derive(Debug, Clone, Args)]
pub struct DatabasesArgs {
    /// Connections to all tenants' databases together
    #[arg(long, env = "DATABASE_CONNECTIONS_MAX", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub database_connections_max: u16,
    /// Where tenants' databases may be although it is private or this machine: 10.0.0.0/8, ::1, or a folder of sockets, several
    /// with commas; left out: only public addresses
    #[arg(long, env = "DATABASE_TARGETS_ALLOW", value_delimiter = ',', value_name = "PLACES")]
    pub database_targets_allow: Vec<Allowed>,
    /// The folder that tenants' SQLite files are below; left out: no SQLite for tenants
    #[arg(long, env = "DATABASE_SQLITE_FOLDER", value_name = "FOLDER")]
    pub database_sqlite_folder: Option<PathBuf>,
    /// A statement of a tenant that takes so long is written down, as 1s
    #[arg(long, env = "DATABASE_SLOW_QUERY", default_value = "1s", value_parser = units::duration, value_name = "DURATION")]
    pub database_slow_query: Duration,
    /// How often pg_stat_statements of tenants' databases is looked at, as 60s
    #[arg(long, env = "DATABASE_WATCH", default_value = "60s", value_parser = units::duration, value_name = "DURATION")]
    pub database_watch: Duration,
    /// How long indexes that were built through the API are watched before they are kept, as 10m; one that harms goes at once
    #[arg(long, env = "DATABASE_OBSERVE", default_value = "10m", value_parser = units::duration, value_name = "DURATION")]
    pub database_observe: Duration,
    /// Bytes of answers of tenants' databases that are kept for who reads through the cache; 0: none
    #[arg(long, env = "DATABASE_CACHE_BYTES", default_value_t = 33_554_432, value_name = "BYTES")]
    pub database_cache_bytes: u64,
    /// How long such an answer is kept at most, as 30s: what changes without the companion's knowledge is seen after that
    #[arg(long, env = "DATABASE_CACHE_LIFE", default_value = "30s", value_parser = units::duration, value_name = "DURATION")]
    pub database_cache_life: Duration,
}
