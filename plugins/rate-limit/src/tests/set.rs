use std::time::Duration;

use portcullis_policy::limits;
use proptest::prelude::*;

use super::keeps_promise;
use crate::{
    gcra::Quota,
    held::EPOCH_NS,
    lease::Grant,
    set::{HOLDINGS, Rate, Set, Step, Tag, WAYS},
};

const SECOND: u64 = 1_000_000_000;

fn quota(limit: u32, seconds: u64, burst: u32) -> Quota {
    Quota::new(limit, Duration::from_secs(seconds), burst).unwrap()
}

fn tag(key: u64, quota: &Quota) -> Tag {
    Tag::new(key << 40, quota.refill_ns())
}

fn unit(quota: &Quota) -> Rate<'_> {
    Rate { quota, cost: 1, reserve: false, leased: false, share: None }
}

fn admits(set: &mut Set, key: u64, now_ns: u64, quota: &Quota) -> bool {
    matches!(set.step(tag(key, quota), now_ns, &unit(quota)), Step::Admit { .. })
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
    assert_eq!(set.step(tag(1, &one), 2 * SECOND - 1, &unit(&one)), Step::Refuse { wait_ns: 1 });
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
    assert_eq!(
        set.step(tag(1, &one), 10 * SECOND + 2, &unit(&one)),
        Step::Refuse { wait_ns: 2 * SECOND - 2 }
    );
}

#[test]
fn what_is_not_ours_is_not_read() {
    let mut set = Set::default();
    admits(&mut set, 1, SECOND, &quota(1, 1, 1));
    let good = set.encode().as_bytes().to_vec();
    assert!(Set::decode(&good).is_some() && Set::decode(b"").is_some());
    let mut other_version = good.clone();
    other_version[3] = 1;
    let too_many = [&good[..48], &[7; 16 * (WAYS + 1)]].concat();
    for wrong in
        [b"x", &good[..47], &good[..good.len() - 1], &other_version[..], &too_many, &[0; 64], &[0xff; 256]]
    {
        assert_eq!(Set::decode(wrong), None);
    }
}

/// What a request of so many units holds until its response.
fn reserves(set: &mut Set, key: u64, now_ns: u64, quota: &Quota, cost: u32) -> Option<Option<u32>> {
    let rate = Rate { cost, reserve: true, ..unit(quota) };
    match set.step(tag(key, quota), now_ns, &rate) {
        Step::Admit { reserved, .. } => Some(reserved),
        _ => None,
    }
}

#[test]
fn what_is_given_back_has_never_been() {
    let quota = quota(2, 60, 2);
    let (mut set, mut alone) = (Set::default(), Set::default());
    // A full quota; one unit is held for ten seconds and given back, while another is spent. Nothing is gained of the
    // time that would have passed at the brim.
    let since = reserves(&mut set, 1, SECOND, &quota, 1).unwrap().unwrap();
    assert!(admits(&mut set, 1, 6 * SECOND, &quota) && admits(&mut alone, 1, 6 * SECOND, &quota));
    assert!(!admits(&mut set, 1, 6 * SECOND, &quota), "one is held, one is spent");
    set = kept(&set);
    assert!(set.settle(tag(1, &quota), 11 * SECOND, &quota, since, 1, 0));
    assert!(!set.settle(tag(1, &quota), 11 * SECOND, &quota, since, 1, 0), "only once");
    for now in 11..200 {
        let (ours, theirs) =
            (admits(&mut set, 1, now * SECOND, &quota), admits(&mut alone, 1, now * SECOND, &quota));
        assert_eq!(ours, theirs, "at {now} s");
    }
}

#[test]
fn a_reservation_that_nobody_settles_is_spent() {
    let quota = quota(2, 3600, 2);
    let mut set = Set::default();
    assert!(reserves(&mut set, 1, SECOND, &quota, 2).is_some());
    set = kept(&set);
    let late = SECOND + 4 * EPOCH_NS;
    assert!(!admits(&mut set, 1, late, &quota));
    assert!(reserves(&mut set, 1, late, &quota, 1).is_none(), "they have fallen out, and are spent");
    assert!(reserves(&mut set, 1, late + 1800 * SECOND, &quota, 1).is_some());
    assert!(reserves(&mut set, 1, late + 1800 * SECOND, &quota, 1).is_none());
}

#[test]
fn a_renewed_reservation_stays_a_reservation() {
    let quota = quota(2, 3600, 2);
    let mut set = Set::default();
    let mut since = reserves(&mut set, 1, SECOND, &quota, 2).unwrap().unwrap();
    for epoch in 1..20 {
        let now = SECOND + epoch * 2 * EPOCH_NS;
        assert!(set.renew(tag(1, &quota), since, 2, now));
        since = crate::held::epoch(now);
        set = kept(&set);
    }
    let now = SECOND + 39 * EPOCH_NS;
    assert!(reserves(&mut set, 1, now, &quota, 1).is_none());
    assert!(set.settle(tag(1, &quota), now, &quota, since, 2, 1));
    assert!(reserves(&mut set, 1, now, &quota, 1).is_some());
    assert!(!set.renew(tag(1, &quota), since, 2, now), "what is gone is not renewed");
}

