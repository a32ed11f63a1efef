//! Query parameters: each known by name, given once, within bounds; anything else is a 400 that names it.

use axum::extract::Query;
use axum::http::Uri;

use crate::clock::Timestamp;
use crate::event::{EventType, Severity};
use crate::http::problem::Problem;
use crate::storage::{EventQuery, MAX_PAGE, Start};
use crate::tenant::TenantId;

const DEFAULT_LIMIT: u32 = 100;
const KNOWN: [&str; 6] = ["limit", "event_type", "severity", "since", "until", "cursor"];

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::malformed("the query string could not be read"))?;
    Ok(pairs)
}

fn unknown(known: &[&str]) -> Problem {
    Problem::malformed(format!("unknown query parameter; known are {}", known.join(", ")))
}

/// The value of the only parameter that is known, if it is given.
pub fn only(uri: &Uri, known: &str) -> Result<Option<String>, Problem> {
    let mut pairs = pairs(uri)?;
    if pairs.iter().any(|(name, _)| name != known) {
        return Err(unknown(&[known]));
    }
    if pairs.len() > 1 {
        return Err(Problem::malformed(format!("{known}: given twice, give it once")));
    }
    Ok(pairs.pop().map(|(_, value)| value))
}

/// How many are asked for, 1 to [`MAX_PAGE`], where that is the only parameter.
pub fn limit(uri: &Uri, default: u32) -> Result<u32, Problem> {
    only(uri, "limit")?.map_or(Ok(default), |text| page(&text))
}

fn page(text: &str) -> Result<u32, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| digits && (1..=MAX_PAGE).contains(limit));
    limit.ok_or_else(|| Problem::malformed("limit: must be a whole number from 1 to 1000"))
}

/// Reads the filter of an events query, and its cursor, which is not opened here.
pub fn event_query(tenant: TenantId, uri: &Uri) -> Result<(EventQuery, Option<String>), Problem> {
    let pairs = pairs(uri)?;
    let mut query = EventQuery {
        tenant,
        limit: DEFAULT_LIMIT,
        event_type: None,
        severity: None,
        since: None,
        until: None,
        start: Start::Newest,
    };
    let mut cursor = None;
    let mut seen: Vec<&str> = Vec::with_capacity(KNOWN.len());
    for (name, value) in &pairs {
        let Some(known) = KNOWN.into_iter().find(|known| known == name) else {
            return Err(unknown(&KNOWN));
        };
        if seen.contains(&known) {
            return Err(Problem::malformed(format!("{known}: given twice, give it once")));
        }
        seen.push(known);
        match known {
            "limit" => query.limit = page(value)?,
            "event_type" => {
                let event_type = EventType::new(value)
                    .ok_or_else(|| Problem::malformed("event_type: must be 1 to 100 of A-Z, 0-9 and _"))?;
                query.event_type = Some(event_type);
            }
            "severity" => {
                let severity = Severity::from_name(value)
                    .ok_or_else(|| Problem::malformed("severity: must be INFO, WARNING or ERROR"))?;
                query.severity = Some(severity);
            }
            "since" => query.since = Some(instant(known, value)?),
            "until" => query.until = Some(instant(known, value)?),
            _ => cursor = Some(value.clone()),
        }
    }
    Ok((query, cursor))
}

fn instant(name: &str, text: &str) -> Result<Timestamp, Problem> {
    text.parse::<Timestamp>().ok().filter(|at| *at >= Timestamp::UNIX_EPOCH).ok_or_else(|| {
        Problem::malformed(format!(
            "{name}: must be an RFC 3339 time since 1970, as 2026-01-31T12:00:00Z (write a + as %2B)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<EventQuery, Problem> {
        event_query(TenantId::public(), &format!("/x?{query}").parse().unwrap()).map(|(query, _)| query)
    }

    #[test]
    fn defaults_and_bounds() {
        assert_eq!(read("").unwrap().limit, 100);
        assert_eq!(read("limit=1000").unwrap().limit, 1000);
        let query = read("event_type=REQUEST&severity=INFO&since=2026-01-31T13:00:00%2B01:00").unwrap();
        assert_eq!(crate::clock::rfc3339(query.since.unwrap()), "2026-01-31T12:00:00.000Z");
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (query, named) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=-1", "limit"),
            ("limit=", "limit"),
            ("limit=1;DROP", "limit"),
            ("limit=1&limit=2", "twice"),
            ("event_type='%20OR%201=1--", "event_type"),
            ("event_type=%00", "event_type"),
            ("event_type=%ff%fe", "event_type"),
            ("severity=warning", "severity"),
            ("severity=INFO'--", "severity"),
            ("since=yesterday", "since"),
            ("since=1960-01-01T00:00:00Z", "since"),
            ("until=2026-13-01T00:00:00Z", "until"),
            ("sort=id;--", "unknown"),
        ] {
            let problem = read(query).unwrap_err();
            assert!(problem.detail.contains(named), "{query}: {}", problem.detail);
        }
    }
}
