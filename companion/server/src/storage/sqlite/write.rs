//! The writer thread of the embedded store: the only place that changes the file.

use std::collections::HashMap;

use rusqlite::{
    Connection, OptionalExtension, Savepoint, Transaction, TransactionBehavior, params, params_from_iter,
};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Timestamp, rfc3339};
use crate::event::{Event, Gap, RateLimitExcess, Severity};
use crate::storage::{Done, Expiry, Outcome, Progress, Registration, Statement, StorageError};
use crate::tenant::TenantId;

/// Batches that share one transaction. More would make the first of them wait for the last.
const GROUP: usize = 32;
const MINUTE_MS: i64 = 60_000;

type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// What the writer is asked to do.
pub enum Command {
    /// Store a batch.
    Project { events: Vec<Event>, progress: Option<Progress>, reply: Reply<Vec<Outcome>> },
    /// Do statements.
    Write { statements: Vec<Statement>, reply: Reply<Vec<Done>> },
    /// Remove old events.
    Expire { expiry: Expiry, reply: Reply<u64> },
    /// Write one row.
    Probe { now: Timestamp, reply: Reply<()> },
}

/// An answer that is held back until the transaction is durable.
enum Answer {
    Project(Reply<Vec<Outcome>>, Result<Vec<Outcome>, StorageError>),
    Write(Reply<Vec<Done>>, Result<Vec<Done>, StorageError>),
    Expire(Reply<u64>, Result<u64, StorageError>),
    Probe(Reply<()>, Result<(), StorageError>),
}

impl Answer {
    fn error(&self) -> Option<StorageError> {
        match self {
            Self::Project(_, result) => result.as_ref().err().cloned(),
            Self::Write(_, result) => result.as_ref().err().cloned(),
            Self::Expire(_, result) => result.as_ref().err().cloned(),
            Self::Probe(_, result) => result.as_ref().err().cloned(),
        }
    }

    /// Tells the asker. One that has gone away is no error: what it asked for is done, and a repetition is a
    /// duplicate.
    fn send(self, failure: Option<&StorageError>) {
        fn tell<T>(reply: Reply<T>, result: Result<T, StorageError>, failure: Option<&StorageError>) {
            let _ = reply.send(failure.map_or(result, |error| Err(error.clone())));
        }
        match self {
            Self::Project(reply, result) => tell(reply, result, failure),
            Self::Write(reply, result) => tell(reply, result, failure),
            Self::Expire(reply, result) => tell(reply, result, failure),
            Self::Probe(reply, result) => tell(reply, result, failure),
        }
    }
}

/// Serves the queue until every sender is gone.
pub fn run(mut connection: Connection, mut queue: mpsc::Receiver<Command>, registration: Registration) {
    let mut relaxed = false;
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(command) => group.push(command),
                Err(_) => break,
            }
        }
        relax(&connection, group.iter().all(Command::may_come_again), &mut relaxed);
        serve(&mut connection, group, registration);
    }
    // Folds the log into the file, so that a copy of the one file is whole. Failing here loses nothing: the
    // next start does it.
    let _ = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
}

impl Command {
    /// Whether the trail does this again if it is lost.
    fn may_come_again(&self) -> bool {
        matches!(self, Self::Project { progress: Some(_), .. })
    }
}

/// Commits are synced, or not until the next that is. On an error it stays as it is, and the next group tries again.
fn relax(connection: &Connection, relax: bool, relaxed: &mut bool) {
    if relax == *relaxed {
        return;
    }
    let pragma = if relax { "PRAGMA synchronous = NORMAL" } else { "PRAGMA synchronous = FULL" };
    if connection.execute_batch(pragma).is_ok() {
        *relaxed = relax;
    }
}

fn serve(connection: &mut Connection, group: Vec<Command>, registration: Registration) {
    let mut transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => return refuse(group, &error.into()),
    };
    let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
    let mut group = group.into_iter();
    let mut failure = None;
    for command in group.by_ref() {
        let answer = execute(&mut transaction, command, registration);
        // Some errors, a full disk among them, make SQLite take the whole transaction back: for everybody in it.
        failure = transaction.is_autocommit().then(|| answer.error().unwrap_or_else(rolled_back));
        answers.push(answer);
        if failure.is_some() {
            break;
        }
    }
    let failure = failure.or_else(|| transaction.commit().err().map(StorageError::from));
    for answer in answers {
        answer.send(failure.as_ref());
    }
    refuse(group, &failure.unwrap_or_else(rolled_back));
}

fn rolled_back() -> StorageError {
    StorageError::Failed("the transaction was rolled back".to_owned())
}