#[test]
fn reservations_beyond_the_places_are_spent_at_once_and_none_is_lost() {
    let five = quota(5, 3600, 5);
    let mut set = Set::default();
    let mut held = Vec::new();
    for key in 0..100 {
        if let Some(Some(since)) = reserves(&mut set, key, SECOND, &five, 1) {
            held.push((key, since));
        }
        set = kept(&set);
    }
    assert_eq!(held.len(), HOLDINGS);
    for (key, since) in held {
        assert!(set.settle(tag(key, &five), SECOND, &five, since, 1, 0));
    }
    assert!(reserves(&mut kept(&set), 1000, SECOND, &five, 1).is_none_or(|held| held.is_some()));
}

#[test]
fn places_are_held_and_let_go_and_fall_out() {
    let mut set = Set::default();
    let key = Tag::new(7 << 40, 0);
    let hold = |set: &mut Set, now| match set.hold(key, now, 2) {
        Step::Hold { tag, epoch, .. } => Some((tag, epoch)),
        _ => None,
    };
    let (tag, epoch) = hold(&mut set, SECOND).unwrap();
    assert!(hold(&mut set, SECOND).is_some() && hold(&mut set, SECOND).is_none());
    set = kept(&set);
    assert!(set.release(tag, epoch, 1));
    assert!(hold(&mut set, 2 * SECOND).is_some() && hold(&mut set, 2 * SECOND).is_none());
    // A worker died: in time its places are free.
    assert!(hold(&mut set, 4 * EPOCH_NS - 1).is_none());
    assert!(hold(&mut set, 4 * EPOCH_NS).is_some() && hold(&mut set, 4 * EPOCH_NS).is_some());
    assert!(hold(&mut set, 4 * EPOCH_NS).is_none());
}

#[test]
fn keys_without_a_place_of_their_own_share_one_limit() {
    let mut set = Set::default();
    let mut admitted = 0;
    for key in 1..200_u64 {
        for _ in 0..4 {
            admitted += u32::from(matches!(set.hold(Tag::new(key << 40, 0), SECOND, 3), Step::Hold { .. }));
        }
        set = kept(&set);
    }
    assert_eq!(admitted as usize, 3 * (HOLDINGS + 1));
}

#[test]
fn a_lease_is_spent_beside_the_limit_and_gives_way_first() {
    let five = quota(5, 3600, 5);
    let rate = Rate { leased: true, ..unit(&five) };
    let mut set = Set::default();
    assert_eq!(set.step(tag(1, &five), SECOND, &rate), Step::Dry);
    let grant = |set: &mut Set, key, tokens| {
        let lease = set.lease(tag(key, &five), SECOND).unwrap();
        let asked = lease.ask(tokens, 100, SECOND).unwrap();
        let granted = Grant { keep: 0, granted: tokens, expires_ms: 10_000, retry_after_ms: 0 };
        assert!(lease.answered(asked.sequence, SECOND, SECOND, &granted));
    };
    grant(&mut set, 1, 9);
    set = kept(&set);
    let admitted = (0..9).filter(|_| matches!(set.step(tag(1, &five), SECOND, &rate), Step::Admit { .. }));
    assert_eq!(admitted.count(), 5, "this process's own limit holds whatever the lease says");
    for key in 2..40 {
        grant(&mut set, key, 2);
        assert!(matches!(set.step(tag(key, &five), SECOND, &rate), Step::Admit { .. }));
        set = kept(&set);
    }
    assert!(!set.step(tag(1, &five), SECOND + 1, &rate).admitted());
    // Where nothing is left, a share needs no token.
    let part = quota(1, 3600, 1);
    let mut fresh = Set::default();
    let shared = Rate { share: Some(&part), ..rate };
    assert!(fresh.step(tag(1, &five), SECOND, &shared).admitted());
    assert_eq!(fresh.step(tag(1, &five), SECOND, &shared), Step::Dry);
}

impl Step {
    fn admitted(self) -> bool {
        matches!(self, Self::Admit { .. })
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300), ours: bool, now: u64) {
        let mut bytes = bytes;
        if ours && bytes.len() >= 8 {
            bytes[..4].copy_from_slice(b"grl\x02");
            bytes[7] = 0;
            let places = [bytes[4], bytes[5], bytes[6]].map(|count| usize::from(count) % 5);
            bytes[4..7].copy_from_slice(&places.map(|count| count as u8));
            bytes.resize(48 + 16 * (places[0] + places[1] + 2 * places[2]), 7);
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
            let step = set.step(tag(key, &quota), now, &unit(&quota));
            prop_assert_eq!(step, alone[key as usize].step(tag(key, &quota), now, &unit(&quota)));
            set = kept(&set);
        }
    }
}
