//! Strict delivery through a real Envoy and a real companion: what reached the application is in the trail, whoever was
//! killed, and when.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use xtask::{
    clock::Deadline,
    stack::{ModuleConfig, Piece, Upstream},
};

use crate::support::{
    api::{Api, is_about},
    application::Application,
    client::{Connection, Request},
    fresh_id,
    stage::{Stage, layout},
};

const SOON: Duration = Duration::from_secs(10);
const TENANT: &str = "strict";

/// The demonstration's configuration without limits, and with a strict route.
fn config() -> String {
    let text = std::fs::read(layout().demonstration_config()).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["rate_limit"] = json!({"mode": "off"});
    config["routes"] =
        json!([{"name": "payments", "match": {"path_prefix": "/pay"}, "audit": {"delivery": "strict"}}]);
    config.to_string()
}

fn start(name: &str, application: &Application) -> Stage {
    let upstream = application.host_port();
    Stage::start(name, |options| {
        options.upstream = Upstream::At(upstream);
        options.config = ModuleConfig::Text(config());
    })
}

#[test]
fn a_strict_route_serves_while_its_intents_are_stored_and_refuses_otherwise() {
    let application = Application::start();
    let mut stage = start("strict", &application);
    let pay = |stage: &Stage| {
        let id = fresh_id("pay");
        let answer = stage.send(&Request::post("/pay", "text/plain", "amount=1").of(TENANT, &id));
        (id, answer)
    };
    let (id, answer) = pay(&stage);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let events = Api::admin(&stage.stack).wait_for(TENANT, 2, SOON, is_about(&id));
    let types: BTreeSet<&str> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["REQUEST", "REQUEST_INTENT"].into());
    assert_eq!(application.seen(&id).unwrap().body, b"amount=1");

    stage.stack.kill(Piece::Companion).unwrap();
    let (id, answer) = pay(&stage);
    assert_eq!((answer.status, answer.reason().as_deref()), (503, Some("audit-unavailable")));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    assert!(application.seen(&id).is_none());
    let other = fresh_id("shop");
    assert_eq!(stage.send(&Request::get("/").of(TENANT, &other)).status, 200, "other routes serve");

    stage.stack.start_piece(Piece::Companion).unwrap();
    let again = Deadline::after(SOON).poll(|| (pay(&stage).1.status == 200).then_some(()));
    assert!(again.is_some(), "it is there again, and nobody has noticed");
    // The refusal is told of, in the other lane.
    let refused = Api::admin(&stage.stack)
        .wait_for(TENANT, 1, SOON, |event| is_about(&id)(event) && event["event_type"] == "REQUEST");
    assert_eq!(refused[0]["details"]["reason"], "audit-unavailable");
}

/// Clients that pay without a pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<[AtomicUsize; 2]>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(envoy: SocketAddr, clients: usize) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicUsize; 2]>::default());
        let clients = (0..clients).map(|_| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Envoy may be dead: then there is no connection.
                    let Ok(mut connection) = Connection::try_open(envoy) else {
                        thread::sleep(Duration::from_millis(20));
                        continue;
                    };
                    while !stop.load(Ordering::Relaxed) {
                        let request = Request::get("/pay").of(TENANT, &fresh_id("load"));
                        let Ok(answer) = connection.exchange(&request) else { break };
                        answers[usize::from(answer.status != 200)].fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        Self { clients: clients.collect(), stop, answers }
    }

    fn served(&self) -> usize {
        self.answers[0].load(Ordering::Relaxed)
    }

    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        (self.answers[0].load(Ordering::Relaxed), self.answers[1].load(Ordering::Relaxed))
    }
}

/// How often somebody is killed; with `PORTCULLIS_SOAK` at so many percent of what is claimed.
fn kills() -> usize {
    let percent = std::env::var("PORTCULLIS_SOAK").ok().map(|percent| percent.parse::<usize>().unwrap());
    percent.map_or(6, |percent| (10 * percent).max(6))
}

#[test]
fn whoever_is_killed_what_reached_the_application_is_in_the_trail() {
    let application = Application::start();
    let mut stage = start("strict-kills", &application);
    let load = Load::start(stage.envoy(), 4);
    let mut reached = BTreeSet::new();
    for kill in 0..kills() {
        let before = load.served();
        let serves =
            Deadline::after(Duration::from_secs(30)).poll(|| (load.served() >= before + 20).then_some(()));
        assert!(serves.is_some(), "no service again after kill {kill}");
        // In the middle of things, at another moment each time.
        thread::sleep(Duration::from_millis((kill as u64 * 37) % 100));
        let piece = if kill % 2 == 0 { Piece::Companion } else { Piece::Envoy };
        stage.stack.kill(piece).unwrap();
        stage.stack.start_piece(piece).unwrap();
        reached.extend(application.take_seen().iter().filter_map(id));
    }
    let (served, refused) = load.end();
    reached.extend(application.take_seen().iter().filter_map(id));
    assert!(reached.len() >= served, "{} reached the application, {served} were answered", reached.len());
    let api = Api::admin(&stage.stack);
    let mut missing = BTreeSet::new();
    // An event is readable soon, not at once.
    Deadline::after(SOON).poll(|| {
        let intents = api.all_of_type(TENANT, "REQUEST_INTENT");
        missing = reached.difference(&intents).cloned().collect();
        missing.is_empty().then_some(())
    });
    eprintln!(
        "strict delivery: {} kills, {} requests reached the application, {refused} were refused, {} have no intent",
        kills(),
        reached.len(),
        missing.len()
    );
    assert!(missing.is_empty(), "not in the trail: {missing:?}");
}

fn id(request: &crate::support::message::Message) -> Option<String> {
    request.header("x-request-id").map(|id| String::from_utf8_lossy(id).into_owned())
}
