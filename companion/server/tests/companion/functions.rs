//! The functions of a program that runs the companion within itself: the same stores and counts as the API's.

use portcullis_server::event::{DetailsError, MAX_DETAILS_BYTES};
use portcullis_server::functions::FunctionError;
use portcullis_server::limits::CheckError;
use portcullis_server::tenant::TenantId;
use serde_json::{Map, json};
use zeroize::Zeroizing;

use crate::support::{Running, Store, eventually, on_each_store, tenant_database};

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

async fn values_events_and_counts_are_those_of_the_api(store: Store) {
    let running = Running::started_with(store, |_| {}).await;
    running.add_tenant("acme").await;
    running.add_tenant("globex").await;
    let functions = running.companion.functions();
    let globex = TenantId::new("globex").unwrap();

    assert_eq!(functions.generate_tenant_key(&acme()).await.unwrap(), 1);
    assert!(
        matches!(functions.generate_tenant_key(&acme()).await, Err(FunctionError::Keys(_))),
        "it has one"
    );
    let sealed = functions.encrypt_sensitive_data(b"DE02".to_vec(), &acme(), "iban").await.unwrap();
    assert_eq!(sealed.key_id, "acme:1");
    let opened = functions.decrypt_sensitive_data(&sealed.value, &acme(), "iban").await.unwrap();
    assert_eq!(opened.expose(), b"DE02");
    for (tenant, data_type) in [(&globex, "iban"), (&acme(), "card")] {
        assert!(
            functions.decrypt_sensitive_data(&sealed.value, tenant, data_type).await.is_err(),
            "{data_type}"
        );
    }
    let body = json!({"tenant_id": "acme", "data": sealed.value, "data_type": "iban"});
    let answer = running.post("/api/security/decrypt", &body, &running.of_tenant("acme")).await;
    assert_eq!((answer.status, &answer.json()["data"]), (200, &"DE02".into()), "{}", answer.body);

    let details = json!({"order": 7, "note": "a\u{0}b"}).as_object().cloned().unwrap();
    let id = functions.log_security_event("order_paid", &acme(), Some("ada"), details).await.unwrap();
    let answer = running
        .get("/api/security/events/acme?event_type=ORDER_PAID", Some(&running.of_tenant("acme")))
        .await;
    let event = answer.json()["events"][0].clone();
    assert_eq!((&event["user_id"], &event["details"]["uid"]), (&"ada".into(), &id.into()), "{event}");
    let large = json!({"note": "x".repeat(MAX_DETAILS_BYTES)}).as_object().cloned().unwrap();
    let deep = (0..200).fold(json!(1), |inner, _| json!({ "a": inner })).as_object().cloned().unwrap();
    for (details, named) in
        [(large, DetailsError::TooLarge(MAX_DETAILS_BYTES + 11)), (deep, DetailsError::TooDeep)]
    {
        let stored = functions.log_security_event("ORDER_PAID", &acme(), None, details).await;
        assert!(matches!(stored, Err(FunctionError::Details(error)) if error == named), "{named}");
    }
    let long = "a".repeat(51);
    for (name, user) in [
        ("1", None),
        ("A B", None),
        ("audit_gap", None),
        ("LOGIN", Some(long.as_str())),
        ("LOGIN", Some("a\u{1b}b")),
    ] {
        let stored = functions.log_security_event(name, &acme(), user, Map::new()).await;
        assert!(matches!(stored, Err(FunctionError::Event(_))), "{name} {user:?}");
    }

    for left in [4, 3, 2] {
        let spent = functions.check_rate_limit(&acme(), "ada", "login").await.unwrap();
        assert_eq!((spent.allowed, spent.remaining), (true, left));
    }
    let question = json!({"tenant": "acme", "user": "ada", "action": "login"});
    for allowed in [true, true, false] {
        let answer =
            running.post("/api/security/rate-limit/check", &question, &running.of_tenant("acme")).await;
        assert_eq!(answer.json()["allowed"], allowed, "the counts are the same: {}", answer.body);
    }
    let spent = functions.check_rate_limit(&acme(), "ada", "login").await.unwrap();
    assert!(!spent.allowed && spent.retry_after_ns > 0);
    assert!(functions.check_rate_limit(&acme(), "bob", "login").await.unwrap().allowed);
    for (user, action) in [("ada", "dance"), ("", "login")] {
        let checked = functions.check_rate_limit(&acme(), user, action).await;
        assert!(
            matches!(checked, Err(FunctionError::Check(CheckError::Action | CheckError::User))),
            "{user} {action}"
        );
    }
    let nobody = functions.check_rate_limit(&TenantId::new("nobody").unwrap(), "ada", "login").await;
    assert!(matches!(nobody, Err(FunctionError::UnknownTenant(_))));
}

async fn a_database_is_looked_through(store: Store) {
    let (url, sockets) = tenant_database(match store {
        Store::Sqlite => "embedded_beside_sqlite",
        Store::Postgres => "embedded_beside_postgres",
    });
    let running = Running::started_with(store, |settings| {
        settings.databases.sockets = vec![sockets];
        settings.databases.shape.slow = std::time::Duration::from_millis(100);
    })
    .await;
    running.add_tenant("acme").await;
    let functions = running.companion.functions();
    let none = functions.optimize_tenant_database(&acme(), None).await.unwrap();
    assert!(!none.success && none.problem.is_some(), "there is no database yet");

    let done = functions.optimize_tenant_database(&acme(), Some(Zeroizing::new(url))).await.unwrap();
    assert!(done.success, "{:?}", done.problem);
    let metrics = functions.get_performance_metrics(&acme()).await.unwrap();
    assert!(metrics.last_optimization.is_some() && metrics.pool_size > 0, "{metrics:?}");
    assert_eq!(metrics.pool_size, metrics.checked_in + metrics.checked_out);

    let lease = running.companion.databases().lend(&acme(), None).await.unwrap();
    lease.query("SELECT 1 FROM pg_sleep(0.2)", &[]).await.unwrap();
    eventually(async || {
        functions.get_slow_queries(&acme(), 10).await.unwrap().iter().any(|slow| slow.execution_time >= 0.2)
    })
    .await;
    assert!(functions.get_slow_queries(&acme(), 0).await.unwrap().is_empty());
}

on_each_store!(values_events_and_counts_are_those_of_the_api, a_database_is_looked_through);
