//! How the companion says that it fares.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Running, Store, on_each_store, record};

const OF_ADMIN: [&str; 8] = [
    "/health/detailed",
    "/monitoring/health/detailed",
    "/monitoring/status",
    "/monitoring/database/status",
    "/monitoring/metrics",
    "/monitoring/performance/summary",
    "/performance",
    "/security",
];

async fn ask(running: &Running, path: &str) -> Value {
    let answer = running.get(path, Some(&running.admin())).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    assert!(answer.header("content-type").unwrap().starts_with("application/json"), "{path}");
    let body = answer.json();
    assert_eq!(body["timestamp"], "2026-03-01T12:00:30.000Z", "{path}");
    body
}

async fn figures_are_for_administrators_and_health_for_all_who_have_a_token(store: Store) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    let of_tenant = running.of_tenant("acme");
    for path in OF_ADMIN {
        assert_eq!(running.get(path, None).await.status, 401, "{path}");
        assert_eq!(running.get(path, Some(&of_tenant)).await.status, 403, "{path}");
        ask(&running, path).await;
    }
    let health = running.get("/monitoring/health", Some(&of_tenant)).await;
    assert_eq!((health.status, &health.json()["status"]), (200, &"healthy".into()));
    assert_eq!(running.get("/monitoring/health", None).await.status, 401);
}

async fn the_machine_and_the_store_have_figures(store: Store) {
    let running = Running::start(store, false).await;
    let status = ask(&running, "/monitoring/status").await;
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {status}"));
    assert!(number(&status["memory"]["used_percent"]) > 0.0 && number(&status["disk"]["total_bytes"]) > 0.0);
    assert!(number(&status["cpu"]["processors"]) >= 1.0 && number(&status["memory"]["process_bytes"]) > 0.0);
    let database = ask(&running, "/monitoring/database/status").await;
    let kind = if store == Store::Sqlite { "sqlite" } else { "postgresql" };
    assert_eq!((&database["status"], &database["store"]["kind"]), (&"healthy".into(), &kind.into()));
    assert!(database["store"]["probe_ms"].as_f64().unwrap() > 0.0);
}

async fn slow_responses_and_errors_are_told_and_cost_points(store: Store) {
    let running = Running::start(store, true).await;
    let before = ask(&running, "/performance").await;
    assert_eq!((&before["status"], &before["responses"]["average_ms"]), (&"no_traffic".into(), &Value::Null));
    let part = |summary: &Value, name: &str| -> Value {
        let parts = summary["parts"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).unwrap().clone()
    };
    let best = ask(&running, "/monitoring/performance/summary").await;
    assert_eq!(part(&best, "responses")["score"], 100.0);
    assert_eq!(part(&best, "responses")["fix"], Value::Null);
    let weights: u64 =
        best["parts"].as_array().unwrap().iter().map(|part| part["weight"].as_u64().unwrap()).sum();
    assert_eq!(weights, 100);

    // 100 ms on average, then 300 ms.
    for (from, duration, status, code) in [(1, 100, "within_goal", 200), (11, 500, "too_slow", 503)] {
        let records: Vec<Value> = (from..from + 10)
            .map(|sequence| {
                let mut record = record("acme", sequence, "REQUEST", "INFO");
                record["duration"] = duration.into();
                record["http_response"]["code"] = code.into();
                record
            })
            .collect();
        assert_eq!(running.ingest(&records).await.status, 200);
        assert_eq!(running.events("acme", "").await.len(), usize::try_from(from + 9).unwrap());
        let told = ask(&running, "/performance").await;
        assert_eq!(told["status"], status, "{told}");
    }
    let told = ask(&running, "/performance").await["responses"].clone();
    assert_eq!(
        (&told["count"], &told["failed"], &told["average_ms"]),
        (&20.into(), &10.into(), &300.0.into())
    );
    let worse = ask(&running, "/monitoring/performance/summary").await;
    assert_eq!(part(&worse, "responses")["score"], 87.5, "{worse}");
    assert_eq!(part(&worse, "errors")["score"], 0.0, "half of them failed");
    assert!(part(&worse, "errors")["fix"].as_str().unwrap().contains("ERROR"));
    assert!(worse["score"].as_f64().unwrap() < best["score"].as_f64().unwrap());
}

async fn all_tenants_are_seen_at_a_glance(store: Store) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    running.add_tenant("globex").await;
    let records = [
        record("acme", 1, "ATTACK_BLOCKED", "WARNING"),
        record("globex", 2, "REQUEST", "INFO"),
        record("globex", 3, "REQUEST", "ERROR"),
        record("stranger", 4, "ATTACK_BLOCKED", "WARNING"),
    ];
    assert_eq!(running.ingest(&records).await.status, 200);
    let told = ask(&running, "/security").await;
    let totals = &told["totals"];
    assert_eq!((&totals["events"], &totals["attacks_blocked"]), (&3.into(), &1.into()), "{told}");
    assert_eq!((&totals["warning_events"], &totals["error_events"]), (&1.into(), &1.into()));
    let names: Vec<&Value> =
        told["tenants"].as_array().unwrap().iter().map(|row| &row["tenant_id"]).collect();
    assert_eq!(names, ["globex", "acme"], "failures first; who is not registered is not told");
    assert_eq!(told["event_types"]["REQUEST"], 2);
    let figures = ask(&running, "/monitoring/metrics").await;
    assert_eq!(figures["records"]["stored"], 4);
    assert_eq!(figures["events"]["ATTACK_BLOCKED"]["WARNING"], 2);
    running.clock.advance(Duration::from_secs(25 * 3600));
    let later = running.get("/security", Some(&running.admin())).await.json();
    assert_eq!(later["totals"]["events"], 0, "{later}");
}

/// Every name of a series in `text`.
fn series(text: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(word).filter(|name| name.starts_with("portcullis_")).collect()
}

async fn rules_and_dashboard_name_what_there_is(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let outside = crate::pgbouncer::outside_in(folder.path());
    let running = Running::started_with(store, |settings| settings.bouncer = Some(outside)).await;
    let told = running.get("/metrics", Some(&running.admin())).await.body;
    let told: BTreeSet<&str> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let rules = include_str!("../../../monitoring/alerts.yaml");
    let parsed: Value = serde_yaml_ng::from_str(rules).unwrap();
    for rule in parsed["groups"][0]["rules"].as_array().unwrap() {
        let action = rule["annotations"]["action"].as_str();
        assert!(action.is_some_and(|action| action.ends_with('.')), "what to do: {rule}");
    }
    let dashboard = include_str!("../../../monitoring/grafana.json");
    assert!(serde_json::from_str::<Value>(dashboard).unwrap()["panels"].as_array().unwrap().len() >= 10);
    for name in series(rules).union(&series(dashboard)) {
        let base = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(told.contains(base), "{name}: there is no such series");
    }
}

on_each_store![
    rules_and_dashboard_name_what_there_is,
    figures_are_for_administrators_and_health_for_all_who_have_a_token,
    the_machine_and_the_store_have_figures,
    slow_responses_and_errors_are_told_and_cost_points,
    all_tenants_are_seen_at_a_glance,
];
