//! Plans that are in the middle when something happens: a second companion, a restart, a server that is away, keys that are changed.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_server::clock::Clock;
use portcullis_server::databases::Options;
use portcullis_server::databases::apply::Asked;
use portcullis_server::storage::Place;
use portcullis_server::tenant::TenantId;
use serde_json::{Value, json};

use crate::databases::{give, unique};
use crate::plans::{BUILDING, MISLEADING, MISLED, Shop, TABLES, connect, happened};
use crate::support::{Running, Store, eventually, on_each_store, tenant_database};
use crate::wire::{Line, Wire};

const CREATE: &str = "CREATE INDEX CONCURRENTLY pc_client ON public.orders (client)";
const INVALID: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";

/// A plan that is built and watched.
async fn observed(shop: &Shop) -> String {
    let id = shop.approved(CREATE, "public.pc_client", "public.orders").await;
    let answer = shop.act(&id, "apply").await;
    assert_eq!(answer.json()["plan"]["state"], "observing", "{}", answer.body);
    id
}

/// The store, the time, and where databases may be.
type At = (Place, Clock, PathBuf);

fn at(shop: &Shop) -> At {
    (shop.running.place.clone(), shop.running.clock.clone(), shop.sockets.clone())
}

/// Another companion on the same store.
async fn beside((place, clock, sockets): At, change: impl FnOnce(&mut Options)) -> Running {
    Running::on(place, clock, |settings| {
        settings.databases.sockets = vec![sockets];
        change(&mut settings.databases);
    })
    .await
}

async fn running_plans(running: &Running) -> bool {
    let text = running.get("/metrics", Some(&running.admin())).await.body;
    text.contains("portcullis_index_plans_running 1\n")
}

async fn a_second_companion_leaves_alone_what_the_first_is_at(store: Store) {
    let shop = Shop::with(store, TABLES, |databases| databases.observe = Duration::from_secs(15)).await;
    give(&shop.running, "acme", &shop.url).await;
    let id = observed(&shop).await;
    let second = beside(at(&shop), |_| ()).await;
    // It looks whether somebody is at the plan, and somebody is.
    eventually(async || running_plans(&second).await).await;
    eventually(async || !running_plans(&second).await).await;
    let plan = shop.plan(&id).await;
    assert_eq!(plan["state"], "observing", "{plan}");
    let kept = shop.until(&id, "kept").await;
    assert_eq!(happened(&kept), ["approved", "applying", "applied", "observed", "kept"], "{kept}");
    assert_eq!(shop.running.events("acme", "?event_type=DATABASE_PLAN_KEPT").await.len(), 1);
}

async fn an_index_that_harms_goes_after_a_restart_too(store: Store) {
    let shop = Shop::with(store, MISLEADING, |databases| databases.observe = Duration::from_secs(600)).await;
    give(&shop.running, "acme", &shop.url).await;
    for _ in 0..8 {
        shop.client.simple_query(MISLED).await.unwrap();
    }
    let id = shop.approved("CREATE INDEX CONCURRENTLY pc_b ON public.h (b)", "public.pc_b", "public.h").await;
    let answer = shop.act(&id, "apply").await;
    assert_eq!(answer.json()["plan"]["state"], "observing", "{}", answer.body);
    let at = at(&shop);
    shop.running.companion.stop().await.unwrap();
    let next = beside(at, |databases| databases.observe = Duration::from_secs(600)).await;
    let shop = Shop { running: next, ..shop };
    let begun = tokio::time::Instant::now();
    while shop.indexes().await > 0 {
        shop.client.simple_query(MISLED).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "it is there still: {}", shop.plan(&id).await);
    }
    let plan = shop.until(&id, "rolled_back").await;
    assert!(plan["steps"][0]["reason"].as_str().unwrap().contains("ms since it was built"), "{plan}");
    assert!(happened(&plan).contains(&"resumed"), "{plan}");
}

