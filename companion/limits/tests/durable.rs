//! What was granted before a crash counts after it, whatever the disk had not confirmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use portcullis_limits::{
    engine::Level,
    journal::{
        Clock, Found, Store,
        disk::{Disk, Folder},
        frame::Identity,
    },
    key::{Key, Name, Secret},
    quota::Quota,
    step::Ask,
};
use proptest::prelude::*;

const RANDOM: (Secret, Identity) = (Secret([3; 16]), Identity([4; 16]));

/// A disk that keeps only what was synced, and any part of the rest.
#[derive(Clone, Default)]
struct Faulty(Arc<Mutex<Bytes>>);

#[derive(Default)]
struct Bytes {
    synced: Option<Vec<u8>>,
    written: Vec<u8>,
    draft: Vec<u8>,
    failing: Arc<AtomicBool>,
}

impl Faulty {
    /// What a machine would find after the power failed: `torn` bytes of what was not confirmed, the last of them garbage.
    fn crash(&self, torn: usize) -> Self {
        let bytes = self.0.lock().unwrap();
        let mut left = bytes.synced.clone();
        if let Some(left) = &mut left {
            let unsynced = &bytes.written[..torn.min(bytes.written.len())];
            left.extend_from_slice(unsynced);
            if let (Some(last), true) = (left.last_mut(), !unsynced.is_empty()) {
                *last ^= 0x55;
            }
        }
        Self(Arc::new(Mutex::new(Bytes { synced: left, ..Bytes::default() })))
    }

    fn fail(&self, failing: bool) {
        self.0.lock().unwrap().failing.store(failing, Ordering::SeqCst);
    }
}

impl Bytes {
    fn able(&self) -> io::Result<()> {
        match self.failing.load(Ordering::SeqCst) {
            true => Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device")),
            false => Ok(()),
        }
    }
}

impl Disk for Faulty {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().synced.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.able()?;
        state.written.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.able()?;
        let written = std::mem::take(&mut state.written);
        state.synced.as_mut().unwrap().extend(written);
        Ok(())
    }

    fn draft(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().draft.clear();
        Ok(())
    }

    fn append_draft(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.able()?;
        state.draft.extend_from_slice(bytes);
        Ok(())
    }

    fn replace(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.able()?;
        state.written.clear();
        state.synced = Some(std::mem::take(&mut state.draft));
        Ok(())
    }
}

fn clock(time: &Arc<AtomicU64>) -> Clock {
    let time = Arc::clone(time);
    Arc::new(move || time.load(Ordering::SeqCst))
}

fn open(disk: impl Disk + 'static, time: &Arc<AtomicU64>) -> Store {
    Store::open(Box::new(disk), 4096, RANDOM, clock(time)).unwrap()
}

fn key(store: &Store, user: u32) -> Key {
    Name::new("acme", "login", &format!("user={user}")).unwrap().key(store.engine.secret())
}

async fn spend(store: &Store, user: u32, quota: Quota, hits: u32) -> Result<bool, String> {
    let level = Level { key: key(store, user), quota, hits };
    let answer = store.engine.spend(&[level], store.journal().now_ns(), &mut Vec::new());
    store.journal().wait(answer.batch).await.map_err(|error| error.to_string())?;
    Ok(answer.value)
}

fn quota(limit: u32, seconds: u64) -> Quota {
    Quota::new(limit, Duration::from_secs(seconds), limit).unwrap()
}

