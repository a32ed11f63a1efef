//! Sessions from beginning to end, passwords, and what a proxy is told of them.

use std::time::Duration;

use portcullis_server::clock::Clock;
use serde_json::{Value, json};

use crate::support::{Answer, Running, Store, on_each_store};

const PATH: &str = "/api/security/sessions/acme";

async fn with_tenant(store: Store) -> Running {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    running
}

async fn begin(running: &Running, user: &str) -> Value {
    let body = json!({"user_id": user, "ip_address": "203.0.113.9", "user_agent": "Firefox"});
    let answer = running.post(PATH, &body, &running.of_tenant("acme")).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()
}

async fn verify(running: &Running, token: &Value) -> Value {
    let answer =
        running.post(&format!("{PATH}/verify"), &json!({"token": token}), &running.of_tenant("acme")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn delete(running: &Running, path: &str) -> Answer {
    let token = running.of_tenant("acme");
    running
        .raw_api(&format!(
            "DELETE {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ))
        .await
}

async fn minutes(running: &Running, minutes: u64) {
    running.clock.advance(Duration::from_secs(minutes * 60));
}

async fn a_session_lives_by_its_token_and_the_store_has_only_its_hash(store: Store) {
    let running = with_tenant(store).await;
    let begun = begin(&running, "alice").await;
    let token = begun["token"].as_str().unwrap();
    assert!(token.starts_with("pcs1.") && token.len() == 48, "{token}");
    assert_eq!(begun["session"]["expires_at"], "2026-03-01T13:00:30.000Z");
    let verified = verify(&running, &begun["token"]).await;
    assert_eq!((&verified["valid"], &verified["session"]), (&json!(true), &begun["session"]));
    let rows = running.rows("SELECT token_hash, user_id FROM user_sessions").await;
    let hash = rows[0].text(0).unwrap();
    assert!(
        hash.len() == 64 && !hash.contains(&token[5..]) && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    );
    for wrong in
        [format!("{token}x"), token.to_lowercase(), "pcs1.".to_owned(), "' OR '1'='1".to_owned(), hash]
    {
        let verified = verify(&running, &json!(wrong)).await;
        assert_eq!((&verified["valid"], &verified["reason"]), (&json!(false), &json!("unknown")), "{wrong}");
    }
    running.add_tenant("globex").await;
    let elsewhere = running
        .post("/api/security/sessions/globex/verify", &json!({"token": token}), &running.of_tenant("globex"))
        .await;
    assert_eq!(elsewhere.json()["reason"], "unknown", "another tenant learns nothing of it");
}

async fn the_fourth_session_of_a_user_ends_the_oldest(store: Store) {
    let running = with_tenant(store).await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(begin(&running, "alice").await);
        minutes(&running, 1).await;
    }
    let other = begin(&running, "bob").await;
    let fourth = begin(&running, "alice").await;
    assert_eq!(fourth["ended_sessions"], json!([begun[0]["session"]["session_id"]]));
    assert_eq!(verify(&running, &begun[0]["token"]).await["reason"], "revoked");
    for session in [&begun[1], &begun[2], &other, &fourth] {
        assert_eq!(verify(&running, &session["token"]).await["valid"], true);
    }
    let policy = json!({"session": {"max_concurrent_sessions": 1}});
    let changed =
        running.send_json("PUT", "/api/security/policies/acme", &running.admin(), &policy.to_string()).await;
    assert_eq!(changed.status, 200);
    assert_eq!(begin(&running, "alice").await["ended_sessions"].as_array().unwrap().len(), 3);
}

async fn a_clock_that_is_set_back_keeps_nobody_out(store: Store) {
    let running = with_tenant(store).await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(begin(&running, "alice").await);
    }
    let Clock::Manual(clock) = &running.clock else { panic!("a test's clock") };
    clock.fetch_sub(3_600_000, std::sync::atomic::Ordering::Relaxed);
    let fourth = begin(&running, "alice").await;
    assert_eq!(fourth["ended_sessions"], json!([begun[0]["session"]["session_id"]]));
    for session in [&begun[1], &begun[2], &fourth] {
        assert_eq!(verify(&running, &session["token"]).await["valid"], true);
    }
}

async fn two_logins_at_once_count_each_other(store: Store) {
    let running = std::sync::Arc::new(with_tenant(store).await);
    let logins: Vec<_> = (0..12)
        .map(|_| {
            let running = std::sync::Arc::clone(&running);
            tokio::spawn(async move { begin(&running, "alice").await })
        })
        .collect();
    for login in logins {
        login.await.unwrap();
    }
    let listed = running.get(&format!("{PATH}?user_id=alice"), Some(&running.of_tenant("acme"))).await.json();
    assert_eq!(listed["count"], 3);
}

async fn a_session_ends_by_its_age_or_without_use(store: Store) {
    let running = with_tenant(store).await;
    let begun = begin(&running, "alice").await;
    let idle = begin(&running, "bob").await;
    let touch = async || {
        let path = format!("{PATH}/touch");
        running.post(&path, &json!({"token": begun["token"]}), &running.of_tenant("acme")).await.json()
    };
    minutes(&running, 29).await;
    assert_eq!(verify(&running, &idle["token"]).await["valid"], true, "a look is no use");
    assert_eq!(touch().await["session"]["last_activity"], "2026-03-01T12:29:30.000Z");
    minutes(&running, 1).await;
    assert_eq!(verify(&running, &idle["token"]).await["reason"], "inactive");
    minutes(&running, 28).await;
    assert_eq!(touch().await["valid"], true);
    minutes(&running, 2).await;
    let ended = touch().await;
    assert_eq!(
        (&ended["valid"], &ended["reason"], &ended["session"]),
        (&json!(false), &json!("expired"), &Value::Null)
    );
}

async fn sessions_are_listed_and_revoked(store: Store) {
    let running = with_tenant(store).await;
    let (first, second, other) =
        (begin(&running, "alice").await, begin(&running, "alice").await, begin(&running, "bob").await);
    let id = second["session"]["session_id"].as_str().unwrap();
    assert_eq!(delete(&running, &format!("{PATH}/{id}")).await.json()["revoked"], 1);
    assert_eq!(delete(&running, &format!("{PATH}/{id}")).await.status, 404);
    assert_eq!(delete(&running, &format!("{PATH}/'%20OR%20'1'='1")).await.status, 404);
    assert_eq!(verify(&running, &second["token"]).await["reason"], "revoked");
    let listed = running.get(&format!("{PATH}?user_id=alice"), Some(&running.of_tenant("acme"))).await.json();
    assert_eq!(listed["sessions"], json!([first["session"]]));
    assert!(!listed.to_string().contains("token"), "a token is told once");
    assert_eq!(delete(&running, &format!("{PATH}?user_id=alice")).await.json()["revoked"], 1);
    assert_eq!(verify(&running, &other["token"]).await["valid"], true);
    assert_eq!(delete(&running, PATH).await.json()["revoked"], 1);
    assert_eq!(verify(&running, &other["token"]).await["valid"], false);
}

async fn what_cannot_be_a_session_is_named(store: Store) {
    let running = with_tenant(store).await;
    let token = running.of_tenant("acme");
    for (body, status, named) in [
        ("{\"user_id\": \"alice\"", 400, "line 1 column"),
        ("{}", 422, "user_id"),
        ("{\"user_id\": \"\"}", 422, "user_id: must have 1 to 50"),
        (&format!("{{\"user_id\": \"{}\"}}", "a".repeat(51)), 422, "user_id: must have 1 to 50"),
        ("{\"user_id\": \"a\\u0000b\"}", 422, "user_id: must not hold control"),
        ("{\"user_id\": \"a\", \"ip_address\": \"1.2.3\"}", 422, "ip_address: must be an IP address"),
        ("{\"user_id\": \"a\", \"is_admin\": true}", 422, "is_admin"),
    ] {
        let answer = running.send_json("POST", PATH, &token, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{body}: {}", answer.body);
    }
    let large = format!("{{\"user_id\": \"{}\"}}", "a".repeat(5000));
    assert_eq!(running.send_json("POST", PATH, &token, &large).await.status, 413);
    let quoted = begin(&running, "'); DROP TABLE user_sessions; --").await;
    assert_eq!(quoted["session"]["user_id"], "'); DROP TABLE user_sessions; --");
}

async fn a_proxy_is_told_whose_a_token_is(store: Store) {
    let running = with_tenant(store).await;
    let begun = begin(&running, "alice").await;
    let token = begun["token"].as_str().unwrap();
    for head in [
        format!("Authorization: Bearer {token}\r\n"),
        format!("Cookie: theme=dark; portcullis_session={token}\r\n"),
        format!("Authorization: Bearer {token}\r\nx-tenant-id: globex\r\nx-user-id: root\r\n"),
    ] {
        let answer = running.ext_authz(&head).await;
        assert_eq!(answer.status, 200, "{head}: {}", answer.body);
        assert_eq!((answer.header("x-tenant-id"), answer.header("x-user-id")), (Some("acme"), Some("alice")));
        assert_eq!(answer.header("x-session-id"), begun["session"]["session_id"].as_str());
    }
    for head in [
        String::new(),
        "Authorization: Bearer wrong\r\n".to_owned(),
        format!("Authorization: Bearer {}\r\n", running.admin()),
        format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"),
        format!("Cookie: portcullis_session={token}; portcullis_session=x\r\n"),
        format!("Authorization: Bearer x\r\nCookie: portcullis_session={token}\r\n"),
    ] {
        let answer = running.ext_authz(&head).await;
        assert_eq!(answer.status, 401, "{head}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("x-user-id"), None);
    }
    // A request is a use: the session outlives the time without any.
    for _ in 0..2 {
        minutes(&running, 20).await;
        assert_eq!(running.ext_authz(&format!("Authorization: Bearer {token}\r\n")).await.status, 200);
    }
    minutes(&running, 20).await;
    assert_eq!(running.ext_authz(&format!("Authorization: Bearer {token}\r\n")).await.status, 401);
}

async fn a_password_is_judged_by_its_tenants_rules(store: Store) {
    let running = with_tenant(store).await;
    let judge = async |token: &str, body: Value| {
        let answer = running.post("/api/security/password/check", &body, token).await;
        assert!(!answer.body.contains("Gr4nite") && !answer.body.contains("P@ss"), "{}", answer.body);
        (answer.status, answer.json())
    };
    let own = running.of_tenant("acme");
    let (status, good) = judge(&own, json!({"password": "Gr4nite-Owl"})).await;
    assert_eq!((status, &good["valid"], &good["tenant_id"]), (200, &json!(true), &json!("acme")));
    assert_eq!(good["rules"][0], json!({"rule": "min_length", "required": true, "passed": true}));
    let (_, common) = judge(&own, json!({"password": "P@ssw0rd1!"})).await;
    assert_eq!((&common["valid"], &common["common"]), (&json!(false), &json!(true)));
    let policy = json!({"password": {"min_length": 12, "require_numbers": false}}).to_string();
    running.send_json("PUT", "/api/security/policies/acme", &own, &policy).await;
    assert_eq!(judge(&own, json!({"password": "Gr4nite-Owl"})).await.1["valid"], false);
    assert_eq!(judge(&own, json!({"password": "Granite-Owls-fly"})).await.1["valid"], true);
    assert_eq!(
        judge(&running.admin(), json!({"password": "Gr4nite-Owl"})).await.1["valid"],
        true,
        "the defaults"
    );
    assert_eq!(judge(&own, json!({"password": "x", "tenant_id": "globex"})).await.0, 403);
    assert_eq!(judge(&own, json!({"password": "x".repeat(1025)})).await.0, 422);
    assert_eq!(judge(&own, json!({"password": 7})).await.0, 422);
}

on_each_store![
    a_session_lives_by_its_token_and_the_store_has_only_its_hash,
    the_fourth_session_of_a_user_ends_the_oldest,
    a_clock_that_is_set_back_keeps_nobody_out,
    two_logins_at_once_count_each_other,
    a_session_ends_by_its_age_or_without_use,
    sessions_are_listed_and_revoked,
    what_cannot_be_a_session_is_named,
    a_proxy_is_told_whose_a_token_is,
    a_password_is_judged_by_its_tenants_rules,
];
