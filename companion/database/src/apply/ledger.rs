//! The ledger: a table in the database itself that says which indexes are ours and how far each has come.
//!
//! An index is entered before its build begins, so that whoever comes after a crash knows what may be lying about. Only what
//! stands here is ever dropped.

use serde::Serialize;
use tokio_postgres::{Client, Row};

use super::Build;
use crate::Error;
use crate::catalog::{SCHEMA_OF_OURS, quoted};

/// An index in the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// The approved plan.
    pub plan: String,
    /// The index's schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `building`, `observing`, `kept`, `dropping`, `dropped`, `failed`.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// Bytes when it was built.
    pub bytes: Option<i64>,
}

impl Entry {
    /// The index as SQL has it.
    #[must_use]
    pub fn index(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

const COLUMNS: &str = "id, plan, schema_name, index_name, state, reason, bytes";
/// States in which there may be an index.
const LIVE: &str = "state IN ('building', 'observing', 'kept', 'dropping')";

/// Makes the ledger where there is none.
pub(super) async fn prepare(client: &Client) -> Result<(), Error> {
    let there = format!("SELECT to_regclass('{SCHEMA_OF_OURS}.index_ledger') IS NOT NULL");
    if client.query_one(&there, &[]).await?.try_get(0)? {
        return Ok(());
    }
    let make = format!(
        "CREATE SCHEMA IF NOT EXISTS {SCHEMA_OF_OURS};
         CREATE TABLE IF NOT EXISTS {SCHEMA_OF_OURS}.index_ledger (
           id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, plan text NOT NULL,
           schema_name text NOT NULL, index_name text NOT NULL, table_name text NOT NULL, statement text NOT NULL,
           state text NOT NULL CHECK (state IN ('building', 'observing', 'kept', 'dropping', 'dropped', 'failed')),
           reason text, bytes bigint,
           begun_at timestamptz NOT NULL DEFAULT now(), changed_at timestamptz NOT NULL DEFAULT now());
         CREATE UNIQUE INDEX IF NOT EXISTS index_ledger_live ON {SCHEMA_OF_OURS}.index_ledger (schema_name, index_name) WHERE {LIVE}"
    );
    Ok(client.batch_execute(&make).await?)
}

/// Enters an index that is about to be built.
pub(super) async fn begin(client: &Client, plan: &str, build: &Build) -> Result<i64, Error> {
    let insert = format!(
        "INSERT INTO {SCHEMA_OF_OURS}.index_ledger (plan, schema_name, index_name, table_name, statement, state)
         VALUES ($1, $2, $3, $4, $5, 'building') RETURNING id"
    );
    let row = client
        .query_one(&insert, &[&plan, &build.schema, &build.name, &build.table, &build.statement])
        .await?;
    Ok(row.try_get(0)?)
}

/// Enters how far an index has come.
pub(super) async fn note(client: &Client, id: i64, state: &str, reason: Option<&str>) -> Result<(), Error> {
    let update = format!(
        "UPDATE {SCHEMA_OF_OURS}.index_ledger SET state = $2, reason = coalesce($3, reason), changed_at = now() WHERE id = $1"
    );
    client.execute(&update, &[&id, &state, &reason]).await?;
    Ok(())
}

/// Enters what it takes.
pub(super) async fn size(client: &Client, id: i64, bytes: i64) -> Result<(), Error> {
    let update = format!("UPDATE {SCHEMA_OF_OURS}.index_ledger SET bytes = $2 WHERE id = $1");
    client.execute(&update, &[&id, &bytes]).await?;
    Ok(())
}

/// Indexes that there may be, the oldest first.
///
/// # Errors
/// When the server refuses.
pub async fn live(client: &Client) -> Result<Vec<Entry>, Error> {
    let there = format!("SELECT to_regclass('{SCHEMA_OF_OURS}.index_ledger') IS NOT NULL");
    if !client.query_one(&there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let select = format!("SELECT {COLUMNS} FROM {SCHEMA_OF_OURS}.index_ledger WHERE {LIVE} ORDER BY id");
    client.query(&select, &[]).await?.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        id: row.try_get(0)?,
        plan: row.try_get(1)?,
        schema: row.try_get(2)?,
        name: row.try_get(3)?,
        state: row.try_get(4)?,
        reason: row.try_get(5)?,
        bytes: row.try_get(6)?,
    })
}
