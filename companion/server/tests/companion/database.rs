//! `portcullis database` as an operator uses it: the whole way of a plan, and everything that may be wrong with what is asked.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tokio_postgres::{Client, NoTls};
use xtask::layout::Layout;
use xtask::postgres::{Durability, Server};

use crate::commands::{output, portcullis, text};

const TABLES: &str = "
    CREATE TABLE clients (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE visits (id int PRIMARY KEY, client int NOT NULL REFERENCES clients, at timestamptz NOT NULL, note text NOT NULL);
    INSERT INTO clients SELECT i, 'client ' || i FROM generate_series(1, 2000) i;
    INSERT INTO visits SELECT i, 1 + i % 2000, '2026-01-01'::timestamptz + i * interval '5 minutes', md5(i::text) FROM generate_series(1, 30000) i;
    ANALYZE";
const STATEMENT: &str = "SELECT id, note FROM visits WHERE client = 77";

fn start() -> (Server, String) {
    let layout = Layout::of_this_checkout();
    let server = Server::start(&layout, &std::env::temp_dir(), Durability::None).unwrap();
    let url = server.create(&layout, "shop").unwrap();
    (server, url)
}

fn run(url: &str, statements: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection): (Client, _) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        for statement in statements {
            client.batch_execute(statement).await.unwrap();
        }
    });
}

fn workload(folder: &Path, statement: &str) {
    fs::create_dir_all(folder.join("queries")).unwrap();
    fs::write(folder.join("queries/visits.sql"), statement).unwrap();
}

/// It ends with this code, and tells each of these on standard error.
fn fails(ended: &Output, code: i32, told: &[&str]) {
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(code), "{said}{}", text(&ended.stdout));
    for part in told {
        assert!(said.contains(part), "{part:?} is not told: {said}");
    }
}

fn succeeds(ended: &Output) -> String {
    assert!(ended.status.success(), "{}{}", text(&ended.stderr), text(&ended.stdout));
    text(&ended.stdout)
}

#[test]
fn a_plan_is_made_approved_applied_and_taken_back() {
    let (_server, url) = start();
    run(&url, &[TABLES]);
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    workload(here, STATEMENT);
    let database = |arguments: &[&str]| {
        let all = [&["database", arguments[0], "--url", &url], &arguments[1..]].concat();
        output(here, &all)
    };
    let advised = database(&["advise", "--workload", "queries", "--budget", "2MB", "--out", "plan.sql"]);
    let said = succeeds(&advised);
    let digest = said.rsplit("--approve ").next().unwrap().trim().to_owned();
    let plan = fs::read_to_string(here.join("plan.sql")).unwrap();
    assert!(plan.contains("ON public.visits (client)"), "{plan}");

    let looked = database(&["apply", "plan.sql"]);
    assert_eq!(looked.status.code(), Some(3), "{}", text(&looked.stderr));
    assert!(text(&looked.stdout).contains(&format!("--approve {digest}")));
    fails(&database(&["apply", "plan.sql", "--approve", "0123"]), 1, &["is not what was approved", &digest]);
    let applied =
        ["apply", "plan.sql", "--approve", &digest, "--workload", "queries", "--observe", "1", "--json"];
    let report: Value = serde_json::from_str(&succeeds(&database(&applied))).unwrap();
    assert_eq!(report["indexes"][0]["outcome"], "kept", "{report}");
    let found = succeeds(&database(&["report"]));
    assert!(found.contains("2 tables, 0 findings"), "{found}");
    assert!(succeeds(&database(&["rollback", "--plan", &digest])).contains("1 dropped"));
    let found = database(&["report"]);
    assert_eq!(found.status.code(), Some(1), "the foreign key has no index now");
    assert!(text(&found.stdout).contains("visits_client_fkey"));
}

#[test]
fn settings_and_slow_statements_are_told() {
    let (_server, url) = start();
    run(&url, &[TABLES]);
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let tune = ["database", "tune", "--url", &url, "--memory", "16GB", "--cpus", "4"];
    let advice = succeeds(&output(here, &tune));
    for line in [
        "ALTER SYSTEM SET fsync = 'on';",
        "-- 4 now, reload: the disk has no heads",
        "ALTER SYSTEM RESET random_page_cost;",
    ] {
        assert!(advice.contains(line), "{line}: {advice}");
    }
    // What is advised the server takes, and then nothing is left to advise of that kind.
    let mine = succeeds(&output(here, &[&tune[..], &["--scope", "database"]].concat()));
    assert!(
        !mine.contains("ALTER SYSTEM") && mine.contains("ALTER DATABASE shop SET random_page_cost = '1.1';"),
        "{mine}"
    );
    let statements: Vec<&str> = mine.lines().filter(|line| line.starts_with("ALTER")).collect();
    run(&url, &statements);
    assert!(
        succeeds(&output(here, &[&tune[..], &["--scope", "database"]].concat()))
            .contains("All settings are as they should be")
    );

    let slow = ["database", "slow-queries", "--url", &url, "--min-ms", "20", "--json"];
    fails(&output(here, &slow), 1, &["pg_stat_statements is not installed", "CREATE EXTENSION"]);
    run(
        &url,
        &[
            "CREATE EXTENSION pg_stat_statements",
            "SELECT count(*), pg_sleep(0.05) FROM visits WHERE note = 'secret'",
        ],
    );
    let told: Value = serde_json::from_str(&succeeds(&output(here, &slow))).unwrap();
    let one = told
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["statement"].as_str().unwrap().contains("FROM visits"))
        .unwrap();
    assert!(!one["statement"].as_str().unwrap().contains("secret"), "{one}");
    assert!(one["plan"].to_string().contains("visits"), "{one}");
    assert!(one["max_ms"].as_f64().unwrap() >= 50.0, "{one}");
}

