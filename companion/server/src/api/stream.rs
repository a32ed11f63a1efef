//! `/api/security/events/{tenant_id}/stream`: events as they are stored, as server-sent events (HTML Standard, section 9.2).
//!
//! Each event has an `id`; a client that comes back with it in `Last-Event-ID` gets what it missed. Without one a stream
//! begins now. The order is that of storing. The token stands in the Authorization header: a browser's EventSource sends none,
//! so that a page uses fetch, and no token ends in a log. Limits: [`STREAMS`] streams at once, beyond them 503; an event is
//! told within [`PAUSE`] of its being stored; a stream ends with its token, and with its tenant.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::stream::unfold;
use hyper::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::events::EventBody;
use super::paths::OpenedHistory;
use super::{Api, auth, cursor, parameters};
use crate::clock::monotonic;
use crate::http::problem::Problem;
use crate::storage::{EventQuery, Start, Statement, Storage, StorageError, StoredEvent};
use crate::token::Grant;

/// Streams at once.
pub const STREAMS: usize = 64;
/// How often the store is asked.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a line is sent when nothing happens, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events of one question to the store.
const PAGE: u32 = 200;

struct Following {
    api: Api,
    query: EventQuery,
    /// The number up to which all events were looked at: of other tenants too, so that a quiet tenant's stream does not look through
    /// what others have stored since its own last event.
    last: i64,
    /// How far the trails were projected when it was looked last.
    filled: Option<i64>,
    grant: Grant,
    /// Its place among [`STREAMS`].
    _place: OwnedSemaphorePermit,
}

/// Follows a tenant's events.
pub async fn follow(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    OpenedHistory(tenant, from): OpenedHistory,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (mut query, cursor) = parameters::event_query(tenant, &uri)?;
    query.since = query.since.max(from);
    if cursor.is_some() {
        return Err(Problem::malformed("cursor: is for lists; a stream goes on from Last-Event-ID"));
    }
    query.limit = PAGE;
    let last = match headers.get("last-event-id").map(HeaderValue::to_str) {
        None => newest(&api).await?,
        Some(text) => {
            let text = text.unwrap_or_default();
            let position = cursor::open(&api.tokens, cursor::Kind::Stream, &query, text);
            position.ok_or_else(|| Problem::malformed("Last-Event-ID: is not one of this stream's"))?.id
        }
    };
    let place = Arc::clone(&api.streams).try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "64 streams are open; close one, or read pages")
    })?;
    let following = Following { api, query, last, filled: None, grant, _place: place };
    let stream = unfold(Some(following), |following| async move {
        let mut following = following?;
        let text = following.next().await;
        // The last piece says why; then the stream ends.
        let (text, rest) = match text {
            Ok(text) => (text, Some(following)),
            Err(why) => (format!("event: end\ndata: {why}\n\n"), None),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), rest))
    });
    // The first line goes out at once, so that a client knows that it is connected.
    let first = futures_util::stream::once(async { Ok(Bytes::from_static(b": connected\n\n")) });
    let mut response = Response::new(Body::from_stream(futures_util::StreamExt::chain(first, stream)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The number of the newest event of all.
async fn newest(api: &Api) -> Result<i64, Problem> {
    api.query(number(&*api.storage, "SELECT max(id) FROM security_events")).await
}

async fn number(storage: &dyn Storage, sql: &'static str) -> Result<i64, StorageError> {
    let rows = storage.read(Statement::new(sql)).await?;
    Ok(rows.first().map(|row| row.int_or_null(0)).transpose()?.flatten().unwrap_or(0))
}

impl Following {
    /// The next events, or a line that says that there are none; an error ends the stream.
    async fn next(&mut self) -> Result<String, &'static str> {
        let quiet_since = monotonic();
        loop {
            if self.api.clock.now() >= self.grant.expires {
                return Err("the token has expired");
            }
            let events = self.look().await.map_err(|_| "the store does not answer")?;
            if !events.is_empty() {
                // Another tenant may have the name by now.
                let opened = auth::open_tenant(&self.api, &self.grant, self.query.tenant.as_str()).await;
                return opened.map(|_| self.render(events)).map_err(|_| "the tenant was removed");
            }
            if quiet_since.elapsed() >= KEEP_ALIVE {
                return Ok(": nothing new\n\n".to_owned());
            }
            let mut ended = self.api.ended.clone();
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = ended.wait_for(|ended| *ended) => return Err("the companion ends"),
            }
        }
    }

    /// What was stored since the last look.
    async fn look(&mut self) -> Result<Vec<StoredEvent>, StorageError> {
        let storage = &*self.api.storage;
        // Of every trail that this store is filled from: nothing is in the tables that none of them brought there.
        let filled = number(storage, "SELECT CAST(sum(next) AS BIGINT) FROM trail_positions").await?;
        if self.filled == Some(filled) {
            return Ok(Vec::new());
        }
        // Before the events are looked for: numbers become visible in order, so what is found missing up to here is not there.
        let newest = number(storage, "SELECT max(id) FROM security_events").await?;
        let query = EventQuery { start: Start::StoredAfter(self.last), ..self.query.clone() };
        let events = storage.events(query).await?;
        match events.last() {
            Some(last) => self.last = last.position.id,
            None => (self.last, self.filled) = (self.last.max(newest), Some(filled)),
        }
        Ok(events)
    }

    fn render(&self, events: Vec<StoredEvent>) -> String {
        let mut text = String::new();
        for event in events {
            let id = cursor::issue(&self.api.tokens, cursor::Kind::Stream, &self.query, event.position);
            let data = serde_json::to_string(&EventBody::from(event)).unwrap_or_default();
            // JSON has no line breaks of its own; writing into a String cannot fail.
            let _ = write!(text, "event: security\nid: {}\ndata: {data}\n\n", id.unwrap_or_default());
        }
        text
    }
}
