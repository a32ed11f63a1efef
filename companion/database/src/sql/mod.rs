//! What a statement asks of each table: which columns it reads, by what it filters, joins, groups and orders.
//!
//! The statement is read by a PostgreSQL parser, and every name is resolved as PostgreSQL does it: through aliases, derived
//! tables, common table expressions and the scopes around a subquery. A name that cannot be resolved is left out, never guessed.
//!
//! Limits: 256 KiB of text; what is nested deeper than the parser permits is refused. Functions are not looked
//! into; views are, to a depth of 8; of a partitioned table the 16 largest parts. Of alternatives (`OR`) only what all of them demand is taken, and
//! alternatives of one column.

mod expression;
mod order;
mod predicate;
mod scope;
mod view;
mod walk;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::catalog::{Catalog, Table};

/// The longest text that is read.
pub const MAX_BYTES: usize = 256 * 1024;
/// The stack of the thread that reads: long chains of operators nest deeply.
const STACK: usize = 256 * 1024 * 1024;

/// One use of a table in a statement.
#[derive(Debug, Clone)]
pub struct Access {
    /// The table.
    pub table: Arc<Table>,
    /// Columns that are read.
    pub used: BTreeSet<String>,
    /// Conditions that all must hold.
    pub predicates: Vec<Predicate>,
    /// What the result is ordered by, if all of it is of this table.
    pub order: Vec<Order>,
    /// What the result is grouped by, if all of it is of this table.
    pub group: Vec<Key>,
    /// Only the first rows are wanted.
    pub limited: bool,
    /// How the statement writes this table, if it does.
    pub written: Option<Written>,
}

/// How a table is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Rows are added.
    Inserted,
    /// These columns of rows are changed.
    Updated(BTreeSet<String>),
    /// Rows are taken away.
    Deleted,
}

/// What can be a key of an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A column.
    Column(String),
    /// An expression over columns of one table, as SQL with unqualified names.
    Expression {
        /// The text.
        sql: String,
        /// What it reads.
        columns: BTreeSet<String>,
    },
}

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    /// What is compared.
    pub key: Key,
    /// How.
    pub kind: Kind,
    /// The condition as SQL with unqualified names.
    pub clause: String,
    /// The literal of an equality.
    pub value: Option<String>,
    /// It compares with literals alone, so it can be the predicate of a partial index.
    pub constant: bool,
    /// Of a range, the bound from which on it asks, as SQL: `created_at >= '2026-05-01'`. Later bounds imply it.
    pub since: Option<String>,
}

/// How a key is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `=` with something that is no column of another table; a bare boolean column.
    Equal,
    /// `IN` and `= ANY`.
    In,
    /// `IS NULL`.
    Null,
    /// `=` with a column of another table.
    Join,
    /// `<`, `<=`, `>`, `>=`, `BETWEEN`.
    Range,
    /// `LIKE 'text%'`.
    Prefix,
    /// `LIKE '%text%'`, whatever the case: of use to an index of trigrams alone.
    Infix,
    /// `@>`, `&&`, `@@`, `@?`: what is in the value, of use to an inverted index alone.
    Contains,
    /// `?`, `?|`, `?&`: keys that the value has.
    Has,
    /// `<>`, `NOT IN`, `IS NOT NULL`: of use only as the predicate of a partial index.
    Not,
}

/// A key and a direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// What is ordered by.
    pub key: Key,
    /// Largest first.
    pub descending: bool,
    /// Where nulls stand.
    pub nulls_first: bool,
}

impl Order {
    /// In the order that an index has when nothing is said.
    #[must_use]
    pub fn ascending(key: Key) -> Self {
        Self { key, descending: false, nulls_first: false }
    }
}

impl Key {
    /// The columns it reads.
    pub fn columns(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Column(name) => Box::new(std::iter::once(name.as_str())),
            Self::Expression { columns, .. } => Box::new(columns.iter().map(String::as_str)),
        }
    }
}

/// A statement that was read.
#[derive(Debug, Default)]
pub struct Analysis {
    /// Uses of tables.
    pub accesses: Vec<Access>,
    /// It writes.
    pub writes: bool,
    /// It can be explained: SELECT, INSERT, UPDATE, DELETE, VALUES.
    pub explainable: bool,
    /// Relations that one SELECT of it joins, at most.
    pub joined: usize,
}

/// Why a statement was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// Not SQL that the parser knows.
    #[error("{0}")]
    Syntax(String),
    /// Too long.
    #[error("{0} bytes long; statements of up to {MAX_BYTES} bytes are read")]
    Long(usize),
    /// Nothing but white space and comments.
    #[error("no statement in it")]
    Empty,
    /// The system gave no thread.
    #[error("no thread to read it with")]
    Thread,
}

/// Reads statements; the answers are in their order. Each text may hold one statement.
pub fn analyze(catalog: &Catalog, texts: &[&str]) -> Vec<Result<Analysis, SqlError>> {
    let read = || texts.iter().map(|text| one(catalog, text)).collect::<Vec<_>>();
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(threads, read);
        thread.ok().and_then(|thread| thread.join().ok())
    })
    .unwrap_or_else(|| texts.iter().map(|_| Err(SqlError::Thread)).collect())
}

fn one(catalog: &Catalog, text: &str) -> Result<Analysis, SqlError> {
    if text.len() > MAX_BYTES {
        return Err(SqlError::Long(text.len()));
    }
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, text)
        .map_err(|error| SqlError::Syntax(error.to_string().replace("sql parser error: ", "")))?;
    let statement = statements.first().ok_or(SqlError::Empty)?;
    let mut scopes = scope::Analyzer::new(catalog);
    let explainable = matches!(
        statement,
        Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)
    );
    let writes = !matches!(statement, Statement::Query(_));
    if explainable {
        scopes.statement(statement);
    }
    Ok(Analysis {
        writes: writes || scopes.wrote(),
        joined: scopes.joined,
        accesses: scopes.finish(),
        explainable,
    })
}

#[cfg(test)]
mod tests;
