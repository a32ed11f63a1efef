//! Leases for modules and checks for programs: one truth, and nothing for strangers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::commands::{Serving, portcullis};
use crate::support::{INGEST_TOKEN, Running, Store, json_request, new_place, try_send};
use portcullis_server::clock::Clock;
use serde_json::{Value, json};

const PROCESS: &str = "00000000000000a1";

fn ask(rule: &str, subject: &str, sequence: u64, want: u32) -> Value {
    json!({"tenant": "acme", "rule": rule, "subject": subject, "limit": 5, "window_ms": 60_000, "burst": 5,
        "sequence": sequence, "held": 0, "want": want, "need": want, "give_back": 0})
}

async fn lease(running: &Running, process: &str, asks: Value) -> Value {
    let answer =
        running.module_call("/v1/leases", &json!({"process": process, "asks": asks}), INGEST_TOKEN).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["grants"].clone()
}

async fn check(running: &Running, user: &str, action: &str, token: &str) -> (u16, Value) {
    let body = json!({"tenant": "acme", "user": user, "action": action});
    let answer = running.post("/api/security/rate-limit/check", &body, token).await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_checks_share_one_count() {
    let running = Running::start(Store::Sqlite, false).await;
    running.add_tenant("acme").await;
    let grants = lease(&running, PROCESS, json!([ask("login", "user=alice", 1, 3)])).await;
    assert_eq!(grants[0]["granted"], 3);
    assert_eq!(grants[0]["remaining"], 2);
    assert!((1000..=10_000).contains(&grants[0]["expires_ms"].as_u64().unwrap()), "{grants}");

    let token = running.of_tenant("acme");
    let (status, first) = check(&running, "alice", "login", &token).await;
    assert_eq!((status, &first), (200, &json!({"allowed": true, "remaining": 1, "retry_after": 0})));
    check(&running, "alice", "login", &token).await;
    let (_, refused) = check(&running, "alice", "login", &token).await;
    assert_eq!((&refused["allowed"], &refused["remaining"]), (&json!(false), &json!(0)));
    // 5 a minute: the next is there after 12 seconds.
    assert!((11..=12).contains(&refused["retry_after"].as_u64().unwrap()), "{refused}");
    let other = lease(&running, "00000000000000a2", json!([ask("login", "user=alice", 1, 1)])).await;
    assert_eq!(other[0]["granted"], 0);
    assert!((11_000..=12_000).contains(&other[0]["retry_after_ms"].as_u64().unwrap()), "{other}");
    // Others are not touched.
    let (_, bob) = check(&running, "bob", "login", &token).await;
    assert_eq!(bob["allowed"], true);

    let events = running.events("acme", "?event_type=RATE_LIMIT_EXCEEDED").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["user_id"], "alice");
    let metrics = running.get("/api/security/metrics/acme", Some(&token)).await.json();
    assert_eq!(metrics["metrics"]["rate_limit_violations"], 1);
    let text = running.get("/metrics", Some(&running.admin())).await.body;
    for line in [
        "portcullis_limits_tokens_granted_total 3",
        "portcullis_limits_tokens_outstanding 3",
        "portcullis_limits_tokens_direct_total 3",
        "portcullis_limits_checks_limited_total 1",
        "portcullis_events_total{type=\"RATE_LIMIT_EXCEEDED\",severity=\"WARNING\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}");
    }
    let file = rusqlite::Connection::open(running.folder.path().join("companion.db")).unwrap();
    let (action, exceeded): (String, bool) = file
        .query_row("SELECT action, limit_exceeded FROM rate_limiting_logs", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((action.as_str(), exceeded), ("login", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_that_comes_twice_changes_nothing() {
    let running = Running::start(Store::Sqlite, false).await;
    let first = lease(&running, PROCESS, json!([ask("login", "user=eve", 7, 2)])).await;
    let again = lease(&running, PROCESS, json!([ask("login", "user=eve", 7, 2)])).await;
    assert_eq!((&first[0]["granted"], &again[0]["granted"]), (&json!(2), &json!(0)));
    let mut back = ask("login", "user=eve", 8, 0);
    back["give_back"] = json!(2);
    back["need"] = json!(0);
    let after = lease(&running, PROCESS, json!([back])).await;
    assert_eq!((&after[0]["keep"], &after[0]["remaining"]), (&json!(0), &json!(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_malformed_anywhere_changes_nothing() {
    let running = Running::start(Store::Sqlite, false).await;
    let good = ask("login", "user=eve", 1, 5);
    let spoilt = |field: &str, value: Value| {
        let mut bad = good.clone();
        bad[field] = value;
        json!({"process": PROCESS, "asks": [good.clone(), bad]})
    };
    for (call, named) in [
        (json!({"process": "x", "asks": []}), "process"),
        (json!({"process": PROCESS}), "asks"),
        (json!({"process": PROCESS, "asks": vec![good.clone(); 257]}), "at most 256"),
        (spoilt("tenant", json!("")), "asks[1]: tenant"),
        (spoilt("rule", json!("a b")), "asks[1]: rule"),
        (spoilt("subject", json!("x".repeat(257))), "asks[1]: subject"),
        (spoilt("window_ms", json!(0)), "asks[1]: window_ms"),
        (spoilt("limit", json!(1_000_000_001)), "asks[1]: limit"),
        (spoilt("limit", json!(-1)), "not a call"),
        (spoilt("held", json!(1.5)), "not a call"),
        (spoilt("sequence", json!(u64::MAX as f64)), "not a call"),
        (spoilt("colour", json!(1)), "colour"),
    ] {
        let answer = running.module_call("/v1/leases", &call, INGEST_TOKEN).await;
        assert_eq!(answer.status, 400, "{call}: {}", answer.body);
        assert!(answer.body.contains(named), "{named}: {}", answer.body);
    }
    assert_eq!(running.module_call("/v1/leases", &json!({}), "wrong token of the tests").await.status, 401);
    assert_eq!(running.module_call("/v1/policies", &json!({}), "wrong token of the tests").await.status, 401);
    // Near miss: the same ask alone is granted whole.
    assert_eq!(lease(&running, PROCESS, json!([good])).await[0]["granted"], 5);
    // And nothing is allowed where the limit is 0.
    let mut nothing = ask("login", "user=nobody", 1, 1);
    nothing["limit"] = json!(0);
    assert_eq!(lease(&running, PROCESS, json!([nothing])).await[0]["granted"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_asks_who_asks() {
    let running = Running::start(Store::Sqlite, false).await;
    running.add_tenant("acme").await;
    let own = running.of_tenant("acme");
    assert_eq!(check(&running, "alice", "login", &running.of_tenant("rival")).await.0, 403);
    assert_eq!(check(&running, "alice", "login", "nonsense").await.0, 401);
    assert_eq!(check(&running, "alice", "login", &running.admin()).await.0, 200);
    for (user, action, named) in
        [("alice", "logout", "api_call, login"), ("", "login", "user"), ("\u{0}", "login", "user")]
    {
        let (status, problem) = check(&running, user, action, &own).await;
        assert_eq!(status, 400, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem}");
    }
    // API calls are the tenant's: users share them.
    let (_, first) = check(&running, "alice", "api_call", &own).await;
    let (_, second) = check(&running, "bob", "api_call", &own).await;
    assert_eq!((&first["remaining"], &second["remaining"]), (&json!(99), &json!(98)));
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_told_when_they_differ() {
    let folder = tempfile::tempdir().unwrap();
    let place = new_place(Store::Sqlite, folder.path());
    let running = Running::reopen(folder, place, Clock::System, false).await;
    let pull = async |known: u64| {
        let call = json!({"process": PROCESS, "tenants": [["acme", known], ["beta", 0]]});
        running.module_call("/v1/policies", &call, INGEST_TOKEN).await.json()["changed"].clone()
    };
    let first = pull(0).await;
    assert_eq!(
        first[0]["rates"],
        json!({"api_calls_per_minute": 100, "login_attempts_per_minute": 5, "file_uploads_per_minute": 20,
            "report_generation_per_minute": 10})
    );
    let second = pull(first[0]["version"].as_u64().unwrap()).await;
    assert_eq!(second.as_array().unwrap().len(), 1);
    assert_eq!(second[0]["tenant"], "beta");
    let many = json!({"process": PROCESS, "tenants": vec![("a", 0); 1001]});
    assert_eq!(running.module_call("/v1/policies", &many, INGEST_TOKEN).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_has_is_set_by_variables() {
    let folder = tempfile::tempdir().unwrap();
    let serve = ["serve", "--demonstration", "--port", "0", "--ingest-port", "0"];
    let mut command = portcullis(folder.path(), &serve);
    command
        .env("RATE_LIMIT_API_CALLS", "7")
        .env("RATE_LIMIT_LOGIN_ATTEMPTS", "2")
        .env("RATE_LIMIT_FILE_UPLOADS", "0");
    let serving = Serving::start(&mut command);
    let address = serving.ready["ingest"].as_str().unwrap().parse().unwrap();
    let token = std::fs::read_to_string(folder.path().join("ingest-token")).unwrap();
    let call = json!({"process": PROCESS, "tenants": [["acme", 0]]});
    let answer = try_send(address, &json_request("POST", "/v1/policies", &call, token.trim())).await.unwrap();
    assert_eq!(
        answer.json()["changed"][0]["rates"],
        json!({"api_calls_per_minute": 7, "login_attempts_per_minute": 2, "file_uploads_per_minute": 0,
            "report_generation_per_minute": 10})
    );
    serving.signal("KILL");
    let other = tempfile::tempdir().unwrap();
    for wrong in ["-1", "1000001", "many", "1.5"] {
        let output = portcullis(other.path(), &serve).env("RATE_LIMIT_API_CALLS", wrong).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("rate-limit-api-calls"), "{wrong}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_gives_nothing_back() {
    const LIMIT: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let granted = Arc::new(AtomicU64::new(0));
    let mut life = 0_u64;
    // An hour's limit: what comes back during the test is nothing.
    while granted.load(Ordering::SeqCst) < LIMIT * 8 / 10 {
        life += 1;
        assert!(life < 40, "only {} in {life} lives", granted.load(Ordering::SeqCst));
        let serve = ["serve", "--demonstration", "--port", "0", "--ingest-port", "0"];
        let serving = Serving::start(&mut portcullis(folder.path(), &serve));
        let address = serving.ready["ingest"].as_str().unwrap().parse().unwrap();
        let token = std::fs::read_to_string(folder.path().join("ingest-token")).unwrap();
        let tasks: Vec<_> = (0..4_u64)
            .map(|process| {
                let (granted, token) = (Arc::clone(&granted), token.clone());
                tokio::spawn(async move {
                    for sequence in 1.. {
                        let mut ask = ask("report", "", sequence, 1);
                        ask["limit"] = json!(LIMIT);
                        ask["burst"] = json!(LIMIT);
                        ask["window_ms"] = json!(3_600_000);
                        let call =
                            json!({"process": format!("{:016x}", life * 100 + process), "asks": [ask]});
                        let request = json_request("POST", "/v1/leases", &call, token.trim());
                        let Some(answer) = try_send(address, &request).await else { return };
                        if answer.status != 200 {
                            return;
                        }
                        let tokens = answer.json()["grants"][0]["granted"].as_u64().unwrap();
                        granted.fetch_add(tokens, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        // However fast the machine is, each life grants only a part before it ends.
        let enough = granted.load(Ordering::SeqCst) + LIMIT / 8;
        for _ in 0..60 + 17 * life {
            if granted.load(Ordering::SeqCst) >= enough {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        serving.signal("KILL");
        for task in tasks {
            task.await.unwrap();
        }
    }
    assert!(life > 2, "it was never killed under load");
    // What a crash may withhold: the reach of a promise, which is a thirty-second of the limit.
    let granted = granted.load(Ordering::SeqCst);
    assert!(granted <= LIMIT + 1, "{granted} of {LIMIT}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_gone_is_noticed_by_the_database() {
    let running = Running::start(Store::Sqlite, true).await;
    let taken = lease(&running, PROCESS, json!([ask("login", "user=alice", 1, 5)])).await;
    assert_eq!(taken[0]["granted"], 5);
    let Running { companion, folder, place, clock, .. } = running;
    companion.stop().await.unwrap();
    std::fs::remove_file(folder.path().join("limits.journal")).unwrap();
    let running = Running::reopen(folder, place, clock, true).await;
    let silent = lease(&running, PROCESS, json!([ask("login", "user=alice", 2, 5)])).await;
    assert_eq!(silent[0]["granted"], 0);
    // A window, and what leases of before may still be spent for.
    assert!((60_000..=75_000).contains(&silent[0]["retry_after_ms"].as_u64().unwrap()), "{silent}");
    let text = running.get("/metrics", Some(&running.admin())).await.body;
    assert!(text.contains("portcullis_limits_state_lost 1\n"));
    // Near miss: a restart that loses nothing goes on from what is left.
    let running = Running::start(Store::Sqlite, true).await;
    lease(&running, PROCESS, json!([ask("login", "user=alice", 1, 3)])).await;
    let Running { companion, folder, place, clock, .. } = running;
    companion.stop().await.unwrap();
    let running = Running::reopen(folder, place, clock, true).await;
    let rest = lease(&running, PROCESS, json!([ask("login", "user=alice", 2, 5)])).await;
    assert!((1..=2).contains(&rest[0]["granted"].as_u64().unwrap()), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_near_their_end_are_told_without_telling_whose() {
    let running = Running::start(Store::Sqlite, false).await;
    for tenant in ["acme", "globex"] {
        running.add_tenant(tenant).await;
    }
    let (own, admin) = (running.of_tenant("acme"), running.admin());
    for _ in 0..4 {
        check(&running, "alice", "login", &own).await;
    }
    check(&running, "bob", "login", &own).await;
    lease(&running, PROCESS, json!([ask("uploads", "user=carol", 1, 2)])).await;
    let body = json!({"tenant": "globex", "user": "eve", "action": "login"});
    running.post("/api/security/rate-limit/check", &body, &admin).await;
    let near = async |path: &str, token: &str| {
        let answer = running.get(&format!("/api/security/rate-limit/usage{path}"), Some(token)).await;
        (answer.status, answer.json())
    };
    let told = |answer: &Value| -> Vec<Value> {
        let limits = answer["limits"].as_array().unwrap();
        limits
            .iter()
            .map(|one| json!([one["tenant_id"], one["rule"], one["used"], one["remaining"], one["burst"]]))
            .collect()
    };
    let (status, all) = near("", &admin).await;
    let expected = [
        json!(["acme", "login", 0.8, 1, 5]),
        json!(["acme", "uploads", 0.4, 3, 5]),
        json!(["globex", "login", 0.2, 4, 5]),
    ];
    assert_eq!((status, rounded(&told(&all))), (200, expected.to_vec()), "{all}");
    assert!(!all.to_string().contains("alice"), "{all}");
    assert_eq!(rounded(&told(&near("/acme?limit=1", &own).await.1)), expected[..1]);
    assert_eq!(near("", &own).await.0, 403);
    assert_eq!(near("/globex", &own).await.0, 403);
    assert_eq!((near("/nobody", &admin).await.0, near("?limit=0", &admin).await.0), (404, 400));
}

/// Shares to two places.
fn rounded(lines: &[Value]) -> Vec<Value> {
    let share = |line: &Value| (line[2].as_f64().unwrap() * 100.0).round() / 100.0;
    lines.iter().map(|line| json!([line[0], line[1], share(line), line[3], line[4]])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_security_everything_passes_but_nobody_who_is_not_known() {
    let running = Running::started_with(Store::Sqlite, |settings| {
        settings.protections.security = false;
        settings.protections.rate_limiting = false;
    })
    .await;
    let admin = running.admin();
    running.add_tenant("acme").await;
    let question = json!({"tenant": "acme", "user": "alice", "action": "login"});
    for _ in 0..20 {
        let answer = running.post("/api/security/rate-limit/check", &question, &admin).await;
        assert_eq!((answer.status, &answer.json()["allowed"]), (200, &json!(true)));
    }
    let password = json!({"password": "x"});
    let judged = running.post("/api/security/password/check", &password, &admin).await.json();
    assert_eq!(judged["valid"], true);
    assert!(
        judged["rules"].as_array().unwrap().iter().any(|rule| rule["passed"] == false),
        "what is wrong is still told"
    );
    let status = running.get("/api/security/status", Some(&admin)).await.json();
    assert_eq!(
        (&status["security_enabled"], &status["rate_limiting_enabled"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(running.get("/api/security/status", None).await.status, 401);
    assert_eq!(running.ext_authz("").await.status, 401);
}
