//! What the catalog tells, on a real server: everything that is wrong is found, and nothing that is not. Names say which is which: `missing_`,
//! `copy_`, `redundant_`, `unused_` and `invalid_` must be found as that, and `fine_` must not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use portcullis_database::catalog;
use portcullis_database::findings::{Kind, findings};
use tokio_postgres::NoTls;
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

const SCHEMA: &str = r#"
CREATE TABLE place (id int PRIMARY KEY, region int NOT NULL, code text NOT NULL, UNIQUE (region, id));
INSERT INTO place SELECT i, i % 10, 'c' || i FROM generate_series(1, 3000) i;
CREATE TABLE stay (id int PRIMARY KEY, a int, b int, c int, d int, e int, f int, region int, place int, parent int, t text NOT NULL,
  CONSTRAINT fine_served FOREIGN KEY (a) REFERENCES place,
  CONSTRAINT fine_leads_a_longer_one FOREIGN KEY (b) REFERENCES place,
  CONSTRAINT missing_comes_second FOREIGN KEY (c) REFERENCES place,
  CONSTRAINT fine_without_nulls FOREIGN KEY (d) REFERENCES place,
  CONSTRAINT missing_partly FOREIGN KEY (e) REFERENCES place,
  CONSTRAINT fine_hashed FOREIGN KEY (f) REFERENCES place,
  CONSTRAINT fine_other_order FOREIGN KEY (region, place) REFERENCES place (region, id),
  CONSTRAINT missing_itself FOREIGN KEY (parent) REFERENCES stay);
INSERT INTO stay SELECT i, 1 + i % 3000, 1 + i % 2000, 1 + i % 1000, 1 + i % 500, 1 + i % 300, 1 + i % 200, (1 + i % 900) % 10, 1 + i % 900, 1, 't' || i
FROM generate_series(1, 4000) i;
CREATE INDEX fine_a ON stay (a);
CREATE INDEX fine_b_c ON stay (b, c);
CREATE INDEX fine_d ON stay (d) WHERE d IS NOT NULL;
CREATE INDEX fine_e ON stay (e) WHERE t = 'x';
CREATE INDEX fine_f ON stay USING hash (f);
CREATE INDEX fine_place_region ON stay (place, region);
-- Three columns, of which an index has but two.
CREATE TABLE leg (id int PRIMARY KEY, x int NOT NULL, y int NOT NULL, z int NOT NULL, UNIQUE (x, y, z));
INSERT INTO leg SELECT i, i, i, i FROM generate_series(1, 3000) i;
CREATE TABLE hop (x int, y int, z int, w int, CONSTRAINT missing_third FOREIGN KEY (x, y, z) REFERENCES leg (x, y, z));
INSERT INTO hop SELECT i, i, i, i FROM generate_series(1, 3000) i;
CREATE INDEX fine_x_y ON hop (x, y);
-- Too small to be worth one.
CREATE TABLE tiny (id int PRIMARY KEY, place int, CONSTRAINT fine_tiny FOREIGN KEY (place) REFERENCES place);
INSERT INTO tiny VALUES (1, 1);
CREATE TABLE "Odd Name" ("Id" int PRIMARY KEY, "Place" int NOT NULL, CONSTRAINT missing_quoted FOREIGN KEY ("Place") REFERENCES place);
INSERT INTO "Odd Name" SELECT i, i FROM generate_series(1, 3000) i;

-- Parts of a partitioned table: each needs its own, and what hangs on an index of the whole cannot be dropped.
CREATE TABLE visit (day int NOT NULL, place int NOT NULL, region int, CONSTRAINT missing_in_each_part FOREIGN KEY (place) REFERENCES place)
  PARTITION BY RANGE (day);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (2000);
CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM (2000) TO (4000);
INSERT INTO visit SELECT i, 1 + i % 3000, i FROM generate_series(1, 3999) i;
CREATE INDEX fine_of_the_whole ON visit (region);

