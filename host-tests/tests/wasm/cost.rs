//! What a request costs, and that nothing grows.

use std::time::Duration;

use portcullis_host_tests::{
    case::Facts,
    host::{Message, Process, Request, Trace, Vm},
    run::{self, receipt, records_of},
};
use serde_json::{Value, json};
use xtask::clock::Deadline;

use super::support::{exchange, status_of, worker};

/// A small GET as a browser sends it.
fn plain(number: u64) -> Request {
    // Every route of Envoy's belongs to a virtual host that has a name.
    let known = Facts { virtual_host: Some("application".to_owned()), ..Facts::default() };
    Request { properties: run::properties(&known), ..Request::new("GET", "/shop/items?page=2") }
        .with("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .with("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
        .with("accept-language", "en-US,en;q=0.5")
        .with("accept-encoding", "gzip, deflate, br")
        .with("cookie", "session=4f5a6b7c8d9e; theme=dark")
        .with("x-forwarded-for", "127.0.0.1")
        .with("x-forwarded-proto", "http")
        .with("x-request-id", format!("0f3b7c1e-5d2a-4c8b-9e6f-{number:012}"))
}

fn answer() -> Message {
    let mut answer = Message::answer(200, "ok");
    if let Some(headers) = answer.headers.as_mut() {
        for (name, value) in
            [("content-type", "text/html"), ("content-length", "2"), ("server", "nginx/1.27.1")]
        {
            headers.add(name, value);
        }
    }
    answer
}

/// An order of 2 KB.
fn order(number: u64) -> Request {
    let item = |n: u64| json!({"sku": format!("SHOE-{n:05}"), "name": "Running shoe, blue & white", "quantity": n, "note": "Please don't fold the box; leave it at the door."});
    let items: Vec<Value> = (0..15).map(item).collect();
    let body = json!({"customer": {"name": "Siobhan O'Brien"}, "items": items}).to_string();
    assert!((1_800..2_400).contains(&body.len()), "{}", body.len());
    let mut request = plain(number);
    request.headers.replace(":method", "POST");
    request.with("content-type", "application/json").with("content-length", body.len().to_string()).body(body)
}

/// Fuel and host calls of one request, averaged over many.
fn measured(configuration: &Value, request: fn(u64) -> Request) -> (u64, Trace, u64) {
    let process = Process::new(1);
    let mut vm = worker(&process, configuration);
    let requests = 50;
    let serve = |vm: &mut Vm, number: u64| {
        let outcome = vm.exchange(&request(number), &answer()).unwrap();
        assert_eq!(outcome.downstream.headers.unwrap().status(), Some(200));
    };
    (0..10).for_each(|number| serve(&mut vm, number));
    vm.take_fuel();
    vm.take_trace();
    (0..requests).for_each(|number| serve(&mut vm, number));
    (vm.take_fuel() / requests, vm.take_trace(), requests)
}

#[test]
fn a_plain_get_costs_little() {
    for (what, configuration, most_calls, most_fuel) in [
        ("the chain", json!({}), 26, 145_000),
        ("headers alone", json!({"policies": ["headers"]}), 21, 60_000),
        ("no policy", json!({"policies": []}), 5, 30_000),
    ] {
        let (fuel, trace, requests) = measured(&configuration, plain);
        println!(
            "{what}: {fuel} fuel, {:.1} host calls per plain GET",
            trace.total() as f64 / requests as f64
        );
        for (name, count) in trace.iter() {
            println!("  {:>5.2} {name}", count as f64 / requests as f64);
        }
        assert!(trace.total() <= most_calls * requests, "{what}: {} host calls", trace.total() / requests);
        assert!(fuel <= most_fuel, "{what}: {fuel} fuel");
    }
}

/// Three limits that have nothing to learn from a response, of a user who is known: neither the response nor the address is
/// asked for. Of limits that are busy no slot is asked either; of rare ones, one of the tenant and one of the user.
#[test]
fn limits_ask_for_little() {
    let rule =
        |name: &str, per: &[&str]| json!({"name": name, "per": per, "limit": 1_000_000, "window": "1s"});
    let mut action = rule("action", &["tenant", "user"]);
    action["action"] = json!("api_call");
    let configuration = json!({
        "policies": ["rate_limit"],
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}]},
        "rate_limit": {"rules": [rule("tenant", &["tenant"]), rule("user", &["tenant", "user"]), action]}
    });
    let busy = |number| plain(number).with("x-tenant-id", "acme").with("x-user-id", "alice");
    let rare = |number| plain(number).with("x-tenant-id", format!("t{number}")).with("x-user-id", "alice");
    for (what, request, slots, most_fuel) in
        [("busy", busy as fn(u64) -> Request, 0, 55_000), ("rare", rare, 2, 90_000)]
    {
        let (fuel, trace, requests) = measured(&configuration, request);
        println!(
            "three {what} limits: {fuel} fuel, {:.1} host calls",
            trace.total() as f64 / requests as f64
        );
        for (call, most) in [
            ("proxy_get_header_map_pairs", 1),
            ("proxy_get_property", 1),
            ("proxy_get_shared_data", slots),
            ("proxy_set_shared_data", slots),
            // The two fields, and the ID.
            ("proxy_replace_header_map_value", 3),
            ("clock_time_get", 1),
        ] {
            assert_eq!(trace.count(call), most * requests, "{what}: {call}");
        }
        assert!(fuel <= most_fuel, "{what}: {fuel} fuel");
    }
}

