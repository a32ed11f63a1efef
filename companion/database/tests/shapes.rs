//! Workloads of many shapes on a real server: what is advised builds, keeps to the budget, makes no statement dearer, and serves what it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::PathBuf;

use portcullis_database::advise::{Options, Prove, advise};
use portcullis_database::catalog;
use portcullis_database::plan::Plan;
use portcullis_database::workload::Query;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

const MEGABYTE: f64 = 1_048_576.0;

const SCHEMA: &str = r#"
SELECT setseed(0.75);
CREATE EXTENSION pg_trgm;
CREATE TABLE readings (sensor int NOT NULL, at timestamptz NOT NULL, value float8 NOT NULL, quality smallint);
INSERT INTO readings SELECT (random() * 500)::int, '2026-01-01'::timestamptz + i * interval '1 minute', random(), CASE WHEN i % 10 = 0 THEN 1 END
FROM generate_series(1, 120000) i;
CREATE TABLE accounts (id bigint PRIMARY KEY, tenant int NOT NULL, email text NOT NULL, settings jsonb NOT NULL, deleted_at timestamptz, score int,
  quantity int NOT NULL, code text NOT NULL, tags int[] NOT NULL);
INSERT INTO accounts SELECT i, (random() * 400)::int, 'User' || i || '@example.test', jsonb_build_object('plan', i % 5000, 'ref', md5(i::text)),
  CASE WHEN i % 20 > 0 THEN now() END, CASE WHEN i % 3 > 0 THEN (random() * 100000)::int END, i % 9, 'A' || i, ARRAY[i % 5000, i % 7000]
FROM generate_series(1, 60000) i;
-- How many codes hold 777 is told from the histogram's bounds: of a sample, one in four holds such a code by chance. So all rows are read.
ALTER TABLE accounts ALTER code SET STATISTICS 200;
CREATE SCHEMA shop;
CREATE TABLE shop."Order Lines" ("Id" int PRIMARY KEY, "orderId" int NOT NULL, "Article" text NOT NULL, "user" int NOT NULL);
INSERT INTO shop."Order Lines" SELECT i, (random() * 20000)::int, 'article ' || (i % 3000), (random() * 5000)::int FROM generate_series(1, 60000) i;
CREATE TABLE shop.orders (id int, account int, placed date, state text);
INSERT INTO shop.orders SELECT i, 1 + (random() * 59999)::int, '2024-01-01'::date + (random() * 700)::int,
  (ARRAY['new', 'paid', 'sent', 'sent', 'sent', 'sent'])[1 + i % 6] FROM generate_series(1, 40000) i;
CREATE TABLE measured (day date NOT NULL, sensor int NOT NULL, value float8) PARTITION BY RANGE (day);
CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE measured_2 PARTITION OF measured FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
INSERT INTO measured SELECT '2026-01-01'::date + i % 360, i % 300, i FROM generate_series(1, 30000) i;
CREATE VIEW active_accounts AS SELECT id, tenant, email FROM accounts WHERE deleted_at IS NULL;
CREATE MATERIALIZED VIEW by_sensor AS SELECT sensor, date_trunc('hour', at) AS hour, avg(value) AS mean FROM readings GROUP BY 1, 2;
"#;

