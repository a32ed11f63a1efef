use std::time::Duration;

use portcullis_policy::limits;
use proptest::prelude::*;

use super::keeps_promise;
use crate::{
    gcra::{Quota, Step},
    set::{Set, Tag, WAYS},
};

const SECOND: u64 = 1_000_000_000;

fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
    Quota::new(limit, Duration::from_secs(seconds), burst).unwrap()
}

fn tag(key: u64, quota: &Quota) -> Tag {
    Tag::new(key << 40, quota.refill_ns())
}

fn admits(set: &mut Set, key: u64, now_ns: u64, quota: &Quota) -> bool {
    matches!(set.step(tag(key, quota), now_ns, quota), Step::Admit { .. })
}

/// As a slot keeps it from one request to the next.
fn kept(set: &Set) -> Set {
    let encoded = set.encode();
    assert!(encoded.as_bytes().len() <= limits::SHARED_SLOT_BYTES);
    let back = Set::decode(encoded.as_bytes()).unwrap();
    assert_eq!(back.encode().as_bytes(), encoded.as_bytes());
    back
}

#[test]
fn entries_are_kept_apart_and_found_again() {
    let one = quota(1, 60, 1);
    let mut set = Set::default();
    for key in 0..WAYS as u64 {
        assert!(admits(&mut set, key, SECOND, &one));
        set = kept(&set);
    }
    assert_eq!((set.encode().as_bytes().len(), set.folded()), (256, 0));
    for key in 0..WAYS as u64 {
        assert!(!admits(&mut set, key, 60 * SECOND, &one));
    }
    for key in 0..WAYS as u64 {
        assert!(admits(&mut set, key, 61 * SECOND, &one));
        set = kept(&set);
    }
    assert_eq!(set.folded(), 0);
}

#[test]
fn entries_whose_time_has_passed_take_no_room() {
    let one = quota(1, 1, 1);
    let mut set = Set::default();
    for key in 0..1000 {
        assert!(admits(&mut set, key, (key + 1) * SECOND, &one));
        assert_eq!(set.folded(), 0);
        set = kept(&set);
        assert_eq!(set.encode().as_bytes().len(), 48 + 16);
    }
}

#[test]
fn a_full_set_never_gives_burst_back() {
    let five = quota(5, 60, 5);
    let mut set = Set::default();
    let victim = 1000;
    for _ in 0..5 {
        assert!(admits(&mut set, victim, SECOND, &five));
    }
    let mut folded = 0;
    for key in 0..200 {
        admits(&mut set, key, SECOND, &five);
        folded += set.folded();
        set = kept(&set);
        assert!(!admits(&mut set, victim, SECOND + 1, &five));
    }
    assert!(folded > 0);
    // Newcomers share what the floor leaves: a burst and no more.
    let newcomers = (2000..3000).filter(|key| admits(&mut set, *key, SECOND + 1, &five)).count();
    assert!(newcomers <= 5, "{newcomers}");
    // It has all drained within the window.
    for key in 5000..5000 + WAYS as u64 {
        assert!(admits(&mut set, key, 62 * SECOND, &five));
    }
}

#[test]
fn the_entry_with_least_debt_gives_way() {
    let (five, one) = (quota(5, 60, 5), quota(1, 60, 1));
    let mut set = Set::default();
    assert!(admits(&mut set, 0, SECOND, &five));
    for key in 1..WAYS as u64 {
        (0..5).for_each(|_| assert!(admits(&mut set, key, SECOND, &five)));
    }
    // The newcomer owes 60 s, the first key 12 s: the first key's debt becomes the floor.
    assert!(admits(&mut set, 1000, SECOND, &one));
    let mut set = kept(&set);
    assert_eq!((0..9).filter(|_| admits(&mut set, 1001, SECOND, &five)).count(), 4);
}

#[test]
fn a_single_nanosecond_of_debt_is_kept() {
    let one = quota(1, 1, 1);
    let mut set = Set::default();
    assert!(admits(&mut set, 1, SECOND, &one));
    assert!(admits(&mut set, 2, 2 * SECOND - 1, &one));
    let mut set = kept(&set);
    assert_eq!(set.step(tag(1, &one), 2 * SECOND - 1, &one), Step::Refuse { wait_ns: 1 });
}

