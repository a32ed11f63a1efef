//! Other hosts than Envoy, hosts that deny, and configurations that cannot be used.

use portcullis_host_tests::{
    host::{HostError, Options, Process, Profile, Request, Trap, Vm},
    run,
};
use serde_json::{Value, json};

use super::support::{exchange, log, portcullis, restricted, status, status_of, worker, worker_with};

fn on(profile: Profile) -> Options {
    Options { profile, ..run::options() }
}

fn attack() -> Request {
    Request::new("GET", "/?q=1'%20union%20select%20password%20from%20users--%20")
}

fn login() -> Request {
    Request::new("POST", "/login")
}

#[test]
fn a_host_with_nothing_optional_still_gets_decisions() {
    for (profile, module) in [(Profile::restricted(), portcullis()), (Profile::edge(), restricted())] {
        let process = Process::new(1);
        let mut vm = Vm::serve(module, &process, &on(profile), b"{}").unwrap();
        let outcome = exchange(&mut vm, &Request::new("GET", "/"));
        assert_eq!(status(&outcome), Some(200));
        assert_eq!(outcome.downstream.headers.unwrap().first("x-frame-options"), Some(&b"DENY"[..]));
        assert_eq!(status_of(&mut vm, &attack()), Some(403));
        // It limits by itself: this worker alone has nobody to share with.
        for _ in 0..5 {
            assert_eq!(status_of(&mut vm, &login()), Some(200));
        }
        assert_eq!(status_of(&mut vm, &login()), Some(429));
        assert_eq!(vm.tick_period(), None);
    }
}

#[test]
fn what_a_host_lacks_is_said_once() {
    let process = Process::new(1);
    let mut vm = worker_with(&process, &on(Profile::restricted()), &json!({}));
    for _ in 0..20 {
        exchange(&mut vm, &Request::new("GET", "/"));
        exchange(&mut vm, &attack());
    }
    let text = log(&process);
    let mut lines: Vec<&str> = text.lines().collect();
    for part in ["no shared data", "no metrics", "no ticks"] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part} in\n{text}");
    }
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), count, "something was said twice:\n{text}");
}

#[test]
fn a_host_whose_numbers_are_text_is_understood() {
    let process = Process::new(1);
    let mut vm = worker_with(&process, &on(Profile::nginx()), &json!({}));
    let stream = vm.open(run::properties(&portcullis_host_tests::case::Facts::default()));
    stream.proxy_reply(&mut vm, 431, "too_large").unwrap();
    stream.end(&mut vm).unwrap();
    vm.tick().unwrap();
    let calls = vm.take_calls();
    let records = run::records_of(&calls[0].body).unwrap();
    assert_eq!(records[0]["http_response"]["code"], json!(431));
}

