//! Runs a statement and takes its number.

use std::time::Duration;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OpenFlags};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::query::{Query, computes};
use crate::pool::{Lease, QueryError};

/// Steps of SQLite's machine between two looks at the time.
const STEPS: i32 = 1000;
/// What a run may take beyond the server's own limit, for the way there and back.
const GRACE: Duration = Duration::from_secs(5);

/// How a statement is to be run.
#[derive(Clone, Debug)]
pub struct Measure {
    /// The statement.
    pub query: Query,
    /// The tenant: `portcullis.tenant_id` is set to it, for row-level policies.
    pub tenant: String,
    /// The role of PostgreSQL that it runs as.
    pub role: String,
    /// How long it may take.
    pub limit: Duration,
}

/// Why there is no number.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// It took too long.
    #[error("took longer than its time limit of {0:?}; give it an index, or a longer time_limit")]
    Timeout(Duration),
    /// The role is not there, or its member is not ours.
    #[error(
        "the role {0} cannot be taken; run: CREATE ROLE {0} NOLOGIN; GRANT {0} TO the role of database_url; and GRANT SELECT on what it may read"
    )]
    Role(String),
    /// The role may do more than read.
    #[error("the role {0} may do more than read ({1}); name one without such rights")]
    Privileged(String, String),
    /// It gives more or less than a number.
    #[error("gives {0}; write a SELECT of one number in one row")]
    Shape(&'static str),
    /// The database said so.
    #[error("{0}")]
    Failed(String),
}

/// Runs a statement over a connection of its tenant.
///
/// # Errors
/// [`MeasureError`].
pub async fn measure(lease: &Lease, measure: &Measure) -> Result<f64, MeasureError> {
    let value = match lease.observer() {
        Some(client) => {
            let bounded = measure.limit.saturating_add(GRACE);
            match tokio::time::timeout(bounded, postgres(client, measure)).await {
                Ok(value) => value?,
                Err(_) => return Err(MeasureError::Timeout(measure.limit)),
            }
        }
        None => sqlite(lease, measure).await?,
    };
    if value.is_finite() { Ok(value) } else { Err(MeasureError::Shape("no finite number")) }
}

async fn postgres(client: &Client, measure: &Measure) -> Result<f64, MeasureError> {
    let answer = within(client, measure).await;
    // Whatever happened, nothing of it stays; a connection on which this fails is found broken when it is next proven.
    let _ = client.batch_execute("ROLLBACK").await;
    answer
}

async fn within(client: &Client, measure: &Measure) -> Result<f64, MeasureError> {
    let failed = |error: tokio_postgres::Error| match error.code() {
        Some(&SqlState::QUERY_CANCELED) => MeasureError::Timeout(measure.limit),
        _ => MeasureError::Failed(crate::database(&error)),
    };
    let milliseconds = measure.limit.as_millis().max(1);
    client
        .batch_execute(&format!(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = 1000"
        ))
        .await
        .map_err(failed)?;
    client
        .query("SELECT set_config('portcullis.tenant_id', $1, true)", &[&measure.tenant])
        .await
        .map_err(failed)?;
    client.query("SELECT set_config('role', $1, true)", &[&measure.role]).await.map_err(
        |error| match error.code() {
            Some(
                &SqlState::INVALID_PARAMETER_VALUE
                | &SqlState::INSUFFICIENT_PRIVILEGE
                | &SqlState::UNDEFINED_OBJECT,
            ) => MeasureError::Role(measure.role.clone()),
            _ => failed(error),
        },
    )?;
    // What a role may do by being a member of another counts as well.
    let rights = client
        .query_one(
            "SELECT concat_ws(', ', CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolcreaterole THEN 'createrole' END, \
             CASE WHEN rolcreatedb THEN 'createdb' END, CASE WHEN rolbypassrls THEN 'bypassrls' END, \
             CASE WHEN rolreplication THEN 'replication' END, \
             (SELECT string_agg(other.rolname, ', ') FROM pg_roles other WHERE other.rolname IN \
             ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', 'pg_signal_backend', \
             'pg_write_all_data', 'pg_database_owner') AND pg_has_role(mine.oid, other.oid, 'MEMBER'))) \
             FROM pg_roles mine WHERE rolname = current_user",
            &[],
        )
        .await
        .map_err(failed)?;
    let rights: String = rights.try_get(0).map_err(failed)?;
    if !rights.is_empty() {
        return Err(MeasureError::Privileged(measure.role.clone(), rights));
    }
    let text = measure.query.text();
    let shape = client.prepare(&format!("SELECT * FROM ({text}) AS metric")).await.map_err(failed)?;
    let [column] = shape.columns() else { return Err(MeasureError::Shape("more or fewer columns than one")) };
    const NUMBERS: [Type; 6] =
        [Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8, Type::NUMERIC];
    if !NUMBERS.contains(column.type_()) {
        return Err(MeasureError::Shape("something that is no number"));
    }
    // Two rows are enough to see that there are too many.
    let number = format!("SELECT metric.value::float8 FROM ({text}) AS metric (value) LIMIT 2");
    let rows = client.query(&number, &[]).await.map_err(failed)?;
    match rows.as_slice() {
        [row] => row.try_get::<_, Option<f64>>(0).map_err(failed)?.ok_or(MeasureError::Shape(NULL)),
        [] => Err(MeasureError::Shape("no row")),
        _ => Err(MeasureError::Shape("more than one row")),
    }
}

