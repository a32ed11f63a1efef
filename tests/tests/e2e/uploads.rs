//! Uploads that are longer than any buffer on their way: inspected as they flow, held nowhere as a whole.

use std::{thread, time::Duration};

use xtask::clock::Deadline;

use crate::{
    stages::demonstration,
    support::{
        client::{Connection, Request},
        fresh_id,
        http2::{End, Http2},
        message::Unframed,
    },
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

/// What the module holds back, and the most that Envoy reads at once, must fit into Envoy's buffer together: otherwise it
/// answers 413, whoever is faster.
#[test]
fn a_flood_behind_a_trickle_is_no_more_than_can_be_held() {
    let shared = demonstration();
    let text = "the quick brown fox jumps over the lazy dog, ".repeat(200_000);
    let wide: Vec<u8> = text[..4 * 1024 * 1024].encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content_type, body) in
        [("text/plain", text.as_bytes()), ("text/plain; charset=utf-16le", &wide), ("image/png", &file())]
    {
        for trickle in [1, 30_000, 65_536, 120_000] {
            let id = fresh_id("flood");
            let request = Request::post("/upload", content_type, body).of(&fresh_id("flood"), &id);
            let mut connection = Connection::open(shared.stage.envoy());
            connection.send_bytes(&[&request.head(), &body[..trickle]].concat()).unwrap();
            // Until Envoy has read that much, and waits for more; were it slower, nothing would be shown.
            thread::sleep(Duration::from_millis(50));
            // Whoever refuses early may close before everything is sent; its answer is there all the same.
            let sent = connection.send_bytes(&body[trickle..]);
            let answer = connection.receive(Unframed::UntilClose, false).unwrap().unwrap();
            assert_eq!(
                (answer.status, sent.is_ok()),
                (200, true),
                "{content_type} {trickle}: {}",
                answer.text()
            );
            let arrived = shared.application.seen(&id).map(|message| message.body.len());
            assert_eq!(arrived, Some(body.len()), "{content_type} {trickle}");
        }
    }
}

#[test]
fn a_long_body_comes_over_http2_as_well() {
    let shared = demonstration();
    let mut bad = file();
    bad[PLACE..PLACE + SHELL.len()].copy_from_slice(SHELL);
    for (body, wanted) in [(file(), Some(LENGTH)), (bad, None)] {
        let (tenant, id) = (fresh_id("upload"), fresh_id("upload"));
        let headers: [(&[u8], &[u8]); 7] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/upload"),
            (b":authority", b"app.test"),
            (b"x-tenant-id", tenant.as_bytes()),
            (b"x-request-id", id.as_bytes()),
            (b"content-type", b"video/mp4"),
        ];
        let frames: Vec<&[u8]> = body.chunks(16_000).collect();
        let end = Http2::open(shared.stage.envoy()).exchange(&headers, &frames);
        let arrived = shared.application.seen(&id).map(|message| message.body.len());
        assert_eq!((end == End::Answered, arrived), (true, wanted));
    }
}

/// The window of the demonstration, in bytes: the default of `body_max_bytes`.
const WINDOW: usize = 64 * 1024;

/// Sends a body so far that its first window is full and a note stands behind it, and then nothing. The note comes in a piece
/// of its own.
fn begin(note: &str) -> (Connection, String) {
    let shared = demonstration();
    let (words, id) = ("only words and more of them, ".repeat(WINDOW / 29 + 1), fresh_id("slow"));
    let request = Request::post("/comment", "text/plain", "").of(&fresh_id("slow"), &id).in_pieces([]);
    let mut connection = Connection::open(shared.stage.envoy());
    connection.send_bytes(&[request.head(), chunk(&words[..WINDOW])].concat()).unwrap();
    thread::sleep(Duration::from_millis(50));
    connection.send_bytes(&chunk(note)).unwrap();
    (connection, id)
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Sends the end; status, and the length of the body that the application got.
fn finish(mut connection: Connection, id: &str, end: &str) -> (u16, Option<usize>) {
    // Whoever refuses early may close before everything is sent; its answer is there all the same.
    drop(connection.send_bytes(&[chunk(end), b"0\r\n\r\n".to_vec()].concat()));
    let answer = connection.receive(Unframed::UntilClose, false).unwrap().unwrap();
    (answer.status, demonstration().application.seen(id).map(|message| message.body.len()))
}

#[test]
fn of_a_slow_body_nothing_flows_that_looks_like_an_attack_so_far() {
    let application = &demonstration().application;
    let (bad, cut, calm) = ("x' or 1=1 -- ", "<script", "x' or so it is ");
    let (doubtful, first) = begin(bad);
    let (doubted, second) = begin(cut);
    let (fine, third) = begin(calm);
    let arrived = Deadline::after(Duration::from_secs(15)).poll(|| {
        application.arriving(&third).filter(|part| part.ends_with(format!("{calm}\r\n").as_bytes()))
    });
    assert!(arrived.is_some(), "a window that was inspected flows, and what came behind it");
    for id in [&first, &second] {
        assert!(application.arriving(id).is_none(), "not even the head has left");
    }
    assert_eq!(finish(doubtful, &first, "more"), (403, None));
    assert!(application.arriving(&first).is_none());
    // What looked like a tag was a word in brackets.
    let words = format!("able> {}", "and words behind it ".repeat(5000));
    assert_eq!(finish(doubted, &second, &words), (200, Some(WINDOW + cut.len() + words.len())));
    assert_eq!(finish(fine, &third, "more"), (200, Some(WINDOW + calm.len() + 4)));
}
