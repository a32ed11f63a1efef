//! Which headers every answer carries, whoever made it.

use std::io::Read;

use serde_json::json;

use crate::{
    stages::{NOWHERE, configurations, demonstration},
    support::{
        application::Answer,
        client::{Connection, Request, Response},
        fresh_id,
        listeners::Listener,
        message::Unframed,
    },
};

/// What pages and the configuration have in common.
const PLACEHOLDER: &str = "f3b1c2d4a5968778695a4b3c";

/// The configurations that these tests are about.
pub fn listeners() -> Vec<Listener> {
    let mut routes = Listener::new("headers-routes", json!({"rate_limit": {"mode": "off"}}));
    routes.virtual_hosts = Some(json!([{
        "name": "application", "domains": ["*"],
        "routes": [
            {"match": {"prefix": "/here"}, "route": {"cluster": "upstream"}},
            {"match": {"prefix": "/away"}, "route": {"cluster": NOWHERE}},
            {"match": {"prefix": "/moved"}, "redirect": {"path_redirect": "/here"}},
        ]
    }]));
    let web = json!({"headers": {"profile": "web"}, "rate_limit": {"mode": "off"}});
    let nonce =
        json!({"headers": {"profile": "strict", "nonce": PLACEHOLDER}, "rate_limit": {"mode": "off"}});
    vec![routes, Listener::new("headers-web", web), Listener::new("headers-nonce", nonce)]
}

