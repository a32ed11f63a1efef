//! Statements that read the same to every store: written once, with `?1`, `?2` as parameters and values of eight kinds.
//!
//! What is rare and small (tenants, policies, sessions, keys) is asked for in these; what is frequent (events, counts) has
//! a method of its own in [`super::Storage`]. Write what SQLite and PostgreSQL both understand: `ON CONFLICT`, `RETURNING`,
//! common table expressions; instants come from the caller, never from the store's clock.
//!
//! Outside of this seam the text is `&'static str`, so that nothing that came from a client can become part of it.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::StorageError;
use crate::clock::{Timestamp, rfc3339};

/// A value of a column or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A boolean; SQLite keeps 0 or 1.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An instant, kept to the millisecond; SQLite keeps RFC 3339 text.
    Time(Timestamp),
    /// A document; SQLite keeps text.
    Json(Json),
}

macro_rules! from {
    ($($source:ty => $variant:ident),+ $(,)?) => {$(
        impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Self::$variant(value.into())
            }
        }
    )+};
}
from!(bool => Bool, i64 => Int, u32 => Int, f64 => Real, &str => Text, String => Text, Vec<u8> => Bytes, Timestamp => Time, Json => Json);

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One statement with its values.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(super) sql: Cow<'static, str>,
    /// What PostgreSQL is asked instead.
    postgres: Option<Cow<'static, str>>,
    pub(super) values: Vec<Value>,
    pub(super) must_change: Option<u64>,
}

impl Statement {
    /// A statement whose parameters are `?1`, `?2`, ...
    #[must_use]
    pub fn new(sql: &'static str) -> Self {
        Self { sql: Cow::Borrowed(sql), postgres: None, values: Vec::new(), must_change: None }
    }

    /// The same statement in each store's own words, with the same parameters: for functions on JSON.
    pub(super) fn of_each(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { postgres: Some(Cow::Borrowed(postgres)), ..Self::new(sqlite) }
    }

    /// A statement that does something only as long as a tenant is there, which it says as [`Statement::OF_TENANT`]: whoever removes
    /// the tenant waits for it, and takes what it did along. SQLite has one writer anyway; PostgreSQL is told to lock the tenant's
    /// row, else neither would see the other. First in its transaction, as in that of the removal.
    #[must_use]
    pub fn of_tenant(sql: &'static str) -> Self {
        let locking = "FROM (SELECT tenant_id FROM tenants WHERE tenant_id = ?1 FOR KEY SHARE) AS tenants WHERE tenant_id = ?1";
        Self { postgres: Some(Cow::Owned(sql.replace(Self::OF_TENANT, locking))), ..Self::new(sql) }
    }

    /// The words that [`Statement::of_tenant`] looks for.
    pub const OF_TENANT: &'static str = "FROM tenants WHERE tenant_id = ?1";

    /// As PostgreSQL is asked it.
    pub(super) fn for_postgres(&self) -> &str {
        self.postgres.as_deref().unwrap_or(&self.sql)
    }

    /// A statement that was put together of fixed pieces, within the seam alone.
    pub(super) fn composed(sql: String, values: Vec<Value>) -> Self {
        Self { sql: Cow::Owned(sql), postgres: None, values, must_change: None }
    }

    /// The next parameter's value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Takes the whole transaction back, with [`StorageError::Conflict`], unless this statement changes exactly so many
    /// rows: how to change what is still as it was read.
    #[must_use]
    pub fn must_change(mut self, rows: u64) -> Self {
        self.must_change = Some(rows);
        self
    }

    /// Whether `changed` rows are what was asked for.
    pub(super) fn check(&self, changed: u64) -> Result<(), StorageError> {
        match self.must_change {
            Some(rows) if rows != changed => Err(StorageError::Conflict),
            _ => Ok(()),
        }
    }
}

/// Statements that happen together or not at all, in order.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub(super) lock: Option<String>,
    pub(super) statements: Vec<Statement>,
}

impl Transaction {
    /// Begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for every other transaction under the same name to end first. SQLite has one writer anyway.
    #[must_use]
    pub fn lock(mut self, name: impl Into<String>) -> Self {
        self.lock = Some(name.into());
        self
    }

    /// The next statement.
    #[must_use]
    pub fn then(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }
}

impl From<Statement> for Transaction {
    fn from(statement: Statement) -> Self {
        Self::new().then(statement)
    }
}

/// What a statement of a transaction did.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Rows that it changed; of one with `RETURNING`, the rows that it returned.
    pub changed: u64,
    /// What it returned.
    pub rows: Vec<Row>,
}

