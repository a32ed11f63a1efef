//! What a PostgreSQL server has counted of its statements (`pg_stat_statements`).
//!
//! [`windows`] tells what happened between two looks: which statements were slow, and which have become slower than their own past. It is
//! for who looks again and again. [`slowest`] tells what took longest since the counts began, with plans, for who looks once.
//!
//! Against: a server without the extension, or with one that is not loaded: that is no error, and [`Counting`] says what to do.

pub mod slowest;
pub mod windows;

use tokio_postgres::Client;

use crate::Error;

pub use slowest::slowest;
pub use windows::{Regression, Seen, Slow, Snapshot, Windows, snapshot};

const NO_EXTENSION: &str = "pg_stat_statements is not installed in this database; set shared_preload_libraries = 'pg_stat_statements', \
                            restart the server, and CREATE EXTENSION pg_stat_statements";
const NOT_LOADED: &str = "pg_stat_statements is installed and not loaded; set shared_preload_libraries = 'pg_stat_statements' and restart the server";

/// Whether a server counts statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counting {
    /// It does; the quoted schema of the extension.
    In(String),
    /// It does not; why, with the remedy.
    Missing(&'static str),
}

/// Asks whether the server counts statements. What is installed and not loaded shows when the counts are read: [`not_loaded`].
///
/// # Errors
/// It does not answer.
pub async fn counting(client: &Client) -> Result<Counting, Error> {
    let installed = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
                     WHERE e.extname = 'pg_stat_statements'";
    Ok(match client.query_opt(installed, &[]).await? {
        Some(row) => Counting::In(row.try_get(0)?),
        None => Counting::Missing(NO_EXTENSION),
    })
}

/// The remedy, if that is why the counts could not be read.
fn not_loaded(error: &tokio_postgres::Error) -> Option<&'static str> {
    let code = error.code()?;
    (code == &tokio_postgres::error::SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE).then_some(NOT_LOADED)
}
