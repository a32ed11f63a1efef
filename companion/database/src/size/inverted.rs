//! How large an inverted index will be: built on samples of two sizes, in a transaction that is rolled back, and scaled by what the larger took more.
//!
//! How much values hold and how often it comes again shows in how the size grows: in proportion where everything is new, less where it comes again.

use tokio_postgres::Client;

use crate::Error;
use crate::candidate::{Candidate, Method};

const PAGE: f64 = 8192.0;
/// Rows of the larger sample; the smaller has a quarter.
const ROWS: f64 = 16_000.0;
/// Seconds for both.
const SECONDS: u32 = 20;
/// Pages of an index that holds nothing: its description and an empty root.
const EMPTY: f64 = 2.0;
/// What is added, as a share: two samples tell less than all rows.
const MARGIN: f64 = 0.1;

/// Bytes that the candidate would take; `None` where it is no inverted index, the server would not build it, or nothing can be built here.
///
/// # Errors
/// When the connection is lost.
pub async fn gin(client: &Client, candidate: &Candidate) -> Result<Option<f64>, Error> {
    if candidate.method != Method::Gin {
        return Ok(None);
    }
    let begin = format!("BEGIN; SET LOCAL statement_timeout = '{SECONDS}s'");
    client.batch_execute(&begin).await?;
    let sizes = async {
        let few = sampled(client, candidate, ROWS / 4.0, "portcullis_few").await?;
        let many = sampled(client, candidate, ROWS, "portcullis_many").await?;
        Ok::<_, Error>((few, many))
    };
    let sizes = sizes.await;
    if !client.is_closed() {
        client.batch_execute("ROLLBACK").await?;
    }
    match sizes {
        Ok((few, many)) => Ok(Some(scaled(few, many, candidate.table.rows))),
        Err(Error::Database(error)) if !error.is_closed() => {
            tracing::debug!(index = candidate.definition(), %error, "the server would not build it");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Rows and pages of an index over a sample of about so many rows.
async fn sampled(client: &Client, candidate: &Candidate, rows: f64, name: &str) -> Result<(f64, f64), Error> {
    let table = candidate.table.sql();
    let columns: Vec<String> =
        candidate.keys.iter().flat_map(|key| key.key.columns()).map(crate::catalog::quoted).collect();
    let percent = (rows * 100.0 / candidate.table.rows.max(1.0)).clamp(0.0001, 100.0);
    client
        .batch_execute(&format!(
            "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {} FROM {table} TABLESAMPLE BERNOULLI ({percent}) REPEATABLE (1)",
            columns.join(", ")
        ))
        .await?;
    let definition = candidate.definition();
    let rest = definition.strip_prefix(&table).unwrap_or_default();
    client.batch_execute(&format!("CREATE INDEX {name}_index ON pg_temp.{name}{rest}")).await?;
    let asked = format!(
        "SELECT count(*)::float8, pg_relation_size('pg_temp.{name}_index')::float8 FROM pg_temp.{name}"
    );
    let row = client.query_one(&asked, &[]).await?;
    Ok((row.try_get(0)?, row.try_get::<_, f64>(1)? / PAGE))
}

/// Bytes for all rows, from what few and what many took: rows and pages of each.
fn scaled(few: (f64, f64), many: (f64, f64), rows: f64) -> f64 {
    let filled = |pages: f64| (pages - EMPTY).max(0.5);
    let more = (many.0 / few.0.max(1.0)).max(1.0);
    let power = if more > 1.5 { (filled(many.1) / filled(few.1)).ln() / more.ln() } else { 1.0 };
    let pages = filled(many.1) * (rows / many.0.max(1.0)).max(1.0).powf(power.clamp(0.5, 1.0));
    let margin = if rows > many.0 * 1.2 { 1.0 + MARGIN } else { 1.0 };
    (EMPTY + pages.ceil() * margin).ceil() * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_grows_less() {
        let pages = |few, many, rows| scaled(few, many, rows) / PAGE;
        // Everything is new: in proportion.
        let new = pages((4000.0, 27.0), (16_000.0, 102.0), 160_000.0);
        assert!((1000.0..1200.0).contains(&new), "{new}");
        // Twice as much for four times the rows: the root of the rows.
        let again = pages((4000.0, 52.0), (16_000.0, 102.0), 1_600_000.0);
        assert!((1000.0..1200.0).contains(&again), "{again}");
        // All rows were in the sample.
        assert!((pages((900.0, 10.0), (900.0, 10.0), 900.0) - 10.0).abs() < 1e-9);
        for odd in [(0.0, 0.0), (1.0, 2.0), (1e9, 1e9)] {
            assert!(scaled(odd, odd, 1e6).is_finite());
        }
    }
}
