//! Input that is broken, or meant to break something: always a decision, never a trap, never a 5xx of ours.

use portcullis_host_tests::{
    host::{HeaderMap, Message, Outcome, Process, Properties, Request, Vm},
    run::{properties, records_of},
};
use serde_json::{Value, json};

use super::support::{exchange, portcullis, status, status_of, worker};

const FORM: &str = "application/x-www-form-urlencoded";

fn unlimited() -> Value {
    json!({"rate_limit": {"mode": "off"}})
}

fn guard() -> Vm {
    worker(&Process::new(1), &unlimited())
}

fn post(kind: &str, pieces: Vec<Vec<u8>>) -> Request {
    Request { pieces, ..Request::new("POST", "/form").with("content-type", kind) }
}

/// 200, or a refusal of ours with all that belongs to one.
fn assert_decided(outcome: &Outcome, what: &str) {
    let headers = outcome.downstream.headers.as_ref().unwrap_or_else(|| panic!("{what}: no answer"));
    let status = headers.status().unwrap_or_default();
    assert!(matches!(status, 200 | 400..=499), "{what}: {status}");
    assert_eq!(headers.first("x-frame-options"), Some(&b"DENY"[..]), "{what}");
    assert!(headers.first("x-request-id").is_some(), "{what}");
    if status != 200 {
        assert_eq!(headers.first("content-type"), Some(&b"application/problem+json"[..]), "{what}");
        assert!(outcome.upstream.headers.is_none(), "{what}: refused, and yet the application was asked");
    }
    for (name, value) in headers.iter() {
        assert!(!name.iter().chain(value).any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{what}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_decided_on_wherever_they_stand() {
    let mut vm = guard();
    for name in [
        "host",
        "cookie",
        "user-agent",
        "content-type",
        "content-encoding",
        "x-request-id",
        "x-forwarded-for",
        "accept",
        "referer",
        "x-tenant-id",
        "authorization",
        "content-length",
        "upgrade",
        "traceparent",
        ":scheme",
    ] {
        for value in [&b"\xff\xfe"[..], b"a\xc3", b"", b"\0", b"a\r\nset-cookie: x", b"%ff%00", &[0x80; 300]]
        {
            let outcome = exchange(&mut vm, &Request::new("GET", "/").with(name, value));
            assert_decided(&outcome, &format!("{name}: {value:?}"));
            let outcome = exchange(&mut vm, &Request::new("POST", "/").with(name, value).body("a=b"));
            assert_decided(&outcome, &format!("{name}: {value:?}, with a body"));
        }
    }
    for pseudo in [":path", ":method", ":authority", ":scheme"] {
        for value in [&b"\xff"[..], b"", b"/\xff?\xff=\xff", b"\0", b"*", &[b'/'; 9000]] {
            let mut request = Request::new("GET", "/");
            request.headers.replace(pseudo, value);
            assert_decided(
                &exchange(&mut vm, &request),
                &format!("{pseudo}: {:?}", &value[..value.len().min(20)]),
            );
            request.headers.remove(pseudo);
            assert_decided(&exchange(&mut vm, &request), &format!("no {pseudo}"));
        }
    }
    let nothing = Request::default();
    assert_decided(&exchange(&mut vm, &nothing), "no header at all");
    let name = Request::new("GET", "/").with(b"\xff\xfe", "1").with("", "2");
    assert_decided(&exchange(&mut vm, &name), "names that are none");
}

#[test]
fn headers_without_measure_are_refused_by_us() {
    let mut vm = guard();
    let mut many = Request::new("GET", "/");
    for number in 0..1000 {
        many.headers.add(format!("x-{number}"), "1");
    }
    let mut same = Request::new("GET", "/");
    (0..1000).for_each(|_| same.headers.add("cookie", "a=b"));
    let long = Request::new("GET", "/").with("x-long", vec![b'a'; 1024 * 1024]);
    let path = Request::new("GET", vec![b'/'; 1024 * 1024]);
    for (what, request) in
        [("1,000 headers", many), ("1,000 cookies", same), ("1 MiB", long), ("a path of 1 MiB", path)]
    {
        let outcome = exchange(&mut vm, &request);
        assert_decided(&outcome, what);
        assert_eq!(status(&outcome), Some(431), "{what}");
    }
    assert_eq!(status_of(&mut vm, &Request::new("GET", "/")), Some(200), "and others are served");
}

#[test]
fn a_body_that_lies_about_its_type_is_decided_on() {
    let mut vm = guard();
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"\xff\xfe\x00\x01",
        b"a=1&b=2",
        b"{\"a\": 1}",
        b"<a><b/></a>",
        b"--x\r\n\r\n",
        b"\x1f\x8b\x08\x00",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff",
        b"\x78\x9c\xff",
        b"%",
        deep.as_bytes(),
    ];
    let kinds = [
        FORM,
        "application/json",
        "application/json; charset=utf-16",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "text/xml",
        "text/plain; charset=\"",
        "image/png",
        "",
        ";;;",
    ];
    for kind in kinds {
        for encoding in ["", "gzip", "deflate", "br", "identity", "gzip, gzip"] {
            for body in bodies {
                let mut request = post(kind, vec![body.to_vec()]);
                if !encoding.is_empty() {
                    request = request.with("content-encoding", encoding);
                }
                let what = format!("{kind} {encoding} {:?}", &body[..body.len().min(20)]);
                assert_decided(&exchange(&mut vm, &request), &what);
            }
        }
    }
    let short = post(FORM, vec![b"a=1&b=2".to_vec()]).with("content-length", "3");
    assert_decided(&exchange(&mut vm, &short), "a length that lies");
}

#[test]
fn where_a_body_is_cut_changes_no_decision() {
    let mut vm = guard();
    let json = "application/json";
    for (kind, body, expected) in [
        (FORM, r"a=1&q=%2527%2520union%2520select%2520password%2520from%2520users--", 403),
        (FORM, r"a=1&q=1%27+or+1%3D1+--+", 403),
        (FORM, r"a=%3Cscript%3Ealert(1)%3C%2Fscript%3E&b=2", 403),
        (FORM, r"name=O%27Brien&text=1+%3C+2+%26+3", 200),
        (json, r#"{"a": "\u003cscript\u003ealert(1)\u003c/script\u003e"}"#, 403),
        (json, r#"{"name": "O'Brien \u00e9 \ud83d\ude00", "n": [1, 2.5e3, true, null]}"#, 200),
    ] {
        let body = body.as_bytes();
        let mut check = |pieces: Vec<Vec<u8>>, end_apart: bool, what: &str| {
            let request = Request { end_apart, ..post(kind, pieces) };
            let outcome = exchange(&mut vm, &request);
            assert_eq!(status(&outcome), Some(expected), "{what}: {}", String::from_utf8_lossy(body));
            if expected == 200 {
                assert_eq!(outcome.upstream.body, body, "{what}: the application gets all of it, unchanged");
            } else {
                assert_eq!(outcome.upstream.headers, None, "{what}: nothing has left");
            }
        };
        check(vec![body.to_vec()], false, "whole");
        for at in 0..=body.len() {
            let (head, tail) = body.split_at(at);
            check(vec![head.to_vec(), tail.to_vec()], false, &format!("cut at {at}"));
            check(vec![head.to_vec(), Vec::new(), tail.to_vec()], true, &format!("cut at {at}, end apart"));
        }
        check(body.iter().map(|byte| vec![*byte]).collect(), true, "byte by byte");
    }
}

#[test]
fn where_headers_cannot_be_held_the_body_is() {
    let options = portcullis_host_tests::host::Options::default();
    let process = Process::new(1);
    let configuration = unlimited().to_string();
    let mut vm = Vm::serve(portcullis(), &process, &options, configuration.as_bytes()).unwrap();
    let attack = b"a=1&q=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for at in 0..attack.len() {
        let outcome = exchange(&mut vm, &post(FORM, vec![attack[..at].to_vec(), attack[at..].to_vec()]));
        assert_eq!(status(&outcome), Some(403), "cut at {at}");
        assert!(outcome.upstream.headers.is_some() && outcome.upstream.body.is_empty(), "cut at {at}");
    }
}

#[test]
fn a_body_beyond_the_proxys_buffer_is_the_proxys_413_with_our_headers() {
    let mut options = portcullis_host_tests::run::options();
    // As Envoy's guide to an edge proxy has it: less than our own window.
    options.body_bytes = 32 * 1024;
    let process = Process::new(1);
    let configuration = unlimited().to_string();
    let mut vm = Vm::serve(portcullis(), &process, &options, configuration.as_bytes()).unwrap();
    let pieces = vec![vec![b'a'; 10 * 1024]; 8];
    let outcome = exchange(&mut vm, &post("text/plain", pieces));
    assert_eq!(status(&outcome), Some(413));
    assert!(outcome.local && outcome.upstream.headers.is_none());
    assert_eq!(outcome.downstream.headers.unwrap().first("x-frame-options"), Some(&b"DENY"[..]));
}

#[test]
fn callbacks_may_come_in_any_order_or_not_at_all() {
    let mut vm = guard();
    let answer = || HeaderMap::new().with(":status", "200");
    let request = || Request::new("POST", "/form").with("content-type", FORM).headers;

    // The application answers before it has the whole body.
    let stream = vm.open(Properties::new());
    stream.request_headers(&mut vm, request(), false).unwrap();
    stream.request_body(&mut vm, b"a=", false).unwrap();
    stream.response_headers(&mut vm, answer(), false).unwrap();
    stream.response_body(&mut vm, b"early", true).unwrap();
    stream.request_body(&mut vm, b"1", true).unwrap();
    let outcome = stream.end(&mut vm).unwrap();
    assert_eq!((status(&outcome), outcome.upstream.body), (Some(200), b"a=1".to_vec()));

    // Trailers end a body, and show what it was.
    for (body, expected) in [(&b"a=1"[..], 200), (b"q=1'+or+1=1+--+", 403)] {
        let trailers = Some(HeaderMap::new().with("x-sum", "1"));
        let outcome = exchange(&mut vm, &Request { trailers, ..post(FORM, vec![body.to_vec()]) });
        assert_eq!(status(&outcome), Some(expected));
        assert_eq!(outcome.upstream.trailers.is_some(), expected == 200);
    }

    // Bodies of nothing.
    for pieces in [vec![vec![]], vec![vec![], vec![], vec![]], vec![vec![], b"a=1".to_vec(), vec![]]] {
        assert_eq!(status_of(&mut vm, &post(FORM, pieces)), Some(200));
    }

    // A client that goes away in the middle, at each point.
    for steps in 0..4 {
        let stream = vm.open(Properties::new());
        if steps > 0 {
            stream.request_headers(&mut vm, request(), false).unwrap();
        }
        if steps > 1 {
            stream.request_body(&mut vm, b"a=", false).unwrap();
        }
        if steps > 2 {
            stream.response_headers(&mut vm, answer(), false).unwrap();
        }
        stream.end(&mut vm).unwrap();
    }

    // A body, trailers or a response of a request that was never shown.
    let stream = vm.open(Properties::new());
    stream.request_body(&mut vm, b"x", true).unwrap();
    stream.request_trailers(&mut vm, HeaderMap::new()).unwrap();
    stream.response_trailers(&mut vm, HeaderMap::new()).unwrap();
    stream.response_headers(&mut vm, answer(), true).unwrap();
    stream.end(&mut vm).unwrap();

    // Streams that overlap are kept apart.
    let (one, two) = (vm.open(Properties::new()), vm.open(Properties::new()));
    one.request_headers(&mut vm, request(), false).unwrap();
    two.request_headers(&mut vm, request(), false).unwrap();
    one.request_body(&mut vm, b"q=1'+or+1", false).unwrap();
    two.request_body(&mut vm, b"a=1", true).unwrap();
    one.request_body(&mut vm, b"=1+--+", true).unwrap();
    two.answer(&mut vm, &Message::answer(200, "ok")).unwrap();
    assert_eq!(status(&one.end(&mut vm).unwrap()), Some(403));
    assert_eq!(status(&two.end(&mut vm).unwrap()), Some(200));
}

#[test]
fn a_reply_of_the_proxys_own_leaves_a_record_and_carries_our_headers_where_they_pass() {
    let process = Process::new(1);
    let mut vm = worker(&process, &json!({"rate_limit": {"mode": "off"}}));
    let known = properties(&portcullis_host_tests::case::Facts::default());

    // Before its filters ran: the end alone.
    let stream = vm.open(known.clone());
    stream.unseen_request(&mut vm, Request::new("GET", "/big").headers).unwrap();
    stream.proxy_reply(&mut vm, 431, "http1.headers_too_large").unwrap();
    let outcome = stream.end(&mut vm).unwrap();
    assert_eq!(status(&outcome), Some(431));

    // A route that is not found.
    let stream = vm.open(known);
    stream.request_headers(&mut vm, Request::new("GET", "/nowhere").headers, true).unwrap();
    stream.proxy_reply(&mut vm, 404, "route_not_found").unwrap();
    let outcome = stream.end(&mut vm).unwrap();
    assert_eq!(outcome.downstream.headers.unwrap().first("x-frame-options"), Some(&b"DENY"[..]));

    vm.tick().unwrap();
    let records: Vec<Value> =
        vm.take_calls().iter().flat_map(|call| records_of(&call.body).unwrap()).collect();
    let seen: Vec<(&Value, &Value)> =
        records.iter().map(|r| (&r["http_request"]["url"]["path"], &r["http_response"]["code"])).collect();
    assert_eq!(seen, [(&json!("/big"), &json!(431)), (&json!("/nowhere"), &json!(404))]);
}
