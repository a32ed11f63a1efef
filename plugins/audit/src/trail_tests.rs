use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{ledger::QUIET_TICKS, queue::RESERVE, trail_board::Memory};

const RECORD: &[u8] =
    br#"{"class_uid":4002,"unmapped":{"portcullis":{"event_type":"REQUEST","details":{}}}}"#;

fn limits(records: usize) -> Limits {
    let second = Duration::from_secs(1);
    let queue_bytes = RESERVE + REPORT_BYTES + records * (RECORD.len() + 60);
    Limits { queue_bytes, batch_bytes: 2000, retry_min: second, retry_max: second }
}

/// What the companion does with what it gets.
#[derive(Default)]
struct Companion {
    stored: BTreeSet<(String, u64)>,
    records: u64,
    missing: u64,
    causes: Vec<String>,
}

impl Companion {
    fn take(&mut self, batch: &[u8]) {
        for line in std::str::from_utf8(batch).unwrap().lines() {
            assert!(line.len() <= crate::LINE_BYTES);
            let line: Value = serde_json::from_str(line).unwrap();
            let ours = &line["unmapped"]["portcullis"];
            let (epoch, sequence) = (ours["epoch"].as_str().unwrap(), ours["sequence"].as_u64().unwrap());
            assert!(epoch.len() == 16 && i64::try_from(sequence).is_ok());
            if !self.stored.insert((epoch.to_owned(), sequence)) {
                continue;
            }
            if ours["event_type"] != "AUDIT_GAP" {
                self.records += 1;
                continue;
            }
            let details = &ours["details"];
            let number = |name: &str| details[name].as_u64().unwrap();
            self.causes.push(details["cause"].as_str().unwrap().to_owned());
            self.missing += match details["cause"].as_str().unwrap() {
                "overflow" => number("count"),
                _ => {
                    assert_eq!(number("count"), number("to") - number("from") + 1);
                    let lost = details["lost_epoch"].as_str().unwrap();
                    let here = |n: &u64| self.stored.contains(&(lost.to_owned(), *n));
                    (number("from")..=number("to")).filter(|n| !here(n)).count() as u64
                }
            };
        }
    }
}

/// Some VMs of a process, one board, one companion, and a clock.
struct World {
    board: Memory,
    companion: Companion,
    vms: Vec<Trail>,
    now: Duration,
    lives: u64,
    room: usize,
}

impl World {
    fn new(vms: usize, room: usize) -> Self {
        let companion = Companion::default();
        let mut world = Self {
            board: Memory::default(),
            companion,
            vms: Vec::new(),
            now: Duration::ZERO,
            lives: 0,
            room,
        };
        for _ in 0..vms {
            let fresh = world.fresh();
            world.vms.push(fresh);
        }
        world
    }

    fn fresh(&mut self) -> Trail {
        self.lives += 1;
        Trail::new(limits(self.room), self.lives)
    }

    fn moment(&mut self) -> Moment {
        self.lives += 1;
        Moment { now: self.now, wall_ns: 1, random: [self.lives, 7] }
    }

    fn request(&mut self, vm: usize) {
        let moment = self.moment();
        self.vms[vm].begin(&mut self.board);
        self.vms[vm].record(RECORD, moment);
    }

    fn tick(&mut self, vm: usize) {
        let moment = self.moment();
        self.vms[vm].tick(&mut self.board, moment);
    }

    /// One delivery: whether it arrives, and what the module hears of it.
    fn deliver(&mut self, vm: usize, arrives: bool, answer: Answer) -> bool {
        self.now += Duration::from_secs(2);
        let Some(batch) = self.vms[vm].send(self.now) else { return false };
        if arrives {
            self.companion.take(batch);
        }
        let moment = self.moment();
        self.vms[vm].answered(&mut self.board, answer, moment);
        true
    }

    fn kill(&mut self, vm: usize) {
        self.vms[vm] = self.fresh();
    }

    /// Until nothing waits and whoever died is reported.
    fn settle(&mut self) {
        for _ in 0..6 * QUIET_TICKS {
            for vm in 0..self.vms.len() {
                self.tick(vm);
                while self.deliver(vm, true, Answer::Stored { rejected: 0 }) {}
            }
        }
        assert!(self.vms.iter().all(|vm| vm.waiting() == 0));
    }
}

#[test]
fn a_request_in_whose_middle_the_vm_dies_is_missed() {
    let mut world = World::new(2, 100);
    world.request(0);
    world.tick(0);
    assert!(world.deliver(0, true, Answer::Stored { rejected: 0 }));
    world.vms[0].begin(&mut world.board);
    world.kill(0);
    world.settle();
    assert_eq!((world.companion.records, world.companion.missing), (1, 1));
    assert_eq!(world.companion.causes, ["vm-died"]);
}

#[test]
fn a_fresh_vm_alone_reports_the_one_before_it() {
    let mut world = World::new(1, 100);
    for _ in 0..5 {
        world.request(0);
    }
    world.vms[0].begin(&mut world.board);
    world.vms[0].withdraw();
    world.kill(0);
    world.settle();
    // The withdrawal was not written down any more: at most one too many is said to be missing.
    assert_eq!((world.companion.records, world.companion.missing), (0, 6));
}

