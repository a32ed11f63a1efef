//! Reads a statement and refuses what is not one `SELECT` of known functions.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, JsonPath, ObjectName, ObjectNamePart, Query as Ast, Select, SelectFlavor, SetExpr,
    Statement, TableFactor, UnaryOperator, Visit, Visitor,
};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;

use super::MAX_BYTES;
use crate::pool::target::Kind;

/// How deeply a statement may be nested.
const DEPTH: usize = 40;
/// Functions that compute and do nothing else, of both kinds of databases. What is not here may write, wait or reach elsewhere, and a list
/// of what may not be called is never complete.
const FUNCTIONS: [&str; 67] = [
    "abs",
    "age",
    "array_agg",
    "array_length",
    "avg",
    "bool_and",
    "bool_or",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "date_bin",
    "date_part",
    "date_trunc",
    "datetime",
    "dense_rank",
    "extract",
    "first_value",
    "floor",
    "greatest",
    "ifnull",
    "iif",
    "julianday",
    "justify_days",
    "justify_hours",
    "lag",
    "last_value",
    "lead",
    "least",
    "length",
    "ln",
    "localtimestamp",
    "log",
    "lower",
    "max",
    "min",
    "mod",
    "mode",
    "now",
    "ntile",
    "nullif",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "position",
    "power",
    "rank",
    "round",
    "row_number",
    "sign",
    "sqrt",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "strftime",
    "substr",
    "sum",
    "to_char",
    "total",
    "upper",
    "variance",
];

/// Why a statement is not one that may be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryProblem {
    /// Nothing, or too much.
    #[error("a statement has 1 to {MAX_BYTES} bytes")]
    Length,
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// More or fewer than one.
    #[error("holds {0} statements; write one SELECT")]
    Statements(usize),
    /// Something else.
    #[error("{0} may not stand here; write one SELECT that reads and computes")]
    Forbidden(String),
    /// A function that is not known to do nothing but compute.
    #[error(
        "the function {0} may not be called: it is not one of those that only compute, like count, sum, avg, coalesce, date_trunc, now"
    )]
    Function(String),
}

/// A statement that may be run. It can only be had by reading one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    kind: Kind,
    /// As it was read: what is run is this and nothing that the reader passed over.
    text: String,
}

impl Query {
    /// Reads a statement for a database of `kind`.
    ///
    /// # Errors
    /// [`QueryProblem`] names what may not be.
    pub fn new(sql: &str, kind: Kind) -> Result<Self, QueryProblem> {
        if sql.trim().is_empty() || sql.len() > MAX_BYTES || sql.contains('\0') {
            return Err(QueryProblem::Length);
        }
        let dialect: &dyn Dialect = match kind {
            Kind::Postgres => &PostgreSqlDialect {},
            Kind::Sqlite => &SQLiteDialect {},
        };
        let read = Parser::new(dialect).with_recursion_limit(DEPTH).try_with_sql(sql);
        let statements = read.and_then(|mut parser| parser.parse_statements());
        let mut statements = statements
            .map_err(|error| QueryProblem::Unreadable(error.to_string().chars().take(200).collect()))?;
        let (Some(Statement::Query(query)), true) = (statements.pop(), statements.is_empty()) else {
            return Err(match statements.len() {
                0 => QueryProblem::Forbidden("anything but a SELECT".to_owned()),
                more => QueryProblem::Statements(more.saturating_add(1)),
            });
        };
        match query.visit(&mut Fence) {
            ControlFlow::Break(problem) => Err(problem),
            ControlFlow::Continue(()) => Ok(Self { kind, text: query.to_string() }),
        }
    }

    /// For which kind of database it was read.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The statement.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a function is one of those that only compute.
pub(super) fn computes(name: &str) -> bool {
    FUNCTIONS.binary_search(&name.to_ascii_lowercase().as_str()).is_ok()
}

/// Looks at every part of a statement.
struct Fence;

type Found = ControlFlow<QueryProblem>;

fn forbidden(what: &str) -> Found {
    ControlFlow::Break(QueryProblem::Forbidden(what.to_owned()))
}

fn function(name: &ObjectName) -> Found {
    let parts: Option<Vec<&str>> =
        name.0.iter().map(|part| part.as_ident().map(|ident| ident.value.as_str())).collect();
    let known = match parts.as_deref() {
        Some([name]) => computes(name),
        Some(["pg_catalog", name]) => computes(name),
        _ => false,
    };
    match known {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(QueryProblem::Function(name.to_string().chars().take(100).collect())),
    }
}

/// `VALUES`, `SELECT` and what joins them; nothing that writes.
fn body(set: &SetExpr) -> Found {
    match set {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => {
            body(left)?;
            body(right)
        }
        _ => forbidden("a part that is neither SELECT nor VALUES"),
    }
}

impl Visitor for Fence {
    type Break = QueryProblem;

    fn pre_visit_statement(&mut self, _: &Statement) -> Found {
        // The outermost is a query already; what comes here stands inside of it.
        forbidden("a statement within the statement")
    }

