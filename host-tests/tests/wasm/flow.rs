//! How much of a body is held back: never more than a host can keep, however it is cut on its way.

use portcullis_host_tests::{
    host::{Flow, HeaderMap, Options, Process, Properties, Vm},
    run,
};
use serde_json::{Value, json};

use super::support::worker_with;

/// The module's window by default.
const WINDOW: usize = 64 * 1024;
/// The most that the host hands over at once.
const PIECE: usize = 384 * 1024;
const LENGTH: usize = 1024 * 1024;

/// A host that can keep so much, and a piece on top of it.
fn keeping(bytes: usize, config: &Value) -> Vm {
    let options = Options { body_bytes: bytes + PIECE, ..run::options() };
    worker_with(&Process::new(1), &options, config)
}

/// Sizes of pieces: a byte, around the window, the most that there is; each after each.
fn cuts() -> Vec<Vec<usize>> {
    let sizes = [1, 30_000, WINDOW, WINDOW + 1, PIECE];
    let pairs = sizes.iter().flat_map(|a| sizes.iter().map(|b| vec![*a, *b]));
    pairs.chain([sizes.to_vec()]).collect()
}

/// Sends a body in pieces of these sizes, and then of the largest; the status, and how much arrived.
fn send(vm: &mut Vm, content_type: &str, sized: bool, body: &[u8], sizes: &[usize]) -> (Option<u16>, usize) {
    let mut headers = HeaderMap::new()
        .with(":method", "POST")
        .with(":path", "/upload")
        .with(":authority", "app.test")
        .with("content-type", content_type);
    if sized {
        headers = headers.with("content-length", body.len().to_string());
    }
    let stream = vm.open(Properties::new().with(&["source", "address"], "127.0.0.1:40000"));
    let mut flow = stream.request_headers(vm, headers, false).unwrap();
    let mut rest = body;
    let mut sizes = sizes.iter().copied();
    while !rest.is_empty() && flow != Flow::Answered {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(PIECE).min(rest.len()));
        flow = stream.request_body(vm, piece, false).unwrap();
        rest = after;
    }
    if flow != Flow::Answered {
        stream.request_body(vm, b"", true).unwrap();
    }
    if stream.has_arrived(vm).unwrap() {
        stream.response_headers(vm, HeaderMap::new().with(":status", "200"), true).unwrap();
    }
    let outcome = stream.end(vm).unwrap();
    let status = outcome.downstream.headers.and_then(|headers| headers.status());
    (status, if outcome.upstream.complete { outcome.upstream.body.len() } else { 0 })
}

#[test]
fn a_window_and_a_piece_are_the_most_that_is_held() {
    let text = "the quick brown fox jumps over the lazy dog, ".repeat(LENGTH / 45).into_bytes();
    let rows =
        format!("[{}1]", "{\"name\": \"fox\", \"note\": \"over the dog\"},".repeat(LENGTH / 41)).into_bytes();
    let wide: Vec<u8> = text.iter().flat_map(|byte| [*byte, 0]).collect();
    let config = json!({"sanitize": {"mode": "enforce"}, "rate_limit": {"mode": "off"}});
    for (content_type, body, held) in [
        ("text/plain", &text, WINDOW),
        ("application/json", &rows, WINDOW),
        ("image/png", &text, WINDOW),
        // And a character that is not complete yet.
        ("text/plain; charset=utf-16le", &wide, 2 * WINDOW + 4),
    ] {
        let mut vm = keeping(held, &config);
        for (sizes, sized) in cuts().iter().flat_map(|sizes| [(sizes, true), (sizes, false)]) {
            let (status, arrived) = send(&mut vm, content_type, sized, body, sizes);
            assert_eq!((status, arrived), (Some(200), body.len()), "{content_type} {sized} {sizes:?}");
        }
    }
}

#[test]
fn an_attack_far_in_is_refused_with_our_own_reason() {
    let config = json!({"sanitize": {"mode": "enforce"}, "rate_limit": {"mode": "off"}});
    let mut vm = keeping(WINDOW, &config);
    let mut body = b"the quick brown fox jumps over the lazy dog, ".repeat(LENGTH / 45);
    let shell = b"<?php system($_GET['c']); ?>";
    let place = LENGTH - 100_000;
    body[place..place + shell.len()].copy_from_slice(shell);
    for (sizes, sized) in cuts().iter().flat_map(|sizes| [(sizes, true), (sizes, false)]) {
        assert_eq!(send(&mut vm, "image/png", sized, &body, sizes), (Some(403), 0), "{sized} {sizes:?}");
    }
}