/// A row that was read. Columns are numbered from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    fn column(&self, index: usize) -> Result<&Value, StorageError> {
        self.0.get(index).ok_or_else(|| unexpected(index, "a column"))
    }

    /// Text, if there is any.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn text_or_null(&self, index: usize) -> Result<Option<String>, StorageError> {
        match self.column(index)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.clone())),
            _ => Err(unexpected(index, "text")),
        }
    }

    /// Text.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn text(&self, index: usize) -> Result<String, StorageError> {
        self.text_or_null(index)?.ok_or_else(|| unexpected(index, "text"))
    }

    /// A whole number, if there is one.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn int_or_null(&self, index: usize) -> Result<Option<i64>, StorageError> {
        match self.column(index)? {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(*number)),
            _ => Err(unexpected(index, "a whole number")),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn int(&self, index: usize) -> Result<i64, StorageError> {
        self.int_or_null(index)?.ok_or_else(|| unexpected(index, "a whole number"))
    }

    /// A number, if there is one.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn real_or_null(&self, index: usize) -> Result<Option<f64>, StorageError> {
        match self.column(index)? {
            Value::Null => Ok(None),
            Value::Real(number) => Ok(Some(*number)),
            _ => Err(unexpected(index, "a number")),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn real(&self, index: usize) -> Result<f64, StorageError> {
        self.real_or_null(index)?.ok_or_else(|| unexpected(index, "a number"))
    }

    /// A boolean.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn boolean(&self, index: usize) -> Result<bool, StorageError> {
        match self.column(index)? {
            Value::Bool(value) => Ok(*value),
            Value::Int(number) => Ok(*number != 0),
            _ => Err(unexpected(index, "a boolean")),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn bytes(&self, index: usize) -> Result<Vec<u8>, StorageError> {
        match self.column(index)? {
            Value::Bytes(bytes) => Ok(bytes.clone()),
            _ => Err(unexpected(index, "bytes")),
        }
    }

    /// An instant, if there is one.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn time_or_null(&self, index: usize) -> Result<Option<Timestamp>, StorageError> {
        match self.column(index)? {
            Value::Null => Ok(None),
            Value::Time(at) => Ok(Some(*at)),
            Value::Text(text) => text.parse().map(Some).map_err(|_| unexpected(index, "an instant")),
            _ => Err(unexpected(index, "an instant")),
        }
    }

    /// An instant.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn time(&self, index: usize) -> Result<Timestamp, StorageError> {
        self.time_or_null(index)?.ok_or_else(|| unexpected(index, "an instant"))
    }

    /// A document; null when there is none.
    ///
    /// # Errors
    /// The column holds something else.
    pub fn json(&self, index: usize) -> Result<Json, StorageError> {
        match self.column(index)? {
            Value::Null => Ok(Json::Null),
            Value::Json(json) => Ok(json.clone()),
            Value::Text(text) => serde_json::from_str(text).map_err(|_| unexpected(index, "JSON")),
            _ => Err(unexpected(index, "JSON")),
        }
    }
}

/// The value itself is not told: it may be a secret.
fn unexpected(index: usize, wanted: &str) -> StorageError {
    StorageError::Failed(format!("column {index} of a row is not {wanted}"))
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Owned::Null),
            Self::Bool(value) => ToSqlOutput::Owned(Owned::Integer(i64::from(*value))),
            Self::Int(number) => ToSqlOutput::Owned(Owned::Integer(*number)),
            Self::Real(number) => ToSqlOutput::Owned(Owned::Real(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Time(at) => ToSqlOutput::Owned(Owned::Text(rfc3339(*at))),
            Self::Json(json) => ToSqlOutput::Owned(Owned::Text(json.to_string())),
        })
    }
}

impl rusqlite::types::FromSql for Value {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        use rusqlite::types::ValueRef;
        Ok(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Int(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(_) => Self::Text(value.as_str()?.to_owned()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_another_kind_is_an_error_that_tells_no_value() {
        let row = Row(vec![Value::Text("hunter2".to_owned()), Value::Null, Value::Int(1)]);
        for error in [row.int(0).err(), row.text(1).err(), row.text(7).err(), row.time(0).err()] {
            assert!(!error.unwrap().to_string().contains("hunter2"));
        }
        assert_eq!(row.text_or_null(1).unwrap(), None);
        assert!(row.boolean(2).unwrap());
    }

    #[test]
    fn a_statement_may_ask_for_the_number_of_rows_that_it_changes() {
        assert!(Statement::new("x").check(7).is_ok());
        assert!(Statement::new("x").must_change(1).check(1).is_ok());
        assert!(matches!(Statement::new("x").must_change(1).check(0), Err(StorageError::Conflict)));
    }
}
