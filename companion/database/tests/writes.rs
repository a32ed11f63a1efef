//! What indexes cost those who write, on a real server that counts its statements: by rows, and with heap-only tuples.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::PathBuf;

use portcullis_database::advise::{Options, Prove, advise};
use portcullis_database::plan::Plan;
use portcullis_database::{catalog, workload};
use tokio_postgres::{Client, NoTls};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

const SCHEMA: &str = "
CREATE EXTENSION pg_stat_statements;
CREATE TABLE jobs (id int PRIMARY KEY, kind int NOT NULL, touched timestamptz NOT NULL, attempts int NOT NULL, note text NOT NULL) WITH (fillfactor = 70);
INSERT INTO jobs SELECT i, i % 2000, '2026-01-01'::timestamptz + (i * 7919 % 60000) * interval '1 minute', 0, md5(i::text) FROM generate_series(1, 60000) i;";

async fn counted() -> (Server, Client) {
    let layout = Layout::of_this_checkout();
    let settings = ["shared_preload_libraries=pg_stat_statements"];
    let server = Server::start_with(&layout, &PathBuf::from("/tmp"), Durability::None, &settings).unwrap();
    let url = server.create(&layout, "counted").unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SCHEMA).await.unwrap();
    drop(client.batch_execute("CREATE EXTENSION hypopg").await);
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    (server, client)
}

async fn repeat(client: &Client, times: usize, statement: &str) {
    for time in 0..times {
        client.batch_execute(&statement.replace("{n}", &time.to_string())).await.unwrap();
    }
}

async fn plan(client: &Client) -> Plan {
    let catalog = catalog::load(client).await.unwrap();
    let recorded = workload::recorded(client).await.unwrap();
    let options = Options { budget: 8.0 * 1_048_576.0, prove: Prove::Never };
    advise(client, &catalog, recorded, options, &mut |_, _, _| {}).await.unwrap()
}

fn on<'p>(plan: &'p Plan, column: &str) -> Vec<&'p str> {
    let key = format!("({column}");
    plan.indexes.iter().map(|index| index.create.as_str()).filter(|create| create.contains(&key)).collect()
}

#[tokio::test]
async fn an_index_that_many_writes_would_pay_for_is_not_worth_few_reads() {
    let (_server, client) = counted().await;
    let start = "SELECT pg_stat_statements_reset()";
    let by_kind = "SELECT note FROM jobs WHERE kind = {n}";
    let by_time = "SELECT id FROM jobs WHERE touched = '2026-01-01 00:{n}0'";

    // Few rows are written: both are worth their indexes.
    client.batch_execute(start).await.unwrap();
    repeat(&client, 6, by_kind).await;
    repeat(&client, 6, by_time).await;
    repeat(&client, 6, "UPDATE jobs SET touched = touched + interval '1 second' WHERE id = {n}").await;
    let quiet = plan(&client).await;
    assert!(!on(&quiet, "kind").is_empty() && !on(&quiet, "touched").is_empty(), "{}", quiet.sql());

    // The same calls write thousands of rows. What reads `touched` would cost each of them two entries; `kind` is not changed, and the
    // new versions of the rows stay on their pages, out of all indexes.
    client.batch_execute(start).await.unwrap();
    repeat(&client, 6, by_kind).await;
    repeat(&client, 6, by_time).await;
    repeat(&client, 6, "UPDATE jobs SET touched = touched + interval '1 second' WHERE id % 10 = {n}").await;
    let busy = plan(&client).await;
    assert!(on(&busy, "touched").is_empty(), "{}", busy.sql());
    assert!(!on(&busy, "kind").is_empty(), "{}", busy.sql());
}

/// Writes that take little time each stand behind hundreds of reads, and are counted all the same.
#[tokio::test]
async fn writes_are_seen_behind_many_slower_statements() {
    let (_server, client) = counted().await;
    client.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    for number in 0..230 {
        let columns = vec!["kind"; 1 + number].join(" + ");
        client.batch_execute(&format!("SELECT sum({columns}) FROM jobs WHERE id < 9000")).await.unwrap();
    }
    client.batch_execute("INSERT INTO jobs VALUES (100000, 1, now(), 0, 'x')").await.unwrap();
    let recorded = workload::recorded(&client).await.unwrap();
    let insert = recorded.iter().find(|query| query.text.starts_with("INSERT INTO jobs VALUES"));
    assert_eq!(insert.and_then(|query| query.rows), Some(1.0), "{} statements", recorded.len());
    assert!(recorded.len() < 300, "{}", recorded.len());
}
