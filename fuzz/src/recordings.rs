//! Recorded requests of every kind: read or refused, and what is read is judged and can be written.

use std::cell::RefCell;

use portcullis_replay::{Guard, Known, Request, curl, har, http, line};

use crate::Choices;

thread_local! {
    static GUARD: RefCell<Guard> = RefCell::new(match Guard::new(b"{}", Known::default()) {
        Ok((guard, _)) => guard,
        Err(errors) => panic!("{errors}"),
    });
}

/// The first byte chooses the kind.
pub fn hold(data: &[u8]) {
    let mut choices = Choices(data);
    let kind = choices.next();
    let text = choices.0;
    let requests: Vec<Request> = match kind % 4 {
        0 => http::read(text).into_iter().collect(),
        1 => curl::command(text, &|_| Ok(b"file".to_vec())).into_iter().collect(),
        2 => {
            let Ok(document) = serde_json::from_slice(text) else { return };
            har::read(&document).into_iter().flatten().flatten().collect()
        }
        _ => {
            line::read(text).into_iter().flat_map(|entry| entry.cases).flat_map(|case| case.request).collect()
        }
    };
    GUARD.with_borrow_mut(|guard| {
        for request in requests {
            let wire = request.to_wire();
            if request.is_plainly_framed() {
                let again = http::read(&wire).unwrap_or_else(|error| panic!("{error}: {request:?}"));
                assert_eq!(
                    (&again.method, &again.target, &again.body),
                    (&request.method, &request.target, &request.body)
                );
            }
            let verdict = guard.judge(&request);
            assert_eq!(verdict.refusal.is_some(), guard.judge(&request).refusal.is_some());
        }
    });
}
