//! Who is kept out for a while, through a real Envoy: for attacks that sanitize has refused, and for looking for what is not
//! there. What is counted comes from several connections, so from several worker threads.

use std::time::Duration;

use serde_json::{Value, json};
use xtask::clock::Deadline;

use crate::{
    stages::configurations,
    support::{
        application::Answer,
        client::{Request, Response},
        fresh_id,
        listeners::Listener,
    },
};

/// How long the first ban for attacks lasts.
const FIRST: Duration = Duration::from_secs(4);
const STRIKES: usize = 3;
const NOTHING: &str = "/not-there";

/// The configuration that these tests are about.
pub fn listeners() -> Vec<Listener> {
    let ban = |name: &str, cause: (&str, Value), strikes: usize, first: Duration| {
        let mut ban = json!({"name": name, "per": ["tenant", "user"], "strikes": strikes, "window": "1m", "maximum": "1h"});
        ban["first"] = json!(format!("{}s", first.as_secs()));
        ban[cause.0] = cause.1;
        ban
    };
    let config = json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}]},
        "sanitize": {"mode": "enforce"},
        "rate_limit": {"rules": [], "bans": [
            ban("attackers", ("on_attacks", json!("refused")), STRIKES, FIRST),
            ban("probers", ("on_status", json!([404])), STRIKES, Duration::from_secs(3600)),
        ]}
    });
    vec![Listener::new("bans", config)]
}

/// A tenant of its own, with two users.
struct Users {
    tenant: String,
}

impl Users {
    fn new() -> Self {
        Self { tenant: fresh_id("bans") }
    }

    /// Sends over a connection of its own.
    fn send(&self, user: &str, request: Request) -> (Response, String) {
        let id = fresh_id("bans");
        let request = request.of(&self.tenant, &id).header("x-user-id", user);
        (request.send(configurations().listener("bans")), id)
    }

    /// An ordinary request.
    fn ask(&self, user: &str) -> (Response, String) {
        self.send(user, Request::get("/?q=O'Brien"))
    }

    /// Asks until it is answered with that status: a strike counts when its stream is over, a moment after its answer.
    fn ask_until(&self, user: &str, status: u16) -> (Response, String) {
        let found = Deadline::after(Duration::from_secs(15)).poll(|| {
            let asked = self.ask(user);
            (asked.0.status == status).then_some(asked)
        });
        found.unwrap_or_else(|| panic!("{user} is never answered {status}"))
    }
}

/// The same attack in places of three kinds.
fn attacks() -> [Request; STRIKES] {
    let sql = "1' UNION SELECT password FROM users -- ";
    [
        Request::get("/?q=1'+UNION+SELECT+password+FROM+users--+"),
        Request::post("/", "application/json", json!({ "q": sql }).to_string()),
        Request::get("/").header("cookie", format!("q={sql}")),
    ]
}

#[test]
fn attacks_ban_whoever_sends_them_and_for_so_long_alone() {
    let users = Users::new();
    for attack in attacks() {
        let (answer, _) = users.send("mallory", attack);
        assert_eq!((answer.status, answer.reason().as_deref()), (403, Some("sql-injection")));
    }
    let (banned, id) = users.ask_until("mallory", 429);
    let since = Deadline::after(Duration::MAX);
    assert_eq!(banned.reason().as_deref(), Some("banned"));
    let told: u64 = banned.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=FIRST.as_secs()).contains(&told), "{banned:?}");
    let shared = configurations();
    assert!(shared.application.seen(&id).is_none(), "it never arrives");
    let ours = &shared.capture.record(&id)["unmapped"]["portcullis"];
    assert_eq!(
        (&ours["event_type"], &ours["details"]["ban"]),
        (&json!("RATE_LIMIT_EXCEEDED"), &json!("attackers"))
    );
    // Another user of the same tenant, from the same address, is not kept out.
    assert_eq!(users.ask("alice").0.status, 200);
    users.ask_until("mallory", 200);
    assert!(
        since.elapsed() + Duration::from_secs(1) >= Duration::from_secs(told),
        "after {:?}",
        since.elapsed()
    );
}

#[test]
fn fewer_attacks_and_what_resembles_them_do_not_ban() {
    let users = Users::new();
    for attack in attacks().into_iter().take(STRIKES - 1) {
        assert_eq!(users.send("alice", attack).0.status, 403);
    }
    for _ in 0..4 * STRIKES {
        assert_eq!(users.ask("alice").0.status, 200);
    }
}

#[test]
fn looking_for_what_is_not_there_bans() {
    configurations().application.on(NOTHING, Answer::new(404, "nothing"));
    let users = Users::new();
    for number in 0..STRIKES {
        // Whoever finds most of what he looks for is no prober.
        assert_eq!(users.ask("mallory").0.status, 200);
        assert_eq!(users.send("mallory", Request::get(format!("{NOTHING}?n={number}"))).0.status, 404);
    }
    let (banned, id) = users.ask_until("mallory", 429);
    assert_eq!(banned.reason().as_deref(), Some("banned"));
    let ours = &configurations().capture.record(&id)["unmapped"]["portcullis"];
    assert_eq!(ours["details"]["ban"], "probers");
    assert_eq!(users.send("alice", Request::get(NOTHING)).0.status, 404);
    assert_eq!(users.ask("alice").0.status, 200);
}