const NULL: &str = "NULL, as sum and avg do of no rows: use coalesce";

async fn sqlite(lease: &Lease, measure: &Measure) -> Result<f64, MeasureError> {
    let (text, limit) = (measure.query.text().to_owned(), measure.limit);
    // Its outcome is a value of its own: a refusal is no failure of the connection that was lent.
    let asked = lease.run("a business metric", move |connection| {
        let path = connection.path().map(str::to_owned);
        Ok((path.map_or(Err(MeasureError::Shape("no file")), |path| file(&path, &text, limit)), 1))
    });
    match asked.await {
        Ok(answer) => answer,
        Err(QueryError::Sqlite(error)) => Err(MeasureError::Failed(error.to_string())),
        Err(error) => Err(MeasureError::Failed(error.to_string())),
    }
}

/// Over a connection of its own that can only read.
fn file(path: &str, text: &str, limit: Duration) -> Result<f64, MeasureError> {
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OperationInterrupted) => MeasureError::Timeout(limit),
        _ => MeasureError::Failed(error.to_string()),
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(limit.min(Duration::from_secs(1))).map_err(failed)?;
    connection
        .execute_batch("PRAGMA query_only = TRUE; PRAGMA trusted_schema = FALSE; PRAGMA temp_store = 2;")
        .map_err(failed)?;
    connection.authorizer(Some(permit)).map_err(failed)?;
    let ends = deadline(limit);
    connection.progress_handler(STEPS, Some(ends)).map_err(failed)?;
    let mut statement = connection.prepare(&format!("SELECT * FROM ({text}) LIMIT 2")).map_err(failed)?;
    if statement.column_count() != 1 {
        return Err(MeasureError::Shape("more or fewer columns than one"));
    }
    let mut rows = statement.query([]).map_err(failed)?;
    let value = match rows.next().map_err(failed)? {
        None => return Err(MeasureError::Shape("no row")),
        Some(row) => match row.get_ref(0).map_err(failed)? {
            #[expect(clippy::cast_precision_loss, reason = "a metric is a float, as everywhere")]
            rusqlite::types::ValueRef::Integer(number) => number as f64,
            rusqlite::types::ValueRef::Real(number) => number,
            rusqlite::types::ValueRef::Null => return Err(MeasureError::Shape(NULL)),
            _ => return Err(MeasureError::Shape("something that is no number")),
        },
    };
    match rows.next().map_err(failed)? {
        None => Ok(value),
        Some(_) => Err(MeasureError::Shape("more than one row")),
    }
}

/// What SQLite may do for a metric, whatever the text says.
fn permit(asked: AuthContext<'_>) -> Authorization {
    match asked.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        // What operators are called inside: LIKE and GLOB.
        AuthAction::Function { function_name }
            if computes(function_name) || ["like", "glob"].contains(&function_name) =>
        {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

fn deadline(limit: Duration) -> impl Fn() -> bool + Send + 'static {
    let started = tokio::time::Instant::now();
    move || started.elapsed() > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, limit: Duration) -> Result<f64, MeasureError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let made = Connection::open(&path).unwrap();
        made.execute_batch("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2.5, 'y'); CREATE VIEW v AS SELECT a FROM t").unwrap();
        let answer = file(path.to_str().unwrap(), text, limit);
        assert_eq!(
            made.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(),
            2,
            "{text}"
        );
        answer
    }

    #[test]
    fn a_file_gives_one_number_or_says_why_not() {
        let second = Duration::from_secs(1);
        assert_eq!(asked("SELECT sum(a) FROM t WHERE b LIKE '_'", second).unwrap(), 3.5);
        assert_eq!(asked("SELECT count(*) FROM v", second).unwrap(), 2.0);
        for (text, said) in [
            ("SELECT a FROM t", "more than one row"),
            ("SELECT a, b FROM t LIMIT 1", "columns"),
            ("SELECT b FROM t LIMIT 1", "no number"),
            ("SELECT sum(a) FROM t WHERE a > 5", "coalesce"),
            ("SELECT a FROM t WHERE a > 5", "no row"),
            ("SELECT count(*) FROM absent", "no such table"),
        ] {
            let error = asked(text, second).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    /// The reader refuses these; should it ever let one pass, the database does not.
    #[test]
    fn a_file_is_only_read_whatever_the_text_says() {
        for text in [
            "SELECT load_extension('x')",
            "SELECT 1) ; DELETE FROM t; --",
            "SELECT randomblob(10)",
            "SELECT 1 FROM pragma_table_info('t')",
        ] {
            assert!(asked(text, Duration::from_secs(1)).is_err(), "{text}");
        }
        let endless =
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
        assert!(matches!(asked(endless, Duration::from_millis(50)), Err(MeasureError::Timeout(_))));
    }
}
