//! Takes out of the tables what they show of a tenant's people, after its keys were shredded: what the trail still holds of
//! them nobody can read, and the tables are made of it.
//!
//! Step by step along the time of the events, so that batches find their place in between. What of the details goes is what
//! `trail::record` seals: the tables look afterwards as if they had been filled anew from the trail.

use super::{Row, Statement, StorageError, Transaction};
use crate::clock::Timestamp;
use crate::tenant::TenantId;

/// Events of one step.
const STEP: u32 = 5_000;

const SQLITE: &str = "UPDATE security_events SET user_id = NULL, ip_address = NULL, user_agent = NULL, details = \
     CASE json_extract(details, '$.source') WHEN 'application' THEN json_patch('{}', json_object(\
     'uid', json_extract(details, '$.uid'), 'correlation_id', json_extract(details, '$.correlation_id'), \
     'source', 'application', 'token_id', json_extract(details, '$.token_id'))) \
     ELSE json_remove(details, '$.user_agent', '$.query', '$.excerpt', '$.referer') END \
     WHERE tenant_id = ?1 AND created_at >= ?2 AND created_at < ?3";
const POSTGRES: &str = "UPDATE security_events SET user_id = NULL, ip_address = NULL, user_agent = NULL, details = \
     CASE details->>'source' WHEN 'application' THEN jsonb_strip_nulls(jsonb_build_object(\
     'uid', details->'uid', 'correlation_id', details->'correlation_id', \
     'source', 'application', 'token_id', details->'token_id')) \
     ELSE details - ARRAY['user_agent', 'query', 'excerpt', 'referer'] END \
     WHERE tenant_id = ?1 AND created_at >= ?2 AND created_at < ?3";

/// Asks where the step that begins at `from` ends: at the instant of the row, or without one at the end of all.
#[must_use]
pub fn end_of_step(tenant: &TenantId, from: Timestamp) -> Statement {
    Statement::new(
        "SELECT created_at FROM security_events WHERE tenant_id = ?1 AND created_at > ?2 ORDER BY created_at LIMIT 1 OFFSET ?3",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(STEP)
}

/// A step: events from `from` to before `to`. Nobody projects meanwhile, so no event slips in that was opened before.
#[must_use]
pub fn step(tenant: &TenantId, from: Timestamp, to: Timestamp) -> Transaction {
    let of = |statement: Statement| statement.bind(tenant.as_str()).bind(from).bind(to);
    Transaction::new().lock("append").then(of(Statement::of_each(SQLITE, POSTGRES))).then(of(Statement::new(
        "UPDATE rate_limiting_logs SET user_id = NULL, ip_address = NULL \
         WHERE tenant_id = ?1 AND created_at >= ?2 AND created_at < ?3",
    )))
}

/// Remembers that a tenant's people are to go; in the transaction of the shredding.
#[must_use]
pub fn ask(tenant: &str, now: Timestamp) -> Statement {
    Statement::new(
        "INSERT INTO erasures (tenant_id, asked_at) VALUES (?1, ?2) \
         ON CONFLICT (tenant_id) DO UPDATE SET asked_at = excluded.asked_at",
    )
    .bind(tenant)
    .bind(now)
}

/// They are gone.
#[must_use]
pub fn done(tenant: &TenantId, asked: Timestamp) -> Statement {
    Statement::new("DELETE FROM erasures WHERE tenant_id = ?1 AND asked_at = ?2")
        .bind(tenant.as_str())
        .bind(asked)
}

/// Which erasures are not done.
#[must_use]
pub fn pending() -> Statement {
    Statement::new("SELECT tenant_id, asked_at FROM erasures ORDER BY tenant_id LIMIT 1000")
}

/// Whether a tenant's is not.
#[must_use]
pub fn pending_of(tenant: &TenantId) -> Statement {
    Statement::new("SELECT tenant_id, asked_at FROM erasures WHERE tenant_id = ?1").bind(tenant.as_str())
}

/// One of them.
///
/// # Errors
/// The row is none of these.
pub fn asked(row: &Row) -> Result<(Option<TenantId>, Timestamp), StorageError> {
    Ok((TenantId::new(&row.text(0)?).ok(), row.time(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::record::{OURS, PERSONAL};

    #[test]
    fn both_stores_take_out_what_the_trail_seals() {
        for (sql, quote) in [(SQLITE, "'$."), (POSTGRES, "'")] {
            let (kept, removed) = sql.split_once("ELSE").unwrap();
            assert!(PERSONAL.iter().all(|name| removed.contains(&format!("{quote}{name}'"))), "{removed}");
            assert_eq!(removed.matches(quote).count(), if quote == "'" { 8 } else { 4 });
            assert!(OURS.iter().all(|name| kept.contains(&format!("'{name}'"))), "{kept}");
        }
    }
}
