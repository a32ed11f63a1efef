//! `on_error: local_share` with `LIMITS_SHARE`: what proxies spend without tokens is not given to programs as well.

use std::{cell::Cell, net::SocketAddr, time::Duration};

use serde_json::json;
use xtask::{clock::Deadline, stack::Piece};

use super::{
    envoy, rules,
    storm::{Tally, arrived, most, storm},
};
use crate::support::{
    api::Api,
    application::Application,
    stage::{Stage, folder},
};

const TENANT: &str = "sharing";
/// Of everybody's API calls.
const LIMIT: u32 = 100;
const WINDOW: Duration = Duration::from_secs(60);

#[test]
fn what_needs_no_tokens_is_not_given_twice() {
    let application = Application::start();
    let mut companion = Stage::start("share-companion", |options| {
        options.pieces = vec![Piece::Companion];
        options.companion_variables.push(("LIMITS_SHARE".to_owned(), "10%".to_owned()));
    });
    // What everybody has, of API calls alone: a tenth of five logins cannot be shared out.
    let rule = json!({"name": "api_call", "action": "api_call", "per": ["tenant"], "limit": LIMIT, "window": "1m",
        "policy": "api_calls_per_minute"});
    let config = rules(
        &json!({"scope": "global", "on_error": "local_share", "share": "10%", "proxies": 2, "rules": [rule]}),
    );
    let (trusted, ingest) = (folder("share-companion"), companion.stack.options().ports.ingest);
    let proxy = |number: usize| {
        envoy(&format!("share-{number}"), &trusted, &application, ingest, &config, Vec::new())
    };
    let proxies = [proxy(0), proxy(1)];
    let to: Vec<SocketAddr> = proxies.iter().map(Stage::envoy).collect();

    // Programs ask the companion while both proxies serve.
    let api = Api::admin(&companion.stack);
    let added = api.send("PUT", &format!("/api/tenants/{TENANT}"), "{}");
    assert!(matches!(added.status, 200 | 201), "{}", added.text());
    let question = json!({"tenant": TENANT, "user": "alice", "action": "api_call"}).to_string();
    let checked = Cell::new(0);
    let whole = Deadline::after(Duration::MAX);
    let tally = storm(&to, TENANT, Duration::from_secs(4), || {
        for _ in 0..40 {
            let verdict = api.send("POST", "/api/security/rate-limit/check", &question).json();
            checked.set(checked.get() + u32::from(verdict["allowed"] == true));
        }
    });
    let most = most(LIMIT, WINDOW, whole.elapsed());
    let tally = Tally { admitted: arrived(&application, TENANT) + checked.get(), most, ..tally };
    println!("{} of them were checks", checked.get());
    assert_eq!(tally.unleased, 0, "somebody waited for tokens: {tally:?}");
    tally.keeps("two proxies with a share each, and a program", 15.0);
    assert!(tally.admitted > checked.get() && checked.get() > 0, "one side had all: {tally:?}");

    // Without the companion each proxy has its part of the tenth, and no more; nobody waits.
    companion.stack.kill(Piece::Companion).unwrap();
    let (before, alone) = (Deadline::after(Duration::MAX), "share-alone");
    let tally = storm(&to, alone, Duration::from_secs(3), || {});
    let most = super::storm::most(LIMIT / 10, WINDOW, before.elapsed());
    let tally = Tally { admitted: arrived(&application, alone), most, ..tally };
    println!("without the companion: {tally:?}");
    // What comes back is rounded at each of the two.
    assert!((2..=most + 1).contains(&tally.admitted) && tally.unleased == 0, "{tally:?}");
}
