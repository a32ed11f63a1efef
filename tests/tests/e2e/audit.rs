//! The trail of audit records to a real companion: everything once, whatever dies meanwhile, and no secret in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use xtask::{
    clock::Deadline,
    stack::{ModuleConfig, Piece, Upstream},
};

use crate::{
    stages::demonstration,
    support::{
        api::{Api, is_about},
        application::{Answer, Application},
        client::{Connection, Request},
        fresh_id,
        stage::{Stage, layout},
        statistics::{counters, wait_for_counters},
    },
};

const SOON: Duration = Duration::from_secs(2);
/// For what has to wait for a repetition, which comes after up to five seconds.
const LATER: Duration = Duration::from_secs(20);

/// The demonstration's configuration without limits, and with another `audit` section.
fn unlimited(audit: Value) -> String {
    let text = fs::read(layout().demonstration_config()).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["rate_limit"] = json!({"mode": "off"});
    config["audit"] = audit;
    config.to_string()
}

/// How often each correlation ID stands in a tenant's events.
fn told(api: &Api<'_>, tenant: &str) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for event in api.events(tenant) {
        *told
            .entry(event["details"]["correlation_id"].as_str().unwrap_or_default().to_owned())
            .or_default() += 1;
    }
    told
}

/// Waits until each of these has an event, and checks that each has one.
fn assert_once_each(api: &Api<'_>, tenant: &str, ids: &[String]) {
    let mut last = BTreeMap::new();
    let all = Deadline::after(LATER).poll(|| {
        last = told(api, tenant);
        ids.iter().all(|id| last.contains_key(id)).then_some(())
    });
    let missing: Vec<_> = ids.iter().filter(|id| !last.contains_key(*id)).collect();
    assert!(all.is_some(), "{} of {} have no event: {missing:?}", missing.len(), ids.len());
    let wanted: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    for (id, count) in &last {
        assert!(*count == 1 && wanted.contains(id.as_str()), "{count} events of {id}");
    }
}

