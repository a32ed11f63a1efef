//! The pools on a real PostgreSQL and on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod cache;
mod fleet;
mod fresh;
mod lending;
mod overhead;
mod trouble;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use portcullis_database::pool::target::Rules;
use portcullis_database::pool::{Pools, Shape, Slow};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let settings = ["shared_preload_libraries=pg_stat_statements"];
    Server::start_with(&Layout::of_this_checkout(), &std::env::temp_dir(), Durability::None, &settings)
        .unwrap()
});

fn database(name: &str) -> String {
    SERVER.create(&Layout::of_this_checkout(), name).unwrap()
}

fn tls() -> MakeRustlsConnect {
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

fn socket(url: &str) -> PathBuf {
    let host = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    PathBuf::from(host.replace("%2F", "/"))
}

fn pools(shape: Shape, url: &str) -> (Pools, mpsc::Receiver<Slow>) {
    let rules = Rules { sockets: vec![socket(url)], ..Rules::default() };
    Pools::new(shape, rules, tls(), Instant::now().into_std())
}

const SOON: Duration = Duration::from_secs(20);

/// Another's look at the server.
async fn beside(url: &str) -> tokio_postgres::Client {
    let (client, connection) = url.parse::<tokio_postgres::Config>().unwrap().connect(tls()).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn open_on_the_server(client: &tokio_postgres::Client, like: &str) -> i64 {
    let counted =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'portcullis%' AND datname LIKE $1";
    client.query_one(counted, &[&like]).await.unwrap().get(0)
}

/// `make bench-pools` asks for the full size.
fn is_full() -> bool {
    std::env::var("PORTCULLIS_POOLS").is_ok_and(|size| size == "full")
}
