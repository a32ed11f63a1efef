//! Uploads that are longer than any buffer on their way: inspected as they flow, held nowhere as a whole.

use crate::{
    stages::demonstration,
    support::{client::Request, fresh_id},
};

const SHELL: &[u8] = b"<?php system($_GET['c']); ?>";
const LENGTH: usize = 10 * 1024 * 1024;
/// Where the web shell stands.
const PLACE: usize = 9 * 1024 * 1024;

/// A file of bytes that are no text, from one seed.
fn file() -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..LENGTH).map(|_| next()).collect()
}

fn multipart(file: &[u8]) -> Request {
    let head = "--XX\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nThe film of our holiday\r\n--XX\r\n\
                Content-Disposition: form-data; name=\"film\"; filename=\"film.mp4\"\r\nContent-Type: video/mp4\r\n\r\n";
    let body = [head.as_bytes(), file, b"\r\n--XX--\r\n"].concat();
    Request::post("/upload", "multipart/form-data; boundary=XX", body)
}

/// Sends it as a tenant of its own; status, reason, and the body that the application got, if it got all of one.
fn send(request: Request) -> (u16, Option<String>, Option<Vec<u8>>) {
    let shared = demonstration();
    let id = fresh_id("upload");
    let answer = shared.stage.send(&request.of(&fresh_id("upload"), &id));
    let body = shared.application.seen(&id).map(|message| message.body);
    (answer.status, answer.reason(), body)
}

#[test]
fn ten_mebibytes_pass_and_a_web_shell_far_into_them_does_not() {
    let clean = file();
    let mut bad = clean.clone();
    bad[PLACE..PLACE + SHELL.len()].copy_from_slice(SHELL);
    let pieces = vec![100_000; LENGTH / 100_000];
    let requests = |file: &[u8]| {
        let image = Request::post("/upload", "image/png", [b"\x89PNG\r\n\x1a\n", file].concat());
        let form = multipart(file);
        [form.clone(), form.in_pieces(pieces.clone()), image]
    };
    for request in requests(&clean) {
        let sent = request.body.len();
        let (status, reason, body) = send(request);
        assert_eq!((status, reason), (200, None));
        assert_eq!(body.map(|body| body.len()), Some(sent), "all of it arrives");
    }
    for request in requests(&bad) {
        let (status, reason, body) = send(request);
        assert_eq!((status, reason.as_deref()), (403, Some("malicious-upload")));
        assert!(body.is_none(), "it never arrives as a whole");
    }
}

#[test]
fn a_long_document_is_read_to_its_end() {
    let rows =
        "{\"name\": \"O'Brien & Sons\", \"note\": \"up to 5 > 4 or so\", \"ok\": true},".repeat(60_000);
    let document = |note: &str| format!("{{\"rows\": [{rows} {{\"note\": \"{note}\"}}]}}").into_bytes();
    let ask = |note: &str| send(Request::post("/api/rows", "application/json", document(note)));
    let (status, reason, body) = ask("the last row");
    assert_eq!((status, reason), (200, None));
    assert!(body.is_some_and(|body| body.len() > 3 * 1024 * 1024));
    let (status, reason, body) = ask("x' UNION SELECT password FROM users -- ");
    assert_eq!((status, reason.as_deref()), (403, Some("sql-injection")));
    assert!(body.is_none());
}
