use portcullis_policy::Header;

use super::*;
use crate::config::Wire;

fn judged(pairs: &[(&str, &str)]) -> Option<&'static str> {
    let config = Config::compile(Wire::default(), &Default::default(), &mut Default::default()).unwrap();
    let mut inspector = Inspector::new(&config);
    let mut all: Vec<Header<'_>> =
        vec![(b":method", b"GET"), (b":authority", b"shop.test"), (b":path", b"/")];
    for (name, value) in pairs {
        all.retain(|(known, _)| *known != name.as_bytes() || !name.starts_with(':'));
        all.push((name.as_bytes(), value.as_bytes()));
    }
    let _ = inspect(&config, &Headers::new(all), &mut inspector);
    inspector.found.map(|found| found.finding.why)
}

#[test]
fn what_two_readers_take_differently() {
    for (pairs, why) in [
        (&[(":method", "TRACK")][..], "method"),
        (&[(":authority", "")], "no-host"),
        (&[(":authority", "a.test,b.test")], "host"),
        (&[("host", "other.test")], "host-twice"),
        (&[(":method", "POST"), ("content-length", "1"), ("content-length", "2")], "length-twice"),
        (&[(":method", "POST"), ("content-length", "+1")], "length"),
        (
            &[(":method", "POST"), ("content-length", "1"), ("transfer-encoding", "chunked")],
            "length-and-coding",
        ),
        (&[(":method", "POST"), ("transfer-encoding", "xchunked")], "transfer-coding"),
        (&[("content-length", "3")], "body-without-use"),
        (&[("proxy", "http://x")], "proxy-header"),
        (&[("lock-token", "x")], "webdav"),
        (&[("request-range", "bytes=0-1")], "request-range"),
        (&[("range", "bytes=5-1")], "range"),
        (&[("content-type", "x")], "media-type"),
        (
            &[
                (":method", "POST"),
                ("content-length", "9"),
                ("content-type", "multipart/mixed; boundary=a,b"),
            ],
            "media-type-boundary",
        ),
        (&[(":method", "POST"), ("content-type", "multipart/mixed; boundary=a,b")], "media-type-boundary"),
        (
            &[
                (":method", "POST"),
                ("content-length", "0"),
                ("content-type", "multipart/mixed; boundary=  ab"),
            ],
            "media-type-parameter",
        ),
        (&[("accept", "text/html;charset=utf-16")], "accept-charset"),
        (&[("x-http-method-override", "TRACE")], "method-override"),
    ] {
        assert_eq!(judged(pairs), Some(why), "{pairs:?}");
    }
}

#[test]
fn ordinary_messages_pass() {
    for pairs in [
        &[][..],
        &[("host", "shop.test"), ("accept", "text/html;charset=\"UTF-8\",*/*;q=.8")],
        &[(":method", "POST"), ("content-length", "12"), ("content-type", "application/json")],
        &[(":method", "POST"), ("transfer-encoding", "chunked")],
        &[("range", "bytes=0-499,-500"), ("if-match", "\"x\"")],
        &[(":method", "PUT"), ("content-range", "bytes 0-1/2")],
        &[("content-length", "9"), ("content-type", "application/json")],
        &[("content-length", "0")],
        &[(":method", "POST"), ("content-length", "0"), ("content-type", "multipart/mixed; boundary=a,b")],
        &[(":method", "POST"), ("x-http-method-override", "DELETE")],
        &[(":authority", "[::1]:8080")],
    ] {
        assert_eq!(judged(pairs), None, "{pairs:?}");
    }
}
