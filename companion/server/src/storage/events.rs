//! What is asked about events, in statements that both stores understand and answer from an index.

use serde_json::{Map, Value};

use super::{
    EventCounts, EventQuery, MAX_PAGE, Position, Row, SqlValue, Start, Statement, StorageError, StoredEvent,
};
use crate::clock::Timestamp;
use crate::event::{EventType, Severity};
use crate::tenant::TenantId;

const MINUTE_MS: i64 = 60_000;

/// A statement that grows by fixed pieces, each with its values.
struct Composed {
    sql: String,
    values: Vec<SqlValue>,
}

impl Composed {
    /// Adds `piece`, in which each `?` takes the next value.
    fn add(&mut self, piece: &'static str, values: impl IntoIterator<Item = SqlValue>) {
        let mut values = values.into_iter();
        for char in piece.chars() {
            self.sql.push(char);
            if char == '?' {
                self.values.extend(values.next());
                self.sql.push_str(&self.values.len().to_string());
            }
        }
    }
}

/// The page that `query` asks for.
pub fn page(query: &EventQuery) -> Statement {
    let mut statement = Composed {
        sql: String::from(
            "SELECT created_at, id, event_type, severity, user_id, ip_address, details FROM security_events",
        ),
        values: Vec::with_capacity(8),
    };
    match query.start {
        // By number alone: a walk along the tenant's own index would begin with the first event that it ever had.
        Start::StoredAfter(id) => {
            statement.add(" WHERE id > ? AND tenant_id || '' = ?", [id.into(), query.tenant.as_str().into()]);
        }
        Start::Newest | Start::OlderThan(_) => {
            statement.add(" WHERE tenant_id = ?", [query.tenant.as_str().into()]);
        }
    }
    if let Some(event_type) = &query.event_type {
        // The second terms let the planner take the partial indexes, which leave out what most rows are.
        let piece = match event_type.as_str() {
            EventType::REQUEST => " AND event_type = ?",
            _ => " AND event_type = ? AND event_type <> 'REQUEST'",
        };
        statement.add(piece, [event_type.as_str().into()]);
    }
    if let Some(severity) = query.severity {
        let piece = match severity {
            Severity::Info => " AND severity = ?",
            Severity::Warning | Severity::Error => " AND severity = ? AND severity <> 'INFO'",
        };
        statement.add(piece, [severity.as_str().into()]);
    }
    if let Some(since) = query.since {
        statement.add(" AND created_at >= ?", [since.into()]);
    }
    if let Some(until) = query.until {
        statement.add(" AND created_at < ?", [until.into()]);
    }
    match query.start {
        Start::Newest | Start::StoredAfter(_) => {}
        Start::OlderThan(position) => {
            statement.add(" AND (created_at, id) < (?, ?)", [position.at.into(), position.id.into()]);
        }
    }
    let order = match query.start {
        Start::StoredAfter(_) => " ORDER BY id LIMIT ?",
        Start::Newest | Start::OlderThan(_) => " ORDER BY created_at DESC, id DESC LIMIT ?",
    };
    statement.add(order, [query.limit.min(MAX_PAGE).into()]);
    Statement::composed(statement.sql, statement.values)
}

/// An event of a page.
pub fn stored(row: &Row) -> Result<StoredEvent, StorageError> {
    Ok(StoredEvent {
        position: Position { at: row.time(0)?, id: row.int(1)? },
        event_type: row.text(2)?,
        severity: row.text(3)?,
        user_id: row.text_or_null(4)?,
        ip_address: row.text_or_null(5)?,
        details: details(row, 6)?,
    })
}

/// What other programs wrote into the column may be anything; one odd row must not hide the others.
fn details(row: &Row, column: usize) -> Result<Map<String, Value>, StorageError> {
    let value = match row.json(column) {
        Ok(value) => value,
        Err(_) => row.text_or_null(column)?.map(Value::String).unwrap_or_default(),
    };
    Ok(match value {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => Map::from_iter([("value".to_owned(), other)]),
    })
}

/// Counts by type and severity. The minute in which the window begins is counted event by event, the whole minutes after it
/// from the counts: exact, and a day costs the same at any traffic. One statement, so that both parts see the same events.
pub fn counts(tenant: &TenantId, since: Timestamp) -> Statement {
    let first_minute = since.as_millisecond().div_euclid(MINUTE_MS);
    let edge_end = first_minute
        .checked_add(1)
        .and_then(|minute| minute.checked_mul(MINUTE_MS))
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or(Timestamp::MAX);
    Statement::new(
        "SELECT event_type, severity, count(*) FROM security_events \
         WHERE tenant_id = ?1 AND created_at >= ?2 AND created_at < ?3 GROUP BY event_type, severity \
         UNION ALL SELECT event_type, severity, CAST(sum(events) AS BIGINT) FROM security_event_counts \
         WHERE tenant_id = ?1 AND minute > ?4 GROUP BY event_type, severity",
    )
    .bind(tenant.as_str())
    .bind(since)
    .bind(edge_end)
    .bind(first_minute)
}

/// When the newest event happened.
pub fn newest(tenant: &TenantId) -> Statement {
    Statement::new("SELECT max(created_at) FROM security_events WHERE tenant_id = ?1").bind(tenant.as_str())
}

/// The sums of what [`counts`] and [`newest`] read.
pub fn summed(rows: &[Row], last: &[Row]) -> Result<EventCounts, StorageError> {
    let mut counts = EventCounts::default();
    for row in rows {
        let events = u64::try_from(row.int(2)?).unwrap_or(0);
        let add = |count: &mut u64| *count = count.saturating_add(events);
        add(&mut counts.total);
        match row.text(1)?.as_str() {
            "WARNING" => add(&mut counts.warning),
            "ERROR" => add(&mut counts.error),
            _ => {}
        }
        match row.text(0)?.as_str() {
            EventType::RATE_LIMIT_EXCEEDED => add(&mut counts.rate_limit_exceeded),
            EventType::UNAUTHORIZED_ACCESS => add(&mut counts.unauthorized_access),
            _ => {}
        }
    }
    counts.last_event = last.first().map(|row| row.time_or_null(0)).transpose()?.flatten();
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::migrations::SQLITE;

    /// How SQLite would go about a page.
    fn plan(query: &EventQuery) -> String {
        let store = rusqlite::Connection::open_in_memory().unwrap();
        for migration in SQLITE {
            store.execute_batch(migration.sql).unwrap();
        }
        let page = page(query);
        let mut explain = store.prepare(&format!("EXPLAIN QUERY PLAN {}", page.sql)).unwrap();
        let rows = explain.query_map(rusqlite::params_from_iter(&page.values), |row| row.get::<_, String>(3));
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    }

    #[test]
    fn a_stream_looks_at_what_is_new_alone_and_a_list_at_its_tenants_own() {
        let tenant = TenantId::new("acme").unwrap();
        let all = EventQuery {
            tenant,
            limit: 10,
            event_type: None,
            severity: None,
            since: None,
            until: None,
            start: Start::Newest,
        };
        let attacks = EventQuery { event_type: EventType::new("ATTACK_BLOCKED"), ..all.clone() };
        let recent = EventQuery { since: Some(Timestamp::UNIX_EPOCH), ..all.clone() };
        for query in [&all, &attacks, &recent] {
            let list = plan(query);
            assert!(list.contains("(tenant_id=?") && !list.contains("TEMP B-TREE"), "{list}");
            let stream = plan(&EventQuery { start: Start::StoredAfter(7), ..query.clone() });
            assert_eq!(stream, "SEARCH security_events USING INTEGER PRIMARY KEY (rowid>?)");
        }
    }
}
