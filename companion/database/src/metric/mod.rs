//! A business metric: one statement of a tenant's database that gives one number.
//!
//! Against: a statement that writes, waits, reads files, ends others' sessions or gives back more than a number, whether by mistake
//! or on purpose. Three fences stand one behind the other: the statement is read and must be one `SELECT` of known functions
//! ([`Query`]); what runs is what was read, printed anew; and the database holds it to a read-only transaction, an
//! unprivileged role and a time limit ([`measure`]).
//! Not against: a costly statement within its time limit, or a tenant's own view that lies.
//!
//! Limits: [`MAX_BYTES`] of text; one row, one column, a finite number; [`LONGEST`] for a run.

mod query;
mod run;

use std::time::Duration;

pub use query::{Query, QueryProblem};
pub use run::{Measure, MeasureError, measure};

/// The longest statement.
pub const MAX_BYTES: usize = 8 * 1024;
/// The longest that a statement may be given.
pub const LONGEST: Duration = Duration::from_secs(30);
