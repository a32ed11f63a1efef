//! A copy to measure on, and its catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, StatementStatus};

use super::SqliteError;
use crate::catalog::{Catalog, Column, Index, Table};

/// The largest database that is copied.
const MOST_MEGABYTES: u64 = 2048;
/// Rows by which values are counted.
const SAMPLE: u32 = 50_000;

/// A copy of a database, gone with this.
pub(super) struct Copy {
    pub connection: Connection,
    _folder: tempfile::TempDir,
}

impl Copy {
    pub fn of(path: &Path) -> Result<Self, SqliteError> {
        let failed = |problem: String| SqliteError::File { path: path.display().to_string(), problem };
        let bytes = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        let megabytes = bytes >> 20;
        if megabytes > MOST_MEGABYTES {
            return Err(SqliteError::Large { megabytes, most: MOST_MEGABYTES });
        }
        let source = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let folder = tempfile::Builder::new().prefix("portcullis-").tempdir();
        let folder = folder.map_err(|error| failed(error.to_string()))?;
        let file = folder.path().join("copy.db");
        source.execute("VACUUM INTO ?1", [file.display().to_string()])?;
        let connection = Connection::open(&file)?;
        connection.execute_batch("PRAGMA journal_mode = off; PRAGMA synchronous = off; ANALYZE")?;
        Ok(Self { connection, _folder: folder })
    }

    /// Bytes of the whole.
    pub fn bytes(&self) -> Result<f64, SqliteError> {
        let bytes = "SELECT (p.page_count - f.freelist_count) * s.page_size FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s";
        Ok(self.connection.query_row(bytes, [], |row| row.get(0))?)
    }

    /// Steps of SQLite's machine that a statement takes: the same on every machine. What it writes is rolled back.
    pub fn steps(&self, text: &str) -> Result<f64, SqliteError> {
        self.connection.execute_batch("BEGIN")?;
        let steps = self.run(text);
        self.connection.execute_batch("ROLLBACK")?;
        steps
    }

    fn run(&self, text: &str) -> Result<f64, SqliteError> {
        let mut statement = self.connection.prepare(text)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        Ok(f64::from(statement.get_status(StatementStatus::VmStep)))
    }

    /// What its plan says, a line a step.
    pub fn plan(&self, text: &str) -> Result<Vec<String>, SqliteError> {
        Ok(super::summary(&self.connection, text)?)
    }

    /// Names of all indexes.
    pub fn names(&self) -> Result<BTreeSet<String>, SqliteError> {
        let mut statement = self.connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'index'")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Tables, columns and what their values are like.
    pub fn catalog(&self) -> Result<Catalog, SqliteError> {
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                      AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name";
        let mut statement = self.connection.prepare(tables)?;
        let names = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let mut catalog = Catalog { search_path: vec!["main".into()], ..Catalog::default() };
        for (oid, name) in (1..).zip(names) {
            catalog.tables.push(Arc::new(self.table(oid, name)?));
        }
        Ok(catalog)
    }

    fn table(&self, oid: u32, name: String) -> Result<Table, SqliteError> {
        let own = format!("\"{}\"", name.replace('"', "\"\""));
        let rows: f64 =
            self.connection.query_row(&format!("SELECT count(*) FROM {own}"), [], |row| row.get(0))?;
        let mut statement =
            self.connection.prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?1)")?;
        let described = statement.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let described = described.collect::<Result<Vec<(String, String, bool)>, _>>()?;
        let mut columns = Vec::new();
        for (number, (column, kind, not_null)) in (1..).zip(described) {
            columns.push(self.column(&own, number, column, kind, not_null, rows)?);
        }
        let width: f64 = columns.iter().map(|column| column.width + 2.0).sum();
        let indexes = self.indexes(&name)?;
        Ok(Table {
            oid,
            schema: "main".into(),
            name,
            rows,
            pages: (rows * width / 4096.0).ceil(),
            columns,
            indexes,
            part_of: None,
        })
    }

    fn column(
        &self,
        table: &str,
        number: i16,
        name: String,
        kind: String,
        not_null: bool,
        rows: f64,
    ) -> Result<Column, SqliteError> {
        let own = format!("\"{}\"", name.replace('"', "\"\""));
        let about = format!(
            "SELECT count(DISTINCT v), count(*), coalesce(avg(length(CAST(v AS blob))), 4), count(*) - count(v) \
             FROM (SELECT {own} v FROM {table} LIMIT {SAMPLE})"
        );
        let (distinct, seen, width, nulls): (f64, f64, f64, f64) =
            self.connection
                .query_row(&about, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let common = format!(
            "SELECT CAST(v AS text), count(*) FROM (SELECT {own} v FROM {table} LIMIT {SAMPLE}) WHERE v IS NOT NULL GROUP BY v ORDER BY 2 DESC LIMIT 16"
        );
        let mut statement = self.connection.prepare(&common)?;
        let pairs =
            statement.query_map([], |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, f64>(1)?)))?;
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        let share = |count: f64| count / seen.max(1.0);
        // Values that are new in nearly every row go on being new.
        let distinct = if distinct > seen * 0.9 { rows * share(distinct) } else { distinct };
        let text = kind.to_lowercase().contains("char") || kind.to_lowercase().contains("text");
        Ok(Column {
            number,
            name,
            kind,
            length: -1,
            alignment: 1,
            not_null,
            width,
            distinct: distinct.max(1.0),
            nulls: share(nulls),
            common: pairs.into_iter().filter_map(|(value, count)| Some((value?, share(count)))).collect(),
            correlation: 0.0,
            analyzed: true,
            ordered: true,
            deduplicates: false,
            bytewise: true,
            text,
        })
    }

    fn indexes(&self, table: &str) -> Result<Vec<Index>, SqliteError> {
        let columns = "SELECT l.name, i.name FROM pragma_index_list(?1) l, pragma_index_info(l.name) i WHERE l.partial = 0 ORDER BY l.seq, i.seqno";
        let mut statement = self.connection.prepare(columns)?;
        let pairs = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (index, column) in pairs.collect::<Result<Vec<(String, Option<String>)>, _>>()? {
            keys.entry(index)
                .or_default()
                .push(crate::catalog::quoted(&column.unwrap_or_else(|| "(expression)".into())));
        }
        let index =
            |(name, keys)| Index { name, method: "btree".into(), keys, valid: true, ..Index::default() };
        Ok(keys.into_iter().map(index).collect())
    }
}
