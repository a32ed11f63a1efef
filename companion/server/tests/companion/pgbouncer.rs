//! A real PgBouncer, managed by a companion in front of a real server that asks for passwords.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portcullis_server::bouncer::{Options, Starter};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

use crate::support::{Running, Store, eventually};

/// A password with all that a file might take for its own.
const PASSWORD: &str = "a b''c\"d\\e;f #g%h pool_size=99";

/// What a companion is told of a PgBouncer that somebody else starts, with a folder below `parent` that `nobody` may use.
pub fn outside_in(parent: &Path) -> Options {
    let folder = parent.join("pgbouncer");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    if std::fs::metadata(&folder).unwrap().uid() == 0 {
        chown(&folder, Some(65534), Some(65534)).unwrap();
    }
    Options {
        starter: Starter::Outside,
        folder,
        address: [127, 0, 0, 1].into(),
        port: xtask::ports::free().unwrap(),
        mode: "transaction",
        connections: 100,
        clients: 100,
        tls: None,
        server_tls: "disable",
        authorities: None,
        pause: Duration::from_millis(100),
    }
}

/// A server, a folder that `nobody` may use, and a companion with a PgBouncer.
struct Place {
    server: Server,
    running: Running,
    folder: PathBuf,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Place {
    async fn open(outside: bool, connections: usize) -> Self {
        let layout = Layout::of_this_checkout();
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let rules = parent.path().join("server-hba.conf");
        std::fs::write(&rules, "local all portcullis trust\nlocal all all scram-sha-256\n").unwrap();
        let setting = format!("hba_file={}", rules.display());
        let server =
            Server::start_with(&layout, &std::env::temp_dir(), Durability::None, &[&setting]).unwrap();
        let sockets: PathBuf = host(&server.url("x")).into();
        let mut options = outside_in(parent.path());
        options.connections = connections;
        if !outside {
            let program = xtask::pgbouncer::runnable(&layout, parent.path()).unwrap();
            options.starter = Starter::Companion(program);
        }
        let (folder, port) = (options.folder.clone(), options.port);
        let running = Running::started_with(Store::Sqlite, move |settings| {
            settings.databases.sockets = vec![sockets];
            settings.bouncer = Some(options);
        })
        .await;
        Self { server, running, folder, port, _folder: parent }
    }

    /// Runs as the server's owner.
    async fn execute(&self, sql: &str) {
        let (client, connection) =
            tokio_postgres::connect(&self.server.url("postgres"), NoTls).await.unwrap();
        tokio::spawn(connection);
        for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
            client.batch_execute(statement).await.unwrap();
        }
    }

    /// A database with an owner of its own, both of odd names; its address.
    async fn database(&self, name: &str) -> String {
        let client = tokio_postgres::connect(&self.server.url("postgres"), NoTls).await.unwrap();
        tokio::spawn(client.1);
        let password = PASSWORD.replace('\'', "''");
        let role = format!("CREATE ROLE \"o'{name}\" LOGIN PASSWORD '{password}'");
        client.0.batch_execute(&role).await.unwrap();
        client.0.batch_execute(&format!("CREATE DATABASE \"the {name}\" OWNER \"o'{name}\"")).await.unwrap();
        let encoded: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let socket = host(&self.server.url("x")).replace('/', "%2F");
        format!("postgres://o%27{name}:{encoded}@{socket}/the%20{name}")
    }

    async fn give(&self, tenant: &str, url: &str) {
        let body = json!({"database_url": url}).to_string();
        let path = format!("/api/tenants/{tenant}");
        let answer = self.running.send_json("PUT", &path, &self.running.admin(), &body).await;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
    }

