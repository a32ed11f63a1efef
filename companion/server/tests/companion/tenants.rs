//! Tenants through the API: added, changed, listed, removed, by the admin scope alone.

use std::sync::Arc;
use std::time::Duration;

use portcullis_server::policies::{Policies, SecurityPolicies};
use portcullis_server::tenant::{TenantId, removal};
use serde_json::{Value, json};

use crate::support::{Answer, Running, Store, on_each_store, record};

async fn an_admin_adds_changes_lists_and_removes(store: Store) {
    let running = Running::start(store, false).await;
    let admin = running.admin();
    let path = "/api/tenants/acme";
    assert_eq!(running.get(path, Some(&admin)).await.status, 404);
    let added = running.send_json("PUT", path, &admin, "{}").await;
    assert_eq!(added.status, 201, "{}", added.body);
    assert_eq!(
        added.json(),
        json!({"tenant_id": "acme", "tenancy_model": "shared", "database_configured": false, "origin": "operator",
            "created_at": "2026-03-01T12:00:30.000Z", "updated_at": null, "timestamp": "2026-03-01T12:00:30.000Z"})
    );
    let changed = running.send_json("PUT", path, &admin, "{\"tenancy_model\": \"database\"}").await;
    assert_eq!((changed.status, &changed.json()["tenancy_model"]), (200, &json!("database")));
    assert_eq!(running.send_json("PUT", path, &admin, "{}").await.json()["tenancy_model"], "database");
    running.add_tenant("globex").await;
    let listed = running.get("/api/tenants", Some(&admin)).await.json();
    assert_eq!((&listed["tenants"], &listed["next_after"]), (&json!(["acme", "globex"]), &json!(null)));
    let listed = running.get("/api/tenants?after=acme", Some(&admin)).await.json();
    assert_eq!(listed["tenants"], json!(["globex"]));
}

async fn the_address_of_a_database_is_kept_sealed_and_never_told(store: Store) {
    let running = Running::start(store, false).await;
    let (admin, path) = (running.admin(), "/api/tenants/acme");
    let url = "postgres://shop:hunter2@db.example/acme";
    let put = async |url: Value| {
        running.send_json("PUT", path, &admin, &json!({"database_url": url}).to_string()).await
    };
    let answer = put(json!(url)).await;
    assert_eq!((answer.status, &answer.json()["database_configured"]), (201, &json!(true)));
    assert!(!answer.body.contains("hunter2"));
    let kept = running.get(path, Some(&admin)).await;
    assert!(kept.json()["database_configured"] == true && !kept.body.contains("hunter2"));
    let sealed = running.rows("SELECT database_url_sealed FROM tenants").await;
    assert!(!sealed[0].text(0).unwrap().contains("hunter2"));

    let keys = running.companion.keys();
    let acme = TenantId::new("acme").unwrap();
    let known = async || keys.database_url(&acme).await.unwrap().map(|url| url.to_string());
    assert_eq!(known().await.as_deref(), Some(url));
    // Sealed anew with everything else, and left as it is by a change of something else.
    let step = async |step: &str| {
        running.send_json("POST", &format!("/api/security/keys/acme/{step}"), &admin, "").await
    };
    assert_eq!(step("rotate").await.status, 200);
    assert_eq!(step("rewrap").await.json()["values_resealed"], 1);
    assert_eq!(running.send_json("PUT", path, &admin, "{\"tenancy_model\": \"schema\"}").await.status, 200);
    assert_eq!(known().await.as_deref(), Some(url));
    // What somebody copies to another tenant's row does not open there.
    running.add_tenant("globex").await;
    running
        .execute("UPDATE tenants SET database_url_sealed = (SELECT database_url_sealed FROM tenants WHERE tenant_id = 'acme') WHERE tenant_id = 'globex'")
        .await;
    assert!(keys.database_url(&TenantId::new("globex").unwrap()).await.is_err());

    for (wrong, remedy) in [
        ("postgres://shop:hunter2@h:port/x", "write postgres://"),
        ("mysql://hunter2@h/x", "write postgres://"),
        ("hunter2", "write postgres://"),
        ("sqlite:hunter2", "DATABASE_SQLITE_FOLDER"),
        ("sqlite:a\u{0}", "control characters"),
        // Addresses that would be refused whenever somebody asks for a connection.
        ("postgres://shop:hunter2@127.0.0.1/x", "DATABASE_TARGETS_ALLOW"),
        ("postgres://shop:hunter2@%2Frun%2Fpostgresql/x", "DATABASE_TARGETS_ALLOW"),
        ("postgres://shop:hunter2@a.example,b.example/x", "name one"),
        ("postgres://shop:hunter2@db.example/x?options=-csearch_path%3Dx", "those that may are"),
        ("postgres://shop:hunter2?sslmode=@db.example/x?hostaddr=10.0.0.1", "those that may are"),
    ] {
        let answer = put(json!(wrong)).await;
        assert!(answer.body.contains(remedy), "{wrong}: {}", answer.body);
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.body);
        assert!(answer.body.contains("database_url") && !answer.body.contains("hunter2"), "{}", answer.body);
    }
    assert_eq!(known().await.as_deref(), Some(url));
    assert_eq!(put(Value::Null).await.json()["database_configured"], false);
    assert_eq!(known().await, None);
}