/// The set that was asked for, to the letter where it is given in full.
fn assert_required(answer: &Response, what: &str) {
    let exact = [
        ("x-xss-protection", "1; mode=block"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    let begins = [
        (
            "content-security-policy",
            "default-src 'self'; script-src 'self' 'unsafe-inline' https://js.stripe.com; ",
        ),
        ("permissions-policy", "geolocation=(), microphone=(), camera=(), payment=(self), "),
    ];
    for (name, value) in exact {
        let all: Vec<_> = answer.message.all(name).collect();
        assert_eq!(all, [value.as_bytes()], "{what}: {name} in {answer:?}");
    }
    for (name, start) in begins {
        let all: Vec<_> = answer.message.all(name).collect();
        assert!(all.len() == 1 && all[0].starts_with(start.as_bytes()), "{what}: {name} in {answer:?}");
    }
    assert!(answer.id().len() >= 8, "{what}: {answer:?}");
    assert_eq!(answer.message.all("x-request-id").count(), 1, "{what}: {answer:?}");
}

/// Seconds with six digits.
fn assert_process_time(answer: &Response, what: &str) {
    let time =
        answer.header("x-process-time").unwrap_or_else(|| panic!("{what}: no x-process-time: {answer:?}"));
    let (whole, part) = time.split_once('.').unwrap_or((&time, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    assert!(digits(whole) && digits(part) && part.len() == 6, "{what}: {time}");
    assert!(time.parse::<f64>().unwrap() < 60.0, "{what}: {time}");
}

#[test]
fn the_applications_answers_carry_the_set_and_tell_nothing_of_the_stack() {
    let shared = demonstration();
    let talkative = |status| {
        Answer::new(status, "ok")
            .header("server", "Apache/2.4.1 (Unix)")
            .header("X-Powered-By", "PHP/5.6")
            .header("x-aspnet-version", "4.0")
            .header("x-runtime", "0.1")
            .header("x-envoy-upstream-service-time", "5")
            .header("x-own", "kept")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
    };
    for status in [200, 201, 204, 302, 404, 500, 503] {
        let path = format!("/talkative/{status}");
        shared.application.on(&path, talkative(status));
        let answer = shared.stage.send(&Request::get(&path).of("headers", &fresh_id("talk")));
        assert_eq!(answer.status, status);
        assert_required(&answer, &path);
        assert_process_time(&answer, &path);
        for gone in
            ["server", "x-powered-by", "x-aspnet-version", "x-runtime", "x-envoy-upstream-service-time"]
        {
            assert_eq!(answer.header(gone), None, "{path}: {gone}");
        }
        assert_eq!(answer.header("x-own").as_deref(), Some("kept"));
        assert_eq!(answer.message.all("set-cookie").count(), 2, "{answer:?}");
    }
    let head = shared.stage.send(&Request::new("HEAD", "/talkative/200").of("headers", &fresh_id("head")));
    assert_required(&head, "HEAD");
}

#[test]
fn our_own_refusals_carry_the_set() {
    let shared = demonstration();
    let attack =
        Request::get("/?q=1'+UNION+SELECT+password+FROM+users--").of("headers-own", &fresh_id("attack"));
    let answer = shared.stage.send(&attack);
    assert_eq!(answer.status, 403);
    assert_required(&answer, "403");
    assert_process_time(&answer, "403");

    let login = || Request::post("/login", "text/plain", "x").of("headers-own", &fresh_id("login"));
    let answers: Vec<Response> = (0..6).map(|_| shared.stage.send(&login())).collect();
    let limited = &answers[5];
    assert_eq!(limited.status, 429);
    assert_required(limited, "429");
    assert_process_time(limited, "429");
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(limited.header(name).is_some(), "{name} in {limited:?}");
    }
    let unknown = shared.stage.send(&Request::get("/").of("Not Allowed", &fresh_id("unknown")));
    assert_eq!(unknown.status, 403);
    assert_required(&unknown, "403 of an unknown tenant");
}

#[test]
fn envoys_own_answers_carry_the_set() {
    let shared = configurations();
    let routes = shared.listener("headers-routes");
    for (path, status) in [("/nowhere", 404), ("/away", 503), ("/moved", 301)] {
        let answer = Request::get(path).header("x-request-id", fresh_id("own")).send(routes);
        assert_eq!(answer.status, status, "{path}");
        assert_required(&answer, path);
        assert_process_time(&answer, path);
        assert_eq!(answer.header("server"), None, "{path}: {answer:?}");
    }
    assert_eq!(Request::get("/here").send(routes).status, 200);
}

#[test]
fn answers_to_what_is_not_http_carry_the_set() {
    let shared = demonstration();
    let ask = |bytes: &[u8], what: &str| {
        let mut connection = Connection::open(shared.stage.envoy());
        // Envoy may close while a megabyte is still on its way.
        drop(connection.send_bytes(bytes));
        let answer = connection.receive(Unframed::UntilClose, false);
        answer.unwrap_or_else(|error| panic!("{what}: {error}")).unwrap_or_else(|| panic!("{what}: closed"))
    };
    let large = "x".repeat(100 * 1024);
    for (what, bytes, status) in [
        ("a large header", format!("GET / HTTP/1.1\r\nhost: a\r\nx-large: {large}\r\n\r\n"), 431),
        (
            "a large header after an id",
            format!("GET / HTTP/1.1\r\nhost: a\r\nx-request-id: large-00000001\r\nx-large: {large}\r\n\r\n"),
            431,
        ),
        ("a header without a colon", "GET / HTTP/1.1\r\nhost: a\r\nnonsense\r\n\r\n".to_owned(), 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("no method", "/ HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 400),
        ("a header with NUL", "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n".to_owned(), 400),
    ] {
        let answer = ask(bytes.as_bytes(), what);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_required(&answer, what);
    }
}

#[test]
fn the_web_profile_promises_nothing_over_plain_http() {
    let shared = configurations();
    let answer = Request::get("/").send(shared.listener("headers-web"));
    assert_eq!(answer.header("x-xss-protection"), None);
    assert_eq!(answer.header("strict-transport-security"), None);
    assert!(answer.header("content-security-policy").unwrap().contains("object-src 'none'"));
}

#[test]
fn long_answers_are_compressed() {
    let shared = demonstration();
    let text = "All work and no play. ".repeat(500);
    shared.application.on("/long", Answer::new(200, text.clone()).header("content-type", "text/plain"));
    let ask = |coding: &str| {
        let request = Request::get("/long").of("headers", &fresh_id("long"));
        shared.stage.send(&request.header("accept-encoding", coding))
    };
    let packed = ask("gzip");
    assert_eq!(packed.header("content-encoding").as_deref(), Some("gzip"));
    assert!(packed.message.body.len() < text.len() / 4);
    assert_eq!(unpacked(&packed), text);
    assert_required(&packed, "compressed");
    let plain = ask("identity");
    assert_eq!((plain.header("content-encoding"), plain.text()), (None, text));
}

/// The body of an answer that is packed with gzip.
fn unpacked(answer: &Response) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.message.body[..]).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_page_gets_its_nonce_and_is_packed_afterwards() {
    let shared = configurations();
    let script = format!("<script nonce=\"{PLACEHOLDER}\">1</script>");
    let page = format!(
        "<!doctype html>{script}{}{script}<script>2</script>",
        "<p>All work and no play.</p>".repeat(200)
    );
    let html = |body: Vec<u8>| Answer::new(200, body).header("content-type", "text/html");
    shared.application.on("/page", html(page.clone().into_bytes()));
    let ask = |path: &str| {
        let id = fresh_id("nonce");
        let request = Request::get(path).header("x-request-id", &id).header("accept-encoding", "gzip, br");
        let answer = request.header("sec-fetch-dest", "document").send(shared.listener("headers-nonce"));
        let seen = shared.application.seen(&id).expect("it reached the application");
        assert_eq!(
            seen.header("accept-encoding"),
            None,
            "an application must not pack what is to be changed"
        );
        answer
    };
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let answer = ask("/page");
        assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"), "{answer:?}");
        let policy = answer.header("content-security-policy").unwrap();
        let (_, after) = policy.split_once("'nonce-").expect("a nonce in the policy");
        let nonce = after.split_once('\'').unwrap().0.to_owned();
        assert_eq!(unpacked(&answer), page.replace(PLACEHOLDER, &nonce));
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1]);

    // An application that packs all the same: the page is left whole, and its policy promises no nonce.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, page.as_bytes()).unwrap();
    shared.application.on("/packed", html(packer.finish().unwrap()).header("content-encoding", "gzip"));
    let answer = ask("/packed");
    assert_eq!(unpacked(&answer), page);
    assert!(!answer.header("content-security-policy").unwrap().contains("nonce"), "{answer:?}");
}