/// What inspecting adds to a module that does nothing.
#[test]
fn inspecting_costs_little() {
    type Make = fn(u64) -> Request;
    for (what, request, most_fuel) in
        [("a plain GET", plain as Make, 40_000), ("an order of 2 KB", order as Make, 510_000)]
    {
        let (empty, ..) = measured(&json!({"policies": []}), request);
        let (fuel, trace, requests) = measured(&json!({"policies": ["sanitize"]}), request);
        let added = fuel.saturating_sub(empty);
        println!("{what}: sanitize adds {added} fuel to {empty}, {} host calls", trace.total() / requests);
        assert!(added <= most_fuel, "{what}: {added} fuel");
    }
}

/// Requests after which memory must have reached its size, and the most that a VM may have.
const SETTLED: u64 = 20_000;
const MEMORY: usize = 16 * 1024 * 1024;

/// `REQUESTS=1000000` sends so many: `make endurance`.
#[test]
fn memory_does_not_grow_with_requests() {
    let requests = std::env::var("REQUESTS").map_or(120_000, |text| text.parse().unwrap());
    assert!(requests > SETTLED, "REQUESTS={requests}: more than {SETTLED} are needed");
    let process = Process::new(1);
    let config = json!({
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}]},
    });
    let mut vm = worker(&process, &config);
    let serve = |vm: &mut Vm, number: u64| {
        let request = match number % 4 {
            0 => plain(number),
            1 => Request::new("POST", "/login")
                .body(format!("name=O'Brien&n={number}"))
                .with("x-user-id", number.to_string()),
            2 => Request::new("GET", format!("/?q=1'%20or%201=1%20--%20{number}")),
            _ => plain(number).with("x-tenant-id", format!("tenant-{}", number % 5000)),
        };
        exchange(vm, &request);
        if number.is_multiple_of(200) {
            process.advance(Duration::from_millis(500));
            vm.tick().unwrap();
        }
        for call in vm.take_calls() {
            vm.answer(call.token, receipt(records_of(&call.body).unwrap().len())).unwrap();
        }
    };
    (0..SETTLED).for_each(|number| serve(&mut vm, number));
    let before = vm.memory_bytes();
    (SETTLED..requests).for_each(|number| serve(&mut vm, number));
    println!("memory: {before} bytes after {SETTLED} requests, {} after {requests}", vm.memory_bytes());
    assert_eq!(vm.memory_bytes(), before);
    assert!(before <= MEMORY, "{before} bytes");
    assert_eq!(process.metric("portcullis_audit_dropped_total"), 0);
}

/// Keys after which memory must have reached its size, and the most that a worker may have for a million of them.
const KEYS_SETTLED: u64 = 20_000;
const KEYS_MEMORY: usize = 64 * 1024 * 1024;

