//! What a database holds: tables, columns with their statistics, indexes, foreign keys. Plain data; [`load`] reads it.

mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use load::load;

/// The schema of what we keep in a tenant's database: the ledger of indexes. It is no part of what is advised on.
pub const SCHEMA_OF_OURS: &str = "portcullis_advisor";

/// A database as its catalog describes it.
#[derive(Debug, Default)]
pub struct Catalog {
    /// `server_version_num`: 150018 is 15.18.
    pub version: u32,
    /// The release of hypopg, where that extension is installed in the database.
    pub hypopg: Option<String>,
    /// Whether pg_stat_statements is installed in the database.
    pub statements: bool,
    /// The operator class for trigrams, with its schema, where pg_trgm is installed in the database.
    pub trigrams: Option<String>,
    /// Whether the server only reads: a standby.
    pub standby: bool,
    /// Schemas in which an unqualified name is looked up, in order.
    pub search_path: Vec<String>,
    /// Ordinary tables, partitions and materialized views outside the system's schemas.
    pub tables: Vec<Arc<Table>>,
    /// Partitioned tables, whose rows those hold.
    pub partitioned: Vec<Partitioned>,
    /// Views over them.
    pub views: Vec<View>,
    /// All foreign keys of those tables.
    pub foreign_keys: Vec<ForeignKey>,
    /// What the planner reckons with.
    pub costs: Costs,
}

/// The planner's cost settings.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// `seq_page_cost`.
    pub sequential_page: f64,
    /// `random_page_cost`.
    pub random_page: f64,
    /// `cpu_tuple_cost`.
    pub tuple: f64,
    /// `cpu_index_tuple_cost`.
    pub index_tuple: f64,
    /// `cpu_operator_cost`.
    pub operator: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { sequential_page: 1.0, random_page: 4.0, tuple: 0.01, index_tuple: 0.005, operator: 0.0025 }
    }
}

/// A view: statements that read it are read through it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The statement behind it.
    pub definition: String,
}

/// A table.
#[derive(Debug, Default)]
pub struct Table {
    /// Its number in the catalog.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Rows, as last counted by ANALYZE or VACUUM.
    pub rows: f64,
    /// Pages of 8 KiB.
    pub pages: f64,
    /// In the table's order.
    pub columns: Vec<Column>,
    /// All indexes.
    pub indexes: Vec<Index>,
    /// The partitioned table that it is a part of, as SQL has its name.
    pub part_of: Option<String>,
}

/// A partitioned table: it holds no rows itself, and an index on it is one on each of its parts.
#[derive(Debug)]
pub struct Partitioned {
    /// Its name and columns; no rows, no pages.
    pub table: Arc<Table>,
    /// The tables that hold its rows, the largest first.
    pub parts: Vec<u32>,
}

impl Table {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The name as SQL has it, with its schema.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// A column and what ANALYZE knows of it.
#[derive(Debug, Clone, Default)]
pub struct Column {
    /// Its number in the table, from 1.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type, as `format_type` writes it.
    pub kind: String,
    /// Bytes of a value; -1 when they vary.
    pub length: i16,
    /// Bytes a value is aligned to: 1, 2, 4 or 8.
    pub alignment: usize,
    /// Never null.
    pub not_null: bool,
    /// Mean bytes of a value that is not null.
    pub width: f64,
    /// Distinct values.
    pub distinct: f64,
    /// Share of nulls, 0 to 1.
    pub nulls: f64,
    /// Most common values and their shares.
    pub common: Vec<(String, f64)>,
    /// How far the table's order follows the column's: -1 to 1.
    pub correlation: f64,
    /// Whether ANALYZE has seen the column.
    pub analyzed: bool,
    /// Whether the type has an order that B-trees can use.
    pub ordered: bool,
    /// Whether B-trees of it may merge duplicates (PostgreSQL 13+): equal values have equal bytes.
    pub deduplicates: bool,
    /// Text whose collation compares bytes, so that a B-tree finds prefixes.
    pub bytewise: bool,
    /// Of the character types.
    pub text: bool,
}

/// An index that exists.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Its number in the catalog.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Access method: btree, hash, gin, gist, brin, ...
    pub method: String,
    /// Key columns and expressions, as `pg_get_indexdef` writes them, with operator class and direction.
    pub keys: Vec<String>,
    /// Columns of the keys, in order; `None` is an expression.
    pub key_columns: Vec<Option<String>>,
    /// Included columns.
    pub include: Vec<String>,
    /// The predicate of a partial index.
    pub predicate: Option<String>,
    /// It refuses duplicates.
    pub unique: bool,
    /// A constraint (primary key, unique, exclusion) rests on it, or logical replication does, or it is a part of a partitioned index.
    pub constraint: bool,
    /// Complete: a build that failed leaves an index that is not.
    pub valid: bool,
    /// Bytes.
    pub bytes: u64,
    /// Scans since the statistics were last reset.
    pub scans: i64,
}