#[test]
fn capabilities_that_are_denied_cost_what_they_were_for_and_nothing_else() {
    for denied in [
        &["random_get"][..],
        &["proxy_get_shared_data"],
        &["proxy_set_shared_data"],
        &["proxy_get_property"],
        &["proxy_http_call"],
        &["proxy_define_metric"],
        &["proxy_increment_metric"],
        &["proxy_set_tick_period_milliseconds"],
        &["proxy_log", "proxy_get_log_level"],
        &["clock_time_get"],
        &["proxy_get_current_time_nanoseconds"],
        &["environ_get", "environ_sizes_get"],
        &["proxy_replace_header_map_value", "proxy_add_header_map_value", "proxy_remove_header_map_value"],
        &["proxy_get_buffer_bytes"],
        &["proxy_get_header_map_pairs"],
    ] {
        let process = Process::new(1);
        let configured = Vm::serve(
            portcullis(),
            &process,
            &on(Profile::denying(denied)),
            br#"{"rate_limit": {"mode": "off"}}"#,
        );
        let mut vm = match configured {
            Ok(vm) => vm,
            // Without its configuration a module must not pretend to serve.
            Err(HostError::Refused { .. }) if denied.contains(&"proxy_get_buffer_bytes") => continue,
            // The C library below Rust's ends the program when it cannot read the environment: nothing starts half.
            Err(HostError::Trapped { callback: "proxy_on_context_create", .. })
                if denied.contains(&"environ_get") =>
            {
                continue;
            }
            Err(error) => panic!("{denied:?}: {error}"),
        };
        let plain = status_of(&mut vm, &Request::new("GET", "/"));
        assert_eq!(plain, Some(200), "{denied:?}");
        vm.tick().unwrap();
        let blind = denied.contains(&"proxy_get_header_map_pairs");
        let expected = if blind { Some(200) } else { Some(403) };
        assert_eq!(status_of(&mut vm, &attack()), expected, "{denied:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_path_and_remedy() {
    let start = |text: &str| match Vm::serve(portcullis(), &Process::new(1), &run::options(), text.as_bytes())
    {
        Err(HostError::Refused { callback: "proxy_on_configure", log }) => log,
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => panic!("{text}: {error}"),
    };
    let said = start(r#"{"headers": {"mode": "loud"}, "rate_limitt": {}}"#);
    assert!(said.contains("headers.mode: `loud` is not known here; known here: "), "{said}");
    assert!(said.contains("rate_limitt: is not a known key; did you mean `rate_limit`?"), "{said}");
    let said = start(r#"{"companion": {"timeout": "1h"}}"#);
    assert!(said.contains("companion.timeout: 1h; must be 100ms to 30s"), "{said}");
    for text in ["{", "[]", "\u{0}", "7", &"[".repeat(100_000), &format!("{{{}", " ".repeat(2_000_000))] {
        assert!(!start(text).is_empty());
    }
    for text in ["", " \n", "{}", r#"{"rate_limit": {"mode": "off"}}"#] {
        worker(&Process::new(1), &serde_json::from_str::<Value>(text).unwrap_or(json!({})));
    }
}

#[test]
fn a_new_configuration_that_cannot_be_used_leaves_the_old_one_in_place() {
    let mut vm = worker(&Process::new(1), &json!({"headers": {"set": {"x-team": "blue"}}}));
    assert!(!vm.configure(b"{\"headers\": 5}").unwrap());
    let headers = exchange(&mut vm, &Request::new("GET", "/")).downstream.headers.unwrap();
    assert_eq!(headers.first("x-team"), Some(&b"blue"[..]));
    assert!(vm.configure(b"{\"headers\": {\"set\": {\"x-team\": \"red\"}}}").unwrap());
    let headers = exchange(&mut vm, &Request::new("GET", "/")).downstream.headers.unwrap();
    assert_eq!(headers.first("x-team"), Some(&b"red"[..]));
}

#[test]
fn limits_of_fuel_and_memory_end_a_vm_and_name_the_callback() {
    let options = Options { fuel: 1000, ..run::options() };
    let Err(error) = Vm::serve(portcullis(), &Process::new(1), &options, b"{}") else { panic!("served") };
    assert!(matches!(error, HostError::Trapped { cause: Trap::Fuel, .. }), "{error}");
    assert!(error.to_string().contains("trapped: out of fuel"), "{error}");

    let mut vm = worker_with(
        &Process::new(1),
        &Options { memory_bytes: 3 * 1024 * 1024, ..run::options() },
        &json!({"rate_limit": {"mode": "off"}}),
    );
    // Pieces of 1 MiB do not fit: the module is told, or the VM ends; the host stays.
    for _ in 0..4 {
        let request = Request::new("POST", "/").body(vec![b'a'; 1024 * 1024]);
        let answer = portcullis_host_tests::host::Message::answer(200, "ok");
        match vm.exchange(&request, &answer) {
            Ok(_) => {}
            Err(HostError::Trapped { callback, .. }) => {
                assert!(callback.starts_with("proxy_on_"), "{callback}");
                assert!(vm.is_dead());
            }
            Err(HostError::Dead) => assert!(vm.is_dead()),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(vm.memory_bytes() <= 3 * 1024 * 1024);
}