async fn a_server_that_is_away_for_long_is_waited_for(store: Store) {
    let shop = Shop::with(store, TABLES, |_| ()).await;
    let wire = Wire::to(&shop.sockets);
    let folder = wire.folder.path().to_owned();
    let through = beside(at(&shop), |databases| {
        databases.outage = Duration::from_secs(1);
        databases.patience = Duration::from_millis(300);
        databases.observe = Duration::from_secs(3);
        databases.sockets = vec![folder];
    })
    .await;
    shop.running.companion.stop().await.unwrap();
    let shop = Shop { running: through, ..shop };
    give(&shop.running, "acme", &wire.url(&shop.url)).await;

    // While it is watched.
    let id = shop.approved(CREATE, "public.pc_client", "public.orders").await;
    shop.act(&id, "apply").await;
    shop.until(&id, "observing").await;
    wire.becomes(Line::Cut);
    let met = async |what: &str| happened(&shop.plan(&id).await).contains(&what);
    eventually(async || met("interrupted").await).await;
    assert_eq!(shop.plan(&id).await["state"], "observing");
    wire.becomes(Line::Open);
    eventually(async || met("resumed").await).await;
    shop.until(&id, "kept").await;
    assert_eq!(shop.number(INVALID).await, 0);

    // While it is built.
    let both = "CREATE INDEX CONCURRENTLY pc_both ON public.orders (client, note)";
    let id = shop.approved(both, "public.pc_both", "public.orders").await;
    let writer = connect(&shop.url).await;
    writer.batch_execute("BEGIN; UPDATE orders SET note = note WHERE id = 1").await.unwrap();
    assert_eq!(shop.act(&id, "apply").await.status, 202);
    eventually(async || shop.number(BUILDING).await > 0).await;
    wire.becomes(Line::Cut);
    let met = async |what: &str| happened(&shop.plan(&id).await).contains(&what);
    eventually(async || met("interrupted").await).await;
    assert_eq!(shop.plan(&id).await["state"], "applying");
    writer.batch_execute("COMMIT").await.unwrap();
    wire.becomes(Line::Open);
    eventually(async || met("applied").await).await;
    let kept = shop.until(&id, "kept").await;
    assert_eq!((shop.number(INVALID).await, shop.indexes().await), (0, 2));
    assert!(!happened(&kept).contains(&"failed"), "{kept}");
}

