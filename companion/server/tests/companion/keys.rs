//! Tenants' keys through the API: what is sealed is opened by its tenant alone, while keys are rotated, and never again after
//! they were shredded, in any companion on the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_server::clock::Clock;
use portcullis_server::keys::Service;
use portcullis_server::settings::Settings;
use portcullis_server::storage::Place;
use serde_json::{Value, json};

use crate::support::{ROOT_KEY, Running, Store, eventually, on_each_store, root, start_time};

const ENCRYPT: &str = "/api/security/encrypt";
const DECRYPT: &str = "/api/security/decrypt";
const OTHER_ROOT: &str = "fedcba9876543210fedcba9876543210";

async fn with_tenant(store: Store) -> Running {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    running
}

/// Another companion on the same store.
async fn beside(place: &Place, clock: Clock, change: impl FnOnce(&mut Settings)) -> Running {
    Running::on(place.clone(), clock, change).await
}

async fn encrypt(running: &Running, tenant: &str, data: &str) -> Value {
    let body = json!({"data": data, "data_type": "iban"});
    let answer = running.post(ENCRYPT, &body, &running.of_tenant(tenant)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()
}

/// The same, and the value is not kept.
async fn encrypt_in_passing(running: &Running, tenant: &str, data: &str) -> Value {
    let body = json!({"data": data, "data_type": "iban", "store": false});
    let answer = running.post(ENCRYPT, &body, &running.of_tenant(tenant)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// The status, and what came.
async fn decrypt(running: &Running, tenant: &str, sealed: &Value) -> (u16, Value) {
    let body = json!({"data": sealed["encrypted_value"], "data_type": sealed["data_type"]});
    let answer = running.post(DECRYPT, &body, &running.of_tenant(tenant)).await;
    let body = answer.json();
    (answer.status, if answer.status == 200 { body["data"].clone() } else { body["reason"].clone() })
}

async fn manage(running: &Running, method: &str, tenant: &str, step: &str, body: &str) -> (u16, Value) {
    let path = format!("/api/security/keys/{tenant}{step}");
    let answer = running.send_json(method, &path, &running.admin(), body).await;
    (answer.status, answer.json())
}

async fn what_is_sealed_opens_for_its_tenant_and_type_alone(store: Store) {
    let running = with_tenant(store).await;
    running.add_tenant("globex").await;
    let sealed = encrypt(&running, "acme", "DE02 1203 0000 é").await;
    assert_eq!((&sealed["tenant_id"], &sealed["encryption_key_id"]), (&json!("acme"), &json!("acme:1")));
    assert_eq!(decrypt(&running, "acme", &sealed).await, (200, json!("DE02 1203 0000 é")));
    encrypt(&running, "globex", "other").await;
    assert_eq!(decrypt(&running, "globex", &sealed).await, (422, json!("not-opened")));
    let as_other = json!({"encrypted_value": sealed["encrypted_value"], "data_type": "phone"});
    assert_eq!(decrypt(&running, "acme", &as_other).await, (422, json!("not-opened")));
    let mut altered = sealed["encrypted_value"].as_str().unwrap().to_owned();
    altered.replace_range(60..61, if &altered[60..61] == "A" { "B" } else { "A" });
    let altered = json!({"encrypted_value": altered, "data_type": "iban"});
    assert_eq!(decrypt(&running, "acme", &altered).await, (422, json!("not-opened")));

    // What is kept is opened by its number, by its tenant.
    let by_id = json!({"id": sealed["id"]});
    let opened = running.post(DECRYPT, &by_id, &running.of_tenant("acme")).await.json();
    assert_eq!((&opened["data"], &opened["data_type"]), (&json!("DE02 1203 0000 é"), &json!("iban")));
    assert_eq!(running.post(DECRYPT, &by_id, &running.of_tenant("globex")).await.status, 404);
    let named = json!({"id": sealed["id"], "tenant_id": "acme"});
    assert_eq!(running.post(DECRYPT, &named, &running.of_tenant("globex")).await.status, 403);
    assert_eq!(running.post(DECRYPT, &named, &running.admin()).await.status, 200);
    for row in running.rows("SELECT encrypted_value FROM encrypted_data").await {
        assert!(!row.text(0).unwrap().contains("1203"));
    }
    let remove = format!("/api/security/encrypted/acme/{}", sealed["id"]);
    assert_eq!(running.send_json("DELETE", &remove, &running.of_tenant("acme"), "").await.status, 200);
    assert_eq!(running.send_json("DELETE", &remove, &running.of_tenant("acme"), "").await.status, 404);
    assert_eq!(decrypt(&running, "acme", &sealed).await.0, 200, "a value of the application's own");

    let passing = json!({"data": "x", "data_type": "iban", "store": false});
    let answer = running.post(ENCRYPT, &passing, &running.of_tenant("acme")).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &Value::Null));
    let status = running.get("/api/security/status", Some(&running.admin())).await.json();
    assert_eq!(status["encryption_available"], true);
    let metrics = running.get("/metrics", Some(&running.admin())).await.body;
    assert!(metrics.contains("portcullis_keys_calls_total{call=\"seal\",result=\"done\"} 3\n"), "{metrics}");
    assert!(
        metrics.contains("portcullis_keys_calls_total{call=\"open\",result=\"refused\"} 3\n"),
        "{metrics}"
    );
}

async fn nonsense_is_named_and_changes_nothing(store: Store) {
    let running = with_tenant(store).await;
    let (own, admin) = (running.of_tenant("acme"), running.admin());
    let long = "x".repeat(51);
    for (path, body, token, status, named) in [
        (ENCRYPT, json!({"data": "x"}), &own, 422, "data_type"),
        (ENCRYPT, json!({"data": "x", "data_type": long}), &own, 422, "data_type"),
        (ENCRYPT, json!({"data": "x", "data_type": ""}), &own, 422, "data_type"),
        (ENCRYPT, json!({"data": "x", "data_type": "a\u{0}"}), &own, 422, "data_type"),
        (ENCRYPT, json!({"data": 7, "data_type": "a"}), &own, 422, "data"),
        (ENCRYPT, json!({"data": "x", "data_type": "a", "key": "k"}), &own, 422, "key"),
        (ENCRYPT, json!({"data": "x", "data_type": "a"}), &admin, 422, "tenant_id"),
        (ENCRYPT, json!({"data": "x", "data_type": "a", "tenant_id": "globex"}), &own, 403, "token"),
        (ENCRYPT, json!({"data": "x", "data_type": "a", "tenant_id": "globex"}), &admin, 404, "tenant"),
        (ENCRYPT, json!({"data": "x".repeat(70_000), "data_type": "a"}), &own, 413, "65536"),
        (DECRYPT, json!({"data": "§", "data_type": "a"}), &own, 422, "base64"),
        (DECRYPT, json!({"data": "AAAA", "data_type": "a"}), &own, 422, "envelope"),
        (DECRYPT, json!({"data": "AAAA"}), &own, 422, "data_type"),
        (DECRYPT, json!({}), &own, 422, "id alone"),
        (DECRYPT, json!({"id": 1, "data": "x", "data_type": "a"}), &own, 422, "id alone"),
        (DECRYPT, json!({"id": -1}), &own, 404, "id"),
        (DECRYPT, json!({"id": "1' OR '1'='1"}), &own, 422, "id"),
    ] {
        let answer = running.post(path, &body, token).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(named), "{body}: {}", answer.body);
    }
    let odd = json!({"data": "'; DROP TABLE encrypted_data;--", "data_type": "'; DROP TABLE tenants;--"});
    assert_eq!(running.post(ENCRYPT, &odd, &own).await.status, 201, "only a value");
    assert_eq!(running.send_json("POST", ENCRYPT, &own, "{\"data\": ").await.status, 400);
    for (method, path) in [
        ("GET", "/api/security/keys"),
        ("GET", "/api/security/keys/acme"),
        ("POST", "/api/security/keys/acme"),
        ("PUT", "/api/security/keys/acme"),
        ("DELETE", "/api/security/keys/acme"),
        ("POST", "/api/security/keys/acme/rotate"),
        ("POST", "/api/security/keys/acme/rewrap"),
    ] {
        let body = "{\"min_decrypt_version\": 1}";
        assert_eq!(running.send_json(method, path, &own, body).await.status, 403, "{method} {path}");
        let answer = running.send_json(method, path, "pc1.x.y", body).await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    assert_eq!(manage(&running, "POST", "nobody", "/rotate", "").await.0, 404);
    assert_eq!(manage(&running, "GET", "acme", "", "").await.1["current_version"], 1);
}

async fn keys_are_made_rotated_rewrapped_shut_out_and_shredded(store: Store) {
    let running = with_tenant(store).await;
    assert_eq!(manage(&running, "GET", "acme", "", "").await.1["reason"], "no-key");
    let (status, made) = manage(&running, "POST", "acme", "", "").await;
    assert_eq!((status, &made["current_version"], &made["shredded_at"]), (201, &json!(1), &Value::Null));
    assert_eq!(manage(&running, "POST", "acme", "", "").await.0, 409);
    let first = encrypt(&running, "acme", "one").await;
    let (_, rotated) = manage(&running, "POST", "acme", "/rotate", "").await;
    assert_eq!((&rotated["current_version"], rotated["versions"].as_array().unwrap().len()), (&json!(2), 2));
    let second = encrypt(&running, "acme", "two").await;
    assert_eq!(second["encryption_key_id"], "acme:2");
    assert_eq!(decrypt(&running, "acme", &first).await, (200, json!("one")));

    let (_, done) = manage(&running, "POST", "acme", "/rewrap", "").await;
    assert_eq!((&done["values_resealed"], &done["values_unreadable"]), (&json!(1), &json!(0)), "{done}");
    assert_eq!(done["root_changed"], false);
    let (_, done) = manage(&running, "POST", "acme", "/rewrap", "").await;
    assert_eq!(done["values_resealed"], 0);
    let rows = running.rows("SELECT encryption_key_id FROM encrypted_data").await;
    assert!(rows.iter().all(|row| row.text(0).unwrap() == "acme:2"));

    let least = |version: u32, trim: bool| json!({"min_decrypt_version": version, "trim": trim}).to_string();
    assert_eq!(manage(&running, "PUT", "acme", "", &least(3, false)).await.0, 422);
    let (status, refused) = manage(&running, "PUT", "acme", "", &least(2, false)).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("still-needed")), "the trail may need it");
    running.clock.advance(Duration::from_secs(93 * 86_400));
    let (_, changed) = manage(&running, "PUT", "acme", "", &least(2, false)).await;
    assert_eq!(
        (&changed["min_decrypt_version"], changed["versions"].as_array().unwrap().len()),
        (&json!(2), 2)
    );
    assert_eq!(decrypt(&running, "acme", &first).await, (422, json!("not-opened")));
    let kept = running.post(DECRYPT, &json!({"id": first["id"]}), &running.of_tenant("acme")).await;
    assert_eq!(kept.json()["data"], "one", "the kept value was sealed anew");
    let (_, changed) = manage(&running, "PUT", "acme", "", &least(2, true)).await;
    assert_eq!(changed["versions"].as_array().unwrap().len(), 1);
    let list = running.get("/api/security/keys", Some(&running.admin())).await.json();
    assert_eq!((&list["count"], &list["keys"][0]["current_version"]), (&json!(1), &json!(2)));

    assert_eq!(manage(&running, "DELETE", "acme", "", "").await.1["shredded"], true);
    assert_eq!(decrypt(&running, "acme", &second).await, (410, json!("keys-shredded")));
    let body = json!({"data": "x", "data_type": "iban"});
    assert_eq!(running.post(ENCRYPT, &body, &running.of_tenant("acme")).await.status, 410);
    assert_eq!(manage(&running, "POST", "acme", "/rotate", "").await.0, 410);
    let (_, left) = manage(&running, "GET", "acme", "", "").await;
    assert_eq!((&left["versions"], &left["shredded_at"]), (&json!([]), &json!("2026-06-02T12:00:30.000Z")));
    // Only on demand is there a new key, which opens nothing of before.
    assert_eq!(manage(&running, "POST", "acme", "", "").await.1["current_version"], 3);
    assert_eq!(decrypt(&running, "acme", &second).await, (422, json!("not-opened")));
    assert_eq!(encrypt(&running, "acme", "new").await["encryption_key_id"], "acme:3");
}

