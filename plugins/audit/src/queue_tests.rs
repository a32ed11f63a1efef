use proptest::prelude::*;

use super::*;

const MIN: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(4);

fn queue(queue_bytes: usize, batch_bytes: usize) -> Queue {
    Queue::new(Limits { queue_bytes, batch_bytes, retry_min: MIN, retry_max: MAX })
}

fn mark(sequence: u64) -> Mark {
    Mark { epoch: 7, sequence, ..Mark::default() }
}

fn fill(queue: &mut Queue, lines: std::ops::RangeInclusive<u64>) {
    for number in lines {
        assert!(queue.push(&[format!("{number:08}\n").as_bytes()], mark(number)).is_some());
    }
}

fn text(queue: &mut Queue, at: Duration) -> Option<String> {
    queue.send(at).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn a_batch_stays_until_it_is_stored() {
    let mut queue = queue(100_000, 1000);
    fill(&mut queue, 1..=2);
    let first = text(&mut queue, Duration::ZERO).unwrap();
    assert_eq!(first, "00000001\n00000002\n");
    assert_eq!(text(&mut queue, MAX), None, "one at a time");
    // What comes meanwhile is not part of what is on its way.
    fill(&mut queue, 3..=3);
    assert!(queue.answered(Answer::Unavailable, Duration::ZERO, 3).again);
    assert_eq!(text(&mut queue, Duration::from_millis(249)), None, "not before the wait is over");
    assert_eq!(text(&mut queue, MIN), Some(first));
    let done = queue.answered(Answer::Stored { rejected: 0 }, MIN, 0);
    assert_eq!((done.delivered, done.sequence, done.epoch), (2, 2, 7));
    assert_eq!(text(&mut queue, MIN).as_deref(), Some("00000003\n"));
    assert_eq!(queue.answered(Answer::Stored { rejected: 0 }, MIN, 0).delivered, 1);
    assert_eq!((queue.bytes(), queue.lines(), text(&mut queue, MAX)), (0, 0, None));
    assert_eq!(queue.answered(Answer::Unavailable, MIN, 0), Settled::default(), "nothing was on its way");
}

#[test]
fn waits_double_up_to_the_longest() {
    let mut queue = queue(100_000, 1000);
    fill(&mut queue, 1..=1);
    let mut now = Duration::ZERO;
    for longest in [500, 1000, 2000, 4000, 4000, 4000] {
        assert!(text(&mut queue, now).is_some());
        queue.answered(Answer::Unavailable, now, u64::MAX);
        let soonest = Duration::from_millis(longest / 2);
        assert!(text(&mut queue, now + soonest - Duration::from_millis(1)).is_none());
        now += Duration::from_millis(longest);
    }
}

#[test]
fn what_is_refused_for_good_does_not_block() {
    let mut queue = queue(100_000, 18);
    fill(&mut queue, 1..=3);
    let mut now = Duration::ZERO;
    for last in [false, false, true] {
        assert_eq!(text(&mut queue, now).as_deref(), Some("00000001\n00000002\n"));
        let done = queue.answered(Answer::Refused, now, 0);
        assert_eq!((done.again, done.refused), (!last, if last { 2 } else { 0 }));
        now += MAX;
    }
    assert_eq!(text(&mut queue, now).as_deref(), Some("00000003\n"));
}

#[test]
fn what_is_too_large_is_split_until_a_single_line_is() {
    let mut queue = queue(100_000, 1000);
    fill(&mut queue, 1..=4);
    let mut sizes = Vec::new();
    let (mut delivered, mut refused) = (0, 0);
    while let Some(batch) = text(&mut queue, Duration::ZERO) {
        sizes.push(batch.len());
        let answer = if batch.len() > 18 || batch.contains('3') {
            Answer::TooLarge
        } else {
            Answer::Stored { rejected: 0 }
        };
        let done = queue.answered(answer, Duration::ZERO, 0);
        delivered += done.delivered;
        refused += done.refused;
    }
    assert_eq!((delivered, refused, queue.bytes(), queue.lines()), (3, 1, 0, 0));
    assert_eq!(sizes, [36, 27, 18, 9, 9]);
}

#[test]
fn rejected_lines_are_lost_records_first() {
    let mut queue = queue(100_000, 1000);
    fill(&mut queue, 1..=2);
    queue.push(&[b"gap\n"], Mark { gap: true, tells: 9, ..mark(3) });
    queue.send(Duration::ZERO);
    let done = queue.answered(Answer::Stored { rejected: 1 }, Duration::ZERO, 0);
    assert_eq!((done.delivered, done.refused, done.told, done.untold), (2, 1, 9, 0));
    fill(&mut queue, 4..=4);
    queue.push(&[b"gap\n"], Mark { gap: true, tells: 9, ..mark(5) });
    queue.send(Duration::ZERO);
    let done = queue.answered(Answer::Stored { rejected: u64::MAX }, Duration::ZERO, 0);
    assert_eq!((done.delivered, done.refused, done.told, done.untold), (0, 1, 0, 9));
    fill(&mut queue, 6..=6);
    assert_eq!(queue.send(Duration::ZERO), None, "slows down");
}

#[test]
fn the_last_room_is_for_reports() {
    let mut queue = queue(RESERVE + 10, 1000);
    assert!(queue.push(&[b"123456789\n"], mark(1)).is_some());
    assert!(queue.push(&[b"\n"], mark(2)).is_none());
    assert!(queue.push(&[b"gap\n"], Mark { gap: true, ..mark(2) }).is_some());
}

#[test]
fn answers_are_read() {
    let body = br#"{"stored":3,"duplicates":0,"rejected": 12,"errors":[]}"#;
    for (status, body, answer) in [
        (Some(200), &body[..], Answer::Stored { rejected: 12 }),
        (Some(204), b"", Answer::Stored { rejected: 0 }),
        (Some(200), b"\"rejected\":99999999999999999999999", Answer::Stored { rejected: u64::MAX }),
        (Some(400), b"", Answer::Refused),
        (Some(413), b"", Answer::TooLarge),
        (Some(415), b"", Answer::Refused),
        (Some(401), b"", Answer::Unavailable),
        (Some(404), b"", Answer::Unavailable),
        (Some(503), b"", Answer::Unavailable),
        (None, b"", Answer::Unavailable),
    ] {
        assert_eq!(Answer::read(status, body), answer, "{status:?}");
    }
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Stored { rejected: 0 }),
        1 => (0_u64..4).prop_map(|rejected| Answer::Stored { rejected }),
        2 => Just(Answer::Unavailable),
        1 => Just(Answer::Refused),
        1 => Just(Answer::TooLarge),
    ]
}