async fn keys_that_are_changed_are_no_other_address(store: Store) {
    let shop = Shop::with(store, TABLES, |databases| databases.observe = Duration::from_secs(600)).await;
    give(&shop.running, "acme", &shop.url).await;
    let id = observed(&shop).await;
    let databases = shop.running.companion.databases();
    let acme = TenantId::new("acme").unwrap();
    databases.watch(&acme).await;
    let pool = databases.pools().number("acme");
    let sealed = async || {
        shop.running.rows("SELECT database_url_sealed FROM tenants WHERE tenant_id = 'acme'").await[0]
            .text(0)
            .unwrap()
    };
    let before = sealed().await;
    for step in ["rotate", "rewrap"] {
        let answer = shop.post(&format!("/api/security/keys/acme/{step}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_ne!(sealed().await, before);
    databases.refresh(&acme).await.unwrap();
    assert_eq!(databases.pools().number("acme"), pool, "the same pool");
    assert!(databases.state(&acme).await.unwrap().calls.is_some(), "what was seen of it is known still");
    // Withdrawn, it would be gone by now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((&shop.plan(&id).await["state"], shop.indexes().await), (&json!("observing"), 1));

    // Another address, though of the same database.
    give(&shop.running, "acme", &format!("{}?application_name=other", shop.url)).await;
    let plan = shop.until(&id, "rolled_back").await;
    assert!(plan["timeline"].to_string().contains("address of the tenant's database was changed"), "{plan}");
    assert_eq!(shop.indexes().await, 0);
}

async fn what_is_not_begun_stays_approved(store: Store) {
    let shop = Shop::with(store, TABLES, |_| ()).await;
    let wire = Wire::to(&shop.sockets);
    let folder = wire.folder.path().to_owned();
    let through = beside(at(&shop), |databases| {
        databases.observe = Duration::from_secs(1);
        databases.sockets = vec![folder];
    })
    .await;
    shop.running.companion.stop().await.unwrap();
    let shop = Shop { running: through, ..shop };
    give(&shop.running, "acme", &wire.url(&shop.url)).await;
    let id = shop.approved(CREATE, "public.pc_client", "public.orders").await;
    wire.becomes(Line::Cut);
    let answer = shop.act(&id, "apply").await.json();
    assert_eq!(
        (&answer["success"], &answer["plan"]["state"]),
        (&json!(false), &json!("approved")),
        "{answer}"
    );
    assert!(answer["problem"].as_str().unwrap().contains("not begun"), "{answer}");
    wire.becomes(Line::Open);
    assert_eq!(shop.act(&id, "apply").await.json()["success"], true);
    shop.until(&id, "kept").await;
}

async fn who_waits_for_a_turn_does_not_work_yet(store: Store) {
    let (acme, globex) = (TenantId::new("acme").unwrap(), TenantId::new("globex").unwrap());
    let (url, sockets) = tenant_database(&unique("held"));
    let (other, _) = tenant_database(&unique("free"));
    let wire = Wire::held_at(&sockets, Some("statement_timeout = '120s'"));
    let folder = wire.folder.path().to_owned();
    let running = Running::started_with(store, |settings| {
        settings.databases.sockets = vec![folder, sockets];
        settings.databases.longest = Duration::from_secs(6);
    })
    .await;
    give(&running, "acme", &wire.url(&url)).await;
    give(&running, "globex", &other).await;
    let databases = running.companion.databases();
    let asked = Asked { by: "a test".into(), correlation_id: "c".into() };
    let held = databases.optimize(vec![acme], &asked).unwrap();
    eventually(async || wire.is(Line::Held)).await;
    let waiting = databases.optimize(vec![globex], &asked).unwrap();
    let held = held.finished().await.done["acme"].clone();
    assert!(held.problem.as_deref().unwrap().contains("longer than 6 s"), "{held:?}");
    assert_eq!(databases.pools().statistics("acme").unwrap().checked_out, 0, "nothing works on");
    let done = waiting.finished().await.done["globex"].clone();
    assert!(done.success, "its time began with its turn: {done:?}");
}

async fn servers_that_do_not_answer_do_not_hold_up_the_others(store: Store) {
    let (url, sockets) = tenant_database(&unique("living"));
    let wire = Wire::to(&sockets);
    wire.becomes(Line::Held);
    let folder = wire.folder.path().to_owned();
    let running = Running::started_with(store, |settings| {
        settings.databases.sockets = vec![folder, sockets];
        settings.databases.watch = Duration::from_secs(1);
        settings.databases.shape.slow = Duration::from_millis(150);
    })
    .await;
    let client = connect(&url).await;
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    for number in 0..20 {
        give(&running, &format!("dead{number}"), &wire.url(&url)).await;
    }
    give(&running, "living", &url).await;
    let living = TenantId::new("living").unwrap();
    let databases = running.companion.databases();
    eventually(async || databases.state(&living).await.unwrap().calls.is_some()).await;
    client.execute("SELECT pg_sleep(0.2)", &[]).await.unwrap();
    let path = "/api/database/slow-queries/living";
    let told = async || -> Value { running.get(path, Some(&running.of_tenant("living"))).await.json() };
    eventually(async || told().await["slow_queries"].to_string().contains("pg_sleep")).await;
    let dead = databases.state(&TenantId::new("dead0").unwrap()).await.unwrap();
    assert!(dead.problem.is_some() && dead.calls.is_none(), "{dead:?}");
}

on_each_store![
    a_second_companion_leaves_alone_what_the_first_is_at,
    an_index_that_harms_goes_after_a_restart_too,
    a_server_that_is_away_for_long_is_waited_for,
    keys_that_are_changed_are_no_other_address,
    what_is_not_begun_stays_approved,
    who_waits_for_a_turn_does_not_work_yet,
    servers_that_do_not_answer_do_not_hold_up_the_others,
];