/// `KEYS=10000000` limits so many users, each by a limit that stays in use: `make endurance`.
#[test]
fn memory_does_not_grow_with_keys() {
    let keys = std::env::var("KEYS").map_or(60_000, |text| text.parse().unwrap());
    assert!(keys > KEYS_SETTLED, "KEYS={keys}: more than {KEYS_SETTLED} are needed");
    let process = Process::new(1);
    let config = json!({
        "policies": ["rate_limit"],
        "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client"}]},
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}]},
        "rate_limit": {"rules": [{"name": "daily", "per": ["tenant", "user"], "limit": 1, "window": "24h"}]},
    });
    let mut vm = worker(&process, &config);
    let (mut settled, mut shared) = (0, Vec::new());
    for key in 0..keys {
        let request = Request::new("GET", "/")
            .with("x-tenant-id", format!("tenant-{}", key % 1000))
            .with("x-user-id", format!("user-{key}"));
        exchange(&mut vm, &request);
        if key.is_multiple_of(1000) {
            vm.tick().unwrap();
            vm.take_calls();
        }
        if key == KEYS_SETTLED {
            settled = vm.memory_bytes();
        }
        if (key + 1).is_multiple_of(keys / 10) {
            let data = process.shared_data();
            println!(
                "{} keys: {} bytes of the VM, {} shared by all workers under {} names",
                key + 1,
                vm.memory_bytes(),
                data.bytes(),
                data.keys().len()
            );
            shared.push(data.bytes());
        }
    }
    assert_eq!(vm.memory_bytes(), settled, "the VM grew");
    let most = portcullis_policy::limits::SHARED_SLOTS as usize;
    let (names, bytes) = (process.shared_data().keys().len(), process.shared_data().bytes());
    assert!(names <= most + 2, "{names} names");
    assert!(bytes + vm.memory_bytes() <= KEYS_MEMORY, "{bytes} shared, {} of the VM", vm.memory_bytes());
    // A slot has 13 places: with so many keys every slot is full, and stays as large as it is.
    if keys >= 80 * u64::from(portcullis_policy::limits::SHARED_SLOTS) / 2 {
        assert_eq!(shared[shared.len() / 2], shared[shared.len() - 1], "shared data grew");
    }
}

/// A new VM, from nothing to its first request: the module itself is compiled already.
#[test]
fn a_worker_is_ready_at_once() {
    let demonstration: Value =
        serde_json::from_str(include_str!("../../../envoy/demonstration.json")).unwrap();
    let ready = || {
        let process = Process::new(1);
        let start = Deadline::after(Duration::MAX);
        drop(worker(&process, &demonstration));
        start.elapsed()
    };
    ready();
    let mut times: Vec<Duration> = (0..20).map(|_| ready()).collect();
    times.sort();
    println!("ready: {:?} at best, {:?} in the middle of {}", times[0], times[times.len() / 2], times.len());
    // The best: a busy machine takes time from all others.
    assert!(times[0] <= Duration::from_millis(20), "{times:?}");
}

#[test]
fn memory_does_not_grow_with_configurations_or_abandoned_streams() {
    let mut vm = worker(&Process::new(1), &json!({}));
    let round = |vm: &mut Vm| {
        for _ in 0..20 {
            let text = br#"{"rate_limit": {"mode": "off"}, "routes": [{"match": {"path": "/a"}}]}"#;
            assert!(vm.configure(text).unwrap());
        }
        for _ in 0..200 {
            let stream = vm.open(portcullis_host_tests::host::Properties::new());
            let headers = Request::new("POST", "/").with("content-type", "application/json").headers;
            stream.request_headers(vm, headers, false).unwrap();
            stream.request_body(vm, b"{\"a\": \"", false).unwrap();
            stream.end(vm).unwrap();
        }
        vm.tick().unwrap();
        vm.take_calls().into_iter().for_each(|call| {
            let stored = records_of(&call.body).unwrap().len();
            vm.answer(call.token, receipt(stored)).unwrap();
        });
    };
    (0..5).for_each(|_| round(&mut vm));
    let before = vm.memory_bytes();
    (0..10).for_each(|_| round(&mut vm));
    assert_eq!(vm.memory_bytes(), before);
    assert_eq!(status_of(&mut vm, &Request::new("GET", "/")), Some(200));
}