    fn pre_visit_query(&mut self, query: &Ast) -> Found {
        let plain = query.locks.is_empty()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !plain {
            return forbidden("FOR UPDATE, FOR SHARE, or a clause that PostgreSQL and SQLite do not have");
        }
        body(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        if select.into.is_some() || !matches!(select.flavor, SelectFlavor::Standard) {
            return forbidden("SELECT INTO");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
        match factor {
            TableFactor::Table { args: None, json_path: None::<JsonPath>, name, .. }
                if name.0.iter().all(|part| matches!(part, ObjectNamePart::Identifier(_))) =>
            {
                ControlFlow::Continue(())
            }
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => forbidden("a function in FROM"),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> Found {
        match expression {
            Expr::Function(called) => function(&called.name),
            Expr::BinaryOp {
                op: BinaryOperator::PGCustomBinaryOperator(_) | BinaryOperator::Custom(_),
                ..
            } => forbidden("an operator of somebody's own"),
            Expr::UnaryOp { op: UnaryOperator::PGPostfixFactorial, .. } => {
                forbidden("an operator of somebody's own")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(sql: &str) -> Result<Query, QueryProblem> {
        Query::new(sql, Kind::Postgres)
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(FUNCTIONS.is_sorted());
    }

    #[test]
    fn what_reads_and_computes_passes() {
        for sql in [
            "SELECT count(*) FROM users WHERE last_seen > now() - interval '1 day'",
            "select count(distinct user_id) filter (where kind = 'login') from events;",
            "SELECT coalesce(sum(price * 1.19), 0)::numeric(12, 2) FROM billing.orders WHERE paid AND date_trunc('month', at) = date_trunc('month', now())",
            "WITH late AS (SELECT 1 AS one FROM appointments WHERE starts_at < CURRENT_TIMESTAMP) SELECT count(*) FROM late",
            "SELECT round(avg(EXTRACT(EPOCH FROM (ended - began)))) FROM visits",
            "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b) -- a comment; with a semicolon",
            "SELECT count(*) FROM (SELECT 1 FROM a UNION ALL SELECT 2 FROM b) AS both_of_them",
            "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY took) FROM visits",
            "SELECT CASE WHEN count(*) = 0 THEN 0 ELSE max(x) END FROM t JOIN u USING (id) WHERE t.name LIKE 'pg_sleep(%'",
            "SELECT pg_catalog.count(*) FROM t",
        ] {
            assert!(postgres(sql).is_ok(), "{sql}: {:?}", postgres(sql));
        }
        assert!(
            Query::new("SELECT total(price) FROM orders WHERE at > datetime('now', '-1 day')", Kind::Sqlite)
                .is_ok()
        );
    }

    #[test]
    fn what_is_more_than_that_is_refused() {
        for sql in [
            "",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE users",
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1",
            "DELETE FROM t",
            "TRUNCATE t",
            "DROP TABLE t",
            "COPY t TO '/tmp/x'",
            "COPY (SELECT 1) TO PROGRAM 'id'",
            "SET ROLE postgres",
            "RESET ROLE",
            "BEGIN",
            "COMMIT",
            "EXPLAIN ANALYZE DELETE FROM t",
            "CALL p()",
            "DO $$ BEGIN END $$",
            "SELECT 1 INTO x",
            "SELECT * INTO x FROM t",
            "SELECT count(*) FROM t FOR UPDATE",
            "WITH gone AS (DELETE FROM t RETURNING 1) SELECT count(*) FROM gone",
            "WITH made AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT count(*) FROM made",
            "SELECT pg_sleep(10)",
            "SELECT PG_SLEEP(10)",
            "SELECT \"pg_sleep\"(10)",
            "SELECT pg_catalog.pg_sleep(10)",
            "SELECT public.count(1)",
            "SELECT set_config('role', 'postgres', false)",
            "SELECT pg_terminate_backend(1)",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT lo_import('/etc/passwd')",
            "SELECT nextval('s')",
            "SELECT query_to_xml('DELETE FROM t', true, false, '')",
            "SELECT dblink('host=10.0.0.1', 'SELECT 1')",
            "SELECT count(*) FROM generate_series(1, 1000000000)",
            "SELECT count(*) FROM pg_read_dir('.')",
            "SELECT count(*) FROM t WHERE pg_sleep(1) IS NULL",
            "SELECT count(*) FROM t ORDER BY pg_sleep(1)",
            "SELECT count(*) FROM t LEFT JOIN u ON pg_advisory_lock(1) IS NULL",
            "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM t",
            "SELECT sum(x) OVER (ORDER BY pg_sleep(1)) FROM t",
            "SELECT count(*) FROM t LIMIT pg_backend_pid()",
            "SELECT count(*) FROM LATERAL pg_ls_dir('.') x",
            "SELECT 1 OPERATOR(public.+) 1",
            "SELECT repeat('x', 1000000000)",
            "SELECT 'not closed",
        ] {
            assert!(postgres(sql).is_err(), "{sql}: {:?}", postgres(sql));
        }
        for sql in [
            "SELECT load_extension('x')",
            "PRAGMA user_version",
            "ATTACH 'x' AS y",
            "SELECT writefile('x', 'y')",
            "SELECT zeroblob(1000000000)",
        ] {
            assert!(Query::new(sql, Kind::Sqlite).is_err(), "{sql}");
        }
        assert_eq!(postgres(&format!("SELECT {}", "1 + ".repeat(4000))), Err(QueryProblem::Length));
        let nested = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
        assert!(matches!(postgres(&nested), Err(QueryProblem::Unreadable(_))));
    }

    #[test]
    fn what_runs_is_what_was_read() {
        let query = postgres("select count ( * ) /* a */ from t -- b").unwrap();
        assert_eq!(query.text(), "SELECT count(*) FROM t");
    }
}
