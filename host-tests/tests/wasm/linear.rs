//! Work grows with the length and no faster, whatever the bytes are. It is counted in fuel, so that a busy machine makes no
//! difference: ten times the bytes burn at most twelve times as much.

use portcullis_host_tests::{
    host::{Process, Request, Vm},
    run,
};
use serde_json::json;

use super::{
    hostile::PARTS,
    support::{exchange, status_of, worker, worker_with},
};

const TYPES: [&str; 6] = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/json",
    "application/xml",
    "multipart/form-data; boundary=x",
    "image/png",
];

/// A worker that inspects everything to its end.
fn monitoring() -> Vm {
    let wire = json!({"policies": ["sanitize"], "sanitize": {"mode": "monitor", "sensitivity": 1}});
    worker(&Process::new(1), &wire)
}

/// Fuel of a request with that body, sent in pieces as a proxy reads them.
fn fuel(vm: &mut Vm, kind: &str, body: &[u8]) -> u64 {
    vm.take_fuel();
    let stream = vm.open(portcullis_host_tests::host::Properties::new());
    let headers = Request::new("POST", "/").with("content-type", kind).headers;
    stream.request_headers(vm, headers, false).unwrap();
    let mut pieces = body.chunks(16 * 1024).peekable();
    while let Some(piece) = pieces.next() {
        let done = stream.request_body(vm, piece, pieces.peek().is_none());
        let begins = || body.get(..60).unwrap_or(body).escape_ascii();
        done.unwrap_or_else(|error| {
            panic!("{} bytes of {kind} that begin {}: {error}", body.len(), begins())
        });
    }
    stream.end(vm).unwrap();
    vm.take_fuel()
}

#[test]
fn ten_times_the_bytes_cost_at_most_twelve_times_the_work() {
    let mut vm = monitoring();
    let mut worst = (0.0, String::new());
    for kind in TYPES {
        // What every request costs, whatever is in it.
        let own = fuel(&mut vm, kind, b"x");
        for part in PARTS {
            let body = |length: usize| part.repeat(length / part.len()).into_bytes();
            let short = fuel(&mut vm, kind, &body(5_000)).saturating_sub(own).max(10_000);
            let long = fuel(&mut vm, kind, &body(50_000)).saturating_sub(own);
            let ratio = long as f64 / short as f64;
            if ratio > worst.0 {
                worst = (ratio, format!("{part:?} as {kind}"));
            }
            assert!(ratio <= 12.0, "{part:?} as {kind}: {short} fuel for 5,000 bytes, {long} for 50,000");
        }
    }
    println!("worst of {}: {:.2} with {}", PARTS.len() * TYPES.len(), worst.0, worst.1);
}

#[test]
fn a_long_upload_costs_in_proportion_and_no_memory() {
    let mut vm = monitoring();
    let kind = "multipart/form-data; boundary=x";
    let upload = |length: usize| {
        let head = "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.zip\"\r\n\r\n";
        [head.as_bytes(), &b"PK\x03\x04 some of the bytes < that <% files hold".repeat(length / 40)].concat()
    };
    let short = fuel(&mut vm, kind, &upload(1_000_000));
    let before = vm.memory_bytes();
    let long = fuel(&mut vm, kind, &upload(10_000_000));
    println!("1 MB: {short} fuel, 10 MB: {long}; memory {before} bytes, then {}", vm.memory_bytes());
    assert!(long <= 12 * short);
    assert_eq!(vm.memory_bytes(), before);
}

#[test]
fn configuring_is_quick_and_memory_is_small() {
    // Bytes of a VM that serves, and fuel of a start: a millisecond burns some two million.
    const MEMORY: usize = 16 * 1024 * 1024;
    const FUEL: u64 = 20 * 2_000_000;
    let mut vm = worker_with(&Process::new(1), &run::options(), &json!({"rate_limit": {"mode": "off"}}));
    let started = vm.take_fuel();
    println!("start: {started} fuel, {} bytes", vm.memory_bytes());
    assert!(started <= FUEL, "{started}");
    for number in 0..2000 {
        let request = Request::new("POST", format!("/a?n={number}")).body("a=1&b=two".repeat(500));
        exchange(&mut vm, &request);
    }
    assert!(vm.memory_bytes() <= MEMORY, "{}", vm.memory_bytes());
    assert_eq!(status_of(&mut vm, &Request::new("GET", "/")), Some(200));
}
