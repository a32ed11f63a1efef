//! `portcullis audit rebuild`: the tables of events, made anew from the trail.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::watch;

use crate::cli::StoreArgs;
use crate::clock::Clock;
use crate::hardening;
use crate::keys::{Absent, Keys, Service};
use crate::metrics::Metrics;
use crate::settings::{database, existing_trail, process_variables};
use crate::storage::{self, Shape, Statement, Storage, Transaction};
use crate::trail::Trail;
use crate::trail::projector::Projector;

/// Empties the tables and projects the whole trail.
///
/// # Errors
/// `serve` runs, or the store is shared with other trails, whose events would be lost.
pub fn run(args: &StoreArgs) -> anyhow::Result<()> {
    if hardening::forbid_dumps().is_err() {
        eprintln!("portcullis: core dumps cannot be forbidden here; keys could be in one");
    }
    let place = database(args)?;
    let settings = existing_trail(&args.data_dir, &process_variables)?;
    let service = Service::new(&process_variables, &args.data_dir, Absent::Reuse)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Its lock keeps `serve` away.
        let storage = storage::open(&place, Shape::default()).await?;
        let keys = Keys::new(Arc::clone(&storage), &service, Clock::System);
        let trail = Trail::open(&settings, Some(keys), Clock::System)?;
        let removed = empty(&*storage, &trail.recovered().origin).await?;
        let metrics = Arc::new(Metrics::default());
        let mut projector = Projector::new(trail.clone(), Arc::clone(&storage), metrics);
        let (_running, end) = watch::channel(false);
        let done = tokio::select! {
            done = projector.catch_up(&end) => done,
            never = progress(&trail) => match never {},
        };
        done.context("the tables are filled in part; run it again")?;
        let rows = storage.read(Statement::new("SELECT count(*) FROM security_events")).await?;
        let events = rows.first().map(|row| row.int(0)).transpose()?.unwrap_or(0);
        let passed_over = trail.figures().unprojectable.value();
        let unreadable = trail.figures().unreadable.value();
        trail.close().await;
        storage.close().await?;
        super::super::print(&format!(
            "{place}: {removed} events removed; {events} filled in from {} records; {passed_over} could not be shown; of {unreadable} \
             what they tell of people cannot be read",
            trail.size()
        ))
    })
}

/// Empties what the trail fills, and takes its position back, in one step; how many events went.
async fn empty(storage: &dyn Storage, log: &str) -> anyhow::Result<u64> {
    let others = Statement::new("SELECT count(*) FROM trail_positions WHERE log <> ?1").bind(log);
    let others = storage.read(others).await?.first().map(|row| row.int(0)).transpose()?.unwrap_or(0);
    if others > 0 {
        bail!(
            "the store holds events of {others} other trails, of other companions or of earlier folders, which would be lost; \
             rebuild into an empty store (DATABASE_URL), or forget a trail that is gone for good: DELETE FROM trail_positions WHERE log = ..."
        );
    }
    let transaction = Transaction::new()
        .lock("append")
        .then(Statement::new("DELETE FROM security_events"))
        .then(Statement::new("DELETE FROM security_event_counts"))
        .then(Statement::new("DELETE FROM rate_limiting_logs"))
        .then(Statement::new("DELETE FROM trail_positions WHERE log = ?1").bind(log));
    let done = storage.write(transaction).await?;
    Ok(done.first().map_or(0, |done| done.changed))
}

/// Tells how far it is, on a terminal, for as long as it is asked.
async fn progress(trail: &Trail) -> std::convert::Infallible {
    let shown = std::io::stderr().is_terminal();
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if shown {
            // Who cannot read it misses nothing.
            let _ = write!(std::io::stderr(), "\r{} of {} records ", trail.projected(), trail.size());
        }
    }
}
