//! Requests that are broken, or meant to break something: a decision, never a trap.

use std::{io::Write, time::Duration};

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use crate::{
    stages::{Demonstration, demonstration},
    support::{
        api::{Api, is_about},
        client::{Connection, Request, Response},
        fresh_id,
        http2::{End, Http2},
        message::Unframed,
        statistics::machines,
    },
};

const ATTACK: &str = "1' UNION SELECT password FROM users--";
const FORM: &str = "application/x-www-form-urlencoded";

/// Checks that Envoy serves, and that no virtual machine died meanwhile.
struct Unharmed<'s> {
    shared: &'s Demonstration,
    before: String,
}

impl<'s> Unharmed<'s> {
    fn watch(shared: &'s Demonstration) -> Self {
        Self { shared, before: Self::state(shared) }
    }

    fn state(shared: &Demonstration) -> String {
        format!("{:?}", machines(shared.stage.stack.admin()))
    }

    fn check(self) {
        let answer = self.shared.stage.send(&Request::get("/").of("bad-after", &fresh_id("after")));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(self.before.contains("created"), "there must be something to compare: {}", self.before);
        assert_eq!(self.before, Self::state(self.shared));
        assert!(!self.shared.stage.envoy_log().contains("panicked"));
    }
}

/// Sends a request of a tenant of its own, so that no limit stands in its way.
fn send(request: Request) -> Response {
    let answer = demonstration().stage.send(&request.of(&fresh_id("bad"), &fresh_id("bad")));
    assert!(answer.status < 500, "{answer:?}");
    answer
}

/// All answers to bytes as they are, until Envoy closes the connection; `{tenant}` becomes a tenant of its own.
fn send_text(text: &str) -> Vec<Response> {
    let mut connection = Connection::open(demonstration().stage.envoy());
    // Envoy may close before it has read everything.
    drop(connection.send_bytes(text.replace("{tenant}", &fresh_id("bad")).as_bytes()));
    std::iter::from_fn(|| connection.receive(Unframed::UntilClose, false).unwrap_or_default()).collect()
}

fn packed<W: Write>(
    mut encoder: W,
    text: &[u8],
    finish: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
) -> Vec<u8> {
    encoder.write_all(text).unwrap();
    finish(encoder).unwrap()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    packed(GzEncoder::new(Vec::new(), Compression::best()), text, GzEncoder::finish)
}

