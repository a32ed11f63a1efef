//! What the catalog alone tells of indexes: foreign keys without one, copies, indexes that a longer one makes needless, unused and invalid ones.
//!
//! Nothing is dropped on this word. An index under a constraint or under logical replication is never called needless. "Unused" is what the
//! statistics of this server say since they were last reset; a standby may use the index all the same.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::catalog::{Catalog, Index, Table, quoted};

/// An index that is missing, or should go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// The table.
    pub table: String,
    /// The index, or the foreign key.
    pub name: String,
    /// What is wrong, in a sentence.
    pub reason: String,
    /// The statement that mends it. It is for a person to run.
    pub remedy: String,
    /// Bytes that the index takes.
    pub bytes: u64,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A build failed or was cut off; it is kept up to date and never used.
    Invalid,
    /// Changes of the table referred to search this one from end to end.
    MissingForeignKey,
    /// Another index is the same.
    Duplicate,
    /// Another index can do all that this one does.
    Redundant,
    /// Nothing has read it.
    Unused,
}

/// Below so many pages a search from end to end costs nothing.
const SMALL_PAGES: f64 = 8.0;

/// Everything that is found, the gravest first.
#[must_use]
pub fn findings(catalog: &Catalog) -> Vec<Finding> {
    let mut all = Vec::new();
    for table in &catalog.tables {
        for index in &table.indexes {
            all.extend(of_index(table, index));
        }
    }
    all.extend(foreign_keys(catalog));
    all.sort_by(|a, b| (a.kind, &a.table, &a.name).cmp(&(b.kind, &b.table, &b.name)));
    all
}

fn of_index(table: &Table, index: &Index) -> Option<Finding> {
    let name = format!("{}.{}", quoted(&table.schema), quoted(&index.name));
    let finding = |kind, reason: String, remedy: String| Finding {
        kind,
        table: table.sql(),
        name: index.name.clone(),
        reason,
        remedy,
        bytes: index.bytes,
    };
    let drop = format!("DROP INDEX CONCURRENTLY {name};");
    if !index.valid {
        let remedy = if index.constraint { format!("REINDEX INDEX CONCURRENTLY {name};") } else { drop };
        return Some(finding(
            Kind::Invalid,
            "its build was not finished; it costs writes and is never used".into(),
            remedy,
        ));
    }
    if index.constraint {
        return None;
    }
    let others = || table.indexes.iter().filter(|other| other.oid != index.oid && other.valid);
    // Of two that are the same the one under a constraint stays, else the unique one, else the older.
    let stays = |other: &&Index| {
        (other.constraint, other.unique, std::cmp::Reverse(other.oid))
            > (index.constraint, index.unique, std::cmp::Reverse(index.oid))
    };
    if let Some(other) =
        others().find(|other| same(index, other) && (other.unique || !index.unique) && stays(other))
    {
        return Some(finding(Kind::Duplicate, format!("{} is the same", other.name), drop));
    }
    if let Some(other) = others().find(|other| covers(other, index)) {
        return Some(finding(Kind::Redundant, format!("{} begins with the same keys", other.name), drop));
    }
    if index.scans == 0 && !index.unique && table.pages >= SMALL_PAGES {
        let reason = "nothing has read it since the statistics were reset; ask the standbys too".into();
        return Some(finding(Kind::Unused, reason, drop));
    }
    None
}

fn same(one: &Index, other: &Index) -> bool {
    one.method == other.method
        && one.keys == other.keys
        && sorted(&one.include) == sorted(&other.include)
        && one.predicate == other.predicate
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort();
    names
}

/// Whether `longer` can do all that `shorter` does. A unique index is never needless: it refuses duplicates.
fn covers(longer: &Index, shorter: &Index) -> bool {
    !shorter.unique
        && longer.method == "btree"
        && shorter.method == "btree"
        && longer.predicate == shorter.predicate
        && longer.keys.len() > shorter.keys.len()
        && longer.keys.starts_with(&shorter.keys)
        && shorter.include.iter().all(|name| longer.include.contains(name) || longer.keys.contains(name))
}

fn foreign_keys(catalog: &Catalog) -> Vec<Finding> {
    let mut missing: BTreeMap<(u32, Vec<String>), Finding> = BTreeMap::new();
    for key in &catalog.foreign_keys {
        let Some(table) = catalog.table(key.table) else { continue };
        if table.pages < SMALL_PAGES || table.indexes.iter().any(|index| serves(index, &key.columns)) {
            continue;
        }
        let columns: Vec<String> = key.columns.iter().map(|name| quoted(name)).collect();
        let target =
            catalog.table(key.target).map_or_else(|| "another table".to_owned(), |table| table.sql());
        let name = format!("{}_{}_fk", table.name, key.columns.join("_"));
        let name: String = name.chars().take(60).collect();
        let remedy = format!(
            "CREATE INDEX CONCURRENTLY {} ON {} ({});",
            quoted(&name),
            table.sql(),
            columns.join(", ")
        );
        let finding = Finding {
            kind: Kind::MissingForeignKey,
            table: table.sql(),
            name: key.name.clone(),
            reason: format!("each change of a key in {target} reads all of {}", table.sql()),
            remedy,
            bytes: 0,
        };
        missing.entry((key.table, key.columns.clone())).or_insert(finding);
    }
    missing.into_values().collect()
}