#[test]
fn what_arrived_unacknowledged_is_not_missing() {
    let mut world = World::new(2, 100);
    for _ in 0..5 {
        world.request(0);
    }
    world.deliver(0, true, Answer::Unavailable);
    world.request(0);
    world.kill(0);
    world.settle();
    assert_eq!((world.companion.records, world.companion.missing), (5, 1));
}

#[test]
fn what_has_no_room_is_counted_and_reported_when_there_is() {
    let mut world = World::new(1, 10);
    for _ in 0..50 {
        world.request(0);
    }
    let [_, dropped, _, gaps, _] = world.vms[0].take_tally();
    assert!((20..=40).contains(&dropped) && gaps == 0, "{dropped} {gaps}");
    world.settle();
    assert_eq!(world.companion.causes.len(), 1);
    assert_eq!((world.companion.records, world.companion.missing), (50 - dropped, dropped));
    assert!(world.companion.causes.iter().all(|cause| cause == "overflow"));
}

#[test]
fn a_vm_taken_for_dead_lives_on_under_another_name() {
    let mut world = World::new(2, 100);
    world.request(0);
    for _ in 0..=QUIET_TICKS {
        world.tick(1);
    }
    world.deliver(1, true, Answer::Stored { rejected: 0 });
    world.tick(0);
    world.request(0);
    world.settle();
    // Both its records arrive after all; the report said what was true when it was made.
    assert_eq!((world.companion.records, world.companion.missing), (2, 1));
}

#[test]
fn refused_batches_are_reported_as_losses() {
    let mut world = World::new(1, 100);
    for _ in 0..3 {
        world.request(0);
    }
    for _ in 0..crate::queue::REFUSALS {
        assert!(world.deliver(0, false, Answer::Refused));
    }
    world.settle();
    assert_eq!((world.companion.records, world.companion.missing), (0, 3));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Requests(u8),
    Begin,
    End,
    Withdraw,
    Tick,
    Deliver(bool, Answer),
    Kill,
}

fn steps(deaths: bool) -> impl Strategy<Value = Vec<(usize, Step)>> {
    let answer = prop_oneof![
        3 => Just(Answer::Stored { rejected: 0 }),
        1 => Just(Answer::Unavailable),
        1 => Just(Answer::Refused),
        1 => Just(Answer::TooLarge),
    ];
    let step = prop_oneof![
        4 => (0_u8..12).prop_map(Step::Requests),
        2 => Just(Step::Begin),
        2 => Just(Step::End),
        1 => Just(Step::Withdraw),
        3 => Just(Step::Tick),
        4 => (any::<bool>(), answer).prop_map(|(arrives, answer)| Step::Deliver(arrives, answer)),
        u32::from(deaths) => Just(Step::Kill),
    ];
    proptest::collection::vec((0_usize..3, step), 1..120)
}

/// Runs the steps; how many requests should have left a record.
fn run(world: &mut World, steps: &[(usize, Step)], losses: bool) -> u64 {
    let mut requests = 0;
    let mut open = [0_u64; 3];
    for (vm, step) in steps.iter().copied() {
        match step {
            Step::Requests(count) => {
                requests += u64::from(count);
                (0..count).for_each(|_| world.request(vm));
            }
            Step::Begin => {
                requests += 1;
                open[vm] += 1;
                world.vms[vm].begin(&mut world.board);
            }
            Step::End | Step::Withdraw if open[vm] == 0 => {}
            Step::End => {
                open[vm] -= 1;
                let moment = world.moment();
                world.vms[vm].record(RECORD, moment);
            }
            Step::Withdraw => {
                (requests, open[vm]) = (requests - 1, open[vm] - 1);
                world.vms[vm].withdraw();
                world.tick(vm);
            }
            // Every VM ticks, or they would take each other for dead.
            Step::Tick => (0..3).for_each(|vm| world.tick(vm)),
            Step::Deliver(_, Answer::Stored { .. }) => {
                world.deliver(vm, true, Answer::Stored { rejected: 0 });
            }
            Step::Deliver(arrives, Answer::Unavailable) => {
                // What arrives unheard and is refused when it comes again would be counted as lost too.
                world.deliver(vm, arrives && !losses, Answer::Unavailable);
            }
            Step::Deliver(_, answer) => {
                world.deliver(vm, false, if losses { answer } else { Answer::Unavailable });
            }
            Step::Kill => {
                open[vm] = 0;
                world.kill(vm);
            }
        }
    }
    for (vm, open) in open.into_iter().enumerate() {
        for _ in 0..open {
            let moment = world.moment();
            world.vms[vm].record(RECORD, moment);
        }
    }
    world.settle();
    requests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn without_deaths_every_request_is_stored_once_or_counted(steps in steps(false), room in 1_usize..40) {
        let mut world = World::new(3, room);
        let requests = run(&mut world, &steps, true);
        prop_assert_eq!(world.companion.records + world.companion.missing, requests);
    }

    #[test]
    fn deaths_are_counted_to_the_record(steps in steps(true)) {
        let mut world = World::new(3, 4000);
        let requests = run(&mut world, &steps, false);
        prop_assert_eq!(world.companion.records + world.companion.missing, requests);
    }

    #[test]
    fn nothing_goes_missing_unsaid(steps in steps(true), room in 1_usize..40) {
        let mut world = World::new(3, room);
        let requests = run(&mut world, &steps, true);
        // A report of losses that died unacknowledged counts again: too many, never too few.
        prop_assert!(world.companion.records + world.companion.missing >= requests);
    }
}