/// Name, statement, and the share of its cost that it may still have.
const STATEMENTS: &[(&str, &str, f64)] = &[
    ("range of time", "SELECT avg(value) FROM readings WHERE at >= '2026-02-01' AND at < '2026-02-02'", 0.5),
    ("latest of one", "SELECT at, value FROM readings WHERE sensor = 7 ORDER BY at DESC LIMIT 20", 0.3),
    ("recent of one", "SELECT count(*) FROM readings WHERE sensor = 9 AND at > '2026-03-20'", 0.5),
    (
        "soft delete",
        "SELECT id FROM accounts WHERE deleted_at IS NULL AND tenant = 33 ORDER BY id LIMIT 10",
        0.3,
    ),
    ("view", "SELECT id FROM active_accounts WHERE email = 'User77@example.test'", 0.5),
    ("expression", "SELECT id FROM accounts WHERE lower(email) = 'user77@example.test'", 0.5),
    (
        "json text",
        "SELECT id FROM accounts WHERE settings ->> 'ref' = 'c4ca4238a0b923820dcc509a6f75849b'",
        0.5,
    ),
    ("json contains", "SELECT id FROM accounts WHERE settings @> '{\"plan\": 7}'", 0.5),
    ("prefix", "SELECT id FROM accounts WHERE code LIKE 'A777%'", 0.3),
    ("infix", "SELECT id FROM accounts WHERE code LIKE '%777%'", 0.5),
    ("has a key", "SELECT id FROM accounts WHERE settings ? 'none'", 0.5),
    ("array", "SELECT id FROM accounts WHERE tags && ARRAY[7, 9]", 0.5),
    (
        "of no class",
        "SELECT id FROM accounts WHERE box(point(score, quantity), point(0, 0)) @> box '((2,2),(1,1))'",
        1.0,
    ),
    (
        "words",
        "SELECT id FROM accounts WHERE to_tsvector('simple', email) @@ to_tsquery('simple', 'user77')",
        0.5,
    ),
    ("nulls last", "SELECT id, score FROM accounts ORDER BY score DESC NULLS LAST LIMIT 10", 0.3),
    ("list", "SELECT id FROM accounts WHERE tenant IN (3, 7, 11) AND score > 99000", 0.5),
    ("alternatives", "SELECT id FROM accounts WHERE code = 'A7' OR code = 'A9'", 0.3),
    ("alternatives of two", "SELECT id FROM accounts WHERE code = 'A7' OR email = 'User9@example.test'", 1.0),
    ("parameters", "SELECT id FROM accounts WHERE tenant = $1 AND code = $2", 0.3),
    ("parameter of a limit", "SELECT id FROM accounts WHERE tenant = $1 ORDER BY score DESC LIMIT $2", 1.0),
    ("quoted", "SELECT \"Id\" FROM shop.\"Order Lines\" WHERE \"orderId\" = 77 AND \"user\" > 3", 0.3),
    (
        "join without a key",
        "SELECT o.id, l.\"Article\" FROM shop.orders o JOIN shop.\"Order Lines\" l ON l.\"orderId\" = o.id WHERE o.account = 88",
        0.5,
    ),
    (
        "common table",
        "WITH late AS (SELECT id, account FROM shop.orders WHERE state = 'new' AND placed < '2024-01-05') SELECT count(*) FROM late",
        0.5,
    ),
    ("truncated", "SELECT count(*) FROM readings WHERE date_trunc('day', at) = '2026-02-03'", 1.0),
    ("row", "SELECT id FROM accounts WHERE (tenant, id) > (390, 50) ORDER BY tenant, id LIMIT 5", 1.0),
    (
        "window",
        "SELECT id, rank() OVER (PARTITION BY tenant ORDER BY score) FROM accounts WHERE tenant = 5",
        0.5,
    ),
    (
        "lateral",
        "SELECT o.id, x.at FROM shop.orders o, LATERAL (SELECT at FROM readings r WHERE r.sensor = o.id ORDER BY at DESC LIMIT 1) x WHERE o.id < 9",
        0.3,
    ),
    (
        "union",
        "SELECT id FROM accounts WHERE code = 'A1' UNION ALL SELECT id FROM shop.orders WHERE account = 5",
        0.5,
    ),
    ("partitions", "SELECT sum(value) FROM measured WHERE sensor = 5 AND day > '2026-09-01'", 0.5),
    ("materialized", "SELECT mean FROM by_sensor WHERE sensor = 5", 1.0),
    (
        "divides by zero",
        "SELECT id FROM accounts WHERE 100 / (quantity - 10) = 50 AND score / (quantity + 1) = 12",
        1.0,
    ),
    ("would fail on a row", "SELECT id FROM accounts WHERE quantity > 0 AND 100 / quantity = 50", 1.0),
    ("writes", "UPDATE accounts SET score = score + 1 WHERE code = 'A55'", 0.3),
    ("deletes", "DELETE FROM readings WHERE at < '2026-01-01 00:30'", 0.5),
    ("unknown table", "SELECT * FROM nowhere WHERE x = 1", 1.0),
    ("no SQL", "SELEKT everything; FROM'", 1.0),
    ("catalog", "SELECT relname FROM pg_class WHERE relpages > 1000", 1.0),
];

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn filled(url: &str) -> Client {
    let client = connect(url).await;
    client.batch_execute(SCHEMA).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    client
}

fn workload() -> Vec<Query> {
    STATEMENTS.iter().map(|(name, text, _)| Query::new(name, text, 5.0)).collect()
}