fn refuse(group: impl IntoIterator<Item = Command>, error: &StorageError) {
    for command in group {
        let answer = match command {
            Command::Project { reply, .. } => Answer::Project(reply, Err(error.clone())),
            Command::Write { reply, .. } => Answer::Write(reply, Err(error.clone())),
            Command::Expire { reply, .. } => Answer::Expire(reply, Err(error.clone())),
            Command::Probe { reply, .. } => Answer::Probe(reply, Err(error.clone())),
        };
        answer.send(None);
    }
}

fn execute(transaction: &mut Transaction<'_>, command: Command, registration: Registration) -> Answer {
    match command {
        Command::Project { events, progress, reply } => {
            Answer::Project(reply, append(transaction, events, progress.as_ref(), registration))
        }
        Command::Write { statements, reply } => Answer::Write(reply, write(transaction, &statements)),
        Command::Expire { expiry, reply } => Answer::Expire(reply, expire(transaction, expiry)),
        Command::Probe { now, reply } => Answer::Probe(reply, probe(transaction, now)),
    }
}

/// Does all statements, or takes back those that it did; the rest of the transaction is not touched.
fn write(transaction: &mut Transaction<'_>, statements: &[Statement]) -> Result<Vec<Done>, StorageError> {
    let savepoint = transaction.savepoint()?;
    let mut done = Vec::with_capacity(statements.len());
    for statement in statements {
        done.push(execute_one(&savepoint, statement)?);
    }
    savepoint.commit()?;
    Ok(done)
}

fn execute_one(savepoint: &Savepoint<'_>, statement: &Statement) -> Result<Done, StorageError> {
    let mut prepared = savepoint.prepare_cached(&statement.sql)?;
    let done = if prepared.column_count() == 0 {
        let changed = prepared.execute(params_from_iter(&statement.values))?;
        Done { changed: u64::try_from(changed).unwrap_or(u64::MAX), rows: Vec::new() }
    } else {
        drop(prepared);
        let rows = super::read::rows(savepoint, statement)?;
        Done { changed: u64::try_from(rows.len()).unwrap_or(u64::MAX), rows }
    };
    statement.check(done.changed)?;
    Ok(done)
}

/// A row is written, and there is room for a batch: rewriting a row alone would succeed in a store that is full.
fn probe(transaction: &mut Transaction<'_>, now: Timestamp) -> Result<(), StorageError> {
    const ROOM_BYTES: usize = 64 * 1024;
    let now = rfc3339(now);
    let room = transaction.savepoint()?;
    room.prepare_cached("INSERT INTO store_probe (written_at, ballast) VALUES (?1, zeroblob(?2))")?
        .execute(params![now, ROOM_BYTES])?;
    drop(room);
    transaction
        .prepare_cached(
            "INSERT INTO store_probe (id, written_at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET written_at = excluded.written_at",
        )?
        .execute([now])?;
    Ok(())
}

/// Events are numbered as they arrive, so the old ones are the first: only they are looked at. A record that came late is
/// found when its turn comes.
fn expire(transaction: &mut Transaction<'_>, expiry: Expiry) -> Result<u64, StorageError> {
    let Expiry { before, most, .. } = expiry;
    let savepoint = transaction.savepoint()?;
    let mut removed: usize = 0;
    for table in ["security_events", "rate_limiting_logs", "database_performance_logs"] {
        let rows = savepoint
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?1) AND created_at < ?2"
            ))?
            .execute(params![most, rfc3339(before)])?;
        removed = removed.saturating_add(rows);
    }
    // Counts of whole minutes: the one that `before` cuts is kept.
    savepoint
        .prepare_cached("DELETE FROM security_event_counts WHERE minute < ?1")?
        .execute([before.as_millisecond().div_euclid(MINUTE_MS)])?;
    savepoint.commit()?;
    Ok(u64::try_from(removed).unwrap_or(u64::MAX))
}

/// Stores one batch whole, or nothing of it; the other batches of the transaction are not touched.
fn append(
    transaction: &mut Transaction<'_>,
    events: Vec<Event>,
    progress: Option<&Progress>,
    registration: Registration,
) -> Result<Vec<Outcome>, StorageError> {
    let savepoint = transaction.savepoint()?;
    if let Some(progress) = progress {
        execute_one(&savepoint, &progress.statement())?;
        check_keys(&savepoint, &progress.keys)?;
    }
    let mut counts = Counts::default();
    let mut outcomes = Vec::with_capacity(events.len());
    for event in events {
        outcomes.push(insert(&savepoint, event, registration, &mut counts)?);
    }
    counts.flush(&savepoint)?;
    savepoint.commit()?;
    Ok(outcomes)
}

fn check_keys(store: &Savepoint<'_>, keys: &[(String, u64)]) -> Result<(), StorageError> {
    let mut found =
        store.prepare_cached("SELECT 1 FROM tenant_keys WHERE tenant_id = ?1 AND revision = ?2")?;
    for (tenant, revision) in keys {
        let valid = found.query_row(params![tenant, revision], |_| Ok(())).optional()?;
        valid.ok_or(StorageError::Conflict)?;
    }
    Ok(())
}