#[test]
fn a_flood_of_daily_limits_does_not_lock_out_those_a_minute() {
    let (daily, minute) = (quota(2, 86_400, 2), quota(5, 60, 5));
    let mut set = Set::default();
    for key in 0..10_000 {
        admits(&mut set, key, SECOND, &daily);
        set = kept(&set);
    }
    let mut at = SECOND;
    for key in 20_000..20_050 {
        // All that is left to them is one quota for all, but that they have.
        at += 12 * SECOND;
        assert!(admits(&mut set, key, at, &minute), "{key}");
        set = kept(&set);
    }
    assert!(!admits(&mut set, 99_999, at, &daily));
}

#[test]
fn time_does_not_go_back_within_a_slot() {
    let one = quota(1, 1, 1);
    let mut set = Set::default();
    assert!(admits(&mut set, 1, 10 * SECOND, &one));
    assert!(admits(&mut set, 2, 11 * SECOND, &one));
    let mut set = kept(&set);
    // The first entry has been left out, and still a worker with a clock behind gets no second request.
    assert!(admits(&mut set, 1, 10 * SECOND + 1, &one));
    assert_eq!(set.step(tag(1, &one), 10 * SECOND + 2, &one), Step::Refuse { wait_ns: 2 * SECOND - 2 });
}

#[test]
fn what_is_not_ours_is_not_read() {
    let mut set = Set::default();
    admits(&mut set, 1, SECOND, &quota(1, 1, 1));
    let good = set.encode().as_bytes().to_vec();
    assert!(Set::decode(&good).is_some() && Set::decode(b"").is_some());
    let mut other_version = good.clone();
    other_version[4] = 2;
    let too_many = [&good[..48], &[7; 16 * (WAYS + 1)]].concat();
    for wrong in
        [b"x", &good[..47], &good[..good.len() - 1], &other_version[..], &too_many, &[0; 64], &[0xff; 256]]
    {
        assert_eq!(Set::decode(wrong), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300), ours: bool, now: u64) {
        let mut bytes = bytes;
        if ours && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(b"gcra\x01\0\0\0");
            bytes.truncate(bytes.len() / 16 * 16);
        }
        if let Some(mut set) = Set::decode(&bytes) {
            for key in 0..20 {
                admits(&mut set, key, now, &quota(3, 7, 3));
            }
            kept(&set);
        }
    }

    /// Many keys of three kinds fight for one slot, with a clock that also steps back: each keeps its promise.
    #[test]
    fn every_key_keeps_its_promise(
        requests in prop::collection::vec((0..40_u64, 0..3_usize, -2_i64..6), 1..400),
        unit in prop_oneof![Just(1_u64), Just(SECOND / 7), Just(SECOND), Just(90 * SECOND)],
    ) {
        let quotas = [quota(3, 7, 3), quota(5, 60, 2), quota(1, 86_400, 3)];
        let mut set = Set::default();
        let mut now = 1000 * SECOND;
        let mut latest = now;
        let mut admitted = std::collections::BTreeMap::<(u64, usize), Vec<u64>>::new();
        for (key, kind, gap) in requests {
            now = now.saturating_add_signed(gap * unit as i64);
            latest = latest.max(now);
            let key = key * 3 + kind as u64;
            if admits(&mut set, key, now, &quotas[kind]) {
                admitted.entry((key, kind)).or_default().push(latest);
            }
            set = kept(&set);
        }
        for ((_, kind), times) in admitted {
            let quota = &quotas[kind];
            prop_assert!(keeps_promise(&times, quota.limit(), quota.window(), quota.burst()));
        }
    }

    /// As long as no more keys than places are live, each is judged exactly as if it were alone.
    #[test]
    fn nothing_is_lost_while_there_is_room(requests in prop::collection::vec((0..WAYS as u64, 0..3_u64), 1..300)) {
        let quota = quota(3, 7, 3);
        let mut set = Set::default();
        let mut alone = vec![Set::default(); WAYS];
        let mut now = SECOND;
        for (key, gap) in requests {
            now += gap * SECOND / 3;
            let step = set.step(tag(key, &quota), now, &quota);
            prop_assert_eq!(step, alone[key as usize].step(tag(key, &quota), now, &quota));
            set = kept(&set);
        }
    }
}