    async fn state(&self) -> Value {
        let answer = self.running.get("/api/database/pgbouncer", Some(&self.running.admin())).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    async fn until_offered(&self, tenant: &str) {
        eventually(async || {
            let state = self.state().await;
            state["up"] == true
                && state["problem"] == Value::Null
                && state["databases"][tenant] != Value::Null
        })
        .await;
        // The figures are known before the files are read.
        eventually(async || self.connect(tenant, tenant, PASSWORD).await.is_ok()).await;
    }

    async fn connect(
        &self,
        user: &str,
        database: &str,
        password: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).dbname(database).password(password);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn refused(&self, user: &str, database: &str, password: &str) -> bool {
        self.connect(user, database, password).await.is_err()
    }

    async fn figures(&self, tenant: &str) -> Value {
        let path = format!("/api/database/performance/{tenant}");
        self.running.get(&path, Some(&self.running.of_tenant(tenant))).await.json()["pgbouncer"].clone()
    }
}

fn host(url: &str) -> String {
    url.split('@').nth(1).unwrap().split('/').next().unwrap().replace("%2F", "/")
}

/// Who one is at the other end.
async fn identity(client: &Client) -> (String, String) {
    let rows = client.simple_query("SELECT current_user, current_database()").await.unwrap();
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.unwrap();
    (row.get(0).unwrap().to_owned(), row.get(1).unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_come_move_and_go_and_nothing_is_restarted() {
    let place = Place::open(false, 20).await;
    let (acme, globex) = (place.database("acme").await, place.database("globex").await);
    place.give("acme", &acme).await;
    place.until_offered("acme").await;
    let process = place.state().await["process"].clone();
    assert!(process.is_number());
    let client = place.connect("acme", "acme", PASSWORD).await.unwrap();
    assert_eq!(identity(&client).await, ("o'acme".to_owned(), "the acme".to_owned()));

    // Each has its own and nothing else; names that rules would read as more are names.
    place.give("globex", &globex).await;
    place.give("all", &globex).await;
    place.until_offered("globex").await;
    place.until_offered("all").await;
    assert_eq!(identity(&place.connect("globex", "globex", PASSWORD).await.unwrap()).await.1, "the globex");
    for (user, database, password) in [
        ("acme", "acme", "hunter2"),
        ("acme", "globex", PASSWORD),
        ("all", "acme", PASSWORD),
        ("acme", "pgbouncer", PASSWORD),
        ("portcullis_admin", "acme", PASSWORD),
        ("o'acme", "acme", PASSWORD),
        ("nobody", "acme", PASSWORD),
    ] {
        assert!(place.refused(user, database, password).await, "{user} {database}");
    }
    place.give("a;b", &globex).await;
    eventually(async || place.state().await["not_offered"]["a;b"].is_string()).await;

    // The files are nobody else's.
    for name in ["pgbouncer.ini", "users.txt", "hba.conf", "admin-password"] {
        let mode = std::fs::metadata(place.folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }

    // It moves: what runs goes on where it was, what comes next is at the new place.
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(identity(&client).await.1, "the acme");
    place.give("acme", &globex).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(identity(&client).await.1, "the acme");
    client.batch_execute("COMMIT").await.unwrap();
    eventually(async || match place.connect("acme", "acme", PASSWORD).await {
        Ok(client) => identity(&client).await.1 == "the globex",
        Err(_) => false,
    })
    .await;

    // It goes.
    let left = place.connect("globex", "globex", PASSWORD).await.unwrap();
    let removed = place.running.send_json("DELETE", "/api/tenants/globex", &place.running.admin(), "").await;
    assert_eq!(removed.status, 200);
    eventually(async || place.refused("globex", "globex", PASSWORD).await).await;
    eventually(async || left.simple_query("SELECT 1").await.is_err()).await;
    assert!(!std::fs::read_to_string(place.folder.join("users.txt")).unwrap().contains("globex"));
    assert!(!place.refused("all", "all", PASSWORD).await, "another on the same server");
    assert_eq!(place.state().await["process"], process, "nothing was restarted");
    assert_eq!(place.state().await["restarts"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_what_was_done_and_sizes_follow_under_the_cap() {
    let place = Place::open(false, 8).await;
    let url = place.database("acme").await;
    place.give("acme", &url).await;
    place.until_offered("acme").await;
    let client = place.connect("acme", "acme", PASSWORD).await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
    // What was done so far is told by now.
    let mut before = place.figures("acme").await;
    eventually(async || {
        let (queries, now) = (before["query_count"].as_u64(), place.figures("acme").await);
        queries.is_some_and(|count| count >= 1) || now["query_count"].as_u64().is_some_and(|count| count >= 1)
    })
    .await;
    before = place.figures("acme").await;
    for _ in 0..25 {
        client.simple_query("SELECT 1").await.unwrap();
    }
    for _ in 0..5 {
        client.simple_query("BEGIN").await.unwrap();
        client.simple_query("SELECT 2").await.unwrap();
        client.simple_query("COMMIT").await.unwrap();
    }
    let of = |figures: &Value, name: &str| figures[name].as_u64().unwrap();
    let (transactions, queries) = (of(&before, "transaction_count"), of(&before, "query_count"));
    eventually(async || of(&place.figures("acme").await, "transaction_count") >= transactions + 30).await;
    let after = place.figures("acme").await;
    assert_eq!(of(&after, "transaction_count"), transactions + 30);
    assert_eq!(of(&after, "query_count"), queries + 40);
    assert_eq!(after["source"], "pgbouncer");

    // Six at once, each in a transaction: those that wait are what the size follows.
    let mut held = Vec::new();
    for _ in 0..6 {
        let client = place.connect("acme", "acme", PASSWORD).await.unwrap();
        held.push(tokio::spawn(async move {
            client.simple_query("BEGIN").await.unwrap();
            client.simple_query("SELECT 1").await.unwrap();
            client
        }));
    }
    let mut clients = Vec::new();
    for client in held {
        clients.push(tokio::time::timeout(Duration::from_secs(25), client).await.unwrap().unwrap());
    }
    let figures = place.figures("acme").await;
    assert!((6..=8).contains(&of(&figures, "pool_size")), "{figures}");
    // Never more than all may have.
    let many: Vec<_> = (0..12).map(|_| place.connect("acme", "acme", PASSWORD)).collect();
    let mut waiting = Vec::new();
    for client in many {
        let client = client.await.unwrap();
        waiting
            .push(tokio::spawn(async move { client.simple_query("SELECT pg_sleep(0.01)").await.map(drop) }));
    }
    place.give("globex", &url).await;
    place.until_offered("globex").await;
    let state = place.state().await;
    let sum: u64 = state["databases"].as_object().unwrap().values().map(|one| of(one, "pool_size")).sum();
    assert!(sum <= 8, "{state}");
    let text = place.running.get("/metrics", Some(&place.running.admin())).await.body;
    assert!(text.contains("portcullis_pgbouncer_up 1\n"), "{text}");
    drop(clients);
    for one in waiting {
        one.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_dies_is_told_of_and_started_again() {
    let place = Place::open(false, 20).await;
    let url = place.database("acme").await;
    place.give("acme", &url).await;
    place.until_offered("acme").await;
    let first = place.state().await["process"].as_u64().unwrap();
    let killed = Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap();
    assert!(killed.success());
    eventually(async || {
        let state = place.state().await;
        state["restarts"] == 1 && state["up"] == true && state["process"].as_u64() != Some(first)
    })
    .await;
    place.until_offered("acme").await;
    let text = place.running.get("/metrics", Some(&place.running.admin())).await.body;
    assert!(text.contains("portcullis_pgbouncer_restarts_total 1\n"), "{text}");
    let second = place.state().await["process"].as_u64().unwrap();
    // It ends with its companion.
    place.running.companion.stop().await.unwrap();
    assert!(!Path::new(&format!("/proc/{second}/cmdline")).exists());
}

/// A PgBouncer that this test has started; it ends with it.
struct Outside(Child);

impl Outside {
    fn start(place: &Place) -> Self {
        let layout = Layout::of_this_checkout();
        let program = xtask::pgbouncer::runnable(&layout, place.folder.parent().unwrap()).unwrap();
        let mut command = Command::new(program);
        command.arg(place.folder.join("pgbouncer.ini")).stdin(Stdio::null()).stderr(Stdio::null());
        let owner = std::fs::metadata(&place.folder).unwrap();
        if owner.uid() == 65534 {
            command.uid(owner.uid()).gid(owner.gid());
        }
        Self(command.spawn().unwrap())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_somebody_else_starts_is_told_through_its_console() {
    let place = Place::open(true, 20).await;
    eventually(async || place.state().await["problem"].to_string().contains("start it: pgbouncer ")).await;
    let outside = Outside::start(&place);
    eventually(async || place.state().await["up"] == true).await;
    let url = place.database("acme").await;
    place.give("acme", &url).await;
    place.until_offered("acme").await;
    let state = place.state().await;
    assert_eq!((&state["started_by"], &state["process"]), (&"outside".into(), &Value::Null));
    // Its password changes, in both places.
    place.execute("ALTER ROLE \"o'acme\" PASSWORD 'another one'").await;
    let changed =
        format!("{}:another%20one@{}", url.rsplit_once(':').unwrap().0, url.split('@').nth(1).unwrap());
    place.give("acme", &changed).await;
    eventually(async || match place.connect("acme", "acme", "another one").await {
        Ok(client) => client.simple_query("SELECT 1").await.is_ok(),
        Err(_) => false,
    })
    .await;
    assert!(place.refused("acme", "acme", PASSWORD).await);
    place.running.companion.stop().await.unwrap();
    drop(outside);
}
