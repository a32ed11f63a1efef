//! `portcullis tenant`: what an operator does where tenants do not register themselves. It may run beside
//! `serve`.

use crate::cli::{TenantArgs, TenantCommand};
use crate::clock::Clock;
use crate::settings::{database, make_data_dir};
use crate::storage::{self, Shape, Storage};
use crate::tenant::{TenantId, records};

/// Tenants read at a time.
const PAGE: u32 = 1000;

/// Adds or lists tenants.
///
/// # Errors
/// A malformed name, or a store that cannot be opened.
pub fn run(args: &TenantArgs) -> anyhow::Result<()> {
    make_data_dir(&args.store.data_dir)?;
    let place = database(&args.store)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let storage = storage::open(&place, Shape::default()).await?;
        match &args.command {
            TenantCommand::Add { name } => {
                let tenant = TenantId::new(name)?;
                let added = records::add(&*storage, &tenant, Clock::System.now()).await?;
                super::print(&format!("{tenant}: {}", if added { "added" } else { "exists already" }))?;
            }
            TenantCommand::List => list(&*storage).await?,
        }
        storage.close().await?;
        anyhow::Ok(())
    })
}

async fn list(storage: &dyn Storage) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = records::list(storage, after.as_ref(), PAGE).await?;
        for tenant in &page {
            super::print(tenant.as_str())?;
        }
        after = page.last().cloned();
        if after.is_none() {
            return Ok(());
        }
    }
}
