//! Cursors: where a page of events ended, in a form that only this companion makes.
//!
//! 16 bytes of position and 16 of HMAC-SHA256 under a key of their own, over the position, the tenant and the filter: a
//! cursor that was altered, or is used with another tenant or filter, is refused. It names no secret: whoever has it has
//! seen the event it points at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use crate::clock::Timestamp;
use crate::storage::{EventQuery, Position};
use crate::token::TokenKey;

const PURPOSE: &[u8] = b"portcullis event cursor, version 1";
const POSITION_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// What a cursor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The next page of a list.
    Page,
    /// Where a stream goes on.
    Stream,
}

/// Makes a cursor.
#[must_use]
pub fn issue(key: &TokenKey, kind: Kind, query: &EventQuery, position: Position) -> Option<String> {
    let mut bytes = Vec::with_capacity(POSITION_BYTES + TAG_BYTES);
    bytes.extend_from_slice(&position.at.as_millisecond().to_be_bytes());
    bytes.extend_from_slice(&position.id.to_be_bytes());
    let tag = key.mac_for(PURPOSE, &message(kind, query, &bytes))?.finalize().into_bytes();
    bytes.extend_from_slice(tag.get(..TAG_BYTES)?);
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Opens one; `None` for any that was not made for this.
#[must_use]
pub fn open(key: &TokenKey, kind: Kind, query: &EventQuery, text: &str) -> Option<Position> {
    if text.len() > 64 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (position, tag) = bytes.split_at_checked(POSITION_BYTES)?;
    if tag.len() != TAG_BYTES {
        return None;
    }
    key.mac_for(PURPOSE, &message(kind, query, position))?.verify_truncated_left(tag).ok()?;
    let (at, id) = position.split_at_checked(8)?;
    let number = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).ok();
    Some(Position { at: Timestamp::from_millisecond(number(at)?).ok()?, id: number(id)? })
}

/// What the tag is over: each part with its length, so that no two queries look the same.
fn message(kind: Kind, query: &EventQuery, position: &[u8]) -> Vec<u8> {
    let instant = |at: Option<Timestamp>| at.map(|at| at.as_millisecond().to_string()).unwrap_or_default();
    let mut message = vec![match kind {
        Kind::Page => b'p',
        Kind::Stream => b's',
    }];
    for part in [
        query.tenant.as_str(),
        query.event_type.as_ref().map_or("", |event_type| event_type.as_str()),
        query.severity.map_or("", |severity| severity.as_str()),
        &instant(query.since),
        &instant(query.until),
    ] {
        message.extend_from_slice(&part.len().to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message.extend_from_slice(position);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventType, Severity};
    use crate::secret::Secret;
    use crate::storage::Start;
    use crate::tenant::TenantId;

    fn query(tenant: &str) -> EventQuery {
        EventQuery {
            tenant: TenantId::new(tenant).unwrap(),
            limit: 1,
            event_type: None,
            severity: None,
            since: None,
            until: None,
            start: Start::Newest,
        }
    }

    #[test]
    fn it_opens_where_it_was_made_and_nowhere_else() {
        let key = TokenKey::new(Secret::new("k", "k".repeat(32), 32).unwrap());
        let position = Position { at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(), id: 42 };
        let text = issue(&key, Kind::Page, &query("acme"), position).unwrap();
        assert_eq!(open(&key, Kind::Page, &query("acme"), &text), Some(position));
        assert_eq!(open(&key, Kind::Stream, &query("acme"), &text), None);
        assert_eq!(open(&key, Kind::Page, &query("acm"), &text), None);
        let narrower = [
            EventQuery { severity: Some(Severity::Error), ..query("acme") },
            EventQuery { event_type: EventType::new("X"), ..query("acme") },
            EventQuery { since: Some(position.at), ..query("acme") },
            EventQuery { until: Some(position.at), ..query("acme") },
        ];
        assert!(narrower.iter().all(|query| open(&key, Kind::Page, query, &text).is_none()));
        let other = TokenKey::new(Secret::new("k", "x".repeat(32), 32).unwrap());
        assert_eq!(open(&other, Kind::Page, &query("acme"), &text), None);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                open(&key, Kind::Page, &query("acme"), std::str::from_utf8(&bytes).unwrap()),
                None,
                "{at}"
            );
        }
        for junk in ["", "A", "%", &"A".repeat(43), &"A".repeat(1000)] {
            assert_eq!(open(&key, Kind::Page, &query("acme"), junk), None);
        }
    }
}
