//! The dashboard: its session, and its page.

use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, Running, Store, on_each_store};

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

on_each_store![
    a_session_opens_what_its_token_did_and_is_guarded,
    the_page_is_open_and_runs_nothing_but_its_own_scripts,
];
