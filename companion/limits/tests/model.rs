//! Every way that threads can meet in the engine, as far as a model checker finds them: `--features shuttle`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use portcullis_limits::{
    engine::{Engine, Level},
    key::{Key, Name, Secret},
    quota::Quota,
    step::Ask,
};
use shuttle::{sync::Arc, thread};

const SECRET: Secret = Secret([3; 16]);
const NOW: u64 = 2_000_000_000;
const SCHEDULES: usize = 3_000;

fn key(rule: &str) -> Key {
    Name::new("acme", rule, "").unwrap().key(&SECRET)
}

fn hour(limit: u32) -> Quota {
    Quota::new(limit, Duration::from_secs(3600), limit).unwrap()
}

/// Questions that want the same shards in other orders neither wait for each other for ever nor commit by halves.
#[test]
fn questions_over_shards_commit_whole() {
    shuttle::check_random(
        || {
            let engine = Arc::new(Engine::new(64, SECRET, ()));
            let keys = ["a", "b", "c"].map(key);
            let threads: Vec<_> = (0..3)
                .map(|number: usize| {
                    let engine = Arc::clone(&engine);
                    thread::spawn(move || {
                        let level =
                            |at: usize| Level { key: keys[(number + at) % 3], quota: hour(4), hits: 1 };
                        let question = [level(0), level(1), level(2)];
                        let spend = |_| usize::from(engine.spend(&question, NOW, &mut Vec::new()).value);
                        (0..2).map(spend).sum::<usize>()
                    })
                })
                .collect();
            let passed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(passed, 4);
            for key in keys {
                let look = Level { key, quota: hour(4), hits: 0 };
                let mut said = Vec::new();
                engine.spend(&[look], NOW, &mut said);
                assert_eq!(said[0].remaining, 0);
            }
        },
        SCHEDULES,
    );
}

/// Leases, direct spending and the sweep at the same time: tokens are conserved, and no more than the limit is out.
#[test]
fn leases_and_spending_and_sweeps_conserve_tokens() {
    shuttle::check_random(
        || {
            let engine = Arc::new(Engine::new(64, SECRET, ()));
            let mut threads: Vec<thread::JoinHandle<u64>> = (1..=2_u64)
                .map(|process| {
                    let engine = Arc::clone(&engine);
                    thread::spawn(move || {
                        let ask = |sequence, held, want, give_back| Ask {
                            process,
                            sequence,
                            held,
                            want,
                            need: want,
                            give_back,
                        };
                        let first = engine.ask(key("a"), &hour(5), &ask(1, 0, 3, 0), NOW).value.granted;
                        // One is given back, if there is one.
                        let back = first.min(1);
                        engine.ask(key("a"), &hour(5), &ask(2, 0, 0, back), NOW);
                        u64::from(first - back)
                    })
                })
                .collect();
            let spender = Arc::clone(&engine);
            threads.push(thread::spawn(move || {
                let level = Level { key: key("a"), quota: hour(5), hits: 2 };
                u64::from(spender.spend(&[level], NOW, &mut Vec::new()).value) * 2
            }));
            let sweeper = Arc::clone(&engine);
            threads.push(thread::spawn(move || {
                (0..sweeper.shards()).for_each(|shard| sweeper.sweep(shard, NOW + 1));
                0
            }));
            let used: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert!(used <= 5, "{used} of 5");
            let totals = engine.totals();
            assert_eq!(totals.granted, totals.spent + totals.returned + totals.expired + totals.outstanding);
        },
        SCHEDULES / 10,
    );
}