fn excess(admitted: &mut [u64], quota: &Quota) -> Option<String> {
    admitted.sort_unstable();
    for (first, start) in admitted.iter().enumerate() {
        for (last, end) in admitted.iter().enumerate().skip(first) {
            let span = u128::from(end - start);
            let most = u128::from(quota.burst())
                + (u128::from(quota.limit()) * span).div_ceil(quota.window().as_nanos());
            if (last - first + 1) as u128 > most {
                return Some(format!("{} in {span} ns, at most {most}", last - first + 1));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Spent and leased, crashed at any moment, with any part of the unconfirmed bytes left.
    #[test]
    fn a_crash_gives_nothing_back(
        limit in 2_u32..30,
        seconds in 1_u64..20,
        steps in prop::collection::vec((0_u8..8, 1_u32..9, 0_u64..1500, any::<usize>()), 1..60),
    ) {
        let quota = quota(limit, seconds);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let time = Arc::new(AtomicU64::new(5));
        let mut disk = Faulty::default();
        let mut store = open(disk.clone(), &time);
        let mut admitted = Vec::new();
        // Tokens on leases, and when they end by the process's clock; the process is another each time.
        let mut held: Vec<(u32, u64)> = Vec::new();
        for (process, (what, tokens, millis, torn)) in steps.into_iter().enumerate() {
            let now = time.fetch_add(millis * 1_000_000, Ordering::SeqCst) + millis * 1_000_000;
            held.retain(|(_, end)| now < *end);
            match what {
                0..=2 => {
                    if runtime.block_on(spend(&store, 1, quota, tokens)).unwrap() {
                        admitted.extend((0..tokens).map(|_| now));
                    }
                }
                3 | 4 => {
                    let ask = Ask { process: process as u64, sequence: 1, held: 0, want: tokens, need: tokens, give_back: 0 };
                    let answer = store.engine.ask(key(&store, 1), &quota, &ask, store.journal().now_ns());
                    runtime.block_on(store.journal().wait(answer.batch)).unwrap();
                    held.push((answer.value.granted, now + answer.value.expires_ms * 1_000_000));
                }
                5 | 6 => {
                    if let Some((tokens, _)) = held.pop() {
                        admitted.extend((0..tokens).map(|_| now));
                    }
                }
                _ => {
                    let after = disk.crash(torn % 200);
                    drop(store);
                    disk = after;
                    store = open(disk.clone(), &time);
                    prop_assert_eq!(store.found, Found::State);
                }
            }
        }
        prop_assert_eq!(excess(&mut admitted, &quota), None);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_without_giving_anything_back() {
    let time = Arc::new(AtomicU64::new(0));
    let disk = Faulty::default();
    let store = open(disk.clone(), &time);
    let quota = quota(10, 3600);
    assert_eq!(spend(&store, 1, quota, 4).await, Ok(true));
    disk.fail(true);
    let refused = spend(&store, 2, quota, 1).await.unwrap_err();
    assert!(refused.contains("no space left"), "{refused}");
    disk.fail(false);
    let mut tries = 0;
    while spend(&store, 3 + tries, quota, 1).await.is_err() {
        tries += 1;
        assert!(tries < 100, "it never recovers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = disk.crash(0);
    drop(store);
    let store = open(after, &time);
    assert_eq!(spend(&store, 1, quota, 7).await, Ok(false));
    // One of user 2 counted although it was refused: fewer, never more.
    assert_eq!(spend(&store, 2, quota, 10).await, Ok(false));
}

#[tokio::test]
async fn a_new_file_keeps_what_matters_and_lets_go_of_the_rest() {
    let time = Arc::new(AtomicU64::new(0));
    let disk = Faulty::default();
    let store = open(disk.clone(), &time);
    let (short, long) = (quota(5, 1), quota(5, 3600));
    for user in 0..200 {
        assert_eq!(spend(&store, user, if user % 2 == 0 { short } else { long }, 5).await, Ok(true));
    }
    time.fetch_add(30_000_000_000, Ordering::SeqCst);
    assert_eq!(spend(&store, 1000, long, 1).await, Ok(true));
    let after = disk.crash(0);
    drop(store);
    let store = open(after.clone(), &time);
    let size = after.0.lock().unwrap().synced.as_ref().unwrap().len();
    assert!(size < 101 * 25 + 64 * 32 + 200, "{size} bytes for 101 keys that matter");
    for user in 0..200 {
        // Nothing of an hour's quota has come back, a second's is whole.
        assert_eq!(spend(&store, user, if user % 2 == 0 { short } else { long }, 1).await, Ok(user % 2 == 0));
    }
}

#[tokio::test]
async fn a_broken_file_grants_nothing_for_a_window_also_after_another_start() {
    let time = Arc::new(AtomicU64::new(0));
    let disk = Faulty::default();
    let store = open(disk.clone(), &time);
    let minute = quota(5, 60);
    for user in 0..5 {
        spend(&store, user, minute, 1).await.unwrap();
    }
    drop(store);
    disk.0.lock().unwrap().synced.as_mut().unwrap()[70] ^= 1;
    for found in [Found::Corrupt, Found::State] {
        let store = open(disk.clone(), &time);
        assert_eq!(store.found, found);
        assert_eq!(spend(&store, 9, minute, 1).await, Ok(false));
        time.fetch_add(10_000_000_000, Ordering::SeqCst);
    }
    let store = open(disk.clone(), &time);
    time.fetch_add(75_000_000_000, Ordering::SeqCst);
    assert_eq!(spend(&store, 9, minute, 1).await, Ok(true));
}

#[tokio::test]
async fn a_folder_serves_one_process_and_keeps_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicU64::new(0));
    let store = open(Folder::open(folder.path()).unwrap(), &time);
    assert_eq!(store.found, Found::Nothing);
    assert_eq!(spend(&store, 1, quota(5, 60), 5).await, Ok(true));
    let error = Folder::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("another companion"), "{error}");
    drop(store);
    let store = open(Folder::open(folder.path()).unwrap(), &time);
    assert_eq!(store.found, Found::State);
    assert_eq!(spend(&store, 1, quota(5, 60), 1).await, Ok(false));
    store.forget().await.unwrap();
    assert_eq!(spend(&store, 2, quota(5, 60), 1).await, Ok(false));
}

#[tokio::test]
async fn tokens_that_are_out_when_it_crashes_do_not_refill() {
    let time = Arc::new(AtomicU64::new(0));
    let disk = Faulty::default();
    let store = open(disk.clone(), &time);
    let quota = quota(20, 1);
    let ask = Ask { process: 1, sequence: 1, held: 0, want: 10, need: 10, give_back: 0 };
    let answer = store.engine.ask(key(&store, 1), &quota, &ask, store.journal().now_ns());
    store.journal().wait(answer.batch).await.unwrap();
    assert_eq!(answer.value.granted, 10);
    time.store(950_000_000, Ordering::SeqCst);
    // Another key's promise proves the time.
    assert_eq!(spend(&store, 2, quota, 1).await, Ok(true));
    let after = disk.crash(0);
    drop(store);
    let store = open(after, &time);
    // The process may spend its 10 at this moment: of 20 there is less than half left.
    assert_eq!(spend(&store, 1, quota, 11).await, Ok(false));
}
