//! What PostgreSQL would build: tried on an empty copy of the table, in a transaction that is rolled back.
//!
//! It refuses expressions and predicates that may change their answer: `date_trunc('day', at)` of a time with time zone, or such a time compared
//! with a `date`.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::Error;
use crate::candidate::Candidate;
use crate::sql::Key;

/// Seconds for computing a candidate's expressions of all rows.
const COMPUTE_SECONDS: u32 = 20;

/// Whether the candidate's expressions can be computed of every row: a division or a cast may fail on one. What takes too long is believed.
pub(crate) async fn computes(client: &Client, candidate: &Candidate) -> Result<bool, Error> {
    let expressions: Vec<String> = candidate
        .keys
        .iter()
        .filter_map(|key| match &key.key {
            Key::Expression { sql, .. } => Some(format!("count(({sql}))")),
            Key::Column(_) => None,
        })
        .collect();
    if expressions.is_empty() {
        return Ok(true);
    }
    let condition = candidate.condition().map(|one| format!(" WHERE {one}")).unwrap_or_default();
    let statement = format!(
        "BEGIN; SET LOCAL statement_timeout = '{COMPUTE_SECONDS}s'; SELECT {} FROM {}{condition}",
        expressions.join(", "),
        candidate.table.sql()
    );
    let computed = match client.batch_execute(&statement).await {
        Ok(()) => true,
        Err(error) if error.is_closed() => return Err(error.into()),
        Err(error) => error.code() == Some(&SqlState::QUERY_CANCELED),
    };
    client.batch_execute("ROLLBACK").await?;
    Ok(computed)
}

/// Those of the candidates that would be built; `otherwise` decides where no temporary table can be made.
pub(super) async fn buildable(
    client: &Client,
    candidates: Vec<Candidate>,
    otherwise: impl Fn(&Candidate) -> bool,
) -> Result<Vec<Candidate>, Error> {
    let mut tables: BTreeMap<u32, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        tables.entry(candidate.table.oid).or_default().push(candidate);
    }
    let mut good = Vec::new();
    for candidates in tables.into_values() {
        let Some(table) = candidates.first().map(|one| one.table.sql()) else { continue };
        let begin = format!("BEGIN; CREATE TEMPORARY TABLE portcullis_like (LIKE {table}) ON COMMIT DROP");
        let copied = succeeds(client, &begin).await?;
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        for candidate in candidates {
            let built =
                if copied { tried(client, &candidate, &mut known).await? } else { otherwise(&candidate) };
            if built {
                good.push(candidate);
            }
        }
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(good)
}

/// Tries what may be refused: the expressions and the predicate.
async fn tried(
    client: &Client,
    candidate: &Candidate,
    known: &mut BTreeMap<String, bool>,
) -> Result<bool, Error> {
    let mut part = candidate.clone();
    part.include = BTreeSet::new();
    if part.keys.iter().any(|key| matches!(key.key, Key::Expression { .. })) {
        part.keys.retain(|key| matches!(key.key, Key::Expression { .. }));
    } else if part.condition().is_some() {
        part.keys.truncate(1);
    } else {
        return Ok(true);
    }
    let definition = part.definition();
    if let Some(built) = known.get(&definition) {
        return Ok(*built);
    }
    let table = candidate.table.sql();
    let rest = definition.strip_prefix(&table).unwrap_or_default();
    client.batch_execute("SAVEPOINT portcullis_try").await?;
    let built = succeeds(client, &format!("CREATE INDEX ON pg_temp.portcullis_like{rest}")).await?;
    client.batch_execute("ROLLBACK TO portcullis_try; RELEASE portcullis_try").await?;
    known.insert(definition, built);
    Ok(built)
}

async fn succeeds(client: &Client, statement: &str) -> Result<bool, Error> {
    match client.batch_execute(statement).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_closed() => Err(error.into()),
        Err(error) => {
            tracing::debug!(statement, %error, "the server would not build it");
            Ok(false)
        }
    }
}
