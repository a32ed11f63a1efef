//! Schema versions: numbered, each with a checksum, each run whole or not at all, in the same order in every store.
//!
//! A migration is a file `NNNN_name.sql` in `migrations/sqlite` and one of the same name in `migrations/postgres`. None is
//! ever edited once it is released: what ran is kept in the table `schema_migrations` with its SHA-256, and a store whose
//! history differs from this program's is refused.

use sha2::{Digest, Sha256};

use super::StorageError;

/// One step.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number, from 1 without gaps.
    pub version: i64,
    /// What it is about.
    pub name: &'static str,
    /// The statements.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($store:literal: $($version:literal $name:literal),+ $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../migrations/", $store, "/", $name, ".sql")),
        }),+]
    };
}

macro_rules! both {
    ($($version:literal $name:literal),+ $(,)?) => {
        /// What SQLite runs.
        pub const SQLITE: &[Migration] = migrations!("sqlite": $($version $name),+);
        /// What PostgreSQL runs.
        pub const POSTGRES: &[Migration] = migrations!("postgres": $($version $name),+);
    };
}
both!(1 "0001_schema", 2 "0002_tenancy", 3 "0003_limits", 4 "0004_trail", 5 "0005_tenant_keys", 6 "0006_erasures", 7 "0007_index_plans", 8 "0008_query_plans", 9 "0009_business_metrics", 10 "0010_removed_tenants");

impl Migration {
    /// SHA-256 of the statements, in hexadecimal.
    #[must_use]
    pub fn checksum(&self) -> String {
        crate::secret::hex(&Sha256::digest(self.sql))
    }
}

/// A step that a store has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: i64,
    /// Its checksum then.
    pub checksum: String,
}

/// What is left to run in the store at `place`, of `known`, after `applied` (in order of version).
///
/// # Errors
/// [`StorageError::Newer`], or [`StorageError::OtherHistory`] when a step that was taken is not the one this program knows.
pub fn pending<'a>(
    known: &'a [Migration],
    applied: &[Applied],
    place: &str,
) -> Result<&'a [Migration], StorageError> {
    let newest = known.last().map_or(0, |migration| migration.version);
    if let Some(found) = applied.iter().map(|step| step.version).max().filter(|found| *found > newest) {
        return Err(StorageError::Newer { place: place.to_owned(), found, known: newest });
    }
    for (step, migration) in applied.iter().zip(known) {
        if step.version != migration.version || step.checksum != migration.checksum() {
            return Err(StorageError::OtherHistory { place: place.to_owned(), version: step.version });
        }
    }
    Ok(known.get(applied.len()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Migration] = &[
        Migration { version: 1, name: "0001_a", sql: "CREATE TABLE a (x)" },
        Migration { version: 2, name: "0002_b", sql: "CREATE TABLE b (x)" },
    ];

    fn applied(version: i64) -> Applied {
        let known = KNOWN.iter().find(|known| known.version == version);
        Applied { version, checksum: known.map(Migration::checksum).unwrap_or_default() }
    }

    #[test]
    fn what_is_left_is_run_in_order() {
        let versions = |applied: &[Applied]| -> Vec<i64> {
            pending(KNOWN, applied, "x").unwrap().iter().map(|migration| migration.version).collect()
        };
        assert_eq!(versions(&[]), [1, 2]);
        assert_eq!(versions(&[applied(1)]), [2]);
        assert!(versions(&[applied(1), applied(2)]).is_empty());
    }

    #[test]
    fn another_history_is_refused() {
        let edited = Applied { version: 1, checksum: "00".to_owned() };
        assert!(matches!(pending(KNOWN, &[edited], "x"), Err(StorageError::OtherHistory { version: 1, .. })));
        assert!(matches!(
            pending(KNOWN, &[applied(2)], "x"),
            Err(StorageError::OtherHistory { version: 2, .. })
        ));
        let newer = [applied(1), applied(2), applied(3)];
        assert!(matches!(pending(KNOWN, &newer, "x"), Err(StorageError::Newer { found: 3, known: 2, .. })));
    }

    #[test]
    fn versions_have_no_gaps() {
        assert!(SQLITE.iter().zip(1..).all(|(migration, version)| migration.version == version));
        assert_eq!(SQLITE.len(), POSTGRES.len());
    }
}
