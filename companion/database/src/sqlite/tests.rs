use rusqlite::Connection;

use super::*;
use crate::workload::Query;

const TABLES: &str = "
    CREATE TABLE clients (id INTEGER PRIMARY KEY, email TEXT NOT NULL, role TEXT NOT NULL);
    CREATE TABLE visits (id INTEGER PRIMARY KEY, client INT NOT NULL REFERENCES clients, status TEXT NOT NULL, at INT NOT NULL, note TEXT NOT NULL);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
      INSERT INTO clients SELECT i, 'client' || i || '@example.test', iif(i % 100 = 0, 'staff', 'client') FROM n;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
      INSERT INTO visits SELECT i, 1 + i * 7 % 2000, iif(i % 50 = 0, 'pending', 'done'), i * 311 % 20000, 'note ' || i FROM n;";

fn database() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    Connection::open(&path).unwrap().execute_batch(TABLES).unwrap();
    (folder, path)
}

#[test]
fn what_is_set_reads_back() {
    let (_folder, path) = database();
    let connection = Connection::open(&path).unwrap();
    let pragmas = settle_connection(&connection).unwrap();
    let now = |name: &str| pragmas.iter().find(|one| one.name == name).unwrap().now.clone();
    assert_eq!((now("journal_mode").as_str(), now("mmap_size").as_str()), ("wal", "268435456"));
    assert_eq!((now("cache_size").as_str(), now("temp_store").as_str()), ("1000", "2"));
    assert!(
        settle_connection(&connection).unwrap().iter().all(|one| one.before == one.now),
        "once is enough"
    );
    // In memory there is no write-ahead log; that is told, not passed over.
    let error = settle_connection(&Connection::open_in_memory().unwrap()).unwrap_err().to_string();
    assert!(error.contains("journal_mode = wal, it has memory"), "{error}");
}

#[test]
fn indexes_are_found_measured_and_fit() {
    let (_folder, path) = database();
    let before = std::fs::read(&path).unwrap();
    let queries = [
        ("visits", "SELECT id, note FROM visits WHERE client = 77 ORDER BY at DESC LIMIT 10"),
        ("pending", "SELECT id FROM visits WHERE status = 'pending' AND at > 19000"),
        ("login", "SELECT id FROM clients WHERE lower(email) = 'client5@example.test'"),
        ("key", "SELECT note FROM visits WHERE id = 5"),
        ("broken", "SELEKT"),
        ("parameter", "SELECT id FROM visits WHERE client = ?"),
    ];
    let workload = || queries.iter().map(|(name, text)| Query::new(name, text, 10.0)).collect();
    let advice = advise(&path, workload(), 2e6).unwrap();
    assert!(advice.steps < 0.05, "{advice:#?}");
    assert!(advice.bytes <= 2e6);
    let skipped: Vec<&str> = advice.skipped.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(skipped, ["broken", "parameter"]);
    for served in ["visits", "pending", "login"] {
        let serves =
            |index: &Index| index.serves.iter().any(|(name, before, after)| name == served && after < before);
        assert!(advice.indexes.iter().any(serves), "{served}: {advice:#?}");
    }
    assert!(std::fs::read(&path).unwrap() == before, "the database itself is only read");
    // SQLite takes what is advised.
    let connection = Connection::open(&path).unwrap();
    for index in &advice.indexes {
        connection.execute_batch(&index.create).unwrap();
    }
    // Now little is left to gain, and with no budget there was nothing.
    assert!(advise(&path, workload(), 2e6).unwrap().steps > 0.5);
    let (_folder, path) = database();
    assert_eq!(advise(&path, workload(), 0.0).unwrap().indexes.len(), 0);
}

#[test]
fn what_is_no_database_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.db");
    assert!(advise(&path, Vec::new(), 1e6).unwrap_err().to_string().contains("none.db"));
    std::fs::write(&path, "this is no database, though it is long enough to be read as one").unwrap();
    assert!(advise(&path, Vec::new(), 1e6).unwrap_err().to_string().contains("SQLite: "));
}