/// Whether an index finds the rows of a foreign key: its first columns are the key's, in any order, and it holds all rows.
fn serves(index: &Index, columns: &[String]) -> bool {
    let whole = match &index.predicate {
        None => true,
        // Nulls refer to nothing.
        Some(predicate) => columns.iter().any(|name| *predicate == format!("({} IS NOT NULL)", quoted(name))),
    };
    index.valid
        && whole
        && matches!(index.method.as_str(), "btree" | "hash")
        && index.key_columns.len() >= columns.len()
        && index
            .key_columns
            .iter()
            .take(columns.len())
            .all(|name| name.as_ref().is_some_and(|name| columns.contains(name)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::ForeignKey;

    fn index(oid: u32, keys: &[&str]) -> Index {
        Index {
            oid,
            name: format!("i{oid}"),
            method: "btree".into(),
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            key_columns: keys.iter().map(|&key| Some(key.to_owned())).collect(),
            valid: true,
            scans: 1,
            ..Index::default()
        }
    }

    fn found(indexes: Vec<Index>, foreign: &[&str]) -> Vec<(Kind, String)> {
        let table = Table {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            pages: 100.0,
            indexes,
            ..Table::default()
        };
        let columns = foreign.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let foreign_keys = if columns.is_empty() {
            Vec::new()
        } else {
            vec![ForeignKey { name: "fk".into(), table: 1, columns, target: 2 }]
        };
        let catalog = Catalog { tables: vec![Arc::new(table)], foreign_keys, ..Catalog::default() };
        findings(&catalog).into_iter().map(|finding| (finding.kind, finding.name)).collect()
    }

    #[test]
    fn copies_and_shorter_ones() {
        assert_eq!(found(vec![index(1, &["a"]), index(2, &["a"])], &[]), [(Kind::Duplicate, "i2".into())]);
        assert_eq!(
            found(vec![index(1, &["a"]), index(2, &["a", "b"])], &[]),
            [(Kind::Redundant, "i1".into())]
        );
        // Near misses: another direction, another order, a predicate, a promise of uniqueness, a constraint.
        assert_eq!(found(vec![index(1, &["a"]), index(2, &["a DESC"])], &[]), []);
        assert_eq!(found(vec![index(1, &["b"]), index(2, &["a", "b"])], &[]), []);
        let partial = Index { predicate: Some("(x)".into()), ..index(2, &["a", "b"]) };
        assert_eq!(found(vec![index(1, &["a"]), partial], &[]), []);
        let unique = Index { unique: true, ..index(1, &["a"]) };
        assert_eq!(found(vec![unique.clone(), index(2, &["a", "b"])], &[]), []);
        let key = Index { constraint: true, ..unique.clone() };
        assert_eq!(found(vec![index(3, &["a"]), key], &[]), [(Kind::Duplicate, "i3".into())]);
        assert_eq!(found(vec![unique, index(2, &["a"])], &[]), [(Kind::Duplicate, "i2".into())]);
    }

    #[test]
    fn invalid_and_unused() {
        let broken = Index { valid: false, ..index(1, &["a"]) };
        assert_eq!(found(vec![broken, index(2, &["a"])], &[]), [(Kind::Invalid, "i1".into())]);
        let idle = Index { scans: 0, ..index(1, &["a"]) };
        assert_eq!(found(vec![idle.clone()], &[]), [(Kind::Unused, "i1".into())]);
        assert_eq!(found(vec![Index { unique: true, ..idle }], &[]), []);
    }

    #[test]
    fn foreign_keys_want_their_columns_first() {
        let missing = [(Kind::MissingForeignKey, "fk".to_owned())];
        assert_eq!(found(vec![], &["a"]), missing);
        assert_eq!(found(vec![index(1, &["b", "a"])], &["a"]), missing);
        assert_eq!(found(vec![index(1, &["b", "a", "c"])], &["a", "b"]), []);
        let partial = |text: &str| Index { predicate: Some(text.into()), ..index(1, &["a"]) };
        assert_eq!(found(vec![partial("(b > 3)")], &["a"]), missing);
        assert_eq!(found(vec![partial("(a IS NOT NULL)")], &["a"]), []);
        assert_eq!(found(vec![Index { method: "brin".into(), ..index(1, &["a"]) }], &["a"]), missing);
    }
}
