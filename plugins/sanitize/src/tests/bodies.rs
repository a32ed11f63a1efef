//! Bodies as they stream by: windows, encodings, and that chunks make no difference.

use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

use super::*;

const FORM: &str = "application/x-www-form-urlencoded";
const PARTS: &str = "multipart/form-data; boundary=b";
const SHELL: &[u8] = b"<?php system($_GET['c']); ?>";

fn gzip(text: &[u8]) -> Vec<u8> {
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &compress_to_vec(text, 1), &[0; 8]].concat()
}

/// Sends a body in pieces; status, reason, and how often it was let flow.
fn send(wire: serde_json::Value, kind: &str, body: &[u8], size: usize) -> (u16, &'static str, usize) {
    let headers: &[Header<'_>] = &[(b"content-type", kind.as_bytes())];
    let chunks: Vec<&[u8]> = body.chunks(size).collect();
    let effects = play(&policy(wire), headers, &chunks);
    let passed = effects.iter().filter(|effect| **effect == Effect::PassRequestBody).count();
    (status(&effects), decision(&effects).map_or("", |decision| decision.reason), passed)
}

/// Makes a body of a value.
type Make<'m> = &'m dyn Fn(&str) -> Vec<u8>;

/// A file in a multipart form.
fn upload(content: &[u8]) -> Vec<u8> {
    let head = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--b\r\nContent-Disposition: form-data; \
                name=\"f\"; filename=\"a.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n";
    [head.as_bytes(), content, b"\r\n--b--\r\n"].concat()
}

#[test]
fn what_stands_far_into_a_body_is_found_in_every_kind() {
    let long = 150_000;
    let bad = "x' or 1=1 -- ";
    let json = |value: &str| {
        let mut text = String::from("{\"rows\": [");
        while text.len() < long {
            text +=
                "{\"id\": 17, \"name\": \"O'Brien & Sons\", \"ok\": true, \"x\": -2.5e3, \"none\": null},\n";
        }
        (text + &format!("{{\"note\": \"{value}\"}}]}}")).into_bytes()
    };
    let form = |value: &str| {
        let pairs: String =
            (0..450).map(|number| format!("row{number}={}&", "some+text+".repeat(30))).collect();
        (pairs + &format!("note={}", value.replace(' ', "+"))).into_bytes()
    };
    let xml = |value: &str| {
        let rows = "<row id=\"17\"><name>O'Brien &amp; Sons</name></row>\n".repeat(long / 50);
        format!("<?xml version=\"1.0\"?><a>{rows}<note>{value}</note></a>").into_bytes()
    };
    let text = |value: &str| ("Nothing to see here, only words.\n".repeat(long / 33) + value).into_bytes();
    let parts = |value: &str| {
        let head = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n";
        [&upload(&vec![7; long])[..long], b"\r\n", head.as_bytes(), value.as_bytes(), b"\r\n--b--"].concat()
    };
    let kinds: [(&str, Make<'_>); 5] = [
        ("application/json", &json),
        (FORM, &form),
        ("application/xml", &xml),
        ("text/plain", &text),
        (PARTS, &parts),
    ];
    for (kind, make) in kinds {
        for size in [1000, 65_536, long * 2] {
            let (status, reason, _) = send(json!({}), kind, &make(bad), size);
            assert_eq!((status, reason), (403, "sql-injection"), "{kind} in {size}");
            let (status, reason, passed) = send(json!({}), kind, &make("a or b"), size);
            assert_eq!((status, reason), (200, ""), "{kind} in {size}");
            assert!(passed > 0 || size > long, "{kind} in {size}");
        }
    }
}

#[test]
fn one_value_longer_than_the_window_is_seen_in_pieces() {
    let long = "word and word again ".repeat(10_000);
    let bad = "<script>go()</script>";
    for (kind, before, after) in [
        ("application/json", "{\"a\": \"", "\"}"),
        (FORM, "a=", "&b=1"),
        ("application/xml", "<a>", "</a>"),
        ("application/xml", "<a><![CDATA[", "]]></a>"),
        ("text/plain", "", ""),
        (PARTS, "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n", "\r\n--b--"),
    ] {
        // Elements are no markup in XML; text is.
        let bad = if before == "<a>" { "&lt;script>go()&lt;/script>" } else { bad };
        let body = |value: &str| format!("{before}{long}{value}{long}{after}").into_bytes();
        assert_eq!(send(json!({}), kind, &body(bad), 5000).0, 403, "{kind} {before}");
        assert_eq!(send(json!({}), kind, &body("script"), 5000).0, 200, "{kind} {before}");
    }
    let escaped = |value: &str| format!("{{\"a\": \"{}{value}\"}}", "\\\\\\\"\\u00e9".repeat(20_000));
    assert_eq!(
        send(json!({}), "application/json", escaped("\\u003cscript\\u003ego()").as_bytes(), 777).0,
        403
    );
    assert_eq!(send(json!({}), "application/json", escaped("").as_bytes(), 777).0, 200);
}

#[test]
fn what_becomes_of_long_bodies_is_configured_and_uploads_always_pass() {
    let fill = b"some words ".repeat(2000);
    let text = [&fill[..], BAD.as_bytes()].concat();
    let wire = |answer: &str| json!({"body_max_bytes": 8192, "on_oversize": answer});
    assert_eq!(send(wire("inspect"), "text/plain", &text, 1000).0, 403);
    assert_eq!(send(wire("allow"), "text/plain", &text, 1000), (200, "", 0));
    assert_eq!(send(wire("deny"), "text/plain", &text, 1000), (413, "body-too-large", 0));
    // A body that fits exactly is not too long, and held until all of it was seen.
    assert_eq!(send(wire("deny"), "text/plain", &fill[..8192], 1000), (200, "", 0));
    assert_eq!(send(wire("inspect"), "text/plain", &fill[..8192], 1000), (200, "", 0));
    for answer in ["inspect", "allow", "deny"] {
        let file = |end: &[u8]| upload(&[&vec![0x89; 100_000][..], end].concat());
        assert_eq!(send(wire(answer), PARTS, &file(b""), 1000).0, 200);
        assert_eq!(send(wire(answer), PARTS, &file(SHELL), 1000).0, 403);
        let raw = [&b"\x89PNG\r\n\x1a\n"[..], &[0; 100_000], SHELL].concat();
        assert_eq!(send(wire(answer), "image/png", &raw, 1000).0, 403);
        assert_eq!(send(wire(answer), "image/png", &raw[..90_000], 1000).0, 200);
    }
}

#[test]
fn what_is_only_noted_is_told_once() {
    let many = "<script>go()</script> and so on ".repeat(20_000);
    let headers: &[Header<'_>] = &[(b"content-type", b"text/plain")];
    let chunks: Vec<&[u8]> = many.as_bytes().chunks(10_000).collect();
    let effects = play(&policy(json!({"mode": "monitor"})), headers, &chunks);
    assert_eq!((status(&effects), count(&effects, &DETECTED)), (200, 1));
}

#[test]
fn encoded_bodies_are_decoded_as_they_stream() {
    let send = |wire, encoding: &str, body: &[u8]| {
        let headers: &[Header<'_>] =
            &[(b"content-type", b"text/plain"), (b"content-encoding", encoding.as_bytes())];
        let chunks: Vec<&[u8]> = body.chunks(700).collect();
        let effects = play(&policy(wire), headers, &chunks);
        (status(&effects), count(&effects, &UNDECODABLE), count(&effects, &OVERSIZE))
    };
    assert_eq!(send(json!({}), "gzip", &gzip(BAD.as_bytes())), (403, 0, 0));
    assert_eq!(send(json!({}), "gzip", &gzip(b"hello")), (200, 0, 0));
    assert_eq!(send(json!({}), "deflate", &compress_to_vec(BAD.as_bytes(), 6)), (403, 0, 0));
    assert_eq!(send(json!({}), "deflate", &compress_to_vec_zlib(BAD.as_bytes(), 6)), (403, 0, 0));
    assert_eq!(send(json!({}), "gzip", BAD.as_bytes()), (415, 1, 0));
    assert_eq!(send(json!({}), "br", b"hello"), (415, 1, 0));
    assert_eq!(send(json!({"on_error": "allow"}), "br", b"hello"), (200, 1, 0));
    assert_eq!(send(json!({"mode": "monitor"}), "br", b"hello"), (200, 1, 0));
    let long: Vec<u8> = (0..100_000).flat_map(|number: u32| format!("row {number} ").into_bytes()).collect();
    assert_eq!(send(json!({}), "gzip", &gzip(&long)), (200, 0, 0));
    assert_eq!(send(json!({}), "gzip", &gzip(&[&long[..], BAD.as_bytes()].concat())), (403, 0, 0));
    assert_eq!(send(json!({}), "gzip", &gzip(&long)[..50_000]), (415, 1, 0));
    // A bomb.
    let bomb = gzip(&vec![b'a'; 4 << 20]);
    assert_eq!(send(json!({}), "gzip", &bomb), (413, 0, 1));
    assert_eq!(send(json!({"on_oversize": "deny"}), "gzip", &bomb), (413, 0, 1));
    assert_eq!(send(json!({"on_oversize": "allow"}), "gzip", &bomb), (200, 0, 1));
}

#[test]
fn memory_and_work_do_not_grow_with_the_length() {
    let policy = policy(json!({}));
    for (kind, piece) in [
        (PARTS, &[7; 50_000][..]),
        ("application/zip", &[b'P'; 50_000]),
        ("application/json", &b"{\"a\": \"some words\", \"b\": [1, 2]},".repeat(1000)),
        (FORM, &b"a=some+words".repeat(4000)),
    ] {
        let headers = Headers::new(vec![(&b"content-type"[..], kind.as_bytes())]);
        let config = &policy.config;
        let mut body = Body::expected(&headers, config).unwrap();
        let mut inspector = Inspector::new(config);
        let head = upload(b"");
        body.add(&head[..head.len() - b"\r\n--b--\r\n".len()], false, &mut inspector);
        for _ in 0..200 {
            body.add(piece, false, &mut inspector);
            assert!(body.held() <= config.window, "{kind}");
        }
        assert_eq!(body.add(b"", true, &mut inspector), Progress::Done(Report::default()), "{kind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn chunk_borders_make_no_difference(
        pieces in proptest::collection::vec((piece(), 1_usize..500), 0..8),
        kind in 0_usize..10,
        encoding in 0_usize..4,
        pad in 0_usize..200,
        cuts in proptest::collection::vec(0_usize..3000, 0..12),
        size in 1_usize..4000,
    ) {
        let kinds = [
            "application/json", FORM, "text/plain", "", PARTS, "application/xml", "application/json; charset=utf-16",
            "image/png", "application/octet-stream", "application/zip",
        ];
        let encoding = ["identity", "gzip", "deflate", "identity"][encoding];
        let headers: &[Header<'_>] = &[(b"content-type", kinds[kind].as_bytes()), (b"content-encoding", encoding.as_bytes())];
        let policy = policy(json!({"body_max_bytes": 8192}));
        let mut body: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece.repeat(*times)).collect();
        // Behind what a file begins with.
        if kind > 6 {
            body.splice(..0, [&b"\x89PNG\r\n\x1a\n"[..], &vec![0; pad]].concat());
        }
        let body = match encoding {
            "gzip" => gzip(&body),
            "deflate" => compress_to_vec(&body, 1),
            _ => body,
        };
        let whole = play(&policy, headers, &[&body]);
        let mut chunks: Vec<&[u8]> = Vec::new();
        let mut rest = &body[..];
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.extend(rest.chunks(size));
        chunks.push(b"");
        let cut = play(&policy, headers, &chunks);
        prop_assert_eq!(status(&whole), status(&cut));
        prop_assert_eq!(decision(&whole), decision(&cut));
    }
}

/// Pieces that bodies and attacks consist of.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: [&[u8]; 18] = [
        b"{\"a\": \"",
        b"\"}",
        b"\\\"",
        b"a=",
        b"&",
        b"<script>",
        b"<a b='",
        b"<![CDATA[",
        b"\\u003c",
        b"%3c",
        b"' or 1=1 --",
        b"../../etc/passwd",
        b"--b\r\n",
        b"Content-Disposition: form-data; name=\"a\"; filename=\"a.png\"\r\n",
        b"\r\n\r\n",
        b"; cat /etc/passwd",
        SHELL,
        b" text ",
    ];
    prop_oneof![
        (0..known.len()).prop_map(move |index| known[index].to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

#[test]
fn nothing_flows_with_a_window_that_looks_like_an_attack_so_far() {
    let long = "Nothing to see here, only words. ".repeat(280);
    let rows = |note: &str| format!("[{{\"text\": \"{long}\"}}, {{\"note\": \"{note}\", \"rest\": \"");
    let pairs = |note: &str| format!("text={}&note={}&rest=", long.replace(' ', "+"), note.replace(' ', "+"));
    let field = |note: &str| {
        let head = |name: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        format!("{}{long}\r\n{}{note}\r\n{}", head("text"), head("note"), head("rest"))
    };
    let plain = |note: &str| format!("{long}{note} ");
    type Make<'m> = &'m dyn Fn(&str) -> String;
    let kinds: [(&str, Make<'_>); 4] =
        [("application/json", &rows), (FORM, &pairs), (PARTS, &field), ("text/plain", &plain)];
    let wire = || json!({"body_max_bytes": 8192});
    for (kind, make) in kinds {
        // The first window is full, and in the same piece there is all of the attack; the next window never fills.
        let flows = |note: &str, end: &str| {
            let first = make(note);
            assert!(first.len() > 8192 && first.len() < 12_000);
            let headers: &[Header<'_>] = &[(b"content-type", kind.as_bytes())];
            let effects = play(&policy(wire()), headers, &[first.as_bytes(), end.as_bytes(), b""]);
            let passed = effects.iter().filter(|effect| **effect == Effect::PassRequestBody).count();
            (status(&effects), passed)
        };
        assert_eq!(flows("x' or 1=1 -- ", "more"), (403, 0), "{kind}");
        assert_eq!(flows("x' or so it is", "more"), (200, 1), "{kind}");
        // It is a doubt, and no decision: what comes behind makes a sentence of it.
        let (status, _) = flows("two and two", "more");
        assert_eq!(status, 200, "{kind}");
    }
}

#[test]
fn a_doubt_ends_with_the_window_that_it_is_about() {
    let words = "only words and more of them, ".repeat(400);
    let wire = json!({"body_max_bytes": 8192, "families": {"sql-injection": "monitor"}});
    let doubt = format!("{}x' or 1=1 -- {words}", &words[..8300]);
    // Monitored findings hold nothing back.
    assert_eq!(send(wire, "text/plain", doubt.as_bytes(), 8400).2, 2);
    let cut = format!("{}<script", &words[..8300]);
    let headers: &[Header<'_>] = &[(b"content-type", b"text/plain")];
    let rest = format!("able> and {words}");
    let effects =
        play(&policy(json!({"body_max_bytes": 8192})), headers, &[cut.as_bytes(), rest.as_bytes(), b""]);
    let passed = effects.iter().filter(|effect| **effect == Effect::PassRequestBody).count();
    assert_eq!(
        (status(&effects), passed),
        (200, 1),
        "what was no attack after all flows with the next window"
    );
}

#[test]
fn the_last_byte_of_a_told_length_waits_for_the_end() {
    let text = "Nothing to see here, only words.\n".repeat(3000);
    for (bad, expected) in [("x' or 1=1 -- ", 403), ("the end", 200)] {
        // An attack that is there does not flow either.
        let untold = if expected == 403 { 1 } else { 2 };
        let body = [text.as_bytes(), bad.as_bytes()].concat();
        let (first, last) = body.split_at(40_000);
        let length = body.len().to_string();
        for (told, most) in [(true, 1), (false, untold)] {
            let mut headers: Vec<Header<'_>> = vec![(b"content-type", b"text/plain")];
            if told {
                headers.push((b"content-length", length.as_bytes()));
            }
            let effects = play(&policy(json!({"body_max_bytes": 16384})), &headers, &[first, last, b""]);
            let passed = effects.iter().filter(|effect| **effect == Effect::PassRequestBody).count();
            assert_eq!((status(&effects), passed), (expected, most));
        }
    }
}
