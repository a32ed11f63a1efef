//! A process that appends is killed, again and again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit_log::feed::Feed;
use portcullis_audit_log::log::{Entry, Log, Settings};
use portcullis_audit_log::storage::Disk;
use portcullis_audit_log::verify::verify;

use crate::support::*;

const FOLDER: &str = "PORTCULLIS_KILL_FOLDER";

fn settings() -> Settings {
    Settings { segment_bytes: 30_000, publish_ms: 5, ..Settings::default() }
}

fn open_disk(folder: &Path) -> Log {
    Log::open(Disk::new(folder.to_owned()).unwrap(), signer(), settings(), clock()).unwrap().0
}

/// The victim: prints each record's number and value once it is acknowledged, until it is killed.
fn append_for_ever(folder: &Path) -> ! {
    let log = open_disk(folder);
    let mut value = log.durable().size * 1_000;
    loop {
        let batch: Vec<Entry> = (0..3).map(|place| entry("a", value + place)).collect();
        if let Ok(appended) = log.append(batch) {
            println!("acknowledged {} {value}", appended.first);
        }
        value += 3;
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    // The victim is this test again, told where to write.
    if let Some(folder) = std::env::var_os(FOLDER) {
        append_for_ever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(0x5EED);
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    let kills = scale(1_000, 12);
    for _ in 0..kills {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::a_killed_process_loses_nothing_that_it_acknowledged", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let numbers = |line: String| {
                let mut words = line.split_whitespace().skip_while(|word| *word != "acknowledged").skip(1);
                Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
            };
            lines.map_while(Result::ok).filter_map(numbers).collect::<Vec<(u64, u64)>>()
        });
        std::thread::sleep(Duration::from_millis(20 + dice.roll(60)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
    }
    assert!(acknowledged.len() as u64 > kills, "only {} batches", acknowledged.len());

    let log = open_disk(folder.path());
    let mut feed = Feed::new(Arc::clone(log.storage()), 0);
    let records = feed.page(log.durable().size, usize::MAX).unwrap().records;
    let mut lost = 0;
    for (first, value) in &acknowledged {
        for place in 0..3 {
            let found = usize::try_from(first + place).ok().and_then(|index| records.get(index));
            lost += u64::from(found.is_none_or(|found| found.public != entry("a", value + place).public));
        }
    }
    log.close();
    let report = verify(&**log.storage(), log.verifier(), None).unwrap();
    println!("{kills} kills, {} batches acknowledged, {lost} records lost", acknowledged.len());
    assert_eq!((lost, report.finding), (0, None));
}
