//! Several workers of one proxy: what they share is exact.

use std::{cell::RefCell, rc::Rc, time::Duration};

use portcullis_host_tests::host::{Process, Request, Vm};
use serde_json::{Value, json};

use super::support::{status_of, worker};

fn login() -> Request {
    Request::new("POST", "/login")
}

/// Logins alone are limited: five at once, five a minute.
fn five() -> Value {
    json!({"sanitize": {"mode": "off"}, "audit": {"mode": "off"}})
}

#[test]
fn a_limit_holds_across_workers() {
    let process = Process::new(1);
    let mut workers: Vec<Vm> = (0..4).map(|_| worker(&process, &five())).collect();
    let passed = (0..40).filter(|n| status_of(&mut workers[n % 4], &login()) == Some(200)).count();
    assert_eq!(passed, 5);
    process.advance(Duration::from_secs(12));
    let passed = (0..40).filter(|n| status_of(&mut workers[n % 4], &login()) == Some(200)).count();
    assert_eq!(passed, 1, "one more every twelve seconds");
}

#[test]
fn a_limit_holds_when_workers_get_in_between() {
    for rounds in 1..=8_usize {
        let process = Process::new(rounds as u64);
        let mut first = worker(&process, &five());
        let others: Vec<_> = (0..3).map(|_| worker(&process, &five())).collect();
        let others = Rc::new(RefCell::new(others));
        let passed = Rc::new(RefCell::new(0_usize));
        // Whenever the first is about to store, others have already stored.
        let (there, count) = (Rc::clone(&others), Rc::clone(&passed));
        let mut turn: usize = 0;
        process.interleave(move || {
            turn += 1;
            if turn.is_multiple_of(rounds) {
                let mut others = there.borrow_mut();
                let vm = &mut others[turn % 3];
                *count.borrow_mut() += usize::from(status_of(vm, &login()) == Some(200));
            }
        });
        for _ in 0..40 {
            let own = status_of(&mut first, &login()) == Some(200);
            *passed.borrow_mut() += usize::from(own);
        }
        process.stop_interleaving();
        assert_eq!(*passed.borrow(), 5, "every {rounds}. store");
        first.tick().unwrap();
        others.borrow_mut().iter_mut().for_each(|vm| vm.tick().unwrap());
        assert!(
            process.metric("portcullis_rate_limit_conflicts_total") > 0,
            "every {rounds}. store: nobody got in between"
        );
    }
}

#[test]
fn a_new_configuration_keeps_the_counts() {
    let process = Process::new(1);
    let mut vm = worker(&process, &five());
    for _ in 0..5 {
        assert_eq!(status_of(&mut vm, &login()), Some(200));
    }
    assert!(vm.configure(five().to_string().as_bytes()).unwrap());
    assert_eq!(status_of(&mut vm, &login()), Some(429));
    // And so does a worker that starts late.
    let mut late = worker(&process, &five());
    assert_eq!(status_of(&mut late, &login()), Some(429));
}

#[test]
fn a_step_of_the_wall_clock_grants_and_costs_nothing() {
    let process = Process::new(1);
    let mut vm = worker(&process, &five());
    let hour = 3_600_000_000_000;
    for step in [hour, -2 * hour, hour, -hour, hour] {
        assert_eq!(status_of(&mut vm, &login()), Some(200));
        process.step_wall_clock(step);
        vm.tick().unwrap();
    }
    assert_eq!(status_of(&mut vm, &login()), Some(429));
}

#[test]
fn shared_data_is_bounded_whoever_asks() {
    let process = Process::new(1);
    let config = json!({
        "user": {"from": [{"header": "x-user-id", "set_by": "client"}]},
        "sanitize": {"mode": "off"}, "audit": {"mode": "off"},
    });
    let mut vm = worker(&process, &config);
    let ask = |vm: &mut Vm, number: usize| {
        let user = format!("user-{number}");
        status_of(vm, &Request::new("POST", "/login").with("x-user-id", user))
    };
    for number in 0..3000 {
        ask(&mut vm, number);
    }
    let keys = process.shared_data().keys().len();
    let bytes = process.shared_data().bytes();
    println!("3000 users: {keys} keys, {bytes} bytes of shared data");
    // A slot a user and one for the tenant, each with one or two limits; the rest is the audit ledger's.
    assert!(keys <= 3000 + 310 && bytes <= keys * 120, "{bytes}");
}
