//! The writer: the only task that appends events.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::{Pool, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::ToSql;

use super::copy::copy;
use super::parameters;
use super::value::{Utc, numbered};
use crate::event::{Epoch, Event, Gap, Severity};
use crate::storage::{Outcome, Progress, Registration, StorageError};
use crate::tenant::TenantId;

/// Batches that share one transaction. More would make the first of them wait for the last.
const GROUP: usize = 32;
/// So many events are worth the round trips of a copy.
const COPIED: usize = 16;
const MINUTE_MS: i64 = 60_000;

/// A batch and who waits for it.
pub struct Batch {
    /// What to store.
    pub events: Vec<Event>,
    /// Where the trail stands with it.
    pub progress: Option<Progress>,
    /// Told when it is durable.
    pub reply: oneshot::Sender<Result<Vec<Outcome>, StorageError>>,
}

/// Serves the queue until every sender is gone.
pub async fn run(pool: Pool, mut queue: mpsc::Receiver<Batch>, registration: Registration) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let batches: Vec<&Batch> = group.iter().collect();
        let mut outcomes = store(&pool, &batches, registration).await;
        if outcomes.is_err() && batches.len() > 1 {
            // One of them may be at fault: each by itself, so that it does not take the others with it.
            let mut each = Vec::with_capacity(batches.len());
            for batch in &batches {
                each.push(
                    store(&pool, &[batch], registration).await.map(|outcomes| outcomes.into_iter().next()),
                );
            }
            for (batch, outcome) in group.drain(..).zip(each) {
                let _ = batch.reply.send(outcome.map(Option::unwrap_or_default));
            }
            continue;
        }
        let mut next = outcomes.as_mut().map(|outcomes| outcomes.drain(..));
        for batch in group.drain(..) {
            // One who has gone away is no error: what it asked for is done, and a repetition is a duplicate.
            let _ = batch.reply.send(match &mut next {
                Ok(outcomes) => Ok(outcomes.next().unwrap_or_default()),
                Err(error) => Err(error.clone()),
            });
        }
    }
}

/// A record's key as the server has it.
type Key = (Epoch, i64);

fn key(event: &Event) -> Key {
    (event.key.epoch, event.key.sequence.as_i64())
}

/// Stores all batches, or none.
async fn store(
    pool: &Pool,
    batches: &[&Batch],
    registration: Registration,
) -> Result<Vec<Vec<Outcome>>, StorageError> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    // Numbers become visible in the order in which they were given.
    transaction.batch_execute("SELECT pg_advisory_xact_lock(hashtextextended('append', 0))").await?;
    if batches.iter().all(|batch| batch.progress.is_some()) {
        // What the server loses when it is killed, it loses with the position: the trail fills it again.
        transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    }
    for progress in batches.iter().filter_map(|batch| batch.progress.as_ref()) {
        let statement = progress.statement();
        let prepared = transaction.prepare_cached(&numbered(statement.for_postgres())).await?;
        statement.check(transaction.execute(&prepared, &parameters(&statement.values)).await?)?;
        check_keys(&transaction, &progress.keys).await?;
    }
    let events: Vec<&Event> = batches.iter().flat_map(|batch| &batch.events).collect();
    let known = known(&transaction, &events).await?;
    let (gaps, plain): (Vec<&Event>, Vec<&Event>) =
        events.iter().filter(|event| !known.contains(&key(event))).partition(|event| event.gap.is_some());
    let mut stored = insert(&transaction, &plain, None).await?;
    // Gaps come after what arrived beside them: that is not missing.
    let mut missing = HashMap::new();
    for gap in gaps {
        let count = count_missing(&transaction, gap).await?;
        stored.extend(insert(&transaction, &[gap], Some(count)).await?);
        missing.insert(key(gap), count);
    }
    let mut new: Vec<&Event> = Vec::with_capacity(stored.len());
    let mut outcome = |event| {
        // Of two alike within one transaction the first is the one that was stored.
        if !stored.remove(&key(event)) {
            return Outcome::Duplicate;
        }
        new.push(event);
        missing.get(&key(event)).map_or(Outcome::Stored, |missing| Outcome::GapStored { missing: *missing })
    };
    let outcomes = batches.iter().map(|batch| batch.events.iter().map(&mut outcome).collect()).collect();
    register(&transaction, &new, registration).await?;
    insert_excesses(&transaction, &new).await?;
    count(&transaction, &new).await?;
    transaction.commit().await?;
    Ok(outcomes)
}