async fn delete(running: &Running, admin: &str) -> Answer {
    let remove = format!(
        "DELETE /api/tenants/acme HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {admin}\r\nConnection: close\r\n\r\n"
    );
    running.raw_api(&remove).await
}

async fn what_a_removed_tenant_had_is_gone_but_its_events(store: Store) {
    let running = Running::start(store, false).await;
    let admin = running.admin();
    running.add_tenant("acme").await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    let session = running.post("/api/security/sessions/acme", &json!({"user_id": "a"}), &admin).await.json();
    let policy = "{\"rate\": {\"api_calls_per_minute\": 7}}";
    assert_eq!(running.send_json("PUT", "/api/security/policies/acme", &admin, policy).await.status, 200);

    assert_eq!(delete(&running, &admin).await.json()["removed"], true);
    assert_eq!(delete(&running, &admin).await.status, 404);
    assert_eq!(running.get("/api/security/events/acme", Some(&admin)).await.status, 404);
    let token = session["token"].as_str().unwrap();
    assert_eq!(running.ext_authz(&format!("Authorization: Bearer {token}\r\n")).await.status, 401);

    running.add_tenant("acme").await;
    let policies = running.get("/api/security/policies/acme", Some(&admin)).await.json();
    assert_eq!((&policies["rate"]["api_calls_per_minute"], &policies["version"]), (&json!(100), &json!(2)));
    assert_eq!(running.events("acme", "").await.len(), 1, "nobody takes back what happened");
}

async fn what_was_issued_for_a_removed_tenant_opens_nothing_of_the_next_one(store: Store) {
    let running = Running::start(store, false).await;
    let (admin, events) = (running.admin(), "/api/security/events/acme");
    running.add_tenant("acme").await;
    running.ingest(&[record("acme", 1, "REQUEST", "INFO")]).await;
    let old = running.of_tenant("acme");
    assert_eq!(running.get(events, Some(&old)).await.json()["count"], 1);
    running.clock.advance(Duration::from_secs(1));
    assert_eq!(delete(&running, &admin).await.status, 200);
    running.clock.advance(Duration::from_secs(1));
    running.add_tenant("acme").await;
    for path in
        [events, "/api/security/policies/acme", "/api/security/metrics/acme", &format!("{events}/stream")]
    {
        let refused = running.get(path, Some(&old)).await;
        assert!(refused.status == 403 && refused.body.contains("removed"), "{path}: {}", refused.body);
    }
    let new = running.of_tenant("acme");
    let mut late = record("acme", 2, "REQUEST", "WARNING");
    late["time"] = running.clock.now().as_millisecond().into();
    running.ingest(&[late]).await;
    let seen = running.get(events, Some(&new)).await.json();
    assert_eq!((&seen["count"], &seen["events"][0]["severity"]), (&json!(1), &json!("WARNING")));
    let figures = running.get("/api/security/metrics/acme", Some(&new)).await.json();
    assert_eq!(figures["metrics"]["total_events_24h"], 1, "{figures}");
    assert_eq!(running.events("acme", "").await.len(), 2, "the admin scope sees what happened");
}