#[test]
fn bytes_that_are_no_text() {
    let unharmed = Unharmed::watch(demonstration());
    let odd = [&b"\xff\x80\xfe"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x92\xa9", b"a\tb"];
    for bytes in odd {
        for name in [
            "x-odd",
            "user-agent",
            "cookie",
            "referer",
            "content-type",
            "x-user-id",
            "authorization",
            "accept-encoding",
        ] {
            let answer = send(Request::get("/").header(name, bytes));
            // A media type that is no text is refused as an anomaly; text in any other header is not our business.
            let decided = answer.status == 200 || (name == "content-type" && answer.status == 403);
            assert!(decided, "{name}: {bytes:?}: {answer:?}");
        }
        let tenant = demonstration().stage.send(&Request::get("/").header("x-tenant-id", bytes));
        assert_eq!(tenant.status, 403);
        // Envoy's codec refuses some of these by itself; what it lets through has a decision of ours.
        let path = [b"/\xe9t\xe9/", bytes].concat();
        assert!(matches!(send(Request::get(path)).status, 200 | 400 | 403));
        assert!(matches!(send(Request::get([b"/?q=", bytes].concat())).status, 200 | 400 | 403));
        assert_eq!(send(Request::post("/", FORM, [b"a=", bytes].concat())).status, 200);
        let unknown = Request::get("/").of(&fresh_id("bad"), &fresh_id("bad")).header("x-request-id", bytes);
        assert_eq!(demonstration().stage.send(&unknown).status, 200);
    }
    unharmed.check();
}

#[test]
fn paths_that_are_none() {
    let unharmed = Unharmed::watch(demonstration());
    for target in [
        "",
        "?",
        "*",
        "//",
        "/?",
        "/%",
        "/%2",
        "/%zz",
        "/?&=&==&%&%zz&a=%",
        "http://app.test",
        "http://app.test?x",
        "/\\",
        "/;",
        "/#",
    ] {
        for answer in send_text(&format!(
            "GET {target} HTTP/1.1\r\nhost: app.test\r\nx-tenant-id: {{tenant}}\r\nconnection: close\r\n\r\n"
        )) {
            assert!(answer.status < 500, "{target}: {answer:?}");
            assert_eq!(answer.header("x-frame-options").as_deref(), Some("DENY"), "{target}: {answer:?}");
        }
    }
    assert_eq!(send(Request::new("OPTIONS", "*")).header("x-frame-options").as_deref(), Some("DENY"));
    assert_eq!(send(Request::get(format!("/{}", "a/".repeat(20_000)))).status, 200);
    unharmed.check();
}

#[test]
fn many_and_large_headers() {
    let unharmed = Unharmed::watch(demonstration());
    let many = |count: usize| {
        let request = Request::get("/").of(&fresh_id("bad"), &fresh_id("many"));
        (0..count).fold(request, |request, n| request.header(format!("x-h{n}"), "v"))
    };
    let ask = |request: Request| demonstration().stage.send(&request);
    assert_eq!(ask(many(400)).status, 200);
    let ours = ask(many(900));
    assert_eq!((ours.status, ours.reason().as_deref()), (431, Some("headers-too-large")), "{ours:?}");
    for (what, request) in [
        ("1,000 headers", many(1_000)),
        ("a 1 MiB header", many(0).header("x-large", "x".repeat(1 << 20))),
        (
            "a 1 MiB path",
            Request::get(format!("/{}", "x".repeat(1 << 20))).of(&fresh_id("bad"), &fresh_id("large")),
        ),
    ] {
        let answer = ask(request);
        assert_eq!(answer.status, 431, "{what}: {answer:?}");
        assert_eq!(answer.header("x-frame-options").as_deref(), Some("DENY"), "{what}: {answer:?}");
    }
    assert_eq!(ask(many(0).header("x-large", "x".repeat(50 * 1024))).status, 200);
    unharmed.check();
}

#[test]
fn bodies_that_lie_about_their_type() {
    let unharmed = Unharmed::watch(demonstration());
    let binary: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 8] =
        [b"", b"{", b"{\"a\":", b"a=b&c", b"\xff\xfe\x00", &binary, deep.as_bytes(), b"--x\r\n\r\n"];
    let types = [
        "application/json",
        FORM,
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/xml",
        "nonsense",
        "",
    ];
    for content_type in types {
        for body in bodies {
            let answer = send(Request::post("/", content_type, body));
            assert!(matches!(answer.status, 200 | 400 | 403 | 415 | 422 | 429), "{content_type}: {answer:?}");
        }
    }
    for (coding, body) in [
        ("gzip", &b"not gzip"[..]),
        ("gzip", &gzip(b"a=b")[..9]),
        ("deflate", b"\xff\xff"),
        ("br", b"x"),
        ("gzip, gzip", b"x"),
        ("identity", b"a=b"),
    ] {
        let answer = send(Request::post("/", FORM, body).header("content-encoding", coding));
        assert!(matches!(answer.status, 200 | 400 | 403 | 413 | 415 | 429), "{coding}: {answer:?}");
    }
    unharmed.check();
}

#[test]
fn an_attack_is_found_however_its_body_is_cut() {
    let unharmed = Unharmed::watch(demonstration());
    let escaped: String = ATTACK.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let form = format!("first=ordinary&q={escaped}&last=x");
    let json = format!("{{\"a\": [{{\"q\": \"{}\"}}]}}", ATTACK.replace('\'', "\\u0027"));
    for (content_type, body) in [(FORM, &form), ("application/json", &json)] {
        // The last of these puts a border into every escape.
        for sizes in [vec![], vec![1; 8], vec![body.len() - 1], vec![2; body.len()], vec![1; body.len()]] {
            let answer = send(Request::post("/cut", content_type, body.clone()).in_pieces(sizes.clone()));
            assert_eq!(
                (answer.status, answer.reason().as_deref()),
                (403, Some("sql-injection")),
                "{content_type} {sizes:?}"
            );
        }
    }
    let harmless = "first=ordinary&q=O%27Brien%20selects%20a%20union%20from%20the%20users&last=x";
    for sizes in [vec![], vec![1; harmless.len()]] {
        let id = fresh_id("harmless");
        let request = Request::post("/cut", FORM, harmless).of(&fresh_id("bad"), &id);
        let shared = demonstration();
        assert_eq!(shared.stage.send(&request.in_pieces(sizes)).status, 200);
        let seen = shared.application.seen(&id).expect("the application is reached");
        assert_eq!(String::from_utf8_lossy(&seen.body), harmless, "the body arrives whole");
    }
    unharmed.check();
}

