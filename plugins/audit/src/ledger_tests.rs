use super::*;
use crate::trail_board::Memory;

fn entry(epoch: u64, promised: u64, settled: u64) -> Entry {
    Entry { epoch, promised, settled, beat: 0 }
}

#[test]
fn entries_are_read_as_written() {
    let written = Entry { epoch: u64::MAX, promised: 1, settled: 2, beat: 3 };
    assert_eq!(Entry::decode(&written.encode()), Some(written));
    assert_eq!(Entry::decode(b"short"), None);
    assert_eq!(written.owed(), 0);
}

#[test]
fn a_vm_that_falls_silent_is_reported_by_one() {
    let mut board = Memory::default();
    let (mut dead, mut first, mut second) = (Ledger::default(), Ledger::default(), Ledger::default());
    dead.note(&mut board, entry(1, 9, 4));
    let mut reports = Vec::new();
    for _ in 0..QUIET_TICKS + 2 {
        for (number, ledger) in [&mut first, &mut second].into_iter().enumerate() {
            let found = ledger.tick(&mut board, entry(10 + number as u64, 0, 0));
            assert!(!found.evicted);
            for dead in found.dead {
                if ledger.adopt(&mut board, dead, 1) {
                    reports.push((number, dead.entry));
                }
            }
        }
    }
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].1.owed(), reports[0].1.promised), (5, 9));
    // Kept alive until it is settled, then free.
    for _ in 0..3 * QUIET_TICKS {
        assert!(second.tick(&mut board, entry(11, 0, 0)).dead.is_empty());
        assert!(first.tick(&mut board, entry(10, 0, 0)).dead.is_empty());
    }
    first.release(&mut board, |position| position == 1, false);
    assert_eq!(board.content(0), Some(vec![]));
}

#[test]
fn a_vm_that_lives_is_left_alone_and_one_that_owes_nothing_makes_room() {
    let mut board = Memory::default();
    let (mut living, mut idle, mut other) = (Ledger::default(), Ledger::default(), Ledger::default());
    living.note(&mut board, entry(1, 9, 4));
    idle.note(&mut board, entry(2, 5, 5));
    for _ in 0..3 * QUIET_TICKS {
        assert_eq!(other.tick(&mut board, entry(3, 0, 0)), Found::default());
        assert_eq!(living.tick(&mut board, entry(1, 9, 4)), Found::default());
    }
    assert_eq!(board.content(1), Some(vec![]));
    other.note(&mut board, entry(3, 1, 0));
    assert_eq!(board.content(1).map(|bytes| bytes.len()), Some(ENTRY_BYTES));
    // The idle one was taken for dead: it notices.
    assert!(idle.tick(&mut board, entry(2, 5, 5)).evicted);
}

#[test]
fn another_takes_over_when_the_reporter_dies() {
    let mut board = Memory::default();
    let (mut dead, mut reporter, mut heir) = (Ledger::default(), Ledger::default(), Ledger::default());
    dead.note(&mut board, entry(1, 3, 0));
    let mut adopted = 0;
    for _ in 0..=QUIET_TICKS {
        for dead in reporter.tick(&mut board, entry(2, 0, 0)).dead {
            adopted += u32::from(reporter.adopt(&mut board, dead, 1));
        }
    }
    assert_eq!(adopted, 1);
    let mut inherited = Vec::new();
    for _ in 0..=QUIET_TICKS {
        inherited.extend(heir.tick(&mut board, entry(3, 0, 0)).dead);
    }
    assert_eq!(inherited.len(), 1);
    assert_eq!((inherited[0].entry.epoch, inherited[0].entry.promised), (1, 3), "the same report");
}

#[test]
fn slots_are_bounded() {
    let mut board = Memory::default();
    let mut all: Vec<Ledger> = (0..=SLOTS).map(|_| Ledger::default()).collect();
    for (number, ledger) in all.iter_mut().enumerate() {
        ledger.note(&mut board, entry(1 + number as u64, 1, 0));
    }
    let (last, rest) = all.split_last_mut().unwrap();
    assert!(rest.iter().all(Ledger::is_watched));
    assert!(!last.is_watched());
    rest[5].leave(&mut board);
    last.tick(&mut board, entry(999, 1, 0));
    last.note(&mut board, entry(999, 1, 0));
    assert!(last.is_watched());
}

#[test]
fn a_host_without_shared_data_costs_one_question_a_tick() {
    let mut board = Memory::refusing();
    let mut ledger = Ledger::default();
    for _ in 0..10 {
        ledger.note(&mut board, entry(1, 1, 0));
    }
    assert_eq!((board.calls, ledger.is_watched()), (1, false));
    assert_eq!(ledger.tick(&mut board, entry(1, 1, 0)), Found::default());
    assert_eq!(board.calls, 2);
}
