//! The dashboard: its session, and the page itself in a real Chromium.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::browser::Browser;
use xtask::layout::Layout;

use portcullis_server::tenant::TenantId;
use portcullis_server::token::Scope;

use crate::databases::{give, unique};
use crate::support::{Answer, Running, Store, on_each_store, record, tenant_database};

impl Running {
    async fn sign_in(&self, token: &str, more: &str) -> Answer {
        let body = json!({"token": token}).to_string();
        self.raw_api(&format!(
            "POST /dashboard/sign-in HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{more}\
             Connection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    async fn with_cookie(&self, method: &str, path: &str, cookie: &str, more: &str) -> Answer {
        self.raw_api(&format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nCookie: a=b; {cookie}\r\nContent-Length: 0\r\n{more}Connection: close\r\n\r\n"
        ))
        .await
    }
}

async fn a_session_opens_what_its_token_did_and_is_guarded(store: Store) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    assert_eq!(running.sign_in("pct1.x.y", "").await.status, 401);
    let foreign = running.sign_in(&running.admin(), "Sec-Fetch-Site: cross-site\r\n").await;
    assert_eq!(foreign.status, 403, "nobody is signed in by a foreign page");

    let answer = running.sign_in(&running.of_tenant("acme"), "Sec-Fetch-Site: same-origin\r\n").await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    let set = answer.header("set-cookie").unwrap().to_owned();
    assert!(
        set.contains("; HttpOnly; SameSite=Strict") && set.contains("Path=/") && set.contains("Max-Age=3600"),
        "{set}"
    );
    let cookie = set.split(';').next().unwrap().to_owned();
    let session = running.with_cookie("GET", "/dashboard/session", &cookie, "").await.json();
    assert_eq!((&session["scope"], &session["tenant_id"]), (&"tenant".into(), &"acme".into()));
    let csrf = session["csrf_token"].as_str().unwrap().to_owned();

    let events = "/api/security/events/acme";
    assert_eq!(running.with_cookie("GET", events, &cookie, "").await.status, 200);
    assert_eq!(
        running.with_cookie("GET", "/security", &cookie, "").await.status,
        403,
        "its tenant and no more"
    );
    assert_eq!(
        running.with_cookie("GET", events, &cookie, "Sec-Fetch-Site: same-site\r\n").await.status,
        403
    );
    let optimize = "/api/database/optimize/acme";
    for more in ["", "x-csrf-token: wrong\r\n"] {
        let refused = running.with_cookie("POST", optimize, &cookie, more).await;
        assert!(refused.status == 403 && refused.body.contains("x-csrf-token"), "{}", refused.body);
    }
    let shown = format!("x-csrf-token: {csrf}\r\n");
    assert_eq!(running.with_cookie("POST", optimize, &cookie, &shown).await.status, 200);
    let twice = format!("{cookie}; {cookie}");
    assert_eq!(running.with_cookie("GET", events, &twice, "").await.status, 401, "which of them?");
    // One session's token is of no use for another.
    let other = running.sign_in(&running.admin(), "").await.header("set-cookie").unwrap().to_owned();
    let other = other.split(';').next().unwrap();
    assert_eq!(running.with_cookie("POST", optimize, other, &shown).await.status, 403);
    let out = running.with_cookie("DELETE", "/dashboard/session", &cookie, &shown).await;
    assert!(out.status == 204 && out.header("set-cookie").unwrap().contains("Max-Age=0"), "{}", out.head);
    running.clock.advance(Duration::from_secs(3601));
    assert_eq!(running.with_cookie("GET", events, &cookie, "").await.status, 401);
}

async fn no_session_outlives_the_token_that_it_is_of(store: Store) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    let events = "/api/security/events/acme";
    let scope = Scope::Tenant(TenantId::new("acme").unwrap());
    let token = running.tokens.issue(&scope, running.clock.now(), Duration::from_secs(90)).unwrap();
    running.clock.advance(Duration::from_secs(80));
    let answer = running.sign_in(&token, "").await;
    let set = answer.header("set-cookie").unwrap().to_owned();
    assert!(set.contains("Max-Age=10;"), "{set}");
    let cookie = set.split(';').next().unwrap();
    assert_eq!(running.with_cookie("GET", events, cookie, "").await.status, 200);
    // A session is none of the tokens, and a token no session.
    let value = cookie.split_once('=').unwrap().1;
    assert_eq!(running.sign_in(value, "").await.status, 401);
    assert_eq!(running.get(events, Some(value)).await.status, 401);
    let swapped = cookie.replace(value, &token);
    assert_eq!(running.with_cookie("GET", events, &swapped, "").await.status, 401);
    running.clock.advance(Duration::from_secs(10));
    assert_eq!(running.with_cookie("GET", events, cookie, "").await.status, 401);
}

