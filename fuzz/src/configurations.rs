//! Configuration documents: each is compiled, or refused with problems that name path and remedy; one that compiles can
//! be used.

use portcullis_chain::{Chain, Ports, Stream};
use portcullis_policy::{Effects, Event, Headers, LocalSlots, Moment, NoFacts};

/// The document.
pub fn hold(data: &[u8]) {
    match Chain::from_json(data) {
        Err(errors) => {
            assert!(errors.has_errors());
            for error in errors.iter() {
                assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{error}");
            }
            assert!(!errors.to_string().is_empty());
        }
        Ok((chain, warnings)) => {
            assert!(!warnings.has_errors());
            let (mut stream, mut facts, mut slots) = (Stream::default(), NoFacts, LocalSlots::new(7));
            let mut effects = Effects::new();
            let mut ports = Ports { facts: &mut facts, shared: &mut slots };
            let headers = Headers::new(vec![
                (b":method", b"POST"),
                (b":path", b"/api/login?a=b"),
                (b":authority", b"a.b.test:80"),
                (b"x-tenant-id", b"acme"),
            ]);
            let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
            chain.on(&mut stream, &mut ports, Moment::default(), &event, &mut effects);
            let headers = Headers::new(vec![(b":status", b"200"), (b"set-cookie", b"a=b")]);
            chain.on(
                &mut stream,
                &mut ports,
                Moment::default(),
                &Event::ResponseHeaders { headers: &headers },
                &mut effects,
            );
        }
    }
}
