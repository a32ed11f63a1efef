//! What a database is asked: statements and how often each runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio_postgres::Client;

use crate::Error;
use crate::sql::MAX_BYTES;

/// Statements of pg_stat_statements that are looked at: those that took most time,
const MOST_STATEMENTS: i64 = 200;
/// and those that wrote most rows: what an index costs, though each takes little time.
const MOST_WRITES: i64 = 100;

/// A statement.
#[derive(Debug, Clone)]
pub struct Query {
    /// Where it came from: the file's name without its ending, or the statement's number.
    pub name: String,
    /// The text, one statement.
    pub text: String,
    /// How often it runs, against the others.
    pub weight: f64,
    /// The highest parameter: `$2` gives 2.
    pub parameters: usize,
    /// Rows of a call on average, as the server has counted them: of a statement that writes, those that it writes.
    pub rows: Option<f64>,
}

impl Query {
    /// A statement, with its parameters counted.
    #[must_use]
    pub fn new(name: &str, text: &str, weight: f64) -> Self {
        let text = text.trim().trim_end_matches(';').trim_end().to_owned();
        let parameters = highest_parameter(&text);
        Self { name: name.to_owned(), text, weight, parameters, rows: None }
    }
}

/// Why a workload could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A file or folder cannot be read.
    #[error("{}: {source}; name a readable folder of .sql files", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder holds none.
    #[error("{}: no .sql files in it; write one statement a file, or leave --workload out to take pg_stat_statements", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The weights are no object of numbers.
    #[error("{}: {problem}; write {{\"name\": 10}}: the file's name without .sql, and how often it runs", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Reads a folder of `.sql` files, and weights by name; a name without one weighs 1. A folder that holds none itself but a folder `queries` is
/// read there.
///
/// # Errors
/// [`WorkloadError`].
pub fn read(folder: &Path, weights: Option<&Path>) -> Result<Vec<Query>, WorkloadError> {
    read_weighted(folder, weights.map(read_weights).transpose()?.unwrap_or_default())
}

fn read_weighted(folder: &Path, weights: BTreeMap<String, f64>) -> Result<Vec<Query>, WorkloadError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WorkloadError::File { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql")) && path.is_file() {
            files.push(path);
        }
    }
    let below = folder.join("queries");
    if files.is_empty() && below.is_dir() {
        return read_weighted(&below, weights);
    }
    files.sort();
    let mut queries = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = String::from_utf8_lossy(&bytes);
        let weight = weights.get(&name).copied().unwrap_or(1.0);
        let parts = split(&text);
        let several = parts.len() > 1;
        for (place, part) in parts.iter().enumerate() {
            let name = if several { format!("{name}#{}", place.saturating_add(1)) } else { name.clone() };
            queries.push(Query::new(&name, part, weight));
        }
    }
    if queries.is_empty() {
        return Err(WorkloadError::Empty { path: folder.to_owned() });
    }
    for name in weights.keys() {
        if !queries.iter().any(|query| query.name.split('#').next() == Some(name)) {
            tracing::warn!(name, "a weight names no statement of the workload");
        }
    }
    Ok(queries)
}

fn read_weights(path: &Path) -> Result<BTreeMap<String, f64>, WorkloadError> {
    let bytes =
        std::fs::read(path).map_err(|source| WorkloadError::File { path: path.to_owned(), source })?;
    let wrong = |problem: String| WorkloadError::Weights { path: path.to_owned(), problem };
    let weights: BTreeMap<String, f64> =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    match weights.iter().find(|(_, weight)| !weight.is_finite() || **weight < 0.0) {
        Some((name, weight)) => Err(wrong(format!("{name}: {weight} is no weight"))),
        None => Ok(weights),
    }
}

/// The statements of a text: split at semicolons outside quotes and comments.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token = token(rest);
        let (piece, after) = rest.split_at_checked(token).unwrap_or((rest, ""));
        rest = after;
        if first == ';' {
            parts.push(String::new());
        } else if !(piece.starts_with("--") || piece.starts_with("/*"))
            && let Some(part) = parts.last_mut()
        {
            part.push_str(piece);
        } else if let Some(part) = parts.last_mut() {
            part.push(' ');
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The length of what begins here: a quoted text, a comment, or one character.
pub(crate) fn token(text: &str) -> usize {
    let until = |start: usize, end: &str| {
        let found = text.get(start..).and_then(|rest| rest.find(end));
        found.map_or(text.len(), |place| place.saturating_add(start).saturating_add(end.len()))
    };
    if text.starts_with("--") {
        until(2, "\n")
    } else if text.starts_with("/*") {
        until(2, "*/")
    } else if text.starts_with('\'') {
        until(1, "'")
    } else if text.starts_with('"') {
        until(1, "\"")
    } else if let Some(tag) = dollar_tag(text) {
        until(tag.len(), tag)
    } else {
        text.chars().next().map_or(1, char::len_utf8)
    }
}

/// `$$` and `$body$`, not `$1`.
fn dollar_tag(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('$')?;
    let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    let fits = inner.get(end..)?.starts_with('$') && !inner.starts_with(|c: char| c.is_ascii_digit());
    if fits { text.get(..end.saturating_add(2)) } else { None }
}

/// Types whose name may stand before a literal.
const BEFORE_LITERALS: [&str; 7] =
    ["interval", "timestamptz", "timestamp", "timetz", "time", "date", "numeric"];

/// A statement as the server has counted it, made such that it can be planned: `interval '1 day'` is counted as `interval $1`, which is none.
fn castable(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at_checked(token(rest)).unwrap_or((rest, ""));
        rest = after;
        let named = if piece == "$" { type_before(&all) } else { None };
        let digits = named.map_or(0, |_| after.chars().take_while(char::is_ascii_digit).count());
        let (Some((start, name)), Some((number, behind))) = (named, after.split_at_checked(digits)) else {
            all.push_str(piece);
            continue;
        };
        if number.is_empty() {
            all.push_str(piece);
            continue;
        }
        all.truncate(start);
        for part in ["$", number, "::", name] {
            all.push_str(part);
        }
        rest = behind;
    }
    all
}

