//! `portcullis migrate`.

use crate::cli::StoreArgs;
use crate::settings::{database, make_data_dir};
use crate::storage::{self, Shape, Statement};

/// Brings the schema up to date, and lists the steps that the store has taken.
///
/// # Errors
/// The store cannot be opened, or another release made it.
pub fn run(args: &StoreArgs) -> anyhow::Result<()> {
    make_data_dir(&args.data_dir)?;
    let place = database(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let storage = storage::open(&place, Shape::default()).await?;
        let steps = Statement::new("SELECT name, applied_at FROM schema_migrations ORDER BY version");
        for row in storage.read(steps).await? {
            let at = crate::clock::rfc3339(row.time(1)?);
            super::print(&format!("{}: since {at}", row.text(0)?))?;
        }
        storage.close().await?;
        super::print(&format!("{place}: up to date"))
    })
}
