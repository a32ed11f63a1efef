//! One event as one line of JSON.

use std::fmt::{Debug, Write as _};

use serde_json::{Map, Value};
use tracing::Event;
use tracing::field::{Field, Visit};

use crate::clock::Timestamp;

/// The longest text of a field, in characters; it then ends with `…`.
const MAX_FIELD_CHARS: usize = 1024;

/// What an event is about when it does not say.
const CATEGORY: &str = "application";

/// The line of an event, with its end.
pub fn of(event: &Event<'_>, at: Timestamp, correlation_id: Option<&str>) -> String {
    let mut fields = Fields(Map::new());
    let put = |fields: &mut Fields, name: &str, value: &str| {
        fields.0.insert(name.to_owned(), bounded(value).into());
    };
    let metadata = event.metadata();
    put(&mut fields, "timestamp", &at.to_string());
    put(&mut fields, "level", metadata.level().as_str());
    put(&mut fields, "category", CATEGORY);
    if let Some(id) = correlation_id {
        put(&mut fields, "correlation_id", id);
    }
    put(&mut fields, "target", metadata.target());
    // An event's own words come last: a category or an ID that it names is better known there.
    event.record(&mut fields);
    text(&fields.0)
}

/// That the log's file took nothing.
pub fn of_failure(error: &str, at: Timestamp) -> String {
    let fields = [
        ("timestamp", at.to_string()),
        ("level", "ERROR".to_owned()),
        ("category", CATEGORY.to_owned()),
        ("message", "the log's file cannot be written; lines go to standard error alone".to_owned()),
        ("error", bounded(error)),
    ];
    text(&fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}

/// JSON leaves DEL, the C1 controls, line separators and marks of direction as they are; a terminal or an editor does not.
fn text(fields: &Map<String, Value>) -> String {
    let mut text = shown(&serde_json::to_string(fields).unwrap_or_default());
    text.push('\n');
    text
}

/// JSON as a terminal may be shown it.
pub(crate) fn shown(json: &str) -> String {
    let mut out = String::with_capacity(json.len().saturating_add(1));
    for char in json.chars() {
        if needs_escape(char) {
            // They stand within strings alone, and all of them are below U+FFFF.
            let _ = write!(out, "\\u{:04x}", u32::from(char));
        } else {
            out.push(char);
        }
    }
    out
}

fn needs_escape(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_FIELD_CHARS) {
        Some((end, _)) => [text.get(..end).unwrap_or_default(), "…"].concat(),
        None => text.to_owned(),
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, bounded(&format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, bounded(value).into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(of(event, Timestamp::UNIX_EPOCH, Some("id-1")));
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(kept.clone()), log);
        let lines = kept.0.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn a_line_is_json_with_level_category_and_correlation_id() {
        let lines = lines(|| {
            tracing::warn!(category = "security", status = 401_u16, token_id = "t", ok = false, "answered");
            tracing::info!("ready");
        });
        let first: Value = serde_json::from_str(&lines[0]).unwrap();
        let expected = serde_json::json!({
            "timestamp": "1970-01-01T00:00:00Z", "level": "WARN", "category": "security", "correlation_id": "id-1",
            "target": "portcullis_server::logging::line::tests", "message": "answered", "status": 401, "token_id": "t", "ok": false,
        });
        assert_eq!(first, expected);
        let second: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!((&second["category"], &second["level"]), (&"application".into(), &"INFO".into()));
    }

    #[test]
    fn nothing_of_a_text_reaches_a_terminal_raw() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{7f}\r\n{\"level\":\"INFO\"}\u{202e}\u{2028}\u{0}é€";
        let lines = lines(|| tracing::error!(path = hostile, debug = ?hostile, "{hostile}"));
        let line = lines[0].strip_suffix('\n').unwrap();
        assert!(!line.chars().any(needs_escape), "{line:?}");
        let read: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&read["path"], &read["message"]),
            (&hostile.into(), &hostile.into()),
            "nothing is lost either"
        );
    }

    #[test]
    fn a_field_is_bounded() {
        let long = "é".repeat(100_000);
        let lines = lines(|| tracing::error!(path = long.as_str(), debug = ?long, "{long}"));
        assert!(lines[0].len() < 3 * 2 * MAX_FIELD_CHARS + 400, "{}", lines[0].len());
        let read: Value = serde_json::from_str(&lines[0]).unwrap();
        assert!(read["path"].as_str().unwrap().ends_with("é…"));
        let fits = "x".repeat(MAX_FIELD_CHARS);
        assert_eq!(bounded(&fits), fits);
    }
}