/// The type's name that a text ends with, a space behind it, and where it begins.
fn type_before(text: &str) -> Option<(usize, &'static str)> {
    let before = text.trim_end();
    if before.len() == text.len() {
        return None;
    }
    BEFORE_LITERALS.iter().find_map(|name| {
        let start = before.len().checked_sub(name.len())?;
        let inside = before.get(..start)?.chars().next_back();
        let whole = !inside.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '"'));
        (whole && before.get(start..)?.eq_ignore_ascii_case(name)).then_some((start, *name))
    })
}

fn highest_parameter(text: &str) -> usize {
    let mut highest = 0;
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(number) = rest.strip_prefix('$') {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            highest = highest.max(digits.parse().unwrap_or(0));
        }
        rest = rest.split_at_checked(token(rest)).map_or("", |(_, after)| after);
    }
    highest
}

const STATEMENTS: &str = "
SELECT one.queryid::text, one.query, one.calls, one.rows FROM (
  SELECT s.queryid, min(s.query) AS query, sum(s.calls)::float8 AS calls, sum(s.rows)::float8 / sum(s.calls)::float8 AS rows,
         min(s.query) ~* '^\\s*(with|insert|update|delete)\\M' AS may_write,
         row_number() OVER (ORDER BY sum(s.total_exec_time) DESC) AS by_time,
         row_number() OVER (PARTITION BY min(s.query) ~* '^\\s*(with|insert|update|delete)\\M' ORDER BY sum(s.rows) DESC) AS by_rows
  FROM pg_stat_statements s
  WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.calls > 0
    AND s.query ~* '^\\s*(with|select|insert|update|delete)\\M' AND length(s.query) <= $2
    AND s.query !~* 'pg_catalog|pg_stat|hypopg|pg_class|pg_attribute|information_schema|portcullis_advisor'
  GROUP BY s.queryid) one
WHERE one.by_time <= $1 OR (one.may_write AND one.by_rows <= $3)
ORDER BY one.by_time";

/// The statements that the server itself has counted, each weighing its calls.
///
/// # Errors
/// When pg_stat_statements cannot be read.
pub async fn recorded(client: &Client) -> Result<Vec<Query>, Error> {
    let longest = i32::try_from(MAX_BYTES).unwrap_or(i32::MAX);
    let rows = client.query(STATEMENTS, &[&MOST_STATEMENTS, &longest, &MOST_WRITES]).await?;
    let mut queries = Vec::new();
    for row in rows {
        let (name, text): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let (Some(name), Some(text)) = (name, text) else { continue };
        let rows = row.try_get(3)?;
        queries.push(Query { rows, ..Query::new(&name, &castable(&text), row.try_get(2)?) });
    }
    Ok(queries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_where_statements_end() {
        let parts = split("select ';' -- a; b\n; select \"x;y\" /* ; */ from $a$ ; $a$;\n ; ");
        assert_eq!(parts.len(), 2, "{parts:?}");
        assert!(parts[0].contains("';'") && parts[1].contains("$a$ ; $a$"));
        // Never panics, whatever stands there.
        for text in ["'", "\"", "/*", "--", "$", "$a", "$a$", "é;é", ""] {
            split(text);
            highest_parameter(text);
        }
    }

    #[test]
    fn parameters_are_counted_outside_quotes() {
        assert_eq!(highest_parameter("select $1, '$9', $12 -- $44"), 12);
        assert_eq!(highest_parameter("select $$ $5 $$"), 0);
    }

    #[test]
    fn counted_statements_can_be_planned() {
        for (counted, planned) in [
            ("SELECT now() - interval $1", "SELECT now() - $1::interval"),
            ("WHERE at >= DATE $12 AND b = $2", "WHERE at >= $12::date AND b = $2"),
            // A column of that name, a text, a parameter that stands elsewhere.
            ("SELECT t.date, my_date $1, 'date $1'", "SELECT t.date, my_date $1, 'date $1'"),
            ("SELECT date = $1, $2", "SELECT date = $1, $2"),
            ("date $", "date $"),
        ] {
            assert_eq!(castable(counted), planned);
        }
    }

    #[test]
    fn a_folder_with_weights() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path(), None), Err(WorkloadError::Empty { .. })));
        std::fs::write(folder.path().join("a.sql"), "select 1;\n").unwrap();
        std::fs::write(folder.path().join("b.sql"), "select 2; select 3").unwrap();
        let weights = folder.path().join("w.json");
        std::fs::write(&weights, r#"{"a": 7}"#).unwrap();
        let queries = read(folder.path(), Some(&weights)).unwrap();
        let shown: Vec<_> = queries.iter().map(|q| (q.name.as_str(), q.text.as_str(), q.weight)).collect();
        assert_eq!(shown, [("a", "select 1", 7.0), ("b#1", "select 2", 1.0), ("b#2", "select 3", 1.0)]);
        std::fs::write(&weights, r#"{"a": -1}"#).unwrap();
        let error = read(folder.path(), Some(&weights)).unwrap_err().to_string();
        assert!(error.contains("a: -1 is no weight"), "{error}");
        let around = tempfile::tempdir().unwrap();
        std::fs::create_dir(around.path().join("queries")).unwrap();
        std::fs::write(around.path().join("queries/c.sql"), "select 4").unwrap();
        assert_eq!(read(around.path(), None).unwrap().len(), 1);
    }
}
