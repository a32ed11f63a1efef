//! The module for hosts that forbid what is optional, within such a host's bounds.

use std::time::Duration;

use portcullis_host_tests::{
    host::{HostError, Options, Process, Profile, Request, Vm},
    run,
};
use xtask::clock::Deadline;

use super::support::{exchange, portcullis, restricted, restricted_file, status_of};

/// What an edge of this kind grants: module and configuration together, a VM's memory, and a request's time.
const BYTES: u64 = 5 * 1024 * 1024;
const MEMORY: usize = 16 * 1024 * 1024;
const TIME: Duration = Duration::from_millis(1);

pub(super) fn edge() -> Options {
    Options {
        profile: Profile::edge(),
        memory_bytes: MEMORY,
        environment: Vec::new(),
        holds_headers: false,
        ..run::options()
    }
}

#[test]
fn a_call_that_is_forbidden_stops_a_module() {
    let Err(error) = Vm::serve(portcullis(), &Process::new(1), &edge(), b"{}") else {
        panic!("the whole module calls what is forbidden, and nobody stopped it")
    };
    assert!(matches!(error, HostError::Trapped { .. }), "{error}");
    assert!(error.to_string().contains("this host forbids it"), "{error}");
}

#[test]
fn the_restricted_module_stays_within_an_edges_bounds() {
    let configuration = include_bytes!("../../../envoy/demonstration.json");
    let bytes = std::fs::metadata(restricted_file()).unwrap().len() + configuration.len() as u64;
    let process = Process::new(1);
    let mut vm = Vm::serve(restricted(), &process, &edge(), configuration).unwrap();
    let request = |number: u64| match number % 3 {
        0 => Request::new("GET", "/shop/items?page=2&sort=price").with("cookie", "session=4f5a6b7c8d9e"),
        1 => Request::new("GET", "/?q=1'%20union%20select%20password%20from%20users--%20"),
        _ => Request::new("POST", "/orders").with("content-type", "application/json").body(format!(
            "{{\"customer\": \"Siobhan O'Brien\", \"note\": \"{}\"}}",
            "a fine day, ".repeat(160)
        )),
    };
    (0..30).for_each(|number| drop(exchange(&mut vm, &request(number))));
    let mut times: Vec<Duration> = (0..300)
        .map(|number| {
            let request = request(number);
            // Within the limits of the demonstration.
            process.advance(Duration::from_secs(1));
            let watch = Deadline::after(Duration::MAX);
            exchange(&mut vm, &request);
            watch.elapsed()
        })
        .collect();
    times.sort();
    let middle = times[times.len() / 2];
    println!(
        "module and configuration {bytes} bytes, memory {} bytes, a request {middle:?}",
        vm.memory_bytes()
    );
    assert!(bytes <= BYTES, "{bytes} bytes");
    assert!(vm.memory_bytes() <= MEMORY, "{} bytes", vm.memory_bytes());
    // The one in the middle: a busy machine takes time from some.
    assert!(middle < TIME, "{middle:?}");
    assert_eq!(status_of(&mut vm, &request(1)), Some(403));
}

#[test]
fn what_is_forbidden_is_not_even_imported() {
    // A host that links nothing forbidden would refuse a module that imports it; ours names the import.
    let bytes = std::fs::read(restricted_file()).unwrap();
    for name in [
        "proxy_http_call",
        "proxy_set_tick_period_milliseconds",
        "proxy_get_shared_data",
        "proxy_define_metric",
    ] {
        let found = bytes.windows(name.len()).any(|window| window == name.as_bytes());
        assert!(!found, "{name} is imported");
    }
}