async fn a_shredding_holds_at_once_in_every_companion_on_the_store(store: Store) {
    let here = with_tenant(store).await;
    let there = beside(&here.place, here.clock.clone(), |_| {}).await;
    let sealed = encrypt(&here, "acme", "secret").await;
    for companion in [&here, &there] {
        assert_eq!(decrypt(companion, "acme", &sealed).await.0, 200, "and the key is in memory now");
    }
    assert_eq!(manage(&there, "DELETE", "acme", "", "").await.0, 200);
    for companion in [&there, &here] {
        assert_eq!(decrypt(companion, "acme", &sealed).await, (410, json!("keys-shredded")));
    }
}

async fn a_tenant_that_is_removed_and_comes_back_is_another_one(store: Store) {
    let running = with_tenant(store).await;
    let sealed = encrypt(&running, "acme", "secret").await;
    let admin = running.admin();
    assert_eq!(running.send_json("DELETE", "/api/tenants/acme", &admin, "").await.status, 200);
    assert!(running.rows("SELECT id FROM encrypted_data").await.is_empty());
    assert_eq!(decrypt(&running, "acme", &sealed).await.0, 404);
    running.clock.advance(Duration::from_millis(1));
    assert_eq!(running.send_json("PUT", "/api/tenants/acme", &admin, "{}").await.status, 201);
    assert_eq!(decrypt(&running, "acme", &sealed).await, (410, json!("keys-shredded")));
    let fresh = encrypt(&running, "acme", "new").await;
    assert_eq!(fresh["encryption_key_id"], "acme:2");
    assert_eq!(decrypt(&running, "acme", &fresh).await, (200, json!("new")));
    assert_eq!(decrypt(&running, "acme", &sealed).await, (422, json!("not-opened")));
}