CREATE TABLE thing (id int PRIMARY KEY, k int NOT NULL, l int NOT NULL, m text NOT NULL, n int NOT NULL, o int NOT NULL, p int NOT NULL, q int NOT NULL);
INSERT INTO thing SELECT i, i, i, 'M' || i, i, i, i, i FROM generate_series(1, 4000) i;
CREATE INDEX fine_k ON thing (k);
CREATE INDEX copy_k ON thing (k);
CREATE INDEX fine_k_backwards ON thing (k DESC);
CREATE INDEX fine_k_partial ON thing (k) WHERE l > 5;
CREATE INDEX copy_k_partial ON thing (k) WHERE l > 5;
CREATE INDEX fine_k_other_part ON thing (k) WHERE l > 6;
CREATE INDEX fine_m_lower ON thing (lower(m));
CREATE INDEX copy_m_lower ON thing (lower(m));
CREATE INDEX fine_m_pattern ON thing (m text_pattern_ops);
CREATE INDEX fine_m ON thing (m);
CREATE INDEX fine_l_n ON thing (l, n);
CREATE INDEX redundant_l ON thing (l);
CREATE INDEX fine_n_l ON thing (n, l);
CREATE UNIQUE INDEX fine_o_unique ON thing (o);
CREATE INDEX copy_o ON thing (o);
CREATE INDEX copy_of_the_primary_key ON thing (id);
CREATE INDEX fine_p ON thing (p, q) INCLUDE (o);
CREATE INDEX redundant_p ON thing (p) INCLUDE (q);
CREATE INDEX fine_p_includes_more ON thing (p) INCLUDE (m);
CREATE INDEX fine_brin ON thing USING brin (k);
CREATE INDEX unused_q ON thing (q, k);
CREATE UNIQUE INDEX fine_unique_though_unread ON thing (q, l);
"#;

#[tokio::test]
async fn all_that_is_wrong_and_nothing_else() {
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &PathBuf::from("/tmp"), Durability::None).unwrap();
    let (client, connection) =
        tokio_postgres::connect(&server.create(&layout, "findings").unwrap(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SCHEMA).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let broken = "CREATE UNIQUE INDEX CONCURRENTLY invalid_unique ON stay (region)";
    assert!(client.batch_execute(broken).await.is_err(), "regions come again");

    let mut catalog = catalog::load(&client).await.unwrap();
    // Who reads which index is up to the planner; the statistics are set as if all but one had been read.
    for table in &mut catalog.tables {
        for index in &mut std::sync::Arc::get_mut(table).unwrap().indexes {
            index.scans = i64::from(!index.name.starts_with("unused_") && !index.name.ends_with("_unread"));
        }
    }
    let found = findings(&catalog);
    for (kind, prefix) in [
        (Kind::MissingForeignKey, "missing_"),
        (Kind::Duplicate, "copy_"),
        (Kind::Redundant, "redundant_"),
        (Kind::Unused, "unused_"),
        (Kind::Invalid, "invalid_"),
    ] {
        let told: BTreeSet<&str> =
            found.iter().filter(|one| one.kind == kind).map(|one| one.name.as_str()).collect();
        let names = "SELECT conname::text FROM pg_constraint WHERE conname ~ ('^' || $1) \
                     UNION SELECT relname::text FROM pg_class WHERE relkind = 'i' AND relname ~ ('^' || $1)";
        let rows = client.query(names, &[&prefix]).await.unwrap();
        let wrong: BTreeSet<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert!(!wrong.is_empty());
        assert_eq!(told, wrong, "{kind:?}");
    }
    // What is told to be done can be done.
    for finding in &found {
        let remedy = finding.remedy.trim_end_matches(';');
        client.batch_execute(remedy).await.unwrap_or_else(|error| panic!("{remedy}: {error}"));
    }
    let left: Vec<String> = findings(&catalog::load(&client).await.unwrap())
        .into_iter()
        .filter(|one| one.kind != Kind::Unused)
        .map(|one| one.name)
        .collect();
    // An index on two columns of the foreign key of three is needless now.
    assert_eq!(left, ["fine_x_y"]);
}
