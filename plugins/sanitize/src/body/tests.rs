use portcullis_policy::Header;

use super::*;
use crate::config::{Config, Wire};
use crate::finding::Family;

fn found(content_type: &str, body: &[u8]) -> Option<(Family, &'static str, String)> {
    let config = Config::compile(Wire::default(), &Default::default(), &mut Default::default()).unwrap();
    let pairs: Vec<Header<'_>> = vec![(b":method", b"POST"), (b"content-type", content_type.as_bytes())];
    let mut inspector = Inspector::new(&config);
    let mut collected = Body::expected(&Headers::new(pairs), 4096)?;
    collected.add(body);
    let _ = collected.inspect(&mut inspector);
    inspector.found.map(|found| (found.finding.family, found.place.code(), found.name))
}

#[test]
fn every_kind_of_body_is_read() {
    let form = "application/x-www-form-urlencoded";
    let parts = "multipart/form-data; boundary=XX";
    for (content_type, bad, place, name) in [
        (form, "a=1&note=%3Cscript%3Ego()%3C%2Fscript%3E", "form", "note"),
        ("application/json", r#"{"a": [1, {"note": "\u003cscript\u003ego()"}]}"#, "json", "note"),
        ("application/vnd.api+json", r#"{"<svg onload=go(1)>": 1}"#, "json", "_svg_onload_go_1__"),
        ("application/xml", "<a><note>&lt;script>go()&lt;/script></note></a>", "xml", "note"),
        ("application/xml", "<a note=\"&lt;script>go()\"/>", "xml", "note"),
        ("text/xml", "<a><![CDATA[<script>go()</script>]]></a>", "xml", "a"),
        (
            parts,
            "--XX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n<script>go()</script>\r\n--XX--",
            "multipart",
            "note",
        ),
        ("text/plain", "hello <script>go()</script>", "text", ""),
        ("", "note=<script>go()</script>", "form", "note"),
        ("application/json", "note=<script>go()</script>", "text", ""),
        (form, r#"{"note": "<script>go()</script>"}"#, "form", "__note_____script_go____script___"),
        ("image/png", r#"{"note": "<script>go()</script>"}"#, "json", "note"),
    ] {
        let expected = Some((Family::Xss, place, name.to_owned()));
        assert_eq!(found(content_type, bad.as_bytes()), expected, "{content_type} {bad}");
        let fine = bad.replace("script", "strong").replace("\"<svg onload=go(1)>\"", "\"svg\"");
        assert_eq!(found(content_type, fine.as_bytes()), None, "{content_type} {fine}");
    }
}

#[test]
fn xml_may_not_declare_what_lies_outside() {
    let bad = b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>";
    assert_eq!(found("application/xml", bad).map(|f| f.0), Some(Family::Entity));
    let fine = b"<?xml version=\"1.0\"?><!DOCTYPE a><rss><link>https://x.test/</link><title>Select a seat</title></rss>";
    assert_eq!(found("application/xml", fine), None);
}

#[test]
fn a_file_is_known_by_its_name_alone() {
    let upload = |name: &str| {
        let body = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\nContent-Type: text/html\r\n\r\n\
             <script>go()</script>\r\n--XX--\r\n"
        );
        found("multipart/form-data; boundary=XX", body.as_bytes()).map(|f| f.0)
    };
    assert_eq!(upload("../../etc/cron.d/x"), Some(Family::Path));
    assert_eq!(upload("Report (final) v1.2.html"), None);
}

#[test]
fn a_multipart_body_without_its_boundary_is_one_text() {
    assert!(found("multipart/form-data", b"<script>go()</script>").is_some());
    assert!(found("multipart/form-data; boundary=XX", b"<script>go()</script>").is_some());
    assert!(found("multipart/form-data; boundary=XX", b"nothing to see").is_none());
}

#[test]
fn what_is_no_body_is_not_collected() {
    let expected = |pairs: Vec<Header<'static>>| Body::expected(&Headers::new(pairs), 4096).is_some();
    assert!(expected(vec![(b":method", b"POST")]));
    assert!(!expected(vec![(b":method", b"CONNECT")]));
    assert!(!expected(vec![(b"upgrade", b"websocket")]));
    assert!(!expected(vec![(b"content-type", b"application/grpc+proto")]));
    assert!(!expected(vec![(b"content-length", b"0")]));
}

#[test]
fn an_opaque_body_is_let_go_after_its_first_bytes() {
    let pairs: Vec<Header<'_>> = vec![(b"content-type", b"image/png")];
    let mut body = Body::expected(&Headers::new(pairs.clone()), 4096).unwrap();
    assert!(!body.add(&[0x89; 63]) && body.add(&[0x89]));
    let mut body = Body::expected(&Headers::new(pairs), 4096).unwrap();
    assert!(!body.add(&[b'{'; 64]));
}

#[test]
fn encodings_and_charsets_that_are_unknown_are_told() {
    for (name, value, undecodable) in [
        ("content-encoding", "br", true),
        ("content-encoding", "gzip, gzip", true),
        ("content-encoding", "gzip", true),
        ("content-encoding", "identity", false),
        ("content-type", "application/json; charset=utf-16", true),
        ("content-type", "application/json; charset=UTF-8", false),
    ] {
        let pairs: Vec<Header<'_>> = vec![(name.as_bytes(), value.as_bytes())];
        let config = Config::compile(Wire::default(), &Default::default(), &mut Default::default()).unwrap();
        let mut body = Body::expected(&Headers::new(pairs), 4096).unwrap();
        body.add(b"{\"a\": 1}");
        let (_, report) = body.inspect(&mut Inspector::new(&config));
        assert_eq!(report, Report { oversize: false, undecodable }, "{name}: {value}");
    }
}
