//! What may be wrong with a tenant's database: each is told, with what to do, and takes nothing down.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_database::monitor;
use portcullis_database::pool::target::Rules;
use portcullis_database::pool::{Pools, Shape};
use tokio::time::{Instant, timeout};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

use crate::{SOON, beside, pools, tls};

async fn refused(pools: &Pools, url: &str) -> String {
    pools.put("acme", url).unwrap();
    let error = timeout(SOON, pools.lend("acme", None)).await.unwrap().err().expect(url).to_string();
    assert!(!error.contains("hunter2"), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer() {
    let rules =
        Rules { allowed: Some(Arc::new(|address: IpAddr| address.is_loopback())), ..Rules::default() };
    let (pools, _slow) = Pools::new(Shape::default(), rules, tls(), Instant::now().into_std());
    // Nobody there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = refused(&pools, &format!("postgres://me:hunter2@{free}/shop?sslmode=disable")).await;
    assert!(said.contains("refused") && said.contains("check host and port"), "{said}");
    // Somebody who says nothing: bounded.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let since = Instant::now();
    let said = refused(&pools, &format!("postgres://me:hunter2@{address}/shop?sslmode=disable")).await;
    assert!(said.contains("did not take a connection within 5s"), "{said}");
    assert!(since.elapsed() < Duration::from_secs(12));
    // A name without an address.
    let said = refused(&pools, "postgres://me:hunter2@no-such-host.invalid/shop").await;
    assert!(said.contains("could not be resolved") && said.contains("database_url"), "{said}");
    assert_eq!(pools.open().0, 0, "no place is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_let_in_or_permit() {
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &std::env::temp_dir(), Durability::None).unwrap();
    let url = server.create(&layout, "shop").unwrap();
    for database in ["closed", "bare"] {
        server.create(&layout, database).unwrap();
    }
    let owner = beside(&url).await;
    owner
        .batch_execute(
            "CREATE ROLE guest LOGIN PASSWORD 'right'; CREATE TABLE t (a int); CREATE EXTENSION pg_stat_statements;
             REVOKE CONNECT ON DATABASE closed FROM PUBLIC;
             COPY (SELECT 'local all guest scram-sha-256' UNION ALL SELECT 'local all all trust' UNION ALL SELECT 'local replication all trust')
               TO PROGRAM 'cat > pg_hba.conf'",
        )
        .await
        .unwrap();
    owner.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let as_guest = |password: &str, database: &str| {
        server.url(database).replace("portcullis@", &format!("guest:{password}@"))
    };
    let (pools, _slow) = pools(Shape::default(), &url);
    // The server reads its file when it gets to it.
    timeout(SOON, async {
        while pools.put("acme", &as_guest("hunter2", "shop")).is_ok()
            && pools.lend("acme", None).await.is_ok()
        {
            pools.remove("acme");
        }
    })
    .await
    .unwrap();
    let said = refused(&pools, &as_guest("hunter2", "shop")).await;
    assert!(
        said.contains("password authentication failed") && said.contains("check user and password"),
        "{said}"
    );
    let said = refused(&pools, &as_guest("right", "closed")).await;
    assert!(said.contains("permission denied") && said.contains("GRANT CONNECT"), "{said}");
    let said = refused(&pools, &as_guest("right", "absent")).await;
    assert!(said.contains("does not exist") && said.contains("check the database's name"), "{said}");

    // Let in, and not permitted; a statement that is none.
    pools.put("acme", &as_guest("right", "shop")).unwrap();
    let lease = pools.lend("acme", None).await.unwrap();
    let denied = lease.query("SELECT * FROM t", &[]).await.unwrap_err().to_string();
    assert!(denied.contains("42501") && denied.contains("permission denied for table t"), "{denied}");
    let said = lease.query("SELEKT 1", &[]).await.unwrap_err().to_string();
    assert!(said.contains("42601") && said.contains("syntax error at or near \"SELEKT\""), "{said}");
    lease.query("SELECT 1", &[]).await.unwrap();

    // An extension that is missing, and one that is not loaded.
    pools.put("acme", &as_guest("right", "bare")).unwrap();
    let lease = pools.lend("acme", None).await.unwrap();
    let missing = monitor::snapshot(lease.observer().unwrap()).await.unwrap().missing.unwrap();
    assert!(missing.contains("CREATE EXTENSION pg_stat_statements"), "{missing}");
    let told = monitor::slowest(lease.observer().unwrap(), 1.0, 10).await.unwrap().unwrap_err();
    assert_eq!(told, missing);

    // A standby.
    let standby = server.standby(&std::env::temp_dir()).unwrap();
    let rules = Rules { sockets: vec![crate::socket(&standby.url("shop"))], ..Rules::default() };
    let (pools, _slow) = Pools::new(Shape::default(), rules, tls(), Instant::now().into_std());
    let said = refused(&pools, &format!("{}?target_session_attrs=read-write", standby.url("shop"))).await;
    assert!(said.contains("standby") && said.contains("name the primary"), "{said}");
    pools.put("acme", &standby.url("shop")).unwrap();
    let lease = pools.lend("acme", None).await.unwrap();
    assert!(lease.query("SELECT * FROM t", &[]).await.unwrap().is_empty());
    let said = lease.query("INSERT INTO t VALUES (1)", &[]).await.unwrap_err().to_string();
    assert!(said.contains("25006") && said.contains("read-only transaction"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_that_are_not_loaded() {
    let layout = Layout::of_this_checkout();
    let nothing = ["shared_preload_libraries="];
    let server = Server::start_with(&layout, &std::env::temp_dir(), Durability::None, &nothing).unwrap();
    let url = server.create(&layout, "shop").unwrap();
    let client = beside(&url).await;
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let missing = monitor::snapshot(&client).await.unwrap().missing.unwrap();
    assert!(missing.contains("not loaded") && missing.contains("restart the server"), "{missing}");
    assert_eq!(monitor::slowest(&client, 1.0, 10).await.unwrap().unwrap_err(), missing);
}
