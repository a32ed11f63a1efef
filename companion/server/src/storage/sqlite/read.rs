//! Reading from the embedded store.

use rusqlite::{Connection, params_from_iter};

use crate::storage::{Row, SqlValue, Statement, StorageError};

/// The rows of a statement.
pub fn rows(connection: &Connection, statement: &Statement) -> Result<Vec<Row>, StorageError> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let columns = prepared.column_count();
    let rows = prepared.query_map(params_from_iter(&statement.values), |row| {
        (0..columns).map(|column| row.get(column)).collect::<Result<Vec<SqlValue>, _>>().map(Row)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The store answers.
pub fn probe(connection: &Connection) -> Result<(), StorageError> {
    connection.prepare_cached("SELECT written_at FROM store_probe")?.query_row([], |_| Ok(()))?;
    Ok(())
}