async fn no_open_fails_while_two_companions_rotate(store: Store) {
    let here = Arc::new(with_tenant(store).await);
    let there = Arc::new(beside(&here.place, here.clock.clone(), |_| {}).await);
    let first = Arc::new(encrypt(&here, "acme", "value").await);
    let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut readers = Vec::new();
    for companion in [&here, &there, &here, &there] {
        let (companion, first) = (Arc::clone(companion), Arc::clone(&first));
        let (stop, opened) = (Arc::clone(&stop), Arc::clone(&opened));
        readers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let fresh = encrypt_in_passing(&companion, "acme", "fresh").await;
                assert_eq!(decrypt(&companion, "acme", &fresh).await, (200, json!("fresh")));
                assert_eq!(decrypt(&companion, "acme", &first).await, (200, json!("value")));
                opened.fetch_add(2, Ordering::Relaxed);
            }
        }));
    }
    for _ in 0..5 {
        for companion in [&here, &there] {
            let before = opened.load(Ordering::Relaxed);
            assert_eq!(manage(companion, "POST", "acme", "/rotate", "").await.0, 200);
            assert_eq!(manage(companion, "POST", "acme", "/rewrap", "").await.0, 200);
            while opened.load(Ordering::Relaxed) < before + 2
                && !readers.iter().any(|task| task.is_finished())
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(manage(&here, "GET", "acme", "", "").await.1["current_version"], 11);
}

async fn keys_that_are_old_enough_are_rotated_on_schedule(store: Store) {
    let running = with_tenant(store).await;
    running.add_tenant("globex").await;
    let sealed = encrypt(&running, "acme", "old").await;
    running.clock.advance(Duration::from_secs(60 * 86_400));
    encrypt(&running, "globex", "younger").await;
    running.clock.advance(Duration::from_secs(31 * 86_400));
    let clock = running.clock.clone();
    let period = Some(Duration::from_secs(90 * 86_400));
    let first = beside(&running.place, clock.clone(), |settings| settings.key_rotation = period).await;
    let second = beside(&running.place, clock, |settings| settings.key_rotation = period).await;
    let version = |tenant: &'static str| {
        let first = &first;
        async move { manage(first, "GET", tenant, "", "").await.1["current_version"].clone() }
    };
    while version("acme").await == 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    second.companion.stop().await.unwrap();
    assert_eq!(version("acme").await, 2, "once, although two look");
    assert_eq!(version("globex").await, 1);
    assert_eq!(decrypt(&first, "acme", &sealed).await, (200, json!("old")));
}