/// A foreign key.
#[derive(Debug, Clone)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The table that refers.
    pub table: u32,
    /// Its columns.
    pub columns: Vec<String>,
    /// The table referred to.
    pub target: u32,
}

impl Catalog {
    /// The table of that number.
    #[must_use]
    pub fn table(&self, oid: u32) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.oid == oid)
    }

    /// The table that a name means: with its schema, or by the search path.
    #[must_use]
    pub fn find(&self, schema: Option<&str>, name: &str) -> Option<&Arc<Table>> {
        let whole = || self.partitioned.iter().map(|one| &one.table);
        let within =
            |schema: &str| self.tables.iter().chain(whole()).find(|t| t.name == name && t.schema == schema);
        match schema {
            Some(schema) => within(schema),
            None => self.search_path.iter().find_map(|schema| within(schema)),
        }
    }

    /// The tables that hold the rows of a partitioned table, the largest first; `None` where it is none.
    pub fn parts(&self, oid: u32) -> Option<impl Iterator<Item = &Arc<Table>>> {
        let whole = self.partitioned.iter().find(|one| one.table.oid == oid)?;
        Some(whole.parts.iter().filter_map(|part| self.table(*part)))
    }

    /// The view that a name means.
    #[must_use]
    pub fn view(&self, schema: Option<&str>, name: &str) -> Option<&View> {
        let within = |schema: &str| self.views.iter().find(|one| one.name == name && one.schema == schema);
        match schema {
            Some(schema) => within(schema),
            None => self.search_path.iter().find_map(|schema| within(schema)),
        }
    }

    /// A number of the indexed schema: tables, columns, indexes and constraints. A plan is bound to it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint_without(&BTreeSet::new())
    }

    /// The same as if indexes of these names were not there: those that a plan has begun to build.
    #[must_use]
    pub fn fingerprint_without(&self, names: &BTreeSet<String>) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        let mut by_name: BTreeMap<String, &Arc<Table>> = BTreeMap::new();
        for table in &self.tables {
            by_name.insert(table.sql(), table);
        }
        for (name, table) in by_name {
            hash.update(name.as_bytes());
            for column in &table.columns {
                hash.update(format!("\0{} {}", column.name, column.kind).as_bytes());
            }
            for index in table.indexes.iter().filter(|index| !names.contains(&index.name)) {
                hash.update(
                    format!("\x01{} {:?} {:?} {}", index.name, index.keys, index.predicate, index.valid)
                        .as_bytes(),
                );
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// An identifier as SQL has it: quoted where it must be.
#[must_use]
pub fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Words that PostgreSQL reserves, and that therefore must be quoted as names.
const RESERVED: [&str; 78] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "system_user",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        for (name, sql) in [
            ("tasks", "tasks"),
            ("user", "\"user\""),
            ("Über", "\"Über\""),
            ("a\"b", "\"a\"\"b\""),
            ("1st", "\"1st\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(name), sql);
        }
    }
}