fn insert(
    store: &Savepoint<'_>,
    mut event: Event,
    registration: Registration,
    counts: &mut Counts,
) -> Result<Outcome, StorageError> {
    let created_at = rfc3339(event.at);
    let mut outcome = Outcome::Stored;
    if let Some(gap) = &event.gap {
        let missing = missing(store, gap)?;
        event.details.insert("missing".to_owned(), missing.into());
        outcome = Outcome::GapStored { missing };
    }
    let details =
        serde_json::to_string(&event.details).map_err(|error| StorageError::Failed(error.to_string()))?;
    let new = store
        .prepare_cached(
            "INSERT INTO security_events \
             (tenant_id, event_type, severity, user_id, ip_address, user_agent, details, created_at, epoch, sequence) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            event.tenant.as_str(),
            event.event_type.as_str(),
            event.severity.as_str(),
            event.user_id,
            event.ip_address,
            event.user_agent,
            details,
            created_at,
            event.key.epoch.as_str(),
            event.key.sequence.as_i64(),
        ])?;
    if new == 0 {
        return Ok(Outcome::Duplicate);
    }
    register(store, &event.tenant, registration, &created_at)?;
    if let Some(excess) = &event.rate_limit {
        insert_excess(store, &event, excess, &created_at)?;
    }
    counts.add(event);
    Ok(outcome)
}

fn insert_excess(
    store: &Savepoint<'_>,
    event: &Event,
    excess: &RateLimitExcess,
    created_at: &str,
) -> Result<(), StorageError> {
    store
        .prepare_cached(
            "INSERT INTO rate_limiting_logs \
             (tenant_id, user_id, action, ip_address, request_count, limit_exceeded, window_start, window_end, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, TRUE, ?6, ?7, ?8)",
        )?
        .execute(params![
            event.tenant.as_str(),
            event.user_id,
            excess.action,
            event.ip_address,
            excess.request_count,
            rfc3339(excess.window_start),
            rfc3339(excess.window_end),
            created_at,
        ])?;
    Ok(())
}

/// How many of the records a gap speaks of are not here.
fn missing(store: &Savepoint<'_>, gap: &Gap) -> Result<u64, StorageError> {
    match gap {
        Gap::Overflow { count } => Ok(*count),
        Gap::VmDied { epoch, from, to } => {
            let arrived: u64 = store
                .prepare_cached(
                    "SELECT count(*) FROM security_events WHERE epoch = ?1 AND sequence BETWEEN ?2 AND ?3",
                )?
                .query_row(params![epoch.as_str(), from.as_i64(), to.as_i64()], |row| row.get(0))?;
            let span = to.as_i64().saturating_sub(from.as_i64()).saturating_add(1);
            Ok(u64::try_from(span).unwrap_or(0).saturating_sub(arrived))
        }
    }
}

fn register(
    store: &Savepoint<'_>,
    tenant: &TenantId,
    registration: Registration,
    created_at: &str,
) -> Result<(), StorageError> {
    let Registration::ByTraffic { max_tenants } = registration else { return Ok(()) };
    if !tenant.may_register_itself() {
        return Ok(());
    }
    let known = store
        .prepare_cached("SELECT 1 FROM tenants WHERE tenant_id = ?1")?
        .query_row([tenant.as_str()], |_| Ok(()))
        .optional()?
        .is_some();
    if known {
        return Ok(());
    }
    let registered: u32 =
        store.prepare_cached("SELECT count(*) FROM tenants")?.query_row([], |row| row.get(0))?;
    if registered < max_tenants {
        store
            .prepare_cached(
                "INSERT INTO tenants (tenant_id, origin, created_at) VALUES (?1, 'traffic', ?2) ON CONFLICT DO NOTHING",
            )?
            .execute(params![tenant.as_str(), created_at])?;
    }
    Ok(())
}

/// The batch's share of the counts per minute, added up before it is written.
#[derive(Default)]
struct Counts(HashMap<(TenantId, i64, String, Severity), u64>);

impl Counts {
    fn add(&mut self, event: Event) {
        let minute = event.at.as_millisecond().div_euclid(MINUTE_MS);
        let key = (event.tenant, minute, event.event_type.as_str().to_owned(), event.severity);
        let count = self.0.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    fn flush(self, store: &Savepoint<'_>) -> Result<(), StorageError> {
        let mut statement = store.prepare_cached(
            "INSERT INTO security_event_counts (tenant_id, minute, event_type, severity, events) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET events = events + excluded.events",
        )?;
        for ((tenant, minute, event_type, severity), events) in self.0 {
            statement.execute(params![tenant.as_str(), minute, event_type, severity.as_str(), events])?;
        }
        Ok(())
    }
}
