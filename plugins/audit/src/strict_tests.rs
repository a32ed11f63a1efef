use proptest::prelude::*;

use super::*;

const LINE: &[u8] = br#"{"unmapped":{"portcullis":{"event_type":"REQUEST_INTENT"}}}"#;
const STORED: &[u8] = br#"{"stored":1,"duplicates":0,"rejected":0,"errors":[]}"#;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn lane() -> Lane {
    let mut lane = Lane::new(7);
    lane.set_calls(true);
    lane
}

/// Epoch and sequence of each line of a call.
fn numbers(body: &[u8]) -> Vec<u64> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let values = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    values
        .map(|value| {
            let ours = &value["unmapped"]["portcullis"];
            assert_eq!(ours["epoch"], "0000000000000007");
            ours["sequence"].as_u64().unwrap()
        })
        .collect()
}

#[test]
fn one_call_carries_all_that_wait_and_only_a_yes_lets_them_go() {
    let mut lane = lane();
    let first = lane.write(LINE).unwrap();
    let second = lane.write(LINE).unwrap();
    assert!(lane.is_pressing());
    assert_eq!(numbers(&lane.call(at(0)).unwrap()), [1, 2]);
    let third = lane.write(LINE).unwrap();
    assert_eq!(lane.call(at(1)), None, "one call at a time");
    assert_eq!([first, second, third].map(|ticket| lane.fate(ticket)), [Fate::Pending; 3]);
    lane.answered(Some(200), STORED, at(2));
    assert_eq!([first, second].map(|ticket| lane.fate(ticket)), [Fate::Durable; 2]);
    assert_eq!(lane.fate(third), Fate::Pending, "it was not part of that call");
    assert_eq!(numbers(&lane.call(at(3)).unwrap()), [3]);
    lane.answered(Some(200), STORED, at(4));
    assert_eq!((lane.fate(third), lane.fate(Ticket(99))), (Fate::Durable, Fate::Failed));
    assert_eq!((lane.bytes, lane.lines(), lane.take_tally()), (0, 0, [2, 0]));
}

#[test]
fn a_call_that_fails_is_repeated_with_the_same_numbers() {
    for status in [None, Some(500), Some(503), Some(401), Some(404)] {
        let mut lane = lane();
        let (first, gone) = (lane.write(LINE).unwrap(), lane.write(LINE).unwrap());
        lane.call(at(0)).unwrap();
        lane.withdraw(gone);
        lane.answered(status, b"", at(1));
        assert_eq!((lane.fate(first), lane.fate(gone)), (Fate::Pending, Fate::Failed), "{status:?}");
        assert!(!lane.is_pressing());
        assert_eq!(lane.call(at(2)), None, "not at once");
        assert_eq!(numbers(&lane.call(at(101)).unwrap()), [1], "whoever waits no more is left out");
        lane.answered(Some(200), STORED, at(102));
        assert_eq!((lane.fate(first), lane.bytes), (Fate::Durable, 0));
        assert_eq!(lane.take_tally(), [2, 1]);
    }
}

#[test]
fn what_the_companion_will_not_have_fails_and_nothing_else_does() {
    let mut lane = lane();
    let tickets: Vec<Ticket> = (0..4).map(|_| lane.write(LINE).unwrap()).collect();
    lane.call(at(0)).unwrap();
    let answer = br#"{"stored":2,"duplicates":0,"rejected":2,"errors":[{"line":2,"error":"\"line\":1,"},{"line": 4,"error":"x"}]}"#;
    lane.answered(Some(200), answer, at(1));
    let fates: Vec<Fate> = tickets.iter().map(|ticket| lane.fate(*ticket)).collect();
    assert_eq!(fates, [Fate::Durable, Fate::Failed, Fate::Durable, Fate::Failed]);
    // When it does not say which, none is taken for stored.
    for answer in [&br#"{"rejected":2,"errors":[{"line":1}]}"#[..], br#"{"rejected":1,"errors":[]}"#] {
        let ticket = lane.write(LINE).unwrap();
        lane.call(at(2)).unwrap();
        lane.answered(Some(200), answer, at(3));
        assert_eq!(lane.fate(ticket), Fate::Failed);
    }
    for status in [400, 413, 415] {
        let ticket = lane.write(LINE).unwrap();
        lane.call(at(1000)).unwrap();
        lane.answered(Some(status), b"", at(1000));
        assert_eq!((lane.fate(ticket), lane.lines(), lane.bytes), (Fate::Failed, 0, 0));
        lane.away = false;
        lane.due = Duration::ZERO;
    }
}

