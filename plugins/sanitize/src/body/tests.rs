use portcullis_policy::Header;

use super::*;
use crate::config::{Config, Wire};
use crate::finding::Family;

fn config() -> Config {
    Config::compile(Wire::default(), &Default::default(), &mut Default::default()).unwrap()
}

fn found(content_type: &str, body: &[u8]) -> Option<(Family, &'static str, String)> {
    let config = config();
    let pairs: Vec<Header<'_>> = vec![(b":method", b"POST"), (b"content-type", content_type.as_bytes())];
    let mut inspector = Inspector::new(&config);
    Body::expected(&Headers::new(pairs), &config)?.add(body, true, &mut inspector);
    inspector.found.map(|found| (found.finding.family, found.place.code(), found.name))
}

#[test]
fn every_kind_of_body_is_read() {
    let form = "application/x-www-form-urlencoded";
    let parts = "multipart/form-data; boundary=XX";
    for (content_type, bad, place, name) in [
        (form, "a=1&note=%3Cscript%3Ego()%3C%2Fscript%3E", "form", "note"),
        ("application/json", r#"{"a": [1, {"note": "\u003cscript\u003ego()"}]}"#, "json", "note"),
        ("application/vnd.api+json", r#"{"<svg onload=go(1)>": 1}"#, "json", "_______________1__"),
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
        (form, r#"{"note": "<script>go()</script>"}"#, "form", "_________________________________"),
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
    let config = config();
    let expected = |pairs: Vec<Header<'static>>| Body::expected(&Headers::new(pairs), &config).is_some();
    assert!(expected(vec![(b":method", b"POST")]));
    assert!(!expected(vec![(b":method", b"CONNECT")]));
    assert!(!expected(vec![(b":method", b"GET"), (b"upgrade", b"websocket")]));
    assert!(expected(vec![(b":method", b"POST"), (b"upgrade", b"websocket")]));
    assert!(!expected(vec![(b"content-type", b"application/grpc+proto"), (b"te", b"trailers")]));
    assert!(expected(vec![(b"content-type", b"application/grpc+proto")]));
    assert!(expected(vec![(b"content-type", b"application/grpcx"), (b"te", b"trailers")]));
    assert!(!expected(vec![(b"content-length", b"0")]));
}

#[test]
fn encodings_and_charsets_that_are_unknown_are_told() {
    for (name, value, undecodable) in [
        ("content-encoding", "br", true),
        ("content-encoding", "gzip, gzip", true),
        ("content-encoding", "gzip", true),
        ("content-encoding", "identity", false),
        ("content-type", "application/json; charset=utf-7", true),
        ("content-type", "application/json; charset=garbage", true),
        ("content-type", "application/json; charset=utf-16", false),
        ("content-type", "application/json; charset=UTF-8", false),
    ] {
        let pairs: Vec<Header<'_>> = vec![(name.as_bytes(), value.as_bytes())];
        let config = config();
        let mut body = Body::expected(&Headers::new(pairs), &config).unwrap();
        let progress = body.add(b"{\"a\": 1}", true, &mut Inspector::new(&config));
        assert_eq!(progress, Progress::Done(Report { oversize: false, undecodable }), "{name}: {value}");
    }
}

#[test]
fn utf16_is_read_declared_or_not() {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let bad = wide("{\"note\": \"<script>go()</script>\"}");
    let marked = [&b"\xff\xfe"[..], &bad].concat();
    for (content_type, body) in [
        ("application/json; charset=utf-16le", &bad),
        ("application/json; charset=utf-16", &marked),
        ("application/json", &marked),
    ] {
        let expected = Some((Family::Xss, "json", "note".to_owned()));
        assert_eq!(found(content_type, body), expected, "{content_type}");
    }
    assert_eq!(found("text/plain; charset=utf-16le", &wide("gr\u{fc}n & blau")), None);
}

#[test]
fn graphql_strings_are_values_and_the_rest_is_syntax() {
    let document = "mutation { add(name: \"O'Brien\", note: \"<script>go()</script>\") { id } }";
    let expected = Some((Family::Xss, "graphql", "note".to_owned()));
    assert_eq!(found("application/graphql", document.as_bytes()), expected);
    let json = serde_json::json!({"query": document, "variables": {}}).to_string();
    assert_eq!(found("application/json", json.as_bytes()), expected);
    let fine = document.replace("script", "strong").replace("note", "where");
    assert_eq!(found("application/graphql", fine.as_bytes()), None);
    let json = serde_json::json!({"query": fine, "variables": {"order": "or"}}).to_string();
    assert_eq!(found("application/json", json.as_bytes()), None);
}

fn part(name: &str, file: &str, content_type: &str, content: &str) -> Option<Family> {
    let body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\nContent-Type: {content_type}\r\n\r\n{content}\r\n--XX--\r\n"
    );
    found("multipart/form-data; boundary=XX", body.as_bytes()).map(|found| found.0)
}

#[test]
fn uploads_are_judged_by_name_type_and_content() {
    let upload = |file: &str, declared: &str, content: &str| {
        part("f", &format!("; filename=\"{file}\""), declared, content)
    };
    for (file, declared, content) in [
        ("shell.php", "image/png", "x"),
        ("a.php.jpg", "image/jpeg", "x"),
        ("a.gif", "image/gif", "GIF89a<?php system($_GET[0]); ?>"),
        ("a.svg", "image/svg+xml", "<svg onload=\"go()\"/>"),
        (".htaccess", "text/plain", "AddType x"),
        ("notes.txt", "text/plain", "<% eval(request(\"x\")) %>"),
    ] {
        assert_eq!(upload(file, declared, content), Some(Family::Upload), "{file}");
    }
    for (file, declared, content) in [
        ("photo.jpg", "image/jpeg", "\u{1}JFIF <script> x' or 1=1 --"),
        ("a.svg", "image/svg+xml", "<svg><title>x</title></svg>"),
        ("query.sql", "application/sql", "select * from a where b = 'c'; -- d"),
        ("page.html", "text/html", "<script>go()</script>"),
        ("", "application/octet-stream", ""),
    ] {
        assert_eq!(upload(file, declared, content), None, "{file}");
    }
}

#[test]
fn parts_that_parsers_read_differently() {
    assert_eq!(part("a;b", "; filename=\"x\"", "text/plain", "x"), Some(Family::Protocol));
    assert_eq!(part("a", "; name=\"b\"", "text/plain", "x"), Some(Family::Protocol));
    assert_eq!(part("a", "", "text/plain; charset=utf-7", "x"), Some(Family::Protocol));
    assert_eq!(part("_charset_", "", "text/plain", "utf-7"), Some(Family::Protocol));
    assert_eq!(
        part("a", "\r\nContent-Transfer-Encoding: base64", "text/plain", "eA=="),
        Some(Family::Protocol)
    );
    assert_eq!(
        part("a&auml;&#1234;b", "; filename=\"C:\\x\\y.png\"", "text/plain; charset=utf-8", "x"),
        None
    );
    assert_eq!(part("_charset_", "", "text/plain", "UTF-8"), None);
}

#[test]
fn a_program_behind_a_pictures_type_is_told_before_the_body_is_let_go() {
    let elf = [&b"\x7fELF\x02\x01\x01"[..], &[0; 100]].concat();
    assert_eq!(found("image/png", &elf).map(|f| f.0), Some(Family::Upload));
    assert_eq!(found("application/octet-stream", &elf), None);
    assert_eq!(
        found("image/svg+xml", b"<svg><script>go()</script></svg>").map(|f| f.0),
        Some(Family::Upload)
    );
}