#[test]
fn an_event_is_readable_within_two_seconds() {
    let shared = demonstration();
    let api = Api::of_tenant(&shared.stage.stack, "audit-soon");
    let cases = [
        (Request::get("/soon?page=2"), 200, "REQUEST", "INFO"),
        (Request::get("/?q=1'+UNION+SELECT+password+FROM+users--"), 403, "ATTACK_BLOCKED", "WARNING"),
        (Request::get("/soon/failed"), 500, "REQUEST", "ERROR"),
    ];
    shared.application.on("/soon/failed", Answer::new(500, "no"));
    for (request, status, event_type, severity) in cases {
        let id = fresh_id("soon");
        let request =
            request.of("audit-soon", &id).header("x-user-id", "alice").header("user-agent", "e2e/1");
        assert_eq!(shared.stage.send(&request).status, status);
        let events = api.wait_for("audit-soon", 1, SOON, is_about(&id));
        assert_eq!(events.len(), 1, "{event_type} is not readable within {SOON:?}");
        let event = &events[0];
        assert_eq!(
            (&event["event_type"], &event["severity"]),
            (&json!(event_type), &json!(severity)),
            "{event}"
        );
        assert_eq!((&event["user_id"], &event["ip_address"]), (&json!("alice"), &json!("127.0.0.1")));
        let details = &event["details"];
        assert_eq!(
            (&details["status"], &details["method"], &details["host"]),
            (&json!(status), &json!("GET"), &json!("app.test"))
        );
        assert_eq!(details["user_agent"], "e2e/1");
        assert!(details["durations_us"]["total"].as_u64().is_some(), "{event}");
    }
    let metrics = api.get("/api/security/metrics/audit-soon").json();
    assert_eq!(metrics["metrics"]["total_events_24h"], 3, "{metrics}");
    assert_eq!(
        (&metrics["metrics"]["warning_events"], &metrics["metrics"]["error_events"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn every_request_leaves_exactly_one_event() {
    let shared = demonstration();
    let api = Api::admin(&shared.stage.stack);
    let tenant = "audit-once";
    shared.application.on("/missing", Answer::new(404, "no"));
    let mut ids = Vec::new();
    // More than the limit of a minute: refused ones are told of too.
    let mut connections: Vec<_> = (0..8).map(|_| Connection::open(shared.stage.envoy())).collect();
    for n in 0..130 {
        let id = fresh_id("once");
        let request = match n % 6 {
            0 => Request::get("/"),
            1 => Request::get("/?q=<script>alert(1)</script>"),
            2 => Request::post("/login", "application/json", r#"{"name": "alice"}"#),
            3 => Request::get("/missing"),
            4 => Request::new("HEAD", "/"),
            _ => Request::post("/", "application/x-www-form-urlencoded", "q=%27+OR+1%3D1--"),
        };
        let at = n % connections.len();
        let answer = connections[at].exchange(&request.of(tenant, &id)).unwrap();
        assert!(answer.status < 500, "{answer:?}");
        assert_eq!(answer.id(), id);
        ids.push(id);
    }
    assert_once_each(&api, tenant, &ids);
    let types: BTreeSet<String> =
        api.events(tenant).iter().map(|event| event["event_type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, ["ATTACK_BLOCKED", "RATE_LIMIT_EXCEEDED", "REQUEST"].map(str::to_owned).into());
}

#[test]
fn while_the_companion_is_away_traffic_flows_and_its_records_arrive_once() {
    let application = Application::start();
    let upstream = application.host_port();
    let mut stage = Stage::start("outage", |options| {
        options.upstream = Upstream::At(upstream);
        options.config = ModuleConfig::Text(unlimited(json!({"retry_max": "1s"})));
    });
    let tenant = "outage";
    let mut ids = Vec::new();
    let send = |stage: &Stage, count: usize, ids: &mut Vec<String>| {
        for _ in 0..count {
            let id = fresh_id("outage");
            assert_eq!(stage.send(&Request::get("/").of(tenant, &id)).status, 200);
            ids.push(id);
        }
    };
    // Killed in the middle of things: what was on its way may have been stored or not.
    for _ in 0..3 {
        send(&stage, 40, &mut ids);
        let before = counters(stage.stack.admin())["portcullis_audit_retries_total"];
        stage.stack.kill(Piece::Companion).unwrap();
        send(&stage, 40, &mut ids);
        wait_for_counters(stage.stack.admin(), "deliveries fail", |counters| {
            counters["portcullis_audit_retries_total"] > before
        });
        stage.stack.start_piece(Piece::Companion).unwrap();
        send(&stage, 40, &mut ids);
    }
    let api = Api::admin(&stage.stack);
    assert_once_each(&api, tenant, &ids);
    assert_eq!(api.events("public"), Vec::<Value>::new(), "nothing was lost, so no gap is told");
    assert_eq!(counters(stage.stack.admin())["portcullis_audit_dropped_total"], 0);
}

#[test]
fn what_has_no_room_is_counted() {
    const SENT: usize = 400;
    let application = Application::start();
    let upstream = application.host_port();
    let mut stage = Stage::start("overflow", |options| {
        options.upstream = Upstream::At(upstream);
        options.concurrency = 1;
        let audit = json!({"queue_max_bytes": 65536, "batch_max_bytes": 16384, "retry_max": "1s"});
        options.config = ModuleConfig::Text(unlimited(audit));
    });
    stage.stack.kill(Piece::Companion).unwrap();
    let mut connection = Connection::open(stage.envoy());
    for _ in 0..SENT {
        let request = Request::get("/").of("overflow", &fresh_id("overflow"));
        assert_eq!(connection.exchange(&request).unwrap().status, 200);
    }
    stage.stack.start_piece(Piece::Companion).unwrap();
    let api = Api::admin(&stage.stack);
    let mut last = (0, 0);
    let complete = Deadline::after(LATER).poll(|| {
        last = (api.events("overflow").len(), missing(&api, "overflow"));
        (last.0 + last.1 == SENT).then_some(())
    });
    let (arrived, missing) = last;
    assert!(complete.is_some(), "{arrived} arrived, {missing} are told to be missing, {SENT} were sent");
    assert!(
        arrived >= 30 && missing > 0,
        "{arrived} arrived, {missing} missing: the queue has no such bound"
    );
    wait_for_counters(stage.stack.admin(), "drops are counted", |counters| {
        counters.get("portcullis_audit_dropped_total") == Some(&u64::try_from(missing).unwrap())
    });
}

/// How many records are missing for a cause, as all gap events together say.
fn missing(api: &Api<'_>, cause: &str) -> usize {
    let events = api.events("public");
    let gaps = events
        .iter()
        .filter(|event| event["event_type"] == "AUDIT_GAP" && event["details"]["cause"] == cause);
    gaps.map(|gap| usize::try_from(gap["details"]["missing"].as_u64().unwrap()).unwrap()).sum()
}

#[test]
fn a_virtual_machine_that_dies_is_replaced_and_its_records_are_accounted_for() {
    let application = Application::start();
    let upstream = application.host_port();
    let stage = Stage::start("panic", |options| {
        options.upstream = Upstream::At(upstream);
        options.concurrency = 1;
        options.config = ModuleConfig::Text(unlimited(json!({})));
        options.module = Some(options.layout.panic_module().unwrap());
    });
    let api = Api::admin(&stage.stack);
    let mut passed = 0;
    let mut send = |panics: bool| {
        let request = Request::get("/").of("panic", &fresh_id("panic"));
        let request = if panics { request.header("x-portcullis-panic", "1") } else { request };
        let answer = stage.send(&request);
        passed += usize::from(answer.status == 200);
        answer
    };
    for round in 1..=2 {
        for _ in 0..25 {
            assert_eq!(send(false).status, 200);
        }
        let fatal = send(true);
        assert_eq!(fatal.status, 503, "{fatal:?}");
        assert_eq!(fatal.header("x-frame-options").as_deref(), Some("DENY"), "{fatal:?}");
        let dead = Deadline::after(SOON);
        let alive = dead.poll(|| (send(false).status == 200).then_some(()));
        assert!(alive.is_some(), "no service again within {SOON:?}, in round {round}");
    }
    // The two requests that killed their machine were begun, and left no record either.
    let begun = passed + 2;
    let mut last = (0, 0);
    let complete = Deadline::after(LATER).poll(|| {
        last = (api.events("panic").len(), missing(&api, "vm-died"));
        (last.0 + last.1 == begun && last.1 >= 2).then_some(())
    });
    let (arrived, missing) = last;
    assert!(complete.is_some(), "{arrived} arrived, {missing} are told to be missing, {begun} were begun");
    let gap = api.events("public").into_iter().find(|event| event["event_type"] == "AUDIT_GAP").unwrap();
    assert_eq!(gap["severity"], "ERROR");
    assert_eq!(gap["details"]["lost_epoch"].as_str().map(str::len), Some(16), "{gap}");
}

#[test]
fn no_secret_is_stored_or_logged() {
    let shared = demonstration();
    let api = Api::admin(&shared.stage.stack);
    let tenant = "audit-secrets";
    let secret = |n: u32| format!("S3cr3t-{n}-Qx7ZpLw9");
    let plain = "Ordinary-Qx7ZpLw9";
    let bearer = format!("Bearer {}", secret(1));
    let basic = format!("Basic {}", secret(2));
    let cookie = format!("session={}; theme=dark", secret(3));
    let attack = format!("session={}' UNION SELECT password FROM users--", secret(4));
    let form = format!("name=alice&password={}", secret(5));
    let json = format!(r#"{{"password": "{}", "token": "{}"}}"#, secret(6), secret(7));
    let evil = format!("password={}%27+UNION+SELECT+password+FROM+users--", secret(8));
    let named = |name: &str, n: u32| format!("{name}={}", secret(n));
    let query =
        [named("password", 9), named("token", 10), named("api_key", 11), named("access_token", 12)].join("&");
    let requests = [
        Request::get(format!("/?seen={plain}")).header("authorization", &bearer).header("cookie", &cookie),
        Request::get("/").header("proxy-authorization", &basic).header("x-api-key", secret(13)),
        Request::get("/").header("cookie", &attack),
        Request::get(format!("/?{query}&page=2")),
        Request::get(format!("/?passw%6frd={}", secret(14))),
        Request::get(format!("/?password={}'+UNION+SELECT+password+FROM+users--", secret(15))),
        Request::post("/", "application/x-www-form-urlencoded", form),
        Request::post("/", "application/json", json),
        Request::post("/", "application/x-www-form-urlencoded", evil),
        Request::get("/cookies"),
    ];
    shared
        .application
        .on("/cookies", Answer::default().header("set-cookie", format!("session={}", secret(16))));
    let mut ids = Vec::new();
    for request in requests {
        let id = fresh_id("secret");
        assert!(matches!(shared.stage.send(&request.of(tenant, &id)).status, 200 | 403));
        ids.push(id);
    }
    assert_once_each(&api, tenant, &ids);
    let folder = &shared.stage.stack.options().data_dir;
    let mut files = Vec::new();
    collect(folder, &mut files);
    let holding = |text: &str| -> Vec<String> {
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        let found = files.iter().filter(|file| fs::read(file).is_ok_and(|bytes| holds(&bytes)));
        found.map(|file| file.display().to_string()).collect()
    };
    assert!(
        holding(plain).iter().any(|file| file.contains("companion.db")),
        "the search finds what is there"
    );
    for n in 1..=16 {
        assert_eq!(holding(&secret(n)), Vec::<String>::new(), "secret {n}");
    }
    // Nor the key and token of the installation itself, outside their own files.
    let secrets = shared.stage.stack.secrets();
    for (name, own) in [("secret-key", &secrets.secret_key), ("ingest-token", &secrets.ingest_token)] {
        let found = holding(own.reveal());
        assert!(found.len() == 1 && found[0].ends_with(name), "{name} stands in {found:?}");
    }
    let dump = Request::get("/config_dump").send(shared.stage.stack.admin()).text();
    assert!(dump.contains("PORTCULLIS_INGEST_TOKEN") && !dump.contains(secrets.ingest_token.reveal()));
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

#[test]
fn all_policies_are_counted_in_envoys_statistics() {
    let shared = demonstration();
    let api = Api::admin(&shared.stage.stack);
    let tenant = "audit-metrics";
    let mut ids = Vec::new();
    let mut send = |request: Request| {
        let id = fresh_id("metrics");
        let status = shared.stage.send(&request.of(tenant, &id)).status;
        ids.push(id);
        status
    };
    assert_eq!(send(Request::get("/?q=1'+UNION+SELECT+password+FROM+users--")), 403);
    for _ in 0..5 {
        send(Request::post("/login", "text/plain", "x"));
    }
    assert_eq!(send(Request::post("/login", "text/plain", "x")), 429);
    assert_once_each(&api, tenant, &ids);
    wait_for_counters(shared.stage.stack.admin(), "each policy has counted", |counters| {
        let counted =
            |prefix: &str| counters.iter().any(|(name, count)| name.starts_with(prefix) && *count > 0);
        ["portcullis_headers_", "portcullis_sanitize_", "portcullis_rate_limit_", "portcullis_audit_"]
            .iter()
            .all(|p| counted(p))
            && counters["portcullis_requests_total"] >= 7
            && counters["portcullis_refused_total"] >= 2
            && counters["portcullis_audit_delivered_total"] >= 7
    });
}

#[test]
fn records_are_taken_from_the_module_alone() {
    let shared = demonstration();
    let stack = &shared.stage.stack;
    let record = json!({"class_uid": 4002}).to_string();
    let post = || Request::post("/v1/ingest", "application/x-ndjson", record.clone());
    assert_eq!(post().send(stack.ingest()).status, 401);
    for wrong in ["", "wrong", &stack.token(None).unwrap()] {
        assert_eq!(
            post().header("authorization", format!("Bearer {wrong}")).send(stack.ingest()).status,
            401
        );
    }
    let token = format!("Bearer {}", stack.secrets().ingest_token.reveal());
    assert_eq!(post().header("authorization", &token).send(stack.ingest()).status, 200);
    // Neither listener does the other's work.
    assert_eq!(
        Request::get("/api/security/status").header("authorization", &token).send(stack.ingest()).status,
        404
    );
    assert!(matches!(post().header("authorization", &token).send(stack.companion()).status, 401 | 404 | 405));
}

#[test]
fn a_token_opens_what_it_says_and_no_more() {
    let shared = demonstration();
    let stack = &shared.stage.stack;
    let id = fresh_id("scope");
    assert_eq!(shared.stage.send(&Request::get("/").of("audit-scope", &id)).status, 200);
    let own = Api::of_tenant(stack, "audit-scope");
    assert_eq!(own.wait_for("audit-scope", 1, SOON, is_about(&id)).len(), 1);
    for path in ["/api/security/events", "/api/security/metrics"] {
        assert_eq!(own.get(&format!("{path}/audit-scope")).status, 200);
        assert_eq!(own.get(&format!("{path}/public")).status, 403);
        assert_eq!(own.get(&format!("{path}/nobody")).status, 403, "whether a tenant exists is not told");
        assert_eq!(Api::admin(stack).get(&format!("{path}/nobody")).status, 404);
        assert_eq!(Request::get(format!("{path}/audit-scope")).send(stack.companion()).status, 401);
        let forged = Request::get(format!("{path}/audit-scope")).header("authorization", "Bearer x.y.z");
        assert_eq!(forged.send(stack.companion()).status, 401);
    }
    for open in ["/monitoring/liveness", "/monitoring/readiness"] {
        assert_eq!(Request::get(open).send(stack.companion()).status, 200);
    }
    for closed in ["/metrics", "/api/security/status"] {
        assert_eq!(Request::get(closed).send(stack.companion()).status, 401);
    }
}