#[test]
fn a_file_of_sqlite_is_set_up_and_advised_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let connection = rusqlite::Connection::open(here.join("shop.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE visits (id INTEGER PRIMARY KEY, client INT NOT NULL, note TEXT NOT NULL);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
               INSERT INTO visits SELECT i, i % 900, 'note ' || i FROM n;",
        )
        .unwrap();
    drop(connection);
    workload(here, STATEMENT);
    let tuned = succeeds(&output(here, &["database", "tune", "--url", "sqlite:shop.db"]));
    assert!(tuned.contains("PRAGMA journal_mode = wal; -- read back; delete before"), "{tuned}");
    let advise =
        ["database", "advise", "--url", "sqlite:shop.db", "--budget", "2MB", "--workload", "queries"];
    let advice = succeeds(&output(here, &advise));
    assert!(advice.contains("ON visits (client"), "{advice}");
    fails(&output(here, &advise[..6]), 1, &["SQLite counts no statements", "--workload"]);
    fails(&output(here, &["database", "tune", "--url", "sqlite:none.db"]), 1, &["none.db: no such file"]);
}

#[test]
fn what_is_wrong_is_told_with_its_remedy_and_nothing_is_changed() {
    let (server, url) = start();
    run(
        &url,
        &[
            TABLES,
            "CREATE ROLE reader LOGIN PASSWORD 'right'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    workload(here, STATEMENT);
    let advise = |url: &str, more: &[&str]| {
        output(
            here,
            &[&["database", "advise", "--url", url, "--budget", "2MB", "--out", "plan.sql"], more].concat(),
        )
    };
    // Nobody there; no database; not PostgreSQL.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(
        &advise(&format!("postgres://me@{free}/shop"), &[]),
        1,
        &["refused", "check the URL, that the server runs"],
    );
    fails(&advise(&url.replace("/shop", "/nowhere"), &[]), 1, &["\"nowhere\" does not exist"]);
    fails(&advise("mysql://me@localhost/shop", &[]), 1, &["postgres://USER@HOST:PORT/DATABASE"]);
    // A password that is wrong.
    let locked = "COPY (SELECT 'local all reader scram-sha-256' UNION ALL SELECT 'local all all trust' UNION ALL SELECT 'local replication all trust') \
                  TO PROGRAM 'cat > pg_hba.conf'";
    run(&url, &[locked, "SELECT pg_reload_conf()"]);
    let reader = url.replace("portcullis@", "reader@");
    let as_reader = |password: &str, more: &[&str]| {
        let arguments =
            [&["database", "advise", "--url", &reader, "--budget", "2MB", "--out", "plan.sql"], more]
                .concat();
        portcullis(here, &arguments).env("PGPASSWORD", password).output().unwrap()
    };
    fails(
        &as_reader("wrong", &["--workload", "queries"]),
        1,
        &["password authentication failed", "PGPASSWORD"],
    );
    // No extension, and nothing given instead.
    fails(&advise(&url, &[]), 1, &["pg_stat_statements is not installed", "--workload"]);
    // A role that may read advises; it may not apply.
    succeeds(&as_reader("right", &["--workload", "queries"]));
    let apply = portcullis(here, &["database", "apply", "--url", &reader, "plan.sql"])
        .env("PGPASSWORD", "right")
        .output()
        .unwrap();
    fails(&apply, 1, &["may not build indexes on public.visits", "must own the table"]);
    // Statements that do not parse are named, the others advised on; nothing but such is an error.
    fs::write(here.join("queries/broken.sql"), "SELEKT 1").unwrap();
    let advised = advise(&url, &["--workload", "queries"]);
    succeeds(&advised);
    assert!(text(&advised.stderr).contains("left out: broken: "), "{}", text(&advised.stderr));
    fs::remove_file(here.join("queries/visits.sql")).unwrap();
    fails(
        &advise(&url, &["--workload", "queries"]),
        1,
        &["left out: broken", "no statement of the workload can be planned"],
    );
    fails(&advise(&url, &["--workload", "nothing"]), 1, &["nothing: ", "name a readable folder"]);
    // A file that is no plan, and one that was tampered with.
    fs::write(here.join("evil.sql"), "-- schema: x\nDROP TABLE visits;").unwrap();
    fails(
        &output(here, &["database", "apply", "--url", &url, "evil.sql"]),
        1,
        &["`DROP TABLE visits`", "only CREATE INDEX"],
    );
    // A standby only reads.
    let standby = server.standby(&std::env::temp_dir()).unwrap();
    fails(
        &output(here, &["database", "apply", "--url", &standby.url("shop"), "plan.sql"]),
        1,
        &["standby", "connect to the primary"],
    );
    fails(&output(here, &["database", "rollback", "--url", &standby.url("shop")]), 1, &["standby"]);
    let schemas: Output = output(here, &["database", "rollback", "--url", &url]);
    assert!(succeeds(&schemas).contains("0 dropped"), "nothing was built by any of these");
}