#[test]
fn compressed_bodies_are_looked_into() {
    let unharmed = Unharmed::watch(demonstration());
    let attack = format!("q={}", ATTACK.replace(' ', "+").replace('\'', "%27"));
    let raw = |text: &[u8]| {
        packed(DeflateEncoder::new(Vec::new(), Compression::best()), text, DeflateEncoder::finish)
    };
    let zlib =
        |text: &[u8]| packed(ZlibEncoder::new(Vec::new(), Compression::best()), text, ZlibEncoder::finish);
    type Pack<'p> = &'p dyn Fn(&[u8]) -> Vec<u8>;
    for (coding, pack) in [("gzip", &gzip as Pack<'_>), ("deflate", &zlib), ("deflate", &raw)] {
        let post = |text: &str| {
            Request::post("/packed", FORM, pack(text.as_bytes())).header("content-encoding", coding)
        };
        assert_eq!(send(post(&attack)).reason().as_deref(), Some("sql-injection"), "{coding}");
        let cut = post(&attack).in_pieces(vec![1; 200]);
        assert_eq!(send(cut).reason().as_deref(), Some("sql-injection"), "{coding} in pieces");
        assert_eq!(send(post("q=ordinary")).status, 200, "{coding}");
    }
    // Ten megabytes of nothing in ten kilobytes.
    let bomb = gzip(&vec![b'a'; 10 << 20]);
    assert!(bomb.len() < 20_000);
    let answer = send(Request::post("/packed", FORM, bomb).header("content-encoding", "gzip"));
    assert!(matches!(answer.status, 200 | 403 | 413 | 415), "{answer:?}");
    unharmed.check();
}

#[test]
fn what_is_shaped_like_smuggling_never_becomes_a_second_request() {
    let shared = demonstration();
    let unharmed = Unharmed::watch(shared);
    let heads = [
        "content-length: {length}\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 0\r\ncontent-length: {length}\r\n",
        "content-length: 0, {length}\r\n",
        "content-length: +{length}\r\n",
        "content-length: {length}\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding:\x0bchunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
    ];
    for head in heads {
        let (outer, inner) = (fresh_id("outer"), fresh_id("inner"));
        let common = "host: app.test\r\nx-tenant-id: {tenant}\r\nx-request-id: ";
        let second = format!("GET /inner HTTP/1.1\r\n{common}{inner}\r\n\r\n");
        let head = head.replace("{length}", &(second.len() + 5).to_string());
        let last =
            "GET /last HTTP/1.1\r\nhost: app.test\r\nx-tenant-id: {tenant}\r\nconnection: close\r\n\r\n";
        let mut answers = send_text(&format!(
            "POST /outer HTTP/1.1\r\n{common}{outer}\r\n{head}\r\n0\r\n\r\n{second}{last}"
        ));
        assert!(
            answers.iter().all(|answer| answer.status < 500 || answer.status == 501),
            "{head:?}: {answers:?}"
        );
        // The application must see as many requests as Envoy has answered, each with one length: a request within
        // another's body would have no answer of its own.
        let seen: Vec<_> =
            [&outer, &inner].into_iter().filter_map(|id| shared.application.seen(id)).collect();
        // The last one only ends the conversation, if it gets so far.
        answers.retain(|answer| answer.status == 200);
        let passed = answers.iter().filter(|answer| [&outer, &inner].contains(&&answer.id())).count();
        assert_eq!(seen.len(), passed, "{head:?}: {answers:?} {seen:?}");
        for seen in seen {
            assert!(
                seen.all("content-length").count() + seen.all("transfer-encoding").count() <= 1,
                "{head:?}: {seen:?}"
            );
        }
    }
    unharmed.check();
}

#[test]
fn upgrades_are_refused_where_they_are_not_wanted_and_pass_where_they_are() {
    let shared = demonstration();
    let unharmed = Unharmed::watch(shared);
    let upgrade = |path: &str| {
        Request::get(path)
            .of(&fresh_id("bad"), &fresh_id("socket"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
    };
    let refused = shared.stage.send(&upgrade("/socket"));
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(refused.header("x-frame-options").as_deref(), Some("DENY"), "{refused:?}");

    let mut connection = Connection::open(shared.sockets.address());
    let answer = connection.exchange(&upgrade("/socket")).unwrap();
    assert_eq!(answer.status, 101, "{answer:?}");
    let frames: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    for frame in [&b"\x81\x02hi"[..], ATTACK.as_bytes(), &frames] {
        connection.send_bytes(frame).unwrap();
        assert_eq!(connection.receive_bytes(frame.len()).unwrap(), frame);
    }
    let attack = upgrade("/socket?q=1'+UNION+SELECT+password+FROM+users--");
    assert_eq!(attack.send(shared.sockets.address()).status, 403);
    unharmed.check();
}

#[test]
fn what_comes_before_its_time_or_never_ends() {
    let shared = demonstration();
    let unharmed = Unharmed::watch(shared);
    // Broken off in the head, in a body that is held back, and in a chunk.
    let start =
        "POST / HTTP/1.1\r\nhost: app.test\r\nx-tenant-id: {tenant}\r\ncontent-type: application/json\r\n";
    for rest in ["", "content-length: 100\r\n\r\n{\"a\": ", "transfer-encoding: chunked\r\n\r\nff\r\n{"] {
        let mut connection = Connection::open(shared.stage.envoy());
        connection
            .send_bytes(format!("{start}{rest}").replace("{tenant}", &fresh_id("bad")).as_bytes())
            .unwrap();
        connection.finish();
        if let Ok(Some(answer)) = connection.receive(Unframed::UntilClose, false) {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    // Pipelined: each is answered, in order. (After a reply of its own to a request that had to wait, Envoy closes.)
    let one = |id: &str, path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: app.test\r\nx-tenant-id: bad-pipelined\r\nx-request-id: {id}\r\n\r\n"
        )
    };
    let ids = [fresh_id("pipe"), fresh_id("pipe"), fresh_id("pipe")];
    let mut connection = Connection::open(shared.stage.envoy());
    let text =
        one(&ids[0], "/") + &one(&ids[1], "/") + &one(&ids[2], "/?q=1'+UNION+SELECT+password+FROM+users--");
    connection.send_bytes(text.as_bytes()).unwrap();
    for (id, status) in ids.iter().zip([200, 200, 403]) {
        let answer = connection
            .receive(Unframed::UntilClose, false)
            .unwrap()
            .unwrap_or_else(|| panic!("no answer to {id}"));
        assert_eq!((answer.status, &answer.id()), (status, id), "{answer:?}");
    }
    unharmed.check();
}

#[test]
fn http2_is_judged_alike() {
    let shared = demonstration();
    let unharmed = Unharmed::watch(shared);
    let api = Api::admin(&shared.stage.stack);
    let tenant = fresh_id("bad");
    let ask = |method: &str, path: &[u8], more: &[(&[u8], &[u8])], body: &[&[u8]]| {
        let id = fresh_id("http2");
        let mut headers: Vec<(&[u8], &[u8])> = vec![
            (b":method", method.as_bytes()),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"app.test"),
            (b"x-tenant-id", tenant.as_bytes()),
            (b"x-request-id", id.as_bytes()),
        ];
        headers.extend_from_slice(more);
        (Http2::open(shared.stage.envoy()).exchange(&headers, body), id)
    };
    let form: &[(&[u8], &[u8])] = &[(b"content-type", FORM.as_bytes())];
    let escaped: Vec<u8> = ATTACK.bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect();
    let pieces: Vec<&[u8]> = [b"q=".as_slice()].into_iter().chain(escaped.chunks(2)).collect();
    for (what, (end, id), status, reached) in [
        ("a GET", ask("GET", b"/?q=O'Brien", &[], &[]), 200, true),
        ("an attack", ask("GET", b"/?q=1'+UNION+SELECT+password+FROM+users--", &[], &[]), 403, false),
        ("an attack in pieces", ask("POST", b"/", form, &pieces), 403, false),
        ("a form in pieces", ask("POST", b"/", form, &[b"q=O%", b"27Brien", b""]), 200, true),
        (
            "bytes that are no text",
            ask("GET", b"/", &[(b"x-odd", b"\xff\x80"), (b"cookie", b"\xc3(")], &[]),
            200,
            true,
        ),
        ("two cookies", ask("GET", b"/", &[(b"cookie", b"a=1"), (b"cookie", b"b=2")], &[]), 200, true),
    ] {
        assert_eq!(end, End::Answered, "{what}");
        let events = api.wait_for(&tenant, 1, Duration::from_secs(5), is_about(&id));
        assert_eq!(events.len(), 1, "{what}");
        assert_eq!(events[0]["details"]["status"], status, "{what}: {}", events[0]);
        assert_eq!(shared.application.seen(&id).is_some(), reached, "{what}");
    }
    for (what, (end, id)) in [
        ("a name in capitals", ask("GET", b"/", &[(b"X-Odd", b"1")], &[])),
        (
            "a header of HTTP/1",
            ask("GET", b"/", &[(b"connection", b"close"), (b"transfer-encoding", b"chunked")], &[]),
        ),
        ("an empty path", ask("GET", b"", &[], &[])),
        ("a line break", ask("GET", b"/", &[(b"x-odd", b"a\r\nx: y")], &[])),
        ("a length that lies", ask("POST", b"/", &[(b"content-length", b"1")], &[b"too long"])),
    ] {
        assert!(
            end == End::Reset || shared.application.seen(&id).is_none(),
            "{what} reached the application"
        );
    }
    unharmed.check();
}
