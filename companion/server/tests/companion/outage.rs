//! Outages: a companion that is killed again and again, and a store that is away. At small scale here; `make soak` runs
//! them at full scale and shows the figures.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_server::storage::{self, Place, Shape, Statement};

use crate::commands::{Serving, output, portcullis, text};
use crate::support::{Running, Store, eventually, record, try_send};

/// `make soak` runs everything at full scale, or at so many percent of it.
fn scale(full: u64, small: u64) -> u64 {
    let percent = std::env::var("PORTCULLIS_SOAK").ok().map(|percent| percent.parse::<u64>().unwrap());
    percent.map_or(small, |percent| (full * percent / 100).max(small))
}

const BATCH: u64 = 20;

fn delivery(token: &str, first: u64) -> Vec<u8> {
    let lines: Vec<_> =
        (first..first + BATCH).map(|n| record("acme", n, "REQUEST", "INFO").to_string()).collect();
    let body = lines.join("\n");
    format!(
        "POST /v1/ingest HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_a_companion_loses_and_doubles_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let kills = scale(1_000, 6);
    let acknowledged: Arc<Mutex<HashSet<u64>>> = Arc::default();
    let (mut next, mut resent) = (0_u64, 0_u64);
    // The records are of a day that is long ago.
    let serve =
        ["serve", "--demonstration", "--port", "0", "--ingest-port", "0", "--audit-retention", "3660d"];
    for kill in 0..kills {
        let serving = Serving::start(&mut portcullis(folder.path(), &serve));
        let ingest = serving.ready["ingest"].as_str().unwrap().parse().unwrap();
        let token = std::fs::read_to_string(folder.path().join("ingest-token")).unwrap();
        let done = Arc::clone(&acknowledged);
        let sender = tokio::spawn(async move {
            // What was not acknowledged is sent again, as a module does.
            loop {
                let answer = try_send(ingest, &delivery(&token, next)).await;
                if answer.is_none_or(|answer| answer.status != 200) {
                    return next;
                }
                done.lock().unwrap().extend(next..next + BATCH);
                next += BATCH;
            }
        });
        let least = acknowledged.lock().unwrap().len();
        eventually(async || acknowledged.lock().unwrap().len() > least).await;
        tokio::time::sleep(Duration::from_millis(kill * 37 % 120)).await;
        drop(serving);
        next = sender.await.unwrap();
        resent += 1;
        if kill % 50 == 49 {
            println!("{} kills, {} events acknowledged", kill + 1, acknowledged.lock().unwrap().len());
        }
    }
    // Once more, until the tables have everything; it ends well.
    let serving = Serving::start(&mut portcullis(folder.path(), &serve));
    let place = Place::Sqlite(folder.path().join("companion.db"));
    let store = storage::open(&place, Shape::default()).await.unwrap();
    let sequences = async || -> Vec<u64> {
        let rows = store.read(Statement::new("SELECT sequence FROM security_events")).await.unwrap();
        rows.iter().map(|row| u64::try_from(row.int(0).unwrap()).unwrap()).collect()
    };
    let acknowledged = acknowledged.lock().unwrap().clone();
    eventually(async || {
        let shown: HashSet<u64> = sequences().await.into_iter().collect();
        acknowledged.is_subset(&shown)
    })
    .await;
    let shown = sequences().await;
    let distinct: HashSet<u64> = shown.iter().copied().collect();
    assert_eq!(serving.signal("TERM").0, Some(0));
    let verified = output(folder.path(), &["audit", "verify"]);
    println!(
        "{kills} kills: {} events acknowledged, 0 lost, {} shown, {} doubled, {resent} batches sent again\n{}",
        acknowledged.len(),
        shown.len(),
        shown.len() - distinct.len(),
        text(&verified.stdout)
    );
    assert_eq!(shown.len(), distinct.len());
    assert_eq!(verified.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_events_are_taken_and_afterwards_all_are_shown() {
    let running = Running::start(Store::Postgres, true).await;
    running.ingest(&[record("acme", 0, "REQUEST", "INFO")]).await;
    assert_eq!(running.events("acme", "").await.len(), 1);
    running.execute("ALTER TABLE security_events RENAME TO away").await;
    let outage = Duration::from_secs(scale(600, 2));
    let began = portcullis_server::clock::monotonic();
    let mut sent = 1;
    while began.elapsed() < outage {
        let batch: Vec<_> = (sent..sent + BATCH).map(|n| record("acme", n, "REQUEST", "INFO")).collect();
        let receipt = running.ingest(&batch).await;
        assert_eq!(receipt.status, 200, "{}", receipt.body);
        sent += BATCH;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(running.companion.trail().is_stalled());
    running.execute("ALTER TABLE away RENAME TO security_events").await;
    eventually(async || running.companion.trail().projected() == sent).await;
    let rows = running.rows("SELECT count(*), count(DISTINCT sequence) FROM security_events").await;
    println!("an outage of {outage:?}: {sent} events taken, {} shown", rows[0].int(0).unwrap());
    assert_eq!(
        (rows[0].int(0).unwrap(), rows[0].int(1).unwrap()),
        (i64::try_from(sent).unwrap(), i64::try_from(sent).unwrap())
    );
}
