//! Tokens against forged requests, with the keys that Envoy's environment holds.

use serde_json::json;

use crate::{
    stages::configurations,
    support::{client::Request, listeners::Listener},
};

/// The configurations that these tests are about.
pub fn listeners() -> Vec<Listener> {
    let config = json!({"rate_limit": {"mode": "off"}, "access": {"csrf": {"session_cookie": "sid"}}});
    vec![Listener::new("access-csrf", config)]
}

#[test]
fn a_token_that_was_handed_out_opens_and_no_other_does() {
    let listener = configurations().listener("access-csrf");
    let page = Request::get("/").header("cookie", "sid=alice").send(listener);
    let cookie = page.header("set-cookie").expect("a token");
    let token = cookie
        .strip_prefix("__Host-csrf=")
        .and_then(|rest| rest.split(';').next())
        .expect("its name")
        .to_owned();
    assert!(cookie.ends_with("; Path=/; Secure; SameSite=Strict; Max-Age=43200"), "{cookie}");
    let post = |session: &str, own: &str, sent: &str| {
        let request = Request::post("/transfer", "text/plain", "x");
        let request = request
            .header("cookie", format!("sid={session}; __Host-csrf={own}"))
            .header("x-csrf-token", sent);
        let answer = request.send(listener);
        (answer.status, answer.reason())
    };
    assert_eq!(post("alice", &token, &token), (200, None));
    let invalid = (403, Some("csrf-token-invalid".to_owned()));
    assert_eq!(post("mallory", &token, &token), invalid);
    assert_eq!(post("alice", "planted", "planted"), invalid);
    let mut other = token.clone();
    other.replace_range(other.len() - 1.., if token.ends_with('0') { "1" } else { "0" });
    assert_eq!(post("alice", &other, &other), invalid);
    let lasting =
        Request::get("/").header("cookie", format!("sid=alice; __Host-csrf={token}")).send(listener);
    assert_eq!(lasting.header("set-cookie"), None, "a token that lasts is not replaced");
}