#[test]
fn what_waits_is_bounded() {
    let mut lane = lane();
    let written = (0..1000).filter(|_| lane.write(LINE).is_some()).count();
    assert_eq!(written, MOST_LINES);
    assert_eq!(numbers(&lane.call(at(0)).unwrap()).len(), CALL_LINES);
    assert!(lane.write(LINE).is_none(), "what is on its way counts");
    lane.answered(None, b"", at(1));
    (1..=MOST_LINES).for_each(|number| lane.withdraw(Ticket(u64::try_from(number).unwrap())));
    assert_eq!((lane.lines(), lane.bytes), (0, 0));
    let probes = (0..1000).filter(|_| lane.write(LINE).is_some()).count();
    assert_eq!(probes, PROBES, "while nobody answers");

    let mut lane = Lane::new(7);
    assert_eq!(lane.write(LINE), None, "a host without calls");
    lane.set_calls(true);
    let long = vec![b'x'; 16 * 1024];
    while lane.write(&long).is_some() {}
    assert!(lane.bytes <= MOST_BYTES && lane.lines() >= 60);
    assert!(lane.call(at(0)).unwrap().len() <= CALL_BYTES);
}

#[test]
fn a_host_that_forgets_to_answer_is_noticed() {
    let mut lane = lane();
    lane.write(LINE).unwrap();
    lane.call(at(0)).unwrap();
    assert!(!lane.is_overdue(at(3000), at(3000)) && lane.is_overdue(at(3001), at(3000)));
}

#[derive(Debug, Clone)]
enum Act {
    Write,
    Call,
    Answer(Option<u16>, bool),
    Withdraw(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let status = prop_oneof![Just(None), Just(Some(200)), Just(Some(503)), Just(Some(400))];
    prop_oneof![
        3 => Just(Act::Write),
        2 => Just(Act::Call),
        2 => (status, any::<bool>()).prop_map(|(status, stored)| Act::Answer(status, stored)),
        1 => (1_u64..40).prop_map(Act::Withdraw),
    ]
}

proptest! {
    /// Whatever happens: durable is only what the companion has stored, and nothing is counted twice or for ever.
    #[test]
    fn nothing_passes_that_is_not_stored(acts in prop::collection::vec(act(), 0..200)) {
        let mut lane = lane();
        let (mut stored, mut on_its_way, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
        for (step, act) in acts.into_iter().enumerate() {
            let now = at(u64::try_from(step).unwrap() * 1000);
            match act {
                Act::Write => tickets.extend(lane.write(LINE)),
                Act::Call => if let Some(body) = lane.call(now) { on_its_way = numbers(&body); },
                // What was stored is stored, though the answer may be lost.
                Act::Answer(status, kept) => {
                    if status == Some(200) || (kept && status.is_none()) {
                        stored.append(&mut on_its_way);
                    }
                    lane.answered(status, STORED, now);
                    on_its_way.clear();
                }
                Act::Withdraw(number) => lane.withdraw(Ticket(number)),
            }
            for ticket in &tickets {
                prop_assert!(lane.fate(*ticket) != Fate::Durable || stored.contains(&ticket.0));
            }
            prop_assert!(lane.lines() <= MOST_LINES && lane.bytes <= MOST_BYTES);
        }
        lane.answered(None, b"", at(0));
        tickets.iter().for_each(|ticket| lane.withdraw(*ticket));
        prop_assert_eq!((lane.lines(), lane.bytes), (0, 0));
    }
}