proptest! {
    #[test]
    fn every_line_is_delivered_in_order_or_counted(
        steps in proptest::collection::vec((0_usize..6, 1_usize..300, answers()), 1..200),
        queue_bytes in (RESERVE + 100)..(RESERVE + 3000),
        batch_bytes in 300_usize..1000,
    ) {
        let mut queue = queue(queue_bytes, batch_bytes);
        let (mut sent, mut lost, mut delivered, mut full, mut highest) = (0_u64, 0, 0, 0, 0);
        let mut now = Duration::ZERO;
        for (pushes, size, answer) in steps {
            for _ in 0..pushes {
                let line = format!("{:0size$}\n", sent + 1);
                match queue.push(&[line.as_bytes()], mark(sent + 1)) {
                    Some(_) => sent += 1,
                    None => full += 1,
                }
                prop_assert!(queue.bytes() <= queue_bytes);
            }
            now += MAX;
            let Some(batch) = queue.send(now) else { continue };
            let numbers: Vec<u64> =
                std::str::from_utf8(batch).unwrap().lines().map(|line| line.parse().unwrap()).collect();
            prop_assert!(batch.len() <= batch_bytes.max(301));
            prop_assert_eq!(numbers[0], delivered + lost + 1, "no hole, nothing twice once settled");
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
            let done = queue.answered(answer, now, 5);
            delivered += done.delivered;
            lost += done.refused;
            prop_assert!(done.sequence == 0 || done.sequence == delivered + lost);
            highest = highest.max(done.sequence);
        }
        prop_assert!(highest <= sent);
        prop_assert_eq!(delivered + lost + queue.lines(), sent);
        prop_assert!(full == 0 || queue_bytes < 300 * 1200);
    }
}