/// Behind the lock: who shreds takes it after the keys are deleted, and finds what was stored before.
async fn check_keys(transaction: &Transaction<'_>, keys: &[(String, u64)]) -> Result<(), StorageError> {
    if keys.is_empty() {
        return Ok(());
    }
    let statement = transaction
        .prepare_cached(
            "SELECT count(*) FROM unnest($1::text[], $2::bigint[]) AS used (t, r) \
             JOIN tenant_keys ON tenant_id = t AND revision = r",
        )
        .await?;
    let (tenants, revisions): (Vec<&str>, Vec<i64>) = keys
        .iter()
        .map(|(tenant, revision)| (tenant.as_str(), i64::try_from(*revision).unwrap_or(i64::MAX)))
        .unzip();
    let valid: i64 = transaction.query_one(&statement, &[&tenants, &revisions]).await?.try_get(0)?;
    if usize::try_from(valid).is_ok_and(|valid| valid == keys.len()) {
        Ok(())
    } else {
        Err(StorageError::Conflict)
    }
}

/// Which of the records that carry the time of their arrival are here already: the unique index finds a record again only if
/// it has the same time.
async fn known(transaction: &Transaction<'_>, events: &[&Event]) -> Result<HashSet<Key>, StorageError> {
    let (epochs, sequences): (Vec<&str>, Vec<i64>) = events
        .iter()
        .filter(|event| event.at_arrival)
        .map(|event| (event.key.epoch.as_str(), event.key.sequence.as_i64()))
        .unzip();
    if epochs.is_empty() {
        return Ok(HashSet::new());
    }
    let statement = transaction
        .prepare_cached(
            "SELECT epoch, sequence FROM security_events \
             WHERE (epoch, sequence) IN (SELECT e, s FROM unnest($1::text[], $2::bigint[]) AS k (e, s))",
        )
        .await?;
    keys(&transaction.query(&statement, &[&epochs, &sequences]).await?)
}

fn keys(rows: &[tokio_postgres::Row]) -> Result<HashSet<Key>, StorageError> {
    let read = |row: &tokio_postgres::Row| {
        let epoch = Epoch::new(row.try_get(0)?).ok_or_else(|| StorageError::Failed("no epoch".to_owned()))?;
        Ok((epoch, row.try_get(1)?))
    };
    rows.iter().map(read).collect()
}

/// Inserts what is not there; tells what was not. Where nothing is there already, as nearly always, by copying; else by one
/// statement for all, a column an array.
async fn insert(
    transaction: &Transaction<'_>,
    events: &[&Event],
    missing: Option<u64>,
) -> Result<HashSet<Key>, StorageError> {
    if events.is_empty() {
        return Ok(HashSet::new());
    }
    let details = events.iter().map(|event| details(event, missing)).collect::<Result<Vec<_>, _>>()?;
    if events.len() >= COPIED && copy(transaction, events, &details).await? {
        return Ok(events.iter().map(|event| key(event)).collect());
    }
    let statement = transaction
        .prepare_cached(
            "INSERT INTO security_events (tenant_id, event_type, severity, user_id, ip_address, user_agent, details, created_at, \
             epoch, sequence) SELECT t, e, s, u, i, a, d::jsonb, c, p, q FROM unnest($1::text[], $2::text[], $3::text[], \
             $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamp[], $9::text[], $10::bigint[]) \
             AS x (t, e, s, u, i, a, d, c, p, q) ON CONFLICT (epoch, sequence, created_at) DO NOTHING RETURNING epoch, sequence",
        )
        .await?;
    let column =
        |text: fn(&Event) -> Option<&str>| events.iter().map(|event| text(event)).collect::<Vec<_>>();
    let columns: [&(dyn ToSql + Sync); 10] = [
        &column(|event| Some(event.tenant.as_str())),
        &column(|event| Some(event.event_type.as_str())),
        &column(|event| Some(event.severity.as_str())),
        &column(|event| event.user_id.as_deref()),
        &column(|event| event.ip_address.as_deref()),
        &column(|event| event.user_agent.as_deref()),
        &details,
        &events.iter().map(|event| Utc(event.at)).collect::<Vec<_>>(),
        &column(|event| Some(event.key.epoch.as_str())),
        &events.iter().map(|event| event.key.sequence.as_i64()).collect::<Vec<_>>(),
    ];
    keys(&transaction.query(&statement, &columns).await?)
}

fn details(event: &Event, missing: Option<u64>) -> Result<String, StorageError> {
    let text = match missing {
        None => serde_json::to_string(&event.details),
        Some(missing) => {
            let mut details = event.details.clone();
            details.insert("missing".to_owned(), missing.into());
            serde_json::to_string(&details)
        }
    };
    text.map_err(|error| StorageError::Failed(error.to_string()))
}

