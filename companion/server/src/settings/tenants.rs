//! The part of the settings about the tenants' databases.

use std::time::Duration;

use portcullis_database::cache::Limits;
use portcullis_database::pool;

use crate::cli::{Allowed, ServeArgs};
use crate::databases;

/// The tenants' databases.
#[must_use]
pub fn databases(args: &ServeArgs) -> databases::Options {
    let own = &args.databases;
    let mut options = databases::Options {
        enabled: args.database_optimization_enabled,
        shape: pool::Shape {
            size: args.database_pool_size.into(),
            overflow: args.database_max_overflow.into(),
            wait: Duration::from_secs(args.database_pool_timeout.into()),
            cap: own.database_connections_max.into(),
            slow: own.database_slow_query,
            cache: Limits { bytes: own.database_cache_bytes, life: own.database_cache_life },
        },
        sqlite: own.database_sqlite_folder.clone().filter(|folder| !folder.as_os_str().is_empty()),
        watch: own.database_watch.clamp(Duration::from_secs(1), Duration::from_secs(3600)),
        observe: own.database_observe.min(Duration::from_secs(86_400)),
        ..databases::Options::default()
    };
    for place in &own.database_targets_allow {
        match place {
            Allowed::Network(network) => options.networks.push(*network),
            Allowed::Sockets(folder) => options.sockets.push(folder.clone()),
        }
    }
    options
}
