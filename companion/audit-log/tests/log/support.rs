use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_audit_log::faults::Faulty;
use portcullis_audit_log::feed::{Feed, Stored};
use portcullis_audit_log::log::{Clock, Entry, Log, OpenError, Recovered, Settings};
use portcullis_audit_log::note::{Signer, Verifier};
use portcullis_audit_log::recovery::KEY;
use portcullis_audit_log::storage::Storage;
use portcullis_audit_log::verify::{Report, verify};

pub fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

/// A clock that ticks a millisecond each time it is read.
pub fn clock() -> Clock {
    let time = AtomicU64::new(1_000);
    Arc::new(move || time.fetch_add(1, Ordering::Relaxed))
}

pub fn small() -> Settings {
    Settings { segment_bytes: 2_000, publish_ms: 5, ..Settings::default() }
}

pub fn open_with(storage: &Faulty, settings: Settings) -> Result<(Log, Recovered), OpenError> {
    Log::open(Arc::new(storage.clone()), signer(), settings, clock())
}

pub fn open(storage: &Faulty) -> Log {
    open_with(storage, small()).unwrap().0
}

pub fn entry(tenant: &str, number: u64) -> Entry {
    Entry {
        tenant: tenant.to_owned(),
        time: 1_000 + number,
        public: format!("{{\"number\":{number}}}").into_bytes(),
        sealed: vec![0xA5; usize::try_from(number % 90).unwrap()],
    }
}

pub fn read_all(log: &Log) -> Vec<Stored> {
    let mut feed = Feed::new(Arc::clone(log.storage()), 0);
    let mut records = Vec::new();
    loop {
        let page = feed.page(log.durable().size, 1_500).unwrap();
        if page.records.is_empty() && page.next == log.durable().size {
            return records;
        }
        records.extend(page.records);
    }
}

pub fn verifier(storage: &dyn Storage) -> Verifier {
    let file = storage.read(KEY).unwrap();
    let mut text = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    file.read_at(&mut text, 0).unwrap();
    Verifier::parse(std::str::from_utf8(&text).unwrap()).unwrap()
}

pub fn check(storage: &Faulty) -> Report {
    verify(storage, &verifier(storage), None).unwrap()
}

pub fn segments(storage: &Faulty) -> Vec<String> {
    storage.list().unwrap().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

/// Small numbers that repeat from run to run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// `make soak` runs everything at full scale, or at so many percent of it.
pub fn scale(full: u64, small: u64) -> u64 {
    let percent = std::env::var("PORTCULLIS_SOAK").ok().map(|percent| percent.parse::<u64>().unwrap());
    percent.map_or(small, |percent| (full * percent / 100).max(small))
}
