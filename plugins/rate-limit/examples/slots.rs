//! What a decision costs, in CPU time (Linux), and what a flood of keys does to memory.
//! `cargo run --release -p portcullis-rate-limit --example slots`

use std::{hint::black_box, time::Duration};

use portcullis_policy::{
    Actions, ConfigErrors, Context, Effects, Event, Headers, LocalSlots, Moment, NoFacts, Policy, Request,
    SharedState, Site, Tenant, User, Vocabulary, limits,
};
use portcullis_rate_limit::{HeadersWire, RateLimit, Stream, Wire};

fn request(tenant: u64, user: u64, actions: &[usize]) -> Option<Request> {
    let mut set = Actions::default();
    actions.iter().for_each(|action| set.insert(*action));
    Some(Request {
        user: User::new(format!("user-{user}").as_bytes()),
        actions: set,
        ..Request::of(Tenant::new(format!("tenant-{tenant}").as_bytes())?)
    })
}

fn ask(policy: &RateLimit, shared: &mut LocalSlots, now: Duration, request: &Request, effects: &mut Effects) {
    let headers = Headers::default();
    let mut stream = Stream::default();
    for event in [
        Event::RequestHeaders { headers: &headers, end_of_stream: true },
        Event::ResponseHeaders { headers: &headers },
    ] {
        let moment = Moment { now, ..Moment::default() };
        let mut context =
            Context { moment, request, decisions: &[], shared: &mut *shared, facts: &mut NoFacts };
        policy.on(&mut context, &mut stream, &event, effects);
    }
}

/// Nanoseconds that this thread has been on a CPU: a busy machine does not add to it.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN)
}

/// Nanoseconds for each of so many decisions, `gap` apart.
fn measure(name: &str, policy: &RateLimit, requests: &[Request], gap: Duration) {
    let mut shared = LocalSlots::new(0x5eed);
    let mut now = Duration::from_secs(1);
    let mut effects = Effects::with_capacity(8);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = cpu_ns();
        let mut count = 0_u32;
        while count < 200_000 {
            for request in requests {
                effects.clear();
                now += gap;
                ask(policy, &mut shared, now, request, &mut effects);
                black_box(&effects);
            }
            count = count.saturating_add(u32::try_from(requests.len()).unwrap_or(u32::MAX));
        }
        best = best.min((cpu_ns() - start) / f64::from(count));
    }
    println!("{name:<58} {best:>6.0} ns");
}

fn main() {
    let vocabulary = Vocabulary {
        actions: ["login", "file_upload", "report_generation", "api_call"].map(str::to_owned).to_vec(),
    };
    let mut errors = ConfigErrors::default();
    let mut compile = |wire| RateLimit::compile(wire, &Site::root(), &vocabulary, &mut errors);
    let (Some(policy), Some(quiet)) =
        (compile(Wire::default()), compile(Wire { headers: HeadersWire::Switch(false), ..Wire::default() }))
    else {
        return;
    };
    let many =
        |actions: &[usize]| -> Vec<Request> { (0..1000).filter_map(|n| request(n, n, actions)).collect() };
    let (calls, logins) = (many(&[3]), many(&[0, 3]));
    let (slow, fast) = (Duration::from_millis(100), Duration::from_nanos(1));
    measure("API call, 1 rule, 1000 tenants", &policy, &calls, slow);
    measure("API call, 1 rule, 1000 tenants, no fields", &quiet, &calls, slow);
    measure("API call, refused", &policy, &calls, fast);
    measure("login, 2 rules, 1000 tenants and users", &policy, &logins, slow);
    measure("login, refused", &policy, &logins, fast);

    let mut shared = LocalSlots::new(0x5eed);
    let mut effects = Effects::new();
    let bytes = |shared: &mut LocalSlots| -> usize {
        (0..limits::SHARED_SLOTS).filter_map(|slot| shared.load(slot).ok()).map(|slot| slot.bytes.len()).sum()
    };
    for key in 1..=10_000_000_u64 {
        effects.clear();
        if let Some(request) = request(key, key, &[0, 3]) {
            ask(
                &policy,
                &mut shared,
                Duration::from_secs(1) + Duration::from_micros(key),
                &request,
                &mut effects,
            );
        }
        if key == 1_000_000 || key == 10_000_000 {
            println!("{key:>8} keys take {} bytes", bytes(&mut shared));
        }
    }
}
