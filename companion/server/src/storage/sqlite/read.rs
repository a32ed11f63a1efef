//! Queries of the embedded store. Every value is a bound parameter; the statement's text is chosen from fixed
//! pieces.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde_json::{Map, Value};

use crate::clock::{Timestamp, rfc3339};
use crate::event::EventType;
use crate::storage::{EventCounts, EventQuery, MAX_PAGE, StorageError, StoredEvent};
use crate::tenant::TenantId;

const MINUTE_MS: i64 = 60_000;

pub fn events(connection: &Connection, query: &EventQuery) -> Result<Vec<StoredEvent>, StorageError> {
    let since = query.since.map(rfc3339);
    let limit = query.limit.min(MAX_PAGE);
    let mut sql = String::from(
        "SELECT created_at, event_type, severity, user_id, ip_address, details FROM security_events WHERE tenant_id = ?",
    );
    let mut values: Vec<&dyn ToSql> = Vec::with_capacity(5);
    let tenant = query.tenant.as_str();
    values.push(&tenant);
    let event_type = query.event_type.as_ref().map(EventType::as_str);
    if let Some(event_type) = &event_type {
        sql.push_str(" AND event_type = ?");
        values.push(event_type);
    }
    let severity = query.severity.map(|severity| severity.as_str());
    if let Some(severity) = &severity {
        // The second term lets the planner take the partial index, which leaves the many INFO rows out.
        sql.push_str(if *severity == "INFO" {
            " AND severity = ?"
        } else {
            " AND severity = ? AND severity <> 'INFO'"
        });
        values.push(severity);
    }
    if let Some(since) = &since {
        sql.push_str(" AND created_at >= ?");
        values.push(since);
    }
    sql.push_str(" ORDER BY created_at DESC, id DESC LIMIT ?");
    values.push(&limit);

    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(values.as_slice(), stored_event)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn stored_event(row: &Row<'_>) -> Result<StoredEvent, rusqlite::Error> {
    let details: Option<String> = row.get(5)?;
    Ok(StoredEvent {
        timestamp: row.get(0)?,
        event_type: row.get(1)?,
        severity: row.get(2)?,
        user_id: row.get(3)?,
        ip_address: row.get(4)?,
        details: details.map(|text| json_object(&text)).unwrap_or_default(),
    })
}

/// What other programs wrote into the column may be anything; one odd row must not hide the others.
fn json_object(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        Ok(other) => Map::from_iter([("value".to_owned(), other)]),
        Err(_) => Map::from_iter([("text".to_owned(), Value::String(text.to_owned()))]),
    }
}

pub fn counts(
    connection: &Connection,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<EventCounts, StorageError> {
    // The minute in which the window begins is counted event by event, the whole minutes after it from the
    // counts: exact, and a day costs the same at any traffic. One read transaction, so that both parts see
    // the same events.
    let snapshot = connection.unchecked_transaction()?;
    let first_minute = since.as_millisecond().div_euclid(MINUTE_MS);
    let edge_end = first_minute
        .checked_add(1)
        .and_then(|minute| minute.checked_mul(MINUTE_MS))
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or(Timestamp::MAX);
    let mut counts = EventCounts::default();
    let mut add = |event_type: String, severity: String, events: u64| {
        counts.total = counts.total.saturating_add(events);
        match severity.as_str() {
            "WARNING" => counts.warning = counts.warning.saturating_add(events),
            "ERROR" => counts.error = counts.error.saturating_add(events),
            _ => {}
        }
        match event_type.as_str() {
            EventType::RATE_LIMIT_EXCEEDED => {
                counts.rate_limit_exceeded = counts.rate_limit_exceeded.saturating_add(events);
            }
            EventType::UNAUTHORIZED_ACCESS => {
                counts.unauthorized_access = counts.unauthorized_access.saturating_add(events);
            }
            _ => {}
        }
    };
    {
        let mut edge = snapshot.prepare_cached(
            "SELECT event_type, severity, count(*) FROM security_events \
             WHERE tenant_id = ?1 AND created_at >= ?2 AND created_at < ?3 GROUP BY event_type, severity",
        )?;
        let mut rows = edge.query(params![tenant.as_str(), rfc3339(since), rfc3339(edge_end)])?;
        while let Some(row) = rows.next()? {
            add(row.get(0)?, row.get(1)?, row.get(2)?);
        }
        let mut whole = snapshot.prepare_cached(
            "SELECT event_type, severity, sum(events) FROM security_event_counts \
             WHERE tenant_id = ?1 AND minute > ?2 GROUP BY event_type, severity",
        )?;
        let mut rows = whole.query(params![tenant.as_str(), first_minute])?;
        while let Some(row) = rows.next()? {
            add(row.get(0)?, row.get(1)?, row.get(2)?);
        }
    }
    counts.last_event = snapshot
        .prepare_cached("SELECT max(created_at) FROM security_events WHERE tenant_id = ?1")?
        .query_row([tenant.as_str()], |row| row.get(0))?;
    Ok(counts)
}

pub fn tenant_exists(connection: &Connection, tenant: &TenantId) -> Result<bool, StorageError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM tenants WHERE tenant_id = ?1")?;
    Ok(statement.query_row([tenant.as_str()], |_| Ok(())).optional()?.is_some())
}

pub fn tenants(
    connection: &Connection,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<Vec<TenantId>, StorageError> {
    let mut statement = connection
        .prepare_cached("SELECT tenant_id FROM tenants WHERE tenant_id > ?1 ORDER BY tenant_id LIMIT ?2")?;
    let names = statement
        .query_map(params![after.map_or("", TenantId::as_str), limit], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| TenantId::new(name).ok()).collect())
}

pub fn probe(connection: &Connection) -> Result<(), StorageError> {
    connection.prepare_cached("SELECT written_at FROM store_probe")?.query_row([], |_| Ok(()))?;
    Ok(())
}
