//! Records as the companion reads them, from whoever has the token.

use portcullis_server::{clock::Timestamp, ingest::record};

/// One line.
pub fn hold(data: &[u8]) {
    let received = Timestamp::from_second(1_700_000_000).expect("a time");
    let latest = received.checked_add(record::CLOCK_SKEW).expect("a time");
    match record::read(data, received) {
        Ok(event) => {
            assert!(event.at <= latest, "from the future: {}", event.at);
            let width =
                |text: &Option<String>, most| text.as_ref().is_none_or(|text| text.chars().count() <= most);
            assert!(width(&event.user_id, 50) && width(&event.user_agent, 500), "{event:?}");
            let controls = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains('\0'));
            assert!(!controls(&event.user_id) && !controls(&event.user_agent), "{event:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