async fn versions_that_nothing_needs_any_more_are_deleted_and_no_others(store: Store) {
    let running = with_tenant(store).await;
    let first = encrypt(&running, "acme", "one").await;
    manage(&running, "POST", "acme", "/rotate", "").await;
    let second = encrypt_in_passing(&running, "acme", "two").await;
    running.clock.advance(Duration::from_secs(30 * 86_400));
    manage(&running, "POST", "acme", "/rotate", "").await;
    let keys = portcullis_server::keys::Keys::new(
        running.beside().await,
        &root(ROOT_KEY, None),
        running.clock.clone(),
    );
    let acme = portcullis_server::tenant::TenantId::new("acme").unwrap();
    let kept =
        portcullis_server::trail::retention::rules(Duration::from_secs(90 * 86_400), None, &[]).unwrap();
    let trim = async || keys.trim(&acme, &kept).await.unwrap();
    assert_eq!((trim().await.deleted, trim().await.left), (0, 0), "none lies below the minimum");

    // By force, although the trail and the store still need versions 1 and 2.
    let minimum = json!({"min_decrypt_version": 3, "force": true}).to_string();
    assert_eq!(manage(&running, "PUT", "acme", "", &minimum).await.0, 200);
    let done = trim().await;
    assert_eq!((done.deleted, done.left), (0, 2));
    assert!(
        done.why.contains("the audit trail may hold records that it sealed until 2026-06-0"),
        "{}",
        done.why
    );

    // The trail keeps 90 days and up to two more: of version 1 since it had a successor, of version 2 thirty days later.
    running.clock.advance(Duration::from_secs(63 * 86_400));
    let done = trim().await;
    assert_eq!((done.deleted, done.left), (0, 2));
    assert!(done.why.contains("the store has values that it sealed"), "{}", done.why);
    // What was not deleted may be opened again.
    let back = json!({"min_decrypt_version": 1}).to_string();
    assert_eq!(manage(&running, "PUT", "acme", "", &back).await.0, 200);
    assert_eq!(decrypt(&running, "acme", &first).await, (200, json!("one")));
    assert_eq!(manage(&running, "POST", "acme", "/rewrap", "").await.1["values_resealed"], 1);
    assert_eq!(manage(&running, "PUT", "acme", "", &minimum).await.0, 200);
    let done = trim().await;
    assert_eq!((done.deleted, done.left), (1, 1), "{}", done.why);
    running.clock.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(keys.trim_all(&kept).await.unwrap(), 1);
    let (_, left) = manage(&running, "GET", "acme", "", "").await;
    assert_eq!(left["versions"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(decrypt(&running, "acme", &second).await, (422, json!("not-opened")));
    let kept_value = running.post(DECRYPT, &json!({"id": first["id"]}), &running.of_tenant("acme")).await;
    assert_eq!(kept_value.json()["data"], "one");
}

async fn the_rotation_deletes_what_nothing_needs(store: Store) {
    let running = with_tenant(store).await;
    encrypt_in_passing(&running, "acme", "x").await;
    manage(&running, "POST", "acme", "/rotate", "").await;
    let minimum = json!({"min_decrypt_version": 2, "force": true}).to_string();
    assert_eq!(manage(&running, "PUT", "acme", "", &minimum).await.0, 200);
    running.clock.advance(Duration::from_secs(93 * 86_400));
    let period = Some(Duration::from_secs(3660 * 86_400));
    let there =
        beside(&running.place, running.clock.clone(), |settings| settings.key_rotation = period).await;
    eventually(async || {
        let (_, left) = manage(&there, "GET", "acme", "", "").await;
        left["versions"].as_array().unwrap().len() == 1
    })
    .await;
    let metrics = there.get("/metrics", Some(&there.admin())).await.body;
    assert!(metrics.contains("portcullis_keys_trimmed_total 1\n"), "{metrics}");
}

async fn the_root_key_is_replaced_without_touching_what_is_sealed(store: Store) {
    let running = with_tenant(store).await;
    let sealed = encrypt(&running, "acme", "value").await;
    let clock = || Clock::manual(start_time());
    let with = |root: Service| move |settings: &mut Settings| settings.root = root;
    let without = beside(&running.place, clock(), with(root(OTHER_ROOT, None))).await;
    assert_eq!(decrypt(&without, "acme", &sealed).await, (503, json!("keys-unavailable")));
    let both = beside(&running.place, clock(), with(root(OTHER_ROOT, Some(ROOT_KEY)))).await;
    assert_eq!(decrypt(&both, "acme", &sealed).await, (200, json!("value")));
    assert_eq!(manage(&both, "POST", "acme", "/rewrap", "").await.1["root_changed"], true);
    assert_eq!(manage(&both, "POST", "acme", "/rewrap", "").await.1["root_changed"], false);
    assert_eq!(decrypt(&without, "acme", &sealed).await, (200, json!("value")));
    assert_eq!(decrypt(&running, "acme", &sealed).await, (503, json!("keys-unavailable")));
}

on_each_store![
    what_is_sealed_opens_for_its_tenant_and_type_alone,
    nonsense_is_named_and_changes_nothing,
    keys_are_made_rotated_rewrapped_shut_out_and_shredded,
    a_shredding_holds_at_once_in_every_companion_on_the_store,
    a_tenant_that_is_removed_and_comes_back_is_another_one,
    no_open_fails_while_two_companions_rotate,
    keys_that_are_old_enough_are_rotated_on_schedule,
    versions_that_nothing_needs_any_more_are_deleted_and_no_others,
    the_rotation_deletes_what_nothing_needs,
    the_root_key_is_replaced_without_touching_what_is_sealed,
];