async fn the_page_is_open_and_runs_nothing_but_its_own_scripts(store: Store) {
    let running = Running::start(store, false).await;
    let page = running.get("/", None).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    let api = running.get("/monitoring/liveness", None).await;
    assert!(
        api.header("content-security-policy").unwrap().starts_with("default-src 'none'; frame-ancestors")
    );
    assert!(
        page.body.contains("uPlot") && page.body.contains("MIT License"),
        "built with its charts: xtask charts"
    );
}

/// A tenant's database whose statements want an index.
async fn shop(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE EXTENSION pg_stat_statements; CREATE TABLE orders (id int PRIMARY KEY, client int NOT NULL, note text NOT NULL); \
             INSERT INTO orders SELECT g, 1 + g % 100, md5(g::text) FROM generate_series(1, 20000) g; ANALYZE",
        )
        .await
        .unwrap();
    for number in 1..30 {
        client.query("SELECT client FROM orders WHERE note = md5($1::int::text)", &[&number]).await.unwrap();
    }
    client
}

/// Ends with the test.
struct Chromium(Child);

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Chromium {
    /// Starts one; tells the address of its DevTools.
    fn start(folder: &std::path::Path) -> (Self, String) {
        let browser = Browser::installed(&Layout::of_this_checkout()).unwrap();
        let mut command = browser.command(&folder.join("profile")).unwrap();
        command
            .args(["--remote-debugging-port=0", "about:blank"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let running = Self(child);
        let mut said = String::new();
        for line in lines.lines() {
            let line = line.unwrap();
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                return (running, address.to_owned());
            }
            said.push_str(&line);
        }
        panic!("Chromium did not start: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_real_browser() {
    let _builds = crate::plans::BUILDS.lock().await;
    let (url, sockets) = tenant_database(&unique("dashboard"));
    let running = Running::started_with(Store::Sqlite, |settings| {
        settings.demonstration = false;
        settings.databases.sockets = vec![sockets];
        settings.databases.observe = Duration::from_secs(2);
    })
    .await;
    for tenant in ["acme", "globex"] {
        running.add_tenant(tenant).await;
    }
    let client = shop(&url).await;
    give(&running, "acme", &url).await;
    // Roles are the whole server's.
    client.batch_execute("CREATE ROLE dashboard_reader NOLOGIN").await.unwrap();
    let metric = json!({"unit": "users", "statement": "SELECT 42", "role": "dashboard_reader"}).to_string();
    let declared = "/api/tenants/acme/business-metrics/active_users";
    let answer = running.send_json("PUT", declared, &running.admin(), &metric).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let login = json!({"tenant": "acme", "user": "alice", "action": "login"});
    for _ in 0..5 {
        running.post("/api/security/rate-limit/check", &login, &running.admin()).await;
    }
    running
        .ingest(&[record("acme", 1, "ATTACK_BLOCKED", "WARNING"), record("globex", 2, "REQUEST", "INFO")])
        .await;
    running
        .execute(
            "INSERT INTO database_performance_logs (tenant_id, query_hash, query_text, execution_time, query_plan, usual_time, created_at) \
             VALUES ('acme', 'x', 'SELECT <b>?</b>', 1.5, '[\"Seq Scan on <b>\"]', NULL, '2026-03-01T12:00:00.000Z'), \
             ('acme', 'y', 'SELECT slower', 0.5, NULL, 0.1, '2026-03-01T12:00:00.000Z')",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let node = xtask::commands::install::node(&Layout::of_this_checkout()).unwrap();
    let path = folder.path().to_owned();
    let (browser, devtools) = tokio::task::spawn_blocking(move || Chromium::start(&path)).await.unwrap();
    let mut script = Command::new(node);
    script
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/companion/dashboard.mjs"))
        .args([&devtools, &format!("http://{}/", running.companion.api_address.unwrap()), &running.admin()])
        .arg(folder.path());
    let driving = tokio::task::spawn_blocking(move || script.output().unwrap());
    // Attacks and logins arrive for as long as somebody looks.
    let mut sequence = 10;
    while !driving.is_finished() {
        let mut attack = record("acme", sequence, "ATTACK_BLOCKED", "WARNING");
        attack["http_request"]["url"]["path"] = "/<img src=x onerror=alert(1)>".into();
        running.ingest(&[attack]).await;
        // A login limit that is at its end stays there.
        running.post("/api/security/rate-limit/check", &login, &running.admin()).await;
        sequence += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let output = driving.await.unwrap();
    drop(browser);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let saw: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(saw["refused"].as_str().unwrap().contains("not valid"), "{saw}");
    assert!(saw["score"].as_str().unwrap().parse::<f64>().is_ok_and(|score| score <= 100.0), "{saw}");
    assert_eq!(saw["parts"], json!(["responses", "errors", "store", "databases", "machine"]));
    assert_eq!(saw["tenants"], json!([["acme", 1], ["globex", 0]]), "who was attacked is warmest");
    let word = saw["score_word"].as_str().unwrap();
    assert!(["good", "fair", "poor"].contains(&word) && saw["legend"].as_u64() > Some(3), "{saw}");
    assert_eq!(
        saw["nothing"],
        json!(["slow-none", "plans-none", "events-none"]),
        "of a tenant without anything"
    );
    assert_eq!(saw["link"], "#globex");
    assert_eq!((&saw["cookie_seen_by_scripts"], &saw["images"]), (&"".into(), &0.into()));
    assert!(saw["event"].as_str().unwrap().contains("<img src=x onerror=alert(1)>"), "{saw}");
    assert_eq!(saw["slow"], json!(["SELECT <b>?</b>"]));
    assert_eq!(
        (&saw["slow_plan"], &saw["slower"]),
        (&json!(["Seq Scan on <b>"]), &json!([["0.500", "0.100", "SELECT slower"]]))
    );
    assert_eq!(saw["limits"], json!([["acme", "login", "100 %"]]), "who is near the end of a limit is told");
    let business = saw["business"].as_array().unwrap();
    assert_eq!(
        (&business[..3], &business[4]),
        (&json!(["active_users", "42", "users"]).as_array().unwrap()[..], &"".into())
    );
    assert_eq!(saw["alerts"], true);
    assert!(saw["optimized"].as_str().unwrap().contains("1 index, "), "{saw}");
    // An index was approved and applied by the keyboard, on a real server, and taken back.
    let step = saw["plan"].as_array().unwrap();
    assert!(step[0].as_str().unwrap().contains("(note"), "{saw}");
    assert!(
        step[1].as_str().unwrap().contains('→') && step[2].as_str().unwrap().contains("MB foreseen"),
        "{saw}"
    );
    assert!(
        step[3].as_str().unwrap().starts_with('+') && step[4].as_str().unwrap().contains("planner"),
        "{saw}"
    );
    assert_eq!(saw["applied"], json!(["planned", "approved", "applying", "applied", "observed", "kept"]));
    assert_eq!(saw["taken_back"], "rolled_back");
    let ledger =
        client.query_one("SELECT state, bytes > 0 FROM portcullis_advisor.index_ledger", &[]).await.unwrap();
    assert_eq!((ledger.get::<_, &str>(0), ledger.get::<_, bool>(1)), ("dropped", true), "it stood there");
    let kept = running.events("acme", "?event_type=DATABASE_PLAN_KEPT").await;
    assert_eq!(kept.len(), 1, "what was done is audited");
    assert_ne!(saw["light"], saw["dark"]);
    assert_eq!(saw["chosen"], json!([saw["light"], saw["dark"], saw["dark"]]), "the system's is dark");
    let parts = json!([
        "score-section",
        "alerts-section",
        "limits-section",
        "graphs-section",
        "tenants-section",
        "tenant"
    ]);
    assert_eq!(saw["away"], parts, "each part says that it could not be asked");
    assert!(saw["phone_overflow"].as_i64().unwrap() <= 0, "{saw}");
    assert_eq!((&saw["without_csrf"], &saw["after"], &saw["left"]), (&403.into(), &401.into(), &0.into()));
    assert_eq!(saw["complaints"], json!([]));
    let pictures =
        ["signin", "light", "dark", "phone", "plan_light", "plan_dark", "plan_phone", "nothing", "away"];
    for name in pictures {
        let picture = std::fs::read(folder.path().join(format!("{name}.png"))).unwrap();
        assert!(picture.len() > 5_000, "{name} shows something");
        // To be looked at.
        let kept = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join(format!("{name}.png")), picture).unwrap();
    }
}

on_each_store![
    a_session_opens_what_its_token_did_and_is_guarded,
    no_session_outlives_the_token_that_it_is_of,
    the_page_is_open_and_runs_nothing_but_its_own_scripts,
];