async fn cost(client: &Client, text: &str) -> Option<f64> {
    let answer = client.simple_query(&format!("EXPLAIN {text}")).await.ok()?;
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.split_once("..")?.1.split(' ').next()?.parse().ok(),
        _ => None,
    })
}

async fn costs(client: &Client) -> Vec<Option<f64>> {
    let mut costs = Vec::new();
    for (_, text, _) in STATEMENTS {
        costs.push(cost(client, text).await);
    }
    costs
}

async fn bytes(client: &Client, plan: &Plan) -> f64 {
    let names: Vec<&str> = plan.indexes.iter().map(|index| index.name.as_str()).collect();
    let sum = "SELECT coalesce(sum(pg_relation_size(oid)), 0)::float8 FROM pg_class WHERE relname = ANY ($1)";
    client.query_one(sum, &[&names]).await.unwrap().get(0)
}

/// Advises on one database, builds on another that nobody proved anything on.
async fn judged(hypothetical: bool, prove: Prove, budget: f64) -> Plan {
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &PathBuf::from("/tmp"), Durability::None).unwrap();
    let client = filled(&server.create(&layout, "asked").unwrap()).await;
    if hypothetical {
        drop(client.batch_execute("CREATE EXTENSION hypopg").await);
    }
    let catalog = catalog::load(&client).await.unwrap();
    let plan =
        advise(&client, &catalog, workload(), Options { budget, prove }, &mut |_, _, _| {}).await.unwrap();
    println!("{}", plan.sql());
    let mut left_out: Vec<&str> = plan.skipped.iter().map(|one| one.name.as_str()).collect();
    left_out.sort_unstable();
    assert_eq!(left_out, ["no SQL", "unknown table"], "{:?}", plan.skipped);

    let judge = filled(&server.create(&layout, "judge").unwrap()).await;
    let before = costs(&judge).await;
    for index in &plan.indexes {
        judge.batch_execute(&index.create).await.unwrap_or_else(|error| panic!("{}: {error}", index.create));
    }
    judge.batch_execute("VACUUM ANALYZE").await.unwrap();
    let taken = bytes(&judge, &plan).await;
    assert!(taken <= budget, "{taken} of {budget}\n{}", plan.sql());
    let after = costs(&judge).await;
    for (((name, _, most), before), after) in STATEMENTS.iter().zip(before).zip(after) {
        let (Some(before), Some(after)) = (before, after) else { continue };
        assert!(after <= before * 1.02, "{name} became dearer: {before} to {after}");
        // The catalogue's own grow with each index; that is not to be served.
        if plan.judged.by != "reckoned" && *most < 1.0 {
            assert!(after <= before * most, "{name} is not served: {before} to {after}\n{}", plan.sql());
        }
    }
    plan
}

#[tokio::test]
async fn proven_by_measuring() {
    let plan = judged(true, Prove::Always, 60.0 * MEGABYTE).await;
    assert_eq!(plan.judged.by, "measured", "{:?}", plan.judged);
}

#[tokio::test]
async fn by_the_planner_alone() {
    judged(true, Prove::Never, 60.0 * MEGABYTE).await;
}

#[tokio::test]
async fn reckoned() {
    assert_eq!(judged(false, Prove::Never, 60.0 * MEGABYTE).await.judged.by, "reckoned");
}

/// However small the budget: what is built stays within it.
#[tokio::test]
async fn the_smallest_budgets_hold() {
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &PathBuf::from("/tmp"), Durability::None).unwrap();
    let client = filled(&server.create(&layout, "small").unwrap()).await;
    drop(client.batch_execute("CREATE EXTENSION hypopg").await);
    let catalog = catalog::load(&client).await.unwrap();
    for budget in [0.0, 8192.0, 100_000.0, 0.5 * MEGABYTE, 2.0 * MEGABYTE] {
        let options = Options { budget, prove: Prove::Never };
        let plan = advise(&client, &catalog, workload(), options, &mut |_, _, _| {}).await.unwrap();
        let transaction =
            plan.indexes.iter().map(|index| index.create.replace(" CONCURRENTLY", "")).collect::<Vec<_>>();
        client.batch_execute(&format!("BEGIN; {}", transaction.join(";"))).await.unwrap();
        let taken = bytes(&client, &plan).await;
        client.batch_execute("ROLLBACK").await.unwrap();
        assert!(taken <= budget, "{taken} of {budget}\n{}", plan.sql());
    }
}
