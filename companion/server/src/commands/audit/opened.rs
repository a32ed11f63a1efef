//! The tenants' keys, for whoever may see what records tell of people.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::cli::StoreArgs;
use crate::clock::Clock;
use crate::hardening;
use crate::keys::{Absent, Keys, Service};
use crate::settings::{database, process_variables};
use crate::storage::{self, Shape};
use crate::trail::seal::Opener;

/// The store's keys and the runtime that reads them.
pub struct Opened {
    keys: Keys,
    /// The keys ask the store through it.
    _runtime: Runtime,
}

impl Opened {
    /// With the store and the root key that `serve` has.
    ///
    /// # Errors
    /// Either is not to be had.
    pub fn new(args: &StoreArgs) -> anyhow::Result<Self> {
        if hardening::forbid_dumps().is_err() {
            eprintln!("portcullis: the system does not forbid core dumps; they would hold keys");
        }
        let place = database(args)?;
        let service = Service::new(&process_variables, &args.data_dir, Absent::Reuse).context("--open")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let keys = runtime.block_on(async {
            let storage = storage::open(&place, Shape::default()).await?;
            anyhow::Ok(Keys::new(Arc::clone(&storage), &service, Clock::System))
        })?;
        Ok(Self { keys, _runtime: runtime })
    }

    /// Opens records, as of now.
    pub fn opener(&self) -> Opener<'_> {
        Opener::new(self.keys.blocking().session())
    }
}
