//! What a decision costs in the engine, on one core: `cargo run --release --example engine`.
//!
//! Questions of three levels (tenant, user, user and action), hashing of their names included. Time is that of the thread.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement ends when it cannot go on"
)]

use std::time::Duration;

use portcullis_limits::{
    engine::{Engine, Level},
    key::{Name, Secret},
    quota::Quota,
    step::Ask,
};

/// CPU time of this thread, as the kernel counts it.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
}

fn main() {
    let quotas = [(1_000_000, 1_000_000), (1000, 1000), (100, 100)]
        .map(|(limit, burst)| Quota::new(limit, Duration::from_secs(60), burst).unwrap());
    println!("{:>10} users  {:>14}  {:>10}  {:>8}", "", "3-level checks/s", "ns each", "MiB");
    for users in [1_000_u64, 10_000, 100_000] {
        let engine = Engine::new(1 << 20, Secret([7; 16]), ());
        let (mut said, mut now_ns, mut user) = (Vec::new(), 1_000_000_000_u64, 0_u64);
        // Names come with each question, as from a message that was just read: they are written anew, and hashed.
        let (mut tenant, mut subject) = (String::new(), String::new());
        let mut ask = |count: u64| {
            for _ in 0..count {
                // A step that meets every user, in no order that a cache could foresee.
                user = (user + 7_919) % users;
                now_ns += 500;
                write_name(&mut tenant, "tenant-", user % 1000);
                write_name(&mut subject, "user=u", user);
                let level = |rule, subject, quota| Level {
                    key: Name { tenant: &tenant, rule, subject }.key(engine.secret()),
                    quota,
                    hits: 1,
                };
                let [a, b, c] = quotas;
                let levels =
                    [level("api_call", "", a), level("user", &subject, b), level("login", &subject, c)];
                engine.spend(&levels, now_ns, &mut said);
            }
        };
        ask(users * 2);
        let (start, count) = (cpu(), 3_000_000);
        ask(count);
        let each = (cpu() - start).as_nanos() as f64 / count as f64;
        let bytes = engine.totals().bytes as f64 / 1_048_576.0;
        println!("{users:>10} users  {:>16.0}  {each:>10.0}  {bytes:>8.1}", 1e9 / each);
    }
    leases();
}

/// Without the formatter, which costs more than the hash.
fn write_name(text: &mut String, prefix: &str, number: u64) {
    let (mut digits, mut at, mut rest) = ([b'0'; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.clear();
    text.push_str(prefix);
    text.push_str(std::str::from_utf8(&digits[at..]).unwrap());
}

fn leases() {
    let engine = Engine::new(1 << 20, Secret([7; 16]), ());
    let quota = Quota::new(1_000_000, Duration::from_secs(60), 1_000_000).unwrap();
    let keys: Vec<_> = (0..10_000)
        .map(|user| {
            Name { tenant: "acme", rule: "login", subject: &format!("user=u{user}") }.key(engine.secret())
        })
        .collect();
    let (start, rounds) = (cpu(), 100);
    for sequence in 1..=rounds {
        for key in &keys {
            let ask = Ask { process: 1, sequence, held: 0, want: 10, need: 1, give_back: 0 };
            engine.ask(*key, &quota, &ask, 1_000_000_000 + sequence * 10_000_000);
        }
    }
    let each = (cpu() - start).as_nanos() as f64 / (rounds as f64 * keys.len() as f64);
    println!("{:>10} keys   {:>16.0}  {each:>10.0}  asks for leases", keys.len(), 1e9 / each);
}