/// How many of the records a gap speaks of are not here.
async fn count_missing(transaction: &Transaction<'_>, event: &Event) -> Result<u64, StorageError> {
    match &event.gap {
        None => Ok(0),
        Some(Gap::Overflow { count }) => Ok(*count),
        Some(Gap::VmDied { epoch, from, to }) => {
            let statement = transaction
                .prepare_cached(
                    "SELECT count(*) FROM security_events WHERE epoch = $1 AND sequence BETWEEN $2 AND $3",
                )
                .await?;
            let values: [&(dyn ToSql + Sync); 3] = [&epoch.as_str(), &from.as_i64(), &to.as_i64()];
            let arrived: i64 = transaction.query_one(&statement, &values).await?.try_get(0)?;
            let span = to.as_i64().saturating_sub(from.as_i64()).saturating_add(1);
            Ok(u64::try_from(span.saturating_sub(arrived)).unwrap_or(0))
        }
    }
}

async fn register(
    transaction: &Transaction<'_>,
    events: &[&Event],
    registration: Registration,
) -> Result<(), StorageError> {
    let Registration::ByTraffic { max_tenants } = registration else { return Ok(()) };
    // In order of arrival: who comes first finds a place.
    let mut seen = HashSet::new();
    for event in events {
        if !event.tenant.may_register_itself() || !seen.insert(event.tenant.as_str()) {
            continue;
        }
        let statement = transaction
            .prepare_cached(
                "INSERT INTO tenants (tenant_id, origin, created_at) SELECT $1::text, 'traffic', $2::timestamp \
                 WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE tenant_id = $1::text) \
                 AND (SELECT count(*) FROM tenants) < $3 ON CONFLICT DO NOTHING",
            )
            .await?;
        let values: [&(dyn ToSql + Sync); 3] =
            [&event.tenant.as_str(), &Utc(event.at), &i64::from(max_tenants)];
        transaction.execute(&statement, &values).await?;
    }
    Ok(())
}

async fn insert_excesses(transaction: &Transaction<'_>, events: &[&Event]) -> Result<(), StorageError> {
    let rows: Vec<_> =
        events.iter().filter_map(|event| event.rate_limit.as_ref().map(|excess| (*event, excess))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let statement = transaction
        .prepare_cached(
            "INSERT INTO rate_limiting_logs (tenant_id, user_id, action, ip_address, request_count, limit_exceeded, \
             window_start, window_end, created_at) SELECT t, u, a, i, n, TRUE, f, l, c FROM unnest($1::text[], $2::text[], \
             $3::text[], $4::text[], $5::integer[], $6::timestamp[], $7::timestamp[], $8::timestamp[]) AS x (t, u, a, i, n, f, l, c)",
        )
        .await?;
    let columns: [&(dyn ToSql + Sync); 8] = [
        &rows.iter().map(|(event, _)| event.tenant.as_str()).collect::<Vec<_>>(),
        &rows.iter().map(|(event, _)| event.user_id.as_deref()).collect::<Vec<_>>(),
        &rows.iter().map(|(_, excess)| excess.action.as_str()).collect::<Vec<_>>(),
        &rows.iter().map(|(event, _)| event.ip_address.as_deref()).collect::<Vec<_>>(),
        &rows
            .iter()
            .map(|(_, excess)| i32::try_from(excess.request_count).unwrap_or(i32::MAX))
            .collect::<Vec<_>>(),
        &rows.iter().map(|(_, excess)| Utc(excess.window_start)).collect::<Vec<_>>(),
        &rows.iter().map(|(_, excess)| Utc(excess.window_end)).collect::<Vec<_>>(),
        &rows.iter().map(|(event, _)| Utc(event.at)).collect::<Vec<_>>(),
    ];
    transaction.execute(&statement, &columns).await?;
    Ok(())
}

/// Adds to the counts per minute.
async fn count(transaction: &Transaction<'_>, events: &[&Event]) -> Result<(), StorageError> {
    let mut counts: HashMap<(&TenantId, i64, &str, Severity), i64> = HashMap::new();
    for event in events {
        let minute = event.at.as_millisecond().div_euclid(MINUTE_MS);
        let count =
            counts.entry((&event.tenant, minute, event.event_type.as_str(), event.severity)).or_default();
        *count = count.saturating_add(1);
    }
    if counts.is_empty() {
        return Ok(());
    }
    let statement = transaction
        .prepare_cached(
            "INSERT INTO security_event_counts (tenant_id, minute, event_type, severity, events) \
             SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[]) \
             ON CONFLICT (tenant_id, minute, event_type, severity) \
             DO UPDATE SET events = security_event_counts.events + excluded.events",
        )
        .await?;
    let columns: [&(dyn ToSql + Sync); 5] = [
        &counts.keys().map(|(tenant, ..)| tenant.as_str()).collect::<Vec<_>>(),
        &counts.keys().map(|(_, minute, ..)| *minute).collect::<Vec<_>>(),
        &counts.keys().map(|(_, _, event_type, _)| *event_type).collect::<Vec<_>>(),
        &counts.keys().map(|(.., severity)| severity.as_str()).collect::<Vec<_>>(),
        &counts.values().copied().collect::<Vec<_>>(),
    ];
    transaction.execute(&statement, &columns).await?;
    Ok(())
}