async fn a_session_that_is_begun_while_its_tenant_goes_goes_too(store: Store) {
    let running = Arc::new(Running::start(store, false).await);
    let admin = running.admin();
    let (mut begun, mut refused) = (0, 0);
    for _ in 0..8 {
        running.add_tenant("acme").await;
        let logins: Vec<_> = (0..6)
            .map(|n| {
                let (running, admin) = (Arc::clone(&running), admin.clone());
                let user = json!({"user_id": format!("u{n}")});
                tokio::spawn(async move { running.post("/api/security/sessions/acme", &user, &admin).await })
            })
            .collect();
        assert_eq!(delete(&running, &admin).await.status, 200);
        let mut tokens = Vec::new();
        for login in logins {
            let answer = login.await.unwrap();
            match answer.status {
                201 => tokens.push(answer.json()["token"].as_str().unwrap().to_owned()),
                404 => refused += 1,
                _ => panic!("{}", answer.body),
            }
        }
        begun += tokens.len();
        running.add_tenant("acme").await;
        for token in tokens {
            let answer = running.ext_authz(&format!("Authorization: Bearer {token}\r\n")).await;
            assert_eq!(answer.status, 401, "{}", answer.head);
        }
        assert!(running.rows("SELECT 1 FROM user_sessions").await.is_empty());
        assert_eq!(delete(&running, &admin).await.status, 200);
    }
    println!("{begun} sessions begun and gone, {refused} not begun");
}

async fn a_key_that_is_made_while_its_tenant_goes_is_not_the_next_ones(store: Store) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    let acme = TenantId::new("acme").unwrap();
    let keys = running.companion.keys();
    let sealed = keys.encrypt_sensitive_data(b"x".to_vec(), &acme, "iban").await.unwrap();
    // As a removal finds it whose own shredding came before that key.
    let storage = running.beside().await;
    let policies = Policies::new(Arc::clone(&storage), SecurityPolicies::default());
    assert!(removal::remove(&*storage, &keys, &policies, &acme, running.clock.now()).await.unwrap());
    assert!(!removal::remove(&*storage, &keys, &policies, &acme, running.clock.now()).await.unwrap());
    running.clock.advance(Duration::from_secs(1));
    running.add_tenant("acme").await;
    assert!(keys.decrypt_sensitive_data(&sealed.value, &acme, "iban").await.is_err());
    assert!(keys.encrypt_sensitive_data(b"x".to_vec(), &acme, "iban").await.is_ok());
}

async fn others_may_not_and_nonsense_is_named(store: Store) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    let own = running.of_tenant("acme");
    assert_eq!(running.get("/api/tenants", Some(&own)).await.status, 403);
    assert_eq!(running.get("/api/tenants/acme", Some(&own)).await.status, 403);
    assert_eq!(running.send_json("PUT", "/api/tenants/acme", &own, "{}").await.status, 403);
    let admin = running.admin();
    for (path, body, status, named) in [
        ("/api/tenants/a%20b", "{}", 400, "tenant_id"),
        ("/api/tenants/acme", "{\"tenancy_model\": \"own\"}", 422, "tenancy_model"),
        ("/api/tenants/acme", "{\"name\": \"x\"}", 422, "name"),
        ("/api/tenants/acme", "{", 400, "line 1 column 1"),
        ("/api/tenants/';DROP/**/TABLE/**/tenants;--", "{}", 404, "path"),
    ] {
        let answer = running.send_json("PUT", path, &admin, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(answer.body.contains(named), "{path} {body}: {}", answer.body);
    }
    let odd = running.send_json("PUT", "/api/tenants/';DROP%20TABLE", &admin, "{}").await;
    assert_eq!(odd.status, 400);
    assert_eq!(
        running.send_json("PUT", "/api/tenants/'OR'1'='1", &admin, "{}").await.status,
        201,
        "only a name"
    );
    assert_eq!(running.get("/api/tenants?after='--&x=1", Some(&admin)).await.status, 400);
    assert_eq!(running.get("/api/tenants", Some(&admin)).await.json()["count"], 2);
}

on_each_store![
    an_admin_adds_changes_lists_and_removes,
    the_address_of_a_database_is_kept_sealed_and_never_told,
    what_a_removed_tenant_had_is_gone_but_its_events,
    what_was_issued_for_a_removed_tenant_opens_nothing_of_the_next_one,
    a_session_that_is_begun_while_its_tenant_goes_goes_too,
    a_key_that_is_made_while_its_tenant_goes_is_not_the_next_ones,
    others_may_not_and_nonsense_is_named,
];
