//! The result cache of the tenants' pools, on a real server: `cargo run --release --example cached`, on a PostgreSQL of its own.
//!
//! One question is asked three times of two users, and what row-level security shows of a table stays apart. A write through the pools is seen at once; one
//! by somebody else as soon as the table tells of it.
#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_database::cache::{Context, TRIGGER};
use portcullis_database::pool::target::Rules;
use portcullis_database::pool::{Pools, Read, Shape};
use tokio::time::Instant;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

const SCHEMA: &str = "
CREATE TABLE orders (id int PRIMARY KEY, owner text NOT NULL, cents int NOT NULL);
INSERT INTO orders SELECT i, CASE WHEN i % 3 = 0 THEN 'ann' ELSE 'bob' END, i FROM generate_series(1, 90000) i;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON orders USING (owner = current_setting('app.user', true));
CREATE ROLE app;
GRANT SELECT, INSERT ON orders TO app;";

const QUESTION: &str = "SELECT count(*), sum(cents) FROM orders";

/// The tenants' pools, which may reach this socket and nothing else.
fn pools(socket: PathBuf) -> Result<Pools> {
    let provider = Arc::new(crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let rules = Rules { sockets: vec![socket], ..Rules::default() };
    let (pools, _slow) =
        Pools::new(Shape::default(), rules, MakeRustlsConnect::new(tls), Instant::now().into_std());
    Ok(pools)
}

/// What a user sees: rows and cents.
async fn ask(pools: &Pools, user: &str) -> Result<(i64, i64)> {
    let context = Context::default().role("app").setting("app.user", user)?;
    let start = Instant::now();
    let rows = pools.read("shop", Read { context: &context, sql: QUESTION, values: &[] }, None).await?;
    let row = rows.first().context("no row")?;
    let (count, cents) = (row.try_get(0)?, row.try_get(1)?);
    println!(
        "{user:<4} {count:>6} orders, {cents:>11} cents, in {:>8.1} us",
        start.elapsed().as_secs_f64() * 1e6
    );
    Ok((count, cents))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &std::env::temp_dir(), Durability::None)?;
    let url = server.create(&layout, "shop")?;
    let (owner, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    owner.batch_execute(SCHEMA).await?;

    let host = url.split('@').nth(1).and_then(|rest| rest.split('/').next()).context("the socket")?;
    let pools = pools(PathBuf::from(host.replace("%2F", "/")))?;
    pools.put("shop", &url)?;

    let mut seen = Vec::new();
    for user in ["ann", "bob", "ann", "bob", "ann", "bob"] {
        seen.push(ask(&pools, user).await?);
    }
    ensure!(seen.first() != seen.get(1) && seen.first() == seen.get(4), "each sees what is theirs");

    println!("a write through the pools:");
    pools.lend("shop", None).await?.query("INSERT INTO orders VALUES (90001, 'ann', 5)", &[]).await?;
    ensure!(ask(&pools, "ann").await?.0 == 30_001, "seen at once");

    println!("a write by somebody else, of which the table tells:");
    owner.batch_execute(&TRIGGER.replace("{table}", "orders")).await?;
    let _heard = pools.listen("shop").await?;
    owner.batch_execute("INSERT INTO orders VALUES (90002, 'ann', 5)").await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&pools, "ann").await?.0 < 30_002 {
        ensure!(Instant::now() < deadline, "not heard within ten seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let figures = pools.cached();
    println!("{} answers from memory, {} from the server", figures.hits, figures.misses);
    Ok(())
}
